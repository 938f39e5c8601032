"""Reports of a MEIT model for many ECGs, and the vectors that its encoder gives. A family may replace four methods."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from tgmm_hf.data.instructions import Instruction
from tgmm_hf.families.shared.answering_pipeline import AnsweringPipeline
from tgmm_hf.families.shared.ecg_conversations import IGNORED_LABEL, Message, Pieces, pad_left

GetValues = Callable[[int], Any]
"""Function of the number of a row. It returns the processed ECG: MEIT's is (12, samples)."""


@dataclass
class Reporter:
    """Writes reports in batches, as `pipeline("ecg-report")` does, for ECGs that are processed already.

    Attributes:
        pipe: The pipeline with model and processor.
        batch_size: ECGs that are reported together.
        generate_kwargs: Settings of `generate`.
        generation: All settings of the last call, with the defaults of the pipeline.
        progress: Whether to show progress bars.
    """

    pipe: AnsweringPipeline
    batch_size: int = 16
    generate_kwargs: Mapping[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    progress: bool = True

    def write(self, rows: Sequence[Instruction], values: GetValues, title: str) -> list[tuple[str, bool]]:
        """Write a report for every row.

        Args:
            rows: Their instructions are the prompts; their reports are not read.
            values: Gives the processed ECG of a row.
            title: Name of the progress bar.

        Returns:
            For each row: the report, and whether the model ended it by itself.
        """
        processor: Any = self.pipe.processor
        answers: list[tuple[str, bool]] = []
        for start in self._starts(len(rows), title):
            numbers = range(start, min(start + self.batch_size, len(rows)))
            ecgs = [values(i) for i in numbers]
            messages = [rows[i].conversation(with_answer=False) for i in numbers]
            prompts = [self.pieces(*pair, True) for pair in zip(messages, ecgs, strict=True)]
            data = pad_left(processor.tokenizer, prompts, output_labels=False) | self.stack(ecgs)
            inputs = {name: torch.from_numpy(array).to(self.pipe.device) for name, array in data.items()}
            batch = self.pipe._forward({"inputs": inputs}, self.generate_kwargs)
            self.generation = batch["generation"]
            answers += [self.pipe._read(tokens, self.generation) for tokens in batch["tokens"]]
        return answers

    def answer_scores(
        self, rows: Sequence[Instruction], answers: Sequence[Sequence[str]], values: GetValues, title: str
    ) -> NDArray:
        """Compute from the logits how probable answers are for the model. The model generates no text.

        Args:
            rows: Their instructions are the prompts.
            answers: Answers to score, the same number for every row.
            values: Gives the processed ECG of a row.
            title: Name of the progress bar.

        Returns:
            Mean log-probability of a token of each answer, its end token included: (rows, answers) float64.
        """
        processor, model = self.pipe.processor, cast(Any, self.pipe.model)
        model.eval()
        scores = []
        with torch.no_grad():
            for start in self._starts(len(rows), title):
                numbers = range(start, min(start + self.batch_size, len(rows)))
                ecgs = [values(i) for i in numbers]
                pieces = [
                    self.pieces([*rows[i].conversation(with_answer=False), _answer(text)], ecg, False)
                    for i, ecg in zip(numbers, ecgs, strict=True)
                    for text in answers[i]
                ]
                data = pad_left(cast(Any, processor).tokenizer, pieces, output_labels=True)
                inputs = {name: torch.from_numpy(array).to(self.pipe.device) for name, array in data.items()}
                inputs |= self.repeated(ecgs, len(pieces) // len(numbers))
                labels = inputs.pop("labels")[:, 1:]
                logits = model(**inputs, use_cache=False).logits[:, :-1]
                scores.append(_mean_log_probability(logits, labels).view(len(numbers), -1).cpu().numpy())
        return np.concatenate(scores)

    def vectors(self, number: int, values: GetValues) -> NDArray:
        """Return the ECG vectors of `number` ECGs, joined for each ECG: (number, K * p) float32."""
        model: Any = self.pipe.model
        model.eval()
        parts = []
        with torch.no_grad():
            for start in self._starts(number, "vectors"):
                numbers = range(start, min(start + self.batch_size, number))
                parts.append(self.encoded([values(i) for i in numbers]).float().cpu().numpy())
        return np.concatenate(parts)

    def pieces(self, messages: Sequence[Message], ecg: Any, add_generation_prompt: bool) -> Pieces:
        """Tokenize one conversation about a processed ECG."""
        return cast(Any, self.pipe.processor).pieces(messages, add_generation_prompt)

    def stack(self, ecgs: Sequence[Any]) -> dict[str, NDArray]:
        """Stack processed ECGs to the inputs of the model beside the text."""
        return {"input_values": np.stack(ecgs).astype(np.float32)}

    def repeated(self, ecgs: Sequence[Any], times: int) -> dict[str, torch.Tensor]:
        """Return the inputs of the model beside the text, each ECG `times` times in a row."""
        values = torch.from_numpy(self.stack(ecgs)["input_values"]).to(self.pipe.device)
        vectors = cast(Any, self.pipe.model).get_ecg_features(values)  # once for all answers about one ECG
        return {"ecg_features": vectors.repeat_interleave(times, dim=0)}

    def encoded(self, ecgs: Sequence[Any]) -> torch.Tensor:
        """Encode processed ECGs to one vector each: (n, d)."""
        values = torch.from_numpy(self.stack(ecgs)["input_values"]).to(self.pipe.device)
        return cast(Any, self.pipe.model).get_ecg_features(values).flatten(1)

    def _starts(self, number: int, title: str) -> Any:
        """Return the first number of every batch, with a progress bar."""
        return tqdm(range(0, number, self.batch_size), desc=title, disable=None if self.progress else True)


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _mean_log_probability(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute the mean log-probability of the labels of each row.

    Args:
        logits: (B, T, vocabulary), of the token at each place.
        labels: (B, T), `IGNORED_LABEL` where nothing is counted.
    """
    counted = labels != IGNORED_LABEL
    targets = labels.masked_fill(~counted, 0).unsqueeze(-1)
    chosen = logits.double().log_softmax(dim=-1).gather(-1, targets).squeeze(-1)
    return (chosen * counted).sum(dim=1) / counted.sum(dim=1)
