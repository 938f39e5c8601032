"""Rules of the repository: what may import what, what may not be in it, and a README that tells the truth."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_models import smallest_model, tiny_tokenizer
from typer.main import get_command

from tgmm_hf import default_processor
from tgmm_hf.cli import app

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "tgmm_hf"
HUB_FILES = sorted(path for path in SOURCE.glob("*.py") if path.stem not in ("__init__", "cli"))
HUB_IMPORTS = {"torch", "numpy", "scipy", "transformers", "huggingface_hub"}
LAYERS = ["data", "evaluation", "training", "convert", "publishing", "cli"]
"""Each may import those before it, and the Hub files; none those after it."""
SOURCES = sorted(SOURCE.rglob("*.py"))
README = (ROOT / "README.md").read_text()


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST, *, in_try: bool = True) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import statement below a node, those in functions too; optionally without those in `try`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif in_try or not isinstance(node, ast.Try):
            yield from imports(node, in_try=in_try)


def absolute_modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Dotted names that an absolute import names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if node.level == 0 and node.module else []


@pytest.mark.parametrize("path", HUB_FILES, ids=lambda path: path.stem)
def test_hub_files_can_be_copied_to_the_hub(path: Path) -> None:
    """transformers finds what a file needs by a regular expression over `from .x import`, and copies it flat."""
    text = path.read_text()
    tree = ast.parse(text)
    relative = [n for n in imports(tree) if isinstance(n, ast.ImportFrom) and n.level]
    for node in relative:
        assert node.level == 1 and node.module and "." not in node.module, (
            f"line {node.lineno}: write `from .x import y`"
        )
        assert (SOURCE / f"{node.module}.py") in HUB_FILES, f"line {node.lineno}: {node.module} does not travel along"
    for node in imports(tree, in_try=False):
        for module in absolute_modules(node):
            root = module.split(".")[0]
            assert root in HUB_IMPORTS or root in sys.stdlib_module_names, (
                f"line {node.lineno}: import {root} inside `try`"
            )
    for node in imports(tree):
        assert not any(module.split(".")[0] == "tgmm_hf" for module in absolute_modules(node)), "Hub files stand alone"
    found = re.findall(r"^\s*from\s+\.(\S+)\s+import", text, flags=re.MULTILINE)
    assert sorted(found) == sorted(n.module for n in relative if n.module), "a docstring line reads like an import"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if own not in LAYERS:
        return  # Hub files have their own test
    later = LAYERS[LAYERS.index(own) + 1 :]
    for node in imports(ast.parse(path.read_text())):
        for module in absolute_modules(node):
            parts = module.split(".")
            assert parts[0] != "tgmm_hf" or len(parts) == 1 or parts[1] not in later, f"{module} at line {node.lineno}"


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    requirements = project["dependencies"] + optional["cluster"]
    declared = {re.split(r"[<>=\[]", requirement)[0] for requirement in requirements}
    modules = {"opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml", "huggingface-hub": "huggingface_hub"}
    modules |= {"iterative-stratification": "iterstrat", "scikit-learn": "sklearn"}
    known = {modules.get(name, name) for name in declared} | set(sys.stdlib_module_names) | {"tgmm_hf"}
    extras = set(project["optional-dependencies"])  # one that is named as its package may be imported within a function
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        for node in imports(tree):
            allowed = known if node in tree.body else known | extras
            for module in absolute_modules(node):
                name = module.split(".")[0]
                assert name in allowed, f"{name_of(path)} imports {module}: declare it in pyproject.toml"


def test_no_licence_but_permissive_ones_by_default() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    default = " ".join(project["dependencies"] + project["optional-dependencies"]["dev"])
    assert "libjpeg>" not in default, "pylibjpeg-libjpeg is GPL: it stays an extra of its own"
    assert "scikit-survival" not in " ".join(project["dependencies"]), "GPL: an oracle of the tests, no more"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_source_files_are_finished_and_not_too_long(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 900
    for pattern in (
        r"\bTODO\b",
        r"\bFIXME\b",
        "raise NotImplementedError",
        r"except\s*:",
        r"except (Base)?Exception\b",
    ):
        assert not re.search(pattern, text), pattern
    assert not re.search(r"# type: ignore(?!\[)", text), "say which error is ignored"


def test_nothing_depends_on_what_lies_beside_the_clone() -> None:
    places = [*SOURCES, *(ROOT / "scripts").iterdir(), *(ROOT / "configs").iterdir(), *(ROOT / "docs").rglob("*.md")]
    for path in [*places, ROOT / "README.md", ROOT / "Makefile"]:
        if path.is_file():
            text = path.read_text()
            assert "../shared" not in text, name_of(path)
            assert not re.search(r"[\s\"'(=]/(work|home|root|tmp|Users)/", text), (
                f"{name_of(path)} names an absolute path"
            )


def test_no_result_is_left_out_by_gitignore() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "docs", "configs", "benchmarks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    assert [path for path in listing.stdout.splitlines() if "__pycache__" not in path] == []
    named = re.findall(r"^\| `(\w+)/` \|", (ROOT / "docs/results/README.md").read_text(), re.MULTILINE)
    assert named and all((ROOT / "docs/results" / name).is_dir() for name in named)


def test_git_holds_no_weights_and_no_patients() -> None:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    forbidden = (".dcm", ".dat", ".hea", ".mat", ".npz", ".npy", ".safetensors", ".pt", ".pth", ".parquet", ".arrow")
    assert [name for name in listing.stdout.splitlines() if name.endswith(forbidden)] == []


@pytest.fixture(scope="module")
def demo_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `demo/model`, as `make demo` leaves one."""
    directory = tmp_path_factory.mktemp("readme")
    model = smallest_model()
    model.save_pretrained(directory / "demo" / "model")
    default_processor(model.config, tiny_tokenizer()).save_pretrained(directory / "demo" / "model")
    return directory


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_readme_python_blocks_run(
    block: str, demo_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(demo_directory)
    exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "no heart failure" in printed


def test_readme_commands_exist() -> None:
    """Every `tgmm` line of the README names a command and options that it has."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    lines = re.findall(r"^tgmm (.+)$", README, flags=re.MULTILINE)
    assert {line.split()[0] for line in lines} == set(commands)
    for line in lines:
        command, *words = line.split("#")[0].split()
        known = {option for parameter in commands[command].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_page_of_settings_is_up_to_date() -> None:
    written = subprocess.run(
        [sys.executable, "-c", "import write_settings; print(write_settings.settings_page(), end='')"],
        cwd=ROOT / "scripts",
        capture_output=True,
        text=True,
        check=True,
    )
    assert written.stdout == (ROOT / "docs/settings.md").read_text(), "run python scripts/write_settings.py"


def test_readme_make_targets_and_tree_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE)) - {"help"} <= set(targets)
    tree = README.split("## What lies where")[1].split("```")[1]
    names = re.findall(r"^(?:  )?([\w./]+?\.(?:py)|[\w./]+/)(?:\s|$)", tree, flags=re.MULTILINE)
    for name in names:
        assert (ROOT / name).exists() or (SOURCE / name).exists(), f"{name} is in the README's tree but not here"
    listed = {name for name in names if name.endswith(".py")}
    assert {path.name for path in HUB_FILES} <= listed, "a Hub file is missing from the README's tree"
