"""A conversation about an ECG -> the inputs of `HeartcareForConditionalGeneration`.

    ECG          --BeatFeatureExtractor-->  input_values (B, W, 12, samples), window_mask (B, W)
    ECG --drawn--> picture --SiglipImageProcessor-->  pixel_values (B, 3, height, width), image_mask (B,)
    conversation --chat template--> text with placeholders --tokenizer--> input_ids, attention_mask (B, T)

B conversations, W windows, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.processing_utils import ProcessingKwargs, Unpack

from ...inputs.ecg_picture import draw_ecg_picture, traces_to_draw
from ...inputs.ecg_recording import NORMALISED
from ...inputs.ecg_signal import HarmonisedEcg, as_recording, harmonise_recording
from ...inputs.feature_extraction_beat import BeatFeatureExtractor
from ...inputs.feature_extraction_ecg import PreparedEcg
from ...inputs.picture_looks import draw_look, photograph
from ...inputs.picture_reading import read_picture
from ...utils.errors import InputRefusedError
from ...utils.names import LEADS
from ..shared.conversation_processor import ConversationProcessor, Report, check_tokenizer, one_each
from ..shared.ecg_conversations import (
    Message,
    Pieces,
    Placeholders,
    blocks_of,
    new_conversation,
    plain_texts,
    token_pieces,
)

INSTRUCTION = "Describe this ECG."
"""The user's text of a call that gives none (ours)."""
ECG_TOKEN, IMAGE_TOKEN = "<|ecg|>", "<image>"
STREAMS = ("ecg", "image")
"""How an ECG enters the model: as windows of the signal, and as a drawn picture."""


@dataclass
class HeartcareRow:
    """What the model reads of one conversation beside its text.

    Attributes:
        ecg: the prepared windows; None if the row has no ECG.
        pixels: (3, height, width) float32; None if the row has no picture.
    """

    ecg: PreparedEcg | None = None
    pixels: NDArray | None = None


def add_ecg_tokens(tokenizer: PreTrainedTokenizerBase, num_codes: int = 0) -> dict[str, int]:
    """Add the placeholders of ECG and picture to a tokenizer, in place, and words for Beat's codes if asked for.

    Args:
        tokenizer: of the language model.
        num_codes: `num_code_tokens` of the configuration, for `ecg_input="codes"`. The words are named as in the
            prototype: <|ecg_1|>, <|ecg_2|>, ...

    Returns:
        Settings of `HeartcareForConditionalGeneration.from_language_model`: the ids, and "vocab_size".
    """
    codes = [f"<|ecg_{number}|>" for number in range(1, num_codes + 1)]
    tokenizer.add_tokens([ECG_TOKEN, IMAGE_TOKEN, *codes], special_tokens=True)
    ids = cast(list[int], tokenizer.convert_tokens_to_ids([ECG_TOKEN, IMAGE_TOKEN, *codes]))
    settings = {"ecg_token_id": ids[0], "image_token_id": ids[1], "vocab_size": len(tokenizer)}
    return {**settings, "ecg_code_token_id": ids[2]} if codes else settings


