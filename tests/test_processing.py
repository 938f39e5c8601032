"""The processor: batches of mixed modalities, cutting long rows, refusals, saving and loading."""

import json

import numpy as np
import pydicom
import pytest
import torch
from closeness import assert_close, is_close
from fresh_process import run_without_package
from heart_signal import make_heart
from input_files import make_patches, waveform_group, write_ecg_dicom
from transformers import AutoTokenizer

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.tokenizer import task_texts, train_tokenizer
from tgmm_hf.inputs.lab_text import SEPARATOR
from tgmm_hf.inputs.processor_parts import fitting_parts
from tgmm_hf.processing_tgmm import BERT_CASED_SIZE, TgmmProcessor, bert_cased_tokenizer, default_processor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS, VIEWS

SIZE, FRAMES = 32, 4
WORDS = "Creatinine NTproBNP Sodium Potassium medical history of the patient is hypertension mg/dL"


@pytest.fixture(scope="module")
def config():
    return TgmmConfig.tiny(echo_config={"image_size": SIZE, "num_frames": FRAMES})


@pytest.fixture(scope="module")
def processor(config):
    return default_processor(config, train_tokenizer([WORDS, WORDS, *task_texts(config.tasks)]))


@pytest.fixture(scope="module")
def cased():
    return bert_cased_tokenizer()


def make_ecg(seed=0, seconds=10.0, rate=250.0):
    signal = make_heart(int(seconds * rate), rate, seed)
    return {"signal": signal, "sampling_rate": rate, "lead_names": list(LEADS)}


def make_clip(seed=0, frames=10):
    return make_patches(frames, 40, 50, seed)


def test_single_patient(processor):
    inputs = processor(
        labs={"Creatinine": 1.4, "NTproBNP": 5210},
        ecg=make_ecg(),
        echo={"A4C": make_clip(), "Subcostal": make_clip(1)},
        return_tensors="pt",
    )
    assert list(inputs) == processor.model_input_names
    assert inputs["ecg_values"].shape == (1, 12, 2250) and inputs["ecg_mask"].all()
    assert inputs["pixel_values_videos"].shape == (1, 11, FRAMES, 3, SIZE, SIZE)
    assert inputs["pixel_values_videos"].dtype == inputs["ecg_values"].dtype == torch.float32
    assert inputs["view_mask"][0].nonzero().flatten().tolist() == [VIEWS.index("A4C"), VIEWS.index("Subcostal")]
    text = processor.tokenizer.decode(inputs["input_ids"][0], skip_special_tokens=True)
    assert text.startswith("NTproBNP of the patient is")


def test_numpy_output_is_the_same(processor):
    arguments = {"labs": {"Sodium": 138}, "ecg": make_ecg(), "echo": {"A4C": make_clip()}}
    tensors, arrays = processor(**arguments, return_tensors="pt"), processor(**arguments, return_tensors="np")
    for name, tensor in tensors.items():
        assert_close(arrays[name], tensor.numpy())


PATIENTS = [
    {"labs": {"Creatinine": 1.4}, "ecg": None, "echo": None},
    {"labs": None, "ecg": make_ecg(1), "echo": None},
    {"labs": None, "ecg": None, "echo": {"A4C": make_clip(2), "SSN": make_clip(3)}},
    {"labs": {"Sodium": 138, "NTproBNP": 5210, "Potassium": 4.2}, "ecg": make_ecg(4), "echo": {"A2C": make_clip(5)}},
]


def test_batch_equals_its_singles(processor):
    batch = processor(**{name: [p[name] for p in PATIENTS] for name in ("labs", "ecg", "echo")}, return_tensors="pt")
    for row, patient in enumerate(PATIENTS):
        single = processor(**patient, return_tensors="pt")
        for name in processor.model_input_names:
            if name in single:
                length = single[name].shape[1]
                assert_close(batch[name][row][:length], single[name][0])
            elif "mask" in name:
                assert not batch[name][row].any(), (row, name)


