"""The report of one patient: one page, or the same content as JSON.

    content = report_content(prediction, inputs, tasks, attributions)     # what both forms say
    page = report_html(content, inputs, attributions)                     # with pictures

The page is one file without scripts. It names no file and no patient, unless `identifiers` is given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.explanation.verified import is_shown
from tgmm_hf.layers.hazards import cumulative_incidence
from tgmm_hf.reports.contributions import (
    MODALITY_NAMES,
    contribution_rows,
    ecg_bands,
    find,
    heat_table,
    lead_shares,
    method_text,
    plain,
    sum_sentence,
    why_not_shown,
)
from tgmm_hf.reports.ecg_measures import measure_ecg
from tgmm_hf.reports.ecg_paper import draw_ecg
from tgmm_hf.reports.echo_strips import echo_strip
from tgmm_hf.reports.figures import render, risk_curve_figure
from tgmm_hf.reports.lab_bars import lab_rows
from tgmm_hf.reports.pages import inline_svg, render_page
from tgmm_hf.reports.patient_inputs import PatientInputs
from tgmm_hf.utils.model_names import shown_model_name
from tgmm_hf.utils.names import LEADS, MODALITIES, VIEWS, join_names
from tgmm_hf.utils.versions import package_versions

NOT_A_DEVICE = (
    "Research software, not a medical device. Nothing on this page supports a decision about the care of a patient."
)
NOT_RECALIBRATED = (
    "The probability is the model's own. How well such probabilities agree with what happened is in the evaluation "
    "report of the model (calibration)."
)
PLACE_NOT_KNOWN = "Not known: the model stores no distribution of the answers of validation patients."
CURVE_POINTS = 200
"""Number of days at which the risk curve is computed."""


@dataclass(frozen=True)
class ReportSettings:
    """What a reader may choose.

    Attributes:
        identifiers: show the name of the patient, and names and texts of unknown laboratory columns.
        layout: of the ECG, a name in `ecg_sheet.LAYOUTS`.
        sensitivity: of the ECG in mm/mV, one of `ecg_sheet.SENSITIVITIES`.
    """

    identifiers: bool = False
    layout: str = "3x4"
    sensitivity: float = 10.0


def report_content(
    prediction: Mapping[str, Any],
    inputs: PatientInputs,
    tasks: Mapping[str, Mapping[str, Any]],
    attributions: Sequence[Attribution] = (),
    settings: ReportSettings | None = None,
) -> dict[str, Any]:
    """Collect what the report of a patient says, as JSON values.

    Args:
        prediction: one patient's answer, from `tgmm_hf.data.prediction.predict`.
        inputs: the patient's inputs, from `read_inputs`.
        tasks: `config.tasks` of the model.
        attributions: explanations of the same answer. The first task that has some is explained in the tables.
        settings: choices of the reader.

    Returns:
        A dict whose keys are the sections of the page, in their order.
    """
    settings = settings or ReportSettings()
    not_shown = [why_not_shown(attribution) for attribution in attributions if not is_shown(attribution)]
    attributions = [attribution for attribution in attributions if is_shown(attribution)]
    answered = [name for name in tasks if isinstance(prediction.get(name), Mapping)]
    explained = next((attribution.task for attribution in attributions), None)
    labs = None if explained is None else find(attributions, explained, "labs")
    return {
        "notice": NOT_A_DEVICE,
        "patient": prediction["id"] if settings.identifiers else None,
        "answers": [_answer(name, tasks[name], prediction) for name in answered if "embeds" not in prediction[name]],
        "rests_on": _rests_on(prediction),
        "refused": list(prediction["refused"]),
        "checks": list(prediction["checks"]),
        "notes": [*prediction["notes"], *inputs.notes],
        "explained_task": explained,
        "not_shown": not_shown,
        "labs": [] if inputs.labs is None else _labs(inputs, labs, settings),
        "ecg": _ecg(prediction, inputs, explained, attributions),
        "echo": _echo(prediction),
        "attributions": [plain(attribution) for attribution in attributions],
        "neighbours": None,
        "model": _model(prediction) | {"data fingerprint": inputs.fingerprint},
    }


def _answer(name: str, task: Mapping[str, Any], prediction: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the answer of one task."""
    answer = prediction[name]
    described: dict[str, Any] = {"task": name, "kind": task["kind"], "question": task["question"]}
    if "probabilities" in answer:
        described["candidates"] = [{"name": name, "probability": p} for name, p in answer["probabilities"].items()]
        described["prediction_sets"] = answer.get("prediction_sets") or (
            [answer["prediction_set"]] if "prediction_set" in answer else []
        )
        described["decision"] = answer.get("decision")
        described |= _among_validation(answer)
        return described
    if "value" in answer:
        named = ("value", "unit", "range", "in_range", "deviation")
        described |= {key: answer[key] for key in named if key in answer}
        described["intervals"] = answer.get("intervals") or ([answer["interval"]] if "interval" in answer else [])
        return described
    if "findings" in answer:
        return described | _findings(answer)
    described["score"] = answer["risk"]
    described["risk_by_day"] = dict(answer["risk_by_day"])
    hazard = (task.get("baseline_hazards") or {}).get(_subset(prediction))
    described["place"] = PLACE_NOT_KNOWN if hazard is None else _place(answer["risk"], hazard)
    described["curve"] = None if hazard is None or not answer["risk_by_day"] else _curve(answer["risk"], hazard)
    return described


