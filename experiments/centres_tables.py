"""Figures and page of `centres.py`: what a model is worth at a centre that it never saw.

Figures of several seeds are means over the trainings. Intervals are 95 % over the test patients, who are the same in
all seeds. A difference is taken in each resample of the patients, so it is paired.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from tgmm_hf.cohorts.synthetic.centres import CENTRES
from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate, resampled_auc, resampled_mean
from tgmm_hf.utils.files import whole_file, write_json

REPLICATES, GROUPS = 1000, 10
INPUTS = {"all": "labs, ECG and one echo view (A4C)", "labs+ecg": "labs and ECG, no echo", "labs": "labs alone"}
Truth = Mapping[str, tuple[int, float]]
"""Admission -> label and best answer."""
Figure = Callable[[NDArray], NDArray]


class Patients:
    """The patients of one centre that are scored.

    Args:
        truth: Label and best answer of each patient.
    """

    def __init__(self, truth: Truth):
        self.ids = list(truth)
        self.label = np.array([label for label, _ in truth.values()])
        self.best = np.array([best for _, best in truth.values()])
        self.by_label = bootstrap_counts(self.ids, self.label, REPLICATES, 0)
        self.free = bootstrap_counts(self.ids, None, REPLICATES, 0)

    def scores(self, result: Mapping[str, Any], name: str) -> NDArray:
        """Return the scores of one result on these patients, which it holds under `name`: (n,)."""
        return np.array([result["scores"][name][patient] for patient in self.ids])

    def auc(self, scores: Sequence[NDArray]) -> Figure:
        """Make the figure: mean AUC of several trainings."""
        return lambda counts: np.mean([resampled_auc(score, self.label, counts) for score in scores], axis=0)

    def brier(self, scores: Sequence[NDArray]) -> Figure:
        """Make the figure: mean Brier score of several trainings."""
        errors = [(score - self.label) ** 2 for score in scores]
        return lambda counts: np.mean([resampled_mean(error, counts) for error in errors], axis=0)

    def excess(self, scores: Sequence[NDArray]) -> Figure:
        """Make the figure: mean probability minus the share of patients with heart failure."""
        errors = [score - self.label for score in scores]
        return lambda counts: np.mean([resampled_mean(error, counts) for error in errors], axis=0)


def difference(first: Figure, second: Figure, counts: NDArray) -> NDArray:
    """Return the difference of two figures in each resample."""
    return np.asarray(first(counts) - second(counts))


def calibration_error(score: NDArray, label: NDArray) -> float:
    """Compute the ECE: mean distance of probability and share, in ten groups of equal size by probability."""
    groups = np.array_split(np.argsort(score, kind="stable"), GROUPS)
    return float(sum(len(rows) * abs(score[rows].mean() - label[rows].mean()) for rows in groups) / len(score))


def line(score: NDArray, label: NDArray, with_slope: bool = True) -> tuple[float, float]:
    """Fit intercept and slope of the outcome on the logits. Without slope it is 1 and the intercept is the shift."""
    values = logit(np.clip(score, 1e-6, 1 - 1e-6))
    if with_slope:
        fitted = LogisticRegression(C=1e6, max_iter=1000).fit(values[:, None], label)
        return float(fitted.intercept_[0]), float(fitted.coef_[0, 0])
    shift = 0.0
    for _ in range(50):
        probability = expit(values + shift)
        shift += float(np.clip((label - probability).sum() / max((probability * (1 - probability)).sum(), 1e-9), -4, 4))
    return shift, 1.0


def recalibrated(score: NDArray, intercept: float, slope: float) -> NDArray:
    """Shift and stretch the logits of probabilities."""
    return np.asarray(expit(intercept + slope * logit(np.clip(score, 1e-6, 1 - 1e-6))))


def calibration(patients: Patients, scores: Sequence[NDArray]) -> dict[str, Any]:
    """Compute calibration in the large, slope, Brier score and ECE of several trainings."""
    lines = [line(score, patients.label) for score in scores]
    shifts = [line(score, patients.label, with_slope=False)[0] for score in scores]
    return {
        **estimate(patients.excess(scores), patients.free).entry("excess"),
        "intercept": float(np.mean(shifts)),
        "slope": float(np.mean([slope for _, slope in lines])),
        **estimate(patients.brier(scores), patients.free).entry("brier"),
        "ece": float(np.mean([calibration_error(score, patients.label) for score in scores])),
    }


def figures_of_centre(
    centre: str, of_seeds: Mapping[int, dict[str, Any]], tests: Mapping[str, Patients], calibrating: Patients
) -> dict[str, Any]:
    """Compute all figures of one left-out centre. `of_seeds` maps a seed to the results of `centres.leave_out`."""
    here = tests[centre]
    out: dict[str, Any] = {"seeds": sorted(of_seeds), "n": len(here.label), "prevalence": float(here.label.mean())}
    out["seconds"] = {
        name: np.mean([runs[name]["seconds"] for runs in of_seeds.values()]) for name in of_seeds[min(of_seeds)]
    }
    best = here.auc([here.best])
    out["optimum"] = estimate(best, here.by_label).entry("auc") | calibration(here, [here.best])
    for name in ("others", "regression"):
        scores = {
            test: [patients.scores(runs[name], test) for runs in of_seeds.values()] for test, patients in tests.items()
        }
        entry = estimate(here.auc(scores[centre]), here.by_label).entry("auc")
        entry["auc_by_seed"] = [float(here.auc([score])(np.ones((1, len(score))))[0]) for score in scores[centre]]
        entry |= estimate(partial(difference, here.auc(scores[centre]), best), here.by_label).entry("minus_optimum")
        entry["at_home"], gaps = home_figures(centre, scores, tests)
        away = difference(here.auc(scores[centre]), best, here.by_label)
        ends = np.quantile(gaps - away, [0.025, 0.975])  # other patients, so the resamples are independent
        entry["lost"] = entry["at_home"]["minus_optimum"] - entry["minus_optimum"]
        entry["lost_ci"] = [float(end) for end in ends]
        entry["before"] = calibration(here, scores[centre])
        for kind, with_slope in (("shift", False), ("line", True)):
            changed = [
                recalibrated(score, *line(calibrating.scores(runs[name], "calibrating"), calibrating.label, with_slope))
                for score, runs in zip(scores[centre], of_seeds.values(), strict=True)
            ]
            entry[kind] = calibration(here, changed)
        out[name] = entry
    out["few"] = few_figures(centre, of_seeds, here)
    return out


def home_figures(
    centre: str, scores: Mapping[str, Sequence[NDArray]], tests: Mapping[str, Patients]
) -> tuple[dict[str, Any], NDArray]:
    """Compute mean AUC and mean gap to the optimum at the centres of the training, each within its own patients.

    Returns:
        The figures, and the gap in each resample (R,).
    """
    others = [name for name in tests if name != centre]
    aucs, gaps = [], []
    for name in others:
        patients = tests[name]
        model, best = patients.auc(scores[name]), patients.auc([patients.best])
        aucs.append(model(patients.by_label))
        gaps.append(difference(model, best, patients.by_label))
    ones = {name: np.ones((1, len(tests[name].label))) for name in others}
    out: dict[str, Any] = {}
    for key, values, point in (
        ("auc", aucs, np.mean([tests[n].auc(scores[n])(ones[n])[0] for n in others])),
        (
            "minus_optimum",
            gaps,
            np.mean([difference(tests[n].auc(scores[n]), tests[n].auc([tests[n].best]), ones[n])[0] for n in others]),
        ),
    ):
        out[key] = float(point)
        out[f"{key}_ci"] = [float(end) for end in np.quantile(np.mean(values, axis=0), [0.025, 0.975])]
    return out, np.mean(gaps, axis=0)


def few_figures(centre: str, of_seeds: Mapping[int, dict[str, Any]], here: Patients) -> dict[str, Any]:
    """Compute the AUC of the models of small cohorts, and the differences of interest: size -> figures."""
    first = of_seeds[min(of_seeds)]
    sizes = [name.removeprefix("tuned ") for name in first if name.startswith("tuned ")]
    out: dict[str, Any] = {}
    for size in sizes:
        names = {
            "scratch": f"scratch {size}",
            "tuned": f"tuned {size}",
            "others": "others",
            "regression": f"regression {size}",
        }
        auc = {
            kind: here.auc([here.scores(runs[name], centre) for runs in of_seeds.values()])
            for kind, name in names.items()
        }
        brier = {
            kind: here.brier([here.scores(runs[name], centre) for runs in of_seeds.values()])
            for kind, name in names.items()
        }
        entry: dict[str, Any] = {kind: estimate(auc[kind], here.by_label).entry("auc") for kind in names}
        for kind in ("scratch", "others", "regression"):
            entry[f"tuned_minus_{kind}"] = estimate(partial(difference, auc["tuned"], auc[kind]), here.by_label).entry(
                "auc"
            ) | estimate(partial(difference, brier["tuned"], brier[kind]), here.free).entry("brier")
        out[size] = entry
    return out


def interval(entry: Mapping[str, Any], name: str, signed: bool = False) -> str:
    """Write a figure with its interval."""
    if entry[name] is None or entry[f"{name}_ci"] is None:
        return "not defined"
    sign = "+" if signed else ""
    low, high = entry[f"{name}_ci"]
    return f"{entry[name]:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def unseen_table(results: Mapping[str, Any]) -> str:
    """Write the table of the first question: AUC at the left-out centre and at home."""
    head = [
        "left out",
        "n, share with HF",
        "model",
        "AUC there",
        "minus optimum",
        "AUC at home",
        "minus optimum at home",
        "lost",
    ]
    rows = []
    for centre, entry in results.items():
        for name, text in (("others", "TGMM, tiny"), ("regression", "regression on labs")):
            figure, home = entry[name], entry[name]["at_home"]
            rows.append(
                [
                    *(centre, f"{entry['n']}, {entry['prevalence']:.2f}", text, interval(figure, "auc")),
                    interval(figure, "minus_optimum", True),
                    interval(home, "auc"),
                    interval(home, "minus_optimum", True),
                    interval(figure, "lost", True),
                ]
            )
    return table(head, rows)


def calibration_table(results: Mapping[str, Any]) -> str:
    """Write the table of calibration before and after recalibration."""
    head = ["left out", "model", "mean probability minus share", "slope", "Brier", "ECE"]
    rows = []
    for centre, entry in results.items():
        lines = [
            (f"{text}, {kind}", entry[name][key])
            for name, text in (("others", "TGMM"), ("regression", "regression"))
            for key, kind in (("before", "as it is"), ("shift", "shifted"), ("line", "shift and slope"))
        ]
        for text, figure in [*lines, ("optimum", entry["optimum"])]:
            rows.append(
                [
                    *(centre, text, interval(figure, "excess", True), f"{figure['slope']:.2f}"),
                    *(interval(figure, "brier"), f"{figure['ece']:.3f}"),
                ]
            )
    return table(head, rows)


def few_table(results: Mapping[str, Any]) -> str:
    """Write the table of the second question: from scratch against fine-tuned."""
    head = ["centre", "patients", "from scratch", "fine-tuned", "fine-tuned minus scratch", "minus the others' model"]
    head += ["minus regression on their labs"]
    rows = [
        [centre, size, interval(few["scratch"], "auc"), interval(few["tuned"], "auc")]
        + [interval(few[f"tuned_minus_{kind}"], "auc", True) for kind in ("scratch", "others", "regression")]
        for centre, entry in results.items()
        for size, few in entry["few"].items()
    ]
    return table(head, rows)


def answer(results: Mapping[str, Any]) -> str:
    """Write the answer to both questions, from the figures alone."""
    number = len(results)
    lost = [entry["others"]["lost"] for entry in results.values()]
    clear = sum(entry["others"]["lost_ci"][0] > 0 for entry in results.values())
    off = [abs(entry["others"]["before"]["excess"]) for entry in results.values()]
    after = [abs(entry["others"]["shift"]["excess"]) for entry in results.values()]
    text = (
        f"the distance to the optimum is {np.mean(lost):+.3f} of AUC larger at a centre that the model never saw than "
        f"at home (left-out centres: {number}, from {min(lost):+.3f} to {max(lost):+.3f}, "
        f"interval above 0 in {clear} of {number}). Its mean probability is "
        f"{np.mean(off):.2f} off, and {np.mean(after):.2f} after a shift by a few patients of the centre."
    )
    gains = [
        (few["tuned_minus_scratch"], few["tuned_minus_others"])
        for entry in results.values()
        for few in entry["few"].values()
    ]
    if gains:
        sure = sum(scratch["auc_ci"][0] > 0 for scratch, _ in gains)
        text += (
            f" Fine-tuning the others' model gives {np.mean([s['auc'] for s, _ in gains]):+.3f} of AUC over training "
            f"from scratch on the same few patients (interval above 0 in {sure} of {len(gains)}), and "
            f"{np.mean([o['auc'] for _, o in gains]):+.3f} over the others' model as it is."
        )
    return "\n".join(textwrap.wrap(text, 120))


def write_results(
    out: Path,
    finished: Mapping[str, Mapping[int, dict[str, Any]]],
    tests: Mapping[str, Truth],
    calibrating: Mapping[str, Truth],
    options: Mapping[str, Any],
) -> None:
    """Write results.json and README.md.

    Args:
        out: Directory.
        finished: Left-out centre -> seed -> results of `centres.leave_out`.
        tests: Centre -> test patients.
        calibrating: Left-out centre -> patients that recalibrate.
        options: Options of the command.
    """
    patients = {name: Patients(truth) for name, truth in tests.items()}
    results = {
        centre: figures_of_centre(centre, of_seeds, patients, Patients(calibrating[centre]))
        for centre, of_seeds in finished.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", {"options": dict(options), "results": results})
    with whole_file(out / "README.md") as building:
        building.write_text(page(results, calibrating, options), encoding="utf-8")


def page(results: Mapping[str, Any], calibrating: Mapping[str, Truth], options: Mapping[str, Any]) -> str:
    """Write the page of the results."""
    seeds = sorted({seed for entry in results.values() for seed in entry["seeds"]})
    few = min(len(truth) for truth in calibrating.values())
    seconds = [sum(entry["seconds"].values()) for entry in results.values()]
    inputs = INPUTS[options["inputs"]]
    centres = "\n".join(f"* **{name}**: {CENTRES[name].title}" for name in options["centres"])
    return f"""# Other centres

