"""The front door: one patient -> prediction, attributions, and the raw material that a report draws."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.explanation.ecg import (
    ecg_methods,
    explain_ecg_guided,
    explain_ecg_samples,
    explain_ecg_token_path,
    explain_ecg_tokens,
)
from tgmm_hf.explanation.echo import echo_methods, explain_echo_regions
from tgmm_hf.explanation.labs import explain_cells, explain_cells_by_gradient
from tgmm_hf.explanation.material import Material, read_material
from tgmm_hf.explanation.modalities import explain_modalities
from tgmm_hf.explanation.scoring import PatientScore, default_task, question_of
from tgmm_hf.explanation.slots import explain_slots
from tgmm_hf.explanation.step_progress import Progress, StepProgress
from tgmm_hf.explanation.units import explain_ecg_by_occlusion, explain_echo_by_occlusion
from tgmm_hf.explanation.verified import best_method, marked, stored_check
from tgmm_hf.explanation.views import explain_views
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline

METHODS: dict[str, tuple[str, ...]] = {
    "labs": ("shap", "gradient_x_input"),
    "ecg": (
        "token_integrated_gradients",
        "integrated_gradients",
        "grad_cam_plus_plus",
        "guided_grad_cam",
        "gradient_x_activation",
        "occlusion",
    ),
    "echo": ("occlusion", "gradient_x_activation", "grad_cam_plus_plus"),
}
"""Modality -> its methods, the default first. docs/results/explanation/ has the measurement behind the order."""
CAPTUM_METHOD = "integrated_gradients"
"""The only one of them that needs the package captum (extra `explain`)."""
STEPS_BESIDE_METHODS = 3
"""The prediction, the modalities, and the material for a report."""


def methods_of(model: Any) -> dict[str, tuple[str, ...]]:
    """List the methods that can explain a model: modality -> names of `METHODS`, the default first."""
    return {**METHODS, "ecg": ecg_methods(model), "echo": echo_methods(model)}


def default_methods(model: Any, task: str | None = None) -> dict[str, tuple[str, ...]]:
    """Return the methods that `explain` takes when none are named: modality -> names of `METHODS`.

    Args:
        model: the model.
        task: name of the task; the first diagnosis or prognosis when None.
    """
    return chosen_methods(None, stored_check(model), task or default_task(model.config), methods_of(model))


@dataclass(frozen=True)
class Explanation:
    """Why the model answered as it did.

    Attributes:
        prediction: the answer, as the pipeline gives it.
        task: the task that is explained.
        target: the candidate that is explained; "risk" for a prognosis.
        attributions: one per modality and method, and those of modalities, views and slots.
        material: raw inputs in physical units.
        notes: sentences for the reader.
    """

    prediction: dict[str, Any]
    task: str
    target: str
    attributions: tuple[Attribution, ...] = ()
    material: Material = field(default_factory=Material)
    notes: tuple[str, ...] = ()

    def attribution(self, modality: str, method: str | None = None) -> Attribution | None:
        """Return the first attribution of a modality, or the one by `method`; None if there is none."""
        for attribution in self.attributions:
            if attribution.modality == modality and method in (None, attribution.method):
                return attribution
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return prediction and attributions as JSON values. The raw material is left out."""
        return {
            "task": self.task,
            "target": self.target,
            "prediction": self.prediction,
            "attributions": [attribution.to_dict() for attribution in self.attributions],
            "notes": list(self.notes),
        }


