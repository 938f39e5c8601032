"""The running page: its programming interface, and that patients stay apart."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from running_page import NAME, kept_files, page_of

gradio_client = pytest.importorskip("gradio_client")
pytest.importorskip("gradio")
from gradio_client import Client, handle_file  # noqa: E402

pytestmark = pytest.mark.slow  # starts servers: two minutes

DOCS = Path(__file__).resolve().parents[2] / "docs" / "app.md"
PASSWORD = "a long password"


def client_of(page: SimpleNamespace, **options: Any) -> Client:
    return Client(page.url, verbose=False, **options)


def upload(page: SimpleNamespace, path: Path, **options: Any) -> httpx.Response:
    with path.open("rb") as file:
        return httpx.post(f"{page.url}gradio_api/upload", files={"files": (path.name, file)}, **options)


def ask(page: SimpleNamespace, **arguments: Any) -> Any:
    """Ask `/answer` without the client, which would upload every path of this machine."""
    names = ("labs", "labs_file", "ecg", "echo", "views", "units", "tasks", "explain")
    call = f"{page.url}gradio_api/call/answer"
    event = httpx.post(call, json={"data": [arguments.get(name) for name in names]}).json()["event_id"]
    lines = httpx.get(f"{call}/{event}", timeout=120).text.splitlines()
    return json.loads(next(line for line in lines if line.startswith("data: [")).removeprefix("data: "))[0]


@pytest.fixture(scope="module")
def client(page: SimpleNamespace) -> Client:
    return client_of(page)


def test_the_example_of_the_page_of_docs_works(page: SimpleNamespace, inputs: SimpleNamespace, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    values = {
        '"http://127.0.0.1:7860/"': repr(page.url),
        '"p1/s1/1.hea"': repr(str(inputs.ecg[0])),
        '"p1/s1/1.dat"': repr(str(inputs.ecg[1])),
        '"study/a4c.dcm"': repr(str(inputs.clip)),
        '"a4c.dcm"': repr(inputs.clip.name),
        '"report.html"': repr(str(tmp_path / "report.html")),
    }
    for shown, real in values.items():
        assert shown in code
        code = code.replace(shown, real)
    exec(code, names := {})
    assert all(names["answer"]["prediction"]["used"].values())
    assert "<html" in (tmp_path / "report.html").read_text()
    assert not kept_files(page.files)


def test_a_file_of_the_labs_alone_is_answered(client: Client, inputs: SimpleNamespace, page: SimpleNamespace) -> None:
    answer = client.predict(labs_file=handle_file(inputs.labs), units="SI", api_name="/answer")
    assert answer["prediction"]["used"] == {"labs": ["age", "Creatinine"], "ecg": [], "echo": []}
    (refused,) = answer["prediction"]["refused"]  # 900 may be ng/L or pmol/L
    assert "NTproBNP" in refused["item"]
    assert not kept_files(page.files)


def test_about_names_model_and_revision(client: Client) -> None:
    about = client.predict(api_name="/about")
    assert {"model", "revision", "code", "weights", "processor"} <= set(about["facts"]) and about["card"]
    assert "hf_diagnosis" in about["questions"]


def test_wrong_arguments_are_refused_with_own_messages(client: Client) -> None:
    for arguments in ({"tasks": ["no such task"]}, {"units": "furlongs"}, {"ecg": [{"path": "/etc/passwd"}]}):
        try:
            answer = client.predict(**arguments, api_name="/answer")
        except Exception as error:
            assert "known" in str(error) or "they are" in str(error)
        else:
            assert answer["prediction"]["refused"][0]["item"] == "ecg" and not any(
                answer["prediction"]["used"].values()
            )


def test_two_users_do_not_reach_each_others_files(page: SimpleNamespace, inputs: SimpleNamespace) -> None:
    first, second = client_of(page), client_of(page)
    mine, same = (upload(page, inputs.labs).json()[0] for _ in range(2))
    assert mine != same and Path(mine).is_file() and Path(same).is_file()
    for address in (f"gradio_api/file={mine}", f"file={mine}", f"gradio_api/file/{mine}", f"gradio_api/file%3D{mine}"):
        assert httpx.get(page.url + address).status_code in (403, 404), address
    assert ask(page, labs_file={"path": mine})["prediction"]["used"]["labs"]
    assert not Path(mine).exists() and Path(same).is_file()
    assert not ask(page, labs_file={"path": mine})["prediction"]["used"]["labs"]
    mixed = {
        user: user.submit(labs={"age": age}, api_name="/answer") for user, age in ((first, 40 + 1), (second, 80 + 1))
    }
    texts = [job.result()["report"] for job in mixed.values()]
    assert "41" in texts[0] and "81" not in texts[0].partition("sha256")[0] and "81" in texts[1]
    Path(same).unlink()


@pytest.mark.parametrize(
    "address",
    [
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=https://example.com/",
        "gradio_api/proxy=https://example.com/",
        "gradio_api/monitoring",
        "monitoring",
        "monitoring/summary",
        "gradio_api/runs",
        "gradio_api/run-history/records",
        "gradio_api/profiling/traces",
        "gradio_api/deep_link",
        "docs",
        "redoc",
        "openapi.json",
    ],
)
def test_services_that_the_page_does_not_need_are_closed(page: SimpleNamespace, address: str) -> None:
    assert httpx.get(page.url + address).status_code in (403, 404)


def test_the_page_keeps_itself_to_itself(page: SimpleNamespace) -> None:
    answer = httpx.get(page.url)
    assert answer.headers["cache-control"] == "no-store" and answer.headers["referrer-policy"] == "no-referrer"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'self'" in policy and "http:" not in policy
    config = httpx.get(page.url + "config").json()
    assert config["analytics_enabled"] is False and not config.get("run_history")


def test_nothing_of_a_patient_is_printed(
    page: SimpleNamespace, inputs: SimpleNamespace, client: Client, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    capfd.readouterr()
    bad = tmp_path / f"{NAME}.dcm"
    bad.write_bytes(b"\0" * 128 + b"DICM" + NAME.encode() * 20)
    labs = tmp_path / f"{NAME}.json"
    labs.write_text(f'{{"age": "{NAME}", "{NAME}": 3}}')
    table = tmp_path / f"{NAME}.csv"
    table.write_text(f"id,{NAME}\n{NAME},{NAME}\n{NAME},{NAME}\n")
    client.predict(
        labs_file=handle_file(labs),
        ecg=[handle_file(bad)],
        echo=[handle_file(bad)],
        views={NAME: NAME},
        api_name="/answer",
    )
    for arguments in ({"labs": {"age": [NAME] * 5}}, {"labs": {NAME: {NAME: NAME}}}, {"views": [NAME], "ecg": NAME}):
        try:
            client.predict(**arguments, api_name="/answer")
        except Exception as error:
            assert "Traceback" not in str(error) and NAME not in str(error)
    with pytest.raises(Exception):  # noqa: B017
        client.predict(table=handle_file(table), api_name="/answer_table")
    # the form, with values that its components do not take: the function of the button is the first with many inputs
    config = httpx.get(page.url + "config").json()
    button = next(fn for fn in config["dependencies"] if len(fn["inputs"]) > 10)
    for data in ([NAME] * len(button["inputs"]), [{"path": NAME}] * len(button["inputs"]), [NAME]):
        body = {"data": data, "fn_index": button["id"], "session_hash": "abc", "trigger_id": None}
        httpx.post(f"{page.url}gradio_api/queue/join", json=body)
        with httpx.stream("GET", f"{page.url}gradio_api/queue/data", params={"session_hash": "abc"}) as stream:
            list(stream.iter_lines())
    printed = "".join(capfd.readouterr())
    assert NAME not in printed, printed
    assert not kept_files(page.files)


def test_a_full_queue_refuses_politely(page: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    config = httpx.get(page.url + "config").json()
    about = next(fn for fn in config["dependencies"] if fn["api_name"] == "about")
    monkeypatch.setattr(page.blocks._queue, "max_size", 0)
    body = {"data": [], "fn_index": about["id"], "session_hash": "full", "trigger_id": None}
    answer = httpx.post(f"{page.url}gradio_api/queue/join", json=body)
    assert answer.status_code == 503 and "Please try again" in answer.json()["detail"]


def test_uploads_have_limits(page: SimpleNamespace, inputs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page.blocks, "max_file_size", 10)
    assert upload(page, inputs.labs).status_code == 413
    monkeypatch.undo()
    monkeypatch.setattr("tgmm_hf.app.fence.MAX_CACHED_BYTES", 10)
    assert upload(page, inputs.labs).status_code == 507
    assert not kept_files(page.files)


def test_an_upload_that_nobody_asks_about_is_deleted(page: SimpleNamespace, inputs: SimpleNamespace) -> None:
    from gradio.route_utils import delete_files_created_by_app

    (path,) = upload(page, inputs.labs).json()
    delete_files_created_by_app(page.blocks, 900)
    assert Path(path).is_file()
    delete_files_created_by_app(page.blocks, 0)
    assert not Path(path).exists()
    assert page.blocks.delete_cache[1] <= 900


def test_a_password_closes_everything(pipe: Any, inputs: SimpleNamespace) -> None:
    with page_of(pipe, password=PASSWORD) as page:
        assert upload(page, inputs.labs).status_code == 401
        for address in ("config", "gradio_api/info", "gradio_api/queue/status"):
            assert httpx.get(page.url + address).status_code == 401, address
        body = {"data": [], "fn_index": 0, "session_hash": "abc"}
        assert httpx.post(f"{page.url}gradio_api/queue/join", json=body).status_code == 401
        with pytest.raises(Exception):  # noqa: B017 - the client has no class of its own
            client_of(page, auth=("tgmm", "another password"))
        about = client_of(page, auth=("tgmm", PASSWORD)).predict(api_name="/about")
        assert about["questions"]


def test_a_cancelled_request_leaves_nothing(page: SimpleNamespace, inputs: SimpleNamespace) -> None:
    client = client_of(page)
    jobs = [client.submit(labs_file=handle_file(inputs.labs), api_name="/answer") for _ in range(2)]
    for job in jobs:
        job.result()
    assert not kept_files(page.files) and not list(page.files.requests.iterdir())


def test_settings_of_the_environment_open_nothing(pipe: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", str(tmp_path))
    monkeypatch.setenv("GRADIO_NUM_WORKERS", "1")
    monkeypatch.setenv("GRADIO_SHARE", "True")
    with page_of(pipe) as page:
        assert httpx.get(f"{page.url}gradio_api/file={tmp_path}/secret.txt").status_code == 403
        assert page.blocks.share is False and not page.blocks.allowed_paths
