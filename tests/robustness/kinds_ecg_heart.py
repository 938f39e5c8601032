"""Hostile ECGs: arrays that are not one adult heart at its own speed and size."""

from functools import partial
from typing import Any

import numpy as np
from ecg_files import STEPS, heart_steps
from kinds_ecg import HEARTS, draw_heart, recording, right
from trials import Trial, kind, marked, process

TIME = np.arange(5000) / 500.0


def another_heart(seed: int) -> np.ndarray:
    """(12, 5000) mV of another heart, which beats 87 times a minute; two hearts of one rate may beat together."""
    return heart_steps((seed + 1) % HEARTS, 5000, 430.0) / STEPS


@kind("ecg_array_speed")
def array_speed(random, folder):
    """A sampling rate that is declared too low, or too high in a long recording."""
    seed, steps = draw_heart(random)
    factor = float(random.choice([0.5, 0.4, 1 / 3, 0.2, 2.0, 3.0]))
    signal = (heart_steps(seed, 20_000) if factor > 1 else steps) / STEPS
    ecg = recording(signal, sampling_rate=500.0 * factor)
    return Trial(f"rate x {factor:.3g}", partial(process, ecg=ecg), marked(right(seed)))


@kind("ecg_array_size")
def array_size(random, folder):
    """All leads ten times too large or too small, and more."""
    seed, steps = draw_heart(random)
    factor = float(random.choice([0.1, 0.05, 10.0, -10.0, 20.0]))
    ecg = recording(factor * steps / STEPS)
    return Trial(f"all x {factor:g}", partial(process, ecg=ecg), marked(right(seed)))


@kind("ecg_array_foreign_lead")
def array_foreign_lead(random, folder):
    """A chest lead that is noise, hum, a wave, another lead times a factor, or of another heart."""
    seed, steps = draw_heart(random)
    signal = steps / STEPS
    lead, source = (int(row) for row in random.choice(np.arange(6, 12), size=2, replace=False))
    factor = float(random.choice([-2.0, -1.0, 0.3, 0.5, 1.5, 3.0]))
    foreign: dict[str, Any] = {
        "noise": 0.3 * random.normal(size=5000),
        "hum": 0.3 * np.sin(100 * np.pi * TIME + 1),
        "wave": 0.3 * np.sin(2 * np.pi * random.uniform(1, 15) * TIME),
        "copy": np.rint(factor * steps[source]) / STEPS,
        "other heart": another_heart(seed)[lead],
    }
    what = str(random.choice(list(foreign)))
    signal[lead] = foreign[what]
    return Trial(f"lead {lead} is {what} {factor:g}", partial(process, ecg=recording(signal)), marked(right(seed)))


@kind("ecg_array_two_hearts")
def array_two_hearts(random, folder):
    """Chest leads of another heart, chest leads that are late, or one beat repeated."""
    seed, steps = draw_heart(random)
    signal = steps / STEPS
    what = str(random.choice(["chest of another", "late", "one beat"]))
    if what == "chest of another":
        signal[6:] = another_heart(seed)[6:]
    elif what == "late":
        signal[6:] = np.roll(signal[6:], int(random.integers(80, 250)), axis=1)
    else:
        length = int(random.integers(380, 430))
        signal = np.tile(signal[:, 1000 : 1000 + length], 14)[:, :5000]
    return Trial(what, partial(process, ecg=recording(signal)), marked(right(seed)))