def explain(  # noqa: PLR0913 - what is explained, of whom, and how
    model: Any,
    processor: Any,
    patient: Mapping[str, Any],
    *,
    task: str | None = None,
    target: str | None = None,
    methods: Mapping[str, Sequence[str]] | None = None,
    units: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Explanation:
    """Explain the answer of a model for one patient.

    Args:
        model: `TgmmModel`. It is set to evaluation mode.
        processor: `TgmmProcessor` of the model.
        patient: as the pipeline takes it: {"labs", "ecg", "echo", "views", "id"}, every key optional.
        task: name of a diagnosis or prognosis task; the model's first diagnosis when None.
        target: candidate of a diagnosis; the last candidate when None.
        methods: modality -> names of `METHODS`. When None, the best method of the check beside the model, else the
            first of `METHODS`. Each attribution has a note that says whether its method was verified.
        units: "US" or "SI", units of lab values without a unit.
        seed: seed of SHAP's permutations.
        progress: called with the name of the step that runs and the share of the work that is done, 0 to 1.

    Returns:
        The explanation. Without any usable input it has no attributions.

    Raises:
        ValueError: if a task, target, modality or method is unknown.
        ImportError: if integrated gradients of an ECG are asked for without captum (extra `explain`).
    """
    task = task or default_task(model.config)
    question = question_of(model.config.tasks, task, target)
    check = stored_check(model)
    chosen = chosen_methods(methods, check, task, methods_of(model))
    running = StepProgress(progress)
    running.begin("prediction")
    pipe = TgmmCardiacPipeline(model=model, processor=processor, device=model.device)
    batch = pipe.preprocess([patient], units=units)
    answerable = [name for name, settings in model.config.tasks.items() if settings["kind"] != "retrieval"]
    with torch.no_grad():
        prediction = pipe.postprocess(pipe._forward(batch, answerable))[0]
    report = batch["reports"][0]
    if not any(report["used"].values()):
        return Explanation(prediction, question.task, question.target, notes=("nothing usable was given",))
    labs = processor.labs_text(patient.get("labs"), units)
    score = PatientScore(model, batch["inputs"], question)
    methods_of_patient = steps(score, processor, labs, chosen, seed, within=running.within)
    running.number = len(methods_of_patient) + STEPS_BESIDE_METHODS
    running.begin("modalities")
    attributions = [explain_modalities(score), *explain_slots(score)]
    for modality, name, method in methods_of_patient:
        running.begin(f"{modality}: {name}")
        attributions.append(marked(method(), check))
    running.begin("material")
    material = read_material(processor, patient, report, labs)
    return Explanation(prediction, question.task, question.target, tuple(attributions), material)


def chosen_methods(
    methods: Mapping[str, Sequence[str]] | None,
    check: Mapping[str, Any] | None,
    task: str,
    possible: Mapping[str, tuple[str, ...]] = METHODS,
) -> dict[str, tuple[str, ...]]:
    """Check the methods of a call, or choose the default ones.

    Args:
        methods: modality -> names of methods, or None.
        check: the check beside the model, or None.
        task: name of the task.
        possible: modality -> the methods that can explain the model, the default first.

    Raises:
        ValueError: on an unknown modality or method, or one that cannot explain the model.
    """
    if methods is None:
        return {modality: (best_method(check, task, modality) or names[0],) for modality, names in possible.items()}
    for modality, names in methods.items():
        if unknown := sorted(set(names) - set(METHODS.get(modality, ()))):
            raise ValueError(f"Unknown methods {unknown} for {modality!r}; known are {METHODS}.")
        if unfit := sorted(set(names) - set(possible[modality])):
            raise ValueError(
                f"The methods {unfit} cannot explain the {modality} encoder of this model. Take one of "
                f"{', '.join(possible[modality])}."
            )
    return {modality: tuple(names) for modality, names in methods.items()}


def steps(  # noqa: PLR0913 - what is explained, how, and who is told
    score: PatientScore,
    processor: Any,
    labs: LabsText,
    chosen: Mapping[str, Sequence[str]],
    seed: int = 0,
    views: bool = True,
    within: Callable[[float], None] | None = None,
) -> list[tuple[str, str, Callable[[], Attribution]]]:
    """List (modality, method, function that computes it) of one patient, for the modalities that are present.

    Args:
        score: the patient.
        processor: `TgmmProcessor`.
        labs: the patient's lab row with its text.
        chosen: modality -> names of `METHODS`.
        seed: seed of SHAP's permutations.
        views: whether to explain the echo views too.
        within: called with the share of a long method that is done, 0 to 1.
    """
    rate = processor.feature_extractor.model_rate
    functions: dict[tuple[str, str], Callable[[], Attribution]] = {
        ("labs", "shap"): partial(explain_cells, score, processor, labs, seed),
        ("labs", "gradient_x_input"): partial(explain_cells_by_gradient, score, processor, labs),
        ("ecg", "integrated_gradients"): partial(explain_ecg_samples, score, rate),
        ("ecg", "token_integrated_gradients"): partial(explain_ecg_token_path, score, rate),
        ("ecg", "occlusion"): partial(explain_ecg_by_occlusion, score, rate, within),
        ("ecg", "grad_cam_plus_plus"): partial(explain_ecg_tokens, score, rate),
        ("ecg", "gradient_x_activation"): partial(explain_ecg_tokens, score, rate, "gradient_x_activation"),
        ("ecg", "guided_grad_cam"): partial(explain_ecg_guided, score, rate),
        ("echo", "grad_cam_plus_plus"): partial(explain_echo_regions, score),
        ("echo", "occlusion"): partial(explain_echo_by_occlusion, score, within),
        ("echo", "gradient_x_activation"): partial(explain_echo_regions, score, "gradient_x_activation"),
    }
    functions_of_patient = [
        (modality, name, functions[modality, name])
        for modality, names in chosen.items()
        if modality in score.present
        for name in names
    ]
    if views and "echo" in score.present:
        functions_of_patient.append(("views", "shapley", partial(explain_views, score)))
    return functions_of_patient
