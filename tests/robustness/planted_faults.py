"""Faults that are planted into the readers, to show that the suite finds them. Each is a patch of one function."""

import importlib
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import trials


@contextmanager
def patched(place: str, make: Callable[[Any], Any], *more: Any):
    """Replace `module:name` by `make(original)`, and restore it. References of before are forgotten.

    `more` holds further places and makers in turn.
    """
    module_name, _, path = place.partition(":")
    holder: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        holder = getattr(holder, parent)
    original = holder.__dict__[name] if isinstance(holder, type) else getattr(holder, name)
    setattr(holder, name, make(original))
    try:
        with patched(*more) if more else nullcontext():
            yield
    finally:
        setattr(holder, name, original)


def after(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Change what a function returns."""
    return lambda original: lambda *args, **kwargs: change(original(*args, **kwargs))


def raising(error: Callable[[], Exception]) -> Callable[[Any], Any]:
    def make(_: Any) -> Any:
        def broken(*args: Any, **kwargs: Any) -> Any:
            raise error()

        return broken

    return make


def without_marks(original: Any) -> Any:
    """Lose all that the report tells the user, as a reader that guesses in silence would."""

    def answer(features: Any, report: Any) -> Any:
        found = original(features, report)
        return trials.Answer(found.inputs, [], found.text, found.value)

    return answer


def no_checks(original: Any) -> Any:
    from tgmm_hf.inputs.ecg_findings import LeadFindings

    return lambda *args, **kwargs: LeadFindings()


def gain_dropped(channels: list) -> list:
    """Take the gain of one chest lead for another. The limb leads would be found by Einthoven's law."""
    return [
        channel._replace(values=channel.values * (2.0 if number == 9 else 1.0))
        for number, channel in enumerate(channels)
    ]


def frames_reversed(clip: Any) -> Any:
    clip.frames = clip.frames[::-1].copy()
    return clip


def colours_turned(clip: Any) -> Any:
    clip.frames = np.ascontiguousarray(clip.frames[..., ::-1])
    return clip


def nothing(*args: Any, **kwargs: Any) -> None:
    """Check nothing."""


INPUTS = "tgmm_hf.inputs"
GAIN = (f"{INPUTS}.ecg_wfdb:_read_channels", after(gain_dropped))
DICOM_GAIN = (f"{INPUTS}.ecg_dicom:_read_group", after(gain_dropped))
NO_CHECKSUM = (f"{INPUTS}.ecg_wfdb:_compare_checksums", lambda _: nothing)
NO_LEAD_CHECKS = (f"{INPUTS}.ecg_signal:check_leads", no_checks)
REVERSED = (f"{INPUTS}.image_processing_echo:read_echo_clip", after(frames_reversed))
TURNED = (f"{INPUTS}.image_processing_echo:read_echo_clip", after(colours_turned))
NO_CONTENT = (
    f"{INPUTS}.echo_reading:content_fault",
    lambda _: nothing,
    f"{INPUTS}.echo_reading:shape_doubts",  # names what is white, grey or noise as too bright
    lambda _: lambda *args: [],
)
UNIT_LOST = (f"{INPUTS}.lab_cells:to_canonical", lambda original: lambda column, number, unit, name=None: number)
NO_MARKS = ("trials:answer_of", without_marks)
