"""Find exchanged electrodes by the likeness of the leads.

Neighbouring chest leads are alike. V5 and V6 look at the heart from the left, like I and II. V1 looks from the right,
like aVR. These likenesses add up to a score. If the score is clearly larger after an exchange back, the electrodes were
probably exchanged. Decision 177 has the reasons, `docs/results/checks/ecg.md` the measured rates.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..utils.names import LEADS
from .ecg_limb_leads import LIMB_LEADS

LIMB_GAIN, CHEST_GAIN = 2.0, 1.0
"""Smallest gain of the score for the finding, of limb electrodes and of chest electrodes. Of 1,646 public recordings
one has a larger gain by limb electrodes (2.1, all others at most 1.4), and one by chest electrodes (2.2, all others at
most 0.8)."""
CLEARER = 0.2
"""Least difference between the gain of exchanged chest electrodes and the gain of the best other explanation."""
ROTATED_CLEARER = 0.5
"""The same for `CHEST_ROTATIONS`, because V1 in the place of V6 looks nearly like V6 upside down (decision 244)."""
MIXED_GAIN = 1.5
"""Smallest gain for an electrode of a limb that was exchanged with one of the chest. Of 1,625 public recordings,
brought to about their size, 6 have a larger one, before other explanations are compared (decision 244)."""
ALIKE = (
    *((first, second, 1.0) for first, second in pairwise(LEADS[6:])),
    ("aVR", "V1", 1.0),
    ("I", "V1", -0.5),
    ("aVR", "V6", -1.0),
    ("aVR", "V5", -0.5),
    *((limb, chest, 0.5) for limb in ("I", "II") for chest in ("V5", "V6")),
)
"""(lead, lead, weight of their correlation in the score)."""
LIMB_EXCHANGES = {
    "right arm and left arm exchanged": {"I": "-I", "II": "III", "III": "II", "aVR": "aVL", "aVL": "aVR"},
    "right arm and left leg exchanged": {"I": "-III", "II": "-II", "III": "-I", "aVR": "aVF", "aVF": "aVR"},
    "the three electrodes rotated": {"I": "-II", "II": "-III", "III": "I", "aVR": "aVF", "aVL": "aVR", "aVF": "aVL"},
    "the three electrodes rotated the other way": {
        "I": "III",
        "II": "-I",
        "III": "-II",
        "aVR": "aVL",
        "aVL": "aVF",
        "aVF": "aVR",
    },
}
"""What was done -> lead -> the recorded lead that holds it, with its sign; other leads hold themselves."""
CHEST_ROTATIONS = {
    name: dict(zip(LEADS[6:], (*LEADS[6 + places :], *LEADS[6 : 6 + places]), strict=True))
    for name, places in {
        "V5 and V6 in the places of V1 and V2, all others two places further": 2,
        "V1 and V2 in the places of V5 and V6, all others two places back": 4,
        "V1 in the place of V6, all others one place back (or V6 upside down)": 5,
    }.items()
}
"""As `LIMB_EXCHANGES`, for chest leads that were plugged in at another place of the row."""
CHEST_EXCHANGES = {
    **{
        f"{first} and {second} exchanged": {first: second, second: first}
        for index, first in enumerate(LEADS[6:])
        for second in LEADS[8 + index :]
    },
    "V1 to V3 and V4 to V6 exchanged": dict(zip(LEADS[6:], (*LEADS[9:], *LEADS[6:9]), strict=True)),
    "V6 in the place of V1, all others one place further": dict(zip(LEADS[6:], (*LEADS[7:], LEADS[6]), strict=True)),
    **CHEST_ROTATIONS,
}
"""As `LIMB_EXCHANGES`, for chest leads. Neighbours are too alike to be told apart."""
CHEST_TURNS = {
    "chest leads upside down": {lead: f"-{lead}" for lead in LEADS[6:]},
    "chest leads in reverse order": dict(zip(LEADS[6:], LEADS[:5:-1], strict=True)),
}
"""As `LIMB_EXCHANGES`: what looks like exchanged limb electrodes."""
SINGLE_TURNS = {f"{lead} upside down": {lead: f"-{lead}"} for lead in LEADS[6:]}
"""As `LIMB_EXCHANGES`: what looks like exchanged chest electrodes and is found by `ecg_single_chest_leads`."""


class ExchangedElectrodes(NamedTuple):
    """The exchange that explains the leads best.

    Attributes:
        name: what was done, a key of `LIMB_EXCHANGES`, `CHEST_EXCHANGES`, `CHEST_TURNS` or one of `MIXED_EXCHANGES`.
        of_limbs: True if limb electrodes, or all chest leads together, are wrong; False if the order of chest leads is.
        gain: of the score.
    """

    name: str
    of_limbs: bool
    gain: float


def exchanged_electrodes(band: Mapping[str, np.ndarray], in_mv: bool = False) -> ExchangedElectrodes | None:
    """Find the exchange of electrodes that explains the leads best.

    Args:
        band: lead -> values (samples,) in any unit, 1 to 20 Hz. Nothing is said unless all twelve leads are here.
        in_mv: whether the leads have their sizes, so that an electrode of a limb in the place of one of the chest can
            be looked for.

    Returns:
        The exchange, or None if the leads fit as they are, or fit best with one chest lead upside down.
    """
    if not set(LEADS) <= band.keys():
        return None
    leads = np.stack([band[lead] for lead in LEADS])
    likeness = _correlations(leads)
    score = float(_scores(likeness, _AS_RECORDED)[0])
    gains = [
        dict(zip(kind, (_scores(likeness, places) - score).tolist(), strict=True))
        for kind, places in zip(_KINDS, _PLACES, strict=True)
    ]
    best = [max(kind, key=lambda name: kind[name]) for kind in gains]
    of_limbs, of_chest, of_one = (kind[name] for kind, name in zip(gains, best, strict=True))
    if in_mv:
        mixed = _mixed_gains(leads, score)
        name = max(mixed, key=lambda exchange: mixed[exchange])
        if mixed[name] > max(MIXED_GAIN, *(other + CLEARER for other in (of_limbs, of_chest, of_one))):
            return ExchangedElectrodes(name, True, mixed[name])
    if of_limbs > max(LIMB_GAIN, of_chest, of_one):
        return ExchangedElectrodes(best[0], True, of_limbs)
    clearer = ROTATED_CLEARER if best[1] in CHEST_ROTATIONS else CLEARER
    if of_chest > max(CHEST_GAIN, of_limbs + clearer, of_one + clearer):
        return ExchangedElectrodes(best[1], False, of_chest)
    return None


def _mixed_gains(leads: np.ndarray, score: float) -> dict[str, float]:
    """Compute the gain of the score (12, samples) after each exchange of `_MIXED` is undone."""
    products = leads @ leads.T
    gains = {}
    for name, undo in _MIXED.items():
        undone = undo @ products @ undo.T
        sizes = np.sqrt(np.maximum(np.diag(undone), 1e-24))
        gains[name] = float(_scores(undone / np.outer(sizes, sizes), _AS_RECORDED)[0]) - score
    return gains


def _mixed_exchanges() -> dict[str, np.ndarray]:
    """Compute how each exchange of a limb electrode with a chest electrode mixes the leads: name -> (12, 12).

    The potentials of the three limb electrodes are counted from their mean, and those of the chest electrodes too.
    """
    electrodes = np.zeros((9, len(LEADS)))  # right arm, left arm, left leg, V1 to V6, out of I, II and V1 to V6
    electrodes[:3, :2] = [[-1 / 3, -1 / 3], [2 / 3, -1 / 3], [-1 / 3, 2 / 3]]
    electrodes[3:, 6:] = np.eye(6)
    differences = np.zeros((len(LEADS), 9))
    differences[:2, :3] = [[-1, 1, 0], [-1, 0, 1]]
    differences[2:6] = np.array([LIMB_LEADS[lead] for lead in LEADS[2:6]]) @ differences[:2]
    differences[6:, 3:] = np.eye(6)
    differences[6:, :3] = -1 / 3
    exchanges = {}
    for limb, limb_name in enumerate(("right arm", "left arm", "left leg")):
        for chest, lead in enumerate(LEADS[6:], start=3):
            order = np.eye(9)
            order[[limb, chest]] = order[[chest, limb]]
            exchanges[f"{limb_name} and {lead} exchanged"] = differences @ order @ electrodes
    return exchanges


def _correlations(leads: np.ndarray) -> np.ndarray:
    """Compute (leads, leads): correlations of leads (leads, samples); 0 for a lead that does not move."""
    centred = leads - leads.mean(axis=1, keepdims=True)
    scaled = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    return scaled @ scaled.T


class _Places(NamedTuple):
    """Where the pairs of `ALIKE` lie in the correlations after each of some exchanges is undone.

    Attributes:
        first: (exchanges, pairs), row of the recorded lead that holds the first lead.
        second: (exchanges, pairs), the same of the second lead.
        weights: (exchanges, pairs), weight of the correlation, with its sign.
    """

    first: np.ndarray
    second: np.ndarray
    weights: np.ndarray


def _places_of(exchanges: Iterable[Mapping[str, str]]) -> _Places:
    """Look up the pairs of `ALIKE` for exchanges: lead -> the recorded lead that holds it, with its sign."""
    first, second, weights = [], [], []
    for exchange in exchanges:
        held = {lead: exchange.get(lead, lead) for lead in LEADS}
        rows = {lead: LEADS.index(name.removeprefix("-")) for lead, name in held.items()}
        signs = {lead: -1.0 if name.startswith("-") else 1.0 for lead, name in held.items()}
        first.append([rows[one] for one, _, _ in ALIKE])
        second.append([rows[two] for _, two, _ in ALIKE])
        weights.append([weight * signs[one] * signs[two] for one, two, weight in ALIKE])
    return _Places(np.array(first), np.array(second), np.array(weights))


_KINDS: tuple[Mapping[str, Mapping[str, str]], ...] = (LIMB_EXCHANGES | CHEST_TURNS, CHEST_EXCHANGES, SINGLE_TURNS)
_MIXED = _mixed_exchanges()
MIXED_EXCHANGES = tuple(_MIXED)
"""Names of the exchanges of a limb electrode with a chest electrode."""
_AS_RECORDED, _PLACES = _places_of([{}]), [_places_of(kind.values()) for kind in _KINDS]


def _scores(likeness: np.ndarray, places: _Places) -> np.ndarray:
    """Compute the score after each exchange is undone: (exchanges,).

    Args:
        likeness: (12, 12) correlations of the leads as recorded.
        places: of the exchanges.
    """
    scores: np.ndarray = (places.weights * likeness[places.first, places.second]).sum(axis=1)
    return scores


__all__ = ["CHEST_EXCHANGES", "LIMB_EXCHANGES", "MIXED_EXCHANGES", "ExchangedElectrodes", "exchanged_electrodes"]
