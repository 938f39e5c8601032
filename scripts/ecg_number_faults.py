"""Faults of numbers for `measure_ecg_checks.py`: samples that wrap around, computed leads, gains that change."""

import numpy as np
from ecg_faults import Change, Fault

from tgmm_hf.utils.names import LEADS


def wrap(lead: str, share: float) -> Change:
    """Let the samples of a lead leave the range at a share of the largest one and come out at its other end."""

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        row = LEADS.index(lead)
        limit = share * float(np.abs(signal[row]).max())
        signal[row] = (signal[row] + limit) % (2 * limit) - limit
        return signal

    return change


def mean_of_neighbours(lead: str) -> Change:
    """Put the mean of the leads beside it in the place of a chest lead."""

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        row = LEADS.index(lead)
        signal[row] = (signal[row - 1] + signal[row + 1]) / 2
        return signal

    return change


def change_gain(leads: tuple[str, ...], factor: float) -> Change:
    """Multiply leads by a factor from the middle of the recording on."""

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        signal[[LEADS.index(lead) for lead in leads], signal.shape[1] // 2 :] *= factor
        return signal

    return change


def number_faults() -> list[Fault]:
    """List the faults."""
    wrapped = [
        Fault(
            f"{lead} wraps at {share:.0%} of its peak",
            "ecg_wrapped",
            wrap(lead, share),
            frozenset({lead}),
            needs_mv=False,
        )
        for lead in ("V2", "V4")
        for share in (0.5, 0.8)
    ]
    computed = [
        Fault(
            f"{lead} is the mean of its neighbours",
            "ecg_computed_leads",
            mean_of_neighbours(lead),
            frozenset({lead}),
            needs_mv=False,
        )
        for lead in ("V2", "V5")
    ]
    gains = [
        Fault(f"{name} x {factor:.2g} from the middle on", "ecg_gain_step", change_gain(leads, factor), needs_mv=False)
        for name, leads in (("all leads", LEADS), ("V1 to V6", LEADS[6:]), ("V4", ("V4",)))
        for factor in (2.0, 1 / 3)
    ]
    return wrapped + computed + gains
