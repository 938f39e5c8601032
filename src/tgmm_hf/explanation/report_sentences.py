"""Which leads and moments carried each sentence of a MEIT report, and whether that claim holds.

The score of a sentence is the log-probability of its tokens, given the ECG, the instruction and the sentences before
it. Integrated gradients (Sundararajan et al. 2017) go from a flat ECG to the ECG, through encoder, projector and
language model. Leads and moments are claimed for a sentence only if three things hold:

* the sentence is clearly more probable with the ECG than with a flat one (`SMALLEST_GAIN`);
* hiding the strongest units lowers its log-probability more than hiding as many units at random nearly always does;
* the values add up to the difference that they share out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.utils.names import LEADS

STEPS = 32
"""Steps of the integral (midpoints)."""
TOGETHER = 8
"""ECGs that the model reads together, which bounds the memory."""
LONGEST_UNIT = 0.3
"""Seconds. A unit is one lead for the longest time up to this that divides the window, for example 250 ms of 10 s."""
HIDDEN_SHARE = 0.2
"""Share of the units that the check hides."""
RANDOM_SETS = 40
"""Sets of units at random that the check hides."""
NEEDED_SHARE = 0.95
"""Share of the random sets that the strongest units must beat."""
SMALLEST_GAIN = 0.1
"""Smallest difference of the log-probabilities with the ECG and with a flat one (ours): the sentence is 10 % more
probable. A model that says one sentence of every ECG changes it by less."""
LARGEST_ERROR = 0.1
"""Largest error of the sum, as a share of the difference that is shared out."""
FLAT = "each lead flat at its mean in the window"
SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")


@dataclass(frozen=True)
class SentenceClaim:
    """One sentence of a report.

    Attributes:
        sentence: its text.
        attribution: log-probability of the sentence, shared out over (12 leads, units of time).
        hidden_effect: fall of the log-probability without the strongest units.
        beaten: share of the random sets whose fall was smaller.
        doubt: why no lead is claimed; "" if the claim holds.
    """

    sentence: str
    attribution: Attribution
    hidden_effect: float
    beaten: float
    doubt: str

    def to_dict(self, number: int = 3) -> dict[str, Any]:
        """Return JSON values: the sentence, what the ECG adds, and the strongest leads and moments if they hold.

        Args:
            number: how many leads and moments are named at most.
        """
        strongest = [] if self.doubt else self._strongest(number)
        return {
            "sentence": self.sentence,
            "log_probability": self.attribution.output,
            "log_probability_flat_ecg": self.attribution.baseline_output,
            "carried_by": strongest,
            "doubt": self.doubt or None,
            "random_sets_beaten": self.beaten,
        }

    def _strongest(self, number: int) -> list[dict[str, Any]]:
        """List the units that support the sentence most: lead, seconds of the window, share of the support."""
        values, time = np.maximum(self.attribution.values, 0), self.attribution.axes[1]
        leads, total = self.attribution.axes[0].labels or LEADS, values.sum()
        places = np.argsort(-values, axis=None, kind="stable")[:number]
        result = []
        for lead, unit in zip(*np.unravel_index(places, values.shape), strict=True):
            start = float(unit) * time.step
            share = float(values[lead, unit] / total)
            result.append({"lead": leads[int(lead)], "seconds": [start, start + time.step], "share": share})
        return result


def explain_report(
    model: Any, processor: Any, ecg: Any, report: str, instruction: str | None = None, seed: int = 0
) -> list[SentenceClaim]:
    """Explain the sentences of a report by the ECG.

    Args:
        model: `MeitForConditionalGeneration`. It is set to evaluation mode.
        processor: its `MeitProcessor`.
        ecg: as the processor takes it.
        report: the text that the model wrote, or any other text.
        instruction: what the model was asked; the processor's instruction when None.
        seed: seed of the random sets of the check.

    Returns:
        One claim for each sentence.

    Raises:
        ValueError: if the report has no sentence, or the ECG is refused.
    """
    if not report.strip():
        raise ValueError("The report is empty: there is no sentence to explain.")
    model.eval()
    options = {"output_labels": True, "return_tensors": "pt"}
    inputs = processor(ecg=ecg, text=instruction, answer=report, **options).to(model.device)
    scores = SentenceScores(model, processor.tokenizer, inputs)
    window = _Window(inputs["input_values"], processor.feature_extractor)
    shares, flat, whole = integrated(scores, window)
    random = np.random.default_rng(seed)
    return [
        _claim(sentence, window, scores, place, shares[place], (float(flat[place]), float(whole[place])), random)
        for place, sentence in enumerate(scores.sentences)
    ]


class SentenceScores:
    """Log-probabilities of the sentences of one answer as a function of the ECG.

    Args:
        model: `MeitForConditionalGeneration`.
        tokenizer: tokenizer of the language model.
        inputs: what the processor gives for one ECG with an answer: `input_ids`, `attention_mask`, `labels`.

    Attributes:
        sentences: texts.
        places: sentence -> positions of its tokens in `input_ids`.
    """

    def __init__(self, model: Any, tokenizer: Any, inputs: Mapping[str, torch.Tensor]):
        self.model, self.inputs = model, inputs
        labels = inputs["labels"][0]
        answer = [place for place in range(len(labels)) if int(labels[place]) != -100]
        ends = {token for token in (tokenizer.eos_token_id,) if token is not None}
        answer = [place for place in answer if int(labels[place]) not in ends]
        self.sentences, self.places = split_sentences(tokenizer, [int(labels[place]) for place in answer], answer)

    def __call__(self, ecgs: torch.Tensor) -> torch.Tensor:
        """Compute the log-probability of every sentence for ECGs (B, 12, samples): (B, sentences), float32."""
        rows = len(ecgs)
        text = {name: self.inputs[name].expand(rows, -1) for name in ("input_ids", "attention_mask")}
        logits = self.model(**text, input_values=ecgs, use_cache=False).logits.float()
        tokens = logits[:, :-1].log_softmax(-1).gather(-1, text["input_ids"][:, 1:, None])[..., 0]
        return torch.stack([tokens[:, [place - 1 for place in places]].sum(1) for places in self.places], dim=1)


def split_sentences(tokenizer: Any, tokens: list[int], places: list[int]) -> tuple[list[str], list[list[int]]]:
    """Split an answer into sentences, and find the tokens of each.

    Args:
        tokenizer: decodes the tokens.
        tokens: token ids of the answer.
        places: position of each token in the model's input.

    Returns:
        Texts, and for each text the positions of its tokens. A token belongs to the sentence of its last letter.
    """
    ends = [len(tokenizer.decode(tokens[: count + 1], skip_special_tokens=True)) for count in range(len(tokens))]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    borders = [match.end() for match in SENTENCE_END.finditer(text)] + [len(text)]
    starts = [0, *borders[:-1]]
    sentences: list[str] = []
    positions: list[list[int]] = []
    for start, end in zip(starts, borders, strict=True):
        inside = [place for place, last in zip(places, ends, strict=True) if start < last <= end]
        if inside and text[start:end].strip():
            sentences.append(text[start:end].strip())
            positions.append(inside)
    return sentences, positions


class _Window:
    """The ECG that the model reads, its units, and the flat ECG.

    Args:
        values: (1, 12, samples).
        extractor: feature extractor of the processor.
    """

    def __init__(self, values: torch.Tensor, extractor: Any):
        self.values, self.flat = values, values.mean(-1, keepdim=True).expand_as(values)
        samples = values.shape[-1]
        longest = int(LONGEST_UNIT * extractor.sampling_rate)
        self.length = next(size for size in range(longest, 0, -1) if samples % size == 0)
        self.seconds = self.length / extractor.sampling_rate
        self.leads = tuple(getattr(extractor, "lead_order", None) or LEADS)

    def to_units(self, values: torch.Tensor) -> np.ndarray:
        """Sum values (..., 12, samples) over units: (..., 12, units)."""
        return values.unflatten(-1, (-1, self.length)).sum(-1).double().cpu().numpy()

    def hide(self, hidden: np.ndarray) -> torch.Tensor:
        """Make ECGs (n, 12, samples) whose units `hidden` (n, 12, units) bool are flat."""
        mask = torch.from_numpy(hidden).to(self.values.device).repeat_interleave(self.length, -1)
        return torch.where(mask, self.flat, self.values)


def integrated(
    scores: SentenceScores, window: _Window, steps: int = STEPS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share out the scores of all sentences over the units by integrated gradients.

    Args:
        scores: of the sentences.
        window: the ECG.
        steps: steps of the integral.

    Returns:
        Shares (sentences, 12, units); scores of the flat ECG and of the ECG, (sentences,) each.
    """
    way = (window.values - window.flat).detach()
    number = len(scores.sentences)
    total = torch.zeros(number, *way.shape[1:], device=way.device)
    for places in ((torch.arange(steps) + 0.5) / steps).split(TOGETHER):
        path = (window.flat + places.to(way).view(-1, 1, 1) * way).detach().requires_grad_()
        sums = scores(path).sum(0)
        for sentence in range(number):
            (gradient,) = torch.autograd.grad(sums[sentence], path, retain_graph=sentence + 1 < number)
            total[sentence] += gradient.sum(0)
    with torch.no_grad():
        ends = scores(torch.cat([window.flat, window.values])).double().cpu().numpy()
    return window.to_units(total / steps * way[0]), ends[0], ends[1]