def test_absent_modality_has_no_keys(processor):
    inputs = processor(labs=[{"Sodium": 138}, {"Sodium": 140}])
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert set(processor(ecg=make_ecg())) == {"ecg_values", "ecg_mask"}
    assert set(processor(labs=[None, {"Sodium": None}], ecg=[make_ecg(), None])) == {"ecg_values", "ecg_mask"}


def test_absent_labs_are_masked_everywhere(processor):
    inputs = processor(labs=[None, {"Sodium": 138}], return_tensors="pt")
    assert inputs["attention_mask"][0].sum() == 0
    assert (inputs["input_ids"][0] == processor.tokenizer.pad_token_id).all()


def test_wrong_calls_are_refused(processor):
    with pytest.raises(ValueError, match="at least one of labs, ecg and echo"):
        processor()
    with pytest.raises(ValueError, match=r"'labs': 2, 'ecg': 1"):
        processor(labs=[{}, {}], ecg=[make_ecg()])
    with pytest.raises(ValueError, match="at least one, got"):
        processor(labs=[])
    with pytest.raises(ValueError, match="'ignore'"):
        processor(labs={"Sodium": 1}, on_refusal="ignore")
    with pytest.raises(ValueError, match="'centre'"):
        processor(ecg=make_ecg(), crop="centre")
    with pytest.raises(TypeError, match="str"):
        processor(labs=["Sodium"])
    with pytest.raises(ValueError, match="3 for 2 patients"):
        processor(labs=[None, {"Sodium": 138}], views=[None, None, None])


def test_refusals_raise_or_are_reported(processor):
    short = make_ecg(seconds=5)
    with pytest.raises(InputRefusedError, match="Potassium 140"):
        processor(labs={"K": 140, "Na": 138})
    with pytest.raises(InputRefusedError, match="5 s"):
        processor(ecg=short)
    with pytest.raises(InputRefusedError):
        processor(echo={"A4C": make_clip(), "nowhere": make_clip()})
    inputs, reports = processor(
        labs=[{"K": 140, "Na": 138, "zinc": 3}, {"K": 140}],
        ecg=[short, make_ecg()],
        echo=[{"A4C": make_clip(), "nowhere": make_clip()}, {"A4C": make_clip(frames=1)}],
        on_refusal="report",
        return_report=True,
        return_tensors="pt",
    )
    assert reports[0]["used"] == {"labs": ["Sodium"], "ecg": [], "echo": ["A4C"]}
    assert [entry["item"] for entry in reports[0]["refused"]] == ["labs.K", "ecg", "nowhere"]
    assert any("zinc" in note for note in reports[0]["notes"])
    assert reports[1]["used"] == {"labs": [], "ecg": list(LEADS), "echo": []}
    assert inputs["attention_mask"].any(dim=1).tolist() == [True, False]
    assert inputs["ecg_mask"].any(dim=1).tolist() == [False, True]
    assert inputs["view_mask"].any(dim=1).tolist() == [True, False]
    json.dumps(reports)


def test_everything_refused_leaves_an_empty_batch_with_reasons(processor):
    inputs, (report,) = processor(labs={"K": 140}, on_refusal="report", return_report=True)
    assert len(inputs) == 0
    assert report["refused"][0]["item"] == "labs.K"


def test_study_as_list_of_files(processor, tmp_path):
    files = [tmp_path / "a.dcm", tmp_path / "b.dcm"]
    with pytest.raises(InputRefusedError, match="2 refused"):
        processor(echo=files)  # one study of two files that are not there
    with pytest.raises(ValueError, match=r"'labs': 1, 'echo': 2"):
        processor(labs=[{"Sodium": 138}], echo=files)  # beside a batch, a list is a list of studies


