"""`pipeline("cardiac-analysis")`: a patient's files or values -> answers and what they rest on, as JSON-able Python.

preprocess     patients -> model inputs and one report a patient (processing_tgmm.py)
_forward       inputs -> encoded once -> the answer of every task
postprocess    answers and reports -> one dict a patient
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from transformers import AutoModel, BatchFeature
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_measured_tasks import CALIBRATION_KEY, INTERVALS_KEY, MEASURED_KINDS
from .inputs.declared_preprocessing import check_processor
from .inputs.unlike_training import trained_before
from .layers.answering import AnswersTasks
from .layers.encoded_batch import TgmmEncoded
from .layers.finding_answers import describe_findings
from .layers.hazards import cumulative_incidence
from .layers.prediction_intervals import describe_value
from .layers.prediction_sets import SETS_KEY, describe_set, levels_of
from .pipeline_binding import Binding
from .pipeline_streaming import StreamingPipeline
from .utils.code_revision import code_revision
from .utils.names import MODALITIES, join_names

PIPELINE_TASK = "cardiac-analysis"
"""Name of the pipeline in transformers."""
PATIENT_KEYS = ("id", "labs", "ecg", "echo", "views")
"""Keys that a patient may have."""
READING_OPTIONS = ("crop", "view_classifier", "units", "strictness")
"""Parameters of a call that go to the processor."""
A_PATIENT = 'A patient is a dict like {"labs": ..., "ecg": ..., "echo": ...}'


class TgmmCardiacPipeline(StreamingPipeline):
    """Answers the model's tasks for patients given as `{"labs": ..., "ecg": ..., "echo": ...}`; every key is optional.

    Each modality is given as the processor takes it. `"views"` maps file names of an echo directory to view names.
    `"id"` comes back in the answer. A modality that cannot be used is refused with its reason, and the answer rests on
    the other modalities.

    Args (of a call):
        inputs: one patient, or a list or generator of patients.
        tasks: names of the tasks to answer; all but retrieval tasks when omitted.
        batch_size: patients encoded together.
        crop: "center", or "three" to average the answers over three 9-s windows of the ECG (as ST-MEM does).
        view_classifier: `EchoViewClassifier` or function that names the views that `"views"` does not give.
        units: "US" or "SI", the units of lab values without a unit, as `TgmmProcessor.__call__` takes it.
        strictness: "note" or "refuse", as `TgmmProcessor.__call__` takes it.

    Returns:
        one dict a patient (a list for a list, a generator for a generator):
        `{"id", "<diagnosis task>": {"probabilities": {candidate: p}, "prediction_set": {"level", "candidates",
        "text"}}, "<prognosis task>": {"risk": r, "risk_by_day": {day: p}}, "<regression task>": {"value", "unit",
        "range", "in_range", "interval": {"level", "low", "high", "text"}}, "<multilabel task>": {"findings": {finding:
        p}, "decisions": {finding: {"present", "threshold"}}, "calibrated": {finding: p}}, "used": {modality: [cells |
        leads | views]}, "views": [{"item", "view", "confidence", "by", "used"}], "units": [{"column", "unit", "given",
        "given_unit"}], "refused": [{"item", "reason"}], "checks": [{"code", "item", "text"}], "notes": [...], "model",
        "model_fingerprint", "processor_fingerprint", "code_revision"}`.
        A model that stores no prediction sets gives none. One with several levels also gives "prediction_sets", a list
        with the sets of all levels. A retrieval task gives `{"embeds": {modality: vector}}`. For a patient with nothing
        usable the keys of the tasks are absent, and `notes` says why. `by` is who named the view. `code_revision` is a
        commit or a digest of the code. The fingerprints name the weights and the settings of the processor.
    """

    one_input = A_PATIENT

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_processor(self.model.config, self.processor)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Sort the parameters of a call by step, as transformers asks for it.

        Returns:
            The arguments of `preprocess` (`READING_OPTIONS`), of `_forward` ("tasks") and of `postprocess`
            (none). A parameter that the call does not give has no key.
        """
        if unknown := set(kwargs) - {"tasks", *READING_OPTIONS}:
            names = ", ".join(("tasks", *READING_OPTIONS))
            raise ValueError(f"Unknown pipeline parameters {sorted(unknown)}; known are {names}.")
        preprocess: dict[str, Any] = {key: kwargs[key] for key in READING_OPTIONS if key in kwargs}
        tasks = kwargs.get("tasks")
        if tasks is not None and not isinstance(tasks, str | list | tuple | set):
            raise TypeError(f"tasks are names of tasks, got {type(tasks).__name__}.")
        if tasks is not None and not tasks:
            raise ValueError("tasks names no task. Name one, or leave tasks out for all but retrieval.")
        forward = {} if tasks is None else {"tasks": [tasks] if isinstance(tasks, str) else list(tasks)}
        return preprocess, forward, {}

    def preprocess(self, patients: Sequence[Mapping[str, Any]], **options: Any) -> dict[str, Any]:
        """Turn patients into model inputs.

        Args:
            patients: as the class describes them.
            **options: `READING_OPTIONS`.

        Returns:
            {"ids": value of "id" or None of every patient, "inputs": the processor's tensors on the model's device,
            empty if no patient has a modality, "reports": one report per patient, see `TgmmProcessor.__call__`}.

        Raises:
            TypeError: if a patient is not a mapping.
            ValueError: if a patient has an unknown key.
        """
        for patient in patients:
            if not isinstance(patient, Mapping):
                raise TypeError(f"{A_PATIENT}, got {type(patient).__name__}.")
            if unknown := set(patient) - set(PATIENT_KEYS):
                raise ValueError(f"Unknown keys {sorted(unknown)} of a patient; known are {list(PATIENT_KEYS)}.")
        ids = [patient.get("id") for patient in patients]
        if all(patient.get(name) is None for patient in patients for name in MODALITIES):
            nothing: dict[str, Any] = {"used": {name: [] for name in MODALITIES}}
            nothing |= {"views": [], "units": [], "refused": [], "checks": []}
            nothing["notes"] = ["no modality was given"]
            return {"ids": ids, "inputs": {}, "reports": [nothing for _ in patients]}
        # transformers knows neither the arguments nor the result of our processor.
        process = cast(Callable[..., tuple[BatchFeature, list[dict[str, Any]]]], self.processor)
        features, reports = process(
            **{name: [patient.get(name) for patient in patients] for name in MODALITIES},
            views=[patient.get("views") for patient in patients],
            **options,
            on_refusal="report",
            return_report=True,
            return_tensors="pt",
        )
        return {"ids": ids, "inputs": features.to(self.device), "reports": reports}

    @property
    def _answering_model(self) -> AnswersTasks:
        """The model of the pipeline, typed as a model that answers tasks."""
        return cast(AnswersTasks, self.model)

    def _forward(self, batch: dict[str, Any], tasks: Sequence[str] | None = None) -> dict[str, Any]:
        """Encode once and answer every task. Over several ECG windows the answers are averaged.

        Args:
            batch: what `preprocess` returns.
            tasks: names of the tasks; all but retrieval tasks if None.

        Returns:
            The batch with two more keys. "answers": task -> answer of the whole batch, see `_mean_answer`; empty if no
            patient has a modality. "num_windows": number of ECG windows.

        Raises:
            ValueError: if the model does not have a task.
        """
        model = self._answering_model
        settings: Mapping[str, Any] = model.config.tasks or {}
        names = list(tasks) if tasks is not None else [n for n, task in settings.items() if task["kind"] != "retrieval"]
        if unknown := set(names) - set(settings):
            raise ValueError(f"Unknown tasks {sorted(unknown)}; this model has {sorted(settings)}.")
        model.eval()
        windows = self._encode(batch["inputs"]) if batch["inputs"] else []
        answered = [model.answer_subsets(encoded, names, [MODALITIES]) for encoded in windows]
        answers: dict[str, dict[str, Any]] = {name: {} for name in names}
        for name in names if answered else []:
            outputs = [answer[name][MODALITIES] for answer in answered]
            answers[name] = _mean_answer(outputs, settings[name]["kind"])
        return {**batch, "answers": answers, "num_windows": len(windows)}

    def _encode(self, inputs: Mapping[str, torch.Tensor]) -> list[TgmmEncoded]:
        """Encode a batch and return one `TgmmEncoded` per ECG window, or one if there are no several windows.

        Labs and echo are encoded once only, because they are the same for every window.
        """
        inputs, encode = dict(inputs), self._answering_model.encode
        if "ecg_values" not in inputs or inputs["ecg_values"].ndim == 3:
            return [encode(**inputs)]
        windows = inputs.pop("ecg_values")
        mask = inputs["ecg_mask"]
        first = encode(**inputs, ecg_values=windows[:, 0])
        further = [encode(ecg_values=windows[:, i], ecg_mask=mask) for i in range(1, windows.shape[1])]
        return [first] + [TgmmEncoded({**first.tokens, "ecg": one.tokens["ecg"]}, first.present) for one in further]

    def postprocess(self, batch: dict[str, Any], **_: Any) -> list[dict[str, Any]]:
        """Turn what `_forward` returns into a list of one JSON-able dict per patient. The class lists the keys."""
        revision = code_revision(self.model, self.processor)
        binding = self.binding_check(self.model, self.processor)
        results = []
        for row, (identifier, report) in enumerate(zip(batch["ids"], batch["reports"], strict=True)):
            result: dict[str, Any] = {"id": identifier}
            notes = list(report["notes"])
            if any(report["used"].values()):
                for name, answer in batch["answers"].items():
                    subset = join_names([modality for modality in MODALITIES if report["used"][modality]])
                    task = self.model.config.tasks[name]
                    if task["kind"] in MEASURED_KINDS:
                        result[name], further = _measured(name, task, answer, row, subset, binding)
                        further += _window_notes(name, result[name], subset, batch["num_windows"])
                    else:
                        result[name] = self._describe(name, answer, row, subset, notes)
                        further = _doubts_about(name, task, result[name], subset, binding, batch["num_windows"])
                    notes += further
            else:
                notes.append("nothing usable was given: no answer")
            codes = [check["code"] for check in report["checks"]]
            notes += trained_before(getattr(self.processor, "training_inputs", None), codes, binding)
            result |= {key: report[key] for key in ("used", "views", "units", "refused")}
            result |= {"checks": [*report["checks"], *binding.checks], "notes": [*notes, *binding.notes]}
            result |= {"model": self.model.name_or_path, "model_fingerprint": binding.model}
            result |= {"processor_fingerprint": binding.processor, "code_revision": revision}
            results.append(result)
        return results

    def _describe(
        self, name: str, answer: Mapping[str, Any], row: int, subset: str, notes: list[str]
    ) -> dict[str, Any]:
        """Describe one task's answer for one patient, who has the modalities of `subset`.

        Args:
            name: of the task.
            answer: the task's answer of the whole batch, see `_mean_answer`.
            row: of the patient in the batch.
            subset: modalities that the patient has, such as "labs+ecg". It selects the baseline hazard.
            notes: a line is added for everything that the answer cannot give.

        Returns:
            {"probabilities": {candidate: p}} of a diagnosis, {"risk", "risk_by_day": {day: p}} of a prognosis, or
            {"embeds": {modality: vector}} of a retrieval task.
        """
        task = self.model.config.tasks[name]
        if task["kind"] == "retrieval":
            present = [modality for modality in MODALITIES if bool(answer["mask"][modality][row])]
            return {"embeds": {modality: answer["embeds"][modality][row].float().tolist() for modality in present}}
        _refuse_no_number(answer["probabilities"][row])
        if task["kind"] == "diagnosis":
            return {"probabilities": dict(zip(task["candidates"], answer["probabilities"][row].tolist(), strict=True))}
        risk = float(answer["risk"][row])
        hazard = task.get("baseline_hazards", {}).get(subset)
        if hazard is None:
            notes.append(f"{name}: the model stores no baseline hazard for {subset}, so no risk by day can be given")
            return {"risk": risk, "risk_by_day": {}}
        return {"risk": risk, "risk_by_day": _risk_by_day(name, risk, hazard, task["report_days"], notes)}


