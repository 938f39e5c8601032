"""Model card of a MEIT model: what a reader of the Hub page must know before using it."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData

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


def reporter_card(
    repo_id: str,
    *,
    config: Mapping[str, Any],
    licences: Sequence[EncoderLicence],
    metrics: Mapping[str, Any] | None = None,
) -> str:
    """Return the README.md of a MEIT model's repository, metadata block first.

    Args:
        repo_id: "owner/name".
        config: Content of config.json.
        licences: Licences of the language model and of the ECG encoder that the model was made from.
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
    results = NO_RESULTS if metrics is None else card_section(metrics)
    terms = "\n".join(licence.line() for licence in licences)
    bound = (
        f"The weights come from these parts, whose terms bind the weights too:\n\n{terms}"
        if licences
        else "It was not declared where the weights come from. Ask the owner before you use them."
    )
    return f"""\
---
{data.to_yaml()}
---

# {name}

MEIT ([arXiv 2403.04945](https://arxiv.org/abs/2403.04945)): a language model that writes a report about a 12-lead ECG.
Saved by tgmm-hf.

**Research software. Not a medical device: nothing it prints may guide the care of a patient.**

* ECG encoder: {config["ecg_config"]["model_type"]}; language model: {config["text_config"]["model_type"]}
* The {config["num_ecg_vectors"]} ECG vector(s) enter the language model {FUSIONS[config["fusion"]]}.

## Use

```bash
pip install {needed_packages(PACKAGES)}
```

```python
from transformers import pipeline

# trust_remote_code runs the code of this repository: read it first, and pin what you have read with revision=
report = pipeline("ecg-report", model="{repo_id}", trust_remote_code=True)
print(report({{"ecg": "recording"}}))
```

Intended use: research on models that write reports, and on their failures. Out of scope: diagnosis, triage, treatment,
any decision about a person.

{results}

## Limits

* A language model writes fluent sentences, true or not. It can name findings that the ECG does not show.
* It needs all twelve leads and 10 s. An ECG that lacks a lead is refused.

## Licence

The code is Apache-2.0. {bound}

## Cite

```bibtex
{SOURCES["meit"].citation}
```
"""
