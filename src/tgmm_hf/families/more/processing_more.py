"""X-rays, ECGs and texts -> the inputs of `MoreModel`.

    X-ray  --MoreImageProcessor---->  pixel_values (B, 3, 224, 224), xray_mask (B,)
    ECG    --MoreFeatureExtractor-->  input_values (B, 12, 1000), ecg_mask (B,)
    text   --tokenizer------------->  input_ids, attention_mask (B, L)

A modality that is absent from the whole batch has no keys. The mask of a modality is zero for a patient without it.
Shapes: B patients, L tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessingKwargs, Unpack

from ...inputs.hub_processor import CHOICES, HubProcessor, check_choices
from ...inputs.lab_word_checks import writing_doubt
from ...inputs.patient_identity import (
    DIFFERENT_IDS,
    identity_of,
    identity_of_ecg,
    ids_not_compared,
    labs_conflicts,
    patient_conflict,
)
from ...inputs.processor_parts import tokenize_texts
from ...utils.errors import InputRefusedError, is_refusal
from ...utils.names import LEADS

NOTES = ("xray", "ecg")
"""Parts of a note in their published order."""
PREFIXES = {"xray": "The report from Xray is: ", "ecg": "The report from ECG is: "}
"""Published words in front of each part of a note."""
UNKNOWN_SHARE = 0.5
"""A text is in doubt if the tokenizer does not know this share of its tokens, as of a text in another script."""

Report = dict[str, Any]
"""What became of one patient's inputs, see `MoreProcessor.__call__`."""


