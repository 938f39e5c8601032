"""How should the answer read the slots: additive evidence, and evidence that interacts, three tasks together.

    python experiments/fusion_readings.py choose --seeds 100 101 --out docs/results/fusion --runs grid/fusion
    python experiments/fusion_readings.py confirm --seeds 200 201 202 --out docs/results/fusion --runs grid/fusion

As in `fusion_tokens.py`, the evidence of synthetic patients takes the place of the encoders' tokens. There are three
cohorts: "default" (additive), "sign" (a labs axis flips the meaning of an ECG axis) and "xor" (an ECG bit times an echo
bit says the label). Each run trains diagnosis, prognosis and retrieval together on 1,089 patients, six epochs, drawn
with its own seed. `choose` scores its runs on 4,000 patients (seed 50,000). `confirm` scores other runs on 8,000 other
patients (seed 60,000), which no choice has seen.

A finished run is not run again. The script writes <stage>.csv (a row per run) and <stage>.md (means, and differences to
mean-concatenation, paired by patient, with intervals over the patients) to --out.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fusion_tokens import as_tokens, encode, features, train
from scipy.special import logit
from tiny_training import Recipe, write

from tgmm_hf import TgmmModel
from tgmm_hf.cohorts.synthetic import bayes, evidence
from tgmm_hf.cohorts.synthetic.interactions_bayes import sides_of
from tgmm_hf.evaluation.metrics import auc
from tgmm_hf.evaluation.retrieval import DIRECTIONS, beaten_by, expected_scores
from tgmm_hf.evaluation.survival import c_index
from tgmm_hf.evaluation.tables import as_csv
from tgmm_hf.utils.files import read_json, whole_file, write_json
from tgmm_hf.utils.names import MODALITIES

COHORTS = ("default", "sign", "xor")
TASKS = ("hf_diagnosis", "hf_risk", "retrieval")
EPOCHS, SINGLES, GALLERY, RESAMPLES = 6, 2000, 1000, 1000
STAGES = {"choose": (50_000, 4000), "confirm": (60_000, 8000)}
"""Stage -> seed and number of the scored patients. Modalities alone are scored on the first `SINGLES` of them."""
BY_SLOT, WHOLE, GAIN = {"slot_reading": "slot_by_slot"}, {"whole_copies": 1}, {"shared_slot_gain": 0.1}
RISK_TOGETHER = {"tasks": {"hf_risk": {"slot_reading": "together"}}}
SETTINGS: dict[str, dict[str, Any]] = {
    "concat": {"fusion": "concat"},
    "concat, whole": {"fusion": "concat", **WHOLE},
    "concat, slot, whole": {"fusion": "concat", **BY_SLOT, **WHOLE},
    "concat, whole, 5e-4": {"fusion": "concat", **WHOLE, "rate": 5e-4},
    "medflex": {},
    "medflex, whole": {**WHOLE},
    "medflex, gain, whole": {**GAIN, **WHOLE},
    "slot": {**BY_SLOT},
    "slot, whole": {**BY_SLOT, **WHOLE},
    "slot, gain": {**BY_SLOT, **GAIN},
    "slot, gain, whole": {**BY_SLOT, **GAIN, **WHOLE},
    "slot, gain, whole, 5e-4": {**BY_SLOT, **GAIN, **WHOLE, "rate": 5e-4},
    "preset additive": {"fusion_preset": "additive"},
    "preset interacting": {"fusion_preset": "interacting"},
    "slot, whole, risk together": {**BY_SLOT, **WHOLE, **RISK_TOGETHER},
    "slot, gain, whole, risk together": {**BY_SLOT, **GAIN, **WHOLE, **RISK_TOGETHER},
}
"""Name -> settings of `TgmmConfig`; "rate" is the learning rate, "tasks" holds settings of single tasks."""
FIGURES = ("auc", "c_index", "lrap_3", "auc_single")


def inputs_of(cohort: str, table: evidence.Evidence) -> dict[str, torch.Tensor]:
    """Make the tokens of each modality.

    On the interacting cohorts two numbers stand for the words of the labs, as a good text encoder would give them: the
    log odds of the additive evidence, and those of the side of the labs axis. With a token for each of the 17 words no
    fusion learned an interaction from 1,089 patients (AUC 0.81 to 0.83, as the best late fusion).
    """
    if evidence.EVIDENCE[cohort].interactions is None:
        return features(table)
    reference = bayes.references(table, cohort)
    side = logit(sides_of(table).a[:, 1].clip(0.01, 0.99)) / 3
    values = (table.values - evidence.CENTRE) * table.present
    columns = {
        name: values[:, [p.modality == name for p in evidence.PARAMETERS]] for name in MODALITIES if name != "labs"
    }
    columns["ecg"] = np.concatenate([columns["ecg"], 2.0 * table.ecg_af[:, None] - 1], axis=1)
    columns["labs"] = np.stack([logit(reference.late_fusion["labs"]), side], axis=1)
    return as_tokens(columns)


def run_one(setting: str, cohort: str, seed: int, stage: str, directory: Path) -> dict[str, Any]:
    """Train and score one run. Write scores.npz, then metrics.json. A finished run is read.

    Returns:
        The content of metrics.json.
    """
    record = {"settings": SETTINGS[setting], "epochs": EPOCHS, "scored": list(STAGES[stage])}
    path = directory / "metrics.json"
    if path.is_file() and read_json(path).get("run") == record:
        return dict(read_json(path))
    settings = dict(SETTINGS[setting])
    recipe = Recipe(learning_rate=settings.pop("rate", 1e-3))
    of_tasks = settings.pop("tasks", {})
    started = time.process_time()
    tasks = {name: of_tasks.get(name, {}) for name in TASKS}
    inputs = partial(inputs_of, cohort)
    model = train(seed, EPOCHS, tasks, strength=cohort, inputs_of=inputs, recipe=recipe, **settings)
    seconds = time.process_time() - started
    table = evidence.draw(np.random.default_rng(STAGES[stage][0]), STAGES[stage][1], evidence.EVIDENCE[cohort])
    scores, metrics = score(model, table, inputs(table))
    gains = getattr(model, "slot_gain", None)
    metrics |= {"setting": setting, "cohort": cohort, "seed": seed, "cpu_seconds": round(seconds, 1), "run": record}
    metrics["gains"] = None if gains is None else [round(value, 3) for value in gains.gain.tolist()]
    directory.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(directory / "scores.npz", allow_pickle=False, **scores)
    write_json(path, metrics)
    return metrics


@torch.no_grad()
def score(
    model: TgmmModel, table: evidence.Evidence, tokens: Mapping[str, torch.Tensor]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Score patients, given their tokens.

    Returns:
        Probability and risk with all modalities, (n,) each; and the figures of `FIGURES`.
    """
    encoded, few = encode(model, tokens), encode(model, {name: values[:SINGLES] for name, values in tokens.items()})
    diagnosis: Any = model.answer(encoded, "hf_diagnosis")
    # A prognosis is scored on the patients who are followed.
    rows = torch.tensor(table.followed)
    followed = replace(
        encoded,
        tokens={name: values[rows] for name, values in encoded.tokens.items()},
        present={name: values[rows] for name, values in encoded.present.items()},
    )
    prognosis: Any = model.answer(followed, "hf_risk")
    risk = np.full(len(table), np.nan)
    risk[table.followed] = prognosis.risk.numpy()
    alone: list[Any] = [model.answer(few.keep((name,)), "hf_diagnosis") for name in MODALITIES]
    scores = {"probability": diagnosis.probabilities[:, 1].numpy(), "risk": risk}
    metrics = {
        "auc": auc(scores["probability"], table.label),
        "c_index": followed_c_index(risk, table),
        "lrap_3": retrieval_figure(model, {name: values[:GALLERY] for name, values in tokens.items()}),
        "auc_single": float(np.mean([auc(each.probabilities[:, 1].numpy(), table.label[:SINGLES]) for each in alone])),
        "attention": diagnosis.candidate_attentions.mean((0, 1)).tolist(),
    }
    return scores, metrics


