"""A worker process that reads files of strangers while its parent watches time, memory and death.

The parent kills a worker process that exceeds a limit, and starts a new one for the next job. A worker process serves
many jobs, because a start costs more than a job. `docs/decisions/103-watched-workers.md` gives the reasons.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any

from tgmm_hf.utils.child_process import end_with_parent
from tgmm_hf.utils.errors import TgmmError

Step = Any
"""Name of a part of a job, such as (id of an admission, "ecg"). None between the parts."""
Say = Callable[[Step], None]
"""Function that tells the parent which step starts now."""

UNEXPECTED = "unexpected: "
"""Start of the reason of a refusal that nobody foresaw."""
STOPPED = "stopped: "
"""Start of the reason of a refusal because a limit was reached."""
POLL_SECONDS = 0.05
"""Time between two looks at the memory of a worker process."""
KILL_SECONDS = 5
"""Maximum time to wait for the end of a killed process. A process that waits for a dead disk may not end at all."""
PRELOAD = ("tgmm_hf.data.engines", "tgmm_hf.data.watched_prediction", "scipy.signal", "wfdb", "pydicom", "cv2")
"""Modules that the worker processes need. They are imported once for all of them, because this takes seconds.

The libraries are named, because the package imports them at their first use, which a limit of time would count.
"""
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that are 1 in a worker process. There is one worker process a core, and the threads of several
processes wait for each other. `OMP_NUM_THREADS=2 tgmm prepare --workers 2` of 40 patients took 41 s on two cores, with
one thread 28 s."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

ENDED = "was ended, because the command stops."

_processes = threading.Lock()
"""Held while a process is started or waited for, because `multiprocessing` does not expect this in several threads."""


@dataclass(frozen=True)
class Limits:
    """What the reading of one patient's ECG, or of one patient's echo study, may take.

    Attributes:
        seconds: Time.
        memory: Growth of the worker process in bytes. It is watched on Linux only.
    """

    seconds: float = 300.0
    memory: int = 4 * 2**30


LIMITS = Limits()
"""Limits that hold where a caller gives none."""


class WorkerStoppedError(Exception):
    """A worker process died, or was killed because it reached a limit.

    Attributes:
        step: What the process was doing. None if it was between two steps.
        reason: Why it ended, in words, for a refusal.
        died: True if the process died by itself or was killed by somebody else.
    """

    def __init__(self, step: Step, reason: str, died: bool) -> None:
        super().__init__(step, reason, died)
        self.step, self.reason, self.died = step, reason, died


class WatchedWorker:
    """One worker process, which starts with the first job and is replaced when it dies or reaches a limit.

    Args:
        work: Function of `say` and the arguments of a job. It runs in the worker process, so it must be picklable.
        limits: Limits of one step. Outside of the steps there is no limit.
    """

    def __init__(self, work: Callable[..., Any], limits: Limits) -> None:
        self.work = work
        self.limits = limits
        self._process: Any = None
        self._pipe: Any = None
        self._closed = False

    def run(self, *arguments: Any) -> Any:
        """Do one job in the worker process and return its result. An exception of the job is raised here.

        Raises:
            WorkerStoppedError: If the process died or reached a limit.
            TgmmError: If no worker process can be started, or `close` was called.
        """
        if self._process is None:
            self._start()
        try:
            kind, result = self._watch(arguments)
        except WorkerStoppedError as error:
            self._kill()
            if self._closed:
                raise TgmmError("a worker process", ENDED) from error
            raise
        except BaseException:
            self._kill()  # an interrupt may leave half a message in the pipe
            raise
        if kind == "failed":
            raise result
        return result

    def close(self) -> None:
        """End the worker process. A job that runs in another thread ends with a `TgmmError`."""
        with _processes:  # so that no process is starting
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def _start(self) -> None:
        """Start a process, and wait until it is ready."""
        with _processes:
            if self._closed:
                raise TgmmError("a worker process", ENDED)
            context = _context()
            self._pipe, other = context.Pipe()
            self._process = _started(lambda: context.Process(target=_serve, args=(other,), daemon=True))
            other.close()
        try:
            self._pipe.send(self.work)
            ready = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            code = self._exit_code()
            self._kill()
            raise TgmmError("a worker process", f"ended at its start ({_describe_exit(code)}).") from error
        if ready is not None:
            self._kill()
            raise ready

    def _watch(self, job: tuple[Any, ...]) -> tuple[str, Any]:
        """Send a job and receive messages until it is done.

        Returns:
            "done" and the result, or "failed" and the exception.
        """
        step, since, baseline = None, time.monotonic(), 0
        try:
            self._pipe.send(job)
        except ConnectionError as error:  # it was killed after its last job
            raise self._death(step) from error
        while True:
            ready = wait([self._pipe, self._process.sentinel], POLL_SECONDS)
            if self._pipe in ready or self._pipe.poll():
                try:
                    kind, *content = self._pipe.recv()
                except (EOFError, ConnectionError) as error:
                    raise self._death(step) from error
                if kind != "step":
                    return kind, content[0]
                (step, baseline), since = content, time.monotonic()
            elif ready:
                raise self._death(step)
            elif step is not None:
                self._check_limits(step, time.monotonic() - since, baseline)

    def _check_limits(self, step: Step, seconds: float, baseline: int) -> None:
        """Raise a WorkerStoppedError if the step has reached a limit. It used `baseline` bytes when it started."""
        reached, option = "", ""
        if seconds > self.limits.seconds:
            reached, option = f"longer than the limit of {self.limits.seconds:g} s", "time"
        elif resident_bytes(self._process.pid) - baseline > self.limits.memory:
            reached, option = f"more memory than the limit of {self.limits.memory / 2**30:.3g} GiB", "memory"
        if reached:
            reason = f"{STOPPED}reading took {reached}: raise the {option} limit if the files are right"
            raise WorkerStoppedError(step, reason, False)

    def _death(self, step: Step) -> WorkerStoppedError:
        reason = f"{UNEXPECTED}the worker process ended while it read this ({_describe_exit(self._exit_code())})"
        return WorkerStoppedError(step, reason, True)

    def _exit_code(self) -> int | None:
        """Wait for the end of the process, and return its exit code."""
        with _processes:
            self._process.join(KILL_SECONDS)
            return self._process.exitcode

    def _kill(self) -> None:
        self._process.kill()
        self._exit_code()
        self._pipe.close()
        self._process = None


def _started(make: Callable[[], Any]) -> Any:
    """Make a process and start it, a second time if the server that forks processes was killed meanwhile.

    Raises:
        TgmmError: If it cannot be started.
    """
    process = make()
    try:
        _start_without_main(process)
        return process
    except (EOFError, OSError):
        process = make()  # starting it starts a new server
    try:
        _start_without_main(process)
    except (EOFError, OSError) as error:
        raise TgmmError("a worker process", f"cannot be started ({type(error).__name__}).") from error
    return process


def resident_bytes(pid: int) -> int:
    """Return the bytes of memory that a process has touched; 0 if the system does not tell, or the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def _context() -> Any:
    """Return the way to start processes. Not "fork", because threads of PyTorch do not survive it."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    return context


def _start_without_main(process: Any) -> None:
    """Start a process that does not import the main script of this one.

    The worker process needs nothing from the main script. Without this, a script that calls `prepare` at its top would
    start again in every worker process.
    """
    main = sys.modules["__main__"]
    before = {name: os.environ.get(name) for name in THREAD_SETTINGS}
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))
    try:
        process.start()
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection) -> None:
    """Receive the work, then jobs, until the pipe closes or the parent ends. Runs in the worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    end_with_parent()
    try:
        work = pipe.recv()
    except Exception as error:  # whatever it is, the parent must hear of it
        _send(pipe, _portable(error))
        return
    _send(pipe, None)

    def say(step: Step) -> None:
        pipe.send(("step", step, 0 if step is None else resident_bytes(os.getpid())))

    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        try:
            message = ("done", work(say, *arguments))
        except Exception as error:  # raised again in the parent
            message = ("failed", _portable(error))
        _send(pipe, message)


def _send(pipe: Connection, message: Any) -> None:
    """Send a message. End the process if nobody listens any more."""
    try:
        pipe.send(message)
    except (BrokenPipeError, ConnectionError):
        os._exit(1)


def _portable(error: Exception) -> Exception:
    """Return the error if it can be sent to another process, else an error with the name of its type."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - its own bytes
        return error
    except Exception:  # any exception may have a constructor of its own
        return RuntimeError(f"{type(error).__name__} in a worker process")


def _describe_exit(code: int | None) -> str:
    """Write how a process ended: "signal SIGSEGV", "exit code 3"."""
    if code is None:
        return "no exit code"
    if code < 0:
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"
