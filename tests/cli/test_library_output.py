"""Warnings of libraries: one line, without paths, and none for developers only."""

import warnings

import pytest

from tgmm_hf.cli.library_output import readable_warnings, without_paths


def test_a_warning_is_one_line_without_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    with readable_warnings():
        warnings.warn_explicit(
            "odd file\n/data/patients/smith/ecg.dat", UserWarning, "/opt/python/site-packages/torch/load.py", 593
        )
        warnings.warn("use another function", FutureWarning, stacklevel=1)
        warnings.warn("use another function", DeprecationWarning, stacklevel=1)
    assert capsys.readouterr().err == "Warning (torch): odd file <path>\n"


def test_paths_are_left_out_and_other_slashes_stay() -> None:
    assert without_paths("cannot read '/home/a/b.dcm', 3 mg/dL and/or labs+ecg") == (
        "cannot read '<path>', 3 mg/dL and/or labs+ecg"
    )
    assert without_paths("see https://example.org/a/b") == "see https://example.org/a/b"


def test_all_warnings_are_shown_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TGMM_DEBUG", "1")
    with readable_warnings(), pytest.warns(FutureWarning):
        warnings.warn("use another function", FutureWarning, stacklevel=1)