def test_crops(processor):
    ecg = make_ecg(seconds=12)
    random = [processor(ecg=ecg, crop="random", generator=np.random.default_rng(s))["ecg_values"] for s in (1, 1, 2)]
    assert_close(random[0], random[1])
    assert not is_close(random[0], random[2])
    three = processor(ecg=ecg, crop="three")["ecg_values"]
    assert three.shape == (1, 3, 12, 2250)
    assert_close(three[:, 1], processor(ecg=ecg)["ecg_values"])


def test_clips_are_normalised_as_the_image_processor_does(processor):
    long, short = make_clip(1, frames=12), make_clip(2, frames=3)
    direct = processor.image_processor({"A4C": long, "A2C": short}, return_tensors="np")
    through = processor(echo={"A4C": long, "A2C": short})
    np.testing.assert_allclose(through["pixel_values_videos"], direct["pixel_values_videos"], atol=1e-6)
    assert not through["pixel_values_videos"][0, VIEWS.index("A2C"), 2:].any()  # 3 frames at stride 2 are 2 frames


def test_long_rows_are_cut_between_cells(config, processor):
    row = {"medical history": "hypertension " * 40, "Creatinine": 1.4, "NTproBNP": 5210, "zinc": 3, "Sodium": 138}
    whole = processor.labs_text(row)
    assert whole.dropped == []
    small = TgmmProcessor(
        processor.feature_extractor, processor.image_processor, processor.tokenizer, max_labs_tokens=60
    )
    cut = small.labs_text(row)
    assert cut.dropped == ["medical history"]  # too long itself; what stands behind it still fits
    assert cut.used == ["NTproBNP", "Creatinine", "Sodium"]
    assert cut.text == SEPARATOR.join(s for s in whole.text.split(SEPARATOR) if "history" not in s)
    assert any("medical history was dropped" in note for note in cut.notes)


@pytest.mark.parametrize("limit", [3, 10, 20, 33, 64, 200])
def test_cut_rows_fit_and_keep_the_most_important(processor, cased, limit):
    for tokenizer in (processor.tokenizer, cased):
        small = TgmmProcessor(processor.feature_extractor, processor.image_processor, tokenizer, max_labs_tokens=limit)
        row = {"age": 71, "Creatinine": 1.4, "NTproBNP": 5210, "Sodium": 138, "Uric Acid": 5.5, "zinc": (3, "ug/dL")}
        result = small.labs_text(row)
        assert len(result.used) + len(result.dropped) == 5 and result.unused == ["zinc"]
        if result.text:
            assert len(tokenizer(result.text)["input_ids"]) <= limit
        inputs = small(labs=row)
        assert "input_ids" not in inputs or inputs["input_ids"].shape[1] <= limit


def test_object_and_flags(processor):
    other = TgmmProcessor(
        processor.feature_extractor,
        processor.image_processor,
        processor.tokenizer,
        labs_object="woman",
        labs_flags=True,
    )
    assert other.labs_text({"Sodium": 120}).text == "Sodium of the woman is 120 (low)"


def test_special_tokens_in_a_row_are_text(processor):
    """A row of "[PAD]" must neither hide cells nor end the text."""
    tokens = processor.tokenizer
    text = processor.labs_text({"medical history": f"{tokens.pad_token} {tokens.sep_token} hypertension"}).text
    ids = processor.tokenize([text])["input_ids"][0].tolist()
    assert ids.count(tokens.sep_token_id) == 1 and ids[-1] == tokens.sep_token_id
    assert tokens.pad_token_id not in ids


def test_columns_of_the_training_travel_with_the_processor(processor, tmp_path):
    other = TgmmProcessor(
        processor.feature_extractor,
        processor.image_processor,
        processor.tokenizer,
        labs_units="always",
        labs_columns=["Sodium", "zinc"],
    )
    other.save_pretrained(tmp_path)
    labs = TgmmProcessor.from_pretrained(tmp_path).labs_text({"Sodium": 140, "zinc": 80, "Potassium": 4})
    assert labs.text == "Sodium of the patient is 140 mEq/L; zinc of the patient is 80"
    assert labs.unused == ["Potassium"] and any("Potassium is not used" in note for note in labs.notes)
    with pytest.raises(ValueError, match="'sometimes'"):
        TgmmProcessor(
            processor.feature_extractor, processor.image_processor, processor.tokenizer, labs_units="sometimes"
        )


