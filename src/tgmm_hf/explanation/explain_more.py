"""Explain a MoRE model: why is this X-ray, or this ECG, near to a text, or why does this patient have a finding?

explanation = explain_more(*load_more("more_model"), {"xray": "XRAY"}, ScoreRequest(text="pleural effusion"))
explanation.scores                # {"xray": 0.41}
explanation.attributions          # one for each method: X-ray, ECG over time, ECG by lead
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.explanation.more_maps import METHODS, explain_ecg_leads, explain_ecg_time, explain_xray
from tgmm_hf.explanation.more_score import (
    FINDINGS_TASK,
    KINDS,
    SIMILARITY_TASK,
    TowerScore,
    finding_question,
    text_question,
)
from tgmm_hf.explanation.step_progress import Progress, StepProgress
from tgmm_hf.explanation.verified import best_method, marked, stored_check
from tgmm_hf.inputs.xray_reading import read_xray
from tgmm_hf.utils.errors import TgmmError

DEFAULTS = {"xray": "gradient_attention", "ecg_time": "gradient_attention", "ecg": "integrated_gradients"}
"""Modality -> method where no check of the model says which one is best: the kind of the published system."""
MAPS_OF = {"xray": ("xray",), "ecg": ("ecg_time", "ecg")}
"""Input -> modalities of its maps."""


@dataclass(frozen=True)
class ScoreRequest:
    """What a score of an X-ray or ECG is about. Give a text or a finding.

    Attributes:
        text: a text or a prompt; None asks about a finding.
        against: other texts. The mean of their cosines is subtracted, so that what all texts share does not count.
        finding: name of a label of `MoreForClassification`.
    """

    text: str | None = None
    against: Sequence[str] = ()
    finding: str | None = None

    def __post_init__(self) -> None:
        """Raise a ValueError if both or neither is given, or other texts stand beside a finding."""
        if (self.text is None) == (self.finding is None):
            raise ValueError("Give either a text or a finding.")
        if self.against and self.text is None:
            raise ValueError("Other texts are compared with a text. A finding has none.")


@dataclass(frozen=True)
class MoreExplanation:
    """Why a model gives its score.

    Attributes:
        task: "similarity" or "findings".
        target: the text, or the name of the finding.
        against: other texts.
        unit: "cosine" or "log-odds"; "" if no input can be used.
        scores: "xray" and "ecg" -> the score. For a finding both hold the logit of the patient.
        attributions: one for each method.
        report: what the processor says about the inputs, see `MoreProcessor.__call__`.
    """

    task: str
    target: str
    against: tuple[str, ...]
    unit: str
    scores: dict[str, float]
    attributions: tuple[Attribution, ...]
    report: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as JSON values."""
        return {
            "task": self.task,
            "target": self.target,
            "against": list(self.against),
            "unit": self.unit,
            "scores": self.scores,
            "attributions": [attribution.to_dict() for attribution in self.attributions],
            "report": self.report,
        }