def followed_c_index(risk: np.ndarray, table: evidence.Evidence) -> float:
    """Compute the C-index on the followed patients."""
    rows = table.followed
    return float(c_index(risk[rows], table.time[rows], table.event[rows] == 1))


def retrieval_figure(model: TgmmModel, tokens: Mapping[str, torch.Tensor]) -> float:
    """Compute LRAP among three candidates, the mean over the directions."""
    output: Any = model.answer(encode(model, tokens), "retrieval")
    ids = np.arange(len(next(iter(tokens.values()))))
    values = []
    for query, gallery in DIRECTIONS:
        ahead, negatives = beaten_by(output.embeds[query].numpy() @ output.embeds[gallery].numpy().T, ids)
        values.append(expected_scores(ahead, negatives, 3)["lrap"].mean())
    return float(np.mean(values))


def optimum(cohort: str, stage: str) -> dict[str, float]:
    """Compute the best figures that any model, and any late fusion, can reach on the scored patients of a stage."""
    table = evidence.draw(np.random.default_rng(STAGES[stage][0]), STAGES[stage][1], evidence.EVIDENCE[cohort])
    reference, whole = bayes.references(table, cohort), "+".join(MODALITIES)
    late = reference.late_fusion or reference.posterior
    return {
        "auc": auc(reference.posterior[whole], table.label),
        "c_index": followed_c_index(reference.risk[whole], table),
        "late_fusion_auc": auc(late[whole], table.label),
    }


