"""Predictions as tables: decisions, names of files, and files of others that are not replaced."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tgmm_hf.data.prediction_tables import add_decisions, claim_outputs, files_used, outputs_of, write_tables

TASKS: dict[str, Any] = {
    "hf": {"candidates": ["no", "yes"], "thresholds": {"labs+ecg": {"value": 0.3}}},
    "kind": {"candidates": ["a", "b", "c"], "thresholds": {"labs+ecg": {"value": 0.5}}},
}


def prediction(identifier: str | None = "a", yes: float = 0.4, **changes: Any) -> dict[str, Any]:
    return {
        "id": identifier,
        "hf": {"probabilities": {"no": 1 - yes, "yes": yes}},
        "kind": {"probabilities": {"a": 0.5, "b": 0.2, "c": 0.3}},
        "risk": {"risk": 0.25, "risk_by_day": {"180": 0.1, "365": 0.2}},
        "used": {"labs": ["age"], "ecg": ["I", "II"], "echo": []},
        "views": [],
        "refused": [],
        "checks": [],
        "notes": [],
        **changes,
    }


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_decision_is_that_of_the_stored_threshold() -> None:
    decided = add_decisions(prediction(), TASKS)
    assert decided["hf"]["decision"]["answer"] == "yes" and decided["hf"]["decision"]["threshold"] == 0.3
    assert decided["kind"]["decision"]["answer"] == "not c"
    assert add_decisions(prediction(yes=0.3), TASKS)["hf"]["decision"]["answer"] == "yes"
    assert add_decisions(prediction(yes=0.29), TASKS)["hf"]["decision"]["answer"] == "no"


def test_a_decision_against_the_most_probable_candidate_is_noted_with_its_rule() -> None:
    stored = {"value": 0.905, "rule": "Youden's index", "chosen_on": "validation split, n = 61, 29 positive"}
    tasks = TASKS | {"hf": {**TASKS["hf"], "thresholds": {"labs+ecg": stored}}}
    decided = add_decisions(prediction(yes=0.572), tasks)
    assert decided["hf"]["decision"]["answer"] == "no"
    for part in ("'yes' is decided from 0.905 upwards", "Youden", "n = 61"):
        assert part in decided["hf"]["decision"]["text"]
    [note] = [note for note in decided["notes"] if note.startswith("hf:")]
    assert "'yes' is the most probable candidate, and the decision is 'no'" in note and "0.905" in note
    for probability in (0.3, 0.95):  # the decision is the most probable candidate
        assert not [note for note in add_decisions(prediction(yes=probability), tasks)["notes"] if "hf:" in note]


def test_without_a_threshold_there_is_no_decision_and_a_note() -> None:
    used = {"labs": ["age"], "ecg": [], "echo": []}
    decided = add_decisions(prediction(used=used), TASKS)
    assert "decision" not in decided["hf"] and "hf: the model stores no threshold for labs" in decided["notes"][0]
    changed = add_decisions(prediction(), TASKS, lambda threshold: False)
    assert "decision" not in changed["hf"] and "other weights" in changed["notes"][0]


def test_tables_hold_what_a_reader_needs(tmp_path: Path) -> None:
    refused = [{"item": "labs.Potassium", "reason": "=cmd"}, {"item": "/x/ecg", "reason": "broken"}]
    first = add_decisions(prediction("=1+1", refused=refused, files={"ecg": ["ecg"], "echo": []}), TASKS)
    nothing = {"id": "b", "used": {"labs": [], "ecg": [], "echo": []}, "views": []}
    second = nothing | {"refused": [], "checks": [], "notes": ["nothing usable was given: no answer"]}
    out = tmp_path / "predictions.json"
    paths = write_tables(out, [first, second], [{"ecg": "/x/ecg"}, {}])
    assert [path.name for path in paths] == ["predictions.csv", "refused.csv"]
    row, empty = read(paths[0])
    assert row["id"] == "'=1+1" and row["modalities"] == "labs+ecg"
    assert float(row["hf.yes"]) == 0.4 and row["hf.decision"] == "yes" and float(row["hf.threshold"]) == 0.3
    assert float(row["risk.risk_by_day_365"]) == 0.2 and (row["refused"], row["ecg_files"]) == ("2", "ecg")
    assert empty["id"] == "b" and empty["hf.yes"] == "" and empty["notes"] == "1"
    entries = read(paths[1])
    assert [entry["item"] for entry in entries] == ["labs.Potassium", "ecg"] and entries[0]["reason"] == "'=cmd"
    assert "/x/" not in paths[0].read_text() + paths[1].read_text()


def test_files_are_named_by_position(tmp_path: Path) -> None:
    for name in ("b.dcm", "a.dcm"):
        (tmp_path / name).write_bytes(b"")
    used = [{"item": str(tmp_path / "b.dcm"), "used": True}, {"item": str(tmp_path / "a.dcm"), "used": False}]
    in_directory = files_used(prediction(views=used), {"echo": str(tmp_path), "ecg": "x"})
    assert in_directory == {"ecg": ["ecg"], "echo": ["echo[2]"]}
    in_list = files_used(prediction(views=used), {"echo": [str(tmp_path / "b.dcm"), str(tmp_path / "a.dcm")]})
    assert in_list["echo"] == ["echo[1]"]


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "x.json"
    assert [path.name for path in outputs_of(out).values()] == ["x_predictions.csv", "x_refused.csv"]
    claim_outputs(out, tables=True)
    out.write_text(json.dumps([prediction()]))
    write_tables(out, [prediction()], [{}])
    claim_outputs(out, tables=True)  # its own files may be replaced
    (tmp_path / "x_refused.csv").write_text("id,item,reason\n")  # of `tgmm prepare`
    claim_outputs(out, tables=False)
    with pytest.raises(FileExistsError, match=r"x_refused\.csv"):
        claim_outputs(out, tables=True)
    out.write_text('{"Creatinine": 1.4}')
    with pytest.raises(FileExistsError, match=r"x\.json"):
        claim_outputs(out, tables=False)
    with pytest.raises(FileExistsError, match=r"\.json"):
        claim_outputs(tmp_path / "new.csv", tables=True)
    with pytest.raises(FileExistsError, match="is a directory"):
        claim_outputs(tmp_path, tables=False)


@pytest.mark.parametrize("device", ["/dev/full", "/dev/stdout"])
def test_a_device_is_refused_and_never_read(device: str) -> None:
    with pytest.raises(FileExistsError, match="did not write it"):
        claim_outputs(Path(device), tables=False)
