"""Model and dataset cards: what a reader of the Hub page must know before using the model or the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData, EvalResult, ModelCardData

from tgmm_hf.encoders.encoder_loading import read_licence
from tgmm_hf.evaluation.subgroups import SMALLEST_GROUP, TITLES, hidden_groups
from tgmm_hf.evaluation.tables import text_estimate, text_threshold
from tgmm_hf.inputs.echo_views import SUBFOLDER
from tgmm_hf.utils.errors import TgmmError

CITATION = """\
@article{zhang2025tgmm,
  title   = {A Language-Signal-Vision Multimodal Framework for Multitask Cardiac Analysis},
  author  = {Zhang, Yuting and Geng, Tiantian and Hao, Luoying and others},
  journal = {arXiv preprint arXiv:2508.13072},
  year    = {2025}
}"""

FIGURES = {
    "auc": "AUC",
    "auprc": "AUPRC",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity at the threshold",
    "specificity": "specificity at the threshold",
    "brier": "Brier score",
    "c_index": "C-index",
    "lrap_3": "LRAP, 3 candidates",
    "recall_1_3": "Recall@1, 3 candidates",
    "lrap_full": "LRAP, all candidates",
}
"""Figure of metrics.json -> its name in a card. Other figures do not go into a card."""

OPEN_LICENCES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0")
"""Hub identifiers of licences under which derived weights may be passed on."""


@dataclass(frozen=True)
class EncoderLicence:
    """The licence of an encoder's weights.

    Attributes:
        name: Directory or Hub repository of the encoder.
        license: The Hub's licence identifier; None if no licence is declared.
        license_name: Name of the licence, if the Hub has no identifier.
        license_link: Address of the licence's text.
    """

    name: str
    license: str | None
    license_name: str | None
    license_link: str | None

    @property
    def is_open(self) -> bool:
        """Whether derived weights may be passed on, as far as this package knows."""
        return self.license in OPEN_LICENCES

    def line(self) -> str:
        """Write the licence as one item of a Markdown list."""
        terms = self.license_name or self.license or "not declared, ask its authors"
        return f"* `{self.name}`: {terms}" + (f", {self.license_link}" if self.license_link else "")


def read_encoder_licence(directory: str | Path) -> EncoderLicence:
    """Read the licence that the README.md of an encoder's directory declares.

    Raises:
        TgmmError: If there is no README.md, or if it declares no licence.
    """
    if not (Path(directory) / "README.md").is_file():
        raise TgmmError(
            str(directory), "the directory has no README.md, so the licence of the encoder is unknown. Add one."
        )
    declared = read_licence(directory)
    if declared["license"] is None:
        raise TgmmError(f"{directory}/README.md", "it declares no licence. Add `license:` to its metadata block.")
    return EncoderLicence(Path(directory).resolve().name, **declared)


def encoder_licences(directory: Path, config: Mapping[str, Any]) -> list[EncoderLicence]:
    """List the licences of the encoders in the configuration, and of the view classifier beside the model.

    Args:
        directory: Directory of the saved model.
        config: Content of config.json, in which `TgmmModel.from_encoders` noted the encoders.
    """
    licences = [
        EncoderLicence(source["source"], source["license"], source["license_name"], source["license_link"])
        for source in (config.get("encoder_sources") or {}).values()
    ]
    if (directory / SUBFOLDER).is_dir():
        licences.append(EncoderLicence(SUBFOLDER, **read_licence(directory / SUBFOLDER)))
    return licences


def model_card(
    repo_id: str,
    *,
    config: Mapping[str, Any],
    run: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    licences: Sequence[EncoderLicence],
) -> str:
    """Write README.md of a model repository, metadata block first.

    Args:
        repo_id: "owner/name".
        config: Content of config.json.
        run: Content of run.json (`tgmm train`), if it exists.
        metrics: Content of metrics.json (`tgmm evaluate`), if it exists.
        licences: Licences of the pretrained encoders from which the training started.
    """
    data = ModelCardData(
        license=_identifier(licences, run),
        license_name="encoder-licences" if licences else None,
        license_link="#licence" if licences else None,
        library_name="transformers",
        pipeline_tag="other",
        tags=["cardiology", "ecg", "echocardiography", "multimodal", "tgmm"],
        model_name=repo_id.split("/")[-1],
        eval_results=evaluation_results(metrics) or None if metrics else None,
    )
    sections = [
        f"---\n{data.to_yaml()}\n---",
        f"# {repo_id.split('/')[-1]}",
        "TGMM ([arXiv 2508.13072](https://arxiv.org/abs/2508.13072)): laboratory tests, a 12-lead ECG and an "
        "echocardiogram of one patient, any of them missing, read together. Saved by tgmm-hf.",
        "**Research software. Not a medical device: nothing it prints may guide the care of a patient.**",
        _usage(repo_id),
        _tasks(config["tasks"]),
        _training(run),
        _results(metrics),
        *_subgroups(metrics),
        _LIMITS,
        _licence(licences, run),
        f"## Cite\n\n```bibtex\n{CITATION}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def evaluation_results(metrics: Mapping[str, Any]) -> list[EvalResult]:
    """Build the `model-index` entries: one for each task, modality combination and figure, with interval and n."""
    results = []
    for task, combination, entry in _entries(metrics):
        for figure, title in FIGURES.items():
            if entry.get(figure) is None:
                continue
            interval = entry.get(f"{figure}_ci")
            results.append(
                EvalResult(
                    task_type="other",
                    task_name=f"{task} from {combination}",
                    dataset_type="tgmm-cohort",
                    dataset_name=_dataset_name(metrics),
                    dataset_config=combination,
                    dataset_split=metrics.get("split"),
                    dataset_revision=metrics.get("data_hash"),
                    metric_type=figure,
                    metric_name=title if interval is None else f"{title} (95 % CI {_interval(interval)})",
                    metric_value=round(entry[figure], 4),
                    metric_args={"confidence_interval": interval, "n": entry["n"]},
                )
            )
    return results


def cohort_card(repo_id: str, bayes: Mapping[str, Any]) -> str:
    """Write README.md of a synthetic cohort; `bayes` is the content of its bayes.json."""
    data = DatasetCardData(
        license="apache-2.0",
        pretty_name=repo_id.split("/")[-1],
        tags=["synthetic", "cardiology", "ecg", "echocardiography", "tgmm"],
    )
    best = bayes["population"]["hf_diagnosis"]
    rows = "\n".join(f"| {name} | {figures['auc']:.3f} |" for name, figures in best.items())
    return f"""\
