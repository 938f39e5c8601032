"""The key of the frozen-feature cache: a digest of everything that the activations depend on besides the patient."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from tgmm_hf import encoders, layers, modeling_tgmm
from tgmm_hf.data import collator, lab_rows
from tgmm_hf.encoders.freezing import last_parts
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.training.arguments import RunArguments

CODE = (
    *sorted(Path(__file__).parent.glob("frozen_features_*.py")),
    *sorted(Path(encoders.__path__[0]).glob("*.py")),
    *sorted(Path(layers.__path__[0]).glob("*.py")),
    Path(str(modeling_tgmm.__file__)),
    Path(str(collator.__file__)),
    Path(str(lab_rows.__file__)),
)
"""Files that the activations depend on. The files of the processor are not listed, because it saves its code itself."""

NOT_WEIGHTS = {"_name_or_path", "architectures", "auto_map", "dtype", "transformers_version"}
"""Entries of a configuration that say where and how its model was saved. Saving and loading change them."""


def cache_key(run: RunArguments, model: TgmmModel, processor: TgmmProcessor) -> dict[str, Any]:
    """Collect everything but the patient that the frozen features of a run depend on: the content of `key.json`.

    Args:
        run: Settings of the run. `run.data.cache` must not be None.
        model: The model, with frozen layers.
        processor: The processor of the model.
    """
    settings = run.data.cache
    key = {
        "weights": _weights_digest(model),
        "processor": _processor_digest(processor),
        "code": bytes_digest(*(file.read_bytes() for file in CODE)),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trainable_layers": model.trainable_layers,
        "precision": run.optimisation.precision,
        "dtype": settings.dtype,
    }
    if settings.variants > 1:
        key |= {"variants": settings.variants, "cell_dropout": run.data.cell_dropout}
    return key


def bytes_digest(*parts: bytes) -> str:
    """Compute the sha256 (hexadecimal) of several byte strings.

    The length of each part is included. So ("ab", "c") and ("a", "bc") have different digests.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _weights_digest(model: TgmmModel) -> str:
    """Compute a digest of the encoders' configurations, and of the names and values of their frozen tensors."""
    digest = hashlib.sha256()
    for encoder in (model.labs_encoder, model.ecg_encoder, model.echo_encoder):
        config = {name: value for name, value in encoder.config.to_dict().items() if name not in NOT_WEIGHTS}
        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
        trained = {id(p) for part in last_parts(encoder, model.trainable_layers) for p in part.parameters()}
        for name, tensor in (*encoder.named_parameters(), *encoder.named_buffers()):
            if id(tensor) not in trained:
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _processor_digest(processor: TgmmProcessor) -> str:
    """Compute a digest of all files that a processor saves: settings, tokenizer and code."""
    with tempfile.TemporaryDirectory() as directory:
        processor.save_pretrained(directory)
        # A fast tokenizer saves the options of its last call. They do not matter, because we set them in every call.
        tokenizer = Path(directory) / "tokenizer.json"
        if tokenizer.is_file():
            settings = json.loads(tokenizer.read_text(encoding="utf-8"))
            tokenizer.write_text(
                json.dumps(settings | {"truncation": None, "padding": None}, sort_keys=True), encoding="utf-8"
            )
        files = sorted(path for path in Path(directory).rglob("*") if path.is_file())
        return bytes_digest(*(part for path in files for part in (path.name.encode(), path.read_bytes())))
