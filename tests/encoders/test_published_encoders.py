"""Encoders with weights of others: converted, inside TGMM with their own preprocessing, and without the package."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from closeness import assert_close
from fresh_process import run_without_package
from heart_signal import make_heart
from input_files import make_clip
from published_encoders import ecg_fm_weights, echo_jepa_weights, hubert_ecg_weights, pan_echo_weights
from tiny_models import random_batch, smallest_config, tiny_tokenizer
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel, BertForMaskedLM

from tgmm_hf import LEADS, EchoMvitModel, StMemModel, TgmmCardiacPipeline, TgmmConfig, TgmmModel, TgmmProcessor
from tgmm_hf.data.prepare import processor_settings
from tgmm_hf.data.prepared_fit import check_prepared
from tgmm_hf.explanation.explain import explain, methods_of
from tgmm_hf.hub.convert import convert
from tgmm_hf.inputs.declared_preprocessing import declared_extractor
from tgmm_hf.processing_tgmm import BERT_CASED_SIZE, bert_cased_tokenizer, default_processor
from tgmm_hf.utils.errors import TgmmError

SETTINGS: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "embedding_dim": 16}
MASKS = ("attention_mask", "ecg_mask", "view_mask")


@dataclass(frozen=True)
class Case:
    """A published encoder in a small size.

    Attributes:
        kind: as `tgmm convert` names it.
        modality: "ecg" or "echo".
        file: name of the published file.
        content: makes the content of the file.
        extractor: class that prepares its inputs.
        layers: number of its layers.
        sizes: sizes of a clip, smaller than those of the published encoder.
    """

    kind: str
    modality: str
    file: str
    content: Callable[[], dict[str, Any]]
    extractor: str
    layers: int
    sizes: dict[str, int] = field(default_factory=dict)


CASES = [
    Case(
        "hubert-ecg",
        "ecg",
        "hubert_ecg_small.pt",
        lambda: {"global_step": 9, "model_state_dict": hubert_ecg_weights(512, depth=2)},
        "HubertEcgFeatureExtractor",
        2,
    ),
    Case(
        "echojepa",
        "echo",
        "latest.pt",
        lambda: {"epoch": 1, "encoder": {}, "target_encoder": echo_jepa_weights(1024, depth=2)},
        "StretchedEchoImageProcessor",
        2,
        {"crop_size": 32, "frames_per_clip": 4},
    ),
    Case(
        "panecho",
        "echo",
        "panecho.pt",
        lambda: {"epoch": 1, "weights": pan_echo_weights()},
        "StretchedEchoImageProcessor",
        2,
        {"image_size": 64},
    ),
    Case(
        "ecg-fm",
        "ecg",
        "mimic_iv_ecg_physionet_pretrained.pt",
        lambda: {"args": None, "cfg": {"model": {"layer_norm_first": False}}, "model": ecg_fm_weights(768, depth=2)},
        "EcgFmFeatureExtractor",
        2,
    ),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.kind)
def case(request) -> Case:
    return request.param


@pytest.fixture(scope="module")
def directory(case: Case, tmp_path_factory, forked_reading: None) -> Path:
    """The converted encoder, with smaller clips than its weights were trained on."""
    root = tmp_path_factory.mktemp(case.kind)
    torch.save(case.content(), root / case.file)
    model = convert(case.kind, root / case.file, root / "encoder", accept_license=True).model
    if case.sizes:  # no weight depends on them
        settings = {**model.config.to_dict(), **case.sizes, "preprocessing": None, "processor_fingerprint": None}
        smaller = type(model)(type(model.config).from_dict(settings))
        smaller.load_state_dict(model.state_dict())
        smaller.save_pretrained(root / "encoder")
        declared_extractor(smaller.config).save_pretrained(root / "encoder")
    return root / "encoder"


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> dict[str, Path]:
    """Small encoders of our own."""
    root, config = tmp_path_factory.mktemp("ours"), smallest_config()
    torch.manual_seed(0)
    BertForMaskedLM(config.labs_config).save_pretrained(root / "labs")
    tiny_tokenizer().save_pretrained(root / "labs")
    StMemModel(config.ecg_config).save_pretrained(root / "ecg")
    EchoMvitModel(config.echo_config).save_pretrained(root / "echo")
    return {name: root / name for name in ("labs", "ecg", "echo")}


@pytest.fixture(scope="module")
def sources(case: Case, directory: Path, others: dict[str, Path]) -> dict[str, Any]:
    return {**others, case.modality: directory}


@pytest.fixture
def model(sources: dict[str, Any]) -> TgmmModel:
    torch.manual_seed(1)
    return TgmmModel.from_encoders(**sources, **SETTINGS)


@pytest.fixture(scope="module")
def processor(sources: dict[str, Any]) -> TgmmProcessor:
    return TgmmProcessor.from_encoders(**sources)


def a_patient() -> dict[str, Any]:
    return {
        "labs": {"age": 71},
        "ecg": {"signal": make_heart(5000, 500), "sampling_rate": 500, "lead_names": list(LEADS)},
        "echo": {"A4C": make_clip(frames=20, height=96, width=128, seed=1)},
    }


def inputs_for(model: TgmmModel, batch_size: int = 2) -> dict[str, torch.Tensor]:
    """Random inputs of the sizes that the encoders declare."""
    batch = random_batch(model.config, batch_size=batch_size)
    batch["ecg_values"] = torch.randn(batch_size, 12, model.config.ecg_config.seq_length)
    batch["view_mask"][:] = False
    batch["view_mask"][:, 2] = True
    return batch


def part_of(processor: TgmmProcessor, case: Case) -> Any:
    return processor.feature_extractor if case.modality == "ecg" else processor.image_processor


def test_the_directory_holds_model_processor_and_terms(case, directory):
    model = AutoModel.from_pretrained(directory)
    auto = AutoFeatureExtractor if case.modality == "ecg" else AutoImageProcessor
    assert type(auto.from_pretrained(directory)).__name__ == case.extractor
    card = (directory / "README.md").read_text()
    assert "license" in card.split("---")[1] and "acknowledged these terms" in card
    assert case.extractor in json.dumps(json.loads((directory / "config.json").read_text())["preprocessing"])
    assert all(p.isfinite().all() for p in model.parameters())


def test_it_answers_inside_tgmm_and_comes_back_from_a_directory(case, model, processor, tmp_path):
    assert type(part_of(processor, case)).__name__ == case.extractor
    answer = TgmmCardiacPipeline(model=model, processor=processor)(a_patient())
    assert answer["used"]["ecg"] and answer["used"]["echo"]
    model.save_pretrained(tmp_path / "tgmm")
    processor.save_pretrained(tmp_path / "tgmm")
    again, processor_again = (
        TgmmModel.from_pretrained(tmp_path / "tgmm").eval(),
        TgmmProcessor.from_pretrained(tmp_path / "tgmm"),
    )
    assert type(part_of(processor_again, case)).__name__ == case.extractor
    assert_close(
        TgmmCardiacPipeline(model=again, processor=processor_again)(a_patient())["hf_diagnosis"], answer["hf_diagnosis"]
    )
    sources = model.config.encoder_sources[case.modality]
    assert sources["license"] or sources["license_name"]


def test_another_preprocessing_is_refused(case, model, processor, others):
    """ST-MEM's or EchoPrime's preparation never reaches an encoder that declares its own."""
    ours = TgmmProcessor.from_encoders(**others)
    with pytest.raises(TgmmError, match=case.extractor):
        TgmmCardiacPipeline(model=model, processor=ours)
    with pytest.raises(TgmmError, match=case.extractor):
        check_prepared(model.config, ours, {})
    with pytest.raises(TgmmError, match=r"prepared by (EcgFeatureExtractor|EchoImageProcessor)"):
        check_prepared(model.config, processor, {"processor": processor_settings(ours)})
    check_prepared(model.config, processor, {"processor": json.loads(json.dumps(processor_settings(processor)))})
    part, name = part_of(processor, case), "sampling_rate" if case.modality == "ecg" else "frame_stride"
    value = getattr(part, name)
    setattr(part, name, value + 1)
    try:
        with pytest.raises(TgmmError, match=f"{name} is {value + 1}, .*{value}"):
            TgmmCardiacPipeline(model=model, processor=processor)
    finally:
        setattr(part, name, value)


def test_inputs_of_another_size_are_refused(case, model):
    batch = inputs_for(model)
    name = {"ecg": "ecg_values", "echo": "pixel_values_videos"}[case.modality]
    with pytest.raises(ValueError, match=name):
        model(**{**batch, name: batch[name][..., :-16]})


def test_the_configuration_alone_gives_its_processor(case, model):
    config = TgmmConfig.from_dict(json.loads(json.dumps(model.config.to_dict())))
    assert (
        type(getattr(config, f"{case.modality}_config")).__name__
        == type(getattr(model.config, f"{case.modality}_config")).__name__
    )
    assert type(part_of(default_processor(config, tiny_tokenizer()), case)).__name__ == case.extractor


def test_new_weights_by_the_configuration(case, model):
    """A configuration alone makes a model with random weights of this kind."""
    kind = getattr(model.config, f"{case.modality}_config").model_type
    small = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "num_conv_pos_embedding_groups": 2}
    small |= {"frame_widths": [8, 32], "frame_depths": [1, 1], "intermediate_size": 40, "num_frames": 4}
    config = TgmmConfig.tiny(**{f"{case.modality}_config": {"model_type": kind, **small}}, **SETTINGS)
    config.tokenize_tasks(bert_cased_tokenizer())
    config.labs_config.vocab_size = BERT_CASED_SIZE
    new = TgmmModel(config).eval()
    assert type(new.encoders[case.modality]) is type(model.encoders[case.modality])
    processor = default_processor(config)
    patient = {name: value for name, value in a_patient().items() if name != "labs"}
    assert TgmmCardiacPipeline(model=new, processor=processor)(patient)["hf_diagnosis"]


@pytest.mark.parametrize("layers", [0, 1])
def test_frozen_features_give_the_answer_of_the_whole_model(case, model, layers):
    model.freeze_encoders(layers)
    encoder = model.encoders[case.modality]
    trained = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert bool(trained) == bool(layers)
    assert all(f".{case.layers - 1}." in name or "norm" in name for name in trained)
    batch = inputs_for(model)
    batch["ecg_mask"][0, 4] = False
    with torch.no_grad():
        whole = model(**batch).logits
        frozen = model.frozen_features(**batch)
        assert_close(model(**frozen, **{name: batch[name] for name in MASKS}).logits, whole)


def test_training_moves_the_encoder(case, model):
    loss = model.train()(
        **inputs_for(model), task="hf_diagnosis", labels={"hf_diagnosis": {"label": torch.tensor([0, 1])}}
    ).loss
    loss.backward()
    gradients = [p.grad for p in model.encoders[case.modality].parameters() if p.requires_grad]
    assert all(gradient is not None for gradient in gradients)
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0


def test_one_patient_does_not_change_another(model):
    batch = inputs_for(model, batch_size=3)
    with torch.no_grad():
        together = model(**batch).logits
        alone = model(**{name: value[1:2] for name, value in batch.items()}).logits
    assert_close(alone, together[1:2])


def test_what_stands_under_a_mask_does_not_matter(model):
    batch = inputs_for(model)
    batch["ecg_mask"][0, 3] = False
    other = {name: value.clone() for name, value in batch.items()}
    other["ecg_values"][0, 3] = torch.nan
    other["pixel_values_videos"][~other["view_mask"]] = torch.nan
    with torch.no_grad():
        assert_close(model(**other).logits, model(**batch).logits)


CLEAN_PROCESS = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import numpy, torch
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
arrays = numpy.load(sys.argv[2])
ecg = {"signal": arrays["ecg"], "sampling_rate": 500, "lead_names": arrays["leads"].tolist()}
inputs = processor(ecg=ecg, echo={"A4C": arrays["clip"]}, return_tensors="pt")
with torch.no_grad():
    print("ANSWER", model(**inputs).logits.tolist())
"""


