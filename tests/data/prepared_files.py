"""Helpers of the tests of prepared data: its files as bytes, and runs in processes of their own."""

import csv
import multiprocessing
import os
import resource
import signal
import sys

from tgmm_hf.data import engines as engines_module
from tgmm_hf.data import prepare as prepare_module
from tgmm_hf.data.prepare import prepare
from tgmm_hf.utils import output_lock


def arrow_bytes(out):
    """Read the shards."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.arrow"))}


def all_bytes(out):
    """Read every file of a result, hidden ones too."""
    files = {str(path.relative_to(out)): path for path in sorted(out.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items()}


def refused_rows(out):
    """Read refused.csv."""
    with (out / "refused.csv").open() as file:
        return list(csv.DictReader(file))


def stop(*arguments: object) -> None:
    """Interrupt a run."""
    raise KeyboardInterrupt


def prepare_until(step, table, out, processor):
    """Prepare in this process alone, and kill it before the given step: opening, renaming or removing a file."""
    steps = 0

    def kill_at_step(event, arguments):
        nonlocal steps
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(str(out.parent)):
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)

    prepare_module.SHARD_SIZE = 2
    sys.addaudithook(kill_at_step)
    prepare(table, out, processor, limits=None)


def prepare_on_machine(name, table, out, processor):
    """Prepare in this process alone, as on another machine that shares the disk."""
    prepare_module.SHARD_SIZE = 2
    output_lock.machine = lambda: name
    prepare(table, out, processor, limits=None)


def start_in_new_process(function, *arguments):
    """Start a function in a new process that has none of the threads of this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([engines_module.__name__])
    process = context.Process(target=function, args=arguments)
    process.start()
    return process


def exit_code(process):
    """Wait for a process."""
    process.join(120)
    return process.exitcode


def note_peak_memory(file, *arguments):
    """Prepare in this process alone, and write its peak memory in bytes."""
    prepare(*arguments, limits=None)
    file.write_text(str(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
