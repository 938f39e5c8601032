r"""Echo maps of a TGMM model by three ways to hide regions: how often do they point at the planted evidence?

    make demo
    python experiments/echo_hiding.py demo/model demo/data --cohort demo/cohort --patients 24 --out echo_hiding.json

* hide: the score minus the score without one region. This is the method "occlusion" of `tgmm explain`.
* show: the score when a view shows one region alone, minus the score without this view.
* halves: the mean score of random halves of a view's regions with one region, minus the mean of those without it.

The other views are whole. "Pointing", "mass" and "chance" are those of `tgmm explain-check`: `faithfulness.pointing`.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from tiny_training import write

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.data.saved_models import load_processor
from tgmm_hf.explanation.faithfulness import EVIDENCE_SHARE, evidence_units, pointing
from tgmm_hf.explanation.planted_units import PlantedEvidence
from tgmm_hf.explanation.prepared_patient import PreparedPatient
from tgmm_hf.explanation.scoring import question_of
from tgmm_hf.explanation.units import Units
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.utils.files import write_json

HALVES = 16
"""Random divisions of the regions of a view into two halves."""


def main() -> None:
    """Measure the maps of the test patients, and write their mean figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="directory of a saved model")
    parser.add_argument("data", type=Path, help="prepared data")
    parser.add_argument("--cohort", type=Path, required=True, help="directory of the synthetic cohort")
    parser.add_argument("--patients", type=int, default=24, help="largest number of test patients")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    model, processor = TgmmModel.from_pretrained(arguments.model), load_processor(arguments.model)
    prepared = load_prepared(arguments.data)
    names = [str(name) for rows in prepared.values() for name in rows["id"]]
    evidence = PlantedEvidence(arguments.cohort, names, processor)
    tasks = model.config.tasks or {}
    question = question_of(tasks, model.config.task_names("diagnosis")[0])
    collator = TgmmCollator(processor, model.config, training=False)
    random = np.random.default_rng(0)
    figures: dict[str, list[dict[str, float]]] = defaultdict(list)
    rows = [row for row in prepared["test"] if not evidence.is_anomalous(str(row["id"]))][: arguments.patients]
    for number, row in enumerate(rows, start=1):
        case = PreparedPatient(model, processor, collator, row, question)
        if "echo" not in case.score.present:
            continue
        units = case.units("echo")
        planted = evidence_units(evidence.in_units("echo", str(row["id"]), units, {}), EVIDENCE_SHARE["echo"])
        for name, values in maps(units, random).items():
            figures[name].append(pointing(values, planted))
        write(f"{number} of {len(rows)}: {means(figures)}")
    patients = len(next(iter(figures.values()), []))
    weights = (model.config.weights_fingerprint or {}).get("id")
    write_json(arguments.out, {"patients": patients, "weights": weights, "figures": means(figures)})


def maps(units: Units, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Compute way to hide -> values (units,) of the regions that are present."""
    view = np.argwhere(units.present)[:, 0]
    alone = np.eye(len(view), dtype=bool)
    in_same_view = view[:, None] == view
    whole = units.score(np.ones((1, len(view)), bool))[0]
    without_view = {number: units.score((view != number)[None])[0] for number in np.unique(view)}
    return {
        "hide": whole - units.score(~alone),
        "show": units.score(~in_same_view | alone) - np.array([without_view[number] for number in view]),
        "halves": halves(units, view, random),
    }


def halves(units: Units, view: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Compute the difference of mean scores with and without each region, over random halves of its view: (units,)."""
    values = np.zeros(len(view))
    for number in np.unique(view):
        regions = np.flatnonzero(view == number)
        shown = np.stack([random.permutation(len(regions)) < len(regions) // 2 for _ in range(HALVES)])
        shown = np.concatenate([shown, ~shown])
        kept = np.ones((len(shown), len(view)), bool)
        kept[:, regions] = shown
        scores = units.score(kept)
        values[regions] = [scores[shows].mean() - scores[~shows].mean() for shows in shown.T]
    return values


def means(figures: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Average the figures of all patients: way to hide -> figure -> mean."""
    return {
        name: {key: round(float(np.mean([figure[key] for figure in measured])), 3) for key in measured[0]}
        for name, measured in figures.items()
    }


if __name__ == "__main__":
    main()
