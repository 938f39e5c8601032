"""From an ECG, its picture and a question to Heartcare's inputs: placeholders, labels, controls, refusals."""

from pathlib import Path

import numpy as np
import pytest
from closeness import assert_close
from input_files import make_ecg, write_wfdb
from PIL import Image
from tiny_heartcare import ecg, fitting_model, tiny_processor
from tiny_reporters import byte_tokenizer
from transformers import AutoProcessor

from tgmm_hf import LEADS, BeatFeatureExtractor, HeartcareProcessor, InputRefusedError
from tgmm_hf.families.heartcare import processing_heartcare
from tgmm_hf.inputs.ecg_picture import draw_ecg_picture
from tgmm_hf.inputs.ecg_sheet import EcgTraces

CHATML = (
    "{% for m in messages %}<im>{{ m['role'] }}\n{{ m['content'] }}</im>\n{% endfor %}"
    "{% if add_generation_prompt %}<im>assistant\n{% endif %}"
)


def places(processor: HeartcareProcessor, batch, token: str) -> list[int]:
    """How many placeholders each row has."""
    number = processor.tokenizer.convert_tokens_to_ids(token)
    return (np.asarray(batch["input_ids"]) == number).sum(1).tolist()


def test_an_ecg_becomes_windows_a_picture_and_as_many_placeholders():
    processor = tiny_processor()
    batch = processor(ecg=[ecg(0), ecg(1, seconds=4)], text="rhythm?")
    assert set(batch) == set(processor.model_input_names)
    assert places(processor, batch, "<|ecg|>") == [30, 10]  # three windows and one, of ten tokens each
    assert places(processor, batch, "<image>") == [9, 9]
    windows = BeatFeatureExtractor()([ecg(0), ecg(1, seconds=4)])
    assert_close(batch["input_values"], windows["input_values"])
    assert batch["window_mask"].tolist() == windows["window_mask"].tolist() and batch["image_mask"].all()
    drawn = draw_ecg_picture(EcgTraces(ecg(0)["signal"], 500.0))
    expected = processor.image_processor(images=drawn, input_data_format="channels_last", return_tensors="np")
    assert_close(batch["pixel_values"][0], expected["pixel_values"][0], atol=1e-4)
    text = processor.tokenizer.decode(batch["input_ids"][0])
    assert text == "<|user|>\n" + "<|ecg|>" * 30 + "<image>" * 9 + "rhythm?\n<|assistant|>\n"
    assert not batch["attention_mask"][1, 0] and batch["attention_mask"][:, -1].all()  # padded on the left


def test_the_model_takes_what_the_processor_gives():
    model = fitting_model()
    processor = tiny_processor(model)
    batch = processor(ecg=[ecg(0), ecg(1, seconds=4)], return_tensors="pt")
    assert model(**batch).logits.isfinite().all()
    for streams in (("ecg",), ("image",), ()):
        alone = processor(ecg=[ecg(0)], streams=streams, return_tensors="pt")
        assert model.generate(**alone, max_new_tokens=2).shape[1] >= alone["input_ids"].shape[1]
    codes = fitting_model(ecg_input="codes")
    batch = tiny_processor(codes)(ecg=ecg(), return_tensors="pt")
    assert codes(**batch).logits.isfinite().all() and batch["input_ids"].shape[1] > 60


def test_streams_can_be_left_out():
    processor = tiny_processor()
    signal = processor(ecg=ecg(), streams=("ecg",))
    assert (
        "pixel_values" not in signal and not signal["image_mask"].any() and places(processor, signal, "<image>") == [0]
    )
    picture = processor(ecg=ecg(), streams=("image",))
    assert "input_values" not in picture and not picture["window_mask"].any()
    assert places(processor, picture, "<|ecg|>") == [0] and places(processor, picture, "<image>") == [9]
    neither = processor(ecg=ecg(), streams=())
    assert set(neither) == {"input_ids", "attention_mask", "window_mask", "image_mask"}
    with pytest.raises(ValueError, match="echo"):
        processor(ecg=ecg(), streams=("echo",))


