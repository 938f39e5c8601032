"""The whole command on a real tiny model and a small prepared synthetic cohort."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from closeness import assert_close

from tgmm_hf.cohorts.synthetic.cohort import write_cohort
from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prepare import load_prepared, prepare
from tgmm_hf.data.tokenizer import task_texts, train_tokenizer
from tgmm_hf.evaluation.baseline_hazards import fit_baseline_hazards
from tgmm_hf.evaluation.predictions import collect_predictions
from tgmm_hf.evaluation.unseen import SEEN, UNKNOWN, check_unseen, seen_patients, training_directory
from tgmm_hf.layers.hazards import cumulative_incidence
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import default_processor
from tgmm_hf.reports.evaluation_report import evaluate_with_report as evaluate
from tgmm_hf.utils.names import SUBSET_NAMES

PATIENTS = 14
LACKING = {"labs": 6, "ecg": 5, "echo": 4}
"""Row i has no labs if i % 6 == 5, and so on."""


@pytest.fixture(scope="module")
def model_and_processor():
    torch.manual_seed(0)
    config = TgmmConfig.tiny()
    tokenizer = train_tokenizer(task_texts(config.tasks), vocab_size=300)
    config.tokenize_tasks(tokenizer)
    model = TgmmModel(config).eval()
    model.initialise_texts()
    return model, default_processor(config, tokenizer)


@pytest.fixture(scope="module")
def cohort_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cohort")
    write_cohort(directory, PATIENTS, workers=1, frames=18, height=96, width=128, all_test=True)
    return directory


@pytest.fixture(scope="module")
def manifest(cohort_dir):
    """The cohort's table with modalities and outcomes taken away here and there."""
    table = pd.read_parquet(cohort_dir / "cohort.parquet")
    index = np.arange(len(table))
    prefixes = {"labs": ("labs.", "unit."), "ecg": ("ecg_",), "echo": ("echo_",)}
    for modality, every in LACKING.items():
        for column in table.columns[table.columns.str.startswith(prefixes[modality])]:
            table[column] = table[column].where(index % every != every - 1)
    table["label.hf_diagnosis"] = pd.array([None, *(index[1:] % 2)], dtype="Int64")
    table["time.hf_risk"], table["event.hf_risk"] = 30.0 * (index + 1), index % 3
    table.to_parquet(cohort_dir / "gaps.parquet")
    return table


@pytest.fixture(scope="module")
def data_dir(model_and_processor, cohort_dir, manifest, tmp_path_factory):
    model, processor = model_and_processor
    directory = tmp_path_factory.mktemp("data")
    prepare(cohort_dir / "gaps.parquet", directory, processor, tasks=model.config.tasks)
    return directory


@pytest.fixture(scope="module")
def evaluated(model_and_processor, cohort_dir, data_dir, tmp_path_factory):
    model, processor = model_and_processor
    saved, out = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("out")
    model.save_pretrained(saved)
    processor.save_pretrained(saved)
    return saved, out, evaluate(saved, data_dir, out, bayes=cohort_dir, bootstrap=50, batch_size=5, progress=False)


def test_a_saved_model_is_evaluated_under_all_combinations(evaluated, data_dir):
    saved, out, metrics = evaluated
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert (metrics["model"], metrics["split"], metrics["seed"]) == (str(saved), "test", 0)
    assert metrics["data_hash"] == json.loads((data_dir / "prepare.json").read_text())["data_hash"]
    assert metrics["versions"]["numpy"] == np.__version__
    rows = load_prepared(data_dir)["test"]
    present = {
        "labs": np.array([row["labs"] != "" for row in rows]),
        "ecg": np.array([any(row["ecg_mask"]) for row in rows]),
        "echo": np.array([len(row["clip_views"]) > 0 for row in rows]),
    }
    assert all(0 < mask.sum() < PATIENTS for mask in present.values())
    for subset in SUBSET_NAMES:
        have = np.flatnonzero(np.all([present[m] for m in subset.split("+")], axis=0))
        assert metrics["hf_diagnosis"][subset]["n"] == (have != 0).sum()
        assert metrics["hf_risk"][subset]["n"] == len(have)
        assert metrics["hf_risk"][subset]["events"] == (have % 3 == 1).sum()
        assert metrics["hf_diagnosis"][subset]["bayes_auc"] is not None
    slots = metrics["slots"]["hf_diagnosis"]
    assert slots["n"] == np.all(list(present.values()), axis=0).sum()
    assert slots["masked"]["all shared"]["n"] == metrics["hf_diagnosis"]["labs+ecg+echo"]["n"]
    assert metrics["retrieval"]["labs->ecg"]["lrap_3"] is not None
    assert metrics["retrieval"]["labs->ecg"]["bayes_lrap_3_population"] > 0.5
    assert "no clinical evidence" in (out / "report.html").read_text()