def differences(
    runs: Path, stage: str, cohort: str, first: str, second: str, seeds: Sequence[int]
) -> dict[str, tuple[float, float, float]]:
    """Compute first minus second: figure -> mean over seeds, and the ends of its 95 % interval over the patients.

    The patients are resampled, the same ones for all runs.
    """
    table = evidence.draw(np.random.default_rng(STAGES[stage][0]), STAGES[stage][1], evidence.EVIDENCE[cohort])
    pairs = [
        [dict(np.load(directory_of(runs, stage, cohort, name, seed) / "scores.npz")) for name in (first, second)]
        for seed in seeds
    ]
    random = np.random.default_rng(0)
    draws = [np.arange(len(table)), *(random.integers(len(table), size=len(table)) for _ in range(RESAMPLES))]
    followed = np.flatnonzero(table.followed)
    of_followed = [followed, *(random.choice(followed, size=len(followed)) for _ in range(RESAMPLES // 5))]
    label, time_of, event = table.label, table.time, table.event == 1
    auc_of = [
        np.mean([auc(a["probability"][r], label[r]) - auc(b["probability"][r], label[r]) for a, b in pairs])
        for r in draws
    ]
    c_of = [
        np.mean(
            [
                c_index(a["risk"][r], time_of[r], event[r]) - c_index(b["risk"][r], time_of[r], event[r])
                for a, b in pairs
            ]
        )
        for r in of_followed
    ]
    out = {}
    for name, values in (("auc", auc_of), ("c_index", c_of)):
        low, high = np.quantile(values[1:], [0.025, 0.975])
        out[name] = (float(values[0]), float(low), float(high))
    return out


def directory_of(runs: Path, stage: str, cohort: str, setting: str, seed: int) -> Path:
    """Return the directory of a run."""
    return runs / stage / cohort / setting.replace(", ", "_") / f"seed{seed}"


def table_of_means(results: Sequence[Mapping[str, Any]], stage: str, settings: Sequence[str]) -> list[str]:
    """Write the figures of each setting as lines of a Markdown table, means over seeds."""
    lines = [
        "| setting | additive: AUC | C-index | LRAP | one modality: AUC | sign: AUC | xor: AUC | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for setting in settings:
        cells = []
        for cohort, figure in (*(("default", name) for name in FIGURES), ("sign", "auc"), ("xor", "auc")):
            values = [r[figure] for r in results if r["setting"] == setting and r["cohort"] == cohort]
            cells.append(f"{np.mean(values):.4f} ({len(values)})" if values else "")
        seconds = [r["cpu_seconds"] for r in results if r["setting"] == setting]
        if seconds:
            lines.append(f"| {setting} | {' | '.join(cells)} | {np.mean(seconds):.0f} |")
    best = {cohort: optimum(cohort, stage) for cohort in COHORTS}
    lines.append(
        f"| optimum | {best['default']['auc']:.4f} | {best['default']['c_index']:.4f} | | | "
        f"{best['sign']['auc']:.4f} | {best['xor']['auc']:.4f} | |"
    )
    late = [f"{best[cohort]['late_fusion_auc']:.4f}" for cohort in ("sign", "xor")]
    lines.append(f"| best late fusion | | | | | {late[0]} | {late[1]} | |")
    return lines


def table_of_differences(
    results: Sequence[Mapping[str, Any]], runs: Path, stage: str, settings: Sequence[str], reference: str
) -> list[str]:
    """Write the differences to `reference` as lines of a Markdown table, with intervals and each seed's own."""
    lines = [
        f"| minus {reference} | cohort | figure | difference | 95 % interval | by seed |",
        "|---|---|---|---|---|---|",
    ]
    by_run = {(r["setting"], r["cohort"], r["seed"]): r for r in results}
    for setting in (name for name in settings if name != reference):
        for cohort in COHORTS:
            seeds = sorted(s for n, c, s in by_run if (n, c) == (setting, cohort) and (reference, cohort, s) in by_run)
            if not seeds:
                continue
            found = differences(runs, stage, cohort, setting, reference, seeds)
            for figure, (mean, low, high) in found.items():
                each = [by_run[setting, cohort, s][figure] - by_run[reference, cohort, s][figure] for s in seeds]
                shown = ", ".join(f"{value:+.4f}" for value in each)
                lines.append(f"| {setting} | {cohort} | {figure} | {mean:+.4f} | {low:+.4f} to {high:+.4f} | {shown} |")
    return lines


def main() -> None:
    """Run one stage and write its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=STAGES, help="which patients are scored")
    parser.add_argument("--out", type=Path, required=True, help="directory of the tables")
    parser.add_argument("--runs", type=Path, default=Path("grid/fusion"), help="directory of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", required=True, help="seeds of the trainings")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="default: all")
    parser.add_argument("--cohorts", nargs="+", choices=COHORTS, default=list(COHORTS), help="default: all")
    parser.add_argument("--reference", choices=SETTINGS, default="concat", help="what the others are compared with")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for seed in arguments.seeds:
        for cohort in arguments.cohorts:
            for setting in arguments.settings:
                directory = directory_of(arguments.runs, arguments.stage, cohort, setting, seed)
                results.append(run_one(setting, cohort, seed, arguments.stage, directory))
                figures = "  ".join(f"{name} {results[-1][name]:.4f}" for name in FIGURES)
                write(f"{cohort:8} {setting:34} seed {seed}  {figures}  {results[-1]['cpu_seconds']:.0f} s")
    names = ["setting", "cohort", "seed", *FIGURES, "cpu_seconds"]
    rows = [[f"{r[name]:.4f}" if isinstance(r[name], float) else str(r[name]) for name in names] for r in results]
    with whole_file(arguments.out / f"{arguments.stage}.csv") as building:
        building.write_text(as_csv(names, rows))
    tables = table_of_means(results, arguments.stage, arguments.settings)
    tables += [
        "",
        *table_of_differences(results, arguments.runs, arguments.stage, arguments.settings, arguments.reference),
    ]
    with whole_file(arguments.out / f"{arguments.stage}.md") as building:
        building.write_text("\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
