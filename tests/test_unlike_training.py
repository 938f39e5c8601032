"""The description of the training inputs travels with the processor, and every prediction is compared with it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fresh_process import run_without_package
from heart_signal import make_heart
from tiny_models import smallest_model, tiny_tokenizer
from transformers import AutoProcessor

from tgmm_hf import TgmmProcessor, default_processor
from tgmm_hf.data.prediction import load_pipeline
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.training_likeness import unpack
from tgmm_hf.pipeline_binding import weights_id
from tgmm_hf.training import stored_inputs
from tgmm_hf.training.saving import save_repository
from tgmm_hf.training.stored_inputs import store_training_inputs
from tgmm_hf.utils.names import LEADS
from tgmm_hf.utils.short_digests import short_digest

RATE = 250.0
CODE = "ecg_unlike_training"
LABS = {"age": 60, "Sodium": (139.0, "mEq/L")}
CLEAN_PROCESS = """
import json, sys
sys.modules["tgmm_hf"] = None
import numpy as np
from transformers import AutoProcessor
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
ecg = {"signal": np.load(sys.argv[2]), "sampling_rate": 250.0, "lead_names": sys.argv[3].split(",")}
_, (report,) = processor(ecg=ecg, return_report=True)
print(json.dumps(report["checks"]))
"""


def heart(seed: int) -> np.ndarray:
    return make_heart(2500, RATE, seed)


def faulty(seed: int) -> np.ndarray:
    signal = heart(seed)
    signal[LEADS.index("V3")] = np.roll(signal[LEADS.index("V2")], 10)
    return signal


def recording(signal: np.ndarray) -> dict:
    return {"signal": signal, "sampling_rate": RATE, "lead_names": list(LEADS)}


def rows(seeds: range) -> list[dict]:
    """Prepared rows without echo."""
    prepared = []
    for seed in seeds:
        labs = LabsText.from_row({"age": 40 + seed % 50, "Sodium": (float(134 + seed % 11), "mEq/L")})
        signal = default_signal(seed)
        prepared.append({"labs": json.dumps(labs.stored_values()), "ecg": signal.T, "ecg_mask": [True] * 12})
        prepared[-1] |= {"clips": [], "clip_views": [], "clip_frames": []}
    return prepared


def default_signal(seed: int) -> np.ndarray:
    return np.asarray(heart(seed), np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = smallest_model(seed=3)
    processor = default_processor(model.config, tiny_tokenizer())
    store_training_inputs(processor, {"train": rows(range(90)), "validation": rows(range(90, 110))}, weights_id(model))
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_repository(model, processor, directory)
    return directory


@pytest.fixture(scope="module")
def processor(saved: Path) -> TgmmProcessor:
    return TgmmProcessor.from_pretrained(saved)


def codes(report: dict) -> list[str]:
    return [check["code"] for check in report["checks"]]


def test_a_prediction_names_what_is_unlike_the_training(saved: Path):
    answer = load_pipeline(str(saved))({"ecg": recording(faulty(200)), "labs": LABS})
    (finding,) = [check for check in answer["checks"] if check["code"] == CODE]
    assert "94 % of 90 recordings of the training have" in finding["text"]
    assert answer["used"]["ecg"] == list(LEADS)  # it is used all the same
    good = load_pipeline(str(saved))({"ecg": recording(heart(201)), "labs": LABS})
    assert good["checks"] == []


def test_a_clean_process_without_the_package_finds_the_same(saved: Path, processor: TgmmProcessor, tmp_path: Path):
    np.save(tmp_path / "ecg.npy", faulty(200))
    printed = run_without_package(CLEAN_PROCESS, saved, tmp_path / "ecg.npy", ",".join(LEADS), work=tmp_path)
    _, (report,) = processor(ecg=recording(faulty(200)), return_report=True)
    assert json.loads(printed.strip().splitlines()[-1]) == report["checks"]
    assert CODE in codes(report)


def test_a_batch_finds_what_its_patients_find_alone(processor: TgmmProcessor):
    signals = [heart(202), faulty(203), None, faulty(204)]
    labs = [LABS, None, {**LABS, "Sodium": (171.0, "mEq/L")}, LABS]
    ecgs = [None if signal is None else recording(signal) for signal in signals]
    _, together = processor(labs=labs, ecg=ecgs, return_report=True, on_refusal="report")
    for row, ecg, report in zip(labs, ecgs, together, strict=True):
        _, (alone,) = processor(labs=row, ecg=ecg, return_report=True, on_refusal="report")
        assert alone["checks"] == report["checks"]
    assert [CODE in codes(report) for report in together] == [False, True, False, True]
    assert "labs_unlike_training" in codes(together[2])


def test_a_strict_run_refuses_the_patient(processor: TgmmProcessor):
    options = {"strictness": "refuse", "on_refusal": "report", "return_report": True}
    _, (report,) = processor(labs=LABS, ecg=recording(faulty(200)), **options)
    assert not any(report["used"].values())
    _, (report,) = processor(labs=LABS, ecg=recording(heart(201)), **options)
    assert report["used"]["ecg"] == list(LEADS)


def test_a_modality_without_a_description_is_not_compared(processor: TgmmProcessor):
    clip = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3)).astype(np.uint8)
    _, (report,) = processor(labs=LABS, echo={"A4C": clip}, return_report=True, on_refusal="report")
    assert "echo_unlike_training" not in codes(report)
    assert "echo" not in unpack(processor.training_inputs)


def test_a_processor_without_descriptions_compares_nothing(processor: TgmmProcessor, tmp_path: Path):
    model = smallest_model(seed=3)
    older = default_processor(model.config, tiny_tokenizer())
    older.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    settings.pop("training_inputs", None)  # as an earlier version saved it
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    older = AutoProcessor.from_pretrained(tmp_path)
    values, (report,) = older(ecg=recording(faulty(200)), return_report=True, return_tensors="pt")
    assert CODE not in codes(report)
    compared = processor(ecg=recording(faulty(200)), return_tensors="pt")
    assert torch.equal(values["ecg_values"], compared["ecg_values"])  # the comparison changes no input


def test_a_model_that_was_trained_further_by_hand_says_so(saved: Path):
    pipe = load_pipeline(str(saved))
    with torch.no_grad():
        next(parameter for parameter in pipe.model.parameters() if parameter.ndim == 2).mul_(1.5)
    answer = pipe({"ecg": recording(faulty(200))})
    assert any("may be like a later one" in note for note in answer["notes"])


def test_a_new_training_replaces_or_removes_the_description(processor: TgmmProcessor):
    model = smallest_model(seed=3)
    again = default_processor(model.config, tiny_tokenizer())
    store_training_inputs(again, {"train": rows(range(300, 390)), "validation": rows(range(90, 110))}, "sha256:other")
    assert unpack(again.training_inputs)["weights"] == "sha256:other"
    assert short_digest(again.training_inputs) != short_digest(processor.training_inputs)
    store_training_inputs(again, {"train": rows(range(20)), "validation": rows(range(20, 30))}, "sha256:few")
    assert again.training_inputs is None


def test_short_recordings_and_recordings_without_leads_are_left_out():
    again = default_processor(smallest_model(seed=3).config, tiny_tokenizer())
    splits = {"train": rows(range(90)), "validation": rows(range(90, 110))}
    for row, seconds in zip(splits["train"], (0.5, 1.0), strict=False):
        row["ecg"] = row["ecg"][: int(seconds * RATE)]
    splits["validation"][0]["ecg_mask"] = [False] * 12
    store_training_inputs(again, splits, "sha256:short")
    assert unpack(again.training_inputs)["ecg"]["number"] == 88


def test_an_error_in_the_description_does_not_lose_the_training(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    model = smallest_model(seed=3)
    again = default_processor(model.config, tiny_tokenizer())
    again.training_inputs = "of an earlier training"
    splits = {"train": rows(range(3)), "validation": rows(range(3))}
    splits["train"][1]["ecg"] = np.zeros((2500, 5))
    store_training_inputs(again, splits, weights_id(model))
    assert "saved without a description" in caplog.text and "compare no input" in caplog.text
    assert again.training_inputs is None
    save_repository(model, again, tmp_path / "model")
    assert TgmmProcessor.from_pretrained(tmp_path / "model").training_inputs is None


def test_no_clip_is_read_after_the_largest_number_of_clips(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stored_inputs, "MOST_CLIPS", 3)
    again = default_processor(smallest_model(seed=3).config, tiny_tokenizer())
    size = again.image_processor.size
    clip = np.random.default_rng(0).integers(0, 255, (4, size, size * 3)).astype(np.uint8)
    filled = [row | {"clips": [clip, clip], "clip_views": [0, 1], "clip_frames": [4, 4]} for row in rows(range(5))]
    read: list[tuple[tuple[str, ...], int]] = []

    class Table(list):
        """Rows that note which columns of which row are read."""

        columns: tuple[str, ...] = ()

        def select_columns(self, columns: list[str]) -> "Table":
            chosen = Table({name: row[name] for name in columns} for row in self)
            chosen.columns = tuple(columns)
            return chosen

        def __getitem__(self, place: int) -> dict:
            read.append((self.columns, place))
            return super().__getitem__(place)

    described = stored_inputs.describe_rows(again, Table(filled))
    assert [len(described[name]) for name in ("labs", "ecg", "echo")] == [5, 5, 4]
    assert [place for columns, place in read if "clips" in columns] == [0, 1]
    assert all(columns for columns, _ in read)


def test_another_description_is_another_processor(saved: Path, tmp_path: Path):
    pipe = load_pipeline(str(saved))
    pipe.processor.training_inputs = None
    assert "model_processor_mismatch" in codes(pipe({"labs": LABS}))


def test_a_damaged_description_is_refused_when_it_is_loaded(processor: TgmmProcessor, tmp_path: Path):
    processor.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    settings["training_inputs"] = settings["training_inputs"][:100]
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="processor_config.json"):
        TgmmProcessor.from_pretrained(tmp_path)
