"""The reader of YAML settings that all four commands share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from tgmm_hf.training.adamw_arguments import AdamWArguments
from tgmm_hf.training.arguments import OptimisationArguments
from tgmm_hf.training.pretraining_arguments import PretrainArguments
from tgmm_hf.training.settings_files import differences, flat, parse_dataclass, put, read_settings


@dataclass(frozen=True)
class Section:
    number: float = 1.0
    choice: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Settings:
    name: str
    section: Section = field(default_factory=Section)
    sections: dict[str, Section] = field(default_factory=dict)
    anything: Any = None
    optional: int | None = None


def test_sections_and_mappings_of_sections_become_dataclasses() -> None:
    settings = parse_dataclass(
        Settings, {"name": "x", "section": {"number": 3}, "sections": {"first": {"choice": "b"}}, "optional": None}
    )
    assert settings == Settings("x", Section(3.0), {"first": Section(choice="b")})
    assert isinstance(settings.section.number, float)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"Missing settings: name\."),
        ({"name": 3}, "name must be of type str, got 3"),
        ({"name": "x", "section": {"width": 1}}, r"Unknown settings: section\.width\. .*section\.number"),
        ({"name": "x", "sections": {"first": {"choice": "c"}}}, r"sections\.first\.choice must be one of \['a', 'b'\]"),
        ({"name": "x", "optional": 1.5}, "optional must be of type int, got 1.5"),
        ({"name": "x", "section": {"number": True}}, r"section\.number must be of type float, got True"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_full_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_dataclass(Settings, settings)


def test_an_override_makes_missing_sections_but_does_not_replace_a_value_by_a_section(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("name: x\nsection:\n")
    assert read_settings(path, ["section.number=2", "sections.first.choice=b"]) == {
        "name": "x",
        "section": {"number": 2},
        "sections": {"first": {"choice": "b"}},
    }
    with pytest.raises(ValueError, match="'name' is not a section"):
        read_settings(path, ["name.first=2"])


def test_a_file_without_a_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("- a\n- b\n")
    with pytest.raises(ValueError, match="must hold a mapping of settings, got list"):
        read_settings(path)


def test_a_setting_that_an_older_run_did_not_know_was_off() -> None:
    """A stopped run goes on after the package learned a setting, as long as the setting is off."""
    assert differences({"a": 1}, {"a": 1, "new": 0.0}) == []
    assert differences({"a": 1}, {"a": 1, "new": 0.3}) == ["new"]
    assert differences({"a": 1, "new": 0.3}, {"a": 1}) == ["new"]
    before = {"run": {"model": {"overrides": {}}}}
    off = {"run": {"model": {"overrides": {"feature_dropout": 0}}}}
    assert differences(before, off) == ["run.model.overrides.feature_dropout"]  # its default is on


def test_differences_name_nested_settings_and_leave_out_those_that_may_change() -> None:
    before: dict[str, Any] = {"a": {"b": 1, "c": 2}, "d": 3}
    now: dict[str, Any] = {"a": {"b": 1, "c": 4}, "e": 5}
    assert flat(before) == {"a.b": 1, "a.c": 2, "d": 3}
    assert differences(before, now) == ["a.c", "d", "e"]
    assert differences(before, now, {"d"}) == ["a.c", "e"]
    put(now, "a.c", 2)
    assert differences(before, now, {"d", "e"}) == []


@pytest.mark.parametrize("value", [1, 5, -0.1])
def test_a_warm_up_is_a_part_of_all_steps(value: float):
    with pytest.raises(ValueError, match="warmup_fraction"):
        AdamWArguments(epochs=1, batch_size=1, learning_rate=1e-3, weight_decay=0.0, warmup_fraction=value)
    with pytest.raises(ValueError, match="warmup_fraction"):
        OptimisationArguments(schedule="cosine", warmup_fraction=value).check()
    pretraining = {"output": "a", "data": {"directory": "b"}, "model": {}, "ecg": {"warmup_fraction": value}}
    with pytest.raises(ValueError, match="ecg.warmup_fraction"):
        parse_dataclass(PretrainArguments, pretraining)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "learning_rate"])
def test_a_pretraining_has_steps(name: str):
    pretraining = {"output": "a", "data": {"directory": "b"}, "model": {}, "ecg": {name: 0}}
    with pytest.raises(ValueError, match=f"ecg.{name} must be above 0, got 0"):
        parse_dataclass(PretrainArguments, pretraining)
