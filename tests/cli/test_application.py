"""The command line as a whole: it answers fast, explains every option, and separates mistakes of the user from bugs."""

import inspect
import json
import math
import os
import resource
import subprocess
import sys
import typing
from collections.abc import Callable

import pytest
import typer
from command_line import run
from typer.models import ArgumentInfo

import tgmm_hf
from tgmm_hf.cli import application, main
from tgmm_hf.inputs.lab_unit_systems import declare_units
from tgmm_hf.inputs.optional_packages import require_package
from tgmm_hf.utils.errors import InputRefusedError

SECONDS = 1.0
"""Maximum CPU time of an answer that needs no work. On an idle machine it takes 0.25 s; other tests slow it down."""

HEAVY = ("torch", "transformers", "numpy", "pandas", "datasets", "matplotlib")
IMPORTED = f"""
import contextlib, io, json, os, sys
from tgmm_hf.cli import main
for name, words in json.loads(sys.argv[1]).items():
    process = os.fork()
    if process == 0:
        output = io.StringIO()
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            main(words)
        print(json.dumps([name, [module for module in {HEAVY} if module in sys.modules], output.getvalue()]))
        break
    os.waitpid(process, 0)
"""


def tgmm(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `tgmm` in a process of its own, with the threads that a user has."""
    mine = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-m", "tgmm_hf.cli", *words]
    return subprocess.run(command, env=mine | environment, capture_output=True, text=True)


def cpu_seconds(*words: str) -> float:
    """Measure the CPU time of a command, the smallest of three. A time within the limit needs no second one."""
    times = [math.inf]
    while min(times) > SECONDS and len(times) < 4:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        tgmm(*words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


QUICK = {
    "help": ["--help"],
    "version": ["--version"],
    "help of a command": ["predict", "--help"],
    "missing argument": ["train"],
    "unknown command": ["nothing"],
    "contradicting options": ["predict", "model", "--split", "test"],
    "wrong part": ["prepare", "cohort", "--out", "data", "--shard", "3/2"],
    "licence not acknowledged": ["convert", "st-mem", "weights.pth", "out"],
    "missing configuration": ["train", "nothing.yaml"],
    "missing configuration of a pre-training": ["pretrain", "nothing.yaml"],
    "missing plan": ["search", "nothing.yaml"],
    "missing cohort": ["prepare", "nothing", "--out", "data"],
    "missing table": ["check-manifest", "nothing.csv"],
    "missing model": ["predict", "nothing", "--labs", "row.json"],
    "missing model of an evaluation": ["evaluate", "nothing", "data", "--out", "out"],
    "missing model of the page": ["app", "nothing"],
    "missing model to upload": ["push", "nothing", "owner/name"],
    "not meant": ["push-data", "cohort", "owner/name"],
}


@pytest.fixture(scope="module")
def quick_answers() -> dict[str, tuple[list[str], str]]:
    """Command line -> the heavy libraries that it imports, and its output. Each runs in a fork of one new process."""
    command = [sys.executable, "-c", IMPORTED, json.dumps(QUICK)]
    completed = subprocess.run(command, capture_output=True, text=True, input="")
    answers = [json.loads(line) for line in completed.stdout.splitlines()]
    return {name: (imported, output) for name, imported, output in answers}


@pytest.mark.parametrize("name", QUICK)
def test_answers_that_need_no_work_import_no_heavy_library(
    name: str, quick_answers: dict[str, tuple[list[str], str]]
) -> None:
    imported, output = quick_answers[name]
    assert imported == [] and output, output


@pytest.mark.parametrize(
    "name", ["help", "version", "help of a command", "missing argument", "missing cohort", "missing model"]
)
def test_answers_that_need_no_work_take_little_time(name: str) -> None:
    assert cpu_seconds(*QUICK[name]) <= SECONDS


@pytest.mark.parametrize("command", application.COMMANDS, ids=application.COMMANDS)
def test_help_of_every_command_works_and_shows_an_example(command: Callable, capsys: pytest.CaptureFixture) -> None:
    name = command.__name__.replace("_", "-")
    assert run(name, "--help") == 0
    assert f"Example: tgmm {name}" in capsys.readouterr().out


@pytest.mark.parametrize("command", application.COMMANDS, ids=application.COMMANDS)
def test_every_option_says_its_meaning_and_its_default(command: Callable) -> None:
    hints = typing.get_type_hints(command, include_extras=True)
    for parameter in inspect.signature(command).parameters.values():
        if hints[parameter.name] is typer.Context:
            continue
        kind, info = typing.get_args(hints[parameter.name])
        assert info.help and info.help.endswith((".", "...)", ".}")), parameter.name
        if parameter.default is None:
            assert isinstance(info.show_default, str), f"{parameter.name}: say what happens without this option"
        elif parameter.default is not inspect.Parameter.empty and kind is not bool:
            assert info.show_default, parameter.name
        assert not isinstance(info, ArgumentInfo) or parameter.default is inspect.Parameter.empty


def test_version_is_that_of_the_package() -> None:
    assert tgmm("--version").stdout == f"tgmm {tgmm_hf.__version__}\n"


def test_the_shell_completes_commands_and_values() -> None:
    completed = tgmm(_TGMM_COMPLETE="complete_bash", COMP_WORDS="tgmm si", COMP_CWORD="1")
    assert completed.stdout.split() == ["simple-models"], completed.stderr
    completed = tgmm(_TGMM_COMPLETE="complete_bash", COMP_WORDS="tgmm evaluate m d --split t", COMP_CWORD="5")
    assert set(completed.stdout.split()) == {"train", "test"}, completed.stderr


def test_an_old_command_name_works_with_a_notice(capsys: pytest.CaptureFixture) -> None:
    assert run("baselines", "--help") == 0
    output = capsys.readouterr()
    assert "tgmm baselines is now tgmm simple-models" in output.err and "--bootstrap" in output.out
    assert run("simple-models", "--help") == 0
    assert capsys.readouterr().err == ""
    assert run("--help") == 0
    assert "baselines" not in capsys.readouterr().out


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the application one more command, which raises."""

    def fail() -> None:
        raise error

    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    app.command("fail")(fail)
    monkeypatch.setattr(application, "app", app)


def fail_by_calling(call: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the application one more command, which calls a function."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    app.command("fail")(lambda: call())
    monkeypatch.setattr(application, "app", app)


def test_a_value_error_is_one_line_from_this_package_and_a_bug_from_a_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    fail_by_calling(lambda: declare_units({}, "metric"), monkeypatch)
    assert run("fail") == 1 and capsys.readouterr().err.startswith("tgmm: the unit system")
    fail_by_calling(lambda: json.loads("{"), monkeypatch)
    with pytest.raises(json.JSONDecodeError):
        run("fail")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputRefusedError("a.dcm", "it is empty"), "tgmm: a.dcm: it is empty\n"),
        (FileNotFoundError("There is no file b"), "tgmm: There is no file b\n"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    fail_with(error, monkeypatch)
    assert run("fail") == 1
    assert capsys.readouterr().err == line
    monkeypatch.setenv("TGMM_DEBUG", "1")
    with pytest.raises(type(error)):
        main(["fail"])


def test_a_missing_package_is_one_line_and_a_wrong_import_is_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    fail_by_calling(lambda: require_package(None, "wfdb", "reading a.hea"), monkeypatch)
    assert run("fail") == 1
    assert capsys.readouterr().err == "tgmm: reading a.hea needs wfdb: pip install wfdb\n"
    fail_with(ImportError("cannot import name 'a' from 'tgmm_hf'"), monkeypatch)
    with pytest.raises(ImportError):
        main(["fail"])


@pytest.mark.parametrize("error", [RuntimeError("shapes"), ZeroDivisionError(), KeyError("labs"), AssertionError()])
def test_a_bug_shows_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(error, monkeypatch)
    with pytest.raises(type(error)):
        main(["fail"])
