"""The small inputs of ../shared/cases that gave a wrong answer in version 0.1, and the right value of each.

They are real files, so each kind has a test of its own elsewhere that makes its input. One section per folder.
"""

from pathlib import Path

import numpy as np
import pytest
from command_line import run
from input_files import colour_distance
from tiny_models import smallest_model, tiny_tokenizer
from transformers import pipeline

import tgmm_hf
from tgmm_hf.data.prediction import patient_from_files, patients_from_table
from tgmm_hf.data.table_files import TableFormat
from tgmm_hf.inputs.echo_reading import read_echo_clip
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

CHEST = LEADS[6:]


@pytest.fixture(scope="module")
def cases(shared_dir: Path) -> Path:
    if not (shared_dir / "cases").is_dir():
        pytest.skip("../shared/cases is not here")
    return shared_dir / "cases"


@pytest.fixture(scope="module")
def pipe() -> tgmm_hf.TgmmCardiacPipeline:
    model = smallest_model(seed=2)
    processor = tgmm_hf.default_processor(model.config, tiny_tokenizer())
    return pipeline("cardiac-analysis", model=model, processor=processor, device="cpu")


def files(folder: Path) -> set[str]:
    """List the cases of a folder: each WFDB recording once, by its name without suffix."""
    return {path.stem if path.suffix in (".hea", ".dat") else path.name for path in folder.iterdir()}


# ---- ECG

EQUAL_TO_REFERENCE = {
    "reference.dcm": 0,
    "big_endian.dcm": 0,
    "empty_baseline.dcm": 0.002,  # stored in steps of 1 uV, the reference in steps of 0.3 uV; in SD of the window
    "frames_4x": 0.02,
    "names_a": 0.02,
    "no_preamble.dcm": 0.002,
    "rhythm_and_median_beats.dcm": 0.02,
    "twelve_bits.dcm": 0.002,
    "two_groups.dcm": 0.002,
    "year_date": 0.02,
}
"""Case -> largest difference of its window from the reference's, in SD."""
DOUBTFUL = {"clipped": "ecg_clipped", "v6_gain": "ecg_amplitude"}
"""Case -> code of its check."""
OTHER_ECGS = {"uncalibrated_chest", "mu_law.dcm"}


@pytest.fixture(scope="module")
def reference(cases: Path) -> np.ndarray:
    return EcgFeatureExtractor().prepare(cases / "ecg" / "reference.dcm").values


def test_every_ecg_case_is_asserted(cases):
    assert files(cases / "ecg") == {*EQUAL_TO_REFERENCE, *DOUBTFUL, *OTHER_ECGS}


@pytest.mark.parametrize(("name", "limit"), EQUAL_TO_REFERENCE.items())
def test_the_window_equals_the_references(cases, reference, name, limit):
    prepared = EcgFeatureExtractor().prepare(cases / "ecg" / name)
    assert prepared.mask.all() and prepared.checks == []
    assert np.abs(prepared.values - reference).max() <= limit


def test_a_derived_or_chosen_part_is_noted(cases):
    notes = EcgFeatureExtractor().prepare(cases / "ecg" / "rhythm_and_median_beats.dcm").notes
    assert any("group 1 of 2" in note for note in notes) and any("derived from I and II" in note for note in notes)
    notes = EcgFeatureExtractor().prepare(cases / "ecg" / "two_groups.dcm").notes
    assert any("groups 1 and 2 of 2" in note for note in notes)


@pytest.mark.parametrize(("name", "code"), DOUBTFUL.items())
def test_a_doubtful_lead_is_named(cases, name, code):
    checks = EcgFeatureExtractor().prepare(cases / "ecg" / name).checks
    leads = LEADS if name == "clipped" else ("V6",)
    assert [(check["code"], check["item"]) for check in checks] == [(code, f"ecg.{lead}") for lead in leads]


def test_leads_without_calibration_are_masked_and_named(cases):
    prepared = EcgFeatureExtractor().prepare(cases / "ecg" / "uncalibrated_chest")
    assert prepared.mask.tolist() == [lead not in CHEST for lead in LEADS]
    assert all(any(lead in note and "gain is 0" in note for note in prepared.notes) for lead in CHEST)


def test_mu_law_is_refused_by_name(cases):
    with pytest.raises(InputRefusedError, match="mu-law"):
        EcgFeatureExtractor().prepare(cases / "ecg" / "mu_law.dcm")


@pytest.mark.parametrize("name", sorted({*EQUAL_TO_REFERENCE, *DOUBTFUL, *OTHER_ECGS}))
def test_the_answer_of_a_patient_follows_the_case(cases, pipe, name):
    """The same ECG gives the same answer; a doubt and a refusal stand in the answer."""
    answer, plain = (
        pipe({"labs": {"Creatinine": 1.4}, "ecg": str(cases / "ecg" / file)}) for file in (name, "reference.dcm")
    )
    risks = [part["hf_diagnosis"]["probabilities"]["heart failure"] for part in (answer, plain)]
    if name in EQUAL_TO_REFERENCE:
        assert risks[0] == pytest.approx(risks[1], abs=0.005) and answer["used"]["ecg"] == list(LEADS)
    if name in DOUBTFUL:
        assert {check["code"] for check in answer["checks"]} >= {DOUBTFUL[name]}
    refused = {entry["item"] for entry in answer["refused"]}
    assert bool(refused) == (name == "mu_law.dcm")
    assert bool(answer["used"].get("ecg")) == (name != "mu_law.dcm")


