"""What each slot of the fusion is worth: attention, gates, and the figure if a slot is masked.

Gates that are the same for every patient, or slots that nothing reads, do no work (idle). Shared slots whose masking
raises the figure do harm. Both were seen on additive evidence (docs/results/fusion).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tgmm_hf.evaluation.headline_figures import HEADLINE, SCORE, difference, headline_counts, headline_figure
from tgmm_hf.evaluation.metrics import Bootstrap, UndefinedFigureError, estimate
from tgmm_hf.evaluation.predictions import FULL, Predictions
from tgmm_hf.utils.names import MODALITIES, SLOT_NAMES, SLOTS, join_names

SHARED = tuple(join_names(slot) for slot in SLOTS if len(slot) > 1)
ALL_SHARED = "all shared"
"""Name of the case in which all shared slots are masked together."""
STILL_GATE = 0.02
"""A gate whose standard deviation over the patients is below this is the same for everybody."""
UNREAD = 0.01
"""Share of the attention below which a slot counts as not read."""
STUDIED = ("diagnosis", "prognosis")
"""Kinds of task that are studied."""
FEWEST = 20
"""Number of patients from which idle gates and slots are warned of."""


@contextmanager
def masked_slots(model: Any, names: Sequence[str]) -> Iterator[None]:
    """Mask slots of a `TgmmModel` with MedFlexFusion inside the block, for all patients.

    Args:
        model: The model.
        names: Slots, such as "labs+ecg".

    Raises:
        ValueError: If a slot has none of the names.
    """
    if unknown := set(names) - set(SLOT_NAMES):
        raise ValueError(f"Unknown slots {sorted(unknown)}. The model has {list(SLOT_NAMES)}.")
    is_kept = torch.tensor([name not in names for name in SLOT_NAMES])

    def mask(module: Any, inputs: Any, fused: Any) -> Any:
        kept = is_kept.to(fused.slots.device)
        return replace(fused, slots=fused.slots * kept[:, None, None], slot_mask=fused.slot_mask & kept)

    hook = model.fusion.register_forward_hook(mask)
    try:
        yield
    finally:
        hook.remove()


@dataclass
class _Collected:
    """What was seen of one task. Each list has an entry per batch, of the patients with all modalities."""

    attention: list[NDArray] = field(default_factory=list)
    gates: dict[tuple[str, str], list[NDArray]] = field(default_factory=dict)
    masked: dict[str, list[NDArray]] = field(default_factory=dict)


class SlotStudy:
    """A model for `collect_predictions` that also notes attention, gates and the answers with masked slots.

    It adds one answer per task and case for each batch. No encoder runs again.

    Args:
        model: A `TgmmModel` with MedFlexFusion.
        cases: Name -> slots to mask. None masks each slot alone, and all shared slots.
    """

    def __init__(self, model: Any, cases: Mapping[str, Sequence[str]] | None = None) -> None:
        self.model, self.config, self.device = model, model.config, model.device
        self.encode, self.eval, self.train, self.training = model.encode, model.eval, model.train, model.training
        self.cases = cases or {**{name: (name,) for name in SLOT_NAMES}, ALL_SHARED: SHARED}
        self._tasks: dict[str, _Collected] = {}
        self._rows: list[NDArray] = []

    def answer_subsets(self, encoded: Any, tasks: Sequence[str], subsets: Sequence[tuple[str, ...]]) -> Any:
        """Answer as the model does, and note what the patients with all modalities show."""
        answers = self.model.answer_subsets(encoded, tasks, subsets)
        whole = encoded.has_all(MODALITIES).cpu().numpy()
        self._rows.append(whole)
        answered = [task for task in tasks if self.config.tasks[task]["kind"] in STUDIED]
        if answered and whole.any() and MODALITIES in subsets:
            for task in answered:
                self._note(self._tasks.setdefault(task, _Collected()), answers[task][MODALITIES], whole)
            for name, slots in self.cases.items():
                with masked_slots(self.model, slots):
                    masked = self.model.answer_subsets(encoded, answered, [MODALITIES])
                for task in answered:
                    score = _score(masked[task][MODALITIES], self.config.tasks[task]["kind"])
                    self._tasks[task].masked.setdefault(name, []).append(score[whole])
        return answers

    def _note(self, seen: _Collected, output: Any, whole: NDArray) -> None:
        if output.candidate_attentions is not None:
            seen.attention.append(_array(output.candidate_attentions.mean(1))[whole])
        for subset, by_modality in output.gates.items():
            for modality, gate in by_modality.items():
                seen.gates.setdefault((subset, modality), []).append(_array(gate)[whole])

    def figures(self, predictions: Predictions, bootstrap: Bootstrap) -> dict[str, Any]:
        """Compute the figures of every task, once all batches have been answered.

        Args:
            predictions: The predictions that were collected with this object as the model.
            bootstrap: Seed and number of resamples.

        Returns:
            Task -> "n" patients with all modalities; "attention": slot -> mean share, and "text" the rest (None for a
            linear response); "gates": subset -> modality -> "mean" and "spread" over the patients; "masked": case ->
            "n" with known outcome, and the headline figure with the case masked minus the figure of the whole model,
            with its interval. Above zero means that the model is better without the slot.
        """
        rows = np.flatnonzero(np.concatenate(self._rows)) if self._rows else np.array([], dtype=int)
        out: dict[str, Any] = {}
        for task, seen in self._tasks.items():
            kind = self.config.tasks[task]["kind"]
            table = predictions.scored(task, FULL)
            out[task] = {"n": len(rows), "attention": _attention(seen), "gates": _gates(seen), "masked": {}}
            for name, parts in seen.masked.items():
                scores = pd.Series(np.concatenate(parts), index=rows)
                out[task]["masked"][name] = _masked_figure(table, scores, kind, bootstrap)
        return out


def slot_study(model: Any, cases: Mapping[str, Sequence[str]] | None = None) -> SlotStudy | None:
    """Make a study of a model's slots; None for a rival fusion, which has one slot. `cases` is that of `SlotStudy`."""
    return SlotStudy(model, cases) if model.config.fusion == "medflex" else None