def explain_more(
    model: Any,
    processor: Any,
    inputs: Mapping[str, Any],
    request: ScoreRequest,
    methods: Mapping[str, Sequence[str]] | None = None,
    progress: Progress | None = None,
) -> MoreExplanation:
    """Explain the score of an X-ray, of an ECG, or of both of one patient.

    Args:
        model: `MoreModel` for a text, `MoreForClassification` for a text or a finding.
        processor: its processor.
        inputs: "xray" and "ecg" -> what the processor takes; one may be missing.
        request: the text or the finding.
        methods: modality of `METHODS` -> names of methods. By default the best method of the check beside the model, or
            the one of `DEFAULTS`.
        progress: called with the name of the step that runs and the share of the work that is done, 0 to 1.

    Returns:
        The explanation. An input that cannot be used is in `report["refused"]` and has no attribution.

    Raises:
        ValueError: if there is no input, a method is unknown, or the model has no such finding.
        TgmmError: for a finding, if the model is no classifier.
        ImportError: without the package captum (extra `explain`), for integrated gradients.
    """
    model.eval()
    base = getattr(model, "more", model)
    if request.finding is not None and base is model:
        raise TgmmError("the model", "it names no findings, because it is no MoreForClassification. Ask with a text.")
    files = {name: inputs[name] for name in KINDS if inputs.get(name) is not None}
    batch, (report,) = processor(**files, on_refusal="report", return_report=True, return_tensors="pt")
    batch = batch.to(base.device)
    kinds = [kind for kind in KINDS if KINDS[kind] in batch]
    task, check = (FINDINGS_TASK if request.text is None else SIMILARITY_TASK), stored_check(model)
    chosen = _methods(check, task, methods)
    text = None if request.text is None else text_question(base, processor, request.text, request.against)
    scores: dict[str, float] = {}
    attributions: list[Attribution] = []
    unit = ""
    running = StepProgress(progress, sum(len(chosen[modality]) for kind in kinds for modality in MAPS_OF[kind]))
    for kind in kinds:
        question = text or finding_question(model, str(request.finding), kind, batch)
        score = TowerScore(base, kind, batch[KINDS[kind]], question)
        scores[kind], unit = score.output, question.unit
        attributions += _attributions(score, processor, files[kind], chosen, running)
    return MoreExplanation(
        task=task,
        target=str(request.text or request.finding),
        against=tuple(request.against),
        unit=unit,
        scores=scores,
        attributions=tuple(marked(attribution, check) for attribution in attributions),
        report=report,
    )


def _methods(
    check: Mapping[str, Any] | None, task: str, methods: Mapping[str, Sequence[str]] | None
) -> dict[str, Sequence[str]]:
    """Choose the methods of each modality, and check the names that are given.

    Args:
        check: from `stored_check`.
        task: what is explained.
        methods: see `explain_more`.

    Raises:
        ValueError: if a modality or a method is unknown.
    """
    chosen: dict[str, Sequence[str]] = {
        modality: (_best(check, task, modality) or default,) for modality, default in DEFAULTS.items()
    }
    for modality, names in (methods or {}).items():
        if modality not in METHODS or (unknown := set(names) - set(METHODS[modality])):
            choices = "; ".join(f"{name}: {', '.join(methods)}" for name, methods in METHODS.items())
            wrong = modality if modality not in METHODS else sorted(unknown)
            raise ValueError(f"Unknown modality or methods {wrong}; known are {choices}.")
        chosen[modality] = names
    return chosen


def _best(check: Mapping[str, Any] | None, task: str, modality: str) -> str | None:
    """Name the best method of a check; None if the check is of another task."""
    return best_method(check, task, modality) if check and check["settings"]["task"] == task else None


def _attributions(
    score: TowerScore, processor: Any, given: Any, chosen: Mapping[str, Sequence[str]], running: StepProgress
) -> list[Attribution]:
    """Explain one X-ray or ECG by the chosen methods.

    Args:
        score: what is explained.
        processor: of the model.
        given: the X-ray or ECG as the processor takes it.
        chosen: modality -> names of methods.
        running: counts the maps that are made.
    """
    if score.kind == "xray":
        images = processor.image_processor
        shape = read_xray(given, images.views, images.limits).pixels.shape
        jobs = [("X-ray", name, lambda name=name: explain_xray(score, name, shape)) for name in chosen["xray"]]
    else:
        extractor = processor.feature_extractor
        rate, leads = extractor.sampling_rate, extractor.lead_order
        jobs = [("ECG", name, lambda name=name: explain_ecg_time(score, name, rate)) for name in chosen["ecg_time"]]
        jobs += [("leads", name, lambda _=name: explain_ecg_leads(score, rate, leads)) for name in chosen["ecg"]]
    results = []
    for what, name, job in jobs:
        running.begin(f"{what}: {name.replace('_', ' ')}")
        results.append(job())
    return results