class HeartcareProcessor(ConversationProcessor):
    """Processor of [`HeartcareForConditionalGeneration`]: windows and picture of an ECG, chat template for the text.

    `HeartcareProcessor.for_model` makes one that fits a model.

    Args:
        feature_extractor (`BeatFeatureExtractor`): prepares the windows of an ECG.
        image_processor (`SiglipImageProcessor`): prepares pictures.
        tokenizer (`PreTrainedTokenizerBase`): tokenizer of the language model, with the placeholders
            (`add_ecg_tokens`). Its chat template is used. Without one MEIT's published form is used, see
            ecg_conversations.py.
        num_ecg_tokens (`int`, defaults to 20): number of placeholders of a window.
        num_image_tokens (`int`, defaults to 196): number of placeholders of a picture.
        instruction (`str`, *optional*): the user's text of a call that gives none.

    Attributes:
        default_strictness (`str`, defaults to `"note"`): the strictness of a call that gives none. It is not saved,
            because it belongs to the run and not to the model.
    """

    def __init__(
        self,
        feature_extractor: Any,
        image_processor: Any,
        tokenizer: PreTrainedTokenizerBase,
        num_ecg_tokens: int = 20,
        num_image_tokens: int = 196,
        instruction: str = INSTRUCTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_extractor, image_processor, tokenizer, **kwargs)
        check_tokenizer(tokenizer, [ECG_TOKEN, IMAGE_TOKEN])
        self.num_ecg_tokens = num_ecg_tokens
        self.num_image_tokens = num_image_tokens
        self.instruction = instruction

    @classmethod
    def for_model(cls, config: Any, tokenizer: PreTrainedTokenizerBase) -> "HeartcareProcessor":
        """Make a processor that fits a model.

        Args:
            config: [`HeartcareConfig`] of the model.
            tokenizer: of its language model, with the placeholders (`add_ecg_tokens`).
        """
        side = config.vision_config.image_size
        return cls(
            BeatFeatureExtractor(num_samples=config.beat_config.seq_length),
            SiglipImageProcessorPil(size={"height": side, "width": side}),
            tokenizer,
            num_ecg_tokens=config.num_ecg_tokens,
            num_image_tokens=config.num_image_tokens,
        )

    @property
    def model_input_names(self) -> list[str]:
        """Names of all keys that the result of a call may have. `labels` come only when they are asked for."""
        return ["input_ids", "attention_mask", "input_values", "window_mask", "pixel_values", "image_mask"]

    def __call__(  # noqa: PLR0913 - what is read, and what happens to doubtful data
        self,
        ecg: Any = None,
        text: str | Sequence[str] | None = None,
        answer: str | Sequence[str] | None = None,
        image: Any = None,
        *,
        streams: Sequence[str] | None = None,
        picture_seeds: Sequence[int] | None = None,
        output_labels: bool | None = None,
        strictness: str | None = None,
        on_refusal: str | None = None,
        return_report: bool | None = None,
        **kwargs: Unpack[ProcessingKwargs],
    ) -> BatchFeature | tuple[BatchFeature, list[Report]]:
        """Process one ECG or picture, or lists of them, each with one question.

        Args:
            ecg: ECG file (`read_ecg`), `{"signal", "sampling_rate", "lead_names"[, "units"]}` or `EcgRecording`; or a
                list of these, with None for a row that has a picture only.
            text: question, one for all rows or one for each. None takes the processor's `instruction`.
            answer: what the model should write, one for each row. None for a prompt.
            image: your own picture of the ECG: file, Pillow image or uint8 array (height, width, 3); or a list of these
                and None. Without it the picture is drawn from the ECG.
            streams: how an ECG enters the model: "ecg", "image" or both (also None). () asks without the ECG, as a
                control.
            picture_seeds: for a training: one number for each row, from which the look of its drawn picture follows
                (rotation, crop, colours, light, blur, noise). None draws it plain.
            output_labels: True also returns `labels`, see `apply_chat_template`. Needs `answer`.
            strictness: "note" uses an ECG with a finding under "checks" and names it; "refuse" refuses the ECG. None
                takes `self.default_strictness`.
            on_refusal: "raise" (also None) on the first refused row, or "report" and leave the row out of the batch.
            return_report: True also returns one report per row: {"row": number in the batch or None, "used": {"ecg":
                [leads], "image": "drawn", "given" or "no"}, "refused": [{"item", "reason"}], "checks": [{"code",
                "item", "text"}], "notes": [...]}.
            kwargs: `return_tensors`, "pt" or "np"; NumPy arrays without it. A misspelt argument is refused.

        Returns:
            `BatchFeature` with `input_ids`, `attention_mask` (B, T) int64; `window_mask` (B, W) and `image_mask` (B,)
            bool; `input_values` (B, W, 12, samples) and `pixel_values` (B, 3, height, width) float32 if any row has
            them; `labels` (B, T) int64 if asked for. It is empty if every row was refused.

        Raises:
            InputRefusedError: (a `ValueError`) on a refusal, when `on_refusal="raise"`.
            ValueError: on nothing to process, or lists of different lengths.
            TypeError: on an unknown argument.
        """
        if unknown := set(kwargs) - {"return_tensors"}:
            raise TypeError(
                f"HeartcareProcessor takes no {sorted(unknown)}. An ECG is given as ecg=, a picture as image=, a "
                "question as text=."
            )
        streams = STREAMS if streams is None else streams
        if strange := sorted(set(streams) - set(STREAMS)):
            raise ValueError(f"streams holds {', '.join(strange)}, known are {', '.join(STREAMS)}.")
        blocks = _blocks(ecg, image, streams, picture_seeds)
        texts = one_each("text", self.instruction if text is None else text, len(blocks))
        answers = [None] * len(blocks) if answer is None else one_each("answer", answer, len(blocks))
        conversations = [new_conversation(*row) for row in zip(blocks, texts, answers, strict=True)]
        return self.apply_chat_template(
            conversations,
            add_generation_prompt=answer is None,
            tokenize=True,
            return_dict=True,
            output_labels=bool(output_labels),
            strictness=strictness,
            on_refusal=on_refusal or "raise",
            return_report=bool(return_report),
            return_tensors=cast(str | None, kwargs.get("return_tensors")),
        )

    @property
    def placeholders(self) -> Placeholders:
        """Type of a block -> its placeholder, once, in a text that is not tokenized."""
        return {"ecg": (ECG_TOKEN, 1), "image": (IMAGE_TOKEN, 1)}

    def pieces(self, messages: Sequence[Message], add_generation_prompt: bool = False, num_windows: int = 0) -> Pieces:
        """Tokenize one conversation in pieces, each with whether it is an answer of the assistant. No ECG is read.

        Args:
            messages: as `apply_chat_template` takes them.
            add_generation_prompt: end with the start of the assistant's answer.
            num_windows: number of windows of the ECG.
        """
        placeholders = {"ecg": (ECG_TOKEN, num_windows * self.num_ecg_tokens)}
        placeholders["image"] = (IMAGE_TOKEN, self.num_image_tokens)
        return token_pieces(self.tokenizer, plain_texts(messages, placeholders), add_generation_prompt)

    def read_row(self, messages: Sequence[Message], report: Report, strictness: str) -> HeartcareRow:
        """Read the ECG and the picture of a conversation, see `ConversationProcessor`.

        Blocks are `{"type": "ecg", "ecg": ...}`, `{"type": "image", "image": ...}` with your own picture, and `{"type":
        "image", "ecg": ..., "seed": ...}` with a drawn one. There is at most one of each type.
        """
        row = HeartcareRow()
        report["used"] = self.nothing_used()
        ecgs, images = blocks_of(messages, "ecg"), blocks_of(messages, "image")
        if len(ecgs) > 1 or len(images) > 1:
            raise ValueError(f"A conversation has at most one ECG and one picture, got {len(ecgs)} and {len(images)}.")
        recording: Any = None
        if ecgs:
            recording = as_recording(ecgs[0]["ecg"])
            row.ecg = self.feature_extractor.prepare(recording)
            self._note(report, row.ecg, strictness)
            report["used"]["ecg"] = list(LEADS)
        if images:
            block = images[0]
            if "image" in block:
                row.pixels = self._pixels(_own_picture(block["image"]))
                report["used"]["image"] = "given"
            else:
                same = bool(ecgs) and _is_same(block["ecg"], ecgs[0]["ecg"])
                row.pixels = self._drawn(block, recording if same else None, report, strictness)
                report["used"] |= {"ecg": list(LEADS), "image": "drawn"}
        return row

    def _note(self, report: Report, ecg: PreparedEcg | HarmonisedEcg, strictness: str) -> None:
        """Add the findings and notes of an ECG to a report, and refuse a doubtful ECG if `strictness` asks for it."""
        report["checks"] += ecg.checks
        if ecg.checks and strictness == "refuse":
            raise InputRefusedError("ecg", f"the strictness is 'refuse', and {ecg.checks[0]['text']}")
        report["notes"] += [f"ecg: {note}" for note in ecg.notes]

    def _drawn(self, block: Any, recording: Any, report: Report, strictness: str) -> NDArray:
        """Draw the ECG of a block, `recording` if it was read already, and prepare the picture."""
        extractor, was_read = self.feature_extractor, recording is not None
        recording = recording if was_read else as_recording(block["ecg"])
        ecg = harmonise_recording(recording, max_gap_seconds=extractor.max_gap_seconds, min_leads=extractor.min_leads)
        if not was_read:
            self._note(report, ecg, strictness)
        has_millivolts = recording.units != NORMALISED
        traces, seed = traces_to_draw(ecg, has_millivolts), block.get("seed")
        if seed is None:
            return self._pixels(draw_ecg_picture(traces, with_pulse=has_millivolts))
        look = draw_look(seed)
        return self._pixels(photograph(draw_ecg_picture(traces, "3x4", look.colours, has_millivolts), look))

    def _pixels(self, picture: NDArray) -> NDArray:
        """Prepare a picture (height, width, 3) uint8: (3, height, width) float32."""
        prepared = self.image_processor(images=picture, input_data_format="channels_last", return_tensors="np")
        return np.asarray(prepared["pixel_values"][0], dtype=np.float32)

    def row_pieces(self, messages: Sequence[Message], row: HeartcareRow, add_generation_prompt: bool) -> Pieces:
        """Tokenize one conversation, with as many placeholders as the ECG of the row has windows."""
        return self.pieces(messages, add_generation_prompt, 0 if row.ecg is None else len(row.ecg.values))

    def stack_rows(self, rows: Sequence[HeartcareRow]) -> dict[str, np.ndarray]:
        """Stack rows: masks, and the values of the rows that have an ECG or a picture, see `__call__`."""
        data = {"window_mask": np.zeros((len(rows), 1), dtype=bool)}
        data |= self.feature_extractor.stack([row.ecg for row in rows])
        data["image_mask"] = np.array([row.pixels is not None for row in rows])
        if pictures := [row.pixels for row in rows if row.pixels is not None]:
            data["pixel_values"] = np.stack(
                [np.zeros_like(pictures[0]) if row.pixels is None else row.pixels for row in rows]
            )
        return data

    def nothing_used(self) -> dict[str, Any]:
        """Return "used" of a refused conversation."""
        return {"ecg": [], "image": "no"}


