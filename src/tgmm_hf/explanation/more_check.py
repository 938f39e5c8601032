"""`tgmm explain-check` for MoRE: are the maps of X-rays and ECGs true, where the place of a finding is known?

Each case is an X-ray or an ECG, a question, and a mask of the place where the finding was planted. Figures, random
orders and shuffled weights are those of `check`. A finding speaks for its text, so pointing and mass count only what a
map says for the text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from tgmm_hf.explanation.check import SHUFFLED_PATIENTS, claim_settings, measure_on_units
from tgmm_hf.explanation.explain_more import ScoreRequest
from tgmm_hf.explanation.faithfulness import EVIDENCE_SHARE
from tgmm_hf.explanation.more_score import (
    FINDINGS_TASK,
    KINDS,
    SIMILARITY_TASK,
    TowerScore,
    finding_question,
    text_question,
)
from tgmm_hf.explanation.more_units import MODALITIES_OF, maps_on_units, more_units, planted_units
from tgmm_hf.explanation.randomised import rank_correlation, shuffled_copies
from tgmm_hf.explanation.summary import effect_ratios, summarise, table_text
from tgmm_hf.explanation.verified import CHECK_FILE
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.errors import InputRefusedError, TgmmError
from tgmm_hf.utils.files import read_json, write_json, write_text
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES
from tgmm_hf.utils.short_digests import short_digest

ENCODERS = tuple(f"{start}{kind}_encoder" for start in ("", "more.") for kind in ("xray", "ecg", "text"))
"""Start of the names of the encoders' weights."""


@dataclass(frozen=True)
class PlantedCase:
    """One X-ray, or one ECG, or both of one patient, with the place of a finding.

    Attributes:
        id: name of the case.
        inputs: "xray" and "ecg" -> what the processor takes.
        request: the question that the finding answers.
        masks: the same names -> bool array, see `more_units.planted_units`. An input without a mask is not measured.
    """

    id: str
    inputs: Mapping[str, Any]
    request: ScoreRequest
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)


def check_more(  # noqa: PLR0913 - one argument per option of the command
    model: Any,
    processor: Any,
    cases: Sequence[PlantedCase],
    out: Path,
    *,
    beside_model: Path | None = None,
    seed: int = 0,
    bootstrap: int = BOOTSTRAP_RESAMPLES,
) -> dict[str, Any]:
    """Measure the maps of all methods, and write explanation_check.json, explanation_check.md and cases/*.json.

    Args:
        model: `MoreModel`, or `MoreForClassification` for cases about findings.
        processor: its processor.
        cases: at least two. A case whose input is refused is counted and left out.
        out: directory to write. A stopped check goes on there.
        beside_model: directory that gets the summary too.
        seed: seed of random orders, shuffled weights and resamples.
        bootstrap: number of resamples of cases.

    Returns:
        The summary, as explanation_check.json holds it.

    Raises:
        TgmmError: if fewer than two cases can be measured, or `out` holds a check with other settings.
    """
    model.eval()
    tasks = {SIMILARITY_TASK if case.request.finding is None else FINDINGS_TASK for case in cases}
    if len(tasks) != 1:
        raise TgmmError("the cases", f"they must all ask about texts, or all about findings, got {sorted(tasks)}.")
    settings = {"weights": (model.config.weights_fingerprint or {}).get("id"), "task": tasks.pop(), "seed": seed}
    settings |= {"cases": json_digest([_identity(case) for case in cases])}
    claim_settings(out, settings)
    measured: dict[int, dict[str, Any]] = {}
    refused = 0
    for number, case in enumerate(tqdm(cases, desc="explain-check", unit="case", disable=None)):
        path = out / "cases" / f"{number:05d}.json"
        if not path.is_file():
            write_json(path, _measure_or_refuse(model, processor, case, [seed, number]))
        content = read_json(path)
        refused += "refused" in content
        if "refused" not in content:
            measured[number] = content
    if len(measured) < 2:
        raise TgmmError("the cases", f"{len(measured)} of {len(cases)} can be measured, at least 2 are needed.")
    copies = shuffled_copies(model, seed, ENCODERS)
    for number in list(measured)[:SHUFFLED_PATIENTS]:
        _add_correlations(measured[number], cases[number], copies, processor)
    entries = list(measured.values())
    summary = {"settings": settings, "patients": len(entries), "refused": refused}
    summary["modalities"] = summarise([_supporting(entry) for entry in entries], seed, bootstrap)
    summary["evidence_effect"] = effect_ratios(entries, seed, bootstrap)
    for directory in (out, *([] if beside_model is None else [beside_model])):
        write_json(directory / CHECK_FILE, summary)
    write_text(out / "explanation_check.md", table_text(summary))
    return summary


