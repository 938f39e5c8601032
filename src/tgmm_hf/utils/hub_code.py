"""Save the code of a class beside its weights, so that `trust_remote_code=True` can load it without this package.

In the package the files lie in several directories and import each other: `from ..utils.names import LEADS`. A saved
model has its code files in one directory, because transformers looks for them only there. So every file that a class
needs is copied there, and its relative imports are rewritten: `from .names import LEADS`.

transformers has `register_for_auto_class` and `custom_object_save` for this. They copy files of the same directory
only. `HubCode` replaces them.
"""

import ast
import os
import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers.utils import logging

logger = logging.get_logger(__name__)

_RELATIVE_IMPORT = re.compile(r"^(\s*from\s+)\.+(?:\w+\.)*(\w+)(\s+import\b)", re.MULTILINE)
"""A relative import: its start, the last part of the module's name, and its end."""


CodeFile = tuple[str, list[Path]]
"""A module: its text for one directory, and the files that its relative imports name."""


def travelling_files(module_file: str | Path, read_files: dict[Path, CodeFile] | None = None) -> dict[str, str]:
    """Collect the text of a module and of every module that it imports relatively, directly or through others.

    Args:
        module_file: Path of the module, in the package or in a saved model.
        read_files: Files that were read before. They are not read again, and the files read now are added.

    Returns:
        File name -> text, with relative imports rewritten for one directory.

    Raises:
        ValueError: If a relative import names no module file, or if two files have the same name.
    """
    read_files = {} if read_files is None else read_files
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
        if path not in read_files:
            source = path.read_text(encoding="utf-8")
            read_files[path] = _RELATIVE_IMPORT.sub(r"\1.\2\3", source), _relative_imports(path, source)
        texts[path.name], imported = read_files[path]
        waiting += imported
    return texts


def _relative_imports(path: Path, source: str) -> list[Path]:
    """List the files that the relative imports of a module name. `source` is the text of the module at `path`.

    Raises:
        ValueError: If a file does not exist.
    """
    files = []
    for level, module, line in _import_statements(source):
        file = path.parents[level - 1].joinpath(*module.split(".")).with_suffix(".py")
        if not file.is_file():
            raise ValueError(
                f"{path}, line {line}: {file} is not there. Write `from .module import name`, because only "
                "whole modules travel with a saved model."
            )
        files.append(file)
    return files


@lru_cache(maxsize=256)
def _import_statements(source: str) -> tuple[tuple[int, str, int], ...]:
    """Find the relative imports of a module, each as number of dots, name of the module, and line.

    The result is kept, because a training saves the same code at every checkpoint and a pipeline names it in every
    answer. Python's parser takes 10 ms for a file.
    """
    return tuple(
        (node.level, node.module or "", node.lineno)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.level
    )


PUSH_ARGUMENTS = ("repo_id", "commit_message", "commit_description", "private", "create_pr", "revision", "tags")
"""Arguments of `save_pretrained(push_to_hub=True)` that the upload takes."""


def class_with_file(hub_class: type) -> type:
    """Return the class, or its nearest base class whose code lies in a module file.

    A class that was defined in a notebook or a script has no file that could travel. A warning says so.
    """
    for base in hub_class.__mro__:
        if base.__module__ != "__main__" and getattr(sys.modules.get(base.__module__), "__file__", None):
            if base is not hub_class:
                logger.warning(
                    f"{hub_class.__name__} is defined in {hub_class.__module__}, which is no module file. The saved "
                    f"directory holds the code of {base.__name__} instead. Put the class into a module of its own."
                )
            return base
    return hub_class


def hub_entry(hub_class: type) -> str:
    """Return module and name of a class as `auto_map` writes them: "modeling_tgmm.TgmmModel"."""
    hub_class = class_with_file(hub_class)
    return f"{hub_class.__module__.rsplit('.', 1)[-1]}.{hub_class.__name__}"


def drop_registered_pipelines(settings: dict[str, Any]) -> None:
    """Remove the pipelines from the settings of a saved configuration, in place, if this package is installed.

    The installed package has registered its pipelines. With the entry, transformers would ask for `trust_remote_code`
    all the same. In the code of a saved model the entry stays.
    """
    if __name__.startswith("tgmm_hf."):
        settings.pop("custom_pipelines", None)


class HubCode:
    """Mixin of configurations, models, extractors and processors. `save_pretrained` then saves their code too.

    Name the mixin before transformers' base class. The class attribute `hub_auto_class` is the name of the Auto class
    that loads the object, for example "AutoModel".
    """

    hub_auto_class: str | None = None

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Set the Auto class that loads this class. None keeps the present one.

        The Auto classes of transformers call this method on every class that they load from a saved model.
        """
        if auto_class is not None:
            cls.hub_auto_class = auto_class if isinstance(auto_class, str) else auto_class.__name__

    def hub_classes(self) -> dict[str, type]:
        """Return name of an Auto class -> class that it loads from the saved directory; {} without an Auto class."""
        return {} if self.hub_auto_class is None else {self.hub_auto_class: type(self)}

    def hub_parts(self) -> list[Any]:
        """List the parts of the object whose code is saved with it, such as the extractors of a processor."""
        return []

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """Save the object as transformers does, then write the code of the object and of its parts into the directory.

        All arguments are those of transformers. With `push_to_hub=True` the object is uploaded after the code is
        written, because transformers' own upload would miss the code.
        """
        push_to_hub = kwargs.pop("push_to_hub", False)
        hub = {key: kwargs.pop(key) for key in PUSH_ARGUMENTS if key in kwargs}
        saved_objects = [self, *self.hub_parts()]
        for saved_object in saved_objects:
            _write_auto_map(saved_object)
        saved = super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
        if kwargs.get("is_main_process", True):
            hub_classes = [cls for part in saved_objects for cls in (type(part), *part.hub_classes().values())]
            write_code(hub_classes, save_directory)
        if push_to_hub:
            repo_id = hub.pop("repo_id", Path(save_directory).name)
            self.push_to_hub(repo_id, token=kwargs.get("token"), **hub)  # type: ignore[attr-defined]
        return saved


def _write_auto_map(saved_object: Any) -> None:
    """Set the `auto_map` of an object from its `hub_classes`, in place. For a model set that of its configuration."""
    entries = {auto_class: hub_entry(hub_class) for auto_class, hub_class in saved_object.hub_classes().items()}
    if hasattr(saved_object, "config"):
        saved_object.config.auto_map = entries
    else:
        saved_object.auto_map = {**(getattr(saved_object, "auto_map", None) or {}), **entries}


def write_code(hub_classes: Iterable[type], directory: str | os.PathLike) -> None:
    """Write the modules of classes into a directory, with all modules that they need, side by side without folders.

    Classes share most of their modules, so every file is read and written once.
    """
    modules = dict.fromkeys(class_with_file(hub_class).__module__ for hub_class in hub_classes)
    read_files: dict[Path, CodeFile] = {}
    texts: dict[str, str] = {}
    for module in modules:
        texts |= travelling_files(str(sys.modules[module].__file__), read_files)
    for name, text in texts.items():
        (Path(directory) / name).write_text(text, encoding="utf-8")