---
{data.to_yaml()}
---

# {repo_id.split("/")[-1]}

**Every patient is invented.** A cohort in the file formats of MIMIC-IV (laboratory tables), MIMIC-IV-ECG (WFDB) and
MIMIC-IV-ECHO (DICOM), written by `tgmm synth` of tgmm-hf to try the software without credentialed data. Figures on it
are no clinical evidence.

* `cohort.parquet`: one row for each admission, with the paths of its files, outcomes and split; input of `tgmm prepare`
* `views.csv`: the view of every echo clip
* `truth.parquet`, `bayes.json`: the values that the generator drew, and the best figures that any model can reach

| modalities | best reachable AUC of the diagnosis |
|---|---|
{rows}

```bash
tgmm prepare DOWNLOADED_DIRECTORY --out data
```
"""


def _entries(metrics: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """List (task, modality combination or direction, figures) of every scored entry of metrics.json."""
    return [
        (task, combination, entry)
        for task, by_combination in metrics.items()
        if isinstance(by_combination, Mapping)
        for combination, entry in by_combination.items()
        if isinstance(entry, Mapping) and entry.get("n") and any(figure in entry for figure in FIGURES)
    ]


def _dataset_name(metrics: Mapping[str, Any]) -> str:
    """Name the data that the figures are of; synthetic patients are named as such."""
    return f"{Path(metrics.get('data', 'cohort')).name}{' (synthetic patients)' if metrics.get('synthetic') else ''}"


def _interval(bounds: Sequence[float]) -> str:
    """Write an interval as text."""
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _usage(repo_id: str) -> str:
    """Write the section on use."""
    return f"""\
## Use

```python
from transformers import pipeline

# trust_remote_code runs the code of this repository: read it first, and pin what you have read with revision=
analyse = pipeline("cardiac-analysis", model="{repo_id}", trust_remote_code=True)
print(analyse({{"labs": {{"NTproBNP": 5210, "age": 71}}, "ecg": "record", "echo": "study/"}}))
```

Intended use: research on multimodal models and on their failures. Out of scope: diagnosis, triage, treatment, any
decision about a person."""


def _tasks(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the section on tasks: kind, question and candidates."""
    lines = [
        f"* `{name}` ({task['kind']}): {task['question']}"
        + (f" Answers: {', '.join(task['candidates'])}." if task.get("candidates") else "")
        for name, task in tasks.items()
    ]
    return "## Tasks\n\n" + "\n".join(lines)


def _training(run: Mapping[str, Any] | None) -> str:
    """Write the section on training."""
    if run is None:
        return "## Training\n\nThis model came without the run.json of its training."
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return (
        "## Training\n\n"
        f"* Data: SHA-256 `{run['data_hash']}` of the prepared rows (`tgmm prepare`)\n"
        f"* {run['parameters']:,} parameters, {run['epochs']:g} epochs, seed {run['seed']}\n"
        f"* {versions}"
    )


