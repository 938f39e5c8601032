"""The cache of frozen features: it gives the same losses as no cache, can be continued, and is never wrong."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from closeness import assert_close, is_close
from prepared_data import FRAMES, SIZE
from safetensors import safe_open
from safetensors.torch import load, save_file
from tiny_models import only, random_batch, random_labels, smallest_config, smallest_model
from transformers import RobertaConfig, RobertaModel

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.training import frozen_features_cache, frozen_features_key
from tgmm_hf.training.arguments import RunArguments, parse_arguments
from tgmm_hf.training.frozen_features_cache import FrozenFeaturesCache
from tgmm_hf.training.frozen_features_collator import CACHED_COLUMNS, FrozenFeaturesCollator, fill_and_read_cache
from tgmm_hf.training.saving import save_repository
from tgmm_hf.training.starting_model import build
from tgmm_hf.training.train import train
from tgmm_hf.training.trainer import TgmmTrainer

TASKS = {"hf_diagnosis": None, "hf_risk": {"weight": 0.5}, "retrieval": None}
DROPOUT = {
    "labs_config": {
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "hidden_dropout_prob": 0.3,
        "attention_probs_dropout_prob": 0.3,
    },
    "ecg_config": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "hidden_dropout_prob": 0.3,
        "attention_probs_dropout_prob": 0.3,
    },
    "echo_config": {
        "image_size": 32,
        "num_frames": 4,
        "stage_depths": (1, 1, 1),
        "stage_widths": (16, 32, 32),
        "stage_heads": (1, 2, 2),
        "hidden_size": 32,
        "drop_path_rate": 0.5,
    },
}
MASKS = ("attention_mask", "ecg_mask", "view_mask")


def with_frozen_features(model: TgmmModel, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Replace the values of a batch by frozen features."""
    with torch.no_grad():
        return model.frozen_features(**batch) | {name: batch[name] for name in MASKS}


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_frozen_features_and_trained_layers_give_the_answer_of_the_whole_model(layers: int) -> None:
    model = smallest_model(**DROPOUT)
    model.freeze_encoders(layers)
    batch = only(random_batch(model.config), ("labs",), slice(0, 1))
    batch = only(batch, ("ecg", "echo"), slice(1, 2))
    whole, parts = model(**batch, task="hf_diagnosis"), model(**with_frozen_features(model, batch), task="hf_diagnosis")
    assert torch.allclose(whole.logits, parts.logits, atol=1e-6)
    clips, tokens, _ = model.frozen_features(**batch)["echo_frozen"].shape
    assert clips == batch["view_mask"].sum()
    assert (tokens == 1) == (layers == 0)


def test_dropout_works_in_trained_layers_and_not_in_frozen_layers() -> None:
    model = smallest_model(**DROPOUT)
    model.freeze_encoders(1)
    model.train()
    batch = random_batch(model.config)
    first, second = (model.frozen_features(**batch) for _ in range(2))
    for name in first:
        assert_close(first[name], second[name])
    assert not is_close(*(model.labs_encoder(batch["input_ids"]).last_hidden_state for _ in range(2)))
    assert not is_close(*(model.echo_encoder(batch["pixel_values_videos"][:, 2]).pooler_output for _ in range(2)))
    model.freeze_encoders(None)
    assert all(module.training for module in model.labs_encoder.modules())


@pytest.mark.parametrize("layers", [0, 1])
def test_a_training_step_from_frozen_features_has_the_same_loss_and_gradients(layers: int) -> None:
    """Dropout is on in the trained layers. The frozen layers draw no random numbers."""
    model = smallest_model(**DROPOUT).double()  # rounding shows nothing else
    model.freeze_encoders(layers)
    batch = random_batch(model.config)
    steps = []
    for inputs in (batch, with_frozen_features(model, batch)):
        model.train().zero_grad()
        torch.manual_seed(3)
        loss = model(**inputs, task=list(model.config.tasks), labels=random_labels()).loss
        loss.backward()
        grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        steps.append((loss.detach(), grads))
    (loss, grads), (cut_loss, cut_grads) = steps
    assert torch.allclose(loss, cut_loss, atol=1e-10)
    assert grads.keys() == cut_grads.keys()
    assert all(torch.allclose(grads[name], cut_grads[name], atol=1e-8) for name in grads)
    assert any("labs_encoder" in name for name in grads) == (layers > 0)


