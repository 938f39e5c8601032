"""Find words beside the code of a lead that call the channel another signal: a pressure, V3R, an inverted lead."""

import re
from collections.abc import Iterable

from ..utils.names import LEADS
from .ecg_recording import normalise_lead_name

_NOT_DENIED = r"(?<!\bno\W)(?<!\bnon\W)(?<!\bnot\W)(?<!\bwithout\W)"
"""What stands before a word that a text does not deny, unlike "non-inverted"."""
_OTHER_SIGNALS = re.compile(
    rf"{_NOT_DENIED}\b(?:arterial|venous|pressures?|abp|resp(?:iration|iratory)?|breath(?:ing)?|eeg|emg|eog|"
    r"(?:trans)?thora\w+\W+impedance|impedance\W+(?:pneumo\w+|cardio\w+|pleth\w+|resp\w*)|"
    r"pleth\w*|ppg|spo2|oximet\w+|capno\w+|(?:et)?co2|"
    r"pac(?:e|er|ing|emaker)\W+(?:spikes?|markers?|pulses?|channel)|"
    r"phono\w*|heart sounds?|acceler\w+|simulat\w+|synthes\w+|electro(?:oculo|myo|encephalo)\w+)\b"
    r"(?!\W+filter|\W+(?:module\W+)?off\b)|^\W*impedance\W*$",
    re.IGNORECASE,
)
"""Signals that are no ECG lead, and leads that were not recorded. A filter against a signal is none, and electrodes
have an impedance, too."""
_OTHER_FORM = re.compile(
    rf"{_NOT_DENIED}\b(?:invert(?:ed)?|inverse|reversed?|flipped|mirrored|copy|copied|duplicate|posterior(?! axill)|"
    r"dorsal|median|averaged?|template|frank|nehb|mason(?!\W?likar\W+off)|easi|right[- ]sided)\b"
    r"(?!\W+(?:filter|ref(?:erence)?\b|off\b))",
    re.IGNORECASE,
)
"""Words for a lead that is turned, copied, averaged or in another place."""
_RIGHT = re.compile(r"\(right\)\s*$", re.IGNORECASE)
"""A chest lead on the right. V1 lies right of the sternum, so the word says nothing there."""
_OTHER_LEADS = re.compile(
    r"\bV[1-9]R\b|\bV[7-9]\b|\bC[MSCBR]5\b|\bM-?CL-?[1-6]?\b|\bML(?:I{1,3}|V[1-6])\b|"
    r"^\W*[-\u2212]\s?(?:aV[RLF]|V[1-6]|I{1,3})\W*$|"
    r"^\W*(?:lead\W+)?(?:V?[XYZ]|E|S|AS|AI|ES|A[1-4])\W*$",
    re.IGNORECASE,
)
"""Leads that are none of the twelve: right and posterior chest leads, bipolar chest leads, Frank's and EASI's leads."""
_MONITOR = {"I": "MLI", "II": "MLII", "III": "MLIII"}
"""Limb leads as monitors record them, with the electrodes on the trunk."""
_CHEST_OR_AUGMENTED = re.compile(r"\b(aV[RLF]|V[1-6])\b", re.IGNORECASE)
_PLAIN = {lead.casefold(): lead for lead in LEADS}


def other_signal(lead: str, texts: Iterable[str]) -> str:
    """Say that the texts beside a lead call the channel another signal; "" if they do not. No text is repeated.

    A text in another language or with more words says nothing against the lead ("Ableitung V1", "V1 (precordial)").
    The modified limb lead of monitors is a form of its lead (MLII of II).

    Args:
        lead: one of `LEADS`, as the code or the name of the channel gives it.
        texts: meaning, modifiers, label, kind of transducer.
    """
    for text in texts:
        if not text.strip() or normalise_lead_name(text) == lead:
            continue
        named = {_PLAIN[match.casefold()] for match in _CHEST_OR_AUGMENTED.findall(text)}
        is_form = _OTHER_FORM.search(text) is not None and not (lead == "aVR" and "right" in text.casefold())
        is_form = is_form or (lead in LEADS[7:] and _RIGHT.search(text) is not None)
        is_other = any(match.group().upper() != _MONITOR.get(lead) for match in _OTHER_LEADS.finditer(text))
        if _OTHER_SIGNALS.search(text) or is_other or is_form or (named and lead not in named):
            return "the words beside its code call it another signal or another lead"
    return ""