def _blocks(ecg: Any, image: Any, streams: Sequence[str], seeds: Sequence[int] | None) -> list[list[dict[str, Any]]]:
    """Write the arguments of a call as the blocks of each row.

    Raises:
        ValueError: if there is nothing to read, or the lists have different lengths.
    """
    sources = [source for source in (ecg, image) if source is not None]
    if not sources:
        raise ValueError(
            "There is no ECG and no picture: give ecg=, a file or {'signal', 'sampling_rate', 'lead_names'}, or image=."
        )
    size = len(sources[0]) if isinstance(sources[0], list | tuple) else 1
    ecgs, images = _rows("ecg", ecg, size), _rows("image", image, size)
    looks = _rows("picture_seeds", seeds, size)
    return [_row_blocks(ecgs[row], images[row], looks[row], streams) for row in range(size)]


def _rows(name: str, value: Any, size: int) -> list[Any]:
    """Bring an argument to a list with one entry for each row; None stands for all rows."""
    rows = list(value) if isinstance(value, list | tuple) else [value] * (size if value is None else 1)
    if len(rows) != size:
        raise ValueError(f"{name} has {len(rows)} entries for {size} rows: give one for each.")
    return rows


def _row_blocks(ecg: Any, image: Any, seed: int | None, streams: Sequence[str]) -> list[dict[str, Any]]:
    """Write one row as blocks."""
    if ecg is None and image is None:
        raise ValueError("A row has neither an ECG nor a picture: leave it out.")
    blocks: list[dict[str, Any]] = []
    if ecg is not None and "ecg" in streams:
        blocks.append({"type": "ecg", "ecg": ecg})
    if image is not None and "image" in streams:
        blocks.append({"type": "image", "image": image})
    elif ecg is not None and "image" in streams:
        blocks.append({"type": "image", "ecg": ecg, "seed": seed})
    return blocks


def _own_picture(picture: Any) -> NDArray:
    """Read a user's own picture. A refusal names the picture."""
    try:
        return read_picture(picture)
    except InputRefusedError as error:
        error.refused_item = "image"  # type: ignore[attr-defined]
        raise


def _is_same(first: Any, second: Any) -> bool:
    """Tell whether two blocks name the same ECG, so that its file is read once."""
    return first is second or (
        isinstance(first, str | Path) and isinstance(second, str | Path) and str(first) == str(second)
    )


__all__ = ["ECG_TOKEN", "IMAGE_TOKEN", "INSTRUCTION", "STREAMS", "HeartcareProcessor", "add_ecg_tokens"]
