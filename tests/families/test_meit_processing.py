"""From an ECG and an instruction to MEIT's inputs: scaling, chat templates, labels, refusals."""

from pathlib import Path

import numpy as np
import pytest
from closeness import assert_close
from heart_signal import make_heart
from input_files import MIMIC_LEADS, make_ecg, write_wfdb
from tiny_reporters import byte_tokenizer, tiny_processor
from transformers import AutoProcessor

from tgmm_hf import LEADS, EcgFeatureExtractor, InputRefusedError, MeitFeatureExtractor, MeitProcessor
from tgmm_hf.families.meit.processing_meit import INSTRUCTION

CHATML = (
    "{% for m in messages %}<im>{{ m['role'] }}\n{{ m['content'] }}</im>\n{% endfor %}"
    "{% if add_generation_prompt %}<im>assistant\n{% endif %}"
)


def ecg(seed: int = 0, rate: float = 500, seconds: float = 10, **settings) -> dict:
    signal = make_heart(int(seconds * rate), rate, seed)
    return {"signal": signal, "sampling_rate": rate, "lead_names": list(LEADS), **settings}


def test_the_extractor_scales_all_leads_by_one_range_as_published():
    one = ecg()
    values = MeitFeatureExtractor()(one)["input_values"][0]
    signal = one["signal"]
    assert_close(values, ((signal - signal.min()) / (signal.max() - signal.min() + 1e-8)).astype(np.float32))
    assert values.shape == (12, 5000) and values.min() == 0 and values.max() == pytest.approx(1)


def test_the_extractor_finds_leads_by_name_units_and_the_centre_of_a_long_recording(tmp_path: Path):
    signal = make_ecg(samples=7000)
    order = [LEADS.index(name) for name in MIMIC_LEADS]
    path = write_wfdb(tmp_path, signal[order], MIMIC_LEADS)
    extractor = MeitFeatureExtractor()
    central = {"signal": signal[:, 1000:6000], "sampling_rate": 500, "lead_names": list(LEADS)}
    expected = extractor(central)["input_values"]
    assert_close(extractor(str(path))["input_values"], expected, atol=2e-3)  # the file has steps of 1 uV
    assert_close(extractor({**central, "signal": central["signal"] * 1000, "units": "uV"})["input_values"], expected)
    stored = MeitFeatureExtractor(lead_order=MIMIC_LEADS)(central)["input_values"]
    assert_close(stored, expected[:, order])
    with pytest.raises(ValueError, match="lead_order"):
        MeitFeatureExtractor(lead_order=["I"])


def test_missing_limb_leads_are_derived_and_another_missing_lead_is_refused():
    whole = ecg()
    kept = [0, 1, *range(6, 12)]
    eight = {**whole, "signal": whole["signal"][kept], "lead_names": [LEADS[i] for i in kept]}
    prepared = MeitFeatureExtractor().prepare(eight)
    assert_close(prepared.values, MeitFeatureExtractor().prepare(whole).values, atol=1e-5)
    assert any("derived" in note for note in prepared.notes)
    with pytest.raises(InputRefusedError, match="V6"):
        MeitFeatureExtractor()({**whole, "signal": whole["signal"][:11], "lead_names": list(LEADS[:11])})


def test_a_lower_rate_is_resampled_with_a_note_and_too_little_is_refused():
    prepared = MeitFeatureExtractor().prepare(ecg(rate=250))
    assert prepared.values.shape == (12, 5000) and any("125 Hz" in note for note in prepared.notes)
    for bad, words in ((ecg(rate=50), "50 Hz"), (ecg(seconds=9), "9 s")):
        with pytest.raises(InputRefusedError, match=words):
            MeitFeatureExtractor()(bad)


def test_a_prompt_has_the_published_form():
    processor = tiny_processor()
    inputs = processor(ecg=ecg())
    text = processor.tokenizer.decode(inputs["input_ids"][0])
    assert text == f"<|user|>\n{INSTRUCTION}\n<|assistant|>\n"
    assert set(inputs) == set(processor.model_input_names)
    assert_close(inputs["input_values"], MeitFeatureExtractor()(ecg())["input_values"])


@pytest.mark.parametrize("template", [None, CHATML])
def test_labels_are_the_answer_with_its_end_and_nothing_else(template: str | None):
    processor = MeitProcessor(MeitFeatureExtractor(), byte_tokenizer(chat_template=template))
    answers = ["sinus rhythm.", "atrial fibrillation, left axis deviation."]
    given = {"ecg": [ecg(0), ecg(1)], "text": ["report:", "please describe this ECG:"]}
    trained = processor(**given, answer=answers, output_labels=True)
    prompt = processor(**given)
    end = "</s>" if template is None else "</im>\n"
    for row, answer in enumerate(answers):
        labels, ids, mask = (trained[name][row] for name in ("labels", "input_ids", "attention_mask"))
        supervised = labels != -100
        assert processor.tokenizer.decode(labels[supervised]) == answer + end
        assert (labels[supervised] == ids[supervised]).all() and mask[supervised].all()
        # the prompt has the same tokens in training and in use
        before = ids[mask.astype(bool) & ~supervised]
        assert before.tolist() == prompt["input_ids"][row][prompt["attention_mask"][row].astype(bool)].tolist()
    assert not trained["attention_mask"][0, 0] and trained["attention_mask"][:, -1].all()  # padded on the left