def _identity(case: PlantedCase) -> list[Any]:
    """Return what the figures of a case depend on beside the model, JSON-able. Other words make another case."""
    request = case.request
    masks = {
        kind: [list(mask.shape), short_digest(np.packbits(mask.astype(bool)).tolist())]
        for kind, mask in case.masks.items()
    }
    return [case.id, request.text, list(request.against), request.finding, masks]


def _measure_or_refuse(model: Any, processor: Any, case: PlantedCase, seed: Sequence[int]) -> dict[str, Any]:
    """Measure a case; {"refused": reason} if its input cannot be used."""
    try:
        scores = case_scores(model, processor, case)
    except InputRefusedError as error:
        return {"refused": error.reason}
    random = np.random.default_rng(seed)
    return {
        modality: measure_maps(score, modality, case.masks[score.kind], random)
        for score in scores
        for modality in MODALITIES_OF[score.kind]
    }


def case_scores(model: Any, processor: Any, case: PlantedCase) -> list[TowerScore]:
    """Make the scores of the inputs of a case that have a mask.

    Raises:
        InputRefusedError: if an input cannot be used.
        ValueError: if the model has no such finding, or no input has a mask.
    """
    base = getattr(model, "more", model)
    batch = processor(**case.inputs, return_tensors="pt").to(base.device)
    scores = []
    for kind in case.masks:
        if case.request.finding is None:
            question: Any = text_question(base, processor, str(case.request.text), case.request.against)
        else:
            question = finding_question(model, case.request.finding, kind, batch)
        scores.append(TowerScore(base, kind, batch[KINDS[kind]], question))
    if not scores:
        raise ValueError("A case has no mask, so there is nothing to measure.")
    return scores


def measure_maps(score: TowerScore, modality: str, mask: np.ndarray, random: np.random.Generator) -> dict[str, Any]:
    """Measure all methods of one modality of one case.

    Args:
        score: of the X-ray or ECG.
        modality: "xray", "ecg" or "ecg_time".
        mask: where the finding was planted, see `more_units.planted_units`.
        random: draws random orders.

    Returns:
        As `check.measure`: "figures", "maps", "planted" and "effect".
    """
    units, planted = more_units(score, modality), planted_units(score, modality, mask)
    return measure_on_units(units, planted, maps_on_units(score, modality), EVIDENCE_SHARE[modality], random)


def _add_correlations(entry: Mapping[str, Any], case: PlantedCase, copies: Mapping[str, Any], processor: Any) -> None:
    """Add the rank correlations with the maps of models whose weights are shuffled to a case's figures, in place."""
    for name, shuffled in copies.items():
        for score in case_scores(shuffled, processor, case):
            for modality in MODALITIES_OF[score.kind]:
                for method, values in maps_on_units(score, modality).items():
                    trained = np.array(entry[modality]["maps"][method])
                    correlation = rank_correlation(trained, values)
                    entry[modality]["figures"][method][f"correlation {name}"] = correlation


def _supporting(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Set what speaks against the text to zero in the maps of a case, for pointing and mass."""
    return {
        modality: {**content, "maps": {name: np.clip(values, 0, None) for name, values in content["maps"].items()}}
        for modality, content in entry.items()
    }
