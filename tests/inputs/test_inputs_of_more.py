"""What MoRE reads: X-rays resized and equalised, ECGs at 100 Hz without baseline, notes; and its processor."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from closeness import assert_close
from fresh_process import run_without_package
from heart_signal import make_heart
from input_files import make_ecg, waveform_group, write_ecg_dicom, write_wfdb
from PIL import Image
from scipy.ndimage import uniform_filter
from scipy.signal import butter, sosfiltfilt
from tiny_more import tiny_more
from tiny_reporters import byte_tokenizer
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoProcessor, pipeline
from xray_files import draw_chest, write_picture, write_xray

from tgmm_hf import (
    LEADS,
    InputRefusedError,
    MoreFeatureExtractor,
    MoreForClassification,
    MoreImageProcessor,
    MoreProcessor,
)

CLEAN_PROCESS = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import json
from transformers import AutoProcessor
directory, xray, ecg, out = sys.argv[1:]
processor = AutoProcessor.from_pretrained(directory, trust_remote_code=True)
batch, reports = processor(xray=xray, ecg=ecg, text={"xray": "no effusion", "ecg": "sinus rhythm"}, return_report=True)
json.dump({"batch": {name: value.tolist() for name, value in batch.items()}, "reports": reports}, open(out, "w"))
assert not any(name.startswith("tgmm_hf.") for name in sys.modules)
"""


def ecg(seed: int = 0, rate: int = 500, seconds: float = 10) -> dict:
    signal = make_heart(int(seconds * rate), rate, seed)
    return {"signal": signal, "sampling_rate": rate, "lead_names": list(LEADS)}


def processor(**settings) -> MoreProcessor:
    return MoreProcessor(MoreImageProcessor(), MoreFeatureExtractor(), byte_tokenizer(), **settings)


# ---- X-rays


def test_an_xray_has_three_equal_channels_of_the_published_scale():
    values = MoreImageProcessor()(draw_chest(), return_tensors="pt")["pixel_values"]
    assert values.shape == (1, 3, 224, 224) and values.dtype == torch.float32
    assert torch.equal(values[:, 0], values[:, 1]) and torch.equal(values[:, 0], values[:, 2])
    assert values.min().item() == pytest.approx(-0.499 / 0.293, abs=1e-5)  # black and white both occur
    assert values.max().item() == pytest.approx((1 - 0.499) / 0.293, abs=1e-5)


def test_resizing_averages_and_does_not_keep_the_aspect_ratio():
    plain = MoreImageProcessor(clip_limit=None)
    wide = np.zeros((224, 896), np.uint8)
    wide[:, ::2] = 200  # stripes of one pixel: a filter that skips pixels would show them
    wide[:112] //= 2
    found = plain.equalise(wide, is_dicom=False).astype(int)
    assert found.shape == (224, 224)
    assert np.abs(np.diff(found[:100, 4:-4], axis=1)).max() <= 2
    assert found[:100].max() < found[130:, 4:-4].min()


def test_adaptive_equalisation_lifts_local_contrast_and_its_limit_matters():
    picture = draw_chest()
    faint = 100 + picture // 16  # the whole picture within 16 grey values
    limits = {
        limit: MoreImageProcessor(clip_limit=limit).equalise(faint, False).astype(float) for limit in (None, 0.01, 0.5)
    }

    def local_contrast(grey: np.ndarray) -> float:
        return float(np.abs(grey - uniform_filter(grey, 15)).mean())

    assert local_contrast(limits[None]) < local_contrast(limits[0.01]) < local_contrast(limits[0.5])
    assert all(grey.min() == 0 and grey.max() == 255 for grey in limits.values())
    assert np.corrcoef(limits[None].ravel(), limits[0.01].ravel())[0, 1] > 0.8


