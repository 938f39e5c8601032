"""What the encoders' frozen parts say of every record, computed once and read back in every epoch.

With only the last layers of each encoder trained, everything below them is a constant of a record: most of a step's
cost. One file a record, `<directory>/<key>/<two letters>/<hash>.safetensors`, written whole or not at all, so that a
cache that was stopped is continued, and several processes or runs may fill one together. The key is a hash of
everything the activations depend on beside the record: other weights or another preprocessing find an empty cache,
never a wrong one.
"""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from datasets import Dataset
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from tgmm_hf import modeling_tgmm
from tgmm_hf.data import collator as collator_file
from tgmm_hf.data.collator import Row, TgmmCollator, hide_cells
from tgmm_hf.encoders import encoder_loading as encoders_tgmm
from tgmm_hf.encoders import modeling_echo_mvit, modeling_st_mem
from tgmm_hf.encoders.freezing import last_parts
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.training.arguments import RunArguments
from tgmm_hf.training.processes import Together
from tgmm_hf.utils.files import whole_file
from tgmm_hf.utils.names import LEADS, VIEWS

CODE = (
    Path(__file__),
    *(
        Path(str(module.__file__))
        for module in (encoders_tgmm, modeling_echo_mvit, modeling_st_mem, modeling_tgmm, collator_file)
    ),
)
"""Files that the activations depend on; those of the processor are saved with it."""
CONTENTS = ["clips", "ecg"]
"""Columns of prepared rows that a cached run never reads."""

NO_MATTER = {"_name_or_path", "architectures", "auto_map", "dtype", "transformers_version"}
"""What a configuration says of where and how its model was saved; saving and loading it changes that."""


@dataclass(frozen=True)
class TrunkCache:
    """The cached activations of one prepared data set.

    Attributes:
        directory: of all records under one key.
        data_hash: of the prepared rows.
        dtype: that activations are stored in.
        variants: of a training record: its ECG windows and, if cells are hidden, its lab texts.
        cell_dropout: chance of hiding each laboratory cell in the variants but the first.
    """

    directory: Path
    data_hash: str
    dtype: torch.dtype
    variants: int = 1
    cell_dropout: float = 0.0

    @classmethod
    def of(cls, run: RunArguments, model: TgmmModel, processor: TgmmProcessor, data_hash: str) -> "TrunkCache":
        """The cache that belongs to a model's frozen weights and a processor; it may be empty yet."""
        settings = run.data.cache
        key = {
            "weights": _hash_of_weights(model),
            "processor": _hash_of_processor(processor),
            "code": _hash(*(file.read_bytes() for file in CODE)),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "trainable_layers": model.trainable_layers,
            "precision": run.optimisation.precision,
            "dtype": settings.dtype,
        }
        if settings.variants > 1:
            key |= {"variants": settings.variants, "cell_dropout": run.data.cell_dropout}
        directory = Path(settings.directory) / _hash(json.dumps(key, sort_keys=True).encode())[:16]
        directory.mkdir(parents=True, exist_ok=True)
        with whole_file(directory / "key.json") as building:
            building.write_text(json.dumps(key, indent=1) + "\n")
        return cls(directory, data_hash, getattr(torch, settings.dtype), settings.variants, run.data.cell_dropout)

    def path(self, record: str) -> Path:
        """File of a record; its name does not tell the record's id."""
        name = _hash(self.data_hash.encode(), record.encode())[:32]
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
        """Compute what is missing of these prepared rows; every process takes its share of the records.

        Rows that are not trained on need no variants.

        Raises:
            OSError: if the disk is full; what is there stays, and the same command goes on from it.
            ValueError: if an encoder cannot be cut at the freeze boundary, or an activation does not fit the dtype.
        """
        ids = [str(record) for record in rows["id"]]
        share = range(accelerator.process_index, len(ids), accelerator.num_processes)
        variants = self.variants if training else 1
        missing = [index for index in share if _variants_in(self.path(ids[index])) < variants]
        reader = _RecordReader(processor, model.config, variants, self.cell_dropout)
        loader = DataLoader(
            rows.select(missing),
            batch_size=None,
            collate_fn=reader,
            num_workers=workers,
            generator=torch.Generator(),  # the training's random numbers do not depend on what was missing
        )
        was_training = model.training
        model.to(accelerator.device).eval()
        with Together(), torch.inference_mode(), accelerator.autocast():
            progress = tqdm(loader, "caching trunks", disable=not accelerator.is_main_process or not missing)
            for index, inputs in zip(missing, progress, strict=True):
                trunks = model.frozen_features(**{name: value.to(model.device) for name, value in inputs.items()})
                self.store(ids[index], trunks, inputs.get("attention_mask"), variants)
        model.train(was_training)

    def load(self, record: str, shown: Sequence[int] | None, window: int = 0, text: int = 0) -> dict[str, torch.Tensor]:
        """Activations of one record, of what it has: labs (L, D) of one lab text, ecg (tokens, D) of one window, echo
        (clips, tokens, D) of the clips `shown`, counted in the order of their views (None: all).

        Only what is asked for is read: the file is memory-mapped.
        """
        path, found = self.path(record), {}
        try:
            with safe_open(path, framework="pt") as file:
                names = file.keys()
                if "labs_0" in names:
                    found["labs"] = file.get_tensor(f"labs_{text}")
                if "ecg" in names:
                    found["ecg"] = file.get_slice("ecg")[window]
                if "echo" in names and shown is None:
                    found["echo"] = file.get_tensor("echo")
                elif "echo" in names:
                    found["echo"] = torch.stack([file.get_slice("echo")[clip] for clip in shown])
        except (OSError, SafetensorError) as error:
            raise OSError(f"{path} cannot be read ({error}): delete it and run the same command again.") from error
        return found

    def store(
        self, record: str, trunks: dict[str, torch.Tensor], attention_mask: torch.Tensor | None, variants: int = 1
    ) -> None:
        """Write what `TgmmModel.frozen_features` gave for one record, and for the mask (texts, L) of its lab texts."""
        stored = {
            name.removesuffix("_frozen"): value.to(self.dtype).cpu().contiguous() for name, value in trunks.items()
        }
        if attention_mask is not None:
            texts = zip(stored.pop("labs"), attention_mask.bool().cpu(), strict=True)
            stored |= {f"labs_{index}": text[shown] for index, (text, shown) in enumerate(texts)}
        if broken := [name for name, value in stored.items() if not torch.isfinite(value).all()]:
            raise ValueError(
                f"Activations of {', '.join(broken)} are not finite as {self.dtype}: set data.cache.dtype to bfloat16 "
                "or float32 (or the record or the weights are broken)."
            )
        path = self.path(record)
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as building:
            save_file(stored, building, metadata={"variants": str(variants)})