def test_frozen_features_that_do_not_fit_the_other_inputs_are_refused() -> None:
    model = smallest_model()
    batch = random_batch(model.config)
    with pytest.raises(ValueError, match="call freeze_encoders"):
        model.frozen_features(**batch)
    model.freeze_encoders(1)
    features = with_frozen_features(model, batch)
    with pytest.raises(ValueError, match="labs_frozen stands in place of input_ids"):
        model(**features, input_ids=batch["input_ids"], task="hf_diagnosis")
    with pytest.raises(ValueError, match="echo_frozen .* needs view_mask"):
        model(**{name: value for name, value in features.items() if name != "view_mask"}, task="hf_diagnosis")
    with pytest.raises(ValueError, match="ecg_frozen has 3 rows, its mask says 4"):
        model(**{**features, "ecg_frozen": features["ecg_frozen"][:3]}, task="hf_diagnosis")
    with pytest.raises(ValueError, match="layers are not run"):
        model(**features, task="hf_diagnosis", output_hidden_states=True)


def test_another_text_encoder_can_be_cut_above_its_last_layer_only() -> None:
    own = smallest_model()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    roberta = RobertaModel(RobertaConfig(vocab_size=128, **sizes), add_pooling_layer=False)
    config = smallest_config(labs_config=roberta.config)
    model = TgmmModel(config, {"labs": roberta, "ecg": own.ecg_encoder, "echo": own.echo_encoder}).eval()
    batch = random_batch(config)
    model.freeze_encoders(1)
    with pytest.raises(ValueError, match=r"labs encoder \(roberta\) cannot be cut below its last 1 layers"):
        model.frozen_features(**batch)
    model.freeze_encoders(0)
    whole, parts = model(**batch, task="hf_diagnosis"), model(**with_frozen_features(model, batch), task="hf_diagnosis")
    assert torch.allclose(whole.logits, parts.logits, atol=1e-6)


