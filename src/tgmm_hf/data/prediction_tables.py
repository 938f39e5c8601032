"""Predictions as tables: decisions at the stored threshold, `predictions.csv` and `refused.csv`.

A table names a patient by its id, and a file by its position ("ecg", "echo[2]"): the second of the patient's echo
files. No path is written, because a path may name the patient.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tgmm_hf.data.validation_answers import VALIDATION_ANSWERS_KEY, place_among
from tgmm_hf.inputs.echo_reading import list_echo_files
from tgmm_hf.utils.csv_files import write_csv
from tgmm_hf.utils.files import whole_file
from tgmm_hf.utils.names import MODALITIES, join_names

THRESHOLDS_KEY = "thresholds"
"""Key of a task in the configuration: subset -> {"value", "rule", "chosen_on"}."""
FIRST_COLUMNS = ("id", "modalities")
"""First columns of predictions.csv. They tell a file of this command from a file of somebody else."""
REFUSED_COLUMNS = ("id", "row", "item", "reason")
"""Columns of refused.csv. `row` is the place of the patient among the predictions, counted from 1."""
COUNTS = ("refused", "checks", "notes")
"""Lists of a prediction whose lengths are the last columns of predictions.csv."""
USED_COLUMNS = ("lab_cells", "ecg_leads", "echo_views", "ecg_files", "echo_files")

_LONGEST_PREDICTION = 2**22
"""Characters of a file that are read to find its first prediction."""

Prediction = Mapping[str, Any]


def add_decisions(
    prediction: dict[str, Any],
    tasks: Mapping[str, Mapping[str, Any]],
    fits: Callable[[Mapping[str, Any]], bool] = lambda threshold: True,
) -> dict[str, Any]:
    """Add the decision of every diagnosis, and a note where the model stores no threshold; return the prediction.

    A diagnosis also gets its place among the answers of validation patients, if the model stores them.

    Args:
        prediction: One prediction of the pipeline. An answer gets the key "decision": {"answer", "threshold", "text":
            the rule in words}, and the key "among_validation" (`place_among`). A note says if the decision is another
            candidate than the most probable one.
        tasks: Tasks of the model.
        fits: Tells whether a stored threshold was chosen for the present weights, see `Binding.fits`.
    """
    subset = modalities_of(prediction)
    for name, answer in prediction.items():
        if not isinstance(answer, dict) or "probabilities" not in answer:
            continue
        *rest, positive = answer["probabilities"]
        stored_answers = (tasks[name].get(VALIDATION_ANSWERS_KEY) or {}).get(subset)
        if stored_answers is not None and fits(stored_answers):
            answer["among_validation"] = place_among(answer["probabilities"][positive], stored_answers)
        threshold = (tasks[name].get(THRESHOLDS_KEY) or {}).get(subset)
        if threshold is None:
            prediction["notes"].append(f"{name}: the model stores no threshold for {subset}, so there is no decision")
            continue
        if not fits(threshold):
            prediction["notes"].append(f"{name}: the threshold was chosen for other weights, so there is no decision")
            continue
        is_positive = answer["probabilities"][positive] >= threshold["value"]
        negative = rest[0] if len(rest) == 1 else f"not {positive}"
        decided = positive if is_positive else negative
        answer["decision"] = {"answer": decided, "threshold": threshold["value"], "text": _rule(positive, threshold)}
        most_probable = max(answer["probabilities"], key=answer["probabilities"].get)
        is_contradicted = (most_probable == positive) != is_positive
        if is_contradicted:
            prediction["notes"].append(
                f"{name}: {most_probable!r} is the most probable candidate, and the decision is {decided!r}, because "
                f"{answer['decision']['text']}"
            )
    return prediction


def _rule(positive: str, threshold: Mapping[str, Any]) -> str:
    """Write the rule of a stored threshold, such as "'heart failure' is decided from 0.905 upwards"."""
    rule, patients = threshold.get("rule"), threshold.get("chosen_on")
    reason = f" ({rule}, {patients})" if rule and patients else ""
    return f"{positive!r} is decided from {threshold['value']:.3f} upwards{reason}"


def modalities_of(prediction: Prediction) -> str:
    """Name the modalities that a prediction uses, such as "labs+ecg"; "" for none."""
    return join_names([name for name in MODALITIES if prediction["used"][name]])


def files_used(prediction: Prediction, patient: Mapping[str, Any]) -> dict[str, list[str]]:
    """Name the ECG and echo files that a prediction uses, by their position.

    Args:
        prediction: One prediction.
        patient: The patient that was predicted, as the pipeline takes it.

    Returns:
        {"ecg": ["ecg"] or [], "echo": ["echo[2]", ...]}. "echo[2]" is the second file of the list, or of the directory
        in sorted order.
    """
    echo = [positioned(entry["item"], patient) for entry in prediction["views"] if entry["used"]]
    return {"ecg": ["ecg"] if prediction["used"]["ecg"] else [], "echo": sorted(echo)}


def positioned(item: str, patient: Mapping[str, Any]) -> str:
    """Name an item of a prediction by its position if it is a file of the patient; else return it unchanged."""
    echo = patient.get("echo")
    if item == patient.get("ecg"):
        return "ecg"
    if isinstance(echo, str):
        if item == echo:
            return "echo"
        if not Path(item).is_relative_to(echo):
            return item
        files = [str(path) for path in list_echo_files(echo)]
    else:
        files = [str(path) for path in echo or []]
    return f"echo[{files.index(item) + 1}]" if item in files else "echo file" if Path(item).is_absolute() else item


def outputs_of(out: Path) -> dict[str, Path]:
    """Name the files beside the JSON file `out`: "predictions" and "refused" -> path.

    predictions.json gives predictions.csv and refused.csv. Any other name is put before these: x.json gives
    x_predictions.csv and x_refused.csv, because x.csv may be the table that is predicted.
    """
    start = "" if out.stem == "predictions" else f"{out.stem}_"
    return {name: out.with_name(f"{start}{name}.csv") for name in ("predictions", "refused")}


def claim_outputs(out: Path, tables: bool) -> None:
    """Refuse to replace a file that `tgmm predict` did not write. Call it before the work starts.

    Args:
        out: The JSON file.
        tables: The CSV files beside it are written too.

    Raises:
        FileExistsError: If a file exists and is none of this command, or `out` is a directory.
    """
    if out.is_dir():
        raise FileExistsError(f"{out} is a directory. Name a JSON file in it: --out {out / 'predictions.json'}")
    headers: dict[str, Sequence[str]] = {"predictions": FIRST_COLUMNS, "refused": REFUSED_COLUMNS}
    # A device such as /dev/full or /dev/stdout may be read without end.
    foreign = [out] if out.exists() and not (out.is_file() and _is_prediction_file(out)) else []
    for name, path in outputs_of(out).items() if tables else ():
        if path.exists() and not _starts_with(path, headers[name]):
            foreign.append(path)
    if out.suffix.lower() == ".csv":
        raise FileExistsError(f"{out}: --out is the JSON file, and the tables stand beside it. Name it with .json.")
    if foreign:
        raise FileExistsError(
            f"{', '.join(map(str, foreign))}: this file exists, and tgmm predict did not write it. Name another file "
            "with --out."
        )


def _is_prediction_file(path: Path) -> bool:
    """Tell whether a file begins with a prediction, or with a list of them. The rest of a long file is not read."""
    try:
        with path.open(encoding="utf-8") as file:
            first, _ = json.JSONDecoder().raw_decode(file.read(_LONGEST_PREDICTION).lstrip("[ \n"))
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and "used" in first


def _starts_with(path: Path, columns: Sequence[str]) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline(1000).rstrip("\n").startswith(",".join(columns))
    except (OSError, UnicodeDecodeError):
        return False


def write_tables(out: Path, predictions: Iterable[Prediction], patients: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write predictions.csv and refused.csv beside the JSON file `out`, and return their paths.

    Args:
        out: The JSON file.
        predictions: The predictions, with decisions. They are read several times, so an iterator does not do.
        patients: The patients of these predictions, in the same order.
    """
    paths = outputs_of(out)
    columns = list(dict.fromkeys(name for prediction in predictions for name in _row(prediction)))
    last = [name for name in columns if name in (*USED_COLUMNS, *COUNTS)]
    ordered = [*(name for name in columns if name not in last), *last]
    rows: dict[str, tuple[Sequence[str], Iterable[dict[str, Any]]]] = {
        "predictions": (ordered, map(_row, predictions)),
        "refused": (REFUSED_COLUMNS, _refused_rows(predictions, patients)),
    }
    for name, path in paths.items():
        with whole_file(path) as building, building.open("w", encoding="utf-8", newline="") as file:
            write_csv(file, *rows[name])
    return list(paths.values())