@pytest.mark.slow
def test_explanations_are_averaged_over_groups(evaluated, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("tgmm_hf.explanation.labs.ORDERS", 1)
    saved, _, plain = evaluated
    options = {"tasks": ["hf_diagnosis"], "bootstrap": 20, "progress": False}
    metrics = evaluate(saved, data_dir, tmp_path, explained=PATIENTS, **options)
    averages = metrics["explanations"]["hf_diagnosis"]
    assert averages["target"] == "heart failure" and "explanations" not in plain
    everybody, positive = averages["groups"]["all patients"], averages["groups"]["positive"]
    assert everybody["n"] == PATIENTS
    assert positive == {"n": PATIENTS // 2}  # too few for an average
    rows = load_prepared(data_dir)["test"]
    with_ecg = sum(any(row["ecg_mask"]) for row in rows)
    assert everybody["modalities"]["ecg"]["n"] == with_ecg
    assert everybody["modalities"]["labs"]["n"] == PATIENTS - PATIENTS // LACKING["labs"]
    assert sum(everybody["ecg"].values()) == pytest.approx(1)
    assert "What the answers rest on" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics


def test_a_model_object_gives_the_same_figures_in_other_batches(model_and_processor, data_dir, evaluated, tmp_path):
    model, processor = model_and_processor
    metrics = evaluate(model, data_dir, tmp_path, processor=processor, bootstrap=20, batch_size=14, progress=False)
    for subset in SUBSET_NAMES:
        assert metrics["hf_diagnosis"][subset]["auc"] == pytest.approx(evaluated[2]["hf_diagnosis"][subset]["auc"])
        assert "bayes_auc" not in metrics["hf_diagnosis"][subset]
    # no optimum was given, so the data are not known to be synthetic
    assert "no clinical evidence" not in (tmp_path / "report.html").read_text()


def test_hidden_modalities_equal_absent_modalities(model_and_processor, data_dir):
    model, processor = model_and_processor
    collator = TgmmCollator(processor, model.config, training=False, seed=0)
    dataset = load_prepared(data_dir)["test"]
    scored = collect_predictions(model, dataset, collator, batch_size=14, progress=False)
    rows = scored.scored("hf_diagnosis", "labs")
    batch = collator([dataset[int(i)] for i in rows["row"]])
    with torch.inference_mode():
        alone = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], task="hf_diagnosis")
    np.testing.assert_allclose(alone.probabilities[:, -1].numpy(), rows["probability"], atol=1e-6)


def test_missing_split_is_named(model_and_processor, data_dir, tmp_path):
    model, processor = model_and_processor
    with pytest.raises(ValueError, match="splits \\['test'\\], not 'validation'"):
        evaluate(model, data_dir, tmp_path, processor=processor, split="validation", progress=False)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def split_data(model_and_processor, cohort_dir, manifest, tmp_path_factory):
    """The same patients, the last five in the validation split."""
    model, processor = model_and_processor
    table, directory = manifest.copy(), tmp_path_factory.mktemp("split_data")
    table["split"] = ["test"] * (PATIENTS - 5) + ["validation"] * 5
    table.to_parquet(cohort_dir / "split.parquet")
    prepare(cohort_dir / "split.parquet", directory, processor, tasks=model.config.tasks)
    return directory


def test_thresholds_are_chosen_on_other_patients_only(model_and_processor, data_dir, split_data, tmp_path):
    model, processor = model_and_processor
    settings = {"processor": processor, "bootstrap": 20, "progress": False}
    metrics = evaluate(model, split_data, tmp_path, temperature=True, **settings)
    assert metrics["validation"] == {"n": 5}
    assert any(text.startswith("Validation patients") and UNKNOWN in text for text in metrics["warnings"])
    assert "patients in the smaller class" in metrics["hf_diagnosis"]["labs"]["threshold"]["chosen_on"]
    assert any("no temperature in place of what was asked for, with labs, ecg" in each for each in metrics["warnings"])
    with pytest.raises(ValueError, match="5 validation patients of .* are among the patients to be scored"):
        evaluate(model, data_dir, tmp_path, validation=split_data, **settings)
    with pytest.raises(ValueError, match="no validation split"):
        evaluate(model, split_data, tmp_path, validation=data_dir, **settings)
    with pytest.raises(ValueError, match="--validation"):
        evaluate(model, data_dir, tmp_path, sensitivity=0.9, **settings)
    # the validation split itself: nothing is left to choose on
    assert evaluate(model, split_data, tmp_path, split="validation", **settings)["validation"] is None


def test_validation_patients_that_were_trained_on_are_refused(evaluated, split_data, tmp_path):
    saved = tmp_path / "model"
    shutil.copytree(evaluated[0], saved)
    patients = load_prepared(split_data)["validation"].with_format(None)["patient_id"]
    write(saved / "run.json", {"data_hash": "its own", "run": {"model": {"checkpoint": None}}})
    write(training_directory(saved) / SEEN, {"data_hash": "its own", "complete": True, "patients": patients[:2]})
    with pytest.raises(ValueError, match="2 of the validation patients of these data.* --validation DIR"):
        evaluate(saved, split_data, tmp_path / "out", bootstrap=20, progress=False)


