"""The explained quantity: what a score is, and the score of one patient while parts of the input change.

For a diagnosis the score is the log-odds of a candidate against all other candidates. For a prognosis it is the risk
score, which is the log of a hazard ratio.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tgmm_hf.configuration_tasks import CANDIDATE_KINDS
from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.utils.names import MODALITIES


@dataclass(frozen=True)
class Question:
    """What is explained.

    Attributes:
        task: name of the task.
        kind: "diagnosis" or "prognosis".
        target: name of the candidate; "risk" for a prognosis.
        index: number of the candidate among the task's candidates.
        num_candidates: number of candidates of the task.
    """

    task: str
    kind: str
    target: str
    index: int
    num_candidates: int

    @property
    def unit(self) -> str:
        """Unit of the score."""
        return "log-odds" if self.kind == "diagnosis" else "log hazard ratio"

    @property
    def empty_score(self) -> float:
        """Score without any modality (ours): all candidates are equally likely, and the risk score is zero.

        Why: docs/decisions/113-score-without-any-input.md.
        """
        return -math.log(self.num_candidates - 1) if self.kind == "diagnosis" else 0.0

    def score(self, output: Any) -> torch.Tensor:
        """Compute the score (B,) of a model's output for B patients, in float32."""
        if self.kind == "prognosis":
            return output.risk.float()
        logits = output.logits.float()
        other_candidates = [index for index in range(logits.shape[1]) if index != self.index]
        return logits[:, self.index] - logits[:, other_candidates].logsumexp(1)


def default_task(config: Any) -> str:
    """Name the task that is explained if none is named: the first diagnosis, or else the first prognosis.

    Args:
        config: `TgmmConfig`. A model with neither has no score to explain. Its first task is returned, and
            `question_of` refuses it with the reason.
    """
    scored = [name for kind in CANDIDATE_KINDS for name in config.task_names(kind)]
    return next(iter(scored or config.tasks))


def question_of(tasks: Mapping[str, Mapping[str, Any]], task: str, target: str | None = None) -> Question:
    """Make the question about a task.

    Args:
        tasks: `config.tasks` of the model.
        task: name of a diagnosis or prognosis task.
        target: candidate of a diagnosis. None takes the last candidate, which the evaluation counts as positive. A
            prognosis takes None or "risk".

    Raises:
        ValueError: if the model has no such task, the task gives no score, or has no such candidate.
    """
    if task not in tasks:
        raise ValueError(f"Unknown task {task!r}; this model has {sorted(tasks)}.")
    settings = tasks[task]
    kind, candidates = settings["kind"], list(settings["candidates"])
    if kind == "retrieval":
        raise ValueError(f"The task {task!r} is a retrieval. Only a diagnosis or a prognosis has a score to explain.")
    if kind not in CANDIDATE_KINDS:
        raise ValueError(
            f"The task {task!r} is a {kind}. Contributions are computed for a diagnosis or a prognosis only: name one "
            "with --task, or leave contributions out."
        )
    if kind == "prognosis":
        if target not in (None, "risk"):
            raise ValueError(f"The target of the prognosis {task!r} is 'risk', got {target!r}.")
        return Question(task, kind, "risk", len(candidates) - 1, len(candidates))
    target = candidates[-1] if target is None else target
    if target not in candidates:
        raise ValueError(f"The task {task!r} has no candidate {target!r}; it has {candidates}.")
    return Question(task, kind, target, candidates.index(target), len(candidates))


class PatientScore:
    """Score of one patient as a function of the inputs. Modalities that do not change are encoded once.

    Args:
        model: `TgmmModel`. It is set to evaluation mode.
        inputs: what the processor gives for one patient (batch of one), on the model's device.
        question: what is explained.

    Attributes:
        encoded: fusion tokens of the patient.
        present: modalities that the patient has.
    """

    def __init__(self, model: Any, inputs: Mapping[str, torch.Tensor], question: Question):
        self.model = model.eval()
        self.inputs = dict(inputs)
        self.question = question
        with torch.no_grad():
            self.encoded = model.encode(**self.inputs)
            self.present = tuple(name for name in MODALITIES if bool(self.encoded.present[name][0]))
            self.output = float(self.compute(self.encoded)[0])

    def compute(self, encoded: Any) -> torch.Tensor:
        """Compute the scores (B,) of encoded patients. A patient without any modality gets `empty_score`."""
        scores = self.question.score(self.model.answer(encoded, self.question.task))
        has_evidence = torch.stack([encoded.present[name] for name in MODALITIES]).any(0)
        return torch.where(has_evidence, scores, scores.new_tensor(self.question.empty_score))

    def of_subset(self, modalities: tuple[str, ...]) -> float:
        """Compute the score as if the patient had only these modalities."""
        with torch.no_grad():
            return float(self.compute(self.encoded.keep(modalities))[0])

    def with_tokens(self, modality: str, tokens: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Compute the scores (B,) with other fusion tokens (B, N, d) of one modality; `present` is (B,) bool."""
        batch_size = len(tokens)
        all_tokens = {name: old.expand(batch_size, -1, -1) for name, old in self.encoded.tokens.items()}
        all_present = {name: old.expand(batch_size) for name, old in self.encoded.present.items()}
        changed = type(self.encoded)(all_tokens | {modality: tokens}, all_present | {modality: present})
        return self.compute(changed)

    def with_inputs(self, modality: str, **values: torch.Tensor) -> torch.Tensor:
        """Compute the scores (B,) with other inputs of one modality.

        Args:
            modality: "labs", "ecg" or "echo".
            values: the model's arguments of this modality, B rows each.
        """
        part = self.model.encode(**values)
        return self.with_tokens(modality, part.tokens[modality], part.present[modality])

    def attribution(
        self, modality: str, method: str, values: np.ndarray, axes: tuple[Axis, ...], **more: Any
    ) -> Attribution:
        """Make an attribution of this patient's score.

        Args:
            modality: as in [`Attribution`], like `method`, `values` and `axes`.
            method: name of the method.
            values: one number per position.
            axes: one per dimension of `values`.
            more: further fields. The unit is "relative" and the baseline "none" unless they are given; `summed=True`
                marks values that share out the difference between `output` and `baseline_output`, in the score's unit.
        """
        if more.pop("summed", False):
            error = abs(float(np.nansum(values)) - (more.get("output", self.output) - more["baseline_output"]))
            more |= {"unit": self.question.unit, "completeness_error": error}
        rest: dict[str, Any] = {"unit": "relative", "baseline": "none", "output": self.output}
        rest |= {"task": self.question.task, "target": self.question.target, **more}
        return Attribution(modality=modality, method=method, values=values, axes=axes, **rest)
