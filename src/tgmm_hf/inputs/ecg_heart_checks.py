"""Check that a recording is one adult heart at its own speed and size: findings and refusals.

The figures come from `ecg_time_scale`, `ecg_time_direction`, `ecg_common_beats` and `ecg_repeated_beats`. Each limit
has its reason there.
"""

import numpy as np

from ..utils.errors import InputRefusedError
from .ecg_beats import BeatSignals, beat_doubt
from .ecg_chest_progression import turned_chest_leads
from .ecg_common_beats import DOUBTFUL_LIKENESS, GROUP_LIKENESS, common_beats
from .ecg_findings import LeadFindings
from .ecg_numbers import span as percentile_span
from .ecg_repeated_beats import REPETITION, changed_beats, repetition
from .ecg_time_direction import BACKWARDS, time_direction
from .ecg_time_scale import (
    DOUBTFUL_INTERVAL,
    DOUBTFUL_STRETCH,
    IMPOSSIBLE_INTERVAL,
    IMPOSSIBLE_STRETCH,
    wave_times,
)

DOUBTFUL_SPAN, IMPOSSIBLE_SPAN = (0.2, 3.5), (0.08, 8.0)
"""Span (mV, 0.5 to 40 Hz) of the median lead. Outside the first limits a finding, outside the second ones a refusal.
Public recordings have 0.5 to 2. Low voltage is below 0.5 in limb leads and below 1 in chest leads."""


def check_heart(findings: LeadFindings, names: list[str], signals: BeatSignals, source: str, in_mv: bool) -> None:
    """Check beats, their times, speed and size.

    Args:
        findings: the findings are added here.
        names: leads of the rows of `signals`.
        signals: at least 4 s.
        source: file name for messages.
        in_mv: False for normalised units, whose leads have lost their sizes.

    Raises:
        InputRefusedError: if the sampling rate or the unit cannot be right, or limb and chest leads are two hearts.
    """
    _check_beats(findings, signals)
    _check_time_scale(findings, signals, source)
    _check_direction(findings, signals)
    _check_common_beats(findings, names, signals, source)
    _check_chest_leads(findings, names, signals)
    _check_repetition(findings, signals)
    if in_mv:
        _check_span(findings, signals, source)


def _check_beats(findings: LeadFindings, signals: BeatSignals) -> None:
    """Note a recording that looks like a wave, a noise or one repeated signal."""
    doubt = beat_doubt(signals)
    if doubt is not None:
        findings.add(
            "ecg_no_clear_beats",
            None,
            f"no clear beats: {doubt}. Look at the recording: another signal, or ventricular tachycardia or "
            "fibrillation, which look alike",
        )


def _check_time_scale(findings: LeadFindings, signals: BeatSignals, source: str) -> None:
    """Note or refuse a recording whose waves are too slow or too fast together for the declared sampling rate."""
    times = wave_times(signals)
    if times is None or not times.are_beyond(DOUBTFUL_STRETCH, DOUBTFUL_INTERVAL):
        return
    stretch = times.stretch
    relation = f"{stretch:.2g} times as slow" if stretch > 1 else f"{1 / stretch:.2g} times as fast"
    rhythm = "slow and wide" if stretch > 1 else "fast and narrow"
    text = (
        f"beats every {times.interval:.2g} s, the T wave {times.t_delay:.2g} s after the QRS complex and half of the "
        f"slopes below {times.frequency:.2g} Hz are together {relation} as in the typical adult: is the sampling rate "
        f"of {signals.sampling_rate:g} Hz right?"
    )
    if times.are_beyond(IMPOSSIBLE_STRETCH, IMPOSSIBLE_INTERVAL):
        raise InputRefusedError(source, f"the waves do not fit the sampling rate: {text}")
    findings.add("ecg_sampling_rate", None, f"{text} A very {rhythm} rhythm looks alike")


def _check_direction(findings: LeadFindings, signals: BeatSignals) -> None:
    """Note a recording whose beats look like beats that are played backwards.

    A recording without clear beats, or at a doubtful sampling rate, has its waves elsewhere and is not judged.
    """
    if any(check["code"] in ("ecg_no_clear_beats", "ecg_sampling_rate") for check in findings.checks):
        return
    score = time_direction(signals)
    if score is not None and score < BACKWARDS:
        findings.add(
            "ecg_backwards",
            None,
            f"the waves before the QRS complex are larger than those after it (score {score:.1f}, forwards is above "
            f"{BACKWARDS:g}): is the recording played backwards? A very small T wave with a large P wave looks alike",
        )


def _check_common_beats(findings: LeadFindings, names: list[str], signals: BeatSignals, source: str) -> None:
    """Put chest leads without beats out of use; note or refuse limb and chest leads that beat at other times."""
    beats = common_beats(names, signals)
    if beats.groups is not None and beats.groups < DOUBTFUL_LIKENESS:
        text = (
            "limb and chest leads do not beat at the same times (correlation of their sizes over time "
            f"{beats.groups:.2f}, at least {DOUBTFUL_LIKENESS:g} is usual): are they of two patients, or shifted?"
        )
        if beats.groups < GROUP_LIKENESS:
            raise InputRefusedError(source, text)
        findings.add("ecg_beats_at_other_times", None, text)
    for lead, likeness in beats.without_beats.items():
        findings.put_out(
            "ecg_lead_without_beats",
            lead,
            f"has no beats where the other leads have theirs (correlation {likeness:.2f}): noise or another signal",
        )


def _check_chest_leads(findings: LeadFindings, names: list[str], signals: BeatSignals) -> None:
    """Note chest leads whose QRS complexes turn the other way than in most hearts."""
    turned = turned_chest_leads(names, signals)
    if turned is not None:
        findings.add(
            "ecg_chest_leads_turned",
            None,
            f"the QRS complex points up in V1 ({turned[0]:.2f} of -1 to 1) and down in V6 ({turned[1]:.2f}): are the "
            "chest leads upside down or in reverse order? A large right ventricle and dextrocardia look alike",
        )


def _check_repetition(findings: LeadFindings, signals: BeatSignals) -> None:
    """Note a recording that repeats itself exactly, or whose beats change for good at one moment."""
    likeness, seconds = repetition(signals)
    if likeness > REPETITION:
        findings.add(
            "ecg_repeated_beats",
            None,
            f"the recording repeats itself exactly every {seconds:.3g} s (correlation {likeness:.4f}), which a heart "
            "never does: an averaged or simulated beat was repeated",
        )
    change = changed_beats(signals)
    if change is not None:
        findings.add(
            "ecg_beats_change",
            None,
            f"the beats have another shape from {change.seconds:.1f} s on (correlation {change.across:.2f} across, "
            f"{change.within:.2f} on each side): two recordings joined, or a change of conduction or pacing",
        )


def _check_span(findings: LeadFindings, signals: BeatSignals, source: str) -> None:
    """Note or refuse a recording whose leads are too large or too small together."""
    span = float(np.median(percentile_span(signals.wide, 0.5)))
    if DOUBTFUL_SPAN[0] <= span <= DOUBTFUL_SPAN[1]:
        return
    low, high = DOUBTFUL_SPAN
    text = f"the median lead spans {span:.3g} mV, adults have {low:g} to {high:g} mV: is the unit or the gain right?"
    if not IMPOSSIBLE_SPAN[0] <= span <= IMPOSSIBLE_SPAN[1]:
        raise InputRefusedError(source, f"the size of all leads cannot be right: {text}")
    findings.add("ecg_all_amplitudes", None, text)
