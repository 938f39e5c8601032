"""Linear probes of a saved model's encoders, and late fusion: against scikit-learn and the model's own logits."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from closeness import assert_close
from datasets.arrow_writer import ArrowWriter
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from tgmm_hf.cli import app
from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.data.tokenizer import task_texts, train_tokenizer
from tgmm_hf.evaluation.simple_model_evaluation import evaluate_simple_models
from tgmm_hf.evaluation.simple_models import PROBE_CS
from tgmm_hf.evaluation.unseen import SEEN, UNKNOWN, training_directory
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import default_processor

SIZES = {"train": 90, "validation": 30, "test": 40}
SIMPLE, ANSWERS = "late fusion of simple models", "late fusion of the model's own answers"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny model of random weights: what its encoders say of a record is enough for a probe."""
    torch.manual_seed(0)
    config = TgmmConfig.tiny()
    tokenizer = train_tokenizer(task_texts(config.tasks), vocab_size=300)
    config.tokenize_tasks(tokenizer)
    model, directory = TgmmModel(config).eval(), tmp_path_factory.mktemp("model") / "model"
    model.initialise_texts()
    model.save_pretrained(directory)
    processor = default_processor(config, tokenizer)
    processor.save_pretrained(directory)
    return directory, model, processor


def invented_row(name: str, generator: np.random.Generator, geometry: tuple[int, ...]) -> dict:
    """The sick have a faster ECG, a brighter echo and more NT-proBNP; each may be missing, not all of them."""
    sick, given = bool(generator.random() < 0.5), generator.random(3) < 0.8
    given[generator.integers(3)] = True
    views = sorted(generator.choice(11, 1 + sick, replace=False).tolist()) if given[2] else []
    pace = np.exp(generator.normal(0.4 if sick else 0.0, 0.3))
    seconds = np.arange(2500)[:, None] / 250
    ecg = np.sin(2 * np.pi * pace * seconds + np.arange(12)) + generator.normal(0, 0.1, (2500, 12))
    level = generator.normal(140 if sick else 110, 20)
    time, leaving = generator.exponential(300 / pace**4), generator.uniform(100, 900)
    return {
        "id": name,
        "patient_id": name,
        "labs": json.dumps({"NTproBNP": float(np.exp(generator.normal(8 if sick else 7, 1)))}) if given[0] else "",
        "ecg": ecg.astype(np.float32) if given[1] else np.zeros((0, 12), np.float32),
        "ecg_mask": [bool(given[1])] * 12,
        "clips": generator.normal(level, 5, (len(views), *geometry)).clip(0, 255).astype(np.uint8),
        "clip_views": views,
        "clip_frames": [geometry[0]] * len(views),
        "label_hf_diagnosis": None if name == "test3" else int(sick),
        "label_other": int(sick),
        "time_hf_risk": float(min(time, leaving)),
        "event_hf_risk": int(time < leaving),
    }


def write_data(directory, processor, change=lambda split, row: row):
    tasks = {"hf_diagnosis": "diagnosis", "other": "diagnosis", "hf_risk": "prognosis"}
    image_processor = processor.image_processor
    geometry = (image_processor.num_frames, image_processor.size, image_processor.size * 3)
    preparer = AdmissionPreparer(processor.feature_extractor, image_processor, directory, tasks)
    generator = np.random.default_rng(0)
    for split, size in SIZES.items():
        (directory / split).mkdir(parents=True)
        with ArrowWriter(features=preparer.features, path=str(directory / split / "00000.arrow")) as writer:
            for number in range(size):
                row = change(split, invented_row(f"{split}{number}", generator, geometry))
                writer.write(preparer.features.encode_example(row))
            writer.finalize()
    (directory / "prepare.json").write_text(json.dumps({"data_hash": "invented"}))
    return directory


@pytest.fixture(scope="module")
def data(saved, tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), saved[2])


