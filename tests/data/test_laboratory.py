"""Units and column names of a laboratory, for one patient and for a table."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tgmm_hf.data.laboratory import Laboratory, read_column_map
from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.data.prediction import patient_from_files
from tgmm_hf.data.table_files import declare_canonical_units
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.utils.errors import TgmmError

MAP = "name,column,unit\nP-Krea,Creatinine,umol/L\nHGB_v2,Hemoglobin,g/L\nRoom,own column,\n"


def write_map(directory, text=MAP):
    path = directory / "columns.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_column_map_gives_names_and_units(tmp_path):
    laboratory = Laboratory(columns=read_column_map(write_map(tmp_path)))
    row = laboratory.translate({"p krea": 124, "HGB_v2": (10.1, "g/dL"), "Room": 7, "Sodium": 140})
    assert row == {"Creatinine": (124, "umol/L"), "Hemoglobin": (10.1, "g/dL"), "own column": 7, "Sodium": 140}


@pytest.mark.parametrize(
    "text",
    ["name;column;unit\nP-Krea;Creatinine;umol/L\nHb;Hemoglobin;g/L\n",
     "sep=;\nname;column;unit\nP-Krea;Creatinine;umol/L\nHb;Hemoglobin;g/L\n",
     "\ufeffname;column;unit\r\nP-Krea;Creatinine;umol/L\r\nHb;Hemoglobin;g/L\r\n",
     "sep=,\nname,column,unit\nP-Krea,Creatinine,umol/L\nHb,Hemoglobin,g/L\n",
     'name,column,unit\n"P-Krea","Creatinine","umol/L"\nHb,Hemoglobin,g/L\n'],
)  # fmt: skip
def test_a_column_map_with_semicolons_is_read_as_one_with_commas(tmp_path, text):
    assert read_column_map(write_map(tmp_path, text)) == {
        "P-Krea": ("Creatinine", "umol/L"), "Hb": ("Hemoglobin", "g/L")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "column"),
    [("P-Krea; venous", "Creatinine"), ("a;b", "Creatinine"), (";;;;", "Creatinine"), ("b", "Calcium, Total")],
)
def test_a_sign_inside_of_a_name_separates_nothing(tmp_path, name, column):
    text = f'name,column,unit\n"{name}","{column}",mmol/L\n'
    assert read_column_map(write_map(tmp_path, text)) == {name: (column, "mmol/L")}
    text = f'name;column;unit\n"{name}";"{column}";mmol/L\n'
    assert read_column_map(write_map(tmp_path, text)) == {name: (column, "mmol/L")}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("name,column\na,b\n", ["unit"]),
        ("name;column\na;b\n", ["unit"]),
        ("name,column,column,unit\na,Sodium,Potassium,mmol/L\n", ["column", "twice"]),
        ("name,column,unit\na,Creatinine,furlong\n", ["line 2", "furlong", "umol/L"]),
        ("name,column,unit\na,Sodium,\na,Potassium,\n", ["line 3", "twice"]),
        ("name,column,unit\n,Sodium,\n", ["line 2", "empty"]),
        ("name,column,unit\na,Kreatinin,umol/L\n", ["line 2", "Creatinine"]),
    ],
)
def test_a_column_map_that_cannot_be_used_is_refused(tmp_path, text, parts):
    with pytest.raises(TgmmError) as error:
        read_column_map(write_map(tmp_path, text))
    assert all(part in str(error.value) for part in parts)


def test_two_names_of_one_column_are_refused(tmp_path):
    laboratory = Laboratory(columns=read_column_map(write_map(tmp_path)))
    with pytest.raises(TgmmError, match="Creatinine"):
        laboratory.translate({"P-Krea": 124, "Creatinine": 1.4})


def test_one_patient_is_read_in_the_units_of_the_laboratory(tmp_path):
    path = tmp_path / "row.json"
    path.write_text(json.dumps({"Hemoglobin": 8.7, "Creatinine": 1.4}), encoding="utf-8")
    patient = patient_from_files(labs=path, laboratory=Laboratory("US"))
    assert patient["labs"] == {"Hemoglobin": (8.7, "g/dL"), "Creatinine": (1.4, "mg/dL")}


def cohort(hemoglobin):
    return pa.table({"id": ["1"], "patient_id": ["1"], "split": ["test"], "labs.Hemoglobin": [hemoglobin]})


def test_a_table_declares_its_units(tmp_path):
    path = tmp_path / "cohort.parquet"
    pq.write_table(cohort(8.7), path)
    assert read_cohort_table(path).rows[0].labs == {"Hemoglobin": 8.7}
    assert read_cohort_table(path, laboratory=Laboratory("US")).rows[0].labs == {"Hemoglobin": (8.7, "g/dL")}
    pq.write_table(declare_canonical_units(cohort(8.7)), path)
    assert read_cohort_table(path).rows[0].labs == {"Hemoglobin": (8.7, "g/dL")}
    assert read_cohort_table(path, laboratory=Laboratory("SI")).rows[0].labs == {"Hemoglobin": (8.7, "mmol/L")}


def test_units_of_a_table_change_its_digest(tmp_path):
    path = tmp_path / "cohort.parquet"
    pq.write_table(cohort(101.0), path)
    digests = {read_cohort_table(path, laboratory=Laboratory(units)).digest() for units in (None, "US", "SI")}
    assert len(digests) == 3


def test_declared_cells_are_used(tmp_path):
    path = tmp_path / "cohort.csv"
    path.write_text("id,patient_id,split,labs.Hemoglobin,labs.BUN\n1,1,test,8.7,15\n", encoding="utf-8")
    (row,) = read_cohort_table(path, laboratory=Laboratory("US")).rows
    assert {cell.name: cell.number for cell in LabsText.from_row(row.labs).cells} == {
        "Hemoglobin": 8.7,
        "Urea Nitrogen": 15.0,
    }


def test_a_unit_in_the_name_of_the_table_is_that_of_the_map(tmp_path):
    laboratory = Laboratory(columns=read_column_map(write_map(tmp_path)))
    assert laboratory.translate({"P-Krea (µmol/L)": 124}) == {"Creatinine": (124, "µmol/L")}
    with pytest.raises(TgmmError, match=r"'umol/L'.*'mg/dL'"):
        laboratory.translate({"P-Krea (mg/dL)": 1.4})


def test_names_of_the_map_that_match_nothing_are_named(tmp_path):
    laboratory = Laboratory(columns=read_column_map(write_map(tmp_path)))
    assert laboratory.unused_names(["p-krea (umol/L)", "Sodium"]) == ["HGB_v2", "Room"]
    (tmp_path / "row.json").write_text(json.dumps({"P-Krea": 124, "Room": 7}))
    with pytest.warns(UserWarning, match="HGB_v2"):
        patient_from_files(labs=tmp_path / "row.json", laboratory=laboratory)
    (tmp_path / "table.csv").write_text("id,patient_id,split,labs.P-Krea,labs.Room\na,a,test,124,7\n")
    (note,) = read_cohort_table(tmp_path / "table.csv", laboratory=laboratory).notes
    assert "HGB_v2" in note and "Room" not in note