class MoreProcessor(HubProcessor):
    """Processor of [`MoreModel`]: image processor for X-rays, feature extractor for ECGs, tokenizer for texts.

    Args:
        image_processor (`MoreImageProcessor`): X-ray -> `pixel_values`.
        feature_extractor (`MoreFeatureExtractor`): ECG -> `input_values`.
        tokenizer (`PreTrainedTokenizerBase`): tokenizer of the text encoder.
        max_text_tokens (`int`, defaults to 512): a longer text is cut at its end, with a note.
        pad_to_max (`bool`, defaults to `False`): pad all texts to `max_text_tokens`. Weights that were trained with the
            mean over padding need this.

    Attributes:
        default_strictness (`str`, defaults to `"note"`): the strictness of a call that gives none. It is not saved,
            because it belongs to the run and not to the model.
    """

    def __init__(
        self,
        image_processor: Any,
        feature_extractor: Any,
        tokenizer: PreTrainedTokenizerBase,
        max_text_tokens: int = 512,
        pad_to_max: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_processor, feature_extractor, tokenizer, **kwargs)
        if tokenizer.pad_token_id is None:
            raise ValueError("The tokenizer has no padding token. Set tokenizer.pad_token.")
        if max_text_tokens < 3:
            raise ValueError(
                f"max_text_tokens must leave room for one token between two special ones, got {max_text_tokens}."
            )
        self.max_text_tokens = max_text_tokens
        self.pad_to_max = pad_to_max
        self.default_strictness = "note"

    @property
    def model_input_names(self) -> list[str]:
        """Names of all keys that the result of a call may have."""
        return ["pixel_values", "xray_mask", "input_values", "ecg_mask", "input_ids", "attention_mask"]

    def __call__(
        self,
        xray: Any = None,
        ecg: Any = None,
        text: Any = None,
        *,
        strictness: str | None = None,
        on_refusal: str | None = None,
        return_report: bool | None = None,
        **kwargs: Unpack[ProcessingKwargs],
    ) -> BatchFeature | tuple[BatchFeature, list[Report]]:
        """Process one patient or a batch. A batch may mix patients with different modalities.

        Args:
            xray: chest X-ray (`read_xray`): DICOM, PNG or JPEG file, Pillow image, array; or a list with None for
                absent.
            ecg: ECG file (`read_ecg`), `{"signal", "sampling_rate", "lead_names"[, "units"]}` or `EcgRecording`; or a
                list with None for absent.
            text: a prompt, taken as it is; or the notes `{"xray": ..., "ecg": ...}`, of which one may be missing and
                which get the published prefixes; or a list of these with None for absent.
            strictness: "note" uses an input with a finding under "checks" and names it; "refuse" refuses the whole
                patient. None takes `self.default_strictness`.
            on_refusal: "raise" (also None) on the first refused input, or "report" and go on without it.
            return_report: True also returns one report per patient: {"used": {"xray": [view], "ecg": [leads], "text":
                [notes]}, "refused": [{"item", "reason"}], "checks": [{"code", "item", "text"}], "notes": [...]}.
            kwargs: `return_tensors`, "pt" or "np"; NumPy arrays without it. A misspelt argument is refused.

        Returns:
            `BatchFeature` with `pixel_values` (B, 3, size, size) and `input_values` (B, 12, samples) float32,
            `xray_mask` and `ecg_mask` (B,) bool, `input_ids` and `attention_mask` (B, L) int64. Without `text` there
            are no ids, and so on.

        Raises:
            InputRefusedError: (a `ValueError`) on a refusal, when `on_refusal="raise"`.
            ValueError: on nothing to process, or lists of different lengths.
            TypeError: on an unknown argument.
        """
        if unknown := set(kwargs) - {"return_tensors"}:
            raise TypeError(f"MoreProcessor takes no {sorted(unknown)}; patients are given as xray=, ecg= and text=.")
        strictness, on_refusal = strictness or self.default_strictness, on_refusal or "raise"
        check_choices(CHOICES, strictness=strictness, on_refusal=on_refusal)
        inputs = _as_batch({"xray": xray, "ecg": ecg, "text": text})
        size = len(next(iter(inputs.values())))
        readers = [_Reader(self, on_refusal == "raise", strictness) for _ in range(size)]
        rows = [
            reader.read({name: values[index] for name, values in inputs.items()})
            for index, reader in enumerate(readers)
        ]
        data = _stack(rows, "xray", "pixel_values", "xray_mask") | _stack(rows, "ecg", "input_values", "ecg_mask")
        if any("text" in row for row in rows):
            data |= self.tokenize([row.get("text", "") for row in rows])
        features = BatchFeature(data, tensor_type=cast(str | None, kwargs.get("return_tensors")))
        return (features, [reader.report for reader in readers]) if return_report else features

    def note(self, text: Any) -> str:
        """Write a prompt or the notes of a patient (`text` of a call) as one text; "" without one."""
        return " ".join(PREFIXES.get(name, "") + part for name, part in _note_parts(text).items())

    def tokenize(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Tokenize B texts to `input_ids`, `attention_mask` (B, L) int64. An empty text is masked everywhere.

        A special token such as "</s>" inside a text is read as text, because a note must not steer the encoder. A text
        longer than `max_text_tokens` loses its end.
        """
        data = tokenize_texts(self.tokenizer, texts, self.max_text_tokens)
        lacking = self.max_text_tokens - data["input_ids"].shape[1]
        if self.pad_to_max and lacking > 0:
            padding = {"input_ids": self.tokenizer.pad_token_id, "attention_mask": 0}
            data = {
                name: np.pad(value, ((0, 0), (0, lacking)), constant_values=padding[name])
                for name, value in data.items()
            }
        return data


class _Reader:
    """Reads one patient and fills the patient's report.

    Args:
        processor: gives the extractors.
        refuse: raise on the first refusal. False writes refusals into the report and goes on.
        strictness: see `MoreProcessor.__call__`.
    """

    def __init__(self, processor: MoreProcessor, refuse: bool, strictness: str):
        self.processor = processor
        self.refuse = refuse
        self.strictness = strictness
        self.report: Report = {"used": {"xray": [], "ecg": [], "text": []}, "refused": [], "checks": [], "notes": []}

    def read(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Read the inputs of the patient: "xray", "ecg" or "text" -> what the model reads; only what can be used."""
        features: dict[str, Any] = {}
        for name, part in (("xray", self.processor.image_processor), ("ecg", self.processor.feature_extractor)):
            if inputs.get(name) is not None and (entry := self._prepare(name, part, inputs[name])) is not None:
                features[name] = entry.values
        if (text := self._text(inputs.get("text"))) is not None:
            features["text"] = text
        conflict = self._two_patients(inputs, set(features))
        if conflict is not None or (self.strictness == "refuse" and self._is_doubtful()):
            reason = conflict or f"the strictness is 'refuse', and an input is refused or in doubt: {self._doubts()}"
            self.report["used"] = {"xray": [], "ecg": [], "text": []}
            self._add_refusal(InputRefusedError("patient", reason), "patient")
            return {}
        return features

    def _prepare(self, name: str, part: Any, item: Any) -> Any:
        """Prepare an X-ray or an ECG; None if it cannot be used."""
        try:
            entry = part.prepare(item)
        except ValueError as error:
            self._add_refusal(error, name)
            return None
        self.report["used"][name] = [entry.view or "view not stated"] if name == "xray" else list(LEADS)
        self.report["checks"] += entry.checks
        self.report["notes"] += [f"{name}: {note}" for note in entry.notes]
        return entry

    def _text(self, text: Any) -> str | None:
        """Write the text of the patient; None without one."""
        try:
            parts = _note_parts(text)
        except ValueError as error:
            self._add_refusal(error, "text")
            return None
        if not parts:
            return None
        self.report["used"]["text"] = list(parts)
        self.report["checks"] += _text_checks(parts, self.processor.tokenizer)
        joined = self.processor.note(text)
        tokenizer = self.processor.tokenizer
        number = len(tokenizer(joined, verbose=False, split_special_tokens=True)["input_ids"])
        if number > self.processor.max_text_tokens:
            self.report["notes"].append(
                f"text: {number} tokens, cut to the first {self.processor.max_text_tokens} (max_text_tokens)"
            )
        return joined

    def _two_patients(self, inputs: Mapping[str, Any], used: set[str]) -> str | None:
        """Say that the headers of X-ray and ECG certainly name two patients; only note it if they may be one.

        A header that names a child is noted, too.

        Args:
            inputs: as `read` takes them.
            used: names of the inputs that are used.
        """
        ecg = identity_of_ecg(inputs["ecg"]) if "ecg" in used else None
        xray = identity_of(inputs["xray"]) if "xray" in used else None
        self.report["checks"] += labs_conflicts(None, None, {"X-ray": xray, "ECG": ecg})
        if (note := ids_not_compared(ecg, xray, "X-ray")) is not None:
            self.report["notes"].append(note)
        conflict = patient_conflict(ecg, xray, "X-ray")
        if conflict is None:
            return None
        reason, is_certain = conflict
        if not is_certain:
            self.report["checks"].append({"code": DIFFERENT_IDS, "item": "patient", "text": reason})
        return reason if is_certain else None

    def _is_doubtful(self) -> bool:
        """Tell whether an input was refused or is in doubt."""
        return bool(self.report["refused"] or self.report["checks"])

    def _doubts(self) -> str:
        """Join the names of the inputs that were refused or are in doubt."""
        return ", ".join(dict.fromkeys(entry["item"] for entry in (*self.report["refused"], *self.report["checks"])))

    def _add_refusal(self, error: ValueError, item: str) -> None:
        """Write a refusal into the report, or raise it if the reader refuses. An error that is no refusal is raised.

        The report names the modality `item`, not the file, because a path may name the patient.
        """
        if self.refuse or not is_refusal(error):
            raise error
        self.report["refused"].append({"item": item, "reason": error.reason})  # type: ignore[attr-defined]


def _note_parts(text: Any) -> dict[str, str]:
    """Bring a text to its parts: "prompt", or "xray" and "ecg" of a note. Empty and missing (NaN) parts are left out.

    Raises:
        InputRefusedError: if a part of a note is no text.
        TypeError: if it is neither a text nor a mapping of notes.
        ValueError: if a mapping has other keys.
    """
    if _is_missing(text):
        return {}
    if isinstance(text, str):
        return {"prompt": text} if text.strip() else {}
    if not isinstance(text, Mapping):
        raise TypeError(f"text is a {type(text).__name__}, expected a text, or notes {{'xray': ..., 'ecg': ...}}.")
    if unknown := set(text) - set(NOTES):
        raise ValueError(f"Notes have the names {', '.join(NOTES)}, got {sorted(map(str, unknown))}.")
    parts = {name: text[name] for name in NOTES if not _is_missing(text.get(name))}
    for name, part in parts.items():
        if not isinstance(part, str):
            raise InputRefusedError("text", f"the note of the {name} is a {type(part).__name__}, a text is expected")
    return {name: " ".join(part.split()) for name, part in parts.items() if part.strip()}


def _is_missing(value: Any) -> bool:
    """Tell whether a value stands for nothing: None, or the NaN that tables write for an empty cell."""
    return value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def _text_checks(parts: Mapping[str, str], tokenizer: Any) -> list[dict[str, str]]:
    """Return findings {"code", "item", "text"} on parts of a text that are no words, or none that the encoder knows."""
    checks = []
    for name, part in parts.items():
        title = "the prompt" if name == "prompt" else f"the note of the {name}"
        if not any(character.isalpha() for character in part):
            checks.append(("text_without_words", f"{title} holds no word"))
        elif (doubt := writing_doubt(title, part)) is not None:
            checks.append(("text_no_words", doubt))
        tokens = tokenizer.tokenize(part, verbose=False, split_special_tokens=True)
        share = tokens.count(tokenizer.unk_token) / len(tokens) if tokens and tokenizer.unk_token else 0.0
        if share >= UNKNOWN_SHARE:
            checks.append(
                (
                    "text_unknown",
                    f"the text encoder does not know {share:.0%} of the tokens of {title}: which language?",
                )
            )
    return [{"code": code, "item": "text", "text": text} for code, text in checks]


def _as_batch(inputs: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Bring X-rays, ECGs and texts to lists of one length, None where absent. What is None altogether is left out.

    Raises:
        ValueError: if all are None, or lists have different lengths.
    """
    lists = {
        name: list(value) if isinstance(value, list | tuple) else [value]
        for name, value in inputs.items()
        if value is not None
    }
    if not lists:
        raise ValueError("Nothing to process: give at least one of xray, ecg and text.")
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) != 1 or not all(lengths.values()):
        raise ValueError(
            f"xray, ecg and text must hold equally many patients, at least one, got {lengths}: write None for what a "
            "patient lacks. For many prompts about one X-ray, process the prompts in a call of their own."
        )
    return lists


def _stack(rows: Sequence[Mapping[str, Any]], name: str, key: str, mask_key: str) -> dict[str, np.ndarray]:
    """Stack the values of a modality, zeros for patients without it; {} if nobody has it."""
    present = [row[name] for row in rows if name in row]
    if not present:
        return {}
    values = np.zeros((len(rows), *present[0].shape), dtype=np.float32)
    mask = np.array([name in row for row in rows])
    values[mask] = np.stack(present)
    return {key: values, mask_key: mask}


__all__ = ["MoreProcessor"]
