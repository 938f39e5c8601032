"""A cohort table from a folder per patient: files are known by content, and nothing is chosen silently."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from cohort_files import write_clip, write_ecg
from command_line import run
from input_files import MIMIC_LEADS, make_ecg, waveform_group, write_ecg_dicom

from tgmm_hf.data.check_manifest import check_manifest
from tgmm_hf.data.make_manifest import Proposal, proposal_text, propose
from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.data.patient_folders import scan_folder


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of five patients; every file has a name that says nothing, or something wrong."""
    folder = tmp_path_factory.mktemp("hospital") / "patients"
    write_ecg(folder / "007" / "export" / "x1", 0)
    write_clip(folder / "007" / "export" / "IM0001", 0)
    (folder / "007" / "letter.pdf").write_bytes(b"%PDF-1.4 Jane Doe")
    write_ecg(folder / "two" / "a", 1)
    write_ecg(folder / "two" / "b", 2)
    write_clip(folder / "studies" / "s1" / "a.dcm", 3)
    write_clip(folder / "studies" / "s2" / "a.dcm", 4)
    (folder / "wave").mkdir()
    group = waveform_group(make_ecg() * 1000, MIMIC_LEADS, 500.0, "ORIGINAL")
    write_ecg_dicom(folder / "wave" / "looks_like_a_clip.mp4.dcm", [group])
    write_clip(folder / "still" / "one.dcm", 5, frames=1)
    (folder / "still" / "broken.hea").write_text("no header\n")
    (folder / "still" / "lost.dat").write_bytes(b"1234")
    (folder / "loose.txt").write_text("x")
    (folder / ".hidden").mkdir()
    return folder


def proposed(patients: Path, out: Path, **options) -> tuple[Proposal, dict[str, dict]]:
    proposal = propose(patients, out, **options)
    return proposal, {row["id"]: row for row in proposal.rows}


def test_files_are_known_by_their_content(patients: Path, tmp_path: Path) -> None:
    proposal, rows = proposed(patients, patients.parent / "cohort.csv")
    assert rows["007"]["ecg_path"] == "patients/007/export/x1"
    assert rows["007"]["echo_paths"] == ["patients/007/export/IM0001"]
    assert rows["wave"]["ecg_path"] == "patients/wave/looks_like_a_clip.mp4.dcm"
    assert set(rows["still"]) == {"id"}
    assert proposal.unused.total() == 5  # pdf, loose file, still, broken header, lost signal file
    assert set(rows) == {"007", "two", "studies", "wave", "still"}


def test_nothing_is_chosen_silently(patients: Path, tmp_path: Path) -> None:
    proposal, rows = proposed(patients, patients.parent / "cohort.csv")
    assert "ecg_path" not in rows["two"] and "echo_paths" not in rows["studies"]
    assert sorted(proposal.ambiguous.values()) == [["studies"], ["two"]]
    text = proposal_text(proposal)
    assert "several recordings: two" in text and "several studies: studies" in text
    assert "letter" not in text and "Jane" not in text and "IM0001" not in text


def test_a_view_name_that_fits_two_clips_of_a_patient_is_named(tmp_path: Path) -> None:
    for seed, place in enumerate(("p1/x/a.dcm", "p1/y/a.dcm", "p1/b.dcm", "p2/a.dcm")):
        path = tmp_path / "patients" / place
        write_clip(path, seed)
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID = f"1.2.{place[1]}"
        dataset.save_as(path)
    (tmp_path / "views.csv").write_text("dicom_filepath,view\na.dcm,A4C\nb.dcm,A2C\n")
    proposal, rows = proposed(tmp_path / "patients", tmp_path / "c.csv", views=tmp_path / "views.csv")
    views = dict(zip(rows["p1"].get("echo_paths", []), rows["p1"].get("echo_views", []), strict=True))
    assert views == {"patients/p1/b.dcm": "A2C", "patients/p1/x/a.dcm": "", "patients/p1/y/a.dcm": ""}
    assert rows["p2"]["echo_views"] == ["A4C"]  # one clip of this name in each folder of a patient is no doubt
    assert list(proposal.ambiguous.values()) == [["p1"]] and "same file name" in proposal_text(proposal)


def stamp(header: Path, time: str) -> None:
    first, *rest = header.read_text().splitlines()
    header.write_text("\n".join([f"{first} {time}", *rest]) + "\n")


def test_the_choice_by_time_needs_the_times(patients: Path, tmp_path: Path) -> None:
    folder = tmp_path / "patients"
    shutil.copytree(patients / "two", folder / "two")
    stamp(folder / "two" / "a.hea", "10:00:00 02/01/2020")
    choice = {"ecg_choice": "last"}
    proposal, rows = proposed(folder, tmp_path / "c.csv", **choice)
    assert "ecg_path" not in rows["two"] and "times do not decide" in next(iter(proposal.ambiguous))
    stamp(folder / "two" / "b.hea", "09:00:00.5 03/01/2020")
    assert proposed(folder, tmp_path / "c.csv", **choice)[1]["two"]["ecg_path"] == "patients/two/b"
    assert proposed(folder, tmp_path / "c.csv", ecg_choice="first")[1]["two"]["ecg_path"] == "patients/two/a"


