"""The settings of a training run: defaults, overrides, and refusal of wrong settings by name."""

from pathlib import Path

import pytest
import yaml

from tgmm_hf.training.arguments import parse_arguments, read_arguments
from tgmm_hf.training.train_any import read_any_arguments

CONFIGS = [
    path
    for path in sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
    if not path.stem.startswith(("reproduce", "search", "pretrain"))  # these are read into other dataclasses
]
MINIMAL = {"output": "out/model", "data": {"directory": "out/data"}, "tasks": {"hf_diagnosis": None}}


def test_defaults_are_filled_in_and_written_back() -> None:
    arguments = parse_arguments(MINIMAL)
    assert arguments.optimisation.optimizer == "adafactor"
    assert arguments.training_directory == Path("out/model-training")
    assert parse_arguments(arguments.to_dict()) == arguments


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_committed_configurations_are_valid(path: Path) -> None:
    family = (yaml.safe_load(path.read_text()) or {}).get("family", "tgmm")
    assert read_any_arguments(path).to_dict().get("family", "tgmm") == family


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 3}, "Unknown settings: epoch. Known here: output, data"),
        ({"data": {"directory": "d", "cell_dropout": 1.0}}, r"data.cell_dropout .* below 1, got 1\.0"),
        ({"data": {"directory": "d", "part_dropout": 1.0}}, r"data.part_dropout .* below 1, got 1\.0"),
        (
            {
                "data": {"directory": "d", "part_dropout": 0.5, "cache": {"directory": "c"}},
                "model": {"trainable_layers": 2},
            },
            "part_dropout is 0.5, but data.cache",
        ),
        ({"optimisation": {"learning_rte": 1e-3}}, "Unknown settings: optimisation.learning_rte"),
        ({"data": {}}, "Missing settings: data.directory"),
        ({"optimisation": {"epochs": "many"}}, "optimisation.epochs must be of type int, got 'many'"),
        ({"optimisation": {"epochs": -3}}, "optimisation.epochs must be above 0, got -3"),
        ({"optimisation": {"learning_rate": 0.0}}, "optimisation.learning_rate must be above 0, got 0.0"),
        ({"optimisation": {"epochs": True}}, "optimisation.epochs must be of type int, got True"),
        ({"optimisation": {"learning_rate": "fast"}}, "optimisation.learning_rate must be a number, got 'fast'"),
        ({"model": {"size": "huge"}}, r"model.size must be one of \['tiny', 'paper'\], got 'huge'"),
        ({"optimisation": 3}, "optimisation must be a mapping of settings, got 3"),
        ({"tasks": {}}, "name at least one task"),
        ({"tasks": ["hf_diagnosis"]}, "tasks must be a mapping"),
        ({"optimisation": {"keep": "last"}}, "set early_stopping_patience: null .it is 5."),
        ({"optimisation": {"warmup_fraction": 0.1}}, "plateau schedule has no warm-up"),
    ],
)
def test_wrong_settings_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_arguments({**MINIMAL, **change})


def test_scientific_notation_that_yaml_reads_as_text_is_a_number() -> None:
    settings = yaml.safe_load("optimisation: {learning_rate: 1e-3}")
    assert settings["optimisation"]["learning_rate"] == "1e-3"
    assert parse_arguments({**MINIMAL, **settings}).optimisation.learning_rate == 1e-3


def test_overrides_replace_the_files_settings(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    arguments = read_arguments(path, ["optimisation.epochs=2", "model.trainable_layers=null", "seed=7"])
    assert (arguments.optimisation.epochs, arguments.model.trainable_layers, arguments.seed) == (2, None, 7)
    with pytest.raises(ValueError, match="section.key=value"):
        read_arguments(path, ["epochs"])
    with pytest.raises(ValueError, match="value of seed is not valid YAML"):
        read_arguments(path, ["seed=[1"])
    with pytest.raises(ValueError, match="Unknown settings: optimisation.epoch"):
        read_arguments(path, ["optimisation.epoch=2"])


def test_missing_and_malformed_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no configuration"):
        read_arguments(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(ValueError, match="not valid YAML"):
        read_arguments(broken)
