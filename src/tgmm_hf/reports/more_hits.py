"""The page of a search with MoRE: the nearest X-rays, ECGs and notes of an index, with their pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

from tgmm_hf.data.note_index import Match, is_unchanged
from tgmm_hf.reports.contributions import MODALITY_NAMES
from tgmm_hf.reports.more_pictures import EcgShown, XrayShown, show_ecg, show_xray, with_own_ids
from tgmm_hf.reports.pages import render_page
from tgmm_hf.reports.patient_report import NOT_A_DEVICE
from tgmm_hf.utils.errors import InputRefusedError

THUMBNAIL_SIDE = 260
"""Largest height or width of an X-ray in pixels."""
NO_DIAGNOSIS = (
    "Near in the space of the model is no diagnosis. There are results even if nothing in the index is like the query."
)
CHANGED = "The file was moved or changed since the index was made, so it is not shown."
KIND_NAMES = {**MODALITY_NAMES, "text": "Note"}
"""Kind of a vector -> its name on the page."""


def hits_page(
    processor: Any, query: Mapping[str, Any], matches: Sequence[Match], report: Mapping[str, Any] | None = None
) -> str:
    """Write the page.

    The page shows the ids of the rows, and no paths and no patients. Names that are burnt into a picture stay.

    Args:
        processor: `MoreProcessor` of the model.
        query: one of "xray", "ecg" and "text" -> what was searched with.
        matches: from `search`.
        report: what the processor says about the query; None without remarks.
    """
    (kind, value) = next(iter(query.items()))
    hits = [_hit(processor, match, number) for number, match in enumerate(matches, start=1)]
    query = {"kind": kind, "text": value if kind == "text" else "", "shown": None, "reason": ""}
    if kind != "text":
        query["shown"], query["reason"] = _picture(processor, kind, value, 0)
    remarks = [] if report is None else [entry["text"] for entry in report["checks"]] + list(report["notes"])
    return render_page(
        "more_hits.html",
        notices=[NOT_A_DEVICE, NO_DIAGNOSIS],
        query=query,
        remarks=remarks,
        groups={
            kind_of_hit: [hit for hit in hits if hit["kind"] == kind_of_hit]
            for kind_of_hit in dict.fromkeys(m.kind for m in matches)
        },
        names=KIND_NAMES,
    )


def _hit(processor: Any, match: Match, number: int) -> dict[str, Any]:
    """Describe one result for the page."""
    shown, reason = None, ""
    if match.kind != "text":
        shown, reason = _picture(processor, match.kind, match.file, number) if is_unchanged(match) else (None, CHANGED)
    entry = {"kind": match.kind, "id": match.id, "similarity": match.similarity, "note": match.note}
    return {**entry, "shown": shown, "reason": reason}


def _picture(processor: Any, kind: str, file: Any, number: int) -> tuple[XrayShown | EcgShown | None, str]:
    """Draw an X-ray or ECG; None with the reason if it cannot be drawn."""
    try:
        if kind == "xray":
            return show_xray(processor.image_processor, file, largest_side=THUMBNAIL_SIDE), ""
        shown = show_ecg(processor.feature_extractor, file)
    except InputRefusedError as error:
        return None, error.reason
    return (with_own_ids(shown, number), "") if shown.svg else (None, " ".join(shown.notes))