**Question**: how much does a model lose at a hospital that it never saw, in ranking and in calibration? What does a
model of other hospitals give to a hospital with few patients?

**Answer**: {answer(results)}

**Command**: `python experiments/centres.py RUNS --out docs/results/centres --seeds {" ".join(map(str, seeds))}
--leave-out {" ".join(results)} --patients {options["patients"]} --test {options["test"]} --epochs {options["epochs"]}
--few-epochs {options["few_epochs"]} --sizes {" ".join(map(str, options["sizes"]))}
--inputs {options["inputs"]}`. It writes this page.

Synthetic patients of `tgmm synth --centre`, no clinical evidence. {len(results)} of {len(options["centres"])} centres
were left out in turn, with {len(seeds)} training(s) each (seeds {", ".join(map(str, seeds))}). Intervals are 95 % over
the test patients. They do not contain the spread of trainings. A left-out centre took {np.mean(seconds):.0f} CPU
seconds a seed.

{centres}

Each centre has {options["patients"]} patients to train on (split 5:1:1) and {options["test"]} test patients. The model
reads {inputs}. "At home" is the mean over the centres of the training, each among its own test
patients. The optimum is that of each centre, for what is read.

## A centre that was never seen

{unseen_table(results)}

"Lost" is how much larger the distance to the optimum is there than at home.

## Calibration there

{few} train patients of the left-out centre give the shift (or shift and slope) of the logits.

{calibration_table(results)}

"Mean probability minus share" above 0: too many patients are expected to have heart failure. A slope below 1: the
probabilities are too extreme. ECE: ten groups of equal size; the optimum shows what so few patients give by chance.

## A centre with few patients

AUC on the same test patients. "From scratch" and "fine-tuned" see the same patients for {options["few_epochs"]} epochs.

{few_table(results)}
"""
