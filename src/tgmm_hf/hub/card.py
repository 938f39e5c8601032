"""Model and dataset cards: what a reader of the Hub page must know before using the model or the data."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData, ModelCardData

from tgmm_hf.hub.card_results import evaluation_results, results_section, subgroup_section
from tgmm_hf.inputs.echo_views import SUBFOLDER
from tgmm_hf.inputs.lab_columns import COLUMNS
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.model_licences import read_licence

CITATION = """\
@article{zhang2025tgmm,
  title   = {A Language-Signal-Vision Multimodal Framework for Multitask Cardiac Analysis},
  author  = {Zhang, Yuting and Geng, Tiantian and Hao, Luoying and others},
  journal = {arXiv preprint arXiv:2508.13072},
  year    = {2025}
}"""

NEEDED_PACKAGES = ("torch", "transformers", "scipy", "wfdb", "pydicom", "opencv-python-headless")
"""Packages that the code of a saved model imports, for all inputs."""

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
        """Whether weights that are derived from the encoder may be passed on, as far as this package knows."""
        return self.license in OPEN_LICENCES

    def line(self) -> str:
        """Return one item of a Markdown list: name, licence and address of its text."""
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
    """List the licences of the pretrained parts of a saved model: its encoders, and the view classifier beside it.

    Args:
        directory: Directory of the saved model.
        config: Content of config.json. `encoder_sources` names the encoders that the model was made from.
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
    columns: Sequence[str] | None = None,
) -> str:
    """Return the README.md of a model repository, metadata block first.

    Args:
        repo_id: "owner/name".
        config: Content of config.json.
        run: Content of run.json (`tgmm train`); None without it.
        metrics: Content of metrics.json (`tgmm evaluate`); None without it.
        licences: Licences of the pretrained encoders from which the training started.
        columns: Laboratory columns that the model was trained with (`labs_columns` of the processor). None stands for
            the known columns.
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
        _inputs(columns),
        _tasks(config["tasks"]),
        _training(run),
        results_section(metrics),
        *subgroup_section(metrics),
        _LIMITS,
        _licence(licences, run),
        f"## Cite\n\n```bibtex\n{CITATION}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def cohort_card(repo_id: str, bayes: Mapping[str, Any]) -> str:
    """Return the README.md of a synthetic cohort.

    Args:
        repo_id: "owner/name".
        bayes: Content of the cohort's bayes.json.
    """
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

| subset | best reachable AUC of the diagnosis |
|---|---|
{rows}

```bash
tgmm prepare DOWNLOADED_DIRECTORY --out data
```
"""


def _usage(repo_id: str) -> str:
    """Return the Markdown section on use."""
    return f"""\
## Use

```bash
pip install {needed_packages()}
```

```python
from transformers import pipeline

# trust_remote_code runs the code of this repository: read it first, and pin what you have read with revision=
analyse = pipeline("cardiac-analysis", model="{repo_id}", trust_remote_code=True)
print(analyse({{"labs": {{"NTproBNP": (5210, "pg/mL"), "age": 71}}, "ecg": "recording", "echo": "study/"}}))
```

Intended use: research on multimodal models and on their failures. Out of scope: diagnosis, triage, treatment, any
decision about a person."""


def needed_packages(names: Sequence[str] = NEEDED_PACKAGES) -> str:
    """Return packages that the code of a saved model imports, with their lowest versions, for `pip install`."""
    try:
        required = [re.split("[;]", text)[0].strip() for text in requires("tgmm-hf") or [] if "extra ==" not in text]
    except PackageNotFoundError:
        required = []
    versions = {re.split("[^A-Za-z0-9_.-]", text)[0]: text.replace(" ", "") for text in required}
    return " ".join(f'"{versions[name]}"' if name in versions else name for name in names)


def _inputs(columns: Sequence[str] | None) -> str:
    """Return the Markdown section on inputs: the laboratory columns with their units, ECG and echo."""
    column_by_name = {column.name: column for column in COLUMNS}
    lines = [
        "## Inputs",
        "",
        "Any of the three modalities may be missing. ECG: a 12-lead recording as a file, or an array in millivolts. "
        "Echo: a directory of clips with their views. Labs: the columns below. Give a value with its unit, "
        '`(1.4, "mg/dL")`. A value without a unit is not used if patients have it in two units, unless it is normal '
        'in the unit of the table; `units="US"` says that such values are in the unit of the table. A cell of another '
        "column is not used.",
        "",
        "| column | unit | other units |",
        "|---|---|---|",
    ]
    own_last = sorted(columns or (), key=lambda name: (name not in column_by_name, name.casefold()))
    for name in column_by_name if columns is None else own_last:
        column = column_by_name.get(name)
        unit, factors = ("as in the training data", {}) if column is None else (column.unit, column.factors)
        lines.append(f"| {name} | {unit} | {', '.join(factors)} |")
    return "\n".join(lines)


def _tasks(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the Markdown section on tasks: kind, question and answers. `tasks` is `TgmmConfig.tasks`."""
    lines = [
        f"* `{name}` ({task['kind']}): {task['question']}"
        + (f" Answers: {', '.join(task['candidates'])}." if task.get("candidates") else "")
        + (f" Findings: {', '.join(task['findings'])}." if task.get("findings") else "")
        + (f" Unit {task['unit']}, range {task['range'][0]:g} to {task['range'][1]:g}." if task.get("unit") else "")
        for name, task in tasks.items()
    ]
    return "## Tasks\n\n" + "\n".join(lines)


def _training(run: Mapping[str, Any] | None) -> str:
    """Return the Markdown section on training. `run` is the content of run.json, None without it."""
    if run is None:
        return "## Training\n\nThis model came without the run.json of its training."
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return (
        "## Training\n\n"
        f"* Data: SHA-256 `{run['data_hash']}` of the prepared rows (`tgmm prepare`)\n"
        f"* {run['parameters']:,} parameters, {run['epochs']:g} epochs, seed {run['seed']}\n"
        f"* {versions}"
    )


_LIMITS = """\
## Limits

* Never validated on patients; figures on synthetic patients test the software and say nothing about medicine.
* It answers for the population it was trained on. Prevalence, devices, units and views of another hospital differ.
* Probabilities are not calibrated unless the results above say so. A missing modality changes what an answer rests on.
* It learned from hospital data and repeats their gaps: who was tested, who was not tested, and why."""


def _identifier(licences: Sequence[EncoderLicence], run: Mapping[str, Any] | None) -> str:
    """Return the Hub's licence identifier of the weights.

    It is "other" with pretrained encoders, "apache-2.0" after a training from random weights, else "unknown".
    """
    if licences:
        return "other"
    return "apache-2.0" if run is not None and run["run"]["model"]["checkpoint"] is None else "unknown"


def _licence(licences: Sequence[EncoderLicence], run: Mapping[str, Any] | None) -> str:
    """Return the Markdown section on the licences of code and weights.

    `licences` are those of the pretrained encoders, `run` is the content of run.json or None.
    """
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
