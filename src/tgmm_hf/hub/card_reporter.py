"""Model card of a model that answers in words, MEIT or Heartcare: what a reader of the Hub page must know."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData

from tgmm_hf.evaluation.bench_tables import bench_section
from tgmm_hf.evaluation.evaluate_bench import BENCH_FAMILY
from tgmm_hf.evaluation.reporter_tables import card_section
from tgmm_hf.hub.card import EncoderLicence, needed_packages
from tgmm_hf.hub.weight_sources import SOURCES

FUSIONS = {
    "prefix": "as keys and values of every layer, before the text (the paper's way)",
    "tokens": "in place of placeholder tokens in the text",
    "cross_attention": "through added layers in which the text attends to them",
}
"""Fusion -> how the ECG vectors enter the language model, in words."""
NO_RESULTS = """\
## Results

None were given with this model. Nothing is known of how often it is right."""
PACKAGES = ("torch", "transformers", "scipy", "wfdb", "pydicom")
MEIT = """\
MEIT ([arXiv 2403.04945](https://arxiv.org/abs/2403.04945)): a language model that writes a report about a 12-lead ECG.
Saved by tgmm-hf."""
HEARTCARE = """\
Heartcare ([arXiv 2506.05831](https://arxiv.org/abs/2506.05831)): a language model that reads a 12-lead ECG as codes and
as a picture, and answers questions about it. Saved by tgmm-hf."""
MEIT_USE = """\
report = pipeline("ecg-report", model="{repo_id}", trust_remote_code=True)
print(report({{"ecg": "recording"}}))"""
HEARTCARE_USE = """\
ask = pipeline("ecg-question", model="{repo_id}", trust_remote_code=True)
print(ask({{"ecg": "recording", "question": "Which rhythm does this ECG show?"}}))
print(ask({{"image": "photo.jpg", "question": "Which rhythm does this ECG show?"}}))"""
MEIT_NEEDS = "It needs all twelve leads and 10 s. An ECG that lacks a lead is refused."
HEARTCARE_NEEDS = """\
A recording needs all twelve leads. One that lacks a lead is refused. Whether a picture of your own shows an ECG is not
  checked."""


def reporter_card(
    repo_id: str,
    *,
    config: Mapping[str, Any],
    licences: Sequence[EncoderLicence],
    metrics: Mapping[str, Any] | None = None,
) -> str:
    """Return the README.md of the repository of a MEIT or Heartcare model, metadata block first.

    Args:
        repo_id: "owner/name".
        config: Content of config.json.
        licences: Licences of the parts that the model was made from.
        metrics: Content of metrics.json (`tgmm evaluate`); None without it.
    """
    name = repo_id.split("/")[-1]
    data = ModelCardData(
        license="other" if licences else "unknown",
        license_name="licences-of-the-parts" if licences else None,
        license_link="#licence" if licences else None,
        library_name="transformers",
        pipeline_tag="other",
        tags=["cardiology", "ecg", "report-generation", "tgmm"],
        model_name=name,
    )
    results = NO_RESULTS if metrics is None else _results(metrics)
    is_meit = config["model_type"] == "meit"
    use = (MEIT_USE if is_meit else HEARTCARE_USE).format(repo_id=repo_id)
    return f"""\
---
{data.to_yaml()}
---

# {name}

{MEIT if is_meit else HEARTCARE}

**Research software. Not a medical device: nothing it prints may guide the care of a patient.**

{_meit_parts(config) if is_meit else _heartcare_parts(config)}

## Use

```bash
pip install {needed_packages(PACKAGES)}
```

```python
from transformers import pipeline

# trust_remote_code runs the code of this repository: read it first, and pin what you have read with revision=
{use}
```

Intended use: research on models that write about ECGs, and on their failures. Out of scope: diagnosis, triage,
treatment, any decision about a person.

{results}

## Limits

* A language model writes fluent sentences, true or not. It can name findings that the ECG does not show.
* {MEIT_NEEDS if is_meit else HEARTCARE_NEEDS}

## Licence

The code is Apache-2.0. {licence_sentence(licences)}

## Cite

```bibtex
{SOURCES["meit" if is_meit else "beat"].citation}
```
"""


def _results(metrics: Mapping[str, Any]) -> str:
    """Write the figures of an instruction file or of a bench file."""
    return bench_section(metrics) if metrics["family"] == BENCH_FAMILY else card_section(metrics)


def licence_sentence(licences: Sequence[EncoderLicence]) -> str:
    """Write which terms bind the weights."""
    if not licences:
        return "It was not declared where the weights come from. Ask the owner before you use them."
    terms = "\n".join(licence.line() for licence in licences)
    return f"The weights come from these parts, whose terms bind the weights too:\n\n{terms}"


def _meit_parts(config: Mapping[str, Any]) -> str:
    """List the parts of a MEIT model."""
    return f"""\
* ECG encoder: {config["ecg_config"]["model_type"]}; language model: {config["text_config"]["model_type"]}
* The {config["num_ecg_vectors"]} ECG vector(s) enter the language model {FUSIONS[config["fusion"]]}."""


def _heartcare_parts(config: Mapping[str, Any]) -> str:
    """List the parts of a Heartcare model."""
    beat, vision = config["beat_config"], config["vision_config"]
    enters = "quantised latents" if config["ecg_input"] == "latents" else "codes, as words of the language model"
    return f"""\
* ECG: Beat, windows of {beat["seq_length"]} samples, {beat["num_levels"]} levels of {beat["codebook_size"]} codes; what
  enters the language model are its {enters}
* picture: a SigLIP tower, {vision["image_size"]} x {vision["image_size"]} pixels; language model:
  {config["text_config"]["model_type"]}"""