def _results(metrics: Mapping[str, Any] | None) -> str:
    """Write the section on results: a table of figures, thresholds and warnings."""
    if metrics is None:
        return "## Results\n\nNone were given with this model."
    lines = [
        f"Split `{metrics.get('split')}` of {_dataset_name(metrics)}, data SHA-256 `{metrics.get('data_hash')}`. 95 % "
        "percentile bootstrap intervals over patients; they do not cover the training seed.",
        "",
        "| task | from | figure | value | 95 % interval | n |",
        "|---|---|---|---|---|---|",
    ]
    for task, combination, entry in _entries(metrics):
        for figure, title in FIGURES.items():
            if entry.get(figure) is not None:
                interval = entry.get(f"{figure}_ci")
                shown = _interval(interval) if interval else "none"
                lines.append(f"| {task} | {combination} | {title} | {entry[figure]:.3f} | {shown} | {entry['n']} |")
    for task, combination, entry in _entries(metrics):
        if "threshold" in entry and combination == "labs+ecg+echo":
            point = entry["threshold"]
            chosen = f"{point['rule']}, chosen on {point['chosen_on']}."
            lines += ["", f"{task}, threshold {text_threshold(entry)}: {chosen}"]
    warnings = [f"\n> {warning}" for warning in metrics.get("warnings", [])]
    return "## Results\n\n" + "\n".join([*lines, *warnings])


def _subgroups(metrics: Mapping[str, Any] | None) -> list[str]:
    """Write figures by sex, age, ethnicity and missingness; small groups without numbers, which might name people."""
    if metrics is None or not any(metrics.get("subgroups", {}).values()):
        return []
    lines = [
        "## Subgroups",
        "",
        f"Each patient is scored once, on all modalities that the patient has. Groups under {SMALLEST_GROUP} are not "
        "scored. If only one group of a kind is that small, the next smallest group is not shown either, because the "
        "small number would follow from it by subtraction.",
    ]
    for task, entries in metrics["subgroups"].items():
        figure = "auc" if "auc" in entries[0] else "c_index"
        cases = "positives" if figure == "auc" else "events"
        further = ("sensitivity", "specificity") if figure == "auc" else ()
        header = [task, "group", "n", cases, FIGURES[figure], *further]
        lines += ["", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
        hidden = hidden_groups(entries, SMALLEST_GROUP)
        for entry in entries:
            cells = [TITLES.get(entry["grouping"], "all"), entry["group"]]
            if entry["group"] in hidden.get(entry["grouping"], ()):
                cells += ["not shown", "", "not shown", *("" for _ in further)]
            elif entry["n"] < SMALLEST_GROUP:
                cells += [f"< {SMALLEST_GROUP}", "", "not scored", *("" for _ in further)]
            elif entry[figure] is None:
                reason = f"not scored: {entry[f'{figure}_missing'].removeprefix('not scored, ')}"
                cells += [str(entry["n"]), str(entry[cases]), reason, *("" for _ in further)]
            else:
                figures = (text_estimate(entry, name) for name in (figure, *further))
                cells += [str(entry["n"]), str(entry[cases]), *figures]
            lines.append(f"| {' | '.join(cells)} |")
    return ["\n".join(lines)]


_LIMITS = """\
## Limits

* Never validated on patients; figures on synthetic patients test the software and say nothing about medicine.
* It answers for the population it was trained on. Prevalence, devices, units and views of another hospital differ.
* Probabilities are not calibrated unless the results above say so. A missing modality changes what an answer rests on.
* It learned from hospital data and repeats their gaps: who was tested, who was not tested, and why."""


def _identifier(licences: Sequence[EncoderLicence], run: Mapping[str, Any] | None) -> str:
    """Name the Hub's licence identifier of the weights."""
    if licences:
        return "other"
    return "apache-2.0" if run is not None and run["run"]["model"]["checkpoint"] is None else "unknown"


def _licence(licences: Sequence[EncoderLicence], run: Mapping[str, Any] | None) -> str:
    """Write the section on the licences of code and weights."""
    code = "## Licence\n\nThe code is Apache-2.0."
    if licences:
        return (
            f"{code} The weights were trained from these encoders, whose terms bind the weights too:\n\n"
            + "\n".join(licence.line() for licence in licences)
        )
    if run is not None and run["run"]["model"]["checkpoint"] is None:
        return f"{code} The training started from random weights."
    return (
        f"{code} It was not declared whether the weights come from pretrained encoders. Ask the owner before you use "
        "the weights."
    )
