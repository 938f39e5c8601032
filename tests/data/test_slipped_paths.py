"""Rows of a table whose ECG or echo names another patient of the table."""

import csv
import errno
import json
from pathlib import Path
from typing import Any

import pydicom
import pytest
from cohort_files import cohort_rows, small_config, small_processor, write_clip, write_ecg, write_table

from tgmm_hf.data import file_reading, slipped_paths
from tgmm_hf.data import prepare as prepare_module
from tgmm_hf.data.check_manifest import check_manifest, has_faults, report_text
from tgmm_hf.data.confinement import confined_ecg
from tgmm_hf.data.manifest import CohortTable, read_cohort_table
from tgmm_hf.data.prediction import patients_from_table
from tgmm_hf.data.prepare import prepare
from tgmm_hf.data.slipped_paths import compare_headers, slipped_rows
from tgmm_hf.inputs.patient_identity import identity_of
from tgmm_hf.utils.errors import InputRefusedError, TgmmError

PATIENTS = [str(10000032 + 7 * number) for number in range(10)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ECGs as MIMIC-IV-ECG writes them, and clips, of ten patients."""
    root = tmp_path_factory.mktemp("files")
    for number, patient in enumerate(PATIENTS):
        write_ecg(root / f"ecg/{number}", number)
        with (root / f"ecg/{number}.hea").open("a") as header:
            header.write(f"# <subject_id>: {patient}\n")
        for clip in "ab":
            path = root / f"echo/{number}_{clip}.dcm"
            write_clip(path, number + 20)
            dataset = pydicom.dcmread(path)
            dataset.PatientID = f"00{patient}"
            dataset.save_as(path)
    return root


def rows_of(**slip: int) -> list[dict[str, Any]]:
    """Rows whose ECG or echo paths come from `slip` rows further down."""
    rows = [{**row, "patient_id": patient} for row, patient in zip(cohort_rows(10), PATIENTS, strict=True)]
    for number, row in enumerate(rows):
        if row["ecg_path"]:
            row["ecg_path"] = f"ecg/{(number + slip.get('ecg', 0)) % 10}"
        if row["echo_paths"]:
            place = (number + slip.get("echo", 0)) % 10
            row["echo_paths"] = f"echo/{place}_a.dcm;echo/{place}_b.dcm"
    return rows


def write(files: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    return write_table(files / f"{name}.csv", rows)


@pytest.mark.parametrize(("kind", "column"), [("ecg", "ecg_path"), ("echo", "echo_paths")])
def test_every_row_of_a_slipped_column_is_found(files: Path, kind: str, column: str) -> None:
    rows = rows_of(**{kind: 1})
    path = write(files, f"{kind}_slipped", rows)
    slipped = slipped_rows(read_cohort_table(path))
    assert list(slipped) == [row["id"] for row in rows if row[column]]
    pointed = [{**row, "patient_id": f"{row['patient_id']}.0"} for row in rows]
    assert list(slipped_rows(read_cohort_table(write(files, "pointed", pointed)))) == list(slipped)
    report = check_manifest(path)
    assert report["slipped_rows"][0]["number"] == len(slipped) and has_faults(report)
    assert "another patient of this table" in report_text(report)
    assert not any(text in json.dumps([report, slipped]) for text in (*PATIENTS, ".dcm"))


@pytest.mark.parametrize("kind", ["right", "pseudonyms", "numbers with a point", "no headers", "an id of nobody"])
def test_a_right_table_is_not_affected(files: Path, kind: str, tmp_path: Path) -> None:
    rows = rows_of(ecg=0 if kind == "right" else 1)
    if kind == "pseudonyms":
        rows = [{**row, "patient_id": f"p{number}"} for number, row in enumerate(rows)]
    elif kind == "numbers with a point":
        rows = [{**row, "patient_id": f"{row['patient_id']}.0"} for row in rows_of()]
    elif kind == "no headers":
        rows = [{**row, "ecg_path": "", "echo_paths": "", "echo_views": ""} for row in rows]
    elif kind == "an id of nobody":
        rows = rows_of(ecg=3)[:2]  # the headers name patients who are not in the table
    path = write(files, "right", rows)
    assert slipped_rows(read_cohort_table(path)) == {} and not check_manifest(path)["slipped_rows"]


def test_an_id_that_stands_in_most_headers_names_nobody(tmp_path: Path) -> None:
    """Whoever makes files anonymous may write "1" into all of them, and "1" may be a patient of the table."""
    rows = [{**row, "echo_paths": "", "echo_views": ""} for row in cohort_rows(10) if row["ecg_path"]]
    for number, row in enumerate(rows, start=1):
        row |= {"patient_id": str(number), "ecg_path": f"ecg/{number}"}
        write_ecg(tmp_path / f"ecg/{number}", number)
        with (tmp_path / f"ecg/{number}.hea").open("a") as header:
            header.write("# <subject_id>: 1\n")
    assert len(rows) > 3
    table = read_cohort_table(write_table(tmp_path / "cohort.csv", rows))
    assert slipped_rows(table) == {}
    assert list(slipped_rows(table, table.rows[:2])) == [rows[1]["id"]]  # two patients are too few to say so


def test_a_table_without_patients_is_not_compared(files: Path) -> None:
    """Without a column patient_id the id stands for it, and row numbers look like the ids of a header."""
    rows = [{**row, "id": row["patient_id"]} for row in rows_of(ecg=1)]
    assert slipped_rows(read_cohort_table(write(files, "numbers", rows))) == {}


def test_exchanged_files_of_a_table_without_patients_are_a_finding(files: Path) -> None:
    rows = [
        {name: row[name] for name in ("ecg_path", "echo_paths", "echo_views")} | {"id": patient, "labs.Sodium": 140}
        for row, patient in zip(rows_of(), PATIENTS, strict=True)
    ]
    right = write(files, "right_ids", rows)
    assert not compare_headers(read_cohort_table(right, for_prediction=True)).doubts
    assert all(not checks for checks in patients_from_table(right).checks)
    first, second = _with_ecg(rows)
    rows[first]["ecg_path"], rows[second]["ecg_path"] = rows[second]["ecg_path"], rows[first]["ecg_path"]
    exchanged = write(files, "exchanged", rows)
    with pytest.warns(UserWarning, match="names the id of another row"):
        patients = patients_from_table(exchanged)
    assert [number for number, checks in enumerate(patients.checks) if checks] == [first, second]
    assert patients[first]["ecg"] and patients.checks[first][0]["code"] == "header_names_another_row"
    report = check_manifest(exchanged, for_prediction=True)
    assert "2 row(s): the header" in str(report["notes"]) and not report["slipped_rows"]
    assert not any(patient in str(report["notes"]) for patient in PATIENTS)


def _with_ecg(rows: list[dict[str, Any]]) -> tuple[int, int]:
    first, second, *_ = (number for number, row in enumerate(rows) if row["ecg_path"])
    return first, second


@pytest.mark.parametrize("prefix", ["x", "", "study-"])
def test_ids_of_another_numbering_are_no_finding(files: Path, prefix: str) -> None:
    rows = [{**row, "id": f"{prefix}{number}"} for number, row in enumerate(rows_of(ecg=1))]
    rows = [{name: row[name] for name in ("id", "ecg_path", "echo_paths", "echo_views")} for row in rows]
    assert not compare_headers(read_cohort_table(write(files, "numbers", rows), for_prediction=True)).doubts


def test_words_over_an_anonymous_id_name_nobody(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.dcm", 0)
    dataset = pydicom.dcmread(tmp_path / "clip.dcm")
    for word, name in (("ANONYMOUS", ""), ("unknown^patient", ""), ("N/A", ""), ("Anon0012", "anon0012")):
        dataset.PatientID = word
        dataset.save_as(tmp_path / "clip.dcm")
        identity = identity_of(tmp_path / "clip.dcm")
        assert identity is not None and identity.patient == name


def test_an_id_of_nobody_is_wrong_where_the_headers_of_the_other_rows_fit(files: Path) -> None:
    rows = rows_of()
    rows[4]["patient_id"] = "77"  # has an echo
    assert slipped_rows(read_cohort_table(write(files, "nobody", rows))) == {}  # an old hospital number
    rows[0]["ecg_path"] = "ecg/1"  # now another row has slipped
    assert list(slipped_rows(read_cohort_table(write(files, "nobody", rows)))) == ["a0", "a4"]
    for row in rows[1:4]:
        row["patient_id"] = f"x{row['patient_id']}"  # now too few ids fit
    assert slipped_rows(read_cohort_table(write(files, "nobody", rows))) == {}


def test_an_admission_with_slipped_paths_is_dropped_and_prepared_when_the_table_is_mended(files: Path) -> None:
    rows = rows_of()
    rows[0]["ecg_path"] = "ecg/5"
    path, out = write(files, "one", rows), files / "out"
    processor = small_processor(small_config())
    result = prepare(path, out, processor)
    with (out / "refused.csv").open() as file:
        refused = list(csv.DictReader(file))
    assert [entry["id"] for entry in refused if entry["reason"].startswith("dropped: ")] == ["a0"]
    assert sum(counts["records"] for counts in result["counts"].values()) == 9
    rows[5]["patient_id"] = "77"  # the header names nobody of the table any more
    rows[0]["patient_id"] = "x"
    result = prepare(write(files, "one", rows), out, processor, overwrite=True)
    assert sum(counts["records"] for counts in result["counts"].values()) == 10


def test_a_shard_is_prepared_again_when_a_patient_of_another_shard_makes_its_row_slip(files: Path) -> None:
    rows = rows_of()
    rows[0]["ecg_path"] = "ecg/5"
    rows[5] |= {"patient_id": "77", "split": "test"}
    rows[0]["echo_paths"] = rows[0]["echo_views"] = rows[5]["ecg_path"] = ""
    rows[5] |= {"labs.Creatinine": 1.2}
    for row in rows[1:5]:
        row["patient_id"] = f"x{row['patient_id']}"  # so few ids fit that an id of nobody is no fault
    out, processor = files / "grown", small_processor(small_config())
    result = prepare(write(files, "grown", rows), out, processor)
    assert result["counts"]["train"]["records"] == 5
    rows[5]["patient_id"] = PATIENTS[5]  # a row of the test split
    result = prepare(write(files, "grown", rows), out, processor, overwrite=True)
    assert result["counts"]["train"]["records"] == 4


def test_a_prediction_does_not_use_a_patient_with_slipped_paths(files: Path) -> None:
    rows = rows_of()
    rows[2]["ecg_path"] = "ecg/9"  # the tenth row is not among the chosen ones
    patients = patients_from_table(write(files, "predicted", rows), limit=4)
    (wrong,) = [patient for patient in patients if isinstance(patient["ecg"], InputRefusedError)]
    assert wrong["id"] == "a2" and wrong["labs"] is None and wrong["echo"] is None
    reports = small_processor(small_config())(
        labs=[patient["labs"] for patient in patients], ecg=[patient["ecg"] for patient in patients],
        echo=[None] * 4, on_refusal="report", return_report=True,
    )[1]  # fmt: skip
    assert not any(reports[2]["used"].values()) and "another patient" in reports[2]["refused"][0]["reason"]
    assert reports[3]["used"]["ecg"]


def fail_at(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], times: int) -> list[str]:
    """Let the opening of these files fail so often in a row, as on a disk that is away for a moment."""
    monkeypatch.setattr(file_reading, "WAITS", (0.01, 0.01))
    genuine, failures = Path.open, []

    def fails(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name in names and failures.count(self.name) < times:
            failures.append(self.name)
            raise OSError(errno.EIO, "Input/output error")
        return genuine(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", fails)
    return failures


def names_of(table: CohortTable, kind: str) -> tuple[str, ...]:
    """Names of the files of the first row with an ECG or an echo that a header is read from."""
    row = next(row for row in table.rows if (row.ecg_path if kind == "ecg" else row.echo_paths))
    files = [f"{row.ecg_path}.hea", str(row.ecg_path)] if kind == "ecg" else row.echo_paths
    return tuple(Path(file).name for file in files)


def test_the_headers_are_read_once_for_all_parts_and_again_when_a_file_or_the_table_changes(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of()
    rows[0]["ecg_path"] = "ecg/5"
    path, out, processor = write(files, "parts", rows), tmp_path / "out", small_processor(small_config())
    genuine, read = slipped_paths.compare_headers, []
    monkeypatch.setattr(slipped_paths, "compare_headers", lambda table: read.append(1) or genuine(table))
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 4)
    counts = [prepare(path, out, processor, part=(number, 2), limits=None)["counts"] for number in (1, 2)]
    assert len(read) == 1 and sum(part.get("train", {}).get("dropped", 0) for part in counts) == 1
    result = prepare(path, out, processor, limits=None)
    assert len(read) == 1 and sum(split["dropped"] for split in result["counts"].values()) == 1
    assert not any(patient in (out / "headers.json").read_text() for patient in PATIENTS)
    (out / "headers.json").write_text("[cut sho")
    prepare(path, out, processor, limits=None)
    assert len(read) == 2
    header = files / "ecg/5.hea"
    header.write_text(header.read_text())  # another time of change
    prepare(path, out, processor, limits=None)
    assert len(read) == 3
    rows[0]["ecg_path"] = "ecg/0"
    result = prepare(write(files, "parts", rows), out, processor, limits=None, overwrite=True)
    assert len(read) == 4 and not sum(split["dropped"] for split in result["counts"].values())


@pytest.mark.parametrize("kind", ["ecg", "echo"])
def test_a_header_that_is_away_for_a_moment_is_compared(
    files: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read_cohort_table(write(files, "moment", rows_of(ecg=1, echo=1)))
    right, name = slipped_rows(table), names_of(table, kind)[0]
    failures = fail_at(monkeypatch, (name,), 2)
    headers = compare_headers(table)
    assert failures == [name] * 2 and headers.slipped == right and not headers.unread and not headers.notes()


@pytest.mark.parametrize("kind", ["ecg", "echo"])
def test_a_header_that_stays_away_is_counted_and_said(files: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(files, "away", rows_of(**{kind: 1}))
    table = read_cohort_table(path)
    right = slipped_rows(table)
    fail_at(monkeypatch, names_of(table, kind), 1000)
    headers = compare_headers(table)
    (away,) = headers.unread
    assert headers.slipped == {name: reason for name, reason in right.items() if name != away}
    report = check_manifest(path)
    assert headers.notes() and set(headers.notes()) <= set(report["notes"]) and not report["outside_files"]["number"]


@pytest.mark.parametrize("kind", ["ecg", "echo"])
def test_a_row_whose_header_could_not_be_compared_is_not_done(
    files: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file can be read again when its turn comes, so that nothing else would hold the row back."""
    path, processor = write(files, "later", rows_of()), small_processor(small_config())
    table = read_cohort_table(path)
    with monkeypatch.context() as patch:
        fail_at(patch, names_of(table, kind), 3)
        with pytest.raises(TgmmError, match=r"file\(s\)"):
            prepare(path, tmp_path / "out", processor, limits=None)
    assert not (tmp_path / "out" / "prepare.json").exists() and not (tmp_path / "out" / "headers.json").exists()
    assert prepare(path, tmp_path / "out", processor, limits=None)["refused"] == 0


def test_a_header_that_cannot_be_opened_stops_nobody(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was an error of Python. Without the header nothing tells whether its signal file lies outside the table."""
    table = read_cohort_table(write(files, "denied", rows_of()))
    names = names_of(table, "ecg")
    fail_at(monkeypatch, names, 1000)
    refused = [confined_ecg(str(row.ecg_path), table.root) for row in table.rows if row.ecg_path]
    assert [isinstance(one, InputRefusedError) for one in refused] == [True] + [False] * (len(refused) - 1)
    with pytest.warns(UserWarning, match="header"):
        patients = patients_from_table(files / "denied.csv")
    assert sum(isinstance(patient["ecg"], InputRefusedError) for patient in patients) == 1
