"""The reporting checklist TRIPOD+AI, filled with the facts in metrics.json.

Source: Collins et al., BMJ 2024;385:e078378. The items are in our words. If the software cannot know an answer, the
answer says so. The authors of a paper then see which answers they still have to write.
"""

from collections.abc import Mapping
from typing import Any

from tgmm_hf.configuration_measured_tasks import MEASURED_KINDS
from tgmm_hf.evaluation.predictions import whole_subset
from tgmm_hf.evaluation.subgroups import FEWEST_CASES, SMALLEST_GROUP, shown_cases, shown_count
from tgmm_hf.evaluation.tables import Entries, headline, tasks_of
from tgmm_hf.utils.model_names import shown_model_name

UNKNOWN = "Not known to the software."

Item = tuple[str, str, str]
"""Number of the item, question, answer."""


def checklist(metrics: Mapping[str, Any]) -> list[Item]:
    """List the items of TRIPOD+AI, each with an answer.

    Args:
        metrics: The content of metrics.json.
    """
    tasks = list(tasks_of(metrics))
    answers = _answers(metrics, tasks)
    return [(number, asked, answers.get(number, UNKNOWN)) for number, asked in ITEMS]


def _answers(metrics: Mapping[str, Any], tasks: list[tuple[str, str, Entries]]) -> dict[str, str]:
    """Write the answers that metrics.json knows: number of the item -> answer.

    `tasks` are (name, kind, entries) of `tasks_of`.
    """
    outcomes = ", ".join(f"{task} ({kind})" for task, kind, _ in tasks)
    numbers = "; ".join(f"{task}: {_counts(kind, entry)}" for task, kind, entry in _whole(tasks))
    data = f"Prepared data {metrics.get('data')}, SHA-256 {metrics.get('data_hash')}, split {metrics.get('split')}."
    training = metrics.get("training")
    thresholds = "; ".join(
        f"{task} {entry['threshold']['value']:.3f} ({entry['threshold']['rule']})"
        for task, kind, entry in _whole(tasks)
        if kind == "diagnosis"
    )
    parts = "".join(f", {name} ({choice})" for name, choice in metrics.get("components", {}).items())
    size, same_data = "", UNKNOWN
    if training:
        size = f" {training['parameters']:,} parameters, {training['epochs']:g} epochs, seed {training['seed']}."
    if training and training["data_hash"] == metrics.get("data_hash"):
        same_data = "Training and scored patients are of one table, split by patient."
    scaling = " Probabilities are scaled by a temperature from the validation split." if _is_scaled(tasks) else ""
    version = metrics.get("versions", {}).get("tgmm-hf", "")
    return {
        "3a": f"Tasks: {outcomes}.",
        "5a": data
        + (
            " The patients are synthetic."
            if metrics.get("synthetic")
            else " Whom they represent: not known to the software."
        ),
        "7": "Refused inputs and reasons: refused.csv and prepare.json of `tgmm prepare`. The same for all groups.",
        "8a": f"{outcomes}. How an outcome was found: see the documentation of the cohort.",
        "9a": "Laboratory row, 12-lead ECG, echo clips by view, as far as a patient has them.",
        "10": f"No size was calculated. Scored: {numbers}.",
        "11": "No imputation: a missing cell, lead, view or modality is masked. An admission is scored under a "
        "modality subset only if it has all its modalities. The subgroup table scores each on the modalities it has.",
        "12a": f"Scored: the {metrics.get('split')} split. {_chosen_on(tasks)}",
        "12b": "Laboratory cells in canonical units; ECG band-passed, cropped; clips resized (processor's settings).",
        "12c": f"TGMM (arXiv 2508.13072): three encoders{parts}.{size}",
        "12d": "Differences between sites were not computed.",
        "12e": "AUC, AUPRC, accuracy, sensitivity, specificity, PPV, NPV, Brier score, calibration slope, intercept "
        "and curve, net benefit; Harrell's and Uno's C, AUC and Brier score by day, its integral; LRAP, recall.",
        "12f": f"The model was scored as it is.{scaling}",
        "12g": "Predictions come from the saved model itself, batch by batch: predictions.parquet.",
        "13": "No resampling or class weights in the evaluation; the bootstrap is stratified by outcome only for "
        "figures that do not depend on the prevalence.",
        "14": f"Figures by sex, age, ethnicity and missing inputs. Groups with under {SMALLEST_GROUP} admissions or "
        f"under {FEWEST_CASES} cases are counted, not scored.",
        "15": "Probability of each candidate or finding; risk score, higher is earlier; number with its unit. "
        f"Thresholds: {thresholds or 'none'}.",
        "16": same_data,
        "18e": f"Data: SHA-256 {metrics.get('data_hash')}; access is for its owner to state.",
        "18f": f"Code: tgmm-hf {version}, revision {metrics.get('code_revision')}, Apache-2.0.",
        "20a": f"{numbers}.",
        "20b": "Subgroup tables; table1.csv of `tgmm curate` where the cohort came from it.",
        "21": f"{numbers}.",
        "22": f"Saved model {shown_model_name(str(metrics.get('model')))}: weights, configuration and code load with "
        "AutoModel.",
        "23a": "; ".join(" - ".join(headline(*task)) for task in tasks) + ". All figures with intervals: metrics.json.",
        "23b": "Differences between sites were not computed.",
        "24": "Not updated.",
        "26": " ".join(metrics["warnings"]) or "Intervals do not cover the training seed or another prevalence.",
        "27a": "A missing modality, lead, view or cell is left out and reported; input that cannot be used is refused "
        "with its reason.",
    }