def _row(prediction: Prediction) -> dict[str, Any]:
    """Write one prediction as a row of predictions.csv: column -> cell."""
    row: dict[str, Any] = {"id": prediction["id"], "modalities": modalities_of(prediction)}
    for name, answer in prediction.items():
        if isinstance(answer, dict):
            row |= _answer_cells(name, answer)
    row |= {
        column: len(prediction["used"][name])
        for column, name in zip(USED_COLUMNS, ("labs", "ecg", "echo"), strict=False)
    }
    files = prediction.get("files", {})
    row |= {f"{name}_files": " ".join(files.get(name, [])) for name in ("ecg", "echo")}
    return row | {name: len(prediction[name]) for name in COUNTS}


def _answer_cells(name: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Write the answer of one task as cells. A part of a prediction that is no answer has none."""
    cells: dict[str, Any] = {}
    if "probabilities" in answer:
        cells |= {f"{name}.{candidate}": probability for candidate, probability in answer["probabilities"].items()}
        decision = answer.get("decision") or {}
        cells[f"{name}.decision"] = decision.get("answer", "")
        cells[f"{name}.threshold"] = decision.get("threshold", "")
        if text := (answer.get("prediction_set") or {}).get("text"):
            cells[f"{name}.prediction_set"] = text
    if "findings" in answer:
        cells |= {f"{name}.{finding}": probability for finding, probability in answer["findings"].items()}
        decisions = answer.get("decisions", {}).items()
        cells |= {f"{name}.{finding}.present": int(decision["present"]) for finding, decision in decisions}
    if "value" in answer:
        interval = answer.get("interval", {})
        cells |= {f"{name}.value": answer["value"], f"{name}.unit": answer["unit"]}
        cells |= {f"{name}.in_range": int(answer["in_range"])}
        cells |= {f"{name}.{key}": interval.get(key, "") for key in ("low", "high", "level")}
    if "risk_by_day" in answer:
        cells[f"{name}.score"] = answer["risk"]
        cells |= {f"{name}.risk_by_day_{day}": probability for day, probability in answer["risk_by_day"].items()}
    return cells


def _refused_rows(predictions: Iterable[Prediction], patients: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for number, (prediction, patient) in enumerate(zip(predictions, patients, strict=True), start=1):
        for entry in prediction["refused"]:
            item = positioned(entry["item"], patient)
            yield {"id": prediction["id"], "row": number, "item": item, "reason": entry["reason"]}
