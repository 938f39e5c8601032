"""An option with two values is refused; everything else that may stand twice is taken."""

from pathlib import Path

import pytest
from command_line import run

MISSING = "a/model/that/is/not/there"


@pytest.mark.parametrize(
    "words",
    [
        ("predict", MISSING, "--labs", "a.json", "--labs", "b.json"),
        ("predict", MISSING, "--ecg", "a", "--ecg=b"),
        ("predict", MISSING, "--labs=a.json", "--echo", "e", "--labs", "b.json"),
        ("check-manifest", "t.csv", "--root", "a", "--root", "b"),
        ("prepare", "t", "--out", "a", "--out", "b"),
        ("evaluate", MISSING, "d", "--split", "test", "--split", "train"),
    ],
)
def test_an_option_with_two_values_is_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert "given twice with two values" in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize(
    "words",
    [
        ("--labs", "a.json", "--labs", "a.json"),
        ("--task", "a", "--task", "b", "--labs", "a.json"),
        ("--allow-outside", "--allow-outside", "--labs", "a.json"),
        ("--labs", "--ecg", "--ecg", "b"),
        ("--id", "a=b", "--labs", "id=c"),
    ],
)
def test_what_may_stand_twice_is_taken(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("predict", MISSING, *words) != 0  # the files are not there
    assert "given twice" not in capsys.readouterr().err
