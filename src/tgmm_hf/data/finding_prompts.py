"""Prompts of findings from a JSON file, for zero-shot figures and maps of MoRE.

    {"edema": "pulmonary edema",
     "cardiomegaly": ["cardiomegaly", "a large heart"],
     "effusion": {"prompts": ["pleural effusion"], "against": ["no pleural effusion"]}}

The score of a finding is the largest cosine with its prompts. If it has texts against it, their mean cosine is
subtracted. The difference cancels what prompt and denial have in common, which is nearly all of their words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tgmm_hf.families.more.zero_shot_prompts import label_prompts
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json

KEYS = ("prompts", "against")
FORM = 'finding -> prompt, list of prompts, or {"prompts": ..., "against": ...}'


@dataclass(frozen=True)
class FindingPrompts:
    """The texts that stand for findings.

    Attributes:
        prompts: finding -> its prompts.
        against: finding -> texts that deny it. A finding without such texts is not a key.
    """

    prompts: dict[str, list[str]] = field(default_factory=dict)
    against: dict[str, list[str]] = field(default_factory=dict)

    def as_file(self) -> dict[str, Any]:
        """Return the texts in the form of the file."""
        return {
            finding: {"prompts": texts, "against": self.against[finding]} if finding in self.against else texts
            for finding, texts in self.prompts.items()
        }


def read_finding_prompts(path: str | Path) -> FindingPrompts:
    """Read the prompts of a JSON file.

    Raises:
        TgmmError: If the file cannot be used.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise TgmmError(str(path), f"must hold an object: {FORM}.")
    prompts, against = {}, {}
    for finding, entry in content.items():
        prompts[finding] = entry
        if isinstance(entry, dict):
            if "prompts" not in entry or (unknown := set(entry) - set(KEYS)):
                wrong = f"the unknown keys {sorted(unknown)}" if "prompts" in entry else "no prompts"
                raise TgmmError(str(path), f"{finding!r} has {wrong}. The form is {FORM}.")
            prompts[finding] = entry["prompts"]
            if "against" in entry:
                against[finding] = entry["against"]
    try:
        return FindingPrompts(label_prompts(prompts), label_prompts(against) if against else {})
    except (TypeError, ValueError) as error:
        raise TgmmError(str(path), str(error)) from error


def prompts_of_columns(path: str | Path | None, findings: Sequence[str]) -> FindingPrompts:
    """Return the prompts of the findings that a table has labels of.

    Args:
        path: JSON file as above. None, and a finding that it does not name, takes the name of the finding, with spaces
            in the place of underscores.
        findings: The findings.

    Raises:
        TgmmError: If the file cannot be used, or names a finding without a column.
    """
    read = FindingPrompts() if path is None else read_finding_prompts(path)
    if unknown := sorted(set(read.prompts) - set(findings)):
        raise TgmmError(
            str(path), f"the table has no column {', '.join(f'label_{name}' for name in unknown[:5])}. Add the labels."
        )
    prompts = {name: read.prompts.get(name, [name.replace("_", " ")]) for name in findings}
    return FindingPrompts(prompts, {name: read.against[name] for name in findings if name in read.against})
