"""A table, a study directory and a WFDB header bring no file from outside their directory, unless the user says so."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from cohort_files import cohort_rows, small_config, small_processor, write_clip, write_ecg, write_table

from tgmm_hf.data.check_manifest import check_manifest
from tgmm_hf.data.confinement import confined_clips, confined_ecg
from tgmm_hf.data.prediction import patient_from_files, patients_from_table
from tgmm_hf.data.prepare import load_prepared, prepare
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.errors import InputRefusedError


@pytest.fixture(scope="module")
def processor() -> TgmmProcessor:
    return small_processor(small_config())


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table whose files lie inside, and outside by `..`, by an absolute path, by a link to a file and to a folder."""
    inside, outside = tmp_path / "cohort", tmp_path / "elsewhere"
    write_ecg(inside / "ecg" / "good", 0)
    write_ecg(outside / "other", 1)
    write_clip(inside / "good.dcm", 0)
    write_clip(inside / "second.dcm", 2)
    write_clip(outside / "other.dcm", 1)
    (inside / "link.dcm").symlink_to(outside / "other.dcm")
    (inside / "folder").symlink_to(outside)
    for suffix in (".hea", ".dat"):
        (inside / "ecg" / f"other{suffix}").symlink_to(outside / f"other{suffix}")
    ecgs = ["ecg/good", "../elsewhere/other", str(outside / "other"), "ecg/other", str(inside / "ecg" / "good")]
    clips = ["good.dcm", "../elsewhere/other.dcm", str(outside / "other.dcm"), "link.dcm", "folder/other.dcm"]
    rows: list[dict[str, Any]] = []
    for row, ecg, clip in zip(cohort_rows(5), ecgs, clips, strict=True):
        row |= {"ecg_path": ecg, "echo_paths": f"{clip};second.dcm", "echo_views": "A4C;Parasternal_Long"}
        row["split"] = "train"  # patients of several splits must not share a file
        rows.append(row)
    return write_table(inside / "cohort.csv", rows)


def test_prepare_refuses_what_lies_outside(table: Path, processor: TgmmProcessor, tmp_path: Path) -> None:
    prepare(table, tmp_path / "out", processor)
    with (tmp_path / "out" / "refused.csv").open() as file:
        refused = list(csv.DictReader(file))
    outside = {(row["id"], row["item"]) for row in refused if "leads out of the directory" in row["reason"]}
    ecgs = {("a1", "ecg"), ("a2", "ecg"), ("a3", "ecg")}
    assert outside == ecgs | {(f"a{number}", "echo[1]") for number in range(1, 5)} and len(refused) == len(outside)
    rows = {row["id"]: row for split in load_prepared(tmp_path / "out").values() for row in split}
    assert [len(rows[f"a{number}"]["clips"]) for number in range(5)] == [2, 1, 1, 1, 1]
    # the same directory with the option: other rows, so the finished result is not taken for these
    with pytest.raises(FileExistsError):
        prepare(table, tmp_path / "out", processor, allow_outside=True)
    assert prepare(table, tmp_path / "out", processor, allow_outside=True, overwrite=True)["refused"] == 0


def test_check_manifest_counts_what_lies_outside(table: Path) -> None:
    report = check_manifest(table)
    assert report["outside_files"]["number"] == 7 and report["missing_files"]["number"] == 0
    assert {"row": 2, "file": "ecg"} in report["outside_files"]["examples"]
    assert check_manifest(table, allow_outside=True)["outside_files"]["number"] == 0
    assert check_manifest(table, root=table.parents[1])["missing_files"]["number"] > 0


def test_a_prediction_names_what_lies_outside_by_its_position(table: Path, processor: TgmmProcessor) -> None:
    patient = patients_from_table(table)[1]
    options: dict[str, Any] = {"on_refusal": "report", "return_report": True}
    given = {name: patient[name] for name in ("labs", "ecg", "echo", "views")}
    _, (report,) = processor(**{name: [value] for name, value in given.items()}, **options)
    assert [entry["item"] for entry in report["refused"]] == ["ecg", "echo[1]"]
    assert all("leads out" in entry["reason"] for entry in report["refused"])
    assert report["used"]["echo"] == ["Parasternal_Long"] and report["views"][0]["item"] == "echo[2]"
    patient = patients_from_table(table, allow_outside=True)[1]
    _, (report,) = processor(ecg=[patient["ecg"]], echo=[patient["echo"]], views=[patient["views"]], **options)
    assert report["refused"] == [] and len(report["used"]["ecg"]) == 12


def test_links_of_a_study_directory(table: Path, processor: TgmmProcessor) -> None:
    options: dict[str, Any] = {"on_refusal": "report", "return_report": True}
    for allow_outside, refused in ((False, {f"echo link[{number}]" for number in range(1, 5)}), (True, set())):
        patient = patient_from_files(echo=table.parent, allow_outside=allow_outside)
        views = {"good.dcm": "A4C", "link.dcm": "A2C", "other.dcm": "A3C", "second.dcm": "SSN"}
        _, (report,) = processor(echo=[patient["echo"]], views=[views], **options)
        assert {entry["item"] for entry in report["refused"]} == refused
        assert len(report["used"]["echo"]) == (4 if allow_outside else 2)


@pytest.mark.parametrize("name", ["../other.dat", "/etc/passwd", "sub/../../other.dat", "C:\\other.dat", "~/other.dat"])
def test_a_header_names_no_file_outside_its_folder(name: str, tmp_path: Path) -> None:
    write_ecg(tmp_path / "in" / "record", 0)
    write_ecg(tmp_path / "other", 0)
    header = tmp_path / "in" / "record.hea"
    header.write_text(header.read_text().replace("record.dat", name))
    with pytest.raises(InputRefusedError) as caught:
        read_ecg(tmp_path / "in" / "record")
    assert "outside its own folder" in caught.value.reason and "passwd" not in caught.value.reason


def test_a_signal_file_that_is_a_link_out_of_the_root(tmp_path: Path) -> None:
    write_ecg(tmp_path / "root" / "record", 0)
    signal = tmp_path / "root" / "record.dat"
    header = tmp_path / "root" / "record.hea"
    header.write_text(header.read_text().replace("record.dat", "signal.dat"))
    signal.rename(tmp_path / "elsewhere.dat")
    (tmp_path / "root" / "signal.dat").symlink_to(tmp_path / "elsewhere.dat")
    assert isinstance(confined_ecg("record", tmp_path / "root"), InputRefusedError)
    assert confined_ecg("record", tmp_path / "root", allow_outside=True) == tmp_path / "root" / "record"
    assert confined_ecg("root/record", tmp_path) == tmp_path / "root" / "record"


def test_paths_that_cannot_be_looked_up_are_left_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "circle.dcm").symlink_to(tmp_path / "circle.dcm")
    for path in ("circle.dcm", "a" * 5000, "a\0b"):
        (clip,) = confined_clips((path,), tmp_path)
        assert isinstance(clip, (Path, InputRefusedError))
        assert isinstance(confined_ecg(path, tmp_path), (Path, InputRefusedError))
    json.dumps(str(clip))