@pytest.mark.slow
def test_worse_inputs_are_scored_on_the_same_patients(model_and_processor, data_dir, evaluated, tmp_path):
    model, processor = model_and_processor
    settings = {"processor": processor, "bootstrap": 20, "progress": False}
    worse = evaluate(model, data_dir, tmp_path, worse_inputs=True, **settings)["robustness"]["hf_diagnosis"]
    assert len(worse) == 4
    for points in worse.values():
        for subset in {point["subset"] for point in points}:
            own = [point for point in points if point["subset"] == subset]
            assert own[0]["level"] == "none" and len({point["n"] for point in own}) == 1
            assert own[0]["auc"] == pytest.approx(evaluated[2]["hf_diagnosis"][subset]["auc"])
    assert (tmp_path / "figures" / "hf_diagnosis_robustness.svg").is_file()


def test_baseline_hazards_in_the_configuration_survive_saving(tmp_path):
    generator = np.random.default_rng(0)
    risk, time, event = generator.normal(size=50), generator.exponential(300, 50), generator.integers(0, 3, 50)
    hazards = fit_baseline_hazards(risk, time, event)
    config = TgmmConfig.tiny()
    config.tasks["hf_risk"]["baseline_hazards"] = {"labs": hazards}
    config.save_pretrained(tmp_path)
    loaded = TgmmConfig.from_pretrained(tmp_path).tasks["hf_risk"]["baseline_hazards"]["labs"]
    assert_close(
        cumulative_incidence([0.5, -2], loaded, [100, 200]), cumulative_incidence([0.5, -2], hazards, [100, 200])
    )


def test_patients_that_were_trained_on_are_refused(evaluated, data_dir, tmp_path):
    saved = tmp_path / "model"
    shutil.copytree(evaluated[0], saved)
    assert UNKNOWN in evaluated[2]["warnings"]  # nothing is known about this model's training
    rows = load_prepared(data_dir)["test"]
    patients = rows.with_format(None)["patient_id"]
    own, other = "hash of its data", "hash of other data"
    seen = {"data_hash": own, "complete": True, "patients": ["someone", patients[3]]}
    write(saved / "run.json", {"data_hash": own, "run": {"model": {"checkpoint": None}}})
    write(training_directory(saved) / SEEN, seen)
    with pytest.raises(ValueError, match="1 of the patients to be scored were in a training"):
        evaluate(saved, data_dir, tmp_path / "out", bootstrap=20, progress=False)
    write(training_directory(saved) / SEEN, {**seen, "patients": ["someone"]})
    assert check_unseen(saved, other, rows, "test") == []
    assert check_unseen(saved, own, rows, "test") == []
    assert "selected on the validation split; this is validation" in check_unseen(saved, own, rows, "validation")[0]
    run = {"model": {"checkpoint": None}, "optimisation": {"keep": "last"}}
    write(saved / "run.json", {"data_hash": own, "run": run})  # no epoch was chosen: validation may be reported
    assert "after its last epoch; this is validation" in check_unseen(saved, own, rows, "validation")[0]
    write(training_directory(saved) / SEEN, {**seen, "trained": [patients[3]]})  # by its encoders' pre-training
    with pytest.raises(ValueError, match="1 of the patients to be scored were trained on by what this model started"):
        check_unseen(saved, own, rows, "validation")
    (training_directory(saved) / SEEN).unlink()
    assert UNKNOWN not in check_unseen(saved, own, rows, "validation")
    for start in ({"encoders": {"ecg": "x"}}, {"ecg": "x"}, {"beat": "x"}):
        write(saved / "run.json", {"data_hash": own, "run": {"model": {"checkpoint": None, **start}}})
        assert UNKNOWN in check_unseen(saved, own, rows, "validation")
        assert check_unseen(saved, own, rows, "test") == [UNKNOWN]
    write(saved / "run.json", {"data_hash": own, "run": run})
    # Another training has begun in the same place, or the checkpoint's patients are not known.
    write(training_directory(saved) / SEEN, {**seen, "data_hash": other})
    assert check_unseen(saved, other, rows, "test") == [UNKNOWN]
    write(training_directory(saved) / SEEN, {**seen, "patients": [], "complete": False})
    assert check_unseen(saved, other, rows, "test") == [UNKNOWN]


def test_fine_tuning_remembers_the_patients_of_the_checkpoint(data_dir, tmp_path):
    rows = load_prepared(data_dir)["test"]
    earlier = {"data_hash": "a", "complete": True, "patients": ["someone"]}
    assert not seen_patients("b", {"train": rows}, [tmp_path / "model"])["complete"]
    write(training_directory(tmp_path / "model") / SEEN, earlier)
    seen = seen_patients("b", {"train": rows}, [tmp_path / "model"])
    assert "someone" in seen["trained"]
    write(tmp_path / "model" / "run.json", {"data_hash": "c"})  # the list is of another training in the same place
    assert not seen_patients("b", {"train": rows}, [tmp_path / "model"])["complete"]
    assert seen["complete"] and "someone" in seen["patients"] and len(seen["patients"]) == PATIENTS + 1


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