@pytest.mark.parametrize(
    "setting", [{"labs_object": {}}, {"labs_object": " "}, {"labs_flags": "no"}, {"labs_flags": 1}]
)
def test_a_setting_of_the_text_that_is_of_another_type_is_refused(processor, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        TgmmProcessor(processor.feature_extractor, processor.image_processor, processor.tokenizer, **setting)


def test_labs_text_accepts_prepared_json(processor):
    row = {"NTproBNP": [5210.0, "pg/mL"], "Creatinine": 1.4, "Troponin T": "<0.01"}
    again = json.loads(json.dumps(row))
    assert processor.labs_text(again).text == processor.labs_text(row).text


def test_bert_cased_vocabulary(cased, tmp_path):
    assert len(cased) == BERT_CASED_SIZE
    ids = cased("NTproBNP of the patient is 5210")["input_ids"]
    assert cased.unk_token_id not in ids
    assert ids[0] == 101 and ids[-1] == 102  # BERT's [CLS] and [SEP]
    assert cased.tokenize("Heart") != cased.tokenize("heart")
    cased.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert len(loaded) == BERT_CASED_SIZE
    assert loaded("NTproBNP of the patient is 5210")["input_ids"] == ids


def test_vocabulary_is_the_published_one(shared_dir, cased):
    tokens = (shared_dir / "data" / "bert_cased" / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert cased.convert_tokens_to_ids(tokens) == list(range(BERT_CASED_SIZE))


def test_default_processor_fits_the_config(config, processor, cased):
    assert processor.image_processor.size == SIZE and processor.image_processor.num_frames == FRAMES
    assert processor.max_labs_tokens == 512
    with pytest.raises(ValueError, match="28996 tokens but the text encoder only 1024"):
        default_processor(config, cased)
    short = TgmmConfig.tiny(ecg_config={"seq_length": 1125})
    assert default_processor(short, processor.tokenizer).feature_extractor.num_samples == 1125
    with pytest.raises(ValueError, match="2250 samples .* takes 1125"):
        fitting_parts(short, processor.tokenizer, extractor=processor.feature_extractor)
    assert default_processor(TgmmConfig()).image_processor.size == 224
    with pytest.raises(ValueError, match="got 2"):
        TgmmProcessor(processor.feature_extractor, processor.image_processor, processor.tokenizer, max_labs_tokens=2)


def test_save_and_load(processor, tmp_path):
    custom = TgmmProcessor(
        processor.feature_extractor, processor.image_processor, processor.tokenizer, "person", True, 200
    )
    custom.save_pretrained(tmp_path)
    assert (tmp_path / "processor_config.json").is_file()
    assert not (tmp_path / "preprocessor_config.json").exists()
    loaded = TgmmProcessor.from_pretrained(tmp_path, trust_remote_code=True)
    assert (loaded.labs_object, loaded.labs_flags, loaded.max_labs_tokens) == ("person", True, 200)
    saved, again = (p.to_dict() for p in (custom, loaded))
    assert {k: v for k, v in again.items() if k != "auto_map"} == {k: v for k, v in saved.items() if k != "auto_map"}
    arguments = {"labs": {"Sodium": 120}, "ecg": make_ecg(), "echo": {"A4C": make_clip()}}
    for name, array in custom(**arguments).items():
        assert_close(loaded(**arguments)[name], array)


REMOTE = """
import sys
sys.modules["tgmm_hf"] = None  # importing it now fails, wherever it is installed
import numpy as np
from transformers import AutoProcessor

folder, inputs_file, outputs_file = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
data = np.load(inputs_file)
leads = "I II III aVR aVL aVF V1 V2 V3 V4 V5 V6".split()
ecg = {"signal": data["signal"], "sampling_rate": 250, "lead_names": leads}
out = processor(labs={"crea": (124, "umol/L")}, ecg=ecg, echo={"A4C": data["clip"]}, return_tensors="np")
np.savez(outputs_file, **out)
processor.save_pretrained(folder + "_again")
"""


def test_loads_from_a_repository_where_the_package_is_absent(processor, tmp_path):
    """Fresh process, fresh Hugging Face home, no tgmm_hf: the saved folder alone gives the same inputs."""
    folder = tmp_path / "repository"
    processor.save_pretrained(folder)
    ecg, clip = make_ecg(), make_clip()
    np.savez(tmp_path / "inputs.npz", signal=ecg["signal"], clip=clip)
    run_without_package(REMOTE, folder, tmp_path / "inputs.npz", tmp_path / "outputs.npz", work=tmp_path)
    expected = processor(labs={"crea": (124, "umol/L")}, ecg=ecg, echo={"A4C": clip}, return_tensors="np")
    with np.load(tmp_path / "outputs.npz") as outputs:
        assert set(outputs) == set(expected)
        for name in outputs:
            assert_close(outputs[name], expected[name])
    assert (tmp_path / "repository_again" / "lab_text.py").is_file()


def test_doubtful_labs_are_left_out_or_refuse_the_patient(processor):
    row = {"Hemoglobin": 8.7, "Sodium": 140}
    features, (report,) = processor(labs=row, ecg=make_ecg(), on_refusal="report", return_report=True)
    assert report["used"]["labs"] == ["Sodium"] and len(report["used"]["ecg"]) == 12
    assert [check["code"] for check in report["checks"]] == ["labs_doubtful_unit"]
    assert report["units"] == [{"column": "Sodium", "unit": "mEq/L", "given": False, "given_unit": ""}]
    options = {"on_refusal": "report", "return_report": True, "strictness": "refuse"}
    rows, recordings = [row, {"Sodium": 140}], [make_ecg(), None]
    features, (doubtful, clear) = processor(labs=rows, ecg=recordings, **options)
    assert not any(doubtful["used"].values()) and doubtful["refused"][-1]["item"] == "patient"
    assert not features["attention_mask"][0].any() and "ecg_values" not in features
    assert clear["used"]["labs"] == ["Sodium"] and not clear["refused"]


def test_a_doubtful_header_of_an_ecg_refuses_the_patient_in_a_strict_run(processor, tmp_path):
    path = write_ecg_dicom(
        tmp_path / "ecg.dcm", [waveform_group(make_heart(5000) * 1000, list(LEADS), 500, "ORIGINAL")]
    )
    header = pydicom.dcmread(path)
    header.StudyDescription = "Treadmill test"
    header.save_as(path)
    options = {"on_refusal": "report", "return_report": True}
    _, (report,) = processor(ecg=str(path), **options)
    assert report["used"]["ecg"] and [check["code"] for check in report["checks"]] == ["ecg_not_at_rest"]
    _, (report,) = processor(ecg=str(path), strictness="refuse", **options)
    assert not report["used"]["ecg"] and report["refused"]


def test_a_declared_unit_system_settles_the_doubt(processor):
    declared = processor(labs={"Hemoglobin": 8.7}, units="US")
    with_unit = processor(labs={"Hemoglobin": (8.7, "g/dL")}, strictness="refuse")
    assert np.array_equal(declared["input_ids"], with_unit["input_ids"])
    with pytest.raises(InputRefusedError, match="mmol/L"):
        processor(labs={"Hemoglobin": 8.7})
    with pytest.raises(ValueError, match="SI"):
        processor(labs={"Hemoglobin": 8.7}, units="metric")