class TrunkCollator(TgmmCollator):
    """[`TgmmCollator`] for rows without their contents: activations from the cache stand in place of the values.

    A batch holds labs_frozen (n, L, D), ecg_frozen (n, tokens, D), echo_frozen (clips, tokens, D) of who has them,
    with attention_mask, ecg_mask and view_mask as ever. Training draws one of the cached ECG windows and one of the lab
    texts, and views as its parent does; otherwise the centre window and the whole text.
    """

    def __init__(
        self,
        cache: TrunkCache,
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
        trunks: dict[str, list[torch.Tensor]] = {"labs": [], "ecg": [], "echo": []}
        for index, row in enumerate(rows):
            window, text = self._variant(True), self._variant(self.cache.cell_dropout > 0)
            views = sorted(row["clip_views"])
            shown = self._shown(len(views))
            found = self.cache.load(str(row["id"]), None if len(shown) == len(views) else shown, window, text)
            for name, value in found.items():
                trunks[name].append(value)
            lengths[index] = len(found.get("labs", ()))
            ecg_mask[index] = torch.as_tensor(row["ecg_mask"]) if "ecg" in found else False
            view_mask[index, torch.tensor([views[i] for i in shown], dtype=torch.long)] = True
        inputs = {}
        if trunks["labs"]:
            inputs["labs_frozen"] = torch.nn.utils.rnn.pad_sequence(trunks["labs"], batch_first=True)
            inputs["attention_mask"] = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        if trunks["ecg"]:
            inputs |= {"ecg_frozen": torch.stack(trunks["ecg"]), "ecg_mask": ecg_mask}
        if trunks["echo"]:
            inputs |= {"echo_frozen": torch.cat(trunks["echo"]), "view_mask": view_mask}
        return inputs

    def _variant(self, varied: bool) -> int:
        return int(self._random().integers(self.cache.variants)) if self.training and varied else 0


def read_cached(
    run: RunArguments, model: TgmmModel, processor: TgmmProcessor, rows: Dataset, data_hash: str
) -> tuple[Dataset, TrunkCollator]:
    """Rows without their contents, and what collates them: for the evaluation of a run's model from its cache.

    The frozen layers of all models that start from the same encoders are the same, and so is their cache.
    """
    model.freeze_encoders(run.model.trainable_layers)
    cache = TrunkCache.of(run, model, processor, data_hash)
    # the precision is part of the cache's key: in a process that did not train the run, too
    precision = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[run.optimisation.precision]
    accelerator = Accelerator(cpu=model.device.type == "cpu", mixed_precision=precision)
    cache.fill(rows, model, processor, accelerator, run.data.workers, training=False)
    return rows.remove_columns(CONTENTS), TrunkCollator(cache, processor, model.config, training=False)


class _RecordReader:
    """One prepared row -> model inputs of that record: the centre ECG window and the whole lab text first, then the
    drawn ones of further variants."""

    def __init__(self, processor: TgmmProcessor, config: Any, variants: int, cell_dropout: float) -> None:
        self.processor, self.variants, self.cell_dropout = processor, variants, cell_dropout
        self.collator = TgmmCollator(processor, config, training=False)

    def __call__(self, row: Row) -> dict[str, torch.Tensor]:
        inputs = {name: value for name, value in self.collator([row]).items() if isinstance(value, torch.Tensor)}
        if self.variants > 1:
            # of the record's own, so that it matters neither who computes it nor when, and all runs share it
            generator = np.random.default_rng(int(_hash(str(row["id"]).encode())[:16], 16))
            if "ecg_values" in inputs:
                inputs["ecg_values"] = torch.cat([inputs["ecg_values"], self._windows(row, generator)])
                inputs["ecg_mask"] = inputs["ecg_mask"].expand(self.variants, -1)
            if "input_ids" in inputs and self.cell_dropout:
                inputs |= self._texts(row, generator)
        return inputs

    def _windows(self, row: Row, generator: np.random.Generator) -> torch.Tensor:
        """ECG windows of the variants beyond the first, at random places."""
        extractor = self.processor.feature_extractor
        signal, mask = np.asarray(row["ecg"], np.float32).T, np.asarray(row["ecg_mask"])
        drawn = range(self.variants - 1)
        starts = [extractor.start_positions(signal.shape[1], "random", generator)[0] for _ in drawn]
        return torch.from_numpy(np.stack([extractor.finish(signal, mask, start) for start in starts]))

    def _texts(self, row: Row, generator: np.random.Generator) -> dict[str, torch.Tensor]:
        """The whole lab text, and those of the variants beyond the first, without hidden cells."""
        whole = json.loads(str(row["labs"]))
        tables = [whole, *(hide_cells(whole, self.cell_dropout, generator) for _ in range(self.variants - 1))]
        texts = [self.processor.labs_text(table).text for table in tables]
        tokens = self.processor.tokenize([text or texts[0] for text in texts])  # no cell that is left may be usable
        return {name: torch.from_numpy(array) for name, array in tokens.items()}


def _variants_in(path: Path) -> int:
    """How many variants of its record a file holds; none if it is not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            return int((file.metadata() or {}).get("variants", 0))
    except (OSError, SafetensorError):
        return 0


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _hash_of_weights(model: TgmmModel) -> str:
    """Of the encoders' configurations and frozen tensors, names and values."""
    digest = hashlib.sha256()
    for encoder in (model.labs_encoder, model.ecg_encoder, model.echo_encoder):
        config = {name: value for name, value in encoder.config.to_dict().items() if name not in NO_MATTER}
        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
        trained = {id(p) for part in last_parts(encoder, model.trainable_layers) for p in part.parameters()}
        for name, tensor in (*encoder.named_parameters(), *encoder.named_buffers()):
            if id(tensor) not in trained:
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _hash_of_processor(processor: TgmmProcessor) -> str:
    """Of all files it saves: settings, tokenizer and its code."""
    with tempfile.TemporaryDirectory() as directory:
        processor.save_pretrained(directory)
        # a fast tokenizer saves how it was last called, which every call of ours says anew
        tokenizer = Path(directory) / "tokenizer.json"
        if tokenizer.is_file():
            settings = json.loads(tokenizer.read_text())
            tokenizer.write_text(json.dumps(settings | {"truncation": None, "padding": None}, sort_keys=True))
        files = sorted(path for path in Path(directory).rglob("*") if path.is_file())
        return _hash(*(part for path in files for part in (path.name.encode(), path.read_bytes())))