def test_rows_may_have_an_ecg_a_picture_of_your_own_or_both(tmp_path: Path):
    processor = tiny_processor()
    own = draw_ecg_picture(EcgTraces(ecg(5)["signal"], 500.0))
    Image.fromarray(own).save(tmp_path / "photo.png")
    batch, reports = processor(
        ecg=[ecg(0), None, ecg(2)], image=[None, tmp_path / "photo.png", Image.fromarray(own)], return_report=True
    )
    assert places(processor, batch, "<|ecg|>") == [30, 0, 30] and batch["image_mask"].all()
    assert batch["window_mask"].any(1).tolist() == [True, False, True]
    assert_close(batch["pixel_values"][1], batch["pixel_values"][2])
    assert np.abs(batch["pixel_values"][0] - batch["pixel_values"][1]).max() > 0.1
    assert [report["used"]["image"] for report in reports] == ["drawn", "given", "given"]
    assert [bool(report["used"]["ecg"]) for report in reports] == [True, False, True]


def test_the_look_of_a_drawn_picture_follows_from_its_seed():
    processor = tiny_processor()
    looks = [processor(ecg=[ecg()], picture_seeds=[seed])["pixel_values"] for seed in (1, 1, 2)]
    plain = processor(ecg=[ecg()])["pixel_values"]
    assert np.array_equal(looks[0], looks[1])
    assert np.abs(looks[0] - looks[2]).max() > 0.1 and np.abs(looks[0] - plain).max() > 0.1


def test_an_ecg_file_is_read_once_for_both_streams(tmp_path: Path, monkeypatch):
    path = write_wfdb(tmp_path, make_ecg(), list(LEADS))
    reads = []

    def reading(one):
        reads.append(one)
        return as_recording(one)

    as_recording = processing_heartcare.as_recording
    monkeypatch.setattr(processing_heartcare, "as_recording", reading)
    batch = tiny_processor()(ecg=str(path))
    assert len(reads) == 1 and "pixel_values" in batch


def test_an_ecg_in_normalised_units_is_drawn_without_a_calibration_pulse():
    processor = tiny_processor()
    normal = ecg(units="normalised")
    normal["signal"] = (normal["signal"] - normal["signal"].mean()) / normal["signal"].std()
    louder = {**normal, "signal": normal["signal"] * 7}
    one, other = (processor(ecg=each, streams=("image",))["pixel_values"] for each in (normal, louder))
    assert_close(one, other, atol=1e-4)
    assert np.abs(one - processor(ecg=ecg(), streams=("image",))["pixel_values"]).max() > 0.05


@pytest.mark.parametrize("template", [None, CHATML])
def test_labels_are_the_answer_with_its_end_and_nothing_else(template: str | None):
    processor = tiny_processor()
    processor.tokenizer.chat_template = template
    answers = ["sinus rhythm.", "atrial fibrillation, left axis deviation."]
    given = {"ecg": [ecg(0), ecg(1, seconds=4)], "text": ["rhythm?", "please describe this ECG:"]}
    trained = processor(**given, answer=answers, output_labels=True)
    prompt = processor(**given)
    end = "</s>" if template is None else "</im>\n"
    for row, answer in enumerate(answers):
        labels, ids, mask = (trained[name][row] for name in ("labels", "input_ids", "attention_mask"))
        supervised = labels != -100
        assert processor.tokenizer.decode(labels[supervised]) == answer + end
        before = ids[mask.astype(bool) & ~supervised]
        assert before.tolist() == prompt["input_ids"][row][prompt["attention_mask"][row].astype(bool)].tolist()
    with pytest.raises(ValueError, match="needs an answer"):
        processor(ecg=ecg(), output_labels=True)


def test_a_conversation_with_blocks():
    processor = tiny_processor()
    picture = draw_ecg_picture(EcgTraces(ecg(3)["signal"], 500.0))
    conversation = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "signal: "},
                {"type": "ecg", "ecg": ecg()},
                {"type": "text", "text": " photo: "},
                {"type": "image", "image": picture},
            ],
        },
        {"role": "assistant", "content": "sinus rhythm."},
        {"role": "user", "content": "rate?"},
        {"role": "assistant", "content": "75."},
    ]
    batch = processor.apply_chat_template(conversation, tokenize=True, output_labels=True)
    labels = batch["labels"][0]
    assert processor.tokenizer.decode(labels[labels != -100]) == "sinus rhythm.</s>75.</s>"
    text = processor.apply_chat_template(conversation[:1], add_generation_prompt=True)
    assert text == "<|user|>\nsignal: <|ecg|> photo: <image>\n<|assistant|>\n"
    own = processor(image=picture)
    assert_close(batch["pixel_values"], own["pixel_values"])
    twice = [{"role": "user", "content": [{"type": "ecg", "ecg": ecg()}] * 2}]
    with pytest.raises(ValueError, match="at most one ECG"):
        processor.apply_chat_template(twice, tokenize=True)
    strange = [{"role": "user", "content": [{"type": "ecg", "ecg": ecg()}, {"type": "echo", "echo": 1}]}]
    with pytest.raises(ValueError, match="'echo'"):
        processor.apply_chat_template(strange, tokenize=True)