def _refuse_no_number(answer: torch.Tensor) -> None:
    """Raise a FloatingPointError if an answer is not finite."""
    if not bool(torch.isfinite(answer).all()):
        raise FloatingPointError(
            "The model's answer is not a number, so its weights are damaged or the training diverged. Load the model "
            "again, or train it anew."
        )


def _measured(
    name: str, task: Mapping[str, Any], answer: Mapping[str, Any], row: int, subset: str, binding: Binding
) -> tuple[dict[str, Any], list[str]]:
    """Describe the number of a regression or the findings of a multilabel for one patient, with notes.

    The arguments are those of `_describe`; `binding` tells whether intervals and thresholds fit the present weights.
    """
    if task["kind"] == "multilabel":
        _refuse_no_number(answer["probabilities"][row])
        is_fitting = binding.fits(task.get(CALIBRATION_KEY) or {})
        return describe_findings(name, task, answer["probabilities"][row].tolist(), subset, is_fitting)
    _refuse_no_number(answer["value"][row])
    deviation = None if answer["deviation"] is None else float(answer["deviation"][row])
    is_fitting = binding.fits(task.get(INTERVALS_KEY) or {})
    return describe_value(name, task, float(answer["value"][row]), deviation, subset, is_fitting)


def _window_notes(name: str, answer: Mapping[str, Any], subset: str, num_windows: int) -> list[str]:
    """Note that intervals and thresholds were fitted on one ECG window, if the answer is the mean of several."""
    if num_windows == 1 or "ecg" not in subset or not {"interval", "decisions"} & set(answer):
        return []
    return [f"{name}: intervals and thresholds were fitted on one ECG window, not on the mean of several"]


