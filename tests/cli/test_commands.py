"""The `tgmm` commands from end to end on a small synthetic cohort, and their answers when something is wrong."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from safetensors.torch import load_file, save_file

from tgmm_hf.cli import main
from tgmm_hf.data.manifest import read_cohort_table

TRAINING = """
output: {root}/model
data: {{directory: {root}/data}}
tasks: {{hf_diagnosis: , hf_risk: , retrieval: }}
model:
  overrides:
    echo_config: {{stage_depths: [1, 1], stage_widths: [8, 16], stage_heads: [1, 2], hidden_size: 16}}
    ecg_config: {{num_hidden_layers: 1}}
optimisation: {{epochs: 1, batch_size: 16, logging_steps: 1}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """synth, prepare, train and evaluate, as `make demo` runs them, in miniature."""
    root = tmp_path_factory.mktemp("main_job")
    small = ("--frames", 4, "--height", 96, "--width", 128)
    (root / "run.yaml").write_text(TRAINING.format(root=root))
    assert run("synth", root / "cohort", "--patients", 56, "--evidence", "strong", *small, "--workers", 1) == 0
    assert run("prepare", root / "cohort", "--out", root / "data", "--workers", 1) == 0
    assert run("train", root / "run.yaml") == 0
    assert (
        run("evaluate", root / "model", root / "data", "--bayes", root / "cohort", "--out", root, "--bootstrap", 100)
        == 0
    )
    return root


def test_main_job_leaves_its_files(root: Path) -> None:
    for name in ("cohort/bayes.json", "data/prepare.json", "model/run.json", "metrics.json", "report.html"):
        assert (root / name).stat().st_size > 0, name
    metrics = json.loads((root / "metrics.json").read_text())
    assert metrics["data_hash"] == json.loads((root / "model" / "run.json").read_text())["data_hash"]
    tri_modal = metrics["hf_diagnosis"]["labs+ecg+echo"]
    assert {"auc", "auc_ci", "accuracy", "accuracy_ci", "bayes_auc", "n"} <= set(tri_modal)
    assert set(metrics["retrieval"]) == {f"{a}->{b}" for a in MODALITIES for b in MODALITIES if a != b}


MODALITIES = ("labs", "ecg", "echo")


def test_predict_one_patient_from_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_cohort_table(root / "cohort" / "cohort.parquet")
    patient = next(row for row in manifest.rows if row.ecg_path and row.echo_paths and row.labs)
    (root / "row.json").write_text(json.dumps(patient.labs))
    words = ["predict", root / "model", "--id", "mine", "--labs", root / "row.json"]
    words += ["--ecg", manifest.root / patient.ecg_path, "--echo", (manifest.root / patient.echo_paths[0]).parent]
    words += ["--views", root / "cohort" / "views.csv", "--out", root / "prediction.json"]
    assert run(*words) == 0
    prediction = json.loads((root / "prediction.json").read_text())
    assert prediction["id"] == "mine"
    assert math.isclose(sum(prediction["hf_diagnosis"]["probabilities"].values()), 1, abs_tol=1e-5)
    assert all(prediction["used"][name] for name in MODALITIES)
    assert "mine: used" in capsys.readouterr().out


@pytest.mark.slow
def test_explanations_are_checked_and_a_second_run_reads_what_is_there(root: Path) -> None:
    pytest.importorskip("captum")
    words = ["explain-check", root / "model", root / "data", "--cohort", root / "cohort", "--patients", 2]
    words += ["--out", root / "explanation", "--bootstrap", 100, "--beside-model"]
    assert run(*words) == 0
    check = json.loads((root / "explanation" / "explanation_check.json").read_text())
    assert check["patients"] == 2 and set(check["modalities"]) == set(MODALITIES)
    for methods in check["modalities"].values():
        for entry in methods.values():
            assert 0 < entry["chance"]["mean"] < 1 and entry["deletion_gain"]["n"] == 2
            assert -1 <= entry["correlation all"]["mean"] <= 1
    assert json.loads((root / "model" / "explanation_check.json").read_text()) == check
    kept = {path: path.stat().st_mtime_ns for path in (root / "explanation" / "patients").iterdir()}
    assert run(*words) == 0
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert run(*words, "--seed", 1) == 1


def test_predict_every_patient_of_a_table(root: Path) -> None:
    table = root / "cohort" / "cohort.parquet"
    out = root / "predictions.json"
    assert run("predict", root / "model", "--manifest", table, "--split", "test", "--out", out) == 0
    expected = [row.id for row in read_cohort_table(table).rows if row.split == "test"]
    assert [prediction["id"] for prediction in json.loads(out.read_text())] == expected
    assert run("predict", root / "model", "--manifest", table, "--limit", 2, "--task", "hf_risk", "--out", out) == 0
    assert [("hf_risk" in p, "hf_diagnosis" in p) for p in json.loads(out.read_text())] == [(True, False)] * 2


def test_predict_a_table_of_ids_and_data(root: Path) -> None:
    (root / "to_predict.csv").write_text("id,labs.age,labs.Creatinine\na,71,1.4\nb,,\n")
    out = root / "to_predict.json"
    assert run("predict", root / "model", "--manifest", root / "to_predict.csv", "--out", out) == 0
    first, second = json.loads(out.read_text())
    assert first["used"]["labs"] == ["age", "Creatinine"]
    assert (second["id"], any(second["used"].values())) == ("b", False)


def test_tables_stand_beside_the_predictions(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = root / "tables" / "predictions.json"
    words = ["predict", root / "model", "--manifest", root / "cohort", "--limit", 3, "--out", out]  # a directory
    assert run(*words) == 0
    said = capsys.readouterr().out
    with (out.parent / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    predictions = json.loads(out.read_text())
    assert [row["id"] for row in rows] == [prediction["id"] for prediction in predictions]
    for row, prediction in zip(rows, predictions, strict=True):
        p = prediction["hf_diagnosis"]["probabilities"]["heart failure"]
        assert math.isclose(float(row["hf_diagnosis.heart failure"]), p)
        assert row["modalities"].split("+") == [name for name in MODALITIES if prediction["used"][name]]
        assert len(prediction["files"]["echo"]) == len(prediction["used"]["echo"])
    assert "refused.csv" in said and str(root) not in (out.parent / "refused.csv").read_text()
    assert run(*words) == 0  # its own files are replaced
    (out.parent / "refused.csv").write_text("mine")
    assert run(*words) == 1
    assert (out.parent / "refused.csv").read_text() == "mine"


def test_a_lab_row_may_be_a_csv_file(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", root / "model", "--out", root / "csv_row.json", "--labs"]
    (root / "one.csv").write_text("age,Creatinine (umol/L)\n71,124\n")
    assert run(*words, root / "one.csv") == 0
    assert json.loads((root / "csv_row.json").read_text())["used"]["labs"] == ["age", "Creatinine"]
    assert "patient -" not in capsys.readouterr().out
    (root / "two.csv").write_text("age\n71\n72\n")
    assert run(*words, root / "two.csv") == 1
    assert "--manifest" in capsys.readouterr().err


def test_a_folder_for_an_ecg_is_refused_with_what_it_holds(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(row.ecg_path for row in read_cohort_table(root / "cohort" / "cohort.parquet").rows if row.ecg_path)
    folder = (root / "cohort" / path).parent
    assert run("predict", root / "model", "--ecg", folder, "--out", root / "none.json") == 2
    message = " ".join(capsys.readouterr().err.replace("\u2502", " ").split())
    assert "--ecg" in message and "1 ECG recording" in message


def test_prepare_for_the_tasks_of_a_configuration(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{n},{n},{split},{60 + n},{n % 2}" for n, split in enumerate(("train", "validation", "test"))]
    (root / "own.csv").write_text("\n".join(["id,patient_id,split,labs.age,label.rhythm", *rows]) + "\n")
    task = "{kind: diagnosis, question: 'Which rhythm?', candidates: [sinus, paced], learnable_phrase: rhythm}"
    (root / "own.yaml").write_text(f"output: x\ndata: {{directory: x}}\ntasks: {{rhythm: {task}}}\n")
    words = ("prepare", root / "own.csv", "--out", root / "own")
    assert run(*words) == 1
    assert "names no task of the model" in capsys.readouterr().err
    assert run(*words, "--config", root / "own.yaml", "--workers", 1) == 0
    assert json.loads((root / "own" / "prepare.json").read_text())["tasks"] == {"rhythm": "diagnosis"}


def test_prepare_in_parts_and_export(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{n},{n},{split},{60 + n}" for n, split in enumerate(("train", "validation", "test"))]
    (root / "parts.csv").write_text("\n".join(["id,patient_id,split,labs.age", *rows]) + "\n")
    out = root / "parts"
    words = ("prepare", root / "parts.csv", "--out", out)
    assert run(*words, "--dry-run", "--workers", 2) == 0
    assert "3 admissions to prepare" in capsys.readouterr().out and not out.exists()
    assert run(*words, "--shard", "2/2", "--workers", 1) == 0
    assert [path.name for path in out.iterdir()] == ["validation"]
    for wrong in ("0/2", "3/2", "1", "a/b"):
        assert run(*words, "--shard", wrong) == 2
        assert f"--shard {wrong}: write I/N with I from 1" in " ".join(capsys.readouterr().err.split())
    assert run("export-parquet", out, root / "parquet") == 1
    assert "has no prepare.json" in capsys.readouterr().err
    assert run(*words, "--workers", 1) == 0
    assert json.loads((out / "prepare.json").read_text())["counts"]["test"]["records"] == 1
    assert run("export-parquet", out, root / "parquet") == 0
    assert "3 files" in capsys.readouterr().out


def test_a_named_file_that_is_not_there_is_a_wrong_call(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "age.json").write_text('{"age": 71}')
    words = ["predict", root / "model", "--labs", root / "age.json", "--ecg", root / "nosuch", "--echo", root / "no"]
    assert run(*words, "--out", root / "none.json") == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "there is no" in message and "--ecg" in message and "--echo" in message and "--labs" not in message
    assert "nosuch" not in message  # a path may name the patient
    assert not (root / "none.json").exists()


def test_what_cannot_be_read_is_refused_and_the_rest_used(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "broken.dcm").write_bytes(b"not a DICOM file")
    (root / "age.json").write_text('{"age": 71}')
    words = ["predict", root / "model", "--ecg", root / "broken.dcm", "--out", root / "p.json"]
    assert run(*words, "--labs", root / "age.json") == 0
    prediction = json.loads((root / "p.json").read_text())
    assert [entry["item"] for entry in prediction["refused"]] == ["ecg"]
    assert "refused: 1 item\n" in capsys.readouterr().out
    assert run(*words) == 1  # nothing left to answer from
    assert "0 of 1 patients predicted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("view_embeddings.weight", None, "lacks 1 of the model's weights (view_embeddings.weight"),
        ("echo_pool.memory_norm.weight", "echo_pool.memory_norm.bias", "does not know (echo_pool.memory_norm.bias"),
    ],
)
def test_a_model_of_other_weights_is_refused(
    old: str, new: str | None, message: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers would fill a gap with random numbers, leave out what it does not know, and only log it."""
    shutil.copytree(root / "model", tmp_path / "model")
    (weights,) = (tmp_path / "model").glob("*.safetensors")
    tensors = load_file(weights)
    if new is None:
        del tensors[old]
    else:
        tensors[new] = tensors[old].clone()
    save_file(tensors, weights, metadata={"format": "pt"})
    (root / "age.json").write_text('{"age": 71}')
    assert run("predict", tmp_path / "model", "--labs", root / "age.json", "--out", tmp_path / "p.json") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "p.json").exists()


def test_notes_and_reasons_are_said_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was understood otherwise than written is said on the terminal too; a clip without a view, by its reason."""
    manifest = read_cohort_table(root / "cohort" / "cohort.parquet")
    clip = manifest.root / next(row for row in manifest.rows if row.echo_paths).echo_paths[0]
    (root / "row.json").write_text('{"Creatinine": [124, "umol/L"], "Kreatinin": 3}')
    (root / "views.csv").write_text("dicom_filepath,view\nother.dcm,A4C\n")
    words = ["predict", root / "model", "--labs", root / "row.json", "--echo", clip, "--views", root / "views.csv"]
    assert run(*words, "--out", root / "p.json") == 0
    said = capsys.readouterr().out
    assert "notes:" in said and "Kreatinin" in said and "Creatinine was converted" in said
    assert said.count("none of the 1 view names given is for this file") == 1
    assert "no clip of the study can be used (1 refused)" in said


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "none.yaml"], 1, "no configuration none.yaml"),
        (["prepare", "none.csv", "--out", "x"], 1, "no cohort table none.csv"),
        (["evaluate", "none", "x", "--out", "x"], 1, "There is no directory none"),
        (["predict", "none", "--ecg", "x"], 1, "There is no directory none"),
        (["predict", "none"], 2, "give --manifest, or at least one of"),
        (["train"], 2, "Missing argument"),
        (["synth", "x", "--patients", "0"], 2, "greater than or equal to 7"),
        (["nothing"], 2, "No such command"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    words: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TGMM_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main(["train", "none.yaml"])


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["predict", "model", "--labs", "a.json", "--time-limit", "9"], "--time-limit"),
        (["predict", "model", "--labs", "a.json", "--memory-limit", "9"], "--memory-limit"),
        (["explain", "model", "--xray", "a.png", "--text", "b", "--id", "c"], "--id"),
        (["explain", "model", "--ecg", "a", "--finding", "b", "--no-contributions"], "--contributions"),
        (["explain", "model", "--ecg", "a", "--against", "b"], "--against"),
        (["explain-check", "model", "data", "--cohort", "a", "--out", "b", "--against", "c"], "--against"),
        (["app", "model", "--no-examples", "--examples", "a"], "--examples"),
        (["app", "model", "--search-index", ".", "--examples", "a"], "--examples"),
    ],
)
def test_an_option_without_effect_is_refused(words: list[str], option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert option in capsys.readouterr().err
