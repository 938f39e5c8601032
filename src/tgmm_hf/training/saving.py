"""Save a model and its processor as one directory, which `AutoModel` and `AutoProcessor` load without this package."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.feature_extraction_utils import FeatureExtractionMixin

from tgmm_hf.inputs.echo_views import SUBFOLDER
from tgmm_hf.pipeline_binding import bind_processor
from tgmm_hf.utils.files import read_json, whole_directory, write_json

RUN_RECORD = "run.json"
"""File of a saved model that says how it was trained."""
MODEL_FILES = (
    r"config\.json",
    r"model(-\d{5}-of-\d{5})?\.safetensors",
    r"model\.safetensors\.index\.json",
    r"processor_config\.json",
    r"preprocessor_config\.json",
    r"generation_config\.json",
    r"chat_template\.jinja",
    r"tokenizer(_config)?\.json",
    r"special_tokens_map\.json",
    r"added_tokens\.json",
    r"vocab\.(txt|json)",
    r"merges\.txt",
    r"README\.md",
    r"LICENSE",
    r"run\.json",
    r"view_classifier/(config|preprocessor_config)\.json",
    r"view_classifier/model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?",
    r"view_classifier/README\.md",
)
"""Files of a saved model besides its code, as regular expressions of relative paths."""


def save_repository(
    model: PreTrainedModel,
    processor: ProcessorMixin | FeatureExtractionMixin,
    directory: str | Path,
    run_record: Mapping[str, Any] | None = None,
    keep: Collection[str | Path] = (),
) -> None:
    """Save a model with its processor, its tokenizer and the code of all of them, whole or not at all.

    The configuration gets the fingerprints of weights and processor, so that predictions can tell whether both still
    belong together.

    An older saved model in `directory` is replaced when the new one is complete.

    Args:
        model: The model to save.
        processor: The processor to save, or the feature extractor of a model that reads ECGs only.
        directory: The directory to write.
        run_record: Content of `run.json`. Without it no such file is written.
        keep: Files and directories that must survive, as in [`claim_directory`].

    Raises:
        FileExistsError: If `directory` holds anything but a saved model.
    """
    bind_processor(model, processor)
    with whole_directory(directory, files_of_saved_model(directory), keep) as building:
        model.save_pretrained(building)
        processor.save_pretrained(building)
        if run_record is not None:
            write_json(building / RUN_RECORD, run_record)


def files_of_saved_model(directory: str | Path) -> list[str]:
    """List the files of the saved model in a directory, as regular expressions for [`claim_directory`].

    Code files are found from the `auto_map` entries of the configurations and from relative imports. The reasons are
    that their names differ between versions, and that a user's own script beside the model is not the model's code.

    Returns:
        The expressions; [] if there is no saved model, so that no file in the directory may be replaced.
    """
    directory = Path(directory)
    config = _read_object(directory / "config.json")
    if "model_type" not in config:
        return []
    code = [re.escape(name) for name in _code_files(directory)]
    code += [re.escape(f"{SUBFOLDER}/{name}") for name in _code_files(directory / SUBFOLDER)]
    return [*MODEL_FILES, *code]


def _code_files(directory: Path) -> set[str]:
    """List the names of the code files that the configurations in a directory name, and of the files they import."""
    modules = {name for path in directory.glob("*.json") for name in _auto_modules(_read_object(path))}
    names: set[str] = set()
    for path in (directory / f"{module}.py" for module in modules):
        if path.is_file():
            names.add(path.name)
            with suppress(OSError):  # the file imports another one that is not there
                names |= {Path(file).name for file in get_relative_import_files(path)}
    return names


def _auto_modules(value: Any) -> Iterator[str]:
    """Yield the module name of every class in the `auto_map` entries of a configuration and of its nested parts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "auto_map":
                yield from re.findall(r"(\w+)\.\w+", json.dumps(inner))
            else:
                yield from _auto_modules(inner)


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object. Return an empty one if the file cannot be read or holds no object."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
