"""Run Python code in a process that has imported neither this package nor transformers.

A new interpreter takes seconds to import torch, scipy and pandas. So one server process imports them once and forks for
every call. A forked process differs from a new interpreter in these imports, and all have the same seed of hashes. Code
that is about the imports or about the start of the interpreter needs a process of its own.
"""

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import IO, Any

SECONDS = 300
"""Maximum time of one call. A process that takes longer is killed."""
PACKAGES = (
    "torch",
    "torch._dynamo",
    "torchvision",
    "scipy.signal",
    "scipy.stats",
    "scipy.optimize",
    "pandas",
    "sklearn.metrics",
)
"""What the server imports, if it is installed: libraries that read no environment variable of Hugging Face."""
SEED = "12345"
"""Seed of hashes. It is another one than that of pytest, which Python draws at random."""
PARENT_ONLY = ("PYTHONPATH", "HF_HUB_OFFLINE")
"""Environment variables that a process without the package does not take over."""

SERVER = """
import atexit, contextlib, gc, importlib, json, os, signal, sys, types

def run(request):
    signal.alarm(request["seconds"])
    for number, path in ((1, request["stdout"]), (2, request["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    sys.path[:] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *sys.path[1:]]
    sys.argv[:] = ["-c", *request["words"]]
    sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(request["code"], "<string>", "exec"), vars(sys.modules["__main__"]))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # to take all modules apart would need a second of CPU

for name in json.loads(sys.argv[1]):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
gc.freeze()
for line in sys.stdin.buffer:
    process = os.fork()
    if process == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        run(json.loads(line))
        break
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    os.write(1, f"{status}\\n".encode())
"""


def run_fresh(
    code: str, *words: Any, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process and wait for its end.

    Args:
        code: Text of a program, as for `python -c`.
        words: Arguments of the program.
        env: All environment variables; None takes those of this process.
        cwd: Directory of the process; None takes that of this process.
    """
    with TemporaryDirectory() as temporary:
        files = {name: f"{temporary}/{name}" for name in ("stdout", "stderr")}
        environment = dict(os.environ if env is None else env)
        request = {"code": code, "words": [str(word) for word in words], "environment": environment, **files}
        server = _server()
        _stream(server.stdin).write(
            json.dumps(request | {"directory": str(cwd or Path.cwd()), "seconds": SECONDS}).encode() + b"\n"
        )
        _stream(server.stdin).flush()
        status = int(_stream(server.stdout).readline())
        out, err = (Path(path).read_text() if Path(path).exists() else "" for path in files.values())
        return subprocess.CompletedProcess([code, *words], status, out, err)


def run_without_package(code: str, *words: Any, work: Path, **variables: str) -> str:
    """Run code in a fresh process with an empty Hugging Face home. The code itself forbids the import of the package.

    Args:
        code: Text of a program, as for `python -c`.
        words: Arguments of the program.
        work: Directory of the process. The directory `home` in it becomes the Hugging Face home.
        variables: Further environment variables. The process is offline if there are none.

    Returns:
        The standard output.
    """
    environment = {key: value for key, value in os.environ.items() if key not in PARENT_ONLY}
    environment |= {"HF_HOME": str(work / "home"), "OMP_NUM_THREADS": "1", **(variables or {"HF_HUB_OFFLINE": "1"})}
    completed = run_fresh(code, *words, env=environment, cwd=work)
    assert completed.returncode == 0, completed.stderr[-3000:]
    return completed.stdout


def run_script(
    command: Sequence[str], *, env: Mapping[str, str], cwd: str, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a Python script in a fresh process, in place of `subprocess.run`.

    Args:
        command: Interpreter, script and arguments of the script. The interpreter is that of the server.
        env: All environment variables.
        cwd: Directory of the process.
        options: Further arguments of `subprocess.run`. Output is captured, the input is empty, and the time limit is
            `SECONDS`, whatever they are.
    """
    _, script, *words = command
    return run_fresh(f"import runpy\nrunpy.run_path({script!r}, run_name='__main__')", *words, env=env, cwd=Path(cwd))


FORKING = SimpleNamespace(**{**vars(subprocess), "run": run_script})
"""In place of the module `subprocess` of a module that starts a script with `subprocess.run`."""


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


@cache
def _server() -> subprocess.Popen[bytes]:
    """Start the server. It ends when the pipe closes, at the latest with this process."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONHASHSEED": SEED}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, json.dumps(PACKAGES)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[bytes]) -> None:
    """Close the pipe and wait, so that the time of the server counts as time of this process's children."""
    _stream(server.stdin).close()
    server.wait()
