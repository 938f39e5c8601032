"""An ECG reader that fails in a chosen way, in whichever process it runs. The name of the recording chooses the way."""

import errno
import os
import signal
import time
from pathlib import Path

import numpy as np

from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor

HANG_SECONDS = 600
GROWTH_BYTES = 900 * 2**20


def _raise(error: BaseException) -> None:
    raise error


def _hang() -> None:
    time.sleep(HANG_SECONDS)


def _grow() -> None:
    kept = np.ones(GROWTH_BYTES, np.uint8)
    _hang()
    del kept


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _recurse() -> None:
    _recurse()


FAULTS = {
    "recursion": _recurse,
    "memory": lambda: _raise(MemoryError("a value of the file")),
    "notimplemented": lambda: _raise(NotImplementedError("a value of the file")),
    "system": lambda: _raise(SystemExit(0)),
    "exit": lambda: os._exit(3),
    "kill": _kill,
    "hang": _hang,
    "grow": _grow,
    "eio": lambda: _raise(OSError(errno.EIO, "a value of the file")),
}
"""First part of the name of a recording, before "-" -> what its reading does."""


class PlantedExtractor(EcgFeatureExtractor):
    """Extractor that fails at recordings whose name begins with a key of `FAULTS` and "-".

    If a file "<recording>.once" lies beside the recording, the fault comes only once: the file is removed first.
    """

    def harmonise(self, ecg):
        fault = FAULTS.get(Path(ecg).name.partition("-")[0])
        once = Path(f"{ecg}.once")
        if fault is not None and (once.exists() or not Path(f"{ecg}.mended").exists()):
            if once.exists():
                once.unlink()
                Path(f"{ecg}.mended").touch()
            fault()
        return super().harmonise(ecg)
