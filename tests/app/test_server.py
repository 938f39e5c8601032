"""Who may reach the page, and what it says about its model."""

from pathlib import Path

import pytest
from command_line import run
from tiny_models import smallest_model, tiny_tokenizer

from tgmm_hf import default_processor
from tgmm_hf.app.server import PASSWORD_VARIABLE, check_host, model_card, read_password
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import TgmmError

pytest.importorskip("gradio")
PASSWORD = "a long password"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "clinic.example", ""])
def test_other_machines_need_a_password(host: str) -> None:
    with pytest.raises(TgmmError):
        check_host(host, None)
    check_host(host, PASSWORD)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_this_machine_needs_no_password(host: str) -> None:
    check_host(host, None)


def test_the_command_refuses_an_open_address_before_it_loads_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    (tmp_path / "no-model").mkdir()
    assert run("app", tmp_path / "no-model", "--host", "0.0.0.0") == 1
    assert "--password-file" in capsys.readouterr().err


def test_a_password_comes_from_a_private_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    assert read_password(None) is None
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    assert read_password(None) == PASSWORD
    file = tmp_path / "password"
    file.write_text("another password\nsecond line\n")
    file.chmod(0o644)
    with pytest.raises(TgmmError):
        read_password(file)
    file.chmod(0o600)
    assert read_password(file) == "another password"
    for short in ("", "short\n"):
        file.write_text(short)
        with pytest.raises(TgmmError):
            read_password(file)
    monkeypatch.setenv(PASSWORD_VARIABLE, "")
    with pytest.raises(TgmmError):
        read_password(None)


def test_the_card_is_shown_without_its_metadata(tmp_path: Path) -> None:
    model = smallest_model()
    save_repository(model, default_processor(model.config, tiny_tokenizer()), tmp_path / "model")
    assert "no model card" in model_card(str(tmp_path / "model"))
    (tmp_path / "model" / "README.md").write_text("---\nlicense: mit\n---\n# Title\n\ntext\n")
    assert model_card(str(tmp_path / "model")) == "# Title\n\ntext"