def _chosen_on(tasks: list[tuple[str, str, Entries]]) -> str:
    """Say, in one sentence per task, on which patients its threshold or the cut between risk groups was chosen."""
    sentences = []
    for task, kind, entry in _whole(tasks):
        if kind in MEASURED_KINDS:
            continue
        what = "threshold" if kind == "diagnosis" else "risk_groups"
        chosen = "nobody" if entry[what] is None else entry[what]["chosen_on"]
        sentences.append(f"{task}, {what.replace('_', ' ')} chosen on: {chosen}.")
    return " ".join(sentences)


def _counts(kind: str, entry: Mapping[str, Any]) -> str:
    cases = (
        "" if kind in MEASURED_KINDS else f", {shown_cases(entry)} {'positive' if kind == 'diagnosis' else 'events'}"
    )
    return f"{shown_count(entry['n'])} admissions of {shown_count(entry['patients'])} patients{cases}"


def _whole(tasks: list[tuple[str, str, Entries]]) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [(task, kind, entries[whole_subset(entries)]) for task, kind, entries in tasks if kind != "retrieval"]


def _is_scaled(tasks: list[tuple[str, str, Entries]]) -> bool:
    return any(entry.get("temperature") is not None for _, _, entry in _whole(tasks))


ITEMS = (
    ("1", "Title names a prediction model, its population and outcome"),
    ("2", "Abstract follows TRIPOD+AI for abstracts"),
    ("3a", "Health context, and what is to be predicted, diagnosis or prognosis"),
    ("3b", "Who is meant to use it, where in the path of care"),
    ("3c", "Known inequalities between groups of people"),
    ("4", "Aim: development, validation or both"),
    ("5a", "Sources of the development and evaluation data, and whether they represent those to be served"),
    ("5b", "Dates of the data"),
    ("6a", "Setting: centres, where, what kind"),
    ("6b", "Who was eligible"),
    ("6c", "Treatments given"),
    ("7", "Preparation and quality checks, alike for all groups or not"),
    ("8a", "Outcome, its time horizon, how it was assessed, alike for all groups or not"),
    ("8b", "Who assessed the outcome, if it needs judgement"),
    ("8c", "Blinding of that assessment"),
    ("9a", "Choice of initial predictors"),
    ("9b", "Definition and timing of predictors, blinding"),
    ("9c", "Who assessed predictors, if they need judgement"),
    ("10", "Sample size, for development and evaluation, and its reason"),
    ("11", "Missing data"),
    ("12a", "How the data were used: splits, and for what"),
    ("12b", "How predictors enter the model"),
    ("12c", "Type of model, how it was built, hyper-parameters, internal validation"),
    ("12d", "Heterogeneity between clusters such as hospitals"),
    ("12e", "Measures of performance, and why"),
    ("12f", "Updating, such as recalibration"),
    ("12g", "How predictions were computed in the evaluation"),
    ("13", "Class imbalance: methods, and recalibration after"),
    ("14", "Fairness: what was done, and why"),
    ("15", "Output of the model, and how classes or thresholds were chosen"),
    ("16", "Differences between development and evaluation data"),
    ("17", "Ethics approval and consent"),
    ("18a", "Funding"),
    ("18b", "Conflicts of interest"),
    ("18c", "Protocol"),
    ("18d", "Registration"),
    ("18e", "Sharing of data"),
    ("18f", "Sharing of code"),
    ("19", "Involvement of patients and the public"),
    ("20a", "Flow of participants, with and without the outcome, follow-up"),
    ("20b", "Characteristics, overall and by centre, key predictors, treatments, missing data, by group"),
    ("20c", "Comparison of predictors between development and evaluation data"),
    ("21", "Participants and outcome events in each analysis"),
    ("22", "Full model, so that others can use it"),
    ("23a", "Performance with intervals, also in key groups"),
    ("23b", "Heterogeneity of performance between clusters"),
    ("24", "Results of updating"),
    ("25", "Interpretation, fairness, earlier studies"),
    ("26", "Limitations and their effect on bias and generalisability"),
    ("27a", "How poor or missing input is handled in use"),
    ("27b", "Whether users interact with input or model, and what expertise they need"),
    ("27c", "Next steps, applicability and generalisability"),
)
