"""Write docs/cli.md (every command), docs/settings.md (every setting of the YAML files) and docs/lab_columns.md.

    python scripts/write_reference.py

The texts come from the commands in `tgmm_hf.cli`, from the docstrings of the classes that read the YAML files, and from
`tgmm_hf.inputs.lab_table`. Run this script after a change of one of them. A test compares the pages.
"""

import dataclasses
import enum
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import typer
from typer.models import ArgumentInfo, ParameterInfo

from tgmm_hf.cli.application import COMMANDS, OLD_NAMES
from tgmm_hf.experiments.grid_plan import GridPlan
from tgmm_hf.experiments.search_plan import SearchPlan
from tgmm_hf.inputs.lab_cells import format_number
from tgmm_hf.inputs.lab_table import ALIAS_FACTORS, COLUMNS, LabColumn, Range
from tgmm_hf.training.arguments import RunArguments
from tgmm_hf.training.beat_arguments import BeatRunArguments
from tgmm_hf.training.heartcare_arguments import HeartcareRunArguments
from tgmm_hf.training.more_arguments import MoreRunArguments
from tgmm_hf.training.more_findings_arguments import MoreFindingsRunArguments
from tgmm_hf.training.pretraining_arguments import PretrainArguments
from tgmm_hf.training.reporter_arguments import ReporterRunArguments

DOCS = Path(__file__).resolve().parents[1] / "docs"
SETTINGS: dict[str, type] = {
    "tgmm train": RunArguments,
    "tgmm train, family: meit": ReporterRunArguments,
    "tgmm train and tgmm pretrain, family: beat": BeatRunArguments,
    "tgmm train, family: heartcare": HeartcareRunArguments,
    "tgmm train, family: more": MoreRunArguments,
    "tgmm train, family: more, objective: findings": MoreFindingsRunArguments,
    "tgmm pretrain": PretrainArguments,
    "tgmm reproduce": GridPlan,
    "tgmm search": SearchPlan,
}
"""Command -> class that reads its YAML file."""

CLI_HEAD = """# Commands

Every command, with its arguments, options and defaults. `tgmm COMMAND --help` prints the same.

Exit codes: 0 done; 1 the work failed, with the reasons printed; 2 the command line was wrong. `TGMM_DEBUG=1` shows the
traceback of an error. `tgmm --version` prints the version. `tgmm --install-completion` makes the shell complete
commands and options.

Do not edit this page: `python scripts/write_reference.py` writes it from the code.
"""
SETTINGS_HEAD = """# Settings

Every key of the YAML files, with its default. `--set section.key=value` replaces a setting of `tgmm train` and of
`tgmm pretrain`. Unknown keys and wrong types are refused by name. The keys of `model.overrides` are the arguments of
`TgmmConfig`.

Do not edit this page: `python scripts/write_reference.py` writes it from the docstrings.
"""
LABS_HEAD = """# Laboratory columns

Every known column, in the order of the text. [Your data](your_data.md#laboratory-cells) has the rules.

* **usual**: what hospitals report of adults, sick patients included. It decides whether a number without a unit is in
  doubt. A value outside is used and named (`labs_unusual_value`).
* **possible**: a value outside is refused.
* **reference range**: for `labs_flags`; adult ranges of one laboratory.
* **units SI**: the units that `--units SI` stands for. `--units US` stands for the canonical unit.

Do not edit this page: `python scripts/write_reference.py` writes it from `src/tgmm_hf/inputs/lab_table.py`, which also
names the sources.

| column | unit | usual | possible | reference range | other units | units SI | other names |
|---|---|---|---|---|---|---|---|
"""
TYPE_NAMES = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    Path: "path",
    type(None): "null",
    Any: "any",
    dict: "mapping",
    list: "list",
}


def labs_page() -> str:
    """Write the page of the laboratory columns."""
    return LABS_HEAD + "".join(f"| {' | '.join(labs_line(column))} |\n" for column in COLUMNS)


def labs_line(column: LabColumn) -> list[str]:
    """Write the cells of one laboratory column."""
    names = [*column.aliases, *(alias for alias, (name, _) in ALIAS_FACTORS.items() if name == column.name)]
    if not column.is_number:
        return [column.name, "text", "", "", "", "", "", ", ".join(names)]
    by_sex = column.normal if isinstance(column.normal, dict) else {"": column.normal}
    normal = ", ".join(f"{sex} {range_text(limits)}".strip() for sex, limits in by_sex.items() if limits)
    others = ", ".join(column.factors)
    return [
        *(column.name, column.unit, range_text(column.usual), range_text(column.plausible), normal, others),
        *(", ".join(column.si), ", ".join(names)),
    ]


def range_text(limits: Range | None) -> str:
    """Write a range: "0.5 to 30", or "from 40" without an upper limit."""
    low, high = limits or (0.0, 0.0)
    return f"from {format_number(low)}" if high == float("inf") else f"{format_number(low)} to {format_number(high)}"


def cli_page() -> str:
    """Write the page of all commands."""
    parts = [CLI_HEAD]
    for command in COMMANDS:
        parts += command_section(command)
    parts += ["## Old names", "", "They work until the next release, and print a notice.", ""]
    parts += [f"* `tgmm {old}` is now `tgmm {command_name(command)}`" for old, command in OLD_NAMES.items()]
    return "\n".join(parts) + "\n"


