"""`tgmm explain-check`: measure on a synthetic cohort whether explanations are true.

Every patient is measured by every method, and the figures are averaged with intervals (bootstrap over patients, paired
for the differences from random orders). A finished patient is kept as a file, so that a stopped check goes on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.data.saved_models import damaged_files_in_one_line, load_processor
from tgmm_hf.explanation.faithfulness import EVIDENCE_SHARE, curves, evidence_effect, order_of
from tgmm_hf.explanation.planted_units import PlantedEvidence
from tgmm_hf.explanation.prepared_patient import PreparedPatient
from tgmm_hf.explanation.randomised import rank_correlation, shuffled_copies
from tgmm_hf.explanation.scoring import default_task, question_of
from tgmm_hf.explanation.summary import effect_ratios, summarise, table_text
from tgmm_hf.explanation.units import Units
from tgmm_hf.explanation.verified import CHECK_FILE
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json, write_json, write_text
from tgmm_hf.utils.model_names import is_local_model
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES
from tgmm_hf.utils.output_lock import one_run_at_a_time

RANDOM_ORDERS = 3
"""Random orders of the units of each patient, averaged."""
SHUFFLED_PATIENTS = 3
"""Patients whose maps are compared with those of a model with shuffled weights."""


@one_run_at_a_time("out")
def check_explanations(  # noqa: PLR0913 - one argument per option of the command
    model: str,
    data: str | Path,
    cohort: str | Path,
    out: str | Path,
    *,
    split: str = "test",
    task: str | None = None,
    patients: int | None = None,
    beside_model: bool = False,
    seed: int = 0,
    bootstrap: int = BOOTSTRAP_RESAMPLES,
) -> dict[str, Any]:
    """Measure the explanations of a model and write explanation_check.json, explanation_check.md and patients/*.json.

    Args:
        model: directory or Hub repository of a saved model.
        data: prepared data of a synthetic cohort.
        cohort: directory of the cohort, written by `tgmm synth`.
        out: directory to write.
        split: split whose patients are measured.
        task: a diagnosis or prognosis; the first one of the model when None, a diagnosis if there is one.
        patients: largest number of patients; all of the split when None.
        beside_model: also write the summary into the directory of the model.
        seed: seed of random orders, shuffled weights and resamples.
        bootstrap: number of resamples.

    Returns:
        The summary, as explanation_check.json holds it.

    Raises:
        TgmmError: if the data are not of the cohort, or `out` holds a check with other settings.
    """
    out, processor = Path(out), load_processor(model)
    if beside_model and not is_local_model(model):
        raise TgmmError(model, "is a Hub repository, so that nothing can be written beside it. Download it first.")
    with damaged_files_in_one_line(model):
        network: Any = TgmmModel.from_pretrained(model)
    prepared, prepare = load_prepared(data), read_json(Path(data) / "prepare.json")
    ids = [str(name) for rows in prepared.values() for name in rows["id"]]
    evidence = PlantedEvidence(Path(cohort), ids, processor)
    task = task or default_task(network.config)
    question = question_of(network.config.tasks, task)
    settings = {"model": model, "data_hash": prepare["data_hash"], "split": split, "task": task, "seed": seed}
    settings |= {"target": question.target, "unit": question.unit}
    settings |= {"weights": (network.config.weights_fingerprint or {}).get("id")}
    claim_settings(out, settings)
    rows = prepared[split]
    numbers = [n for n, name in enumerate(rows["id"]) if not evidence.is_anomalous(str(name))][:patients]
    collator = TgmmCollator(processor, network.config, training=False)
    measured = []
    for number in tqdm(numbers, desc="explain-check", unit="patient"):
        path = out / "patients" / f"{number:05d}.json"
        if not path.is_file():
            case = PreparedPatient(network, processor, collator, rows[number], question)
            random = np.random.default_rng([seed, number])
            write_json(path, {modality: measure(case, modality, evidence, random) for modality in case.score.present})
        measured.append(read_json(path))
    shuffled = shuffled_copies(network, seed)
    for place, number in enumerate(tqdm(numbers[:SHUFFLED_PATIENTS], desc="shuffled weights", unit="patient")):
        path = out / "shuffled" / f"{number:05d}.json"
        if not path.is_file():
            cases = {
                name: PreparedPatient(each, processor, collator, rows[number], question)
                for name, each in shuffled.items()
            }
            write_json(path, correlations(measured[place], cases))
        _add_correlations(measured[place], read_json(path))
    summary = {"settings": settings, "patients": len(measured), "modalities": summarise(measured, seed, bootstrap)}
    summary["evidence_effect"] = effect_ratios(measured, seed, bootstrap)
    for directory in (out, *([Path(model)] if beside_model else [])):
        write_json(directory / CHECK_FILE, summary)
    write_text(out / "explanation_check.md", table_text(summary))
    return summary


def measure(
    case: PreparedPatient, modality: str, evidence: PlantedEvidence, random: np.random.Generator
) -> dict[str, Any]:
    """Measure all methods of one modality of one patient.

    Returns:
        "figures": method -> figure -> number; the method "random" has the mean over `RANDOM_ORDERS` random orders.
        "maps": method -> values of the units that are present. "planted": the planted change of these units. Maps are
        kept, because the evidence may be counted in another way later. "effect": what `evidence_effect` returns.
    """
    units = case.units(modality)
    planted = evidence.in_units(modality, str(case.row["id"]), units, dict(enumerate(case.labs.used)))
    return measure_on_units(units, planted, case.values(modality, units), EVIDENCE_SHARE[modality], random)


def measure_on_units(
    units: Units, planted: np.ndarray, maps: Mapping[str, np.ndarray], share: float, random: np.random.Generator
) -> dict[str, Any]:
    """Measure maps of one modality.

    Args:
        units: n units of the modality.
        planted: (n,) change of each unit, not negative.
        maps: method -> (n,) values.
        share: share of the planted change that defines the evidence.
        random: draws orders of equal values, random orders and units without evidence.

    Returns:
        As `measure` describes it.
    """
    orders = [order_of(values, random) for values in maps.values()]
    orders += [random.permutation(len(planted)) for _ in range(RANDOM_ORDERS)]
    scored = [curve.figures() for curve in curves(units, orders)]
    figures = dict(zip(maps, scored, strict=False))
    by_chance = scored[len(maps) :]
    figures["random"] = {key: float(np.mean([curve[key] for curve in by_chance])) for key in by_chance[0]}
    stored = {name: rounded(values) for name, values in maps.items()}
    effect = evidence_effect(units, planted, share, random)
    return {"figures": figures, "maps": stored, "planted": rounded(planted), "effect": effect}


def rounded(values: np.ndarray) -> list[float]:
    """Return values with six significant digits, so that files stay small."""
    return [float(f"{value:.6g}") for value in values]


def correlations(measured: Mapping[str, Any], shuffled: Mapping[str, PreparedPatient]) -> dict[str, Any]:
    """Compare the maps of a patient with those of models whose weights are shuffled.

    Args:
        measured: modality -> what `measure` returns for the model itself.
        shuffled: name of a shuffled model -> the patient with this model.

    Returns:
        modality -> method -> "correlation <name>" -> rank correlation.
    """
    result: dict[str, Any] = {}
    for modality, entry in measured.items():
        result[modality] = {method: {} for method in entry["maps"]}
        for name, case in shuffled.items():
            for method, values in case.values(modality, case.units(modality)).items():
                trained = np.array(entry["maps"][method])
                result[modality][method][f"correlation {name}"] = rank_correlation(trained, values)
    return result


def _add_correlations(measured: dict[str, Any], rank_correlations: Mapping[str, Any]) -> None:
    """Add what `correlations` returned to the figures of a patient, in place."""
    for modality, methods in rank_correlations.items():
        for method, figures in methods.items():
            measured[modality]["figures"][method] |= figures


def claim_settings(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings into `out`; if it holds settings, compare them.

    Raises:
        TgmmError: if they differ.
    """
    path = out / "settings.json"
    if path.is_file() and read_json(path) != settings:
        raise TgmmError(
            str(out), f"holds a check with {read_json(path)}, asked for {settings}: name another directory."
        )
    write_json(path, settings)