def test_no_text_can_forge_a_placeholder():
    processor = tiny_processor()
    for token in ("<|ecg|>", "<image>"):
        with pytest.raises(ValueError, match="placeholder"):
            processor(ecg=ecg(), text=f"what is {token}?")
    with pytest.raises(ValueError, match="does not know"):
        HeartcareProcessor(BeatFeatureExtractor(), tiny_processor().image_processor, byte_tokenizer())


def test_a_refused_row_has_no_place_in_the_batch_and_its_report_says_why(tmp_path: Path):
    processor = tiny_processor()
    (tmp_path / "text.png").write_text("no picture")
    batch, reports = processor(
        ecg=[ecg(0), ecg(seconds=3), None, ecg(1)],
        image=[None, None, tmp_path / "text.png", None],
        text=["a", "b", "c", "d"],
        on_refusal="report",
        return_report=True,
    )
    assert [report["row"] for report in reports] == [0, None, None, 1]
    assert "3 s" in reports[1]["refused"][0]["reason"] and reports[1]["refused"][0]["item"] == "ecg"
    assert reports[2]["refused"][0]["item"] == "image" and str(tmp_path) not in str(reports[2])
    assert reports[1]["used"] == {"ecg": [], "image": "no"}
    text = processor.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert ["a\n" in text[0], "d\n" in text[1], len(text)] == [True, True, 2]
    nothing = processor(ecg=[ecg(seconds=3)], on_refusal="report")
    assert not dict(nothing)
    for bad in ({"ecg": ecg(seconds=3)}, {"ecg": ecg(seconds=3), "streams": ("ecg",)}):
        with pytest.raises(InputRefusedError, match="3 s"):
            processor(**bad)


def test_a_strict_call_refuses_a_doubtful_ecg_in_either_stream():
    processor = tiny_processor()
    swapped = ecg()
    swapped["signal"] = -swapped["signal"]  # a heart whose waves all point the wrong way is in doubt
    for streams in (("ecg", "image"), ("ecg",), ("image",)):
        _, reports = processor(ecg=swapped, streams=streams, return_report=True)
        codes = [check["code"] for check in reports[0]["checks"]]
        assert codes and len(codes) == len(set(codes))
        with pytest.raises(InputRefusedError, match="strictness"):
            processor(ecg=swapped, streams=streams, strictness="refuse")


def test_wrong_calls_are_refused():
    processor = tiny_processor()
    with pytest.raises(TypeError, match="ecgs"):
        processor(ecgs=ecg())
    with pytest.raises(ValueError, match="no ECG and no picture"):
        processor(text="rhythm?")
    with pytest.raises(ValueError, match="neither an ECG nor a picture"):
        processor(ecg=[ecg(), None])
    with pytest.raises(ValueError, match="2 entries for 1 rows"):
        processor(ecg=[ecg()], image=[None, None])
    with pytest.raises(ValueError, match="2 for 1"):
        processor(ecg=ecg(), text=["a", "b"])
    with pytest.raises(ValueError, match="on_refusal"):
        processor(ecg=ecg(), on_refusal="ignore")


def test_a_saved_processor_gives_the_same_inputs(tmp_path: Path):
    processor = tiny_processor()
    processor.save_pretrained(tmp_path)
    for again in (HeartcareProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert again.num_ecg_tokens == 10 and again.num_image_tokens == 9
        found, expected = dict(again(ecg=ecg())), dict(processor(ecg=ecg()))
        pixels = found.pop("pixel_values"), expected.pop("pixel_values")
        assert_close(found, expected)
        assert np.abs(pixels[0] - pixels[1]).max() < 0.05  # torchvision, where it is installed, resizes otherwise
