"""Turn arrays of a user into an ECG recording: numbers, units of each lead, and leads beside the twelve."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..utils.errors import InputRefusedError
from ..utils.names import LEADS
from .ecg_recording import (
    NORMALISED,
    NORMALISED_UNITS,
    EcgRecording,
    millivolts_per_unit,
    normalise_lead_name,
    refuse_size,
)

_BESIDE = re.compile(r"(?:lead[\s_-]*)?V(?:[7-9]|[1-9]R)", re.IGNORECASE)
_FRANK = re.compile(r"(?:lead[\s_-]*)?V?[XYZ]", re.IGNORECASE)


def real_numbers(values: Any, source: str) -> np.ndarray:
    """Turn values into an array of real numbers; masked ones become NaN.

    Args:
        values: array, masked array, or nested lists of numbers.
        source: name for messages.

    Returns:
        Array of float64, or the array itself if it holds floating-point numbers and no mask.

    Raises:
        InputRefusedError: if the values are complex, texts, dates or truth values.
    """
    is_masked = isinstance(values, np.ma.MaskedArray)
    if not is_masked and isinstance(values, (list, tuple)):
        is_masked = any(isinstance(row, np.ma.MaskedArray) for row in values)
    array = np.ma.array(values) if is_masked else np.asarray(values)
    if array.dtype.kind not in "iufO":
        raise InputRefusedError(
            source,
            f"the signal holds values of type {array.dtype}, real numbers are needed: give millivolts",
        )
    if is_masked:
        return np.asarray(np.ma.filled(array.astype(np.float64), np.nan))
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def recording_from_mapping(ecg: Mapping[str, Any]) -> EcgRecording:
    """Turn a user's mapping into an `EcgRecording`.

    Args:
        ecg: as `as_recording` of `ecg_signal` takes it.

    Raises:
        InputRefusedError: if a key is missing or unknown, a value is no number, or units do not fit the leads.
    """
    keys = {"signal", "sampling_rate", "lead_names", "units", "source"}
    missing = sorted({"signal", "sampling_rate", "lead_names"} - set(ecg))
    unknown = sorted(set(ecg) - keys)
    source = str(ecg.get("source", "ecg"))
    if missing or unknown:
        raise InputRefusedError(
            source, f"an ECG mapping needs signal, sampling_rate and lead_names; missing {missing}, unknown {unknown}"
        )
    refuse_size(source, int(np.prod(np.shape(ecg["signal"]), dtype=np.float64)))
    try:
        signal = np.asarray(real_numbers(ecg["signal"], source), dtype=np.float64)
        sampling_rate = float(ecg["sampling_rate"])
        names = list(ecg["lead_names"])
    except InputRefusedError:
        raise
    except (TypeError, ValueError) as error:
        raise InputRefusedError(
            source, f"signal and sampling_rate must be numbers, and lead_names a list of names: {error}"
        ) from error
    units = ecg.get("units", "mV")
    if isinstance(units, list | tuple | np.ndarray):
        signal, units = _in_one_unit(signal, [_unit(unit) for unit in units], source)
    return EcgRecording(signal, sampling_rate, names, _unit(units), source)


def _unit(unit: Any) -> str:
    """Write a unit; "nu" is a unit of files only."""
    return NORMALISED if str(unit).casefold() in NORMALISED_UNITS[1:] else str(unit)


def _in_one_unit(signal: np.ndarray, units: list[str], source: str) -> tuple[np.ndarray, str]:
    """Bring leads with a unit each to one unit.

    Args:
        signal: (leads, samples), each lead in its unit.
        units: one for each lead.
        source: name for messages.

    Returns:
        Two elements: the signal (leads, samples); and its unit, "mV" if the leads have several.
    """
    if not units or len(units) != len(signal):
        raise InputRefusedError(source, f"{len(units)} units for {len(signal)} leads: give one unit, or one a lead")
    if len(set(units)) == 1:
        return signal, units[0]
    if NORMALISED in units:
        raise InputRefusedError(source, "some leads are in volts, others in normalised units: they cannot be compared")
    try:
        factors = np.array([millivolts_per_unit(unit) for unit in units])
    except ValueError as error:
        raise InputRefusedError(source, str(error)) from error
    return signal * factors[:, None], "mV"


def without_other_leads(recording: EcgRecording) -> EcgRecording:
    """Leave out right and posterior chest leads, and Frank's leads beside all twelve, as in files; with a note.

    Other names are kept, because a misspelt name must be refused.

    Args:
        recording: any recording. Its leads may have any names.
    """
    names = [str(name).strip() for name in recording.lead_names]
    is_whole = set(LEADS) <= {normalise_lead_name(name) for name in names}
    other = [_BESIDE.fullmatch(name) or (is_whole and _FRANK.fullmatch(name)) for name in names]
    if not any(other) or all(other):
        return recording
    kept = [row for row, is_other in enumerate(other) if not is_other]
    left_out = ", ".join(name for name, is_other in zip(names, other, strict=True) if is_other)
    return replace(
        recording,
        signal=recording.signal[kept],
        lead_names=[recording.lead_names[row] for row in kept],
        notes=[*recording.notes, f"channels that are no standard lead were left out: {left_out}"],
    )