def test_labs_are_joined_by_id_and_ids_that_are_alike_are_named(patients: Path, tmp_path: Path) -> None:
    labs = tmp_path / "labs.csv"
    labs.write_text("id,Hb (g/L),medical history\n7,101,x\ntwo,140,=cmd\nnew,120,\n")
    proposal, rows = proposed(patients, patients.parent / "cohort.csv", labs=labs)
    assert rows["two"]["labs.Hb (g/L)"] == "140" and "labs.Hb (g/L)" not in rows["007"]
    assert {"7", "new"} <= set(rows)
    assert any("the lab row 7 and the folder 007" in note for note in proposal.notes)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_table_is_taken_by_the_other_commands(
    suffix: str, patients: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labs.csv").write_text("id,age,medical history\n007,71,=cmd\ntwo,66,\n")
    (tmp_path / "views.csv").write_text("dicom_filepath,view\nexport/IM0001,A4C\n")
    out = tmp_path / f"cohort{suffix}"
    words = ["make-manifest", patients, "--labs", tmp_path / "labs.csv", "--views", tmp_path / "views.csv"]
    assert run(*words, "--out", out) == 0
    assert f"--root {patients}" in capsys.readouterr().out
    table = read_cohort_table(out, root=patients, for_prediction=True)
    row = next(row for row in table.rows if row.id == "007")
    assert row.labs == {"age": "71", "medical history": "=cmd"}
    assert (row.echo_paths, row.echo_views) == (("007/export/IM0001",), ("A4C",))
    report = check_manifest(out, root=patients, for_prediction=True, read_files=True)
    assert report["missing_files"]["number"] == 0 and report["refused_files"] == []
    assert run(*words, "--out", out) == 2
    assert "--overwrite" in " ".join(capsys.readouterr().err.split())
    assert run(*words, "--out", out, "--overwrite") == 0


def test_links_that_lead_out_are_not_followed(patients: Path, tmp_path: Path) -> None:
    folder = tmp_path / "patients"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "clip.dcm").symlink_to(patients / "007" / "export" / "IM0001")
    (folder / "b").symlink_to(patients / "007")
    proposal, rows = proposed(folder, tmp_path / "c.csv")
    assert set(rows) == {"a"} and set(rows["a"]) == {"id"} and proposal.unused.total() == 2


def test_odd_files_stop_nothing(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(20):
        start = [b"", b"\0" * 128 + b"DICM", b"\x08\x00\x00\x00UL\x04\x00", b"\0\0\0\x18ftypmp42"][number % 4]
        name = [f"f{number}", f"f{number}.hea", f"f{number}.dcm", f"f{number}.mp4"][number % 4 - number // 4]
        (tmp_path / name).write_bytes(start + generator.bytes(300))
    (tmp_path / "empty.hea").write_bytes(b"")
    content = scan_folder(tmp_path)
    assert content.recordings == [] and content.clips == [] and content.unused.total() == 21


def test_an_ecg_as_text_table_is_a_recording(tmp_path: Path) -> None:
    lines = [",".join(MIMIC_LEADS), *(",".join(f"{value:.3f}" for value in row) for row in make_ecg()[:12, :20].T)]
    (tmp_path / "export.csv").write_text("\n".join(lines))
    (tmp_path / "labs.csv").write_text("id,Creatinine\na,1\n")
    content = scan_folder(tmp_path)
    assert [recording.path.name for recording in content.recordings] == ["export.csv"]
    assert content.unused.total() == 1


def test_a_segment_is_no_recording_of_its_own(tmp_path: Path) -> None:
    for name in ("s1", "s2"):
        write_ecg(tmp_path / name, 0)
    (tmp_path / "whole.hea").write_text("whole/2 12 500 10000\ns1 5000\ns2 5000\n")
    assert [recording.path.name for recording in scan_folder(tmp_path).recordings] == ["whole.hea"]


@pytest.mark.parametrize("choice", ["none", "first", "last"])
def test_recordings_of_two_patients_in_one_folder_are_not_chosen_from(tmp_path: Path, choice: str) -> None:
    folder = tmp_path / "patients" / "p1"
    for name, patient, day in (("a", 10000032, 1), ("b", 10000048, 2)):
        write_ecg(folder / name, day)
        header = folder / f"{name}.hea"
        lines = header.read_text().splitlines()
        lines[0] = f"{' '.join(lines[0].split()[:4])} 10:00:00 0{day}/01/2020"
        header.write_text("\n".join([*lines, f"# <subject_id>: {patient}"]) + "\n")
    proposal, rows = proposed(folder.parent, tmp_path / "cohort.csv", ecg_choice=choice)
    assert "ecg_path" not in rows["p1"]
    assert any("different patients" in reason for reason in proposal.ambiguous)
