"""Look up the views of files by name, or refuse a name that does not decide."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..utils.errors import InputRefusedError
from .private_text import quoted


def checked_views(views: Any) -> Mapping[str, str]:
    """Return the views of a study as a mapping of file names, {} for None.

    Raises:
        InputRefusedError: if they are no mapping, so that nothing tells which clip has which view.
    """
    if views is None or isinstance(views, Mapping):
        return views or {}
    reason = f"views is a {type(views).__name__}, expected a mapping of file names to views: its clips are not used"
    raise InputRefusedError("echo", reason)


def views_of_files(paths: Iterable[Path], view_names: Mapping[str, str]) -> dict[Path, str | InputRefusedError | None]:
    """Look up the view of each file of a study.

    A file is named by its path, or by an end of it ("study/a.dcm", "a.dcm"). All names that fit have to give one view.

    Args:
        paths: all files of one study.
        view_names: path or end of a path -> view.

    Returns:
        File -> its view, None without a name, or a refusal if names that fit give it different views, or if its name
        fits another file too.
    """
    fitting = {path: [name for name in _ends(path) if view_names.get(name) is not None] for path in paths}
    uses = Counter(names[0] for names in fitting.values() if names)
    views: dict[Path, str | InputRefusedError | None] = {}
    for path, names in fitting.items():
        given = list(dict.fromkeys(view_names[name] for name in names))
        if len(given) > 1:
            reason = f"two entries give this clip the views {' and '.join(map(quoted, given))}: keep one"
            views[path] = InputRefusedError(str(path), reason)
        elif names and uses[names[0]] > 1:
            reason = (
                f"one entry gives {uses[names[0]]} clips of the same file name their view: replace it by an entry "
                "for each, with its folder before the file name"
            )
            views[path] = InputRefusedError(str(path), reason)
        else:
            views[path] = given[0] if given else None
    return views


def _ends(path: Path) -> list[str]:
    """List the path and its ends, longest first."""
    return list(dict.fromkeys([str(path), *("/".join(path.parts[start:]) for start in range(len(path.parts)))]))
