"""Read a YAML file of settings into a checked dataclass.

`tgmm train`, `tgmm pretrain`, `tgmm reproduce` and `tgmm search` all read their files here. A key that the dataclass
does not have, and a value of the wrong type, are refused. The message gives the full name of the setting.

We do not use OmegaConf because it does not support `Literal` fields, because it would expand `${...}` in the texts of
tasks, and because its errors name Python types instead of the values that a setting may have.
"""

import types
from collections.abc import Collection, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

T = TypeVar("T")
FREE_SECTIONS = ("run.tasks.", "run.model.overrides.", "run.model.encoders.", "run.model.text_config.")
"""Beginnings of the names of settings whose keys are no fields of a dataclass."""


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read the settings of a YAML file as nested dictionaries.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not valid YAML, or its content is not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration {path}: see configs/ for examples.")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold a mapping of settings, got {type(settings).__name__}.")
    return settings


def read_settings(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read the settings of a YAML file and replace some of them.

    Args:
        path: The YAML file.
        overrides: Texts of the form "section.key=value", with the value in YAML notation.

    Returns:
        The settings as nested dictionaries.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file or an override is not valid.
    """
    settings = read_yaml(path)
    for override in overrides:
        _apply_override(settings, override)
    return settings


def parse_dataclass(cls: type[T], settings: Any) -> T:
    """Build a dataclass from nested settings.

    Args:
        cls: The dataclass. Its fields may be dataclasses themselves.
        settings: A nested dictionary, as YAML gives it.

    Raises:
        ValueError: If a key is unknown or missing, or a value has the wrong type. The message gives the full name of
            the setting, such as "optimisation.epochs".
    """
    arguments = _build(cls, settings, "")
    assert isinstance(arguments, cls)
    return arguments


def put(settings: dict[str, Any], name: str, value: Any) -> None:
    """Set one nested setting in place.

    Args:
        settings: The nested settings, changed in place. A section that does not exist is made.
        name: The name of the setting, "section.key". There may be several sections.
        value: The new value.

    Raises:
        ValueError: If a part of `name` before the last dot already holds a plain value.
    """
    *sections, key = name.split(".")
    for section in sections:
        if settings.get(section) is None:
            settings[section] = {}
        settings = settings[section]
        if not isinstance(settings, dict):
            raise ValueError(f"Cannot set {name!r}: {section!r} is not a section.")
    settings[key] = value


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one dictionary: "section.key" -> value. `prefix` is put before each name."""
    pairs: dict[str, Any] = {}
    for key, value in settings.items():
        pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return pairs


def check_above_zero(section: str, settings: Any, names: Sequence[str]) -> None:
    """Raise a ValueError if one of the named settings of a section is not above 0."""
    for name in names:
        if (value := getattr(settings, name)) <= 0:
            raise ValueError(f"{section}.{name} must be above 0, got {value}.")


def check_warmup(name: str, value: float) -> None:
    """Raise a ValueError if the warm-up is no part of all steps. transformers would read 1 and more as steps."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}. It is a part of all steps.")


def differences(before: dict[str, Any], now: dict[str, Any], may_change: Collection[str] = ()) -> list[str]:
    """List the names ("section.key") of nested settings whose values differ, sorted.

    A setting that the earlier version of the package did not know was off. It does not differ from one that is off now.
    This does not hold in sections whose keys the user names (`FREE_SECTIONS`), because a key that is left out there has
    a default, which may be on.

    Args:
        before: The earlier nested settings.
        now: The present nested settings.
        may_change: Names that are not compared.
    """
    old, new = flat(before), flat(now)
    is_new_and_off = {
        key for key, value in new.items() if key not in old and not value and not key.startswith(FREE_SECTIONS)
    }
    ignored = is_new_and_off | set(may_change)
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and key not in ignored)


def _apply_override(settings: dict[str, Any], override: str) -> None:
    """Apply the text "section.key=value" to the nested settings, in place.

    Raises:
        ValueError: If the text has not this form, or the value is not valid YAML.
    """
    name, separator, value = override.partition("=")
    if not separator or not name:
        raise ValueError(f"A setting is given as section.key=value, got {override!r}.")
    try:
        put(settings, name, yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise ValueError(f"The value of {name} is not valid YAML: {value!r}.") from error


def _build(cls: type, settings: Any, where: str) -> Any:
    """Build the dataclass `cls` from `settings`, see `parse_dataclass`.

    `where` is the name of its section with a dot at the end, or "" at the top, for error messages.
    """
    if not isinstance(settings, dict):
        raise ValueError(f"{where.rstrip('.')} must be a mapping of settings, got {settings!r}.")
    hints = get_type_hints(cls)
    if unknown := [f"{where}{key}" for key in settings if key not in hints]:
        raise ValueError(
            f"Unknown settings: {', '.join(unknown)}. Known here: {', '.join(where + key for key in hints)}."
        )
    required = [field.name for field in fields(cls) if _is_required(field)]
    if missing := [f"{where}{key}" for key in required if key not in settings]:
        raise ValueError(f"Missing settings: {', '.join(missing)}.")
    return cls(**{key: _checked(hints[key], value, f"{where}{key}") for key, value in settings.items()})


def _is_required(field: Field) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _checked(hint: Any, value: Any, name: str) -> Any:
    """Check a value against its type hint, and return it, converted if YAML reads it as another type.

    `name` is the full name of the setting, for error messages.

    Raises:
        ValueError: If the value does not fit.
    """
    origin, choices = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _build(hint, value, f"{name}.")
    if origin is Literal:
        if value not in choices:
            raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}.")
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in choices:
            return None
        (inner,) = [choice for choice in choices if choice is not type(None)]
        return _checked(inner, value, name)
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be a mapping, got {value!r}.")
        return {str(key): _checked(choices[1], item, f"{name}.{key}") for key, item in value.items()}
    return _checked_list(choices[0], value, name) if origin is list else _plain(hint, value, name)


def _checked_list(hint: Any, value: Any, name: str) -> list[Any]:
    """Do what `_checked` does for a list. `hint` is the type of its entries."""
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, got {value!r}.")
    return [_checked(hint, item, f"{name}[{place}]") for place, item in enumerate(value)]


def _plain(hint: Any, value: Any, name: str) -> Any:
    """Do what `_checked` does for a value whose hint is a plain type such as int, float or str."""
    if hint is Any:
        return value
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads "1e-3" as text, because the dot is missing
        except ValueError as error:
            raise ValueError(f"{name} must be a number, got {value!r}.") from error
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{name} must be of type {hint.__name__}, got {value!r}.")
    return value


def refuse_unknown_overrides(overrides: Collection[str], allowed: Collection[str]) -> None:
    """Raise a ValueError if `model.overrides` names a setting that the configuration of the model does not have.

    Args:
        overrides: Names of the settings in `model.overrides`.
        allowed: Names that may be set. Empty for a model that starts from a checkpoint.
    """
    if unknown := sorted(set(overrides) - set(allowed)):
        raise ValueError(
            f"Unknown settings: {', '.join(f'model.overrides.{key}' for key in unknown)}. Known here: "
            f"{', '.join(sorted(allowed)) or 'none, because the checkpoint has its own configuration'}."
        )
