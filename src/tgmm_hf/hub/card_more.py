"""Model card of a MoRE model: what a reader of the Hub page must know."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData

from tgmm_hf.evaluation.more_tables import more_card_section
from tgmm_hf.families.more.modeling_more_classification import MoreForClassification
from tgmm_hf.hub.card import EncoderLicence, needed_packages
from tgmm_hf.hub.card_reporter import licence_sentence
from tgmm_hf.hub.weight_sources import SOURCES

PACKAGES = ("torch", "transformers", "scipy", "wfdb", "pydicom", "opencv-python-headless")
NO_RESULTS = """\
## Results

None were given with this model. Nothing is known of how well it finds or names anything."""


def more_card(
    repo_id: str,
    *,
    config: Mapping[str, Any],
    licences: Sequence[EncoderLicence],
    metrics: Mapping[str, Any] | None = None,
) -> str:
    """Return the README.md of the repository of a MoRE model, metadata block first.

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
        tags=["cardiology", "ecg", "chest-x-ray", "contrastive", "tgmm"],
        model_name=name,
    )
    return f"""\
---
{data.to_yaml()}
---

# {name}

MoRE ([arXiv 2410.16239](https://arxiv.org/abs/2410.16239)): chest X-rays, 12-lead ECGs and notes become vectors of one
space. The training brings the vectors of one patient close together. Saved by tgmm-hf.

**Research software. Not a medical device: nothing it prints may guide the care of a patient.**

{_parts(config)}

## Use

```bash
pip install {needed_packages(PACKAGES)}
```

```python
{_use(repo_id, config)}
```

Intended use: research on models that compare X-rays, ECGs and notes, and on their failures. Out of scope: diagnosis,
triage, treatment, any decision about a person.

{NO_RESULTS if metrics is None else more_card_section(metrics)}

## Limits

* Near in the space of the model is no diagnosis. A zero-shot score compares the given labels with each other and is no
  probability of a finding. One label comes first even where none is right.
* X-rays are PA or AP. An X-ray that is mirrored, upside down or no chest, without a word in its header, is not found.
* ECGs need all twelve leads and 10 s. The ratios of the leads' sizes are lost, as published.

## Licence

The code is Apache-2.0. {licence_sentence(licences)}

## Cite

```bibtex
{SOURCES["more"].citation}
```
"""


def _use(repo_id: str, config: Mapping[str, Any]) -> str:
    """Write the lines of Python that use a model."""
    if MoreForClassification.__name__ in (config.get("architectures") or ()):
        findings = ", ".join(config["id2label"].values())
        return f"""\
from transformers import AutoModelForImageClassification, AutoProcessor

# trust_remote_code runs the code of this repository: read it first, and pin what you have read with revision=
model = AutoModelForImageClassification.from_pretrained("{repo_id}", trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained("{repo_id}", trust_remote_code=True)
inputs = processor(xray="chest.dcm", ecg="recording", return_tensors="pt")  # either may be left out
print(model(**inputs).logits.sigmoid())  # {findings}"""
    return f"""\
from transformers import AutoModel, AutoProcessor, pipeline

# trust_remote_code runs the code of this repository: read it first, and pin what you have read with revision=
name_ecg = pipeline("zero-shot-ecg-classification", model="{repo_id}", trust_remote_code=True)
print(name_ecg("recording", candidate_labels=["normal ECG", "atrial fibrillation"]))
name_xray = pipeline("zero-shot-xray-classification", model="{repo_id}", trust_remote_code=True)
print(name_xray("chest.dcm", candidate_labels=["pleural effusion", "clear lungs"]))

model = AutoModel.from_pretrained("{repo_id}", trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained("{repo_id}", trust_remote_code=True)
vectors = model(**processor(xray="chest.dcm", ecg="recording", return_tensors="pt"))"""


def _parts(config: Mapping[str, Any]) -> str:
    """List the parts of a MoRE model."""
    xray, ecg, text = config["xray_config"], config["ecg_config"], config["text_config"]
    mean = "all places, padding too" if config["mean_over_padding"] else "the tokens"
    size = xray["image_size"]
    return f"""\
* X-ray encoder: vision transformer, {xray["num_hidden_layers"]} blocks, {size} x {size} pixels
* ECG encoder: transformer, {ecg["num_hidden_layers"]} blocks, {ecg["seq_length"]} samples
* text encoder: {text["model_type"]}, mean over {mean}; shared space of {config["projection_dim"]} numbers"""