def test_a_conversation_with_two_answers_trains_both():
    processor = tiny_processor()
    block = {"type": "ecg", "ecg": ecg()}
    conversation = [
        {"role": "user", "content": [block, {"type": "text", "text": "report:"}]},
        {"role": "assistant", "content": "sinus rhythm."},
        {"role": "user", "content": "rate?"},
        {"role": "assistant", "content": "75."},
    ]
    inputs = processor.apply_chat_template(conversation, tokenize=True, output_labels=True)
    labels = inputs["labels"][0]
    assert processor.tokenizer.decode(labels[labels != -100]) == "sinus rhythm.</s>75.</s>"
    text = processor.apply_chat_template(conversation[:1], add_generation_prompt=True)
    assert text == "<|user|>\nreport:\n<|assistant|>\n"
    for wrong in ([{"role": "user", "content": "report:"}], [{"role": "user", "content": [block, block]}]):
        with pytest.raises(ValueError, match="one ECG block"):
            processor.apply_chat_template(wrong, tokenize=True)
    with pytest.raises(ValueError, match="needs an answer"):
        processor.apply_chat_template(conversation[:1], tokenize=True, output_labels=True)


def test_a_tokenizer_that_begins_every_text_begins_the_prompt_too():
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    inputs = MeitProcessor(MeitFeatureExtractor(), tokenizer)(ecg=ecg(), text="report:")
    ids = inputs["input_ids"][0].tolist()
    assert ids[0] == 1 and ids.count(1) == 1


def test_placeholders_stand_for_the_ecg_and_no_text_can_forge_them():
    processor = tiny_processor(ecg_token="<|ecg|>", num_ecg_vectors=3)
    ids = processor(ecg=[ecg(), ecg(1)])["input_ids"]
    place = processor.tokenizer.convert_tokens_to_ids("<|ecg|>")
    assert ((ids == place).sum(1) == 3).all()
    with pytest.raises(ValueError, match="placeholder"):
        processor(ecg=ecg(), text="what is <|ecg|>?")
    with pytest.raises(ValueError, match="does not know"):
        tiny_processor(ecg_token="<|signal|>")


def test_a_refused_ecg_has_no_row_and_its_report_says_why():
    processor = tiny_processor()
    batch, reports = processor(
        ecg=[ecg(), ecg(seconds=4), ecg(1)], text=["a", "b", "c"], on_refusal="report", return_report=True
    )
    assert [report["row"] for report in reports] == [0, None, 1]
    assert "4 s" in reports[1]["refused"][0]["reason"] and not reports[1]["used"]["ecg"]
    assert reports[2]["used"]["ecg"] == list(LEADS)
    text = processor.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert ["\na\n" in text[0], "\nc\n" in text[1], len(text)] == [True, True, 2]
    assert_close(batch["input_values"][1], MeitFeatureExtractor()(ecg(1))["input_values"][0])
    nothing, reports = processor(ecg=[ecg(seconds=4)], on_refusal="report", return_report=True)
    assert not nothing and reports[0]["row"] is None
    with pytest.raises(InputRefusedError, match="4 s"):
        processor(ecg=ecg(seconds=4))


def test_a_strict_call_refuses_a_doubtful_ecg():
    processor = tiny_processor()
    swapped = ecg()
    swapped["signal"] = -swapped["signal"]  # a heart whose waves all point the wrong way is in doubt
    _, reports = processor(ecg=swapped, return_report=True)
    if not reports[0]["checks"]:
        pytest.skip("this ECG is not doubtful any more")
    with pytest.raises(InputRefusedError, match="strictness"):
        processor(ecg=swapped, strictness="refuse")
    processor.default_strictness = "refuse"
    _, reports = processor(ecg=swapped, on_refusal="report", return_report=True)
    assert reports[0]["row"] is None and reports[0]["checks"]


def test_wrong_calls_are_refused():
    processor = tiny_processor()
    with pytest.raises(TypeError, match="ecgs"):
        processor(ecgs=ecg())
    with pytest.raises(ValueError, match="no ECG"):
        processor(text="report:")
    with pytest.raises(ValueError, match="2 for 1"):
        processor(ecg=ecg(), text=["a", "b"])
    with pytest.raises(ValueError, match="on_refusal"):
        processor(ecg=ecg(), on_refusal="ignore")
    with pytest.raises(ValueError, match="no mask for leads"):
        MeitProcessor(EcgFeatureExtractor(), byte_tokenizer())
    st_mem = MeitProcessor(EcgFeatureExtractor(min_leads=12), byte_tokenizer())
    assert st_mem(ecg=ecg())["input_values"].shape == (1, 12, 2250)


def test_a_saved_processor_gives_the_same_inputs(tmp_path: Path):
    processor = tiny_processor(instruction="what do you see?", ecg_token="<|ecg|>", num_ecg_vectors=2)
    processor.save_pretrained(tmp_path)
    for again in (MeitProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert_close(dict(again(ecg=ecg())), dict(processor(ecg=ecg())))