def _doubts_about(
    name: str, task: Mapping[str, Any], answer: dict[str, Any], subset: str, binding: Binding, num_windows: int
) -> list[str]:
    """Add the prediction sets of a diagnosis to its answer, in place. Return notes on what was fitted for others.

    Args:
        name: of the task.
        task: its settings.
        answer: one patient's answer.
        subset: modalities that the patient has, such as "labs+ecg".
        binding: tells whether sets and hazards were fitted for the present weights.
        num_windows: number of ECG windows that the answer is the mean of.
    """
    if "probabilities" in answer:
        keys, notes = _sets(name, task, list(answer["probabilities"].values()), subset, binding)
        answer |= keys
        if keys and num_windows > 1 and "ecg" in subset:
            notes.append(f"{name}: the prediction sets were fitted on one ECG window, not on the mean of several")
        return notes
    if answer.get("risk_by_day") and not binding.fits(task["baseline_hazards"][subset]):
        return [f"{name}: the baseline hazards were fitted for other weights, so the risks by day are doubtful"]
    return []


def _sets(
    name: str, task: Mapping[str, Any], probabilities: Sequence[float], subset: str, binding: Binding
) -> tuple[dict[str, Any], list[str]]:
    """Describe the prediction sets of one patient, if the model stores any.

    Args:
        name: of the task, for the notes.
        task: settings of the task.
        probabilities: of the task's candidates.
        subset: modalities that the patient has, such as "labs+ecg".
        binding: tells whether the sets were fitted for the present weights.

    Returns:
        Keys to add to the answer: "prediction_set" at the main level, and "prediction_sets" if there are several
        levels; and notes.
    """
    stored = task.get(SETS_KEY)
    if not stored:
        return {}, []
    described = [
        describe_set(name, task, probabilities, subset, level, binding.fits(stored)) for level in levels_of(task)
    ]
    sets, notes = [each for each, _ in described], [note for _, lines in described for note in lines]
    keys: dict[str, Any] = {"prediction_set": sets[0]}
    return keys | ({"prediction_sets": sets} if len(sets) > 1 else {}), list(dict.fromkeys(notes))


