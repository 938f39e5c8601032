"""What is explained of a MoRE model: the score of one X-ray or ECG, as a function of what its encoder reads.

For a text the score is the cosine of the X-ray or ECG with the text. For a finding of `MoreForClassification` it is the
logit of the finding, which is a log-odds.

Notation in shape comments: B inputs, T tokens (class token first), d width, p width of the shared space.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.families.more.more_encoders import run_blocks
from tgmm_hf.families.more.zero_shot_prompts import encode_prompts, label_prompts

SIMILARITY_TASK, FINDINGS_TASK = "similarity", "findings"
"""Names of the two tasks that are explained."""
KINDS = {"xray": "pixel_values", "ecg": "input_values"}
"""What is explained -> the model's argument."""


@dataclass(frozen=True)
class TextQuestion:
    """Why is this input near to a text?

    Attributes:
        target: the text.
        vector: its vector (p,), of length one.
        against: mean vector (p,) of other texts, whose cosine is subtracted; None without other texts.
    """

    target: str
    vector: torch.Tensor
    against: torch.Tensor | None = None
    task = SIMILARITY_TASK
    unit = "cosine"

    def score(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the scores (B,) of projected features (B, p), which need not have length one."""
        direction = self.vector if self.against is None else self.vector - self.against
        return torch.nn.functional.normalize(features, dim=-1) @ direction.to(features)


@dataclass(frozen=True)
class FindingQuestion:
    """Why has this patient a finding?

    Attributes:
        target: name of the label.
        weight: weights (p,) of the features of the X-ray, or of the ECG, for the label.
        rest: what bias and the other input add to the logit.
    """

    target: str
    weight: torch.Tensor
    rest: float
    task = FINDINGS_TASK
    unit = "log-odds"

    def score(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the logits (B,) of projected features (B, p)."""
        return features @ self.weight.to(features) + self.rest


def text_question(model: Any, processor: Any, text: str, against: Sequence[str] = ()) -> TextQuestion:
    """Make the question about a text.

    Args:
        model: `MoreModel` in evaluation mode.
        processor: its processor.
        text: a text or a prompt.
        against: other texts.

    Raises:
        TypeError: if a text is no text.
        ValueError: if a text is empty.
    """
    prompts = label_prompts({"text": text, "against": list(against)} if against else {"text": text})
    with torch.no_grad():
        vectors = encode_prompts(model, processor, prompts, model.device).vectors
    return TextQuestion(text, vectors[0], vectors[1:].mean(0) if against else None)


def finding_question(model: Any, finding: str, kind: str, batch: Any) -> FindingQuestion:
    """Make the question about a finding of a classifier.

    Args:
        model: `MoreForClassification` in evaluation mode.
        finding: name of a label in `config.label2id`.
        kind: "xray" or "ecg", whose contribution is explained.
        batch: the model's inputs of one patient. The other input, if there is one, stays as it is.

    Raises:
        ValueError: if the model has no such label.
    """
    labels = model.config.label2id
    if finding not in labels:
        raise ValueError(f"This model has no finding {finding!r}; it has {', '.join(map(str, labels))}.")
    row = labels[finding]
    width = model.config.projection_dim
    weights = model.classifier.weight[row].detach()
    parts = {"xray": weights[:width], "ecg": weights[width:]}
    with torch.no_grad():
        logit = float(model(**batch).logits[0, row])
        present = bool(batch[f"{kind}_mask"][0])
        get = model.more.get_xray_features if kind == "xray" else model.more.get_ecg_features
        features = get(batch[KINDS[kind]]).pooler_output if present else parts[kind].new_zeros(1, width)
        remainder = logit - float(features[0].to(parts[kind]) @ parts[kind])
    return FindingQuestion(finding, parts[kind], remainder)


class TowerScore:
    """Score of one X-ray or ECG as a function of what its encoder reads.

    Args:
        model: `MoreModel` in evaluation mode.
        kind: "xray" or "ecg".
        values: (1, ...) as the processor makes them, on the model's device.
        question: what is explained.

    Attributes:
        encoder: the encoder of this kind.
        output: the score.
    """

    def __init__(self, model: Any, kind: str, values: torch.Tensor, question: TextQuestion | FindingQuestion):
        self.model, self.kind, self.question = model, kind, question
        self.encoder = getattr(model, f"{kind}_encoder")
        self.projection = getattr(model, f"{kind}_projection")
        self.values = values
        with torch.no_grad():
            self.output = float(self.compute(values)[0])

    def compute(self, values: torch.Tensor) -> torch.Tensor:
        """Compute the scores (B,) of inputs (B, ...)."""
        return self.of_tokens(self.embed(values))

    def embed(self, values: torch.Tensor) -> torch.Tensor:
        """Embed inputs (B, ...): (B, T, d)."""
        return self.encoder.embeddings(values.to(self.encoder.dtype))

    def of_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Compute the scores (B,) of embedded tokens (B, T, d)."""
        features = self.projection(run_blocks(self.encoder, tokens)[:, 0])
        return self.question.score(features.float())

    def attribution(self, method: str, values: Any, axes: Any, **more: Any) -> Attribution:
        """Make an attribution. The unit is "relative" and the baseline "none" unless they are given."""
        rest: dict[str, Any] = {"modality": self.kind, "unit": "relative", "baseline": "none", "output": self.output}
        rest |= {"task": self.question.task, "target": self.question.target, **more}
        return Attribution(method=method, values=values, axes=axes, **rest)
