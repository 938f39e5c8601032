"""Using a saved Heartcare model: the pipeline, and a process without this package."""

import json
from pathlib import Path

import pytest
import torch
from closeness import assert_close
from fresh_process import run_without_package
from input_files import make_ecg, write_wfdb
from PIL import Image
from tiny_heartcare import ecg, fitting_model, tiny_processor
from transformers import AutoModel, AutoModelForCausalLM, pipeline

from tgmm_hf import LEADS, HeartcareForConditionalGeneration, HeartcarePipeline, MeitReportPipeline
from tgmm_hf.hub.card import EncoderLicence
from tgmm_hf.hub.card_reporter import reporter_card
from tgmm_hf.hub.push import model_files
from tgmm_hf.inputs.ecg_picture import draw_ecg_picture
from tgmm_hf.inputs.ecg_sheet import EcgTraces
from tgmm_hf.training.saving import save_repository

SHORT = {"generate_kwargs": {"max_new_tokens": 5}}

CLEAN_PROCESS = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import json
from transformers import AutoModel, AutoModelForCausalLM, AutoProcessor, pipeline

directory, ecg, picture, work = sys.argv[1:]
pipe = pipeline("ecg-question", model=directory, trust_remote_code=True, device="cpu")
model = AutoModel.from_pretrained(directory, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(directory, trust_remote_code=True)
assert type(AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)) is type(model)
by_object = pipeline("ecg-question", model=model, processor=processor, device="cpu")
asked = [{"ecg": ecg, "question": "rhythm?"}, {"image": picture, "question": "rhythm?"}, {"ecg": work}]
answers = [each(asked, generate_kwargs={"max_new_tokens": 5}) for each in (pipe, by_object)]
with open(f"{work}/answers.json", "w") as file:
    json.dump(answers, file)
model.save_pretrained(f"{work}/again")
processor.save_pretrained(f"{work}/again")
assert not any(name.startswith("tgmm_hf.") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("heartcare") / "model"
    model = fitting_model()
    save_repository(model, tiny_processor(model), directory)
    return directory


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    return write_wfdb(tmp_path_factory.mktemp("ecg"), make_ecg(), list(LEADS))


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "photo.png"
    Image.fromarray(draw_ecg_picture(EcgTraces(ecg(4)["signal"], 500.0))).save(path)
    return path


def test_the_pipeline_answers_a_question_about_every_input(saved: Path, picture: Path):
    pipe = pipeline("ecg-question", model=str(saved), device="cpu")
    assert isinstance(pipe, HeartcarePipeline) and isinstance(pipe.model, HeartcareForConditionalGeneration)
    inputs = [
        {"ecg": ecg(0), "id": 1, "question": "rhythm?"},
        {"ecg": ecg(1, seconds=3), "id": 2, "question": "rhythm?"},
        {"image": str(picture), "id": 3, "question": "axis?"},
        {"ecg": ecg(2), "image": str(picture), "id": 4},
    ]
    together = pipe(inputs, batch_size=4, **SHORT)
    assert [answer["id"] for answer in together] == [1, 2, 3, 4]
    for one, answer in zip(inputs, together, strict=True):
        assert_close(pipe(one, **SHORT), answer)
        json.dumps(answer, allow_nan=False)
    assert together[1]["answer"] is None and "3 s" in together[1]["refused"][0]["reason"]
    assert together[0]["question"] == "rhythm?" and together[3]["question"] == pipe.processor.instruction
    assert [answer["used"]["image"] for answer in together] == ["drawn", "no", "given", "given"]
    assert together[0]["checks"] == []  # model and processor were saved together
    assert "report" not in together[0] and "instruction" not in together[0]
    batch = pipe.processor(ecg=ecg(0), text="rhythm?", return_tensors="pt")
    written = pipe.model.generate(**batch, max_new_tokens=5, do_sample=False)[0, batch["input_ids"].shape[1] :]
    assert together[0]["answer"] == pipe.processor.tokenizer.decode(written, skip_special_tokens=True).strip()
    for wrong, error in (
        ({"question": "?"}, ValueError),
        ({"ecg": ecg(), "instruction": ""}, ValueError),
        (1, TypeError),
    ):
        with pytest.raises(error):
            pipe(wrong)


def test_the_pipeline_of_reports_takes_a_heartcare_model(saved: Path):
    pipe = pipeline("ecg-report", model=str(saved), device="cpu")
    assert type(pipe) is MeitReportPipeline
    answer = pipe({"ecg": ecg(0)}, **SHORT)
    asked = pipeline("ecg-question", model=str(saved), device="cpu")({"ecg": ecg(0)}, **SHORT)
    assert answer["report"] == asked["answer"] and answer["report"] is not None


def test_weights_that_were_changed_are_named(saved: Path):
    pipe = pipeline("ecg-question", model=str(saved), device="cpu")
    with torch.no_grad():
        pipe.model.ecg_projector.weight.mul_(-1)
    answer = pipe({"ecg": ecg()}, generate_kwargs={"max_new_tokens": 2})
    assert [check["code"] for check in answer["checks"]] == ["model_weights_changed"]


def test_a_clean_process_answers_from_a_file_and_a_picture(saved: Path, recording: Path, picture: Path, tmp_path: Path):
    here = pipeline("ecg-question", model=str(saved), device="cpu")
    asked = [{"ecg": str(recording), "question": "rhythm?"}, {"image": str(picture), "question": "rhythm?"}]
    expected = [here(one, **SHORT) for one in asked]
    for directory in (saved, tmp_path / "again"):  # the second was saved by the clean process itself
        run_without_package(CLEAN_PROCESS, directory, recording, picture, tmp_path, work=tmp_path)
        for answers in json.loads((tmp_path / "answers.json").read_text()):
            for found, known in zip(answers[:2], expected, strict=True):
                for key in ("answer", "complete", "used", "checks", "notes", "processor_fingerprint", "code_revision"):
                    assert found[key] == known[key], key
            assert answers[2]["answer"] is None and answers[2]["refused"]


def test_a_saved_model_may_be_uploaded_and_loads_by_its_auto_classes(saved: Path):
    assert {"modeling_heartcare.py", "modeling_beat.py", "model.safetensors"} <= {f.name for f in model_files(saved)}
    for auto in (AutoModel, AutoModelForCausalLM):
        assert isinstance(auto.from_pretrained(saved), HeartcareForConditionalGeneration)
    texts = [path.read_text() for path in saved.glob("*.py")]
    assert not any("import matplotlib" in text for text in texts)


@pytest.mark.parametrize("ecg_input", ["latents", "codes"])
def test_the_card_says_how_the_model_is_asked_and_names_the_licences(saved: Path, ecg_input: str):
    config = {**json.loads((saved / "config.json").read_text()), "ecg_input": ecg_input}
    licences = [EncoderLicence("some-llm", "llama2", None, None)]
    card = reporter_card("me/heart", config=config, licences=licences)
    assert 'pipeline("ecg-question", model="me/heart"' in card and "2506.05831" in card
    assert "some-llm" in card and "Not a medical device" in card and "48 x 48" in card
    assert "\nlicense: other\n" in card.split("---")[1]
