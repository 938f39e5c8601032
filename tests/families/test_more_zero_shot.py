"""The zero-shot pipelines of MoRE: labels in words for X-rays and ECGs, refusals, a process without this package."""

import json
from pathlib import Path

import pytest
import torch
from closeness import assert_close
from fresh_process import run_without_package
from heart_signal import make_heart
from input_files import write_wfdb
from PIL import Image
from tiny_more import tiny_more_of_files
from transformers import AutoModel, ZeroShotAudioClassificationPipeline, ZeroShotImageClassificationPipeline, pipeline
from xray_files import draw_chest, write_picture, write_xray

from tgmm_hf import LEADS, MoreForClassification
from tgmm_hf.training.saving import save_repository

ECG, XRAY = "zero-shot-ecg-classification", "zero-shot-xray-classification"
PROMPTS = {"rhythm": ["sinus rhythm", "atrial fibrillation"], "effusion": "pleural effusion", "size": ["large heart"]}
CLEAN_PROCESS = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import json
from transformers import AutoModel, AutoProcessor, pipeline

directory, xray, ecg, out = sys.argv[1:]
labels = ["pleural effusion", "sinus rhythm"]
answers = [
    pipeline(f"zero-shot-{kind}-classification", model=directory, trust_remote_code=True, device="cpu")(
        file, candidate_labels=labels
    )
    for kind, file in (("xray", xray), ("ecg", ecg))
]
model = AutoModel.from_pretrained(directory, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(directory, trust_remote_code=True)
by_object = pipeline("zero-shot-ecg-classification", model=model, processor=processor, device="cpu")
assert by_object(ecg, candidate_labels=labels)["labels"] == answers[1]["labels"]
json.dump(answers, open(out, "w"))
assert not any(name.startswith("tgmm_hf.") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("more") / "model"
    save_repository(*tiny_more_of_files(), directory)
    return directory


def ecg(seed: int = 0, samples: int = 5000) -> dict:
    return {"signal": make_heart(samples, 500, seed), "sampling_rate": 500, "lead_names": list(LEADS)}


def by_label(answer: dict, key: str = "similarity") -> dict[str, float]:
    return {entry["label"]: entry[key] for entry in answer["labels"]}


@pytest.mark.parametrize("over", ["max", "mean"])
def test_scores_are_the_softmax_of_the_cosines_with_each_labels_prompts(saved: Path, over: str):
    pipe = pipeline(ECG, model=str(saved), device="cpu")
    assert isinstance(pipe, ZeroShotAudioClassificationPipeline)
    answer = pipe({"ecg": ecg(), "id": 7}, candidate_labels=PROMPTS, hypothesis_template="It is {}.", over_prompts=over)
    model, processor = pipe.model, pipe.processor
    texts = ["It is sinus rhythm.", "It is atrial fibrillation.", "It is pleural effusion.", "It is large heart."]
    with torch.no_grad():
        one = model(**processor(ecg=ecg(), return_tensors="pt")).ecg_embeds
        cosines = (one @ model(**processor(text=texts, return_tensors="pt")).text_embeds.T)[0]
        rhythm = cosines[:2].max() if over == "max" else cosines[:2].mean()
        expected = torch.stack([rhythm, cosines[2], cosines[3]])
        scores = (expected / model.temperature).softmax(0)
    assert cosines[:2].max() - cosines[:2].min() > 1e-3  # the two ways differ
    assert_close([by_label(answer)[name] for name in PROMPTS], expected.tolist(), atol=1e-5)
    assert_close([by_label(answer, "score")[name] for name in PROMPTS], scores.tolist(), atol=1e-4)
    assert by_label(answer, "prompt")["rhythm"] == texts[int(cosines[:2].argmax())]
    ranked = [entry["score"] for entry in answer["labels"]]
    assert ranked == sorted(ranked, reverse=True) and answer["id"] == 7 and answer["used"] == {"ecg": list(LEADS)}
    assert answer["checks"] == []  # model and processor were saved together
    json.dumps(answer, allow_nan=False)


def test_a_batch_gives_the_answers_of_its_singles_and_the_other_inputs_change_nothing(saved: Path):
    pipe = pipeline(ECG, model=str(saved), device="cpu", candidate_labels=["a", "b"])
    inputs = [{"ecg": ecg(0), "id": 0}, {"ecg": ecg(1, 2000), "id": 1}, {"ecg": ecg(2), "id": 2}]
    together = pipe(inputs, batch_size=3)
    assert [answer["id"] for answer in together] == [0, 1, 2]
    for one, answer in zip(inputs, together, strict=True):
        assert_close(by_label(pipe(one)), by_label(answer), atol=1e-5)
    assert together[1]["labels"] == [] and "4 s" in together[1]["refused"][0]["reason"]
    assert next(pipe(iter(inputs[:1])))["id"] == 0
    with pytest.raises(ValueError, match="strict"):
        with torch.no_grad():
            pipe.model.ecg_projection.linear2.weight.mul_(-1)
        pipe(inputs[0], strictness="refuse")


def test_xrays_come_as_files_pictures_and_arrays(saved: Path, tmp_path: Path):
    pipe = pipeline(XRAY, model=str(saved), device="cpu")
    assert isinstance(pipe, ZeroShotImageClassificationPipeline)
    chest = draw_chest()
    png = write_picture(tmp_path / "chest.png", chest)
    hand = write_xray(tmp_path / "hand.dcm", BodyPartExamined="HAND")
    given = [str(png), png, Image.open(png), chest, {"xray": str(png)}, hand, write_xray(tmp_path / "chest.dcm")]
    answers = pipe(given, candidate_labels=PROMPTS)
    for answer in answers[1:5]:
        assert_close(by_label(answer), by_label(answers[0]), atol=1e-5)
    assert answers[5]["labels"] == [] and "HAND" in answers[5]["refused"][0]["reason"]
    assert len(answers[6]["labels"]) == 3
    assert_close(by_label(pipe(chest, PROMPTS)), by_label(answers[0]), atol=1e-5)
    other = pipe(255 - chest, PROMPTS)
    assert max(abs(by_label(other)[name] - by_label(answers[0])[name]) for name in PROMPTS) > 1e-3


def test_what_cannot_be_compared_is_refused(saved: Path):
    pipe = pipeline(ECG, model=str(saved), device="cpu")
    for labels in (None, "one text", 3, [1], {"a": 2}, {"a": ["x", 1]}):
        with pytest.raises(TypeError):
            pipe(ecg(), candidate_labels=labels)
    for labels in ([], {}, [" "], ["a", "a"], {"a": []}):
        with pytest.raises(ValueError):
            pipe(ecg(), candidate_labels=labels)
    for settings in ({"over_prompts": "sum"}, {"hypothesis_template": "none"}, {"strictness": "much"}, {"labels": 1}):
        with pytest.raises(ValueError):
            pipe(ecg(), candidate_labels=["a"], **settings)
    for wrong in ({"ecg": None}, {"xray": "x.png"}, None):
        with pytest.raises(ValueError):
            pipe(wrong, candidate_labels=["a"])
    classifier = MoreForClassification(pipe.model.config)
    with pytest.raises(TypeError, match="MoreForClassification"):
        pipeline(ECG, model=classifier, processor=pipe.processor, device="cpu")


def test_a_prompt_that_is_cut_is_named(saved: Path):
    pipe = pipeline(ECG, model=str(saved), device="cpu")
    answer = pipe(ecg(), candidate_labels={"long": "a" * 200, "short": "a"})
    assert [note for note in answer["notes"] if note.startswith("prompt of long") and "cut" in note]
    assert not [note for note in answer["notes"] if note.startswith("prompt of short")]


@pytest.mark.slow
def test_a_process_without_the_package_gives_the_same(saved: Path, tmp_path: Path):
    recording = write_wfdb(tmp_path, make_heart(5000, 500, 0), list(LEADS))
    xray = write_picture(tmp_path / "x.png")
    words = [str(each) for each in (saved, xray, recording, tmp_path / "out.json")]
    run_without_package(CLEAN_PROCESS, *words, work=tmp_path)
    found = json.loads((tmp_path / "out.json").read_text())
    for task, file, there in zip((XRAY, ECG), (xray, recording), found, strict=True):
        here = pipeline(task, model=str(saved), device="cpu")(str(file), ["pleural effusion", "sinus rhythm"])
        assert_close(by_label(there), by_label(here), atol=1e-5)
        assert there["model_fingerprint"] == here["model_fingerprint"]
    assert hasattr(AutoModel.from_pretrained(saved), "text_projection")