def _mean_answer(outputs: Sequence[Any], kind: str) -> dict[str, Any]:
    """Average the answers of one task over the ECG windows.

    Args:
        outputs: the model's answer for every window.
        kind: of the task.

    Returns:
        {"probabilities": (patients, candidates or findings)} for a diagnosis or multilabel. A regression has "value"
        (patients,) and "deviation" (patients,) or None. A prognosis also has "risk" (patients,). A retrieval
        task has {"embeds": modality -> unit vectors (patients, width), "mask": modality -> (patients,) bool}.
    """
    if kind == "retrieval":
        embeds = {name: torch.stack([output.embeds[name].float() for output in outputs]).mean(0) for name in MODALITIES}
        unit = {name: torch.nn.functional.normalize(vectors, dim=-1) for name, vectors in embeds.items()}
        return {"embeds": unit, "mask": outputs[0].embeds_mask}
    if kind == "regression":
        parts = {name: [getattr(output, name) for output in outputs] for name in ("value", "deviation")}
        return {
            name: None if part[0] is None else torch.stack([values.float() for values in part]).mean(0).cpu()
            for name, part in parts.items()
        }
    answer = {"probabilities": torch.stack([output.probabilities.float() for output in outputs]).mean(0).cpu()}
    if kind == "prognosis":
        answer["risk"] = torch.stack([output.risk.float() for output in outputs]).mean(0).cpu()
    return answer


