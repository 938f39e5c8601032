"""Small helpers: errors, JSON, digests, versions, names of models."""

import json
import pickle
from pathlib import Path

import pytest

from tgmm_hf.utils.digests import file_digest, json_digest
from tgmm_hf.utils.errors import InputRefusedError, TgmmError, is_refusal
from tgmm_hf.utils.files import read_json, write_json
from tgmm_hf.utils.model_names import is_local_model
from tgmm_hf.utils.versions import PACKAGES, package_versions


def test_an_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(InputRefusedError("a.dcm", "it is empty")))
    assert (error.item, error.reason, str(error)) == ("a.dcm", "it is empty", "a.dcm: it is empty")
    assert is_refusal(error) and not is_refusal(TgmmError("a", "b")) and not is_refusal(ValueError())


def test_json_is_written_whole_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "content.json"
    write_json(path, {"a": [1, None, "ä"]})
    assert read_json(path) == {"a": [1, None, "ä"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"), allow_nan=False)
    assert read_json(path) == {"a": [1, None, "ä"]} and [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_a_file_that_is_not_json_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(TgmmError, match=r"a\.json: this file is not valid JSON"):
        read_json(tmp_path / "a.json")


def test_a_digest_depends_on_the_content_alone(tmp_path: Path) -> None:
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (file_digest(tmp_path / name) for name in "abc")
    assert a == b != c and len(a) == 64
    assert json_digest({"a": 1, "b": 2}) == json_digest(json.loads('{"b": 2, "a": 1}')) != json_digest({"a": 1})


def test_versions_name_python_and_every_package() -> None:
    versions = package_versions("no-such-distribution")
    assert set(versions) == {"python", *PACKAGES, "no-such-distribution"}
    assert versions["no-such-distribution"] == "not installed" and versions["torch"][0].isdigit()


@pytest.mark.parametrize("mistyped", ["nothing", "a/b/c", "./nothing", "owner/"])
def test_a_mistyped_directory_is_not_asked_of_the_hub(
    mistyped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no directory"):
        is_local_model(mistyped)


def test_a_model_is_a_directory_or_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo" / "model").mkdir(parents=True)
    assert is_local_model("demo/model") and not is_local_model("owner/name")
    with pytest.raises(FileNotFoundError, match="There is no directory demo/other"):
        is_local_model("demo/other")  # a slip of the keyboard, because the directory demo exists