def _claim(  # noqa: PLR0913 - a sentence, its values, and what the check needs
    sentence: str,
    window: _Window,
    scores: SentenceScores,
    place: int,
    values: np.ndarray,
    ends: tuple[float, float],
    random: np.random.Generator,
) -> SentenceClaim:
    """Check the values of one sentence and put them together. `ends` are the scores of the flat ECG and of the ECG."""
    flat, whole = ends
    effects = hidden_effects(window, scores, place, values, random)
    beaten = float(np.mean(effects[0] > effects[1:]))
    error = abs(float(values.sum()) - (whole - flat))
    axes = Axis("lead", window.leads), Axis("token", None, window.seconds, 0.0, "s")
    attribution = Attribution(
        modality="ecg",
        method="integrated_gradients",
        task="report",
        target=sentence,
        values=values,
        axes=axes,
        unit="log-probability",
        baseline=FLAT,
        output=whole,
        baseline_output=flat,
        completeness_error=error,
    )
    doubt = ""
    if whole - flat < SMALLEST_GAIN:
        doubt = "the sentence is about as probable with a flat ECG, so it does not rest on the ECG"
    elif error > LARGEST_ERROR * abs(whole - flat):
        doubt = "the contributions do not add up, so no lead is named"
    elif beaten < NEEDED_SHARE:
        doubt = "other parts of the ECG matter as much as the strongest ones, so no lead is named"
    return SentenceClaim(sentence, attribution, float(effects[0]), beaten, doubt)


@torch.no_grad()
def hidden_effects(
    window: _Window, scores: SentenceScores, place: int, values: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Compute how much the score of a sentence falls when units are hidden.

    Args:
        window: the ECG.
        scores: of the sentences.
        place: number of the sentence.
        values: (12, units) of the sentence.
        random: draws the sets.

    Returns:
        (1 + `RANDOM_SETS`,): first the strongest units, then as many units at random.
    """
    number = round(HIDDEN_SHARE * values.size)
    order = np.argsort(-values, axis=None, kind="stable")[:number]
    sets = [order, *(random.choice(values.size, number, replace=False) for _ in range(RANDOM_SETS))]
    hidden = np.zeros((len(sets), values.size), bool)
    for row, chosen in zip(hidden, sets, strict=True):
        row[chosen] = True
    ecgs = window.hide(hidden.reshape(-1, *values.shape))
    whole = scores(window.values)[0, place]
    falls = [whole - scores(part)[:, place] for part in ecgs.split(TOGETHER)]
    return torch.cat(falls).double().cpu().numpy()