def _attention(seen: _Collected) -> dict[str, float] | None:
    """Return slot -> mean share of the attention, and the share of the text."""
    if not seen.attention:
        return None
    mean = np.concatenate(seen.attention).mean(0)
    return {**dict(zip(SLOT_NAMES, map(float, mean), strict=True)), "text": float(1 - mean.sum())}


def _gates(seen: _Collected) -> dict[str, dict[str, dict[str, float]]]:
    """Return subset -> modality -> mean and standard deviation of the gate over the patients."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for (subset, modality), parts in seen.gates.items():
        values = np.concatenate(parts)
        out.setdefault(subset, {})[modality] = {"mean": float(values.mean()), "spread": float(values.std())}
    return out


def _masked_figure(table: pd.DataFrame, scores: pd.Series, kind: str, bootstrap: Bootstrap) -> dict[str, Any]:
    """Compute the figure with masked slots minus the figure of the whole model, on the patients with an outcome.

    Args:
        table: Predictions of a task under all modalities.
        scores: Row of the dataset -> score with masked slots.
        kind: "diagnosis" or "prognosis".
        bootstrap: Seed and number of resamples.
    """
    rows = table.assign(masked=scores.reindex(table["row"]).to_numpy(dtype=np.float64))
    rows = rows[rows["label" if kind == "diagnosis" else "time"].notna() & rows["masked"].notna()]
    name, entry = f"{HEADLINE[kind]}_difference", {"n": len(rows)}
    try:
        counts = headline_counts(rows, kind, bootstrap)
        figure = difference(headline_figure(rows, "masked", kind), headline_figure(rows, SCORE[kind], kind))
        return entry | estimate(figure, counts).entry(name)
    except UndefinedFigureError as error:
        return entry | {name: None, f"{name}_ci": None, f"{name}_missing": str(error)}


def slot_warnings(figures: Mapping[str, Any]) -> list[str]:
    """List warnings about shared slots that do harm, and about gates and slots that do no work.

    Args:
        figures: The result of `SlotStudy.figures`.
    """
    warnings = []
    for task, entry in figures.items():
        if harm := harm_of_shared_slots(entry):
            name, value, (low, high) = harm
            warnings.append(
                f"{task}: the shared slots do harm: without them the {name} is higher by {value:.3f} ({low:.3f} to "
                f"{high:.3f}). See docs/comparisons.md."
            )
        if entry["n"] < FEWEST:
            continue
        spreads = [gate["spread"] for by_modality in entry["gates"].values() for gate in by_modality.values()]
        if spreads and max(spreads) < STILL_GATE:
            warnings.append(
                f"{task}: all gates are the same for every patient (largest standard deviation {max(spreads):.3f}): "
                "the gates do no work."
            )
        shares = entry["attention"]
        if shares and (unread := [name for name in SHARED if shares[name] < UNREAD]):
            warnings.append(f"{task}: the answer hardly reads the slots {', '.join(unread)} (share below {UNREAD:g}).")
    return warnings


def harm_of_shared_slots(entry: Mapping[str, Any]) -> tuple[str, float, tuple[float, float]] | None:
    """Return figure, difference and interval if the figure is higher without the shared slots; None if not.

    Args:
        entry: Figures of one task from `SlotStudy.figures`. The whole interval must lie above zero.
    """
    masked = entry["masked"].get(ALL_SHARED, {})
    for headline in HEADLINE.values():
        interval = masked.get(f"{headline}_difference_ci")
        if interval is not None and interval[0] > 0:
            return headline, masked[f"{headline}_difference"], tuple(interval)
    return None


def _score(output: Any, kind: str) -> NDArray:
    """Return the score that the headline figure is computed from, (B,)."""
    return _array(output.risk if kind == "prognosis" else output.probabilities[:, -1]).astype(np.float64)


def _array(tensor: torch.Tensor) -> NDArray:
    """Convert a tensor to numpy, half precision to float32."""
    return tensor.detach().float().cpu().numpy()