def _risk_by_day(
    name: str, risk: float, hazard: Mapping[str, Any], days: Sequence[float], notes: list[str]
) -> dict[str, float]:
    """Turn a risk score into the probability of the event by each day.

    Args:
        name: of the task, for the notes.
        risk: the model's score of one patient.
        hazard: baseline hazard of the patient's modalities, as the configuration stores it.
        days: the days to report.
        notes: a line is added for a score outside the fitted range, and for each day that no patient was followed to.

    Returns:
        Day as text ("365") -> probability of the event by that day. A day that no patient was followed to is left out.
    """
    low, high = hazard["risk_range"]
    if not low <= risk <= high:
        notes.append(
            f"{name}: the score {risk:.6g} lies outside those of the patients that the baseline hazard was fitted on "
            f"({low:.6g} to {high:.6g}), so the risks by day are extrapolated"
        )
    by_day = {}
    for day, probability in zip(days, cumulative_incidence(risk, hazard, days)[0], strict=True):
        if math.isfinite(probability):
            by_day[f"{day:g}"] = float(probability)
        else:
            notes.append(f"{name}: no patient was followed to day {day:g}, so no risk can be given for it")
    return by_day


# A copy beside a saved model makes the task known, as `import tgmm_hf` does. Then
# `pipeline("cardiac-analysis", model=object)` works for a model that was loaded with `trust_remote_code`.
if not __name__.startswith("tgmm_hf.") and PIPELINE_TASK not in PIPELINE_REGISTRY.get_supported_tasks():
    PIPELINE_REGISTRY.register_pipeline(PIPELINE_TASK, pipeline_class=TgmmCardiacPipeline, pt_model=AutoModel)

__all__ = ["PIPELINE_TASK", "TgmmCardiacPipeline"]
