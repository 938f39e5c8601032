"""Read the view of an echo clip that the header states, to compare it with the view that the clip was given."""

import re
from typing import Any

APICAL = ("A2C", "A3C", "A4C", "A5C", "Apical_Doppler")
PARASTERNAL = {
    "long": ("Parasternal_Long", "Doppler_Parasternal_Long"),
    "short": ("Parasternal_Short", "Doppler_Parasternal_Short"),
}
_CHAMBERS = {
    f"A{number}C": re.compile(
        rf"\bA(?:P(?:ICAL)?)?\W{{0,2}}(?:{number}|{word})\W{{0,2}}(?:C|CH|CV|CHAMBERS?)\b"
        rf"|\bAP(?:ICAL)?\W{{0,2}}(?:{number}|{word})\b"
        rf"|\b(?:{number}|{word})\W{{0,2}}(?:CH|CV|CHAMBERS?)\b",
        re.IGNORECASE,
    )
    for number, word in ((2, "two"), (3, "three"), (4, "four"), (5, "five"))
}
_APICAL_LONG = re.compile(r"\bA(?:PICAL)?\W{0,2}P?LAX\b|\bapical\W{1,2}long", re.IGNORECASE)
_APICAL = re.compile(r"\bapical\b", re.IGNORECASE)
_LONG = re.compile(r"\bPS?LAX?\b|\bPSLA\b|\bparasternal\W{1,2}(?:long|lax)", re.IGNORECASE)
_SHORT = re.compile(r"\bPSS?AX?\b|\bPSSA\b|\bSAX\b|\bparasternal\W{1,2}(?:short|sax)|\bshort\W{1,2}axis", re.IGNORECASE)
_PARASTERNAL = re.compile(r"\bparasternal\b", re.IGNORECASE)
_SUBCOSTAL = re.compile(
    r"\bsub\W?(?:[ck]ostal|xiphoid|xyphoid)|\bsubc(?:ost)?\b|\bIVC\b"
    r"|\bSC\W?(?:4C?\b|[2-5]\W?(?:CH|CV|chamber)|(?:two|four|five)\W?chamber|SAX\b|LAX\b|short|long)",
    re.IGNORECASE,
)
_SUPRASTERNAL = re.compile(r"\bsupra\W?sternal|\bSSN\b", re.IGNORECASE)
ELEMENTS = ("ViewName", "ImageComments", "SeriesDescription")
"""Elements with text about one clip, the most specific one first."""


def stated_views(dataset: Any) -> frozenset[str]:
    """Read which views of the model a header allows; empty if it names no view.

    The first of ViewCodeSequence, ViewName, ImageComments and SeriesDescription that names a view decides.

    Args:
        dataset: pydicom `Dataset`; the pixels are not needed.
    """
    meanings = [str(code.get("CodeMeaning") or "") for code in dataset.get("ViewCodeSequence") or []]
    for text in ("; ".join(meanings), *(str(dataset.get(name) or "") for name in ELEMENTS)):
        if views := views_of_text(text):
            return views
    return frozenset()


def views_of_text(text: str) -> frozenset[str]:
    """Read which views a text names. The Doppler view of a window belongs to the window.

    Args:
        text: such as "Apical two chamber", "PLAX zoom", "A4C, A2C".
    """
    views: set[str] = set()
    if _SUBCOSTAL.search(text):
        views.add("Subcostal")
    if _SUPRASTERNAL.search(text):
        views.add("SSN")
    if _LONG.search(text) and not _APICAL_LONG.search(text):
        views.update(PARASTERNAL["long"])
    if _SHORT.search(text) and "Subcostal" not in views:
        views.update(PARASTERNAL["short"])
    if not views and _PARASTERNAL.search(text):
        views.update(PARASTERNAL["long"] + PARASTERNAL["short"])
    if not views or _APICAL.search(text) or re.search(r"\bA\W?[2-5]\W?C", text, re.IGNORECASE):
        chambers = {view for view, words in _CHAMBERS.items() if words.search(text)}
        chambers |= {"A3C"} if _APICAL_LONG.search(text) else set()
        if not chambers and _APICAL.search(text):
            chambers = set(APICAL)
        views |= chambers | ({"Apical_Doppler"} if chambers else set())
    return frozenset(views)


def view_doubts(given: str, stated: frozenset[str]) -> list[dict[str, str]]:
    """Return a finding {"code", "text"} if the header states another view than the given one.

    Args:
        given: view of the clip. A view that no header of ours states is not compared.
        stated: of `stated_views`.
    """
    comparable = {*APICAL, *PARASTERNAL["long"], *PARASTERNAL["short"], "SSN", "Subcostal"}
    if not stated or given in stated or given not in comparable:
        return []
    text = f"used as {given}, but the header states another view ({', '.join(sorted(stated))}): which one is right?"
    return [{"code": "view_header", "text": text}]