def command_section(command: Callable[..., None]) -> list[str]:
    """Write the section of one command: its docstring, its example, and a table of arguments and options."""
    text, _, example = (inspect.getdoc(command) or "").partition("Example: ")
    lines = [
        f"## `tgmm {command_name(command)}`",
        "",
        text.strip(),
        "",
        "```bash",
        " ".join(example.split()),
        "```",
        "",
    ]
    lines += ["| | value | default | meaning |", "|---|---|---|---|"]
    hints = typing.get_type_hints(command, include_extras=True)
    for parameter in inspect.signature(command).parameters.values():
        if hints[parameter.name] is not typer.Context:  # not an option: typer hands over the command line
            lines.append(option_row(parameter, hints[parameter.name]))
    return [*lines, ""]


def command_name(command: Callable[..., None]) -> str:
    """Name a command as the command line does."""
    return command.__name__.replace("_", "-")


def option_row(parameter: inspect.Parameter, hint: Any) -> str:
    """Write the row of one argument or option."""
    kind, info = typing.get_args(hint)
    name = option_name(parameter.name, info)
    needed = parameter.default is inspect.Parameter.empty
    default = "**needed**" if needed else option_default(parameter.default, info)
    return f"| `{name}` | {option_value(kind, info)} | {default} | {info.help} |"


def option_name(name: str, info: ParameterInfo) -> str:
    """Name an argument in capitals, and an option with its dashes."""
    if isinstance(info, ArgumentInfo):
        return info.metavar or name.upper()
    # Inside `Annotated`, typer keeps the first given name as `default`.
    names = [given for given in (info.default, *(info.param_decls or ())) if isinstance(given, str)]
    return (names or [f"--{name.replace('_', '-')}"])[0]


def option_value(kind: Any, info: ParameterInfo) -> str:
    """Say which values an option takes, with its bounds."""
    if kind is bool:
        return "flag"
    kind = next((part for part in typing.get_args(kind) if part is not type(None)), kind)
    if typing.get_origin(kind) is list:
        (kind,) = typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return " or ".join(f"`{member.value}`" for member in kind)
    bounds = {"at least": info.min, "at most": info.max}
    return ", ".join([TYPE_NAMES[kind], *(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)])


def option_default(default: Any, info: ParameterInfo) -> str:
    """Write the default of an option; a flag is off by default."""
    if isinstance(info.show_default, str):
        return info.show_default
    if default is False:
        return "off"
    return f"`{default.value if isinstance(default, enum.Enum) else default}`"


def settings_page() -> str:
    """Write the page of all settings."""
    parts, shown = [SETTINGS_HEAD], set[Any]()
    for command, settings in SETTINGS.items():
        parts += [f"## `{command}`", "", "| key | type | default | meaning |", "|---|---|---|---|"]
        parts += [*setting_rows(settings, shown), ""]
    return "\n".join(parts)


def setting_rows(settings: Any, shown: set[Any], prefix: str = "") -> list[str]:
    """Write a row for each key. The keys of a section follow it the first time; `shown` collects these sections."""
    texts, hints, lines = attribute_texts(settings), typing.get_type_hints(settings), []
    for field in dataclasses.fields(settings):
        hint = hints[field.name]
        name = next(names for names in texts if field.name in names.split(", "))  # "labs, ecg, echo" share a text.
        section = section_of(hint)
        text = re.sub(r",? ?see \[`\w+`\]", "", texts[name]).replace("[`~", "`").replace("`]", "`").strip(" .;:")
        kind = "section" if section else type_name(hint)
        lines.append(f"| `{prefix}{field.name}` | {kind} | {setting_default(field)} | {text or 'see the keys below'} |")
        if section and section not in shown:
            shown.add(section)
            key = ".KEY" if typing.get_origin(hint) is dict else ""
            lines += setting_rows(section, shown, f"{prefix}{field.name}{key}.")
    return lines


def attribute_texts(settings: Any) -> dict[str, str]:
    """Read name (or names, with commas) -> description from the "Attributes:" of the docstrings of a class.

    A class without a text for a setting has the text of the class that it derives from.
    """
    texts = {}
    for part in reversed(inspect.getmro(settings)):
        text = inspect.cleandoc(part.__doc__ or "").partition("Attributes:\n")[2]
        entries = re.findall(r"^ {4}([\w, ]+?): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
        texts.update({name: " ".join(content.split()) for name, content in entries})
    return texts


def section_of(hint: Any) -> Any:
    """Find the class of a nested section; None if the setting is no section."""
    return next((kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)), None)


def type_name(hint: Any) -> str:
    """Name a type in a user's words."""
    if typing.get_origin(hint) is Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(hint))
    if isinstance(hint, types.UnionType):
        return " or ".join(type_name(kind) for kind in typing.get_args(hint))
    return TYPE_NAMES[typing.get_origin(hint) or hint]


def setting_default(field: dataclasses.Field) -> str:
    """Write the value of a setting that the file leaves out."""
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        return "" if dataclasses.is_dataclass(value) else f"`{value}`"
    if field.default is dataclasses.MISSING:
        return "**needed**"
    return {"None": "null", "True": "true", "False": "false"}.get(str(field.default), f"`{field.default}`")


PAGES = {"cli.md": cli_page, "settings.md": settings_page, "lab_columns.md": labs_page}
"""File in docs/ -> function that writes its text."""

if __name__ == "__main__":
    for file_name, page in PAGES.items():
        (DOCS / file_name).write_text(page(), encoding="utf-8")
        sys.stdout.write(f"{DOCS / file_name}\n")
