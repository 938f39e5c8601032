"""Cache of the frozen layers' activations: computed once per patient, read back every epoch.

If only the last layers of each encoder are trained, the layers below them give the same activations for a patient in
every step. These activations are the frozen features. Computing them is most of the cost of a step.

Each patient has one file, `<directory>/<key>/<two letters>/<digest>.safetensors`. A file is written whole or not at
all. Therefore a cache whose filling was stopped can be continued, and several processes or runs can fill one cache
together. The key is a digest of everything that the activations depend on besides the patient
([`~tgmm_hf.training.frozen_features_key`]). Other weights or another preprocessing therefore find an empty cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from tgmm_hf.data.collator import Row, TgmmCollator
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.training.arguments import RunArguments
from tgmm_hf.training.frozen_features_key import bytes_digest, cache_key
from tgmm_hf.training.processes import fail_together
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.files import whole_file, write_json

FEATURE_SUFFIX = "_frozen"
"""The model names the frozen features of a modality `<modality>_frozen`; the files name them `<modality>`."""


@dataclass(frozen=True)
class FrozenFeaturesCache:
    """The cached frozen features of one prepared data set.

    Attributes:
        directory: The directory of all patients under one key.
        data_hash: The hash of the prepared data set.
        dtype: The number format of the stored features.
        variants: The number of versions that are stored of each training patient, see `CacheArguments`.
        cell_dropout: Probability of hiding each laboratory cell in all variants but the first.
    """

    directory: Path
    data_hash: str
    dtype: torch.dtype
    variants: int = 1
    cell_dropout: float = 0.0

    @classmethod
    def open(
        cls, run: RunArguments, model: TgmmModel, processor: TgmmProcessor, data_hash: str
    ) -> "FrozenFeaturesCache":
        """Open the cache that belongs to the frozen weights of a model and to a processor. It may be empty."""
        settings = run.data.cache
        key = cache_key(run, model, processor)
        directory = Path(settings.directory) / json_digest(key)[:16]
        write_json(directory / "key.json", key)
        return cls(directory, data_hash, getattr(torch, settings.dtype), settings.variants, run.data.cell_dropout)

    def path(self, row_id: str) -> Path:
        """Return the file of a patient. The id cannot be read from its name."""
        name = bytes_digest(self.data_hash.encode(), row_id.encode())[:32]
        return self.directory / name[:2] / f"{name}.safetensors"

    def fill(
        self,
        rows: Dataset,
        model: TgmmModel,
        processor: TgmmProcessor,
        accelerator: Accelerator,
        workers: int = 0,
        training: bool = True,
    ) -> None:
        """Compute the features that are missing for some prepared rows. Every process takes its share of the rows.

        Args:
            rows: The prepared rows.
            model: The model, with frozen layers.
            processor: The processor of the model.
            accelerator: The process group and the precision.
            workers: Number of worker processes that read the rows.
            training: Whether the rows are trained on. Other rows need only one variant.

        Raises:
            OSError: If the disk is full. Finished files stay, and the same command continues from there.
            ValueError: If an encoder cannot be cut below its trained layers, or an activation does not fit the dtype.
        """
        ids = [str(row_id) for row_id in rows["id"]]
        share = range(accelerator.process_index, len(ids), accelerator.num_processes)
        variants = self.variants if training else 1
        missing = [index for index in share if _stored_variants(self.path(ids[index])) < variants]
        loader = DataLoader(
            rows.select(missing),
            batch_size=None,
            # torch declares the argument a list of rows. With `batch_size=None` it is one row.
            collate_fn=_VariantReader(  # type: ignore[arg-type]
                processor, model.config, variants, self.cell_dropout
            ),
            num_workers=workers,
            generator=torch.Generator(),  # so that the random numbers of the training do not depend on `missing`
        )
        was_training = model.training
        model.to(accelerator.device).eval()
        with fail_together(), torch.inference_mode(), accelerator.autocast():
            progress = tqdm(loader, "caching features", disable=not accelerator.is_main_process or not missing)
            for index, inputs in zip(missing, progress, strict=True):
                features = model.frozen_features(**{name: value.to(model.device) for name, value in inputs.items()})
                self.store(ids[index], features, inputs.get("attention_mask"), variants)
        model.train(was_training)

    def load(self, row_id: str, clips: Sequence[int] | None, window: int = 0, text: int = 0) -> dict[str, torch.Tensor]:
        """Read the features of one patient. Only the requested part of the file is read.

        Args:
            row_id: The id of the prepared row.
            clips: Positions of the wanted clips, in the order of their views. None reads all clips.
            window: Which ECG window.
            text: Which lab text.

        Returns:
            Modality -> features, for the modalities that the patient has: labs (tokens, width), ecg (tokens, width),
            echo (clips, tokens, width).

        Raises:
            OSError: If the file cannot be read.
        """
        path, features = self.path(row_id), {}
        try:
            with safe_open(path, framework="pt") as file:
                names = file.keys()
                if "labs_0" in names:
                    features["labs"] = file.get_tensor(f"labs_{text}")
                if "ecg" in names:
                    features["ecg"] = file.get_slice("ecg")[window]
                if "echo" in names and clips is None:
                    features["echo"] = file.get_tensor("echo")
                elif "echo" in names:
                    features["echo"] = torch.stack([file.get_slice("echo")[clip] for clip in clips])
        except (OSError, SafetensorError) as error:
            raise OSError(f"{path} cannot be read ({error}): delete it and run the same command again.") from error
        return features

    def store(
        self, row_id: str, features: dict[str, torch.Tensor], attention_mask: torch.Tensor | None, variants: int = 1
    ) -> None:
        """Write the features of one patient.

        Args:
            row_id: The id of the prepared row.
            features: The output of `TgmmModel.frozen_features` for this patient alone.
            attention_mask: The mask (texts, tokens) of the lab texts; None without lab texts.
            variants: How many variants the features have.

        Raises:
            ValueError: If a feature is not finite in the dtype of the cache.
        """
        stored = {
            name.removesuffix(FEATURE_SUFFIX): value.to(self.dtype).cpu().contiguous()
            for name, value in features.items()
        }
        if attention_mask is not None:
            texts = zip(stored.pop("labs"), attention_mask.bool().cpu(), strict=True)
            stored |= {f"labs_{index}": text[is_token] for index, (text, is_token) in enumerate(texts)}
        if broken := [name for name, value in stored.items() if not torch.isfinite(value).all()]:
            raise ValueError(
                f"Activations of {', '.join(broken)} are not finite as {self.dtype}: set data.cache.dtype to bfloat16 "
                "or float32. If it is float32, the weights or the patient's files are broken."
            )
        path = self.path(row_id)
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as building:
            save_file(stored, building, metadata={"variants": str(variants)})


class _VariantReader:
    """Turn one prepared row into model inputs with all its variants.

    The first variant has the centre ECG window and the whole lab text. Each of the rest has a random window, and a lab
    text without the cells that `cell_dropout` hides.
    """

    def __init__(self, processor: TgmmProcessor, config: Any, variants: int, cell_dropout: float) -> None:
        self.variants, self.cell_dropout = variants, cell_dropout
        self.unvaried = TgmmCollator(processor, config, training=False)
        self.varied = _PatientSeededCollator(processor, config, training=True, cell_dropout=cell_dropout)
        self.pad_token_id = processor.tokenizer.pad_token_id

    def __call__(self, row: Row) -> dict[str, torch.Tensor]:
        """Read one row. Clips have no variants."""
        inputs = {name: value for name, value in self.unvaried([row]).items() if isinstance(value, torch.Tensor)}
        if self.variants == 1:
            return inputs
        self.varied.start(str(row["id"]))
        copies = [row] * (self.variants - 1)
        if "ecg_values" in inputs:
            windows = torch.from_numpy(self.varied.ecg_arrays(copies)["ecg_values"])
            inputs["ecg_values"] = torch.cat([inputs["ecg_values"], windows])
            inputs["ecg_mask"] = inputs["ecg_mask"].expand(self.variants, -1)
        if "input_ids" in inputs and self.cell_dropout:
            inputs |= self._texts(inputs, self.varied.labs_arrays(copies))
        return inputs

    def _texts(self, whole: dict[str, torch.Tensor], varied: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Put the tokens of the whole text and of the varied texts into one batch, (variants, tokens) each."""
        ids, mask = (whole[name].expand(self.variants, -1).clone() for name in ("input_ids", "attention_mask"))
        if not varied:  # in no text was a cell left that can be used
            return {"input_ids": ids, "attention_mask": mask}
        width = max(ids.shape[1], varied["input_ids"].shape[1])
        ids, mask = _padded(ids, width, self.pad_token_id), _padded(mask, width, 0)
        varied_ids = _padded(torch.from_numpy(varied["input_ids"]), width, self.pad_token_id)
        varied_mask = _padded(torch.from_numpy(varied["attention_mask"]), width, 0)
        has_text = varied_mask.any(dim=1, keepdim=True)  # a text without any cell is replaced by the whole one
        ids[1:], mask[1:] = torch.where(has_text, varied_ids, ids[1:]), torch.where(has_text, varied_mask, mask[1:])
        return {"input_ids": ids, "attention_mask": mask}


class _PatientSeededCollator(TgmmCollator):
    """A collator whose random numbers depend on the patient alone.

    Then it does not matter which process computes a patient, in which order and with which seed of the run.
    """

    def start(self, row_id: str) -> None:
        """Seed the random numbers for a patient."""
        self.generator = np.random.default_rng(int(bytes_digest(row_id.encode())[:16], 16))

    def ecg_arrays(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        """Cut and filter one random ECG window of each row."""
        return self._ecg(rows)

    def labs_arrays(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        """Hide cells of each row and tokenize the lab texts."""
        return self._labs(rows)

    def _random(self) -> np.random.Generator:
        return self.generator


def _padded(tokens: torch.Tensor, width: int, value: int) -> torch.Tensor:
    """Pad (texts, tokens) at the end."""
    return torch.nn.functional.pad(tokens, (0, width - tokens.shape[1]), value=value)


def _stored_variants(path: Path) -> int:
    """Return how many variants of its patient a file holds; 0 if the file is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return int((file.metadata() or {}).get("variants", 0))
    except (OSError, SafetensorError):
        return 0