def _findings(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the findings of a multilabel: name, probability, decision (None without one) and what is calibrated."""
    decisions, calibrated = answer.get("decisions", {}), answer.get("calibrated", {})
    findings = [
        {"name": name, "probability": probability, "present": decisions.get(name, {}).get("present")}
        for name, probability in answer["findings"].items()
    ]
    shown = ", ".join(f"{name} {probability:.3f}" for name, probability in calibrated.items())
    sentence = f"Calibrated probabilities: {shown}. The bars show the model's own." if shown else NOT_RECALIBRATED
    return {"findings": findings, "calibration": f"Every finding has a probability of its own. {sentence}"}


def _among_validation(answer: Mapping[str, Any]) -> dict[str, str]:
    """Say where the probability of the last candidate lies among validation patients, and what it is after calibration.

    Args:
        answer: of a diagnosis; `add_decisions` adds its place.
    """
    place = answer.get("among_validation")
    if place is None:
        return {"calibration": NOT_RECALIBRATED, "place": PLACE_NOT_KNOWN}
    candidate = list(answer["probabilities"])[-1]
    sentence = (
        f"the probability of {candidate!r} is higher than for about {100 * place['share_below']:.0f} % of the "
        f"{place['n']} patients with these modalities."
    )
    if place["calibrated"] is None:
        return {"calibration": NOT_RECALIBRATED, "place": sentence}
    calibration = (
        f"Calibrated probability of {candidate!r}: {place['calibrated']:.3f}. The bars show the model's own "
        "probabilities. One temperature, fitted on the same validation patients, turns one into the other."
    )
    return {"calibration": calibration, "place": sentence}


def _subset(prediction: Mapping[str, Any]) -> str:
    """Name the modalities that an answer rests on, such as "labs+ecg"."""
    return join_names([name for name in MODALITIES if prediction["used"][name]])


def _place(risk: float, hazard: Mapping[str, Any]) -> str:
    """Say where a risk score lies among those that the baseline hazard was fitted on."""
    low, high = hazard["risk_range"]
    side = "above" if risk > hazard["risk_center"] else "below"
    inside = "inside" if low <= risk <= high else "outside"
    return (
        f"The score {risk:.2f} is {side} the mean {hazard['risk_center']:.2f} of the {hazard['n']} patients "
        f"({hazard['fitted_on']}) that the risk by day was fitted on. It lies {inside} their range, {low:.2f} to "
        f"{high:.2f}."
    )


def _curve(risk: float, hazard: Mapping[str, Any]) -> dict[str, list[float]]:
    """Compute the risk at `CURVE_POINTS` days up to the last day that is known."""
    days = np.linspace(0, float(hazard["days"][-1]), CURVE_POINTS)
    return {"days": days.tolist(), "risk": cumulative_incidence(risk, hazard, days)[0].tolist()}


def _rests_on(prediction: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List for each modality what the answer uses: {"modality", "items"}."""
    return [{"modality": MODALITY_NAMES[name], "items": list(prediction["used"][name])} for name in MODALITIES]


def _labs(inputs: PatientInputs, attribution: Attribution | None, settings: ReportSettings) -> list[dict[str, Any]]:
    """List the laboratory cells without their pictures."""
    assert inputs.labs is not None
    rows = [asdict(row) for row in lab_rows(inputs.labs, attribution, settings.identifiers)]
    return [{key: value for key, value in row.items() if not key.endswith("_bar")} for row in rows]


def _ecg(
    prediction: Mapping[str, Any], inputs: PatientInputs, explained: str | None, attributions: Sequence[Attribution]
) -> dict[str, Any] | None:
    """Describe the recording; None without one."""
    if inputs.ecg is None:
        return None
    attribution = None if explained is None else find(attributions, explained, "ecg")
    return {
        "seconds": inputs.ecg.signal.shape[1] / inputs.ecg.sampling_rate,
        "sampling_rate": inputs.ecg.sampling_rate,
        "window": None if inputs.ecg.window is None else list(inputs.ecg.window),
        "used": list(prediction["used"]["ecg"]),
        "not_used": [
            {"lead": lead, "reason": inputs.ecg.problems[lead]} for lead in LEADS if lead in inputs.ecg.problems
        ],
        "lead_shares": lead_shares(attribution),
        "measures": measure_ecg(inputs.ecg),
    }


def _echo(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the views: which are used, and which are missing."""
    used = list(prediction["used"]["echo"])
    return {
        "used": used,
        "missing": [view for view in VIEWS if view not in used],
        "clips": [dict(entry) for entry in prediction["views"]],
    }


def _model(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """List what identifies the model, its weights, its processor, the code and the libraries."""
    names = ("model_fingerprint", "processor_fingerprint", "code_revision")
    identity = {"model": shown_model_name(prediction["model"])}
    return identity | {name.replace("_", " "): prediction[name] for name in names} | package_versions()


def report_html(
    content: Mapping[str, Any],
    inputs: PatientInputs,
    attributions: Sequence[Attribution] = (),
    settings: ReportSettings | None = None,
) -> str:
    """Return the page of a patient.

    Args:
        content: what `report_content` returned.
        inputs: the same inputs.
        attributions: the same explanations.
        settings: the same choices.
    """
    settings = settings or ReportSettings()
    attributions = [attribution for attribution in attributions if is_shown(attribution)]
    task = content["explained_task"]
    of = {name: None if task is None else find(attributions, task, name) for name in ("labs", "ecg", "echo", "views")}
    curves = {answer["task"]: _curve_svg(answer) for answer in content["answers"] if answer.get("curve") is not None}
    return render_page(
        "patient_report.html",
        content=content,
        curves=curves,
        labs=[] if inputs.labs is None else lab_rows(inputs.labs, of["labs"], settings.identifiers),
        ecg=_ecg_drawing(inputs, of["ecg"], settings),
        strips=_strips(content, inputs, of["echo"]),
        sentences={name: method_text(attribution) for name, attribution in of.items() if attribution is not None},
        tables=[
            {
                "title": _table_title(attribution),
                "rows": contribution_rows(attribution),
                "method": method_text(attribution),
                "sum": sum_sentence(attribution),
            }
            for attribution in attributions
            if attribution.modality in ("modalities", "views") and attribution.values.ndim == 1
        ],
        slots=[
            heat_table(attribution)
            for attribution in attributions
            if attribution.modality == "slots" and attribution.values.ndim == 2
        ],
    )


def _table_title(attribution: Attribution) -> str:
    """Write the heading of a table of contributions."""
    what = {"modalities": "Modalities", "views": "Echo views"}[attribution.modality]
    return f"{what}, {attribution.task}"


def _curve_svg(answer: Mapping[str, Any]) -> str:
    """Draw the risk by day of one answer."""
    figure = risk_curve_figure(answer["curve"]["days"], answer["curve"]["risk"], answer["risk_by_day"])
    return inline_svg(render(figure, "svg").decode())


def _ecg_drawing(inputs: PatientInputs, attribution: Attribution | None, settings: ReportSettings) -> dict | None:
    """Draw the recording; None without one."""
    if inputs.ecg is None:
        return None
    start = 0.0 if inputs.ecg.window is None else inputs.ecg.window[0]
    bands = ecg_bands(attribution, start)
    drawing = draw_ecg(inputs.ecg, settings.layout, settings.sensitivity, bands)
    return {"svg": drawing.svg, "notes": drawing.notes, "has_bands": bool(bands)}


def _strips(
    content: Mapping[str, Any],
    inputs: PatientInputs,
    attribution: Attribution | None,
) -> list[Any]:
    """Draw every view that the answer uses, in the order of `VIEWS`."""
    entries = {entry["view"]: entry for entry in content["echo"]["clips"] if entry["used"]}
    return [
        echo_strip(view, inputs.clips[view], attribution, entries.get(view)) for view in VIEWS if view in inputs.clips
    ]
