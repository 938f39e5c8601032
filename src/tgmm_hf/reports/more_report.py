"""The page of `tgmm explain` for a MoRE model: the X-ray and the ECG with what made them near to a text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.explanation.explain_more import MoreExplanation, ScoreRequest, explain_more
from tgmm_hf.explanation.step_progress import Progress
from tgmm_hf.explanation.verified import is_shown
from tgmm_hf.reports.contributions import MODALITY_NAMES, method_text, plain, sum_sentence, why_not_shown
from tgmm_hf.reports.more_pictures import show_ecg, show_xray, strongest_places, with_own_ids
from tgmm_hf.reports.pages import render_page
from tgmm_hf.reports.patient_report import NOT_A_DEVICE, ReportSettings
from tgmm_hf.utils.model_names import shown_model_name
from tgmm_hf.utils.versions import package_versions

NO_CAUSE = (
    "A map describes the model. It says which places moved the score, and nothing about a finding of the patient. A "
    "text that names nothing in the X-ray or ECG has a map too."
)
ECG_MAPS = {"ecg_time": "ECG over time, all leads together", "ecg": "ECG, each lead by itself"}
"""Modality of an attribution -> heading of its drawing."""


@dataclass(frozen=True)
class ExplainedMore:
    """An explanation with what its page shows.

    Attributes:
        explanation: from `explain_more`.
        inputs: "xray" and "ecg" -> what was given.
        processor: of the model.
        model: name and fingerprint of the model.
    """

    explanation: MoreExplanation
    inputs: Mapping[str, Any]
    processor: Any
    model: Mapping[str, str]

    def content(self, _: ReportSettings) -> dict[str, Any]:
        """Return what the page says, as JSON values."""
        explained = self.explanation
        return {
            "notice": NOT_A_DEVICE,
            "no_cause": NO_CAUSE,
            "task": explained.task,
            "target": explained.target,
            "against": list(explained.against),
            "unit": explained.unit,
            "scores": dict(explained.scores),
            "rests_on": {name: explained.report["used"][name] for name in ("xray", "ecg")},
            **{name: list(explained.report[name]) for name in ("refused", "checks", "notes")},
            "not_shown": [
                why_not_shown(attribution) for attribution in explained.attributions if not is_shown(attribution)
            ],
            "attributions": [
                {**plain(attribution), "places": strongest_places(attribution)} for attribution in self._shown
            ],
            "model": dict(self.model),
        }

    def page(self, settings: ReportSettings) -> str:
        """Return the HTML page."""
        images, extractor = self.processor.image_processor, self.processor.feature_extractor
        xrays = [
            {"shown": show_xray(images, self.inputs["xray"], attribution), **_words(attribution)}
            for attribution in self._shown
            if attribution.modality == "xray"
        ]
        ecgs = [
            {
                "shown": with_own_ids(
                    show_ecg(extractor, self.inputs["ecg"], attribution, settings.layout, settings.sensitivity), number
                ),
                "title": ECG_MAPS[attribution.modality],
                **_words(attribution),
            }
            for number, attribution in enumerate(self._shown)
            if attribution.modality in ECG_MAPS
        ]
        content = self.content(settings)
        return render_page("more_report.html", content=content, names=MODALITY_NAMES, xrays=xrays, ecgs=ecgs)

    @property
    def _shown(self) -> list[Attribution]:
        """The attributions whose methods did not fail the check of the model."""
        return [attribution for attribution in self.explanation.attributions if is_shown(attribution)]


def explain_files(
    model: Any,
    processor: Any,
    inputs: Mapping[str, Any],
    request: ScoreRequest,
    progress: Progress | None = None,
) -> ExplainedMore:
    """Explain the files of one patient, for a page. Arguments and errors: see `explain_more`."""
    facts = {"model": shown_model_name(str(model.name_or_path))}
    facts["weights"] = str((model.config.weights_fingerprint or {}).get("id", "not stored"))
    facts |= package_versions()
    return ExplainedMore(explain_more(model, processor, inputs, request, progress=progress), inputs, processor, facts)


def _words(attribution: Attribution) -> dict[str, Any]:
    """Write how a map was made, and its strongest places."""
    return {
        "method": method_text(attribution),
        "sum": sum_sentence(attribution),
        "places": strongest_places(attribution),
        "is_signed": bool((attribution.values < 0).any()),
    }
