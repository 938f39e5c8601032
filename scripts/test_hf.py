"""Run transformers' own common tests over the classes of this package: `make test-hf`.

The test sources of the installed transformers version come from its source distribution on PyPI (they are in no wheel
and are not copied into this repository); the testers that plug our classes into them lie in tests/hf_common/. Ends
with the number of tests passed, not applicable and excluded, and every exclusion's reason.

    python scripts/test_hf.py -k echo -x          # further arguments go to pytest
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import transformers

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "hf_common"
COMMON_TESTS = ("test_modeling_common.py", "test_configuration_common.py", "test_processing_common.py")
STUBS = {
    # What the common tests import from places that the source distribution leaves out.
    "tests/__init__.py": "",
    "tests/generation/__init__.py": "",
    "tests/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "tests/exporters/__init__.py": "",
    "tests/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "tests/utils/__init__.py": "",
    "tests/utils/test_configuration_utils.py": (
        'config_common_kwargs = {"output_hidden_states": True, "output_attentions": True, "return_dict": False,\n'
        '                        "chunk_size_feed_forward": 7, "is_encoder_decoder": True, "id2label": {0: "label"},\n'
        '                        "problem_type": "regression"}\n'
    ),
    "utils/fetch_hub_objects_for_ci.py": "def url_to_local_path(url):\n    return url\n",
}
EXCLUDED, ADAPTED = "excluded: ", "adapted: "


class SourcesUnavailableError(RuntimeError):
    """The source distribution of transformers cannot be downloaded; the message says why."""


def common_tests() -> Path:
    """Find the directory with the common tests of the installed version. They are downloaded once for each version."""
    directory = CACHE / transformers.__version__
    if all((directory / name).is_file() for name in COMMON_TESTS):
        return directory
    with tempfile.TemporaryDirectory() as folder:
        archive = _download(Path(folder))
        root = archive.name.removesuffix(".tar.gz")
        with tarfile.open(archive) as files:
            for name in COMMON_TESTS:
                files.extract(f"{root}/tests/{name}", folder, filter="data")
        directory.mkdir(parents=True, exist_ok=True)
        for name in COMMON_TESTS:
            shutil.copyfile(Path(folder) / root / "tests" / name, directory / f".{name}")
            (directory / f".{name}").replace(directory / name)
    return directory


def _download(folder: Path) -> Path:
    """Download the source distribution of the installed version."""
    wanted = f"transformers=={transformers.__version__}"
    command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--no-binary", ":all:", wanted]
    completed = subprocess.run([*command, "-d", str(folder)], capture_output=True, text=True)
    archives = list(folder.glob("transformers-*.tar.gz"))
    if completed.returncode or not archives:
        reason = (completed.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise SourcesUnavailableError(f"no source distribution of {wanted} from PyPI: {reason}")
    return archives[0]


def build_tree(tree: Path, sources: Path) -> None:
    """Build the directories in which the common tests find their imports; tests/ours links to tests/hf_common."""
    for name, text in STUBS.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    for name in COMMON_TESTS:
        (tree / "tests" / name).symlink_to(sources / name)
    (tree / "tests" / "ours").symlink_to(ROOT / "tests" / "hf_common")


class Counts:
    """A pytest plugin that counts the outcome of every test, with reasons."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.reasons: dict[str, list[str]] = {}
        self.adapted: dict[str, list[str]] = {}

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note the tests that replace a common test by a version of our own."""
        documentation = getattr(item.obj, "__doc__", None) or ""  # type: ignore[attr-defined]
        if documentation.startswith(ADAPTED):
            reason = " ".join(documentation.removeprefix(ADAPTED).split())
            self.adapted.setdefault(reason, []).append(item.nodeid.split("::", 1)[1])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Take the counts that pytest itself prints, because they hold failed subtests and errors of fixtures too."""
        stats = terminalreporter.stats
        failed = {report.nodeid for outcome in ("failed", "error") for report in stats.get(outcome, [])}
        for outcome, reports in stats.items():
            for report in reports:
                if not getattr(report, "count_towards_summary", True):
                    continue
                if outcome == "passed" and report.nodeid in failed:  # pytest counts the test around a failed subtest
                    continue
                if outcome == "skipped":
                    self._count_skipped(report)
                else:
                    self.outcomes["failed" if outcome == "error" else outcome] += 1

    def _count_skipped(self, report: pytest.TestReport) -> None:
        """Count a skipped test: excluded by us with a reason, or not applicable."""
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")  # type: ignore[index]
        if reason.startswith(EXCLUDED):
            self.outcomes["excluded"] += 1
            name = report.nodeid.split("::", 1)[1]
            self.reasons.setdefault(reason.removeprefix(EXCLUDED), []).append(name)
        else:
            self.outcomes["not applicable"] += 1

    def summary(self) -> str:
        """Write the counts, and the tests behind every reason."""
        counts = self.outcomes
        applicable = counts["passed"] + counts["failed"] + counts["excluded"]
        share = counts["excluded"] / max(applicable, 1)
        lines = [
            f"common tests of transformers {transformers.__version__}: {counts['passed']} passed, "
            f"{counts['failed']} failed, {counts['excluded']} excluded ({share:.1%} of the {applicable} that apply), "
            f"{counts['not applicable']} skipped by the tests themselves (other hardware, other kinds of model)"
        ]
        for title, groups in (("excluded", self.reasons), ("passed in a version of our own", self.adapted)):
            for reason, names in groups.items():
                lines.append(f"  {title}: {reason}")
                lines += [f"      {name}" for name in names]
        return "\n".join(lines)


def run_tests(options: list[str]) -> int:
    """Run pytest and print the counts; the exit status is pytest's own."""
    counts = Counts()
    code = int(pytest.main(options, plugins=[counts]))
    sys.stdout.write(counts.summary() + "\n")
    if code:
        sys.stdout.write(f"pytest ended with exit status {code}, so the common tests did not pass.\n")
    return code


def main(arguments: list[str]) -> int:
    """Run the common tests; `arguments` go to pytest. Return the exit status of pytest."""
    try:
        sources = common_tests()
    except SourcesUnavailableError as error:
        sys.stdout.write(f"SKIPPED: {error}. `make test-hf` needs PyPI once; the other tests do not need it.\n")
        return 0
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        build_tree(tree, sources)
        sys.path.insert(0, str(ROOT / "tests"))  # tiny_models
        options = ["-q", "-p", "no:cacheprovider", "-o", "python_files=check_*.py", "--rootdir", str(tree)]
        options += ["--confcutdir", str(tree), "--import-mode=importlib", "-W", "ignore"]
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        return run_tests([*options, str(tree / "tests" / "ours"), *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
