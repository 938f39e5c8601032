"""Rules of the repository: declared dependencies, what must not be in git, and a README whose examples work."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import transformers
from tiny_models import smallest_model, tiny_tokenizer
from typer.testing import CliRunner

from tgmm_hf import default_processor
from tgmm_hf.cli.application import COMMANDS, OLD_NAMES, app

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "tgmm_hf"
SOURCES = sorted(SOURCE.rglob("*.py"))
OPTIONAL = ("app", "cluster", "explain", "formats", "measures", "nifti", "search", "text")
"""Extras whose packages a file may import at its top: it is imported only for the command that needs them, or it
imports them within `try` (test_layout.py asserts that for the files that travel)."""
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


def test_no_docstring_line_reads_like_a_relative_import() -> None:
    """transformers and `hub_code` find the files that travel by a regular expression over the text."""
    assert len(SOURCES) > 100
    for path in SOURCES:
        text = path.read_text()
        relative = [n.module for n in imports(ast.parse(text)) if isinstance(n, ast.ImportFrom) and n.level]
        written = re.findall(r"^\s*from\s+\.+(\S+)\s+import", text, flags=re.MULTILINE)
        assert sorted(written) == sorted(module for module in relative if module), path


def test_mypy_follows_every_model_of_transformers_that_is_imported() -> None:
    """The others are skipped, because they took half of mypy's time. Types of a skipped module are not checked."""
    overrides = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["overrides"]
    modules = [name for entry in overrides if entry.get("follow_imports") == "normal" for name in entry["module"]]
    followed = {name.split(".")[2] for name in modules if name.count(".") > 1}
    imported = set()
    for path in [*SOURCES, *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        for node in imports(ast.parse(path.read_text())):
            for module in absolute_modules(node):
                names = [module] if module.startswith("transformers.models.") else []
                if module == "transformers":
                    names = [getattr(getattr(transformers, alias.name, None), "__module__", "") for alias in node.names]
                imported |= {name.split(".")[2] for name in names if name.startswith("transformers.models.")}
    assert imported and imported <= followed, imported - followed


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = project["dependencies"] + [
        each for extra in OPTIONAL for each in project["optional-dependencies"].get(extra, [])
    ]
    declared = {re.split(r"[<>=\[]", requirement)[0] for requirement in requirements}
    modules = {"opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml", "huggingface-hub": "huggingface_hub"}
    modules |= {"iterative-stratification": "iterstrat", "scikit-learn": "sklearn"}
    modules |= {"rouge-score": "rouge_score", "bert-score": "bert_score"}
    importable = {modules.get(name, name) for name in declared} | set(sys.stdlib_module_names) | {"tgmm_hf"}
    extras = set(project["optional-dependencies"])  # one that is named as its package may be imported within a function
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        for node in imports(tree):
            allowed = importable if node in tree.body else importable | extras
            for module in absolute_modules(node):
                name = module.split(".")[0]
                assert name in allowed, f"{name_of(path)} imports {module}: declare it in pyproject.toml"


def test_no_licence_but_permissive_ones_by_default() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    default = " ".join(project["dependencies"] + project["optional-dependencies"]["dev"])
    assert "libjpeg>" not in default, "pylibjpeg-libjpeg is GPL: it stays an extra of its own"
    assert "scikit-survival" not in " ".join(project["dependencies"]), "GPL: an oracle of the tests, no more"


READ_STRANGERS_FILES = (
    "app/own_messages.py",
    *("data/file_reading.py", "data/note_query.py", "data/saved_models.py", "data/shards.py"),
    *("data/watched_files.py", "data/watched_prediction.py"),
    *("hub/convert/reading_process.py", "utils/watched_worker.py"),
)


def test_source_files_are_finished_and_not_too_long() -> None:
    unfinished = r"\bTODO\b|\bFIXME\b|raise NotImplementedError|except\s*:"
    for path in SOURCES:
        text = path.read_text()
        assert len(text.splitlines()) <= 500, path
        assert not re.search(unfinished, text), path
        # whatever a stranger's file raises becomes a refusal here; elsewhere a broad handler would hide bugs
        may_catch_all = path.relative_to(SOURCE).as_posix() in READ_STRANGERS_FILES
        assert may_catch_all or not re.search(r"except (Base)?Exception\b", text), path
        assert not re.search(r"# type: ignore(?!\[)", text), f"{path}: say which error is ignored"


def test_tables_are_written_without_formulas() -> None:
    """Names and reasons may begin with "=", so one module writes them. The other writer holds figures only."""
    writers = {path.relative_to(SOURCE).as_posix() for path in SOURCES if "csv.writer(" in path.read_text()}
    assert writers == {"utils/csv_files.py", "evaluation/tables.py"}


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


def pages() -> list[Path]:
    """README and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_commands_and_options_that_a_page_shows_exist() -> None:
    commands = {command_name(command): command for command in COMMANDS} | OLD_NAMES
    for page in pages():
        for line in re.findall(r"^(?:\.venv/bin/)?tgmm (.+(?:\\\n.+)*)$", page.read_text(), flags=re.MULTILINE):
            name, *words = line.replace("\\\n", " ").split("#")[0].split()
            if name.startswith("--"):
                continue
            assert name in commands, f"{page}: {line}"
            options = {word.split("=")[0] for word in words if word.startswith("--")}
            assert options <= options_of(commands[name]), f"{page}: {line}"


def command_name(command: Callable[..., None]) -> str:
    return command.__name__.replace("_", "-")


@cache
def options_of(command: Callable[..., None]) -> set[str]:
    """Every option that `--help` of a command lists."""
    output = CliRunner().invoke(app, [command_name(command), "--help"], terminal_width=200).output
    return {"--help", *re.findall(r"--[a-z][a-z-]*", output)}


def test_every_command_is_named_in_the_readme_or_the_reference() -> None:
    text = README + (ROOT / "docs" / "cli.md").read_text()
    assert [command_name(each) for each in COMMANDS if f"tgmm {command_name(each)}" not in text] == []


def test_every_extra_has_a_row_in_the_readme() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [extra for extra in project["optional-dependencies"] if f"| `{extra}` |" not in README] == []


def test_make_targets_that_the_readme_names_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE)) - {"help"} <= set(targets)


def test_files_that_a_page_links_to_exist() -> None:
    for page in pages():
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"
