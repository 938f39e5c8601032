"""Raw patient data (a laboratory row, an ECG record, an echo study) -> the inputs of `TgmmModel`.

    labs row --labs_tgmm--> text --tokenizer--> input_ids, attention_mask (B, L)
    ECG      --EcgFeatureExtractor----------->  ecg_values (B, 12, 2250), ecg_mask (B, 12)
    study    --EchoImageProcessor------------>  pixel_values_videos (B, 11, F, 3, H, W), view_mask (B, 11)

A modality that is absent from the whole batch has no keys; one that is absent for a patient has an all-zero mask.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, BatchFeature, BertTokenizerFast, PreTrainedTokenizerBase
from transformers.image_processing_base import ImageProcessingMixin
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, Unpack
from transformers.utils import cached_file

from .configuration_tgmm import TgmmConfig, encoder_config
from .inputs.echo_views import SUBFOLDER, StoredViewClassifier
from .inputs.feature_extraction_ecg import EcgFeatureExtractor
from .inputs.image_processing_echo import EchoImageProcessor, is_study_batch
from .inputs.lab_text import SEPARATOR, LabsText
from .utils.errors import InputRefusedError, is_refusal
from .utils.hub_code import HubCode
from .utils.names import LEADS, VIEWS

BERT_CASED_SIZE = 28_996
VOCABULARY_FILE = Path(__file__).parent / "assets" / "bert_cased_vocab.txt"

Report = dict[str, Any]


class TgmmProcessor(HubCode, ProcessorMixin):
    """Processor of [`TgmmModel`]: text template and tokenizer for labs, one extractor each for ECG and echo.

    Args:
        feature_extractor (`EcgFeatureExtractor`): ECG in millivolts or a file -> `ecg_values`, `ecg_mask`.
        image_processor (`EchoImageProcessor`): echo study -> `pixel_values_videos`, `view_mask`.
        tokenizer (`PreTrainedTokenizerBase`): tokenizer of the labs encoder and of the tasks' texts.
        labs_object (`str`, defaults to `"patient"`): the object in "<column name> of the <object> is <value>".
        labs_flags (`bool`, defaults to `False`): append (low), (normal) or (high) from the reference range.
        max_labs_tokens (`int`, defaults to 512): a longer row is cut at a cell boundary, least important columns first
            (paper: 512, the text encoder's positions).

    Attributes:
        default_view_classifier (`StoredViewClassifier`, *optional*): names clips of unknown view if a call gives none.
            `from_encoders` sets it, `save_pretrained` puts a copy into the subfolder `view_classifier/`, and
            `from_pretrained` finds it there.
    """

    hub_auto_class = "AutoProcessor"

    def __init__(
        self,
        feature_extractor: EcgFeatureExtractor,
        image_processor: EchoImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
        labs_object: str = "patient",
        labs_flags: bool = False,
        max_labs_tokens: int = 512,
    ) -> None:
        super().__init__(feature_extractor, image_processor, tokenizer)
        if max_labs_tokens < 3:
            raise ValueError(
                f"max_labs_tokens must leave room for one token between two special ones, got {max_labs_tokens}."
            )
        self.labs_object = labs_object
        self.labs_flags = labs_flags
        self.max_labs_tokens = max_labs_tokens
        self.default_view_classifier: StoredViewClassifier | None = None

    @classmethod
    def from_encoders(
        cls,
        labs: str | Path,
        ecg: str | Path,
        echo: str | Path,
        view_classifier: str | Path | None = None,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> "TgmmProcessor":
        """The processor of `TgmmModel.from_encoders` with the same arguments.

        Args:
            labs: directory or Hub repository of the text encoder; its tokenizer is taken unless one is given.
            ecg, echo: of the other encoders. What `tgmm convert` put beside them prepares their input; beside any other
                encoder, ours does, for the input size that its config declares.
            view_classifier: of an echo view classifier, see [`EchoViewClassifier`].
            tokenizer: of the labs encoder.

        Raises:
            ValueError: if the tokenizer has more tokens than the text encoder has embeddings.
        """
        config = TgmmConfig(
            **{
                f"{name}_config": encoder_config(source)
                for name, source in (("labs", labs), ("ecg", ecg), ("echo", echo))
            }
        )
        processor = _fitting_processor(
            config,
            tokenizer or AutoTokenizer.from_pretrained(labs),
            _own(EcgFeatureExtractor, ecg),
            _own(EchoImageProcessor, echo),
        )
        if view_classifier is not None:
            processor.default_view_classifier = StoredViewClassifier(view_classifier)
        return processor

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """As any processor; a view classifier in the repository's `view_classifier/` is found, loaded when needed."""
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        hub = {key: kwargs[key] for key in ("revision", "token", "cache_dir") if kwargs.get(key) is not None}
        found = cached_file(
            str(pretrained_model_name_or_path),
            "config.json",
            subfolder=SUBFOLDER,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **hub,
        )
        if found is not None:
            processor.default_view_classifier = StoredViewClassifier(
                pretrained_model_name_or_path, subfolder=SUBFOLDER, **hub
            )
        return processor

    @staticmethod
    def get_possibly_dynamic_module(module_name: str) -> Any:
        """The class of a name, as `ProcessorMixin` asks for it to check its parts."""
        # Without Pillow, transformers' own name stands for a class that nothing is an instance of; ours needs none.
        if module_name == ImageProcessingMixin.__name__:
            return ImageProcessingMixin
        return ProcessorMixin.get_possibly_dynamic_module(module_name)

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "ecg_values", "ecg_mask", "pixel_values_videos", "view_mask"]

    def __call__(
        self,
        labs: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
        ecg: Any = None,
        echo: Any = None,
        *,
        views: Mapping[str, str] | Sequence[Mapping[str, str] | None] | None = None,
        view_classifier: Callable[..., Any] | None = None,
        crop: str | None = None,
        generator: np.random.Generator | None = None,
        on_refusal: str | None = None,
        return_report: bool | None = None,
        **kwargs: Unpack[ProcessingKwargs],
    ) -> BatchFeature | tuple[BatchFeature, list[Report]]:
        """Process one patient or a batch; batches may mix patients with different modalities.

        Args:
            labs: row (column name or alias -> value or (value, unit)), or a list of rows with None for absent.
            ecg: WFDB record, DICOM file, `{"signal", "sampling_rate", "lead_names"[, "units"]}` or an `EcgRecording`; or a
                list of those with None for absent.
            echo: study = directory, list of files, or `{view: file or (F, H, W, 3) uint8 RGB}`; or a list of studies. A
                list of files is one study unless `labs` or `ecg` is a list too: then echo is a list of studies.
            views: file name -> view for clips of unknown view; one mapping for all studies, or one per study.
            view_classifier: names the view of a clip that `views` does not, see `EchoImageProcessor.prepare_study`;
                `self.default_view_classifier` when None.
            crop: ECG window, "center" (prediction; the default), "random" (training) or "three" (start, middle, end:
                average the predictions).
            generator: of the random crop.
            on_refusal: "raise" (the default) on the first refused lab cell, ECG or study, or "report" and go on without
                it. A file of a directory or list (a still, an unknown view) is no error while the study has another
                that can be used; a clip given under its view is.
            return_report: also return one report per patient: {"used": {"labs": [columns], "ecg": [leads], "echo":
                [views]}, "views": [{"item", "view", "confidence", "by", "used"}], one entry a clip that has a view, by
                "name" or "classifier", "refused": [{"item", "reason"}], "notes": [...]}.
            return_tensors: "pt" or "np"; NumPy arrays when None.

        Returns:
            `BatchFeature` with `input_ids`, `attention_mask` (B, L) int64; `ecg_values` (B, 12, 2250) float32, or
            (B, 3, 12, 2250) with `crop="three"`, `ecg_mask` (B, 12) bool; `pixel_values_videos` (B, 11, F, 3, H, W)
            float32, `view_mask` (B, 11) bool.

        Raises:
            InputRefusedError: (a `ValueError`) on a refusal, when `on_refusal="raise"`.
            ValueError: on nothing to process, or batches of different lengths.
        """
        if unknown := set(kwargs) - {"return_tensors"}:
            raise TypeError(f"TgmmProcessor takes no {sorted(unknown)}; patients are given as labs=, ecg= and echo=.")
        on_refusal, crop = on_refusal or "raise", crop or "center"
        if on_refusal not in ("raise", "report"):
            raise ValueError(f"on_refusal must be 'raise' or 'report', got {on_refusal!r}.")
        if crop not in ("center", "random", "three"):
            raise ValueError(f"crop must be 'center', 'random' or 'three', got {crop!r}.")
        rows, records, studies = _as_batch(labs, ecg, echo)
        study_views = _as_views(views, len(studies))
        reports = [_new_report() for _ in rows]
        data: dict[str, np.ndarray] = {}
        data |= self._process_labs(rows, reports, on_refusal)
        data |= self._process_ecg(records, reports, on_refusal, crop, generator)
        data |= self._process_echo(studies, reports, on_refusal, study_views, view_classifier)
        features = BatchFeature(data, tensor_type=kwargs.get("return_tensors"))
        return (features, reports) if return_report else features

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> list[str]:
        """As any processor, with a copy of the view classifier in `view_classifier/`."""
        if self.default_view_classifier is not None:
            self.default_view_classifier.copy_to(save_directory)
        files = super().save_pretrained(save_directory, **kwargs)
        # The entry belongs to the saved file. Left on the object, it would make the object differ from the saved one.
        self.__dict__.pop("auto_map", None)
        return files

    def hub_parts(self) -> list[Any]:
        """List the extractors whose code travels with the processor."""
        return [self.feature_extractor, self.image_processor]

    def labs_text(self, row: Mapping[str, Any] | None) -> LabsText:
        """Text of one laboratory row, with what was used, dropped for length and refused; never raises for a cell."""
        if row is None:
            return LabsText()
        if not isinstance(row, Mapping):
            raise TypeError(f"a laboratory row is a mapping of column name to value, got {type(row).__name__}.")
        return self.write_labs(LabsText.from_row(row))

    def write_labs(self, labs: LabsText) -> LabsText:
        """Write the text of checked cells, as this processor words it and as far as `max_labs_tokens` allows."""
        return labs.write(self.labs_object, self.labs_flags, self._fitting)

    def tokenize(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """`input_ids`, `attention_mask` (B, L) int64 padded to the longest text; an empty text is masked everywhere."""
        encoded = self.tokenizer(list(texts), padding=True, return_token_type_ids=False, return_tensors="np")
        input_ids, attention_mask = encoded["input_ids"].astype(np.int64), encoded["attention_mask"].astype(np.int64)
        absent = [not text for text in texts]
        input_ids[absent] = self.tokenizer.pad_token_id
        attention_mask[absent] = 0
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def _fitting(self, sentences: list[str]) -> list[int]:
        """Indices of the sentences whose joint text fits `max_labs_tokens`.

        Sentences come in order of importance; each is taken if it still fits, so one over-long cell does not displace
        the shorter ones behind it.
        """
        everything = list(range(len(sentences)))
        if not sentences or self._count(SEPARATOR.join(sentences)) <= self.max_labs_tokens:
            return everything
        pieces = self.tokenizer([s + SEPARATOR for s in sentences], add_special_tokens=False)["input_ids"]
        room = self.max_labs_tokens - self.tokenizer.num_special_tokens_to_add()
        kept: list[int] = []
        for index, piece in enumerate(pieces):
            if len(piece) <= room:
                kept.append(index)
                room -= len(piece)
        return kept

    def _count(self, text: str) -> int:
        return len(self.tokenizer(text, verbose=False)["input_ids"])

    def _process_labs(
        self, rows: list[Mapping[str, Any] | None], reports: list[Report], on_refusal: str
    ) -> dict[str, np.ndarray]:
        results = [self.labs_text(row) for row in rows]
        for row, result, report in zip(rows, results, reports, strict=True):
            if result.refused and on_refusal == "raise":
                raise InputRefusedError(result.refused[0]["item"], result.refused[0]["reason"])
            report["used"]["labs"] = result.used
            report["refused"] += result.refused
            report["notes"] += result.notes
            if row is not None and not result.used:
                report["notes"].append("labs: the row has no usable cell; labs are absent")
        return self.tokenize([result.text for result in results]) if any(r.text for r in results) else {}

    def _process_ecg(
        self,
        records: list[Any],
        reports: list[Report],
        on_refusal: str,
        crop: str,
        generator: np.random.Generator | None,
    ) -> dict[str, np.ndarray]:
        extractor = self.feature_extractor
        values = np.zeros((len(records), 3 if crop == "three" else 1, len(LEADS), extractor.num_samples), np.float32)
        mask = np.zeros((len(records), len(LEADS)), bool)
        for index, (record, report) in enumerate(zip(records, reports, strict=True)):
            if record is None:
                continue
            try:
                ecg = extractor.harmonise(record)
            except ValueError as error:
                _refuse(error, report, on_refusal)
                continue
            starts = extractor.start_positions(ecg.signal.shape[1], crop, generator)
            values[index] = [extractor.finish(ecg.signal, ecg.mask, start) for start in starts]
            mask[index] = ecg.mask
            report["used"]["ecg"] = [lead for lead, usable in zip(LEADS, ecg.mask, strict=True) if usable]
            report["notes"] += [f"ecg: {note}" for note in ecg.notes]
        if not mask.any():
            return {}
        return {"ecg_values": values if crop == "three" else values[:, 0], "ecg_mask": mask}

    def _process_echo(
        self,
        studies: list[Any],
        reports: list[Report],
        on_refusal: str,
        study_views: list[Mapping[str, str] | None],
        view_classifier: Callable[..., Any] | None,
    ) -> dict[str, np.ndarray]:
        prepared: list[tuple[int, Any]] = []
        view_classifier = view_classifier or self.default_view_classifier
        for index, (study, views, report) in enumerate(zip(studies, study_views, reports, strict=True)):
            if study is None:
                continue
            try:
                clips = self.image_processor.prepare_study(study, views=views, view_classifier=view_classifier)
            except ValueError as error:
                _refuse(error, report, on_refusal)
                continue
            report["refused"] += clips.refused
            report["views"] += clips.assignments
            if not clips.clips:
                _refuse(_no_clip(study, clips.refused, on_refusal), report, on_refusal)
                continue
            if on_refusal == "raise" and isinstance(study, Mapping) and clips.refused:
                raise InputRefusedError(clips.refused[0]["item"], clips.refused[0]["reason"])
            report["used"]["echo"] = [view for view in VIEWS if view in clips.clips]
            prepared.append((index, clips))
        if not prepared:
            return {}
        return self.stack_clips(
            len(studies),
            [
                (index, VIEWS.index(view), clip, clips.frame_counts[view])
                for index, clips in prepared
                for view, clip in clips.clips.items()
            ],
        )

    def stack_clips(self, batch_size: int, clips: list[tuple[int, int, np.ndarray, int]]) -> dict[str, np.ndarray]:
        """`pixel_values_videos` (B, 11, F, 3, H, W) float32 and `view_mask` (B, 11) from the clips that are there.

        clips: (row in the batch, view index, uint8 (F, H, W, 3) BGR, number of real frames). Only these are normalised;
        the frames after the real ones are zero after normalisation, as are the absent views.
        """
        processor = self.image_processor
        size, frames = processor.size, processor.num_frames
        mean, std = np.asarray(processor.image_mean, np.float32), np.asarray(processor.image_std, np.float32)
        pixels = np.zeros((batch_size, len(VIEWS), frames, 3, size, size), np.float32)
        mask = np.zeros((batch_size, len(VIEWS)), bool)
        for row, view, clip, frame_count in clips:
            # the same as processor.normalise(clip[:frame_count]), without its copies: five times faster
            for channel in range(3):
                target = pixels[row, view, :frame_count, channel]
                np.subtract(clip[:frame_count, ..., channel], mean[channel], out=target, dtype=np.float32)
                np.divide(target, std[channel], out=target)
            mask[row, view] = True
        return {"pixel_values_videos": pixels, "view_mask": mask}


def bert_cased_tokenizer() -> BertTokenizerFast:
    """Cased WordPiece tokenizer with the 28,996 tokens of bert-base-cased, which Bio-ClinicalBERT uses (paper, 5.1).

    Raises:
        FileNotFoundError: if the package's vocabulary file is not there (a Hub repository carries its own tokenizer).
    """
    if not VOCABULARY_FILE.is_file():
        raise FileNotFoundError(
            f"{VOCABULARY_FILE.name} comes with the installed package tgmm-hf, not with a Hub repository: "
            "load the repository's tokenizer, or `pip install tgmm-hf`."
        )
    tokens = VOCABULARY_FILE.read_text(encoding="utf-8").rstrip("\n").split("\n")
    # vocab=, not vocab_file=: transformers 5 ignores the latter and yields five tokens, everything unknown
    tokenizer = BertTokenizerFast(
        vocab={token: index for index, token in enumerate(tokens)}, do_lower_case=False, model_max_length=512
    )
    if len(tokenizer) != BERT_CASED_SIZE:
        raise ValueError(f"The tokenizer has {len(tokenizer)} tokens, expected {BERT_CASED_SIZE}: reinstall tgmm-hf.")
    return tokenizer


def default_processor(
    config: Any,
    tokenizer: PreTrainedTokenizerBase | None = None,
    encoders: Mapping[str, str | Path] | None = None,
) -> TgmmProcessor:
    """Processor that matches a [`TgmmConfig`]: clip geometry, ECG window and text length are the encoders'.

    Args:
        config (`TgmmConfig`): the model's configuration.
        tokenizer: tokenizer of the labs encoder; bert-base-cased's vocabulary when None.
        encoders: modality -> directory or repository of a pretrained encoder: what lies beside it prepares its input,
            as in `TgmmProcessor.from_encoders`.

    Raises:
        ValueError: if the tokenizer has more tokens than the text encoder has embeddings.
    """
    sources = encoders or {}
    extractor = _own(EcgFeatureExtractor, sources["ecg"]) if "ecg" in sources else EcgFeatureExtractor()
    image_processor = _own(EchoImageProcessor, sources["echo"]) if "echo" in sources else None
    return _fitting_processor(config, tokenizer or bert_cased_tokenizer(), extractor, image_processor)


def _fitting_processor(
    config: Any,
    tokenizer: PreTrainedTokenizerBase,
    extractor: EcgFeatureExtractor | None,
    image_processor: EchoImageProcessor | None,
) -> TgmmProcessor:
    """A processor of these parts, those not given made for the encoders' input sizes; parts that do not fit are
    refused."""
    if len(tokenizer) > config.labs_config.vocab_size:
        raise ValueError(
            f"The tokenizer has {len(tokenizer)} tokens but the text encoder only {config.labs_config.vocab_size} "
            "embeddings: set labs_config.vocab_size, or train a smaller tokenizer."
        )
    extractor = extractor or EcgFeatureExtractor(num_samples=config.ecg_config.seq_length)
    echo = config.echo_config
    image_processor = image_processor or EchoImageProcessor(size=echo.image_size, num_frames=echo.num_frames)
    if extractor.num_samples != config.ecg_config.seq_length:
        raise ValueError(
            f"EcgFeatureExtractor gives {extractor.num_samples} samples (9 s at 250 Hz) but the ECG encoder takes "
            f"{config.ecg_config.seq_length}: set ecg_config.seq_length={extractor.num_samples}."
        )
    return TgmmProcessor(
        extractor,
        image_processor,
        tokenizer,
        max_labs_tokens=min(512, config.labs_config.max_position_embeddings),
    )


def _own(extractor_class: Any, source: str | Path) -> Any:
    """The extractor saved beside an encoder, or None if there is none or it is of another kind."""
    found = cached_file(
        str(source),
        "preprocessor_config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if found is None:
        return None
    settings = json.loads(Path(found).read_text(encoding="utf-8"))
    kinds = (settings.get("feature_extractor_type"), settings.get("image_processor_type"))
    return extractor_class.from_pretrained(source) if extractor_class.__name__ in kinds else None


def _new_report() -> Report:
    return {"used": {"labs": [], "ecg": [], "echo": []}, "views": [], "refused": [], "notes": []}


def _refuse(error: ValueError, report: Report, on_refusal: str) -> None:
    """Raise, or write the refusal into the report. Any other error is raised."""
    if on_refusal == "raise" or not is_refusal(error):
        raise error
    report["refused"].append({"item": error.item, "reason": error.reason})  # type: ignore[attr-defined]


def _no_clip(study: Any, refused: list[dict[str, str]], on_refusal: str) -> InputRefusedError:
    """Why a study is refused. A report has the clips' own reasons already, an error says them."""
    detail = f"{len(refused)} refused" if refused else "it holds none"
    if refused and on_refusal == "raise":
        detail += ": " + "; ".join(f"{entry['item']}: {entry['reason']}" for entry in refused[:5])
    item = str(study) if isinstance(study, str | Path) else "echo study"
    return InputRefusedError(item, f"no clip of the study can be used ({detail})")


def _as_batch(labs: Any, ecg: Any, echo: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """The three inputs as lists of one length, None where a patient lacks the modality."""
    if labs is None and ecg is None and echo is None:
        raise ValueError("Nothing to process: give at least one of labs, ecg and echo.")
    batched = isinstance(labs, list | tuple) or isinstance(ecg, list | tuple)
    echo_is_batch = isinstance(echo, list | tuple) and (batched or is_study_batch(echo))
    lists = {
        "labs": labs if labs is None or isinstance(labs, list | tuple) else [labs],
        "ecg": ecg if ecg is None or isinstance(ecg, list | tuple) else [ecg],
        "echo": echo if echo is None or echo_is_batch else [echo],
    }
    lengths = {name: len(items) for name, items in lists.items() if items is not None}
    if len(set(lengths.values())) != 1 or not all(lengths.values()):
        raise ValueError(
            f"labs, ecg and echo must hold equally many patients, at least one, got {lengths}: "
            "write None for a modality that a patient lacks."
        )
    size = next(iter(lengths.values()))
    rows, records, studies = (list(items) if items is not None else [None] * size for items in lists.values())
    return rows, records, studies


def _as_views(views: Any, size: int) -> list[Mapping[str, str] | None]:
    if views is None or isinstance(views, Mapping):
        return [views] * size
    if len(views) != size:
        raise ValueError(f"views must be one mapping or one per patient, got {len(views)} for {size} patients.")
    return list(views)


__all__ = ["TgmmProcessor", "bert_cased_tokenizer", "default_processor"]
