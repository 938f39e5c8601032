"""README.md of a converted directory: where the weights come from, under which terms, and how to load them."""

from datetime import UTC, datetime
from pathlib import Path

from tgmm_hf.hub.convert.encoders import Converted
from tgmm_hf.hub.weight_sources import Source
from tgmm_hf.utils.digests import file_digest


def model_card(kind: str, source: Source, checkpoint: Path, converted: Converted) -> str:
    """Return the README.md of a converted directory, with the Hub's metadata block first.

    Args:
        kind: Kind of checkpoint, a key of `SOURCES`.
        source: Source of the weights.
        checkpoint: The file that was converted. Its digest goes into the card.
        converted: The result of the conversion.
    """
    config = converted.model.config
    dropped = ", ".join(f"`{name}`" for name in converted.dropped) or "nothing"
    return f"""\
---
{_license_metadata(source)}
library_name: transformers
tags:
- cardiology
- tgmm
---

# {source.title}

Converted by tgmm-hf (`tgmm convert {kind}`) from weights published by their authors. Not affiliated with them.

* Source: {source.url} ({source.files})
* File: `{checkpoint.name}`, SHA-256 `{file_digest(checkpoint)}`
* Converted: {datetime.now(UTC).date()}, to `{type(converted.model).__name__}` ({config.model_type}),
  {sum(p.numel() for p in converted.model.parameters()):,} parameters{_numbers(converted)}
* Left out: {dropped}{_settings(converted)}

## Licence

**{source.license_name}**: {source.license_link}

{source.terms}

The person who converted the weights acknowledged these terms. They bind every model that is trained from or assembled
with these weights.

## Use

```python
{_usage(type(converted.model).__name__)}
```

{source.notes}

Research only. Not a medical device.

## Cite

```bibtex
{source.citation}
```
"""


def _numbers(converted: Converted) -> str:
    """Return the words on what was changed or decided beyond names."""
    return "".join(f"\n* {change}" for change in converted.changes) or "; the numbers are unchanged"


def _settings(converted: Converted) -> str:
    """Return lines on the settings of a masked autoencoder, or "" for another model."""
    if type(converted.model).__name__ != "StMemForPreTraining":
        return ""
    config = converted.model.config
    origin = {True: "as the file says", False: "assumed, because the file does not say it"}
    values = {"norm_pix_loss": str(config.norm_pix_loss).lower(), "mask_ratio": config.mask_ratio}
    return "".join(f"\n* `{name}`: {value}, {origin[name in converted.settings]}" for name, value in values.items())


def _license_metadata(source: Source) -> str:
    """Return the licence lines of the metadata block. Name and link are included only for the licence "other"."""
    if source.license != "other":
        return f"license: {source.license}"
    return f"license: other\nlicense_name: {source.license_name}\nlicense_link: {source.license_link}"


def _usage(class_name: str) -> str:
    """Return Python lines that load the directory as a model of the class `class_name`."""
    if class_name == "ConvNextForImageClassification":
        return _lines("transformers", "AutoModelForImageClassification", "")
    encoder = _lines("transformers", "AutoModel", ", trust_remote_code=True")
    if class_name == "EchoMvitModelWithProjection":
        whole = _lines("tgmm_hf", class_name, "")
        return f"{whole}  # with the head: video_embeds\n\n{encoder}  # the encoder without the head"
    if class_name == "EcgResNetModelWithProjection":
        whole = _lines("tgmm_hf", class_name, "")
        return f"{whole}  # with the projector: ecg_embeds\n\n{encoder}  # the encoder without the projector"
    if class_name == "StMemForPreTraining":
        whole = _lines("transformers", "AutoModelForPreTraining", ", trust_remote_code=True")
        return f"{whole}  # the masked autoencoder\n\n{encoder}  # the encoder alone"
    return encoder


def _lines(package: str, class_name: str, options: str) -> str:
    """Return Python lines that import a class and load the directory with it."""
    return f'from {package} import {class_name}\n\nmodel = {class_name}.from_pretrained("THIS_DIRECTORY"{options})'