def test_brightness_and_contrast_of_a_file_hardly_matter(tmp_path: Path):
    """A DICOM file gives nearly the same picture whatever its scale, because its histogram is equalised."""
    pixels = draw_chest(top=4095)
    one = MoreImageProcessor()(write_xray(tmp_path / "a.dcm", pixels))["pixel_values"]
    two = MoreImageProcessor()(write_xray(tmp_path / "b.dcm", (pixels // 3 + 700).astype(np.uint16)))["pixel_values"]
    assert np.abs(one - two).mean() < 0.1
    raw = MoreImageProcessor(equalize_dicom=False)(tmp_path / "a.dcm")["pixel_values"]
    as_png = MoreImageProcessor()(np.rint(pixels / pixels.max() * 255).astype(np.uint8))["pixel_values"]
    assert np.abs(raw - as_png).mean() < 0.1 < np.abs(raw - one).mean()


def test_the_right_side_stays_right():
    heart_right = MoreImageProcessor()(draw_chest())["pixel_values"][0, 0]
    mirrored = MoreImageProcessor()(draw_chest()[:, ::-1])["pixel_values"][0, 0]
    assert np.abs(heart_right - mirrored[:, ::-1]).mean() < 0.1 < np.abs(heart_right - mirrored).mean()


def test_settings_of_the_image_processor_that_cannot_be_are_refused():
    for settings in ({"views": ["front"]}, {"size": 4}, {"clip_limit": 0}, {"clip_limit": 2}, {"image_std": 0}):
        with pytest.raises(ValueError):
            MoreImageProcessor(**settings)
    with pytest.raises(TypeError):
        MoreImageProcessor()(draw_chest(), do_resize=False)


# ---- ECGs


def published_ecg(signal: np.ndarray) -> np.ndarray:
    """Baseline by a running median over 21, then 61 samples with zeros beyond the ends, and min-max, all by hand."""

    def running_median(lead: np.ndarray, length: int) -> np.ndarray:
        padded = np.pad(lead, length // 2)
        return np.array([np.median(padded[i : i + length]) for i in range(len(lead))])

    rows = []
    for lead in signal:
        flat = lead - running_median(running_median(lead, 21), 61)
        rows.append(2 * (flat - flat.min()) / (flat.max() - flat.min()) - 1)
    return np.array(rows)


def test_an_ecg_at_100_hz_is_the_published_computation():
    recording = ecg(rate=100)
    values = MoreFeatureExtractor()(recording)["input_values"]
    assert values.shape == (1, 12, 1000) and values.dtype == np.float32
    assert_close(values[0], published_ecg(recording["signal"]).astype(np.float32), atol=1e-5)
    assert (values.min(-1) == -1).all() and (values.max(-1) == 1).all()


@pytest.mark.parametrize("rate", [200, 250, 500, 1000])
def test_other_rates_are_resampled_to_the_same_heart(rate: int):
    smooth = sosfiltfilt(butter(8, 35, fs=1000, output="sos"), make_heart(10_000, 1000))
    values = MoreFeatureExtractor()({**ecg(), "signal": smooth[:, :: 1000 // rate], "sampling_rate": rate})
    expected = published_ecg(smooth[:, ::10])
    for found, lead in zip(values["input_values"][0], expected, strict=True):
        assert np.corrcoef(found[50:-50], lead[50:-50])[0, 1] > 0.98


def test_baseline_wander_and_amplitude_leave_the_ecg_alone():
    recording = ecg(rate=500)
    plain = MoreFeatureExtractor()(recording)["input_values"]
    wander = 0.3 * np.sin(2 * np.pi * 0.15 * np.arange(5000) / 500)
    moved = {**recording, "signal": recording["signal"] + wander}
    doubled = {**recording, "signal": recording["signal"] * 1.5}
    assert np.abs(MoreFeatureExtractor()(moved)["input_values"] - plain)[..., 50:-50].mean() < 0.05
    assert_close(MoreFeatureExtractor()(doubled)["input_values"], plain, atol=1e-4)


def test_leads_are_named_and_ordered(tmp_path: Path):
    recording = ecg()
    order = [*LEADS[::-1]]
    shuffled = {**recording, "signal": recording["signal"][::-1], "lead_names": order}
    plain = MoreFeatureExtractor()(recording)["input_values"]
    assert_close(MoreFeatureExtractor()(shuffled)["input_values"], plain)
    assert_close(MoreFeatureExtractor(lead_order=order)(recording)["input_values"], np.flip(plain, 1).copy())
    with pytest.raises(ValueError):
        MoreFeatureExtractor(lead_order=["I", "II"])
    few = {**recording, "signal": recording["signal"][:8], "lead_names": list(LEADS[:8])}
    for bad, words in ((few, "usable leads"), (ecg(seconds=8), "10 s"), (ecg(rate=90), "100 Hz")):
        with pytest.raises(InputRefusedError, match=words):
            MoreFeatureExtractor()(bad)
    wfdb = write_wfdb(tmp_path, make_ecg(), list(LEADS))
    assert MoreFeatureExtractor()(wfdb)["input_values"].shape == (1, 12, 1000)


# ---- the processor


def test_a_batch_mixes_patients_with_different_modalities():
    notes = [None, "a prompt", {"xray": "no  effusion", "ecg": None}]
    batch, reports = processor()(
        xray=[draw_chest(), None, draw_chest(seed=1)], ecg=[None, ecg(), ecg(1)], text=notes,
        return_report=True, return_tensors="pt",
    )  # fmt: skip
    assert batch["pixel_values"].shape == (3, 3, 224, 224) and batch["xray_mask"].tolist() == [True, False, True]
    assert batch["input_values"].shape == (3, 12, 1000) and batch["ecg_mask"].tolist() == [False, True, True]
    assert not batch["pixel_values"][1].any() and not batch["attention_mask"][0].any()
    tokenizer = byte_tokenizer()
    texts = [
        tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert "a prompt" in texts[1] and "The report from Xray is: no effusion" in texts[2] and "ECG" not in texts[2]
    assert [report["used"]["text"] for report in reports] == [[], ["prompt"], ["xray"]]
    assert reports[0]["used"]["xray"] == ["view not stated"] and reports[1]["used"]["ecg"] == list(LEADS)
    alone = processor()(xray=draw_chest(seed=1), ecg=ecg(1))
    assert_close(alone["pixel_values"][0], batch["pixel_values"][2].numpy())
    assert_close(alone["input_values"][0], batch["input_values"][2].numpy())
    assert "input_ids" not in alone


def test_both_notes_get_their_published_prefixes():
    ids = processor()(text={"ecg": "sinus rhythm", "xray": "clear lungs"})["input_ids"][0]
    assert "The report from Xray is: clear lungs The report from ECG is: sinus rhythm" in byte_tokenizer().decode(ids)


def test_long_texts_are_cut_with_a_note_and_padded_where_asked():
    long, short = "x" * 400, "y"
    batch, reports = processor(max_text_tokens=64)(text=[long, short], return_report=True)
    assert batch["input_ids"].shape[1] == 64 and any("cut" in note for note in reports[0]["notes"])
    assert not reports[1]["notes"]
    padded = processor(max_text_tokens=64, pad_to_max=True)(text=short)
    assert padded["input_ids"].shape == padded["attention_mask"].shape == (1, 64)
    assert padded["attention_mask"].sum() < 10


def test_special_tokens_in_a_note_are_text():
    tokenizer = byte_tokenizer()
    ids = processor()(text=f"a {tokenizer.eos_token} b")["input_ids"][0].tolist()
    plain = processor()(text="a b")["input_ids"][0].tolist()
    assert ids.count(tokenizer.eos_token_id) == plain.count(tokenizer.eos_token_id)


def test_one_bad_record_does_not_stop_a_batch(tmp_path: Path):
    bad = write_xray(tmp_path / "Doe^John.dcm", BodyPartExamined="HAND")
    batch, reports = processor()(
        xray=[bad, draw_chest()], ecg=[ecg(), ecg(seconds=4)], text=["a", "b"], on_refusal="report", return_report=True
    )
    assert batch["xray_mask"].tolist() == [False, True] and batch["ecg_mask"].tolist() == [True, False]
    assert [each["item"] for each in reports[0]["refused"]] == ["xray"] and "HAND" in reports[0]["refused"][0]["reason"]
    assert [each["item"] for each in reports[1]["refused"]] == ["ecg"]
    assert "Doe" not in json.dumps(reports)
    with pytest.raises(InputRefusedError):
        processor()(xray=bad)


def test_a_doubt_is_noted_or_refuses_the_patient(tmp_path: Path):
    turned = ecg()
    turned["signal"][6:] *= -1
    batch, reports = processor()(xray=draw_chest(), ecg=turned, return_report=True)
    assert [check["code"] for check in reports[0]["checks"]] == ["ecg_chest_leads_turned"] and batch["ecg_mask"].all()
    batch, reports = processor()(
        xray=[draw_chest(), draw_chest()],
        ecg=[turned, None],
        strictness="refuse",
        on_refusal="report",
        return_report=True,
    )
    assert batch["xray_mask"].tolist() == [False, True] and "input_values" not in batch
    assert reports[0]["refused"][0]["item"] == "patient" and reports[0]["used"]["xray"] == []
    mirrored = write_xray(tmp_path / "x.dcm", PatientOrientation=["R", "F"])
    _, reports = processor()(xray=mirrored, return_report=True)
    assert not reports[0]["checks"] and "mirrored" in reports[0]["notes"][0]


def test_xray_and_ecg_of_two_patients_are_refused(tmp_path: Path):
    mine = {"PatientID": "A1", "PatientBirthDate": "19500101", "PatientSex": "M"}
    xray = write_xray(tmp_path / "x.dcm", **{**mine, "PatientID": "B2", "PatientBirthDate": "19610303"})
    group = waveform_group(1000 * make_heart(5000, 500), list(LEADS), 500.0, "ORIGINAL")
    recording = write_ecg_dicom(tmp_path / "ecg.dcm", [group])
    dataset = pydicom.dcmread(recording)
    for name, value in mine.items():
        setattr(dataset, name, value)
    dataset.save_as(recording)
    with pytest.raises(InputRefusedError, match="different patients"):
        processor()(xray=xray, ecg=recording)
    same = write_xray(tmp_path / "y.dcm", **mine)
    assert processor()(xray=same, ecg=recording)["xray_mask"].all()


def test_wrong_calls_are_refused():
    wrong = [
        ({}, ValueError),
        ({"xray": [draw_chest()], "ecg": [ecg(), ecg()]}, ValueError),
        ({"xray": []}, ValueError),
        ({"images": draw_chest()}, TypeError),
        ({"text": 5}, TypeError),
        ({"text": {"echo": "a"}}, ValueError),
        ({"text": "a", "strictness": "some"}, ValueError),
        ({"text": "a", "on_refusal": "stop"}, ValueError),
    ]
    for arguments, error in wrong:
        with pytest.raises(error):
            processor()(**arguments)
    with pytest.raises(ValueError):
        processor(max_text_tokens=2)


@pytest.mark.slow
def test_a_saved_processor_gives_the_same_in_a_clean_process(tmp_path: Path):
    mine = processor(max_text_tokens=128, pad_to_max=True)
    tiny_more().save_pretrained(tmp_path / "model")
    mine.save_pretrained(tmp_path / "model")
    again = AutoProcessor.from_pretrained(tmp_path / "model")
    assert type(again) is MoreProcessor and (again.max_text_tokens, again.pad_to_max) == (128, True)
    assert type(AutoImageProcessor.from_pretrained(tmp_path / "model")) is MoreImageProcessor
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path / "model")) is MoreFeatureExtractor
    xray, recording = write_xray(tmp_path / "x.dcm"), write_wfdb(tmp_path, make_ecg(), list(LEADS))
    words = [str(each) for each in (tmp_path / "model", xray, recording, tmp_path / "out.json")]
    run_without_package(CLEAN_PROCESS, *words, work=tmp_path)
    found = json.loads((tmp_path / "out.json").read_text())
    batch, reports = mine(
        xray=xray, ecg=recording, text={"xray": "no effusion", "ecg": "sinus rhythm"}, return_report=True
    )
    assert found["reports"] == reports and set(found["batch"]) == set(batch) == set(mine.model_input_names)
    for name, value in batch.items():
        assert_close(np.array(found["batch"][name], value.dtype), value)


def test_transformers_own_pipeline_names_findings_of_an_xray(tmp_path: Path):
    xray = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    model = tiny_more(MoreForClassification, xray_config=xray, num_labels=3, problem_type="multi_label_classification")
    model.save_pretrained(tmp_path)
    MoreImageProcessor().save_pretrained(tmp_path)
    pipe = pipeline("image-classification", model=str(tmp_path), device="cpu")
    image = Image.open(write_picture(tmp_path / "x.png"))
    scores = {each["label"]: each["score"] for each in pipe(image)}
    with torch.no_grad():
        expected = model(pixel_values=MoreImageProcessor()(image, return_tensors="pt")["pixel_values"]).logits.sigmoid()
    assert_close([scores[f"LABEL_{index}"] for index in range(3)], expected[0].tolist(), atol=2e-2)
