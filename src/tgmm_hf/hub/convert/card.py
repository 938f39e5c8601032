"""README.md of a converted directory: where the weights come from, under which terms, and how to load them."""

from datetime import UTC, datetime
from pathlib import Path

from tgmm_hf.hub.convert.encoders import Converted
from tgmm_hf.hub.weight_sources import Source
from tgmm_hf.utils.digests import file_digest


def model_card(kind: str, source: Source, checkpoint: Path, converted: Converted) -> str:
    """Write the model card as Markdown, with the Hub's metadata block first."""
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
  {sum(p.numel() for p in converted.model.parameters()):,} parameters; the numbers are unchanged
* Left out: {dropped}

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


def _license_metadata(source: Source) -> str:
    """Write the licence of the metadata block; the Hub wants name and link only if it has no identifier."""
    if source.license != "other":
        return f"license: {source.license}"
    return f"license: other\nlicense_name: {source.license_name}\nlicense_link: {source.license_link}"


def _usage(class_name: str) -> str:
    """Write the lines of Python that load the directory."""
    if class_name == "ConvNextForImageClassification":
        return "from transformers import AutoModelForImageClassification\n\nmodel = " + (
            'AutoModelForImageClassification.from_pretrained("THIS_DIRECTORY")'
        )
    return "from transformers import AutoModel\n\nmodel = " + (
        'AutoModel.from_pretrained("THIS_DIRECTORY", trust_remote_code=True)'
    )
