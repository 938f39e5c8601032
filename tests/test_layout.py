"""The layout of the package: imports run downwards only, and travelling code stays able to travel."""

import ast
import sys
from functools import cache
from pathlib import Path

from tgmm_hf.utils.hub_code import travelling_files

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "tgmm_hf"
ROOMS = (
    ("utils",),
    ("configuration",),
    ("inputs", "layers"),
    ("encoders",),
    ("processing", "families", "modeling", "pipeline"),
    ("data", "cohorts"),
    ("evaluation",),
    ("training", "explanation"),
    ("reports",),
    ("hub", "experiments", "app"),
    ("cli",),
)
"""Lowest room first. A room imports itself and the rooms of the lines below."""
WITHIN_ONE_LINE = {("cohorts", "data")}
"""Allowed imports between rooms of one line: every cohort ends as a table that `data` checks."""
FRONT_DOOR = {"processing", "modeling", "pipeline", "families"}
TRAVELLING_LIBRARIES = {"torch", "numpy", "scipy", "transformers", "huggingface_hub"}
LATE_LIBRARIES = {"scipy.signal", "scipy.stats", "scipy.optimize", "wfdb", "pydicom", "cv2", "pandas"}
"""Libraries that take long to import, so that they are imported when they are first used."""


def room_of(file: Path) -> str | None:
    """Name the room of a file; None for the package's own `__init__` and its registration."""
    parts = file.relative_to(PACKAGE).parts
    if file.name.startswith("configuration_"):
        return "configuration"
    if len(parts) > 1:
        return parts[0]
    prefix = file.stem.split("_")[0]
    return prefix if prefix in {"processing", "modeling", "pipeline"} else None


@cache
def parsed(file: Path) -> ast.Module:
    """Parse a source file once for all tests."""
    return ast.parse(file.read_text(encoding="utf-8"))


def imported_files(file: Path) -> set[Path]:
    """List the package's own files that a file imports, inside functions too."""
    files: set[Path] = set()
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = file.parents[node.level - 1]
            modules = [".".join(base.relative_to(PACKAGE.parent).parts) + f".{node.module or ''}".rstrip(".")]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        for module in modules:
            for candidate in [module, *(f"{module}.{name}" for name in names)]:
                path = PACKAGE.parent.joinpath(*candidate.split(".")).with_suffix(".py")
                if candidate.startswith("tgmm_hf.") and path.is_file():
                    files.add(path)
    return files


def rank(room: str) -> int:
    return next(index for index, line in enumerate(ROOMS) if room in line)


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_room_has_a_place_in_the_order():
    assert {room_of(file) for file in FILES} - {None} <= {room for line in ROOMS for room in line}


def imports_upwards(file: Path) -> list[str]:
    """Name the files of rooms that are not below a file's own room, and that it imports."""
    room, upwards = room_of(file), []
    for imported in imported_files(file) if room is not None else ():
        target = room_of(imported)
        same = target == room or {target, room} <= FRONT_DOOR or (room, target) in WITHIN_ONE_LINE
        if target is None or (not same and rank(target) >= rank(room)):
            upwards.append(f"{file.relative_to(PACKAGE)} ({room}) imports {imported.relative_to(PACKAGE)}")
    return upwards


def test_imports_run_downwards():
    assert len(FILES) > 100
    assert [line for file in FILES for line in imports_upwards(file)] == []


@cache
def travelling() -> list[Path]:
    """The files that saved models carry: every file that a saved class imports."""
    doors = ["modeling_tgmm.py", "processing_tgmm.py", "pipeline_tgmm.py"]
    doors += [str(file.relative_to(PACKAGE)) for file in FILES if file.parent.name == "encoders"]
    doors += [str(file.relative_to(PACKAGE)) for file in FILES if room_of(file) == "families"]
    files, waiting = set(), [PACKAGE / door for door in doors]
    while waiting:
        file = waiting.pop()
        if file.name != "__init__.py" and file not in files:
            files.add(file)
            waiting += imported_files(file)
    return sorted(files)


def test_travelling_files_have_unique_names():
    names = [file.name for file in travelling()]
    assert len(names) == len(set(names))
    assert {*names} >= set(travelling_files(PACKAGE / "modeling_tgmm.py"))
    assert {*names} >= set(travelling_files(PACKAGE / "families" / "meit" / "modeling_meit.py"))
    assert {*names} >= set(travelling_files(PACKAGE / "families" / "heartcare" / "modeling_beat.py"))


def foreign_libraries(file: Path) -> list[str]:
    """Name the libraries that a travelling file imports outside `try`, although they may be missing."""
    libraries = []
    tree = parsed(file)
    optional = {id(node) for block in ast.walk(tree) if isinstance(block, ast.Try) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in optional or not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            continue
        modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        for module in modules:
            library = str(module).split(".")[0]
            if library not in TRAVELLING_LIBRARIES and library not in sys.stdlib_module_names:
                libraries.append(f"{file.name}: {module}")
    return libraries


def test_travelling_files_import_little():
    assert len(travelling()) > 50
    assert [line for file in travelling() for line in foreign_libraries(file)] == []


def early_imports(file: Path) -> list[str]:
    """Name the slow libraries that a file imports outside its functions."""
    early = []
    waiting: list[ast.AST] = [parsed(file)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef):
            continue
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
        for module in modules:
            if any(f"{module}.".startswith(f"{late}.") for late in LATE_LIBRARIES):
                early.append(f"{file.name}: {module}")
        waiting += ast.iter_child_nodes(node)
    return early


def test_travelling_files_import_slow_libraries_at_their_first_use():
    """Every user of `import tgmm_hf` with transformers imports these files, whatever inputs the user has."""
    assert [line for file in travelling() for line in early_imports(file)] == []


def bodies(kind: type) -> list[tuple[str, int]]:
    """Name and length of every class or function of the travelling files, its documentation left out."""
    sizes = []
    for file in travelling():
        for node in ast.walk(parsed(file)):
            if isinstance(node, kind):
                sizes.append((f"{file.name}:{node.name}", node.end_lineno - node.lineno + 1))
    return sizes


def code_lines(function: ast.FunctionDef) -> int:
    """Count the lines of a function without its docstring."""
    first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
    return function.end_lineno - first.lineno + 1


def test_travelling_files_stay_small():
    lengths = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in travelling()}
    assert {name: length for name, length in lengths.items() if length > 500} == {}
    assert {name: length for name, length in bodies(ast.ClassDef) if length > 250} == {}


def test_forward_is_short():
    long = {}
    for file in travelling():
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.FunctionDef) and node.name == "forward" and code_lines(node) > 40:
                long[f"{file.name}:{node.lineno}"] = code_lines(node)
    assert long == {}
