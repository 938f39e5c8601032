"""Labels in words -> prompts -> vectors of MoRE, and the similarity of an input with a label.

Notation in shape comments: B inputs, P prompts, K labels, p width of the shared space.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

OVER_PROMPTS = ("max", "mean")
"""How the cosines with the prompts of a label become one number. The first is published."""


@dataclass(frozen=True)
class EncodedPrompts:
    """The prompts of all labels in the shared space.

    Attributes:
        labels: K labels.
        texts: P prompts, label after label.
        label_of: number of the label of each prompt, (P,).
        vectors: of length one, (P, p).
        notes: prompts that were cut.
    """

    labels: list[str]
    texts: list[str]
    label_of: torch.Tensor
    vectors: torch.Tensor
    notes: list[str]


def label_prompts(labels: Any, template: str = "{}") -> dict[str, list[str]]:
    """Write the prompts of each label.

    Args:
        labels: labels, each of which is its own prompt; or label -> prompt or list of prompts.
        template: text with "{}" in the place of the prompt.

    Returns:
        Label -> prompts, in the order of the labels.

    Raises:
        TypeError: if labels or prompts are no texts.
        ValueError: if there are none, one is empty or occurs twice, or the template has no place for the prompt.
    """
    if not isinstance(template, str) or "{}" not in template:
        raise ValueError(f"hypothesis_template must be a text with {{}} in the place of the prompt, got {template!r}.")
    if isinstance(labels, str) or not isinstance(labels, Mapping | Sequence):
        raise TypeError(
            "candidate_labels must be a list of labels, or label -> prompts, got "
            f"{'none' if labels is None else type(labels).__name__}."
        )
    if not labels:
        raise ValueError("candidate_labels is empty. Give at least one label.")
    label_texts = labels if isinstance(labels, Mapping) else {label: label for label in map(_checked, labels)}
    if len(label_texts) < len(labels):
        raise ValueError("candidate_labels holds a label twice.")
    result = {}
    for label, texts in label_texts.items():
        if not isinstance(texts, str | list | tuple):
            raise TypeError(f"The prompts of {label!r} must be a text or a list, got {type(texts).__name__}.")
        prompts = [_checked(text) for text in ([texts] if isinstance(texts, str) else texts)]
        if not prompts:
            raise ValueError(f"The label {label!r} has no prompt.")
        result[_checked(label)] = [template.replace("{}", prompt) for prompt in prompts]
    return result


def encode_prompts(model: Any, processor: Any, prompts: Mapping[str, Sequence[str]], device: Any) -> EncodedPrompts:
    """Encode the prompts of all labels.

    Args:
        model: a `MoreModel` in evaluation mode.
        processor: its processor.
        prompts: label -> prompts.
        device: where the model is.
    """
    texts = [text for group in prompts.values() for text in group]
    label_of = [number for number, group in enumerate(prompts.values()) for _ in group]
    batch, reports = processor(text=texts, return_report=True, return_tensors="pt")
    vectors = model(**batch.to(device)).text_embeds
    names = list(prompts)
    notes = [
        f"prompt of {names[label_of[place]]}: {note}"
        for place, report in enumerate(reports)
        for note in report["notes"]
    ]
    return EncodedPrompts(names, texts, torch.tensor(label_of), vectors, notes)


def label_similarity(cosines: torch.Tensor, label_of: torch.Tensor, over: str) -> torch.Tensor:
    """Join the cosines with the prompts of each label: (B, P) -> (B, K).

    Args:
        cosines: (B, P).
        label_of: number of the label of each prompt, (P,).
        over: "max" or "mean".
    """
    columns = [cosines[:, label_of == number] for number in range(int(label_of.max()) + 1)]
    return torch.stack([column.amax(1) if over == "max" else column.mean(1) for column in columns], 1)


def _checked(text: Any) -> str:
    """Return a label or a prompt. Raise an error if it is no text, or empty."""
    if not isinstance(text, str):
        raise TypeError(f"A label or prompt is a text, got {type(text).__name__}.")
    if not text.strip():
        raise ValueError("A label or prompt is empty.")
    return text


__all__ = ["OVER_PROMPTS", "EncodedPrompts", "encode_prompts", "label_prompts", "label_similarity"]
