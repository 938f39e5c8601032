"""Raw patient data (a lab row, an ECG recording, an echo study) -> the inputs of `TgmmModel`.

    labs row --inputs/lab_text.py--> text --tokenizer--> input_ids, attention_mask (B, L)
             --inputs/lab_scales.py, if the model reads numbers--> cell_ids, cell_columns, cell_values, cell_mask (B, L)
    ECG      --EcgFeatureExtractor------------------->   ecg_values (B, 12, 2250), ecg_mask (B, 12)
    study    --EchoImageProcessor-------------------->   pixel_values_videos (B, 11, F, 3, H, W), view_mask (B, 11)

A modality that is absent from the whole batch has no keys. The mask of a modality is zero for a patient without it.
Shapes: B patients, L tokens, 11 views, F frames of H x W pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from transformers import AutoTokenizer, BatchFeature, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessingKwargs, Unpack
from transformers.utils import cached_file

from .configuration_tgmm import TgmmConfig, encoder_config
from .inputs.echo_study import is_study_batch
from .inputs.echo_views import SUBFOLDER, StoredViewClassifier
from .inputs.feature_extraction_ecg import EcgFeatureExtractor
from .inputs.hub_processor import CHOICES, HUB_OPTIONS, HubProcessor, check_choices
from .inputs.image_processing_echo import EchoImageProcessor
from .inputs.lab_scales import Scale, cell_inputs, check_labs_scales
from .inputs.lab_text import LabsText
from .inputs.lab_unit_systems import UNIT_SYSTEMS, declare_units
from .inputs.patient_reading import PatientReader, Report
from .inputs.processor_parts import (
    BERT_CASED_SIZE,
    bert_cased_tokenizer,
    fitting_parts,
    fitting_sentences,
    saved_extractor,
    tokenize_texts,
    trained_columns,
    unread_cells,
)
from .inputs.unlike_training import trained_inputs
from .utils.names import CELL_ARGUMENTS

CALL_CHOICES = CHOICES | {"crop": ("center", "random", "three"), "units": (*UNIT_SYSTEMS, None)}
"""Option of a call -> its values."""


class TgmmProcessor(HubProcessor):
    """Processor of [`TgmmModel`]: text template and tokenizer for labs, one extractor each for ECG and echo.

    Args:
        feature_extractor (`EcgFeatureExtractor`): ECG in millivolts or a file -> `ecg_values`, `ecg_mask`.
        image_processor (`EchoImageProcessor`): echo study -> `pixel_values_videos`, `view_mask`.
        tokenizer (`PreTrainedTokenizerBase`): tokenizer of the labs encoder and of the tasks' texts.
        labs_object (`str`, defaults to `"patient"`): the object in "<column name> of the <object> is <value>".
        labs_flags (`bool`, defaults to `False`): append (low), (normal) or (high) from the reference range.
        max_labs_tokens (`int`, defaults to 512, as in the paper): a longer row is cut, least important columns first.
        labs_units (`str`, defaults to `"never"`): "never" or "always" write the canonical unit of a known column (the
            paper's template has none).
        labs_columns (`list[str]`, *optional*): columns that the model was trained with. `tgmm train` sets them. A cell
            of another column is not used, and a note names it. None stands for the known columns.
        labs_scales (`list[dict]`, *optional*): columns whose values the model reads as numbers, with unit, mean and
            standard deviation over the training rows (`inputs/lab_scales.py`). They take the place of `labs_columns`.
            None for a model that reads text only.
        training_inputs (`str`, *optional*): packed description of the training inputs, with which the inputs of a
            patient are compared (`inputs/unlike_training.py`). `tgmm train` sets it. None compares nothing.

    Attributes:
        default_view_classifier (`StoredViewClassifier`, *optional*): names clips of unknown view if a call gives no
            classifier. `from_encoders` sets it, `save_pretrained` puts a copy into the subfolder `view_classifier/`,
            and `from_pretrained` loads it from this subfolder.
        default_strictness (`str`, defaults to `"note"`): the strictness of a call that gives none. It is not saved,
            because it belongs to the run and not to the model.
    """

    def __init__(  # noqa: PLR0913 - the keys of a saved processor_config.json
        self,
        feature_extractor: EcgFeatureExtractor,
        image_processor: EchoImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
        labs_object: str = "patient",
        labs_flags: bool = False,
        max_labs_tokens: int = 512,
        labs_units: str = "never",
        labs_columns: list[str] | None = None,
        labs_scales: list[Scale] | None = None,
        training_inputs: str | None = None,
    ) -> None:
        super().__init__(feature_extractor, image_processor, tokenizer)
        _check_template(labs_object, labs_flags, labs_units)
        _check_columns(labs_columns)
        trained_inputs(training_inputs)  # a damaged description is refused here, not at the first patient
        check_labs_scales(labs_scales)
        _check_tokens(tokenizer, max_labs_tokens)
        self.labs_object = labs_object
        self.labs_flags = labs_flags
        self.max_labs_tokens = max_labs_tokens
        self.labs_units = labs_units
        self.labs_columns = labs_columns
        self.labs_scales = labs_scales
        self.training_inputs = training_inputs
        self.default_view_classifier: StoredViewClassifier | None = None
        self.default_strictness = "note"

    @classmethod
    def from_encoders(
        cls,
        labs: str | Path,
        ecg: str | Path,
        echo: str | Path,
        view_classifier: str | Path | None = None,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        labs_scales: list[Scale] | None = None,
    ) -> "TgmmProcessor":
        """Build the processor of `TgmmModel.from_encoders` with the same arguments.

        The settings that `tgmm convert` put beside an encoder prepare its input. Beside any other encoder our own
        extractors do, for the input size that the encoder's configuration declares.

        Args:
            labs: directory or Hub repository of the text encoder. Its tokenizer is taken unless one is given.
            ecg: directory or Hub repository of the ECG encoder.
            echo: directory or Hub repository of the echo encoder.
            view_classifier: directory or Hub repository of an [`EchoViewClassifier`]; None for no classifier.
            tokenizer: tokenizer of the labs encoder.
            labs_scales: setting of the model of the same name.

        Raises:
            ValueError: if the tokenizer has more tokens than the text encoder has embeddings.
        """
        sources = {"labs": labs, "ecg": ecg, "echo": echo}
        configs: dict[str, Any] = {f"{name}_config": encoder_config(source) for name, source in sources.items()}
        config = TgmmConfig(**configs)
        if labs_scales is not None:
            config.set_labs_scales(labs_scales)
        extractors = saved_extractor(EcgFeatureExtractor, ecg), saved_extractor(EchoImageProcessor, echo)
        processor = cls(**fitting_parts(config, tokenizer or AutoTokenizer.from_pretrained(labs), *extractors))
        if view_classifier is not None:
            processor.default_view_classifier = StoredViewClassifier(view_classifier)
        return processor

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """Load a saved processor. A view classifier in the subfolder `view_classifier/` is loaded when it is needed."""
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        hub = {key: kwargs[key] for key in HUB_OPTIONS if kwargs.get(key) is not None}
        classifier = cached_file(
            str(pretrained_model_name_or_path),
            "config.json",
            subfolder=SUBFOLDER,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **hub,
        )
        if classifier is not None:
            processor.default_view_classifier = StoredViewClassifier(
                pretrained_model_name_or_path, subfolder=SUBFOLDER, **hub
            )
        return processor

    @property
    def model_input_names(self) -> list[str]:
        """Names of all keys that the result of a call may have."""
        names = ["input_ids", "attention_mask", "ecg_values", "ecg_mask", "pixel_values_videos", "view_mask"]
        return names if self.labs_scales is None else [*names, *CELL_ARGUMENTS]

    def __call__(  # noqa: PLR0913 - one argument a modality, and what goes with it
        self,
        labs: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
        ecg: Any = None,
        echo: Any = None,
        *,
        views: Mapping[str, str] | Sequence[Mapping[str, str] | None] | None = None,
        view_classifier: Callable[..., Any] | StoredViewClassifier | None = None,
        units: str | None = None,
        strictness: str | None = None,
        crop: str | None = None,
        generator: np.random.Generator | None = None,
        on_refusal: str | None = None,
        return_report: bool | None = None,
        **kwargs: Unpack[ProcessingKwargs],
    ) -> BatchFeature | tuple[BatchFeature, list[Report]]:
        """Process one patient or a batch. A batch may mix patients with different modalities.

        Args:
            labs: lab row (column name or alias -> value or (value, unit)), or a list of rows with None for absent.
            ecg: ECG file (`read_ecg`), `{"signal", "sampling_rate", "lead_names"[, "units"]}` or `EcgRecording`;
                or a list with None for absent.
            echo: study = directory, list of files, or `{view: file or (F, H, W, 3) uint8 RGB}`; or a list of studies. A
                list of files is one study unless `labs` or `ecg` is a list too: then echo is a list of studies.
            views: file name -> view for clips of unknown view; one mapping for all studies, or one per study.
            view_classifier: names the view of a clip that `views` does not name, see
                `EchoImageProcessor.prepare_study`; `self.default_view_classifier` when None.
            units: unit system of the laboratory, "US" or "SI": the units of numbers without a unit. None means that
                they are not known. A number that fits two units is then not used.
            strictness: "note" leaves refused items out. An input with a finding under "checks" is used, unless it is
                refused too. "refuse" refuses a patient with either. None takes `self.default_strictness`.
            crop: ECG window, "center" (prediction; the default), "random" (training) or "three" (start, middle, end:
                average the predictions).
            generator: source of the random crop.
            on_refusal: "raise" (the default) on the first refused lab cell, ECG or study, or "report" and go on without
                it. A file of a directory or list (a still, an unknown view) is no error while the study has another
                that can be used; a clip given under its view is.
            return_report: also return one report per patient: {"used": {"labs": [columns], "ecg": [leads], "echo":
                [views]}, "views": [{"item", "view", "confidence", "by", "used"}], one entry for each clip that has a
                view, by "name" or "classifier", "units": [{"column", "unit", "given", "given_unit"}] of the lab cells,
                "refused": [{"item", "reason"}], "checks": [{"code", "item", "text"}], "notes": [...]}.
            kwargs: `return_tensors`, "pt" or "np"; NumPy arrays when None.

        Returns:
            `BatchFeature` with `input_ids`, `attention_mask` (B, L) int64; for a model that reads numbers also
            `cell_ids`, `cell_columns` (B, L) int64, `cell_values` (B, L) float32, `cell_mask` (B, L) bool; `ecg_values`
            (B, 12, 2250) float32, or (B, 3, 12, 2250) with `crop="three"`, `ecg_mask` (B, 12) bool;
            `pixel_values_videos` (B, 11, F, 3, H, W) float32, `view_mask` (B, 11) bool.

        Raises:
            InputRefusedError: (a `ValueError`) on a refusal, when `on_refusal="raise"`.
            ValueError: on nothing to process, or batches of different lengths.
            TypeError: on an unknown argument.
        """
        if unknown := set(kwargs) - {"return_tensors"}:
            raise TypeError(f"TgmmProcessor takes no {sorted(unknown)}; patients are given as labs=, ecg= and echo=.")
        on_refusal, crop, strictness = on_refusal or "raise", crop or "center", strictness or self.default_strictness
        check_choices(CALL_CHOICES, on_refusal=on_refusal, crop=crop, strictness=strictness, units=units)
        rows, recordings, studies = _as_batch(labs, ecg, echo)
        study_views = _as_views(views, len(studies))
        view_classifier = view_classifier or self.default_view_classifier
        readers = [PatientReader(on_refusal == "raise", trained_inputs(self.training_inputs)) for _ in rows]
        lab_rows: list[LabsText] = []
        ecgs: list[Any] = []
        clips: list[Any] = []
        for index, reader in enumerate(readers):
            labs_read = reader.labs(rows[index], self.labs_text(rows[index], units))
            ecg = reader.ecg(self.feature_extractor, recordings[index], crop=crop, generator=generator)
            echo_options = {"views": study_views[index], "view_classifier": view_classifier}
            study = reader.echo(self.image_processor, studies[index], **echo_options)
            is_refused = reader.refuse_two_patients(recordings[index], study)
            if is_refused or (strictness == "refuse" and reader.refuse_if_doubtful()):
                labs_read, ecg, study = LabsText(), None, None
            lab_rows.append(labs_read)
            ecgs.append(ecg)
            clips.append(study)
        data = self.encode_labs(lab_rows)
        data |= self.feature_extractor.stack(ecgs)
        data |= self.image_processor.stack(clips)
        features = BatchFeature(data, tensor_type=cast(str | None, kwargs.get("return_tensors")))
        return (features, [reader.report for reader in readers]) if return_report else features

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> list[str]:
        """Save settings, tokenizer, code and a copy of the view classifier; return paths as `ProcessorMixin` does."""
        if self.default_view_classifier is not None:
            self.default_view_classifier.copy_to(save_directory)
        return super().save_pretrained(save_directory, **kwargs)

    def labs_text(self, row: Mapping[str, Any] | None, units: str | None = None) -> LabsText:
        """Read a lab row and write its text: `LabsText` with `text`, `used`, `dropped`, `refused`; empty for None.

        Args:
            row: column name or alias -> value or (value, unit).
            units: "US" or "SI", the units of numbers without a unit; None if the laboratory's units are not known.

        Raises:
            TypeError: if the row is not a mapping.
            ValueError: if `units` is not known.
        """
        if row is None:
            return LabsText()
        if not isinstance(row, Mapping):
            raise TypeError(f"a laboratory row is a mapping of column name to value, got {type(row).__name__}.")
        columns = trained_columns(self) or ()
        labs = self.write_labs(LabsText.from_row(declare_units(row, units, columns), columns=columns))
        labs.unread_words = unread_cells(self.tokenizer, labs)
        return labs

    def write_labs(self, labs: LabsText) -> LabsText:
        """Write the text of a lab row whose cells are read already, by the processor's settings; return the row."""
        fitting = partial(fitting_sentences, self.tokenizer, self.max_labs_tokens)
        labs.write(self.labs_object, self.labs_flags, fitting, units=self.labs_units, columns=trained_columns(self))
        return labs

    def encode_labs(self, rows: Sequence[LabsText]) -> dict[str, np.ndarray]:
        """Make the model's inputs of B lab rows with their texts; {} if all texts are empty."""
        texts = [row.text for row in rows]
        if not any(texts):
            return {}
        if self.labs_scales is None:
            return self.tokenize(texts)
        arrays = tokenize_texts(self.tokenizer, texts, offsets=True)
        return arrays | cell_inputs(rows, arrays.pop("offset_mapping"), self.labs_scales, self.labs_object)

    def tokenize(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Tokenize B texts to `input_ids`, `attention_mask` (B, L longest) int64. An empty text is masked everywhere.

        A special token such as "[PAD]" inside a text is read as text, because a row must not steer the encoder.
        """
        return tokenize_texts(self.tokenizer, texts)


def default_processor(
    config: TgmmConfig,
    tokenizer: PreTrainedTokenizerBase | None = None,
    encoders: Mapping[str, str | Path] | None = None,
) -> TgmmProcessor:
    """Build the processor that matches a [`TgmmConfig`]: clip geometry, ECG window and text length of its encoders.

    Args:
        config: the model's configuration.
        tokenizer: tokenizer of the labs encoder; bert-base-cased's vocabulary when None.
        encoders: modality -> directory or repository of a pretrained encoder. The settings beside it prepare its input,
            as in `TgmmProcessor.from_encoders`.

    Returns:
        A `TgmmProcessor` without a view classifier.

    Raises:
        ValueError: if the tokenizer has more tokens than the text encoder has embeddings.
    """
    sources = encoders or {}
    extractor = saved_extractor(EcgFeatureExtractor, sources["ecg"]) if "ecg" in sources else None
    image_processor = saved_extractor(EchoImageProcessor, sources["echo"]) if "echo" in sources else None
    return TgmmProcessor(**fitting_parts(config, tokenizer or bert_cased_tokenizer(), extractor, image_processor))


def _check_template(labs_object: Any, labs_flags: Any, labs_units: Any) -> None:
    """Raise a ValueError if a setting of the text template is of another type, or no known value."""
    if not isinstance(labs_object, str) or not labs_object.strip():
        raise ValueError(f"labs_object must be a word such as 'patient', got {labs_object!r}.")
    if not isinstance(labs_flags, bool):
        raise ValueError(f"labs_flags must be true or false, got {labs_flags!r}.")
    if labs_units not in ("never", "always"):
        raise ValueError(f"labs_units must be 'never' or 'always', got {labs_units!r}.")


def _check_tokens(tokenizer: PreTrainedTokenizerBase, max_labs_tokens: Any) -> None:
    """Raise a ValueError if texts cannot be padded, or a row may have too few tokens."""
    if tokenizer.pad_token_id is None:
        raise ValueError("The tokenizer has no padding token. Set tokenizer.pad_token, or restore its files.")
    if not isinstance(max_labs_tokens, int) or max_labs_tokens < 3:
        raise ValueError(
            f"max_labs_tokens must leave room for one token between two special ones, got {max_labs_tokens}."
        )


def _check_columns(columns: Any) -> None:
    """Raise a ValueError if the columns of a processor are neither None nor a list of names."""
    is_list = isinstance(columns, list | tuple)
    if columns is not None and not (is_list and all(isinstance(name, str) for name in columns)):
        raise ValueError(f"labs_columns must be a list of column names, got {columns!r}.")


def _as_batch(labs: Any, ecg: Any, echo: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Bring lab rows, recordings and studies to three lists of one length, one entry per patient, None where absent.

    Args:
        labs: one lab row, a list with None for absent, or None.
        ecg: one recording, a list with None for absent, or None.
        echo: one study, a list with None for absent, or None.

    Returns:
        The lists of lab rows, recordings and studies.

    Raises:
        ValueError: if all three are None, or lists have different lengths.
    """
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
    rows, recordings, studies = (list(items) if items is not None else [None] * size for items in lists.values())
    return rows, recordings, studies


def _as_views(views: Any, size: int) -> list[Mapping[str, str] | None]:
    """Bring the view names to a list of `size` mappings (file name -> view), one per patient; None without names."""
    if views is None or isinstance(views, Mapping):
        return [views] * size
    if len(views) != size:
        raise ValueError(f"views must be one mapping or one per patient, got {len(views)} for {size} patients.")
    return list(views)


__all__ = ["BERT_CASED_SIZE", "TgmmProcessor", "bert_cased_tokenizer", "default_processor"]