# ---- echo


def read_or_reason(path: Path):
    try:
        return read_echo_clip(path)
    except InputRefusedError as error:
        return error.reason


def test_every_echo_case_has_its_right_value(cases):
    answers = {name: read_or_reason(cases / "echo" / name) for name in files(cases / "echo")}
    black, frozen = answers.pop("black.dcm"), answers.pop("frozen.dcm")
    assert "black" in black and "do not change" in frozen
    counted, marked = answers.pop("no_number_of_frames.dcm"), answers.pop("rgb_without_marker.dcm")
    assert counted.total_frames == marked.total_frames == 36
    assert [note["code"] for note in counted.notes] == ["frames_counted"] and marked.notes == []
    assert counted.colour_space == marked.colour_space == "YBR"
    assert colour_distance(counted.frames, marked.frames) <= 16  # the same cine, uncompressed and as JPEG
    assert answers == {}


@pytest.mark.parametrize("name", ["black.dcm", "frozen.dcm", "no_number_of_frames.dcm", "rgb_without_marker.dcm"])
def test_a_clip_without_content_is_refused_in_the_answer(cases, pipe, name):
    answer = pipe({"labs": {"Creatinine": 1.4}, "echo": {"A4C": str(cases / "echo" / name)}})
    is_empty = name in ("black.dcm", "frozen.dcm")
    assert bool(answer["refused"]) == is_empty and bool(answer["used"].get("echo")) != is_empty


# ---- laboratory rows

HOSPITAL_NAMES = {
    "NTproBNP": 1240,
    "Hemoglobin": 10.1,
    "Troponin T": 0.023,
    "Creatinine": 1.40,
    "age": 74,
    "gender": "F",
    "Potassium": 5.9,
}
"""Column -> value in the canonical unit that labs/hospital_names.json means."""


def test_every_lab_and_table_case_is_asserted(cases):
    assert {path.name for path in (cases / "labs").iterdir()} == {
        "hospital_names.json",
        "no_units.json",
        "repeated_key.json",
    }
    assert {path.name for path in (cases / "tables").iterdir()} == {"empty_headers.csv", "latin1.csv", "years.csv"}


def test_names_of_a_hospital_are_read_in_canonical_units(cases, pipe):
    labs = LabsText.from_row(patient_from_files(labs=cases / "labs" / "hospital_names.json")["labs"])
    values = {cell.name: cell.value if cell.number is None else cell.number for cell in labs.cells}
    assert values.keys() == HOSPITAL_NAMES.keys() and labs.refused == []
    for name, value in HOSPITAL_NAMES.items():
        assert values[name] == (value if isinstance(value, str) else pytest.approx(value, rel=0.005))
    answer = pipe(patient_from_files(labs=cases / "labs" / "hospital_names.json"))
    plain = pipe({"labs": {cell.name: (cell.value, cell.column.unit) for cell in labs.cells}})
    assert answer["hf_diagnosis"] == plain["hf_diagnosis"]
    assert [note for note in answer["notes"] if "Potassium" in note and "'H'" in note]


def test_numbers_that_fit_two_units_are_not_used_and_named(cases, pipe):
    answer = pipe(patient_from_files(labs=cases / "labs" / "no_units.json"))
    doubtful = ["labs.Hemoglobin", "labs.Creatinine", "labs.Troponin T", "labs.Iron"]
    assert answer["used"]["labs"] == ["gender"]
    assert {entry["item"] for entry in answer["refused"]} == set(doubtful)
    assert {check["item"] for check in answer["checks"] if check["code"] == "labs_doubtful_unit"} == set(doubtful)


def test_a_repeated_key_is_refused_by_the_command(cases, tmp_path, capsys):
    pipe_directory = tmp_path / "model"
    model = smallest_model(seed=2)
    model.save_pretrained(pipe_directory)
    tgmm_hf.default_processor(model.config, tiny_tokenizer()).save_pretrained(pipe_directory)
    out = tmp_path / "p.json"
    assert run("predict", pipe_directory, "--labs", cases / "labs" / "repeated_key.json", "--out", out) == 1
    assert "twice" in capsys.readouterr().err and not out.exists()


# ---- tables


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("empty_headers.csv", 0, ["2 column(s) without a name"]),
        ("latin1.csv", 1, ["latin1.csv", "--encoding"]),
        ("years.csv", 0, ["hf_risk", "days"]),
    ],
)
def test_a_table_is_read_or_its_fault_is_named(cases, name, code, words, capsys):
    assert run("check-manifest", cases / "tables" / name) == code
    printed = capsys.readouterr()
    assert not [word for word in words if word not in printed.out + printed.err], printed


def test_the_table_of_another_encoding_is_read_when_it_is_named(cases):
    table = cases / "tables" / "latin1.csv"
    (patient,) = patients_from_table(table, table_format=TableFormat(encoding="latin-1"))
    (cell,) = LabsText.from_row(patient["labs"]).cells
    assert cell.name == "Creatinine" and cell.number == pytest.approx(88 / 88.4, rel=0.01)
