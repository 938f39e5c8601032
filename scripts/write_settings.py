"""Write docs/settings.md: every setting of the YAML files, from the docstrings of the classes that read them.

    python scripts/write_settings.py

After a change of those: a test compares.
"""

import dataclasses
import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any, Literal

from tgmm_hf.experiments.grid_plan import GridPlan
from tgmm_hf.experiments.search_plan import SearchPlan
from tgmm_hf.training.arguments import RunArguments
from tgmm_hf.training.pretraining_arguments import PretrainArguments

FILE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
COMMANDS: dict[str, type] = {
    "tgmm train": RunArguments,
    "tgmm pretrain": PretrainArguments,
    "tgmm reproduce": GridPlan,
    "tgmm search": SearchPlan,
}
HEAD = """# Settings

Every key of the YAML files, with its default; `--set section.key=value` replaces one of `tgmm train` and of
`tgmm pretrain`. Unknown keys and wrong types are refused by name. What `model.overrides` takes are the arguments of
`TgmmConfig`.

Written by `python scripts/write_settings.py` from the docstrings; edit those.
"""


def settings_page() -> str:
    """The whole page."""
    parts, shown = [HEAD], set[Any]()
    for command, settings in COMMANDS.items():
        parts += [f"## `{command}`", "", "| key | type | default | |", "|---|---|---|---|", *rows(settings, shown), ""]
    return "\n".join(parts)


def rows(settings: Any, shown: set[Any], prefix: str = "") -> list[str]:
    """Lines of a table, one a key; sections are followed by their own keys, the first time."""
    said, types_of, lines = attributes(settings), typing.get_type_hints(settings), []
    for each in dataclasses.fields(settings):
        names = [name for name in said if each.name in name.split(", ")]  # "labs, ecg, echo"
        section = section_of(types_of[each.name])
        text = re.sub(r",? ?see \[`\w+`\]", "", said[names[0]]).replace("[`~", "`").replace("`]", "`")
        kind = "section" if section else type_name(types_of[each.name])
        lines.append(f"| `{prefix}{each.name}` | {kind} | {default(each)} | {text.strip(' .;:') or 'the keys below'} |")
        if section and section not in shown:
            shown.add(section)
            named = ".KEY" if typing.get_origin(types_of[each.name]) is dict else ""
            lines += rows(section, shown, f"{prefix}{each.name}{named}.")
    return lines


def attributes(settings: Any) -> dict[str, str]:
    """Name (or names, with commas) -> description, of a docstring's Attributes."""
    text = (inspect.getdoc(settings) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^ {4}([\w, ]+?): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: " ".join(content.split()) for name, content in entries}


def section_of(hint: Any) -> Any:
    """The class of a nested section, if it is one."""
    return next((kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)), None)


def type_name(hint: Any) -> str:
    """A type in a user's words."""
    if typing.get_origin(hint) is Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(hint))
    if isinstance(hint, types.UnionType):
        return " or ".join(type_name(kind) for kind in typing.get_args(hint))
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null", Any: "any"}
    return names.get(hint) or {dict: "mapping", list: "list"}[typing.get_origin(hint) or hint]


def default(each: dataclasses.Field) -> str:
    """What holds if the key is left out."""
    if each.default_factory is not dataclasses.MISSING:
        value = each.default_factory()
        return "" if dataclasses.is_dataclass(value) else f"`{value}`"
    if each.default is dataclasses.MISSING:
        return "**needed**"
    return {"None": "null", "True": "true", "False": "false"}.get(str(each.default), f"`{each.default}`")


if __name__ == "__main__":
    FILE.write_text(settings_page())
    print(FILE)
