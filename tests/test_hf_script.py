"""`make test-hf` counts what pytest counts and fails when pytest fails."""

from pathlib import Path

from fresh_process import run_fresh
from transformers import PreTrainedModel

import tgmm_hf

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
RUN = "import sys; sys.path.insert(0, sys.argv[1]); import test_hf; sys.exit(test_hf.run_tests(sys.argv[2:]))"
TESTS = """
import unittest
import pytest

class Common(unittest.TestCase):
    def test_passes(self):
        for name in "ab":
            with self.subTest(name):
                pass

    def test_excluded(self):
        self.skipTest("excluded: no such method")

    def test_other_hardware(self):
        self.skipTest("needs a GPU")
"""
FAILING_SUBTESTS = """
    def test_of_every_class(self):
        for name in ("first", "second", "third"):
            with self.subTest(name):
                self.assertEqual(name, "second")
"""
FAILING_FIXTURE = """
@pytest.fixture
def broken():
    raise RuntimeError("broken")

def test_needs(broken):
    pass
"""


def run(directory: Path, tests: str) -> tuple[int, str]:
    """Exit status and output of the script's run of one file."""
    (directory / "test_common.py").write_text(tests)
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(directory), str(directory / "test_common.py")]
    completed = run_fresh(RUN, SCRIPTS, *options, cwd=directory)
    return completed.returncode, completed.stdout


def test_what_passes_and_is_skipped_is_counted(tmp_path: Path) -> None:
    code, output = run(tmp_path, TESTS)
    assert code == 0
    assert "1 passed, 0 failed, 1 excluded (50.0% of the 2 that apply), 1 skipped" in output
    assert "excluded: no such method\n      Common::test_excluded" in output


def test_failed_subtests_are_failures(tmp_path: Path) -> None:
    code, output = run(tmp_path, TESTS + FAILING_SUBTESTS)
    assert code == 1 and "the common tests did not pass" in output
    assert "2 failed, 2 passed" in output  # pytest's line: the test around them counts as passed
    assert "1 passed, 2 failed, 1 excluded" in output  # ours: it does not


def test_errors_of_fixtures_are_failures(tmp_path: Path) -> None:
    code, output = run(tmp_path, TESTS + FAILING_FIXTURE)
    assert code == 1 and "1 passed, 1 failed, 1 excluded" in output


def test_no_tests_are_no_success(tmp_path: Path) -> None:
    code, _ = run(tmp_path, "")
    assert code != 0


def test_every_public_model_class_is_under_the_common_tests():
    public = [getattr(tgmm_hf, name) for name in tgmm_hf.__all__]
    models = {value.__name__ for value in public if isinstance(value, type) and issubclass(value, PreTrainedModel)}
    testers = "".join(path.read_text() for path in (SCRIPTS.parent / "tests" / "hf_common").glob("check_*.py"))
    lines = [line for line in testers.splitlines() if "all_model_classes = (" in line]
    named = {name.strip(" ,") for line in lines for name in line.split("(")[1].rstrip(")").split(",")} - {""}
    assert models <= named, f"without common tests: {sorted(models - named)}"