# --- training runs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def start(prepared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model to fine-tune, with dropout everywhere."""
    sizes = {
        "labs_config": {"num_hidden_layers": 3, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
        "ecg_config": {"hidden_dropout_prob": 0.1},
        "echo_config": {
            "image_size": SIZE,
            "num_frames": FRAMES,
            "stage_depths": [1, 1, 1],
            "stage_widths": [8, 16, 16],
            "stage_heads": [1, 2, 2],
            "hidden_size": 16,
            "drop_path_rate": 0.3,
        },
    }
    settings = {"output": "-", "data": {"directory": str(prepared_dir)}, "tasks": TASKS, "model": {"overrides": sizes}}
    torch.manual_seed(0)
    model, processor = build(parse_arguments(settings), load_prepared(prepared_dir))
    directory = tmp_path_factory.mktemp("start") / "model"
    save_repository(model, processor, directory)
    return directory


def settings(
    prepared_dir: Path,
    start: Path,
    output: Path,
    cache: Any = None,
    layers: int | None = 1,
    seed: int = 0,
    cell_dropout: float = 0.0,
    **optimisation: Any,
) -> RunArguments:
    return parse_arguments(
        {
            "output": str(output),
            "seed": seed,
            "data": {"directory": str(prepared_dir), "cache": cache, "cell_dropout": cell_dropout},
            "tasks": TASKS,
            "model": {"checkpoint": str(start), "trainable_layers": layers},
            "optimisation": {
                "epochs": 3,
                "batch_size": 3,
                "optimizer": "adamw",
                "early_stopping_patience": None,
                "keep": "last",
                **optimisation,
            },
        }
    )


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the loss of every training step, because the log of the Trainer rounds to four places."""
    seen: list[float] = []
    compute_loss = TgmmTrainer.compute_loss

    def recording(self: TgmmTrainer, *args: Any, **kwargs: Any) -> Any:
        loss = compute_loss(self, *args, **kwargs)
        seen.append(loss.item())
        return loss

    monkeypatch.setattr(TgmmTrainer, "compute_loss", recording)
    return seen


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.slow
def test_twenty_steps_from_the_cache_have_the_losses_of_twenty_steps_without(
    layers: int, prepared_dir: Path, start: Path, tmp_path: Path, losses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EcgFeatureExtractor, "start_positions", lambda self, number, *_: [(number - 2250) // 2])
    plain = train(settings(prepared_dir, start, tmp_path / "plain", layers=layers))
    uncached = [losses.pop(0) for _ in range(len(losses))]
    cached = train(settings(prepared_dir, start, tmp_path / "model", {"directory": str(tmp_path / "cache")}, layers))
    assert len(losses) == len(uncached) >= 20
    print("largest difference:", max(abs(a - b) for a, b in zip(losses, uncached, strict=True)))
    assert losses == pytest.approx(uncached, abs=1e-5)
    for figure, bound in (("eval_loss", 1e-5), ("eval_score", 5e-3)):  # ranks: rounding may swap two patients
        without, with_cache = (
            [line[figure] for line in record["history"] if figure in line] for record in (plain, cached)
        )
        assert len(without) == 3 and with_cache == pytest.approx(without, abs=bound)
    centers = [
        TgmmModel.from_pretrained(tmp_path / name).config.tasks["hf_risk"]["baseline_hazards"]["labs+ecg+echo"][
            "risk_center"
        ]
        for name in ("plain", "model")
    ]
    assert centers[1] == pytest.approx(centers[0], abs=1e-4)


@pytest.mark.slow
def test_mixed_precision_trains_from_a_half_precision_cache(
    prepared_dir: Path, start: Path, tmp_path: Path, losses: list[float]
) -> None:
    cache = {"directory": str(tmp_path / "cache"), "dtype": "bfloat16"}
    train(settings(prepared_dir, start, tmp_path / "half", cache, epochs=1, batch_size=12, precision="bfloat16"))
    half = [losses.pop(0) for _ in range(len(losses))]
    train(settings(prepared_dir, start, tmp_path / "full", {**cache, "dtype": "float32"}, epochs=1, batch_size=12))
    assert half[0] == pytest.approx(losses[0], rel=0.05) and half != losses


def opened(
    prepared_dir: Path, start: Path, directory: Path, cell_dropout: float = 0.0, seed: int = 0, **cache: Any
) -> tuple[FrozenFeaturesCache, Any, Any, Any]:
    """Open an empty cache, with its model, its processor and rows."""
    own = {"directory": str(directory / "cache"), **cache}
    run = settings(prepared_dir, start, directory / "model", own, cell_dropout=cell_dropout, seed=seed)
    prepared = load_prepared(prepared_dir)
    model, processor = build(run, prepared)
    model.freeze_encoders(1)
    return (
        FrozenFeaturesCache.open(run, model, processor, "invented"),
        model,
        processor,
        prepared["test"].select(range(6)),
    )


def tensor_names(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def files(cache: FrozenFeaturesCache) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in cache.directory.rglob("*.safetensors")}


def test_only_missing_and_broken_files_are_computed_again(prepared_dir: Path, start: Path, tmp_path: Path) -> None:
    cache, model, processor, rows = opened(prepared_dir, start, tmp_path)
    cache.fill(rows, model, processor, Accelerator(cpu=True))
    before = files(cache)
    assert len(before) == len(rows)
    absent, cut_short, *whole = sorted(before)
    absent.unlink()
    cut_short.write_bytes(cut_short.read_bytes()[:-100])
    broken = next(str(record) for record in rows["id"] if cache.path(str(record)) == cut_short)
    with pytest.raises(OSError, match="delete it and run the same command again"):
        cache.load(broken, None)
    cache.fill(rows, model, processor, Accelerator(cpu=True))
    after = files(cache)
    assert after.keys() == before.keys() and all(after[path] == before[path] for path in whole)
    for path in (absent, cut_short):
        assert_close(load(after[path][1]), load(before[path][1]))
    assert not any(str(record) in str(path) for record in rows["id"] for path in after)  # names tell no id


def test_cached_batches_are_the_frozen_features_of_the_rows(prepared_dir: Path, start: Path, tmp_path: Path) -> None:
    cache, model, processor, rows = opened(prepared_dir, start, tmp_path)
    cache.fill(rows, model, processor, Accelerator(cpu=True))
    plain = TgmmCollator(processor, model.config, training=False)(list(rows))
    cached = FrozenFeaturesCollator(cache, processor, model.config, training=False)(
        list(rows.remove_columns(CACHED_COLUMNS))
    )
    assert plain["id"] == cached["id"]
    assert all(torch.equal(plain[name], cached[name]) for name in MASKS)
    with torch.no_grad():
        expected = model.frozen_features(**{k: v for k, v in plain.items() if k not in ("labels", "id")})
    for name in ("ecg_frozen", "echo_frozen"):
        assert torch.allclose(cached[name], expected[name], atol=1e-5), name
    is_token = plain["attention_mask"][plain["attention_mask"].any(1)].bool()
    assert torch.allclose(cached["labs_frozen"][is_token], expected["labs_frozen"][is_token], atol=1e-5)
    few = FrozenFeaturesCollator(cache, processor, model.config, training=True, max_views=1)(
        list(rows.remove_columns(CACHED_COLUMNS))
    )
    assert len(few["echo_frozen"]) == few["view_mask"].sum() == plain["view_mask"].any(1).sum()
    row, view = few["view_mask"].nonzero()[0].tolist()
    place = int(plain["view_mask"].flatten()[: row * few["view_mask"].shape[1] + view].sum())
    assert torch.allclose(few["echo_frozen"][0], expected["echo_frozen"][place], atol=1e-5)


def test_a_process_that_did_not_train_fills_the_cache_in_the_precision_of_the_run(
    prepared_dir: Path, start: Path, tmp_path: Path
) -> None:
    batches = []
    for precision in ("float32", "bfloat16"):
        run = settings(
            prepared_dir, start, tmp_path / "model", {"directory": str(tmp_path / precision)}, precision=precision
        )
        prepared = load_prepared(prepared_dir)
        model, processor = build(run, prepared)
        AcceleratorState._reset_state(reset_partial_state=True)
        rows, collate = fill_and_read_cache(run, model, processor, prepared["test"].select(range(2)), "invented")
        batches.append(collate([rows[0], rows[1]]))
    AcceleratorState._reset_state(reset_partial_state=True)
    full, half = (batch["ecg_frozen"] for batch in batches)
    assert not is_close(full, half)
    assert_close(full, half, rtol=0.1, atol=0.1)


def test_training_draws_from_several_variants_of_a_patient(prepared_dir: Path, start: Path, tmp_path: Path) -> None:
    cache, model, processor, rows = opened(prepared_dir, start, tmp_path, cell_dropout=0.5, variants=3)
    cache.fill(rows, model, processor, Accelerator(cpu=True), training=False)
    record = str(max((row for row in rows if any(row["ecg_mask"])), key=lambda row: len(row["labs"] or ""))["id"])
    assert cache.load(record, None) and "labs_1" not in tensor_names(cache.path(record))  # nothing is drawn to test on
    cache.fill(rows, model, processor, Accelerator(cpu=True))
    one, *_ = opened(prepared_dir, start, tmp_path)
    assert one.directory != cache.directory
    one.fill(rows, model, processor, Accelerator(cpu=True))
    variants = [cache.load(record, None, window=which, text=which) for which in range(3)]
    for name, whole in one.load(record, None).items():
        assert torch.allclose(variants[0][name], whole, atol=1e-5)  # the centre window, the whole text
    assert not torch.allclose(variants[1]["ecg"], variants[2]["ecg"], atol=1e-2)
    texts = {
        name: {cache.load(name, None, text=which)["labs"].numpy().tobytes() for which in range(3)}
        for name in (str(row["id"]) for row in rows if row["labs"])
    }
    # a text of two cells may keep both, three times
    varied = next(name for name, different in texts.items() if len(different) > 1)
    again, *_ = opened(prepared_dir, start, tmp_path / "again", cell_dropout=0.5, variants=3, seed=7)
    again.fill(rows.select([5, 4, 3, 2, 1, 0]), model, processor, Accelerator(cpu=True))
    for name, value in again.load(record, None, window=2, text=2).items():
        assert torch.allclose(value, variants[2][name], atol=1e-5)  # whatever the order and the run's seed
    collator = FrozenFeaturesCollator(cache, processor, model.config, training=True, seed=1)
    bare = list(rows.remove_columns(CACHED_COLUMNS))
    batches = [collator(bare) for _ in range(8)]
    assert 1 < len(torch.stack([batch["ecg_frozen"][0] for batch in batches]).flatten(1).unique(dim=0)) <= 3
    row_of_varied = [rows.select([index for index, row in enumerate(bare) if str(row["id"]) == varied])[0]]
    drawn = {collator(row_of_varied)["labs_frozen"][0].numpy().tobytes() for _ in range(40)}
    assert len(drawn) > 1 and drawn <= texts[varied]


def test_other_weights_preprocessing_settings_or_versions_find_an_empty_cache(
    prepared_dir: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, model, processor, _ = opened(prepared_dir, start, tmp_path)
    plain = {"directory": str(tmp_path / "cache")}

    def key(cache: Any = plain, data_hash: str = "invented", **optimisation: Any) -> Path:
        run = settings(prepared_dir, start, tmp_path / "model", cache, **optimisation)
        return FrozenFeaturesCache.open(run, model, processor, data_hash).path("a")

    same = cache.path("a")
    assert key(batch_size=1) == same
    with torch.no_grad():
        model.echo_encoder.layers[-1].fc1.weight.add_(1.0)  # trained, above the boundary
        model.fusion.projection.query.weight.add_(1.0)
    assert key() == same
    assert key(data_hash="other") != same
    assert key({**plain, "dtype": "float16"}) != same
    assert key(precision="bfloat16") != same
    model.freeze_encoders(0)
    assert key() != same
    model.freeze_encoders(1)
    processor.feature_extractor.highpass *= 2
    assert key() != same
    processor.feature_extractor.highpass /= 2
    assert key() == same
    for module in (torch, transformers):
        with monkeypatch.context() as patch:
            patch.setattr(module, "__version__", "0.0")
            assert key() != same
    assert {Path(module.__file__) for module in (frozen_features_cache, frozen_features_key)} <= {
        *frozen_features_key.CODE
    }
    with torch.no_grad():
        model.echo_encoder.layers[0].fc1.bias[0] += 1e-6
    assert key() != same


def test_half_precision_is_stored_and_refuses_numbers_that_are_too_large(
    prepared_dir: Path, start: Path, tmp_path: Path
) -> None:
    cache, model, processor, rows = opened(prepared_dir, start, tmp_path, dtype="float16")
    cache.fill(rows, model, processor, Accelerator(cpu=True))
    with safe_open(cache.path(str(rows[0]["id"])), framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    with torch.no_grad():
        model.echo_encoder.layers[1].fc2.bias.fill_(1e6)
    shutil.rmtree(cache.directory)
    cache.directory.mkdir()
    with pytest.raises(ValueError, match="echo are not finite as torch.float16: set data.cache.dtype to bfloat16"):
        cache.fill(rows, model, processor, Accelerator(cpu=True))


def test_a_full_disk_leaves_the_finished_files(
    prepared_dir: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, model, processor, rows = opened(prepared_dir, start, tmp_path)
    written = []

    def full(tensors: Any, path: Path, metadata: Any) -> None:
        if len(written) == 3:
            Path(path).write_bytes(b"begun")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        save_file(tensors, path, metadata)

    monkeypatch.setattr(frozen_features_cache, "save_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        cache.fill(rows, model, processor, Accelerator(cpu=True))
    assert len(files(cache)) == 3 == len([path for path in cache.directory.rglob("*") if path.is_file()]) - 1


def test_a_cache_without_frozen_layers_is_refused(prepared_dir: Path, start: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model.trainable_layers is null"):
        settings(prepared_dir, start, tmp_path / "model", {"directory": "cache"}, layers=None)
    with pytest.raises(ValueError, match="variants must be at least 1, got 0"):
        settings(prepared_dir, start, tmp_path / "model", {"directory": "cache", "variants": 0})
    with pytest.raises(
        ValueError, match=r"cell_dropout is 0\.3, but data.cache.variants is 1.*set data.cache.variants to 2"
    ):
        settings(prepared_dir, start, tmp_path / "model", {"directory": "cache"}, cell_dropout=0.3)
