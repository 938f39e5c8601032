"""`tgmm push-space`: only the package goes up, and what comes down again is a page that asks for a password."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from cohort_files import small_config, small_processor
from command_line import run
from hub_server import Hub, running_hub
from huggingface_hub import HfApi

from tgmm_hf.hub.push_space import push_space, space_files, space_requirements
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import TgmmError

pytest.importorskip("gradio")
PASSWORD = "a long password"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


def test_a_space_is_private_and_holds_the_package_only(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # `make test` is offline, this Hub is local
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    push_space("owner/model", "owner/page", api=HfApi(endpoint=hub.url, token="hf_x"))
    space = hub.repositories["space", "owner/page"]
    files = space.at("main").files
    assert space.private
    assert {name for name in files if not name.startswith("tgmm_hf/")} == {
        *(".gitattributes", "README.md", "app.py", "requirements.txt")
    }
    assert "tgmm_hf/app/server.py" in files and "tgmm_hf/reports/templates/app_answer.html" in files
    card = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert card["sdk"] == "gradio" and card["models"] == ["owner/model"] and card["app_file"] == "app.py"


def test_a_dry_run_asks_no_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    before = list(hub.requests)
    assert run("push-space", "owner/model", "owner/other", "--dry-run") == 0
    assert "app.py" in capsys.readouterr().out and hub.requests == before


def test_requirements_have_bounds_and_no_test_tools() -> None:
    requirements, gradio = space_requirements()
    assert any(line.startswith("torch>=") for line in requirements) and gradio[0].isdigit()
    assert not any(line.startswith(("pytest", "gradio", "ruff")) for line in requirements)


@pytest.mark.parametrize("names", [("model", "owner/page"), ("owner/model", "page"), ('owner/x"\nimport os', "a/b")])
def test_wrong_names_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(TgmmError):
        push_space(*names, dry_run=True)


@pytest.mark.slow
def test_the_files_of_a_space_start_the_page_with_a_password_only(tmp_path: Path) -> None:
    config = small_config()
    processor = small_processor(config)
    config.tokenize_tasks(processor.tokenizer)
    space, model = tmp_path / "space", tmp_path / "space" / "owner" / "model"
    for name, content in space_files("owner/model").items():
        (space / name).parent.mkdir(parents=True, exist_ok=True)
        (space / name).write_bytes(content)
    save_repository(TgmmModel(config), processor, model)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1", "SPACE_ID": "owner/page"}
    environment["TMPDIR"] = str(tmp_path)
    command = [sys.executable, "app.py"]
    refused = subprocess.run(command, cwd=space, env=environment, capture_output=True, text=True)
    assert refused.returncode != 0 and "TGMM_APP_PASSWORD" in refused.stderr
    log = (tmp_path / "log").open("w")
    page = subprocess.Popen(command, cwd=space, env={**environment, "TGMM_APP_PASSWORD": PASSWORD}, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}/"
        for _ in range(600):
            try:
                answer = httpx.get(f"{url}config")
                break
            except httpx.TransportError:
                assert page.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.5)
        assert answer.status_code == 401
        with httpx.Client() as client:
            client.post(f"{url}login", data={"username": "tgmm", "password": PASSWORD}).raise_for_status()
            shown = client.get(url)
        assert shown.status_code == 200 and "https://huggingface.co" in shown.headers["content-security-policy"]
    finally:
        page.terminate()
        page.wait(30)
        log.close()
    assert not list(tmp_path.glob("tgmm-app-*"))