@pytest.fixture(scope="module")
def result(saved, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    record = evaluate_simple_models(data, out, model=saved[0], bootstrap=20, progress=False)
    return record, pd.read_parquet(out / "predictions.parquet")


@pytest.fixture(scope="module")
def batches(saved, data):
    """Every split as one batch of model inputs."""
    collator = TgmmCollator(saved[2], saved[1].config, training=False)
    return {split: collator([rows[i] for i in range(len(rows))]) for split, rows in load_prepared(data).items()}


def of(predictions: pd.DataFrame, task: str, name: str) -> pd.DataFrame:
    rows = predictions[(predictions["task"] == task) & (predictions["simple_model"] == name)]
    return rows.set_index("id")


@torch.no_grad()
def summaries(model: TgmmModel, modality: str, batch: dict) -> tuple[np.ndarray, np.ndarray]:
    """The encoders themselves on one split: summaries of those who have the modality, and who they are."""
    if modality == "labs":
        present = batch["attention_mask"].bool().any(1)
        output = model.labs_encoder(batch["input_ids"][present], attention_mask=batch["attention_mask"][present])
        return output.last_hidden_state[:, 0].numpy(), present.numpy()
    if modality == "ecg":
        present = batch["ecg_mask"].any(1)
        output = model.ecg_encoder(batch["ecg_values"][present], ecg_mask=batch["ecg_mask"][present])
        return output.pooler_output.numpy(), present.numpy()
    present = batch["view_mask"].any(1)
    of_patients = [
        model.echo_encoder(clips[views.bool()]).pooler_output.mean(0)
        for clips, views in zip(batch["pixel_values_videos"][present], batch["view_mask"][present], strict=True)
    ]
    return torch.stack(of_patients).numpy(), present.numpy()


@pytest.mark.parametrize(
    ("modality", "name"), [("labs", "labs text probe"), ("ecg", "ECG probe"), ("echo", "echo probe")]
)
def test_a_probe_is_the_regression_of_scikit_learn_on_the_encoders_summaries(saved, result, batches, modality, name):
    found, known, names = {}, {}, {}
    for split, batch in batches.items():
        features, present = summaries(saved[1], modality, batch)
        answers = batch["labels"]["hf_diagnosis"]
        some = answers["mask"].numpy()[present]
        found[split], known[split] = features[some], answers["label"].numpy()[present][some]
        names[split] = np.array(batch["id"])[present][some]
    scaler = StandardScaler().fit(found["train"])
    fits = {
        c: LogisticRegression(C=c, max_iter=5000).fit(scaler.transform(found["train"]), known["train"])
        for c in PROBE_CS
    }
    scores = {c: {s: fit.predict_proba(scaler.transform(found[s]))[:, 1] for s in found} for c, fit in fits.items()}
    entry = result[0]["tasks"]["hf_diagnosis"][name]
    rows = of(result[1], "hf_diagnosis", name)
    assert list(rows.index) == list(names["test"]) and entry["n"] == len(rows) < SIZES["test"]
    assert rows["probability"].to_numpy() == pytest.approx(scores[entry["setting"]]["test"], abs=1e-4)
    chosen_by = {c: roc_auc_score(known["validation"], each["validation"]) for c, each in scores.items()}
    assert chosen_by[entry["setting"]] == pytest.approx(max(chosen_by.values()), abs=0.01)
    assert entry["trained_on"] == len(known["train"])


def test_probes_find_what_the_recordings_hold(result):
    diagnosis, risk = result[0]["tasks"]["hf_diagnosis"], result[0]["tasks"]["hf_risk"]
    assert diagnosis["ECG probe"]["auc"] > 0.65 and diagnosis["echo probe"]["auc"] > 0.65
    assert risk["ECG probe"]["c_index"] > 0.6  # the pace of the ECG is the hazard


def test_late_fusion_of_simple_models_is_the_mean_over_what_a_patient_has(result):
    parts = ("logistic regression on labs", "ECG probe", "echo probe")
    chances = pd.DataFrame({name: of(result[1], "hf_diagnosis", name)["probability"] for name in parts})
    assert chances.isna().any(axis=1).any() and "test3" not in chances.index  # of unknown outcome
    fused = of(result[1], "hf_diagnosis", SIMPLE)
    expected = expit(logit(chances).mean(axis=1))
    assert fused["probability"].to_dict() == pytest.approx(expected.to_dict())
    assert set(fused.index) == set(chances.index)
    entry = result[0]["tasks"]["hf_diagnosis"][SIMPLE]
    assert entry["of"] == ["labs", "ecg", "echo"] and entry["n"] == len(fused) == SIZES["test"] - 1
    assert entry["auc"] == pytest.approx(roc_auc_score(fused["label"], expected[fused.index]), abs=1e-9)
    assert result[0]["tasks"]["hf_risk"][SIMPLE]["of"] == ["labs", "ecg", "echo"]


@torch.no_grad()
def test_late_fusion_of_answers_is_the_mean_of_the_models_logits(saved, result, batches):
    model, log_odds, risks = saved[1], {}, {}
    for split in ("validation", "test"):
        inputs = {name: x for name, x in batches[split].items() if isinstance(x, torch.Tensor)}
        encoded = model.encode(**inputs)
        for task, answers in (("hf_diagnosis", log_odds), ("hf_risk", risks)):
            alone = [model.answer(encoded.keep((m,)), task).logits for m in ("labs", "ecg", "echo")]
            answers[split] = torch.stack([x[:, 1] - x[:, 0] for x in alone], 1).numpy()  # NaN where absent
    place = {name: index for index, name in enumerate(batches["test"]["id"])}
    rows = of(result[1], "hf_diagnosis", ANSWERS)
    expected = expit(np.nanmean(log_odds["test"], axis=1))[[place[name] for name in rows.index]]
    assert rows["probability"].to_numpy() == pytest.approx(expected, abs=1e-5)
    mean, deviation = np.nanmean(risks["validation"], axis=0), np.nanstd(risks["validation"], axis=0, ddof=1)
    expected = np.nanmean((risks["test"] - mean) / deviation, axis=1)
    assert of(result[1], "hf_risk", ANSWERS)["risk"].to_numpy() == pytest.approx(expected, abs=1e-2)


def test_a_task_that_the_model_does_not_know_is_probed_and_not_answered(result):
    other = result[0]["tasks"]["other"]
    assert other[ANSWERS] == {"missing": "the model has no diagnosis other with two answers"}
    assert other["ECG probe"]["auc"] > 0.65


@pytest.fixture(scope="module")
def turned(saved, tmp_path_factory):
    """The command on the same data but for the outcomes of test patients, with ejection fractions that say nothing."""
    directory = tmp_path_factory.mktemp("turned")

    def turn(split: str, row: dict) -> dict:
        return {**row, "label_other": 1 - row["label_other"], "time_hf_risk": 1.0} if split == "test" else row

    data = write_data(directory / "data", saved[2], turn)
    ids = [f"{split}{number}" for split, size in SIZES.items() for number in range(size)]
    values = np.random.default_rng(2).uniform(20, 70, len(ids))
    (directory / "cohort").mkdir()
    pd.DataFrame({"id": ids, "lvef": values}).to_parquet(directory / "cohort" / "cohort.parquet")
    options = ["--model", str(saved[0]), "--lvef", str(directory / "cohort"), "--bootstrap", "100"]
    done = CliRunner().invoke(app, ["simple-models", str(data), "--out", str(directory / "out"), *options])
    assert done.exit_code == 0, done.output
    return done.output, directory / "out"


def test_test_outcomes_change_no_prediction(turned, result):
    again = (
        pd.read_parquet(turned[1] / "predictions.parquet").query("simple_model != 'LVEF alone'").reset_index(drop=True)
    )
    assert list(again["id"]) == list(result[1]["id"]) and not again["label"].equals(result[1]["label"])
    for column in ("probability", "risk"):
        assert_close(again[column].to_numpy(), result[1][column].to_numpy(), atol=1e-5)  # of iterated fits


def test_the_command_takes_a_model_and_ejection_fractions(saved, turned):
    output, out = turned
    assert UNKNOWN in output and "needs --" not in output
    record = json.loads((out / "simple_models.json").read_text())
    assert record["model"] == str(saved[0]) and record["tasks"]["hf_diagnosis"]["LVEF alone"]["n"] == SIZES["test"] - 1


def test_missing_model_is_named(data, tmp_path):
    done = CliRunner().invoke(app, ["simple-models", str(data), "--out", str(tmp_path / "no"), "--model", "/no/model"])
    assert done.exit_code != 0 and "no directory /no/model" in str(done.exception)


def test_test_patients_that_the_model_was_trained_on_are_refused(saved, data, result, tmp_path):
    assert UNKNOWN in result[0]["warnings"] and result[0]["weights"].startswith("sha256:")
    directory = tmp_path / "model"
    directory.symlink_to(saved[0])
    seen = {"data_hash": "of its training", "complete": True, "patients": ["test7"]}
    training_directory(directory).mkdir()
    (training_directory(directory) / SEEN).write_text(json.dumps(seen))
    run = {"data_hash": "of its training", "run": {"model": {"checkpoint": None}}}
    (saved[0] / "run.json").write_text(json.dumps(run))
    try:
        with pytest.raises(ValueError, match="1 of the patients to be scored were in a training"):
            evaluate_simple_models(data, tmp_path / "out", model=directory, progress=False)
    finally:
        (saved[0] / "run.json").unlink()
    assert not (tmp_path / "out").exists()
