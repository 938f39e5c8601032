"""Batches of frozen features: prepared rows in which cached features take the place of recordings and lab texts."""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset

from tgmm_hf.data.collator import Row, TgmmCollator
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.training.arguments import RunArguments
from tgmm_hf.training.frozen_features_cache import FEATURE_SUFFIX, FrozenFeaturesCache
from tgmm_hf.utils.names import LEADS, MODALITIES, VIEWS

CACHED_COLUMNS = ["clips", "ecg"]
"""Columns of prepared rows that a run with a cache does not read."""
MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
"""`optimisation.precision` -> accelerate's name for it."""


class FrozenFeaturesCollator(TgmmCollator):
    """A [`TgmmCollator`] that reads frozen features from a cache instead of computing inputs from the rows.

    A batch holds labs_frozen (n, tokens, width), ecg_frozen (n, tokens, width) and echo_frozen (clips, tokens, width)
    of the n patients that have the modality, and attention_mask, ecg_mask and view_mask as in the parent. In training,
    one of the cached ECG windows, one of the lab texts and `max_views` views are drawn. Otherwise the batch holds the
    centre window, the whole text and all views.
    """

    def __init__(
        self,
        cache: FrozenFeaturesCache,
        processor: TgmmProcessor,
        config: Any,
        training: bool,
        seed: int = 0,
        max_views: int | None = None,
    ) -> None:
        super().__init__(processor, config, training, seed, max_views)
        self.cache = cache

    def _inputs(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        lengths = [0] * len(rows)
        ecg_mask = torch.zeros(len(rows), len(LEADS), dtype=torch.bool)
        view_mask = torch.zeros(len(rows), len(VIEWS), dtype=torch.bool)
        by_modality: dict[str, list[torch.Tensor]] = {name: [] for name in MODALITIES}
        for index, row in enumerate(rows):
            window, text = self._draw_variant(True), self._draw_variant(self.cache.cell_dropout > 0)
            views = sorted(row["clip_views"])
            clips = self._shown(len(views))
            features = self.cache.load(str(row["id"]), None if len(clips) == len(views) else clips, window, text)
            for name, value in features.items():
                by_modality[name].append(value)
            lengths[index] = len(features.get("labs", ()))
            ecg_mask[index] = torch.as_tensor(row["ecg_mask"]) if "ecg" in features else False
            view_mask[index, torch.tensor([views[clip] for clip in clips], dtype=torch.long)] = True
        inputs = {}
        if by_modality["labs"]:
            inputs[f"labs{FEATURE_SUFFIX}"] = torch.nn.utils.rnn.pad_sequence(by_modality["labs"], batch_first=True)
            inputs["attention_mask"] = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        if by_modality["ecg"]:
            inputs |= {f"ecg{FEATURE_SUFFIX}": torch.stack(by_modality["ecg"]), "ecg_mask": ecg_mask}
        if by_modality["echo"]:
            inputs |= {f"echo{FEATURE_SUFFIX}": torch.cat(by_modality["echo"]), "view_mask": view_mask}
        return inputs

    def _draw_variant(self, has_variants: bool) -> int:
        return int(self._random().integers(self.cache.variants)) if self.training and has_variants else 0


def read_cached(
    run: RunArguments, model: TgmmModel, processor: TgmmProcessor, rows: Dataset, data_hash: str
) -> tuple[Dataset, FrozenFeaturesCollator]:
    """Fill the cache for some rows and make their collator, to evaluate the model of a run from its cache.

    All models that start from the same encoders have the same frozen layers, and therefore share one cache.

    Returns:
        The rows without the columns that the cache replaces, and the collator that reads the cache.
    """
    model.freeze_encoders(run.model.trainable_layers)
    cache = FrozenFeaturesCache.open(run, model, processor, data_hash)
    # The precision of the run belongs to the key of the cache. The process that evaluates may not have trained.
    precision = MIXED_PRECISION[run.optimisation.precision]
    accelerator = Accelerator(cpu=model.device.type == "cpu", mixed_precision=precision)
    cache.fill(rows, model, processor, accelerator, run.data.workers, training=False)
    return rows.remove_columns(CACHED_COLUMNS), FrozenFeaturesCollator(cache, processor, model.config, training=False)
