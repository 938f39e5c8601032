"""`tgmm curate-ptbxl`: which records are infarctions, the official layout, and the real records beside the clone."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from cohort_files import write_ecg
from ptbxl_files import STATEMENTS, write_arrays

from tgmm_hf.cli import main
from tgmm_hf.cohorts.flow import check_flow
from tgmm_hf.cohorts.ptbxl import MI_TASK, TASK, curate_ptbxl
from tgmm_hf.data.admissions import make_preparer
from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.names import LEADS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

RECORDS = [  # codes, age, sex, fold
    ("{'NORM': 100.0, 'SR': 0.0}", 56, 0, 1),
    ("{'IMI': 50.0, 'NDT': 100.0}", 300, 1, 9),
    ("{'NORM': 80.0, 'IMI': 15.0}", 40, 0, 10),
    ("{'NDT': 100.0}", 50, 0, 2),
    ("{'ASMI': 0.0}", "", 1, 10),
    ("{'NORM': 100.0, 'QWAVE': 100.0}", 61, 1, 9),
]


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """Six records in the layout of PhysioNet."""
    rows = []
    for number, (codes, age, sex, fold) in enumerate(RECORDS, start=1):
        name = f"records500/00000/{number:05d}_hr"
        write_ecg(tmp_path / name, number)
        row = {
            "ecg_id": number,
            "patient_id": f"{100 + number}.0",
            "age": age,
            "sex": sex,
            "height": "",
            "weight": 80.0,
        }
        row |= {"scp_codes": codes, "heart_axis": "LAD", "strat_fold": fold, "filename_lr": "x", "filename_hr": name}
        rows.append(row)
    pd.DataFrame(rows).to_csv(tmp_path / "ptbxl_database.csv", index=False)
    (tmp_path / "scp_statements.csv").write_text(STATEMENTS)
    return tmp_path


def labels_of(out: Path) -> dict[str, int]:
    rows = read_cohort_table(out / "cohort.parquet", tasks={TASK: MI_TASK}).rows
    return {row.id: row.labels[TASK] for row in rows}


def test_infarction_without_normal_against_normal_without_infarction(official: Path, tmp_path: Path) -> None:
    record = curate_ptbxl(official, tmp_path / "out")
    assert labels_of(tmp_path / "out") == {"1": 0, "2": 1, "5": 1, "6": 0}  # a form statement is no diagnosis
    manifest = read_cohort_table(tmp_path / "out" / "cohort.parquet", tasks={TASK: MI_TASK})
    assert [row.split for row in manifest.rows] == ["train", "validation", "test", "validation"]
    assert manifest.rows[0].labs == {"age": ("56", "years"), "gender": "M", "weight": (80.0, "kg")}
    assert manifest.rows[1].labs["age"] == (">89", "years") and "age" not in manifest.rows[2].labs
    assert manifest.rows[0].patient_id == "101" and manifest.ignored_columns == []
    assert all((manifest.root / f"{row.ecg_path}.hea").is_file() for row in manifest.rows)
    flow = json.loads((tmp_path / "out" / "flow.json").read_text())
    check_flow(flow)
    assert [entry["admissions"] for entry in flow] == [6, 1, 1, 4, 2, 2]
    assert record["selections"][0]["both"] == 1 and record["selections"][0]["mi_alone"] == 1


def test_likelihood_and_both_change_the_selection(official: Path, tmp_path: Path) -> None:
    curate_ptbxl(official, tmp_path / "likely", likelihood=50)
    assert labels_of(tmp_path / "likely") == {"1": 0, "2": 1, "3": 0, "6": 0}
    curate_ptbxl(official, tmp_path / "mi", both="mi")
    assert labels_of(tmp_path / "mi") == {"1": 0, "2": 1, "3": 1, "5": 1, "6": 0}
    with pytest.raises(ValueError, match="'keep'"):
        curate_ptbxl(official, tmp_path / "x", both="keep")
    with pytest.raises(FileNotFoundError, match="scp_statements"):
        curate_ptbxl(tmp_path / "nowhere", tmp_path / "x")


def test_arrays_become_recordings_in_normalised_units(tmp_path: Path) -> None:
    write_arrays(tmp_path)
    record = curate_ptbxl(tmp_path, tmp_path / "out")
    assert record["units"] == "normalised" and record["counts"]["train"] == {"MI": 3, "NORM": 3}
    read = read_ecg(tmp_path / "out" / "ecg" / "00003")
    assert read.units == "normalised" and read.lead_names == list(LEADS) and read.sampling_rate == 100
    with np.load(tmp_path / "arrays.npz") as content:
        assert np.abs(read.signal - content["signal"][3].T).max() < 1e-3
    curate_ptbxl(tmp_path, tmp_path / "likely", likelihood=50)
    assert set(labels_of(tmp_path / "likely").values()) == {0}


def test_all_recordings_of_several_array_files_can_test(tmp_path: Path) -> None:
    """Arrays of other folds, in several files, for a model that is there: every record tests."""
    write_arrays(tmp_path)
    table = pd.read_csv(tmp_path / "labels.csv")
    with np.load(tmp_path / "arrays.npz") as content:
        signal = content["signal"]
    for name, rows in (("first", table.index < 5), ("second", table.index >= 5)):
        table[rows].to_csv(tmp_path / f"{name}.csv", index=False)
        np.savez(tmp_path / f"{name}.npz", ecg_id=table.ecg_id[rows], signal=signal[rows])
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "arrays.npz").unlink()
    record = curate_ptbxl(tmp_path, tmp_path / "out", all_test=True)
    assert record["counts"]["test"] == {"MI": 4, "NORM": 4} and record["rules"]["validation_fold"] is None
    assert np.abs(read_ecg(tmp_path / "out" / "ecg" / "00006").signal - signal[6].T).max() < 1e-3
    table.head(6).to_csv(tmp_path / "second.csv", index=False)
    with pytest.raises(ValueError, match="5 ecg_id stand twice"):
        curate_ptbxl(tmp_path, tmp_path / "out", all_test=True)
    (tmp_path / "second.npz").unlink()
    table[5:].to_csv(tmp_path / "second.csv", index=False)
    with pytest.raises(ValueError, match=r"first\.npz: no signal of 3 labelled recordings, for example of 5"):
        curate_ptbxl(tmp_path, tmp_path / "new", all_test=True)


def test_a_model_is_evaluated_on_recordings_of_other_folds(tmp_path: Path) -> None:
    """The lines of docs/ptbxl.md: folds without a test fold train and validate, other folds are given later."""
    (tmp_path / "first").mkdir()
    (tmp_path / "further").mkdir()
    write_arrays(tmp_path / "first", folds=[1, 2, 3, 4, 9, 9, 9, 9])
    write_arrays(tmp_path / "further", folds=[3, 3, 8, 8, 9, 10, 10, 10], first=8)
    out, config = tmp_path / "out", CONFIGS / "ptbxl_mi.yaml"
    model, data, further = out / "model", out / "data", out / "further-data"
    small = "model.overrides={ecg_config: {num_hidden_layers: 1}, labs_config: {num_hidden_layers: 1}}"
    settings = [f"output={model}", f"data.directory={data}", small, "optimisation.epochs=1"]
    lines = [
        ["curate-ptbxl", tmp_path / "first", "--out", out / "cohort"],
        ["prepare", out / "cohort", "--out", data, "--config", config, "--workers", 1],
        ["train", config, *(word for setting in settings for word in ("--set", setting))],
        ["evaluate", model, data, "--split", "validation", "--out", out / "fold9", "--bootstrap", 100],
        ["curate-ptbxl", tmp_path / "further", "--all-test", "--out", out / "further"],
        ["prepare", out / "further", "--out", further, "--model", model, "--workers", 1],
        ["evaluate", model, further, "--validation", data, "--out", out / "further-results", "--bootstrap", 100],
    ]
    for line in lines:
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in line])
        assert not stopped.value.code, line
    for name, n in (("fold9", 4), ("further-results", 8)):
        metrics = json.loads((out / name / "metrics.json").read_text())
        assert [metrics[TASK][subset]["n"] for subset in ("labs", "ecg", "labs+ecg")] == [n, n, n]
        assert not any("could not be checked" in warning for warning in metrics["warnings"])


def test_recordings_without_a_label_can_be_kept_for_pretraining(official: Path, tmp_path: Path) -> None:
    record = curate_ptbxl(official, tmp_path / "out", all_records=True)
    rows = read_cohort_table(tmp_path / "out" / "cohort.parquet", tasks={TASK: MI_TASK}).rows
    assert {row.id: row.labels.get(TASK) for row in rows} == {"1": 0, "2": 1, "3": None, "4": None, "5": 1, "6": 0}
    assert record["counts"]["train"] == {"MI": 0, "NORM": 1, "unlabelled": 1}
    flow = json.loads((tmp_path / "out" / "flow.json").read_text())
    assert [entry["admissions"] for entry in flow] == [6, 6, 2, 2, 2]


def test_arrays_in_another_lead_order_are_refused(tmp_path: Path) -> None:
    order = list(range(12))
    order[4], order[5] = order[5], order[4]  # aVF before aVL, as MIMIC stores them
    write_arrays(tmp_path, order)
    with pytest.raises(ValueError, match="aVL"):
        curate_ptbxl(tmp_path, tmp_path / "out")


def test_the_configuration_file_names_the_same_task() -> None:
    content = yaml.safe_load((CONFIGS / "ptbxl_mi.yaml").read_text())
    assert {name: content["tasks"][TASK][name] for name in MI_TASK} == MI_TASK


def test_real_recordings_of_ptbxl(shared_dir: Path, processor: TgmmProcessor, tmp_path: Path) -> None:
    """1,625 real records; the selection counted independently, a few of them prepared."""
    source = tmp_path / "ptbxl"
    source.mkdir()
    table = pd.read_csv(shared_dir / "data" / "ptbxl" / "labels_folds1-9.csv")
    wanted = table.super_class.map(lambda text: ("'MI'" in text) - ("'NORM'" in text))
    few = pd.concat([table[wanted == 1].head(12), table[wanted == -1].head(12), table[wanted == 0].head(12)])
    few.to_csv(source / "labels.csv", index=False)
    for name in ("scp_statements.csv", "ptbxl_100hz_folds1-9.npz"):
        (source / name).symlink_to(shared_dir / "data" / "ptbxl" / name)
    record = curate_ptbxl(source, tmp_path / "out", validation_fold=8, test_fold=9)
    assert record["selections"][0]["mi_without_norm"] == record["selections"][0]["norm_without_mi"] == 12
    manifest = read_cohort_table(tmp_path / "out" / "cohort.parquet", tasks={TASK: MI_TASK})
    folds = few.set_index(few.ecg_id.astype(str)).strat_fold
    assert all(row.split == {8: "validation", 9: "test"}.get(folds[row.id], "train") for row in manifest.rows)
    preparer = make_preparer(manifest, processor)
    for row in manifest.rows[:3]:
        prepared = preparer.prepare(row)
        assert prepared.example is not None and prepared.refused == []
        assert prepared.example["ecg"].shape == (2500, 12) and all(prepared.example["ecg_mask"])
