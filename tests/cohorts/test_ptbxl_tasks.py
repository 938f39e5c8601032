"""`tgmm curate-ptbxl --task superclass` and the others: the labels, recordings and folds of the published benchmark."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from cohort_files import write_ecg
from ptbxl_files import write_arrays

from tgmm_hf.cli import main
from tgmm_hf.cohorts.ptbxl_tasks import TASKS, PublishedSplit, curate_ptbxl_task, task_name
from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.utils.errors import TgmmError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
STATEMENTS = """,description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass
NORM,normal ECG,1.0,,,NORM,NORM
IMI,inferior myocardial infarction,1.0,,,MI,IMI
ASMI,anteroseptal myocardial infarction,1.0,,,MI,AMI
NDT,non-diagnostic T abnormalities,1.0,1.0,,STTC,STTC
NST_,non-specific ST changes,1.0,1.0,,STTC,NST_
QWAVE,Q waves present,,1.0,,,
SR,sinus rhythm,,,1.0,,
AFIB,atrial fibrillation,,,1.0,,
"""
RECORDS = [  # codes, fold
    ("{'NORM': 100.0, 'SR': 0.0}", 1),
    ("{'IMI': 0.0, 'NST_': 100.0, 'SR': 0.0}", 8),
    ("{'ASMI': 35.0, 'IMI': 100.0, 'AFIB': 0.0}", 9),
    ("{'QWAVE': 0.0, 'SR': 0.0}", 2),
    ("{'NDT': 100.0, 'QWAVE': 0.0}", 10),
]
PUBLISHED_NUMBERS = {"all": 71, "diagnostic": 44, "subclass": 23, "superclass": 5, "form": 19, "rhythm": 12}
"""Number of labels of each task, table II of Strodthoff et al. 2021."""


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """Five recordings in the layout of PhysioNet."""
    directory = tmp_path / "ptbxl"
    rows = []
    for number, (codes, fold) in enumerate(RECORDS, start=1):
        name = f"records100/00000/{number:05d}_lr"
        write_ecg(directory / name, number)
        rows.append({"ecg_id": number, "patient_id": 100 + number, "age": 60, "sex": 0, "scp_codes": codes,
                     "strat_fold": fold, "filename_lr": name, "filename_hr": "x"})  # fmt: skip
    pd.DataFrame(rows).to_csv(directory / "ptbxl_database.csv", index=False)
    (directory / "scp_statements.csv").write_text(STATEMENTS)
    return directory


def read(out: Path, task: str) -> dict[str, tuple[str, set[str]]]:
    """Id of a recording -> its split and its labels."""
    findings = json.loads((out / "curate.json").read_text())["findings"]
    settings = {"kind": "multilabel", "question": "?", "candidates": [], "findings": findings}
    rows = read_cohort_table(out / "cohort.parquet", tasks={task_name(task): settings}).rows
    assert all(set(row.findings[task_name(task)]) == set(findings) for row in rows)  # no label is unknown
    return {row.id: (row.split, {k for k, v in row.findings[task_name(task)].items() if v}) for row in rows}


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("superclass", [{"NORM"}, {"MI", "STTC"}, {"MI"}, None, {"STTC"}]),
        ("subclass", [{"NORM"}, {"IMI", "NST_"}, {"AMI", "IMI"}, None, {"STTC"}]),
        ("diagnostic", [{"NORM"}, {"IMI", "NST_"}, {"ASMI", "IMI"}, None, {"NDT"}]),
        ("form", [None, {"NST_"}, None, {"QWAVE"}, {"NDT", "QWAVE"}]),
        ("rhythm", [{"SR"}, {"SR"}, {"AFIB"}, {"SR"}, None]),
        ("all", [{"NORM", "SR"}, {"IMI", "NST_", "SR"}, {"AFIB", "ASMI", "IMI"}, {"QWAVE", "SR"}, {"NDT", "QWAVE"}]),
    ],
)
def test_a_label_counts_whatever_its_likelihood_and_recordings_without_one_are_left_out(
    official: Path, tmp_path: Path, task: str, expected: list[set[str] | None]
) -> None:
    summary = curate_ptbxl_task(official, tmp_path / "out", task, sampling_rate=100)
    splits = ["train", "train", "validation", "train", "test"]
    rows = zip("12345", splits, expected, strict=True)
    assert read(tmp_path / "out", task) == {id_: (split, labels) for id_, split, labels in rows if labels is not None}
    assert summary["findings"] == sorted(summary["findings"]) and summary["units"] == "mV"
    flow = json.loads((tmp_path / "out" / "flow.json").read_text())
    assert flow[1]["admissions"] == expected.count(None) and flow[-1]["admissions"] == 5 - expected.count(None)


def test_trying_settings_on_fold_9_does_not_see_fold_10(official: Path, tmp_path: Path) -> None:
    summary = curate_ptbxl_task(official, tmp_path, "superclass", sampling_rate=100, split=PublishedSplit(8, 9))
    assert {id_: split for id_, (split, _) in read(tmp_path, "superclass").items()} == {
        "1": "train",
        "2": "validation",
        "3": "test",
    }
    assert summary["positives"]["STTC"] == {"train": 0, "validation": 1, "test": 0}
    with pytest.raises(TgmmError, match="two different folds"):
        PublishedSplit(9, 9)


def test_arrays_hold_four_tasks_and_name_labels_without_underscores(tmp_path: Path, capsys) -> None:
    write_arrays(tmp_path)
    (tmp_path / "scp_statements.csv").write_text(STATEMENTS)
    table = pd.read_csv(tmp_path / "labels.csv").assign(form=[None, "['NST', 'QWAVE']"] * 4)
    table.to_csv(tmp_path / "labels.csv", index=False)
    curate_ptbxl_task(tmp_path, tmp_path / "form", "form")
    rows = read(tmp_path / "form", "form")
    assert set(rows) == {"1", "3", "5", "7"} and rows["1"] == ("train", {"NST_", "QWAVE"})
    assert (tmp_path / "form" / "ecg" / "00001.hea").is_file()
    with pytest.raises(TgmmError, match="do not list all statements"):
        curate_ptbxl_task(tmp_path, tmp_path / "all", "all")
    table.assign(form="['NEW']").to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(TgmmError, match=r"lists \['NEW'\]"):
        curate_ptbxl_task(tmp_path, tmp_path / "form", "form")
    with pytest.raises(SystemExit) as refused:
        main(["curate-ptbxl", str(tmp_path), "--out", str(tmp_path / "x"), "--task", "form", "--all-test"])
    assert refused.value.code == 2 and "task mi" in capsys.readouterr().err


@pytest.mark.parametrize("task", TASKS)
def test_configurations_list_the_labels_of_the_published_statements(task: str, request) -> None:
    settings = yaml.safe_load((CONFIGS / f"ptbxl_{task}.yaml").read_text())["tasks"][task_name(task)]
    assert settings["question"] == TASKS[task].question
    assert len(settings["findings"]) == len(set(settings["findings"])) == PUBLISHED_NUMBERS[task]
    statements = pd.read_csv(request.getfixturevalue("shared_dir") / "data" / "ptbxl" / "scp_statements.csv")
    assert settings["findings"] == sorted(set(TASKS[task].labels(statements).values()))
