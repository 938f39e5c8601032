"""Save the code of a class beside its weights, so that `trust_remote_code=True` can load it without this package.

In the package the files lie in rooms and import each other across them: `from ..utils.names import LEADS`. A saved
model carries its files flat in one directory, because transformers looks for siblings only. So every file that a class
needs is copied, and its relative imports are written flat: `from .names import LEADS`.

transformers has `register_for_auto_class` and `custom_object_save` for this. They copy flat siblings only, so `HubCode`
takes their place.
"""

import ast
import os
import re
import sys
from pathlib import Path
from typing import Any

_RELATIVE_IMPORT = re.compile(r"^(\s*from\s+)\.+(?:\w+\.)*(\w+)(\s+import\b)", re.MULTILINE)
"""A relative import: its start, the last part of the module's name, and its end."""


def travelling_files(module_file: str | Path) -> dict[str, str]:
    """Collect a module and every module that it imports relatively, directly or not.

    Args:
        module_file: Path of the module, in the package or in a saved model.

    Returns:
        File name -> text with flat imports, in the order in which the files were met.

    Raises:
        ValueError: If a relative import names no module file, or if two files have the same name.
    """
    paths: dict[str, Path] = {}
    texts: dict[str, str] = {}
    waiting = [Path(module_file)]
    while waiting:
        path = waiting.pop()
        if paths.setdefault(path.name, path) != path:
            raise ValueError(
                f"{paths[path.name]} and {path} have the same file name and cannot lie in one saved directory: "
                "rename one of them."
            )
        if path.name in texts:
            continue
        source = path.read_text(encoding="utf-8")
        texts[path.name] = _RELATIVE_IMPORT.sub(r"\1.\2\3", source)
        waiting += _relative_imports(path, source)
    return texts


def _relative_imports(path: Path, source: str) -> list[Path]:
    """List the files that a module's `from .x import y` statements name."""
    files = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        parts = (node.module or "").split(".")
        file = path.parents[node.level - 1].joinpath(*parts).with_suffix(".py")
        if not file.is_file():
            raise ValueError(
                f"{path}, line {node.lineno}: {file} is not there. Write `from .module import name`, because only "
                "whole modules travel with a saved model."
            )
        files.append(file)
    return files


def hub_entry(hub_class: type) -> str:
    """Name a class as `auto_map` does: "modeling_tgmm.TgmmModel"."""
    return f"{hub_class.__module__.rsplit('.', 1)[-1]}.{hub_class.__name__}"


class HubCode:
    """Mixin of configurations, models, extractors and processors whose `save_pretrained` brings the code along.

    Put it in front of transformers' base class. `hub_auto_class` names the Auto class that finds the object.
    """

    hub_auto_class: str | None = None

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Remember the Auto class, as transformers' method does; without an argument the class keeps its own.

        The Auto classes call this method on every class that they load from a saved model.
        """
        if auto_class is not None:
            cls.hub_auto_class = auto_class if isinstance(auto_class, str) else auto_class.__name__

    def hub_classes(self) -> dict[str, type]:
        """Name the class that each Auto class finds in the saved directory."""
        return {} if self.hub_auto_class is None else {self.hub_auto_class: type(self)}

    def hub_parts(self) -> list[Any]:
        """List the parts of the object that have an `auto_map` of their own, such as a processor's extractors."""
        return []

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """Save as transformers does, then write the code of the object and of its parts beside it.

        With `push_to_hub` the saved object is uploaded as `push_to_hub()` does, because transformers' own upload would
        miss files that were written after the weights.
        """
        push_to_hub = kwargs.pop("push_to_hub", False)
        hub = {key: kwargs.pop(key) for key in ("repo_id", "commit_message", "private", "create_pr") if key in kwargs}
        saved_objects = [self, *self.hub_parts()]
        for saved_object in saved_objects:
            _write_auto_map(saved_object)
        saved = super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
        if kwargs.get("is_main_process", True):
            for saved_object in saved_objects:
                for hub_class in {type(saved_object), *saved_object.hub_classes().values()}:
                    write_code(hub_class, save_directory)
        if push_to_hub:
            repo_id = hub.pop("repo_id", Path(save_directory).name)
            self.push_to_hub(repo_id, token=kwargs.get("token"), **hub)  # type: ignore[attr-defined]
        return saved


def _write_auto_map(saved_object: Any) -> None:
    """Write the entries of an object into its `auto_map`; a model's entries go into its configuration."""
    entries = {auto_class: hub_entry(hub_class) for auto_class, hub_class in saved_object.hub_classes().items()}
    if hasattr(saved_object, "config"):
        saved_object.config.auto_map = entries
    else:
        saved_object.auto_map = {**(getattr(saved_object, "auto_map", None) or {}), **entries}


def write_code(hub_class: type, directory: str | os.PathLike) -> None:
    """Write the module of a class, and every module that it needs, flat into a directory."""
    module_file = sys.modules[hub_class.__module__].__file__
    for name, text in travelling_files(str(module_file)).items():
        (Path(directory) / name).write_text(text, encoding="utf-8")
