"""Invented scores and outcomes for the tests of survival figures."""

import numpy as np


def follow_up(n=150, seed=0, competing=True, slope=0.8):
    """Scores, days without ties, and events from exponential hazards."""
    generator = np.random.default_rng(seed)
    risk = generator.normal(2.0, 1.5, size=n)
    event_day = generator.exponential(900 * np.exp(-slope * (risk - 2)))
    death_day = generator.exponential(1500, size=n) if competing else np.full(n, np.inf)
    censored_day = generator.uniform(100, 1500, size=n)
    time = np.minimum(np.minimum(event_day, death_day), censored_day)
    event = np.select([time == event_day, time == death_day], [1, 2], 0)
    return risk, time, event