@pytest.mark.slow
def test_tgmm_with_it_works_without_the_package(model, processor, tmp_path):
    model.save_pretrained(tmp_path / "tgmm")
    processor.save_pretrained(tmp_path / "tgmm")
    patient = a_patient()
    arrays = {"ecg": patient["ecg"]["signal"], "leads": np.array(LEADS), "clip": patient["echo"]["A4C"]}
    np.savez(tmp_path / "arrays.npz", **arrays)
    printed = run_without_package(CLEAN_PROCESS, tmp_path / "tgmm", tmp_path / "arrays.npz", work=tmp_path)
    inputs = processor(ecg=patient["ecg"], echo=patient["echo"], return_tensors="pt")
    with torch.no_grad():
        assert_close(json.loads(printed.partition("ANSWER ")[2]), model(**inputs).logits.tolist())


@pytest.mark.slow
def test_an_answer_is_explained_by_every_method_that_fits(case, model, processor):
    methods = methods_of(model)
    chosen = {"ecg": list(methods["ecg"]), "echo": list(methods["echo"])}
    explained = explain(model.eval(), processor, a_patient(), methods=chosen)
    for modality, names in chosen.items():
        for name in names:
            attribution = explained.attribution(modality, name)
            assert attribution is not None, name
            assert not np.isinf(attribution.values).any() and np.nanstd(attribution.values) > 0, name
    other = {"ecg": "grad_cam_plus_plus", "echo": "grad_cam_plus_plus"}[case.modality]
    with pytest.raises(ValueError, match="cannot explain"):
        explain(model, processor, a_patient(), methods={case.modality: [other]})
