"""Lab rows as CSV files, for one patient and for many."""

from pathlib import Path

import pytest

from tgmm_hf.data.lab_tables import read_lab_table, read_one_lab_row
from tgmm_hf.data.prediction import read_labs, read_views
from tgmm_hf.data.table_files import TableFormat
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.utils.errors import TgmmError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_one_row_gives_the_cells_of_the_json_file(tmp_path: Path) -> None:
    header = "id,split,Hb (g/L),labs.age,Creatinine,unit.Creatinine,Sodium,label.hf_diagnosis"
    row = read_labs(write(tmp_path / "row.csv", f"{header}\na,test,101,74,124,umol/L,,1\n"))
    assert row == {"Hb (g/L)": "101", "age": "74", "Creatinine": ("124", "umol/L")}
    json_file = write(tmp_path / "row.json", '\ufeff{"Hb (g/L)": 101, "age": 74, "Creatinine": [124, "umol/L"]}')
    assert LabsText.from_row(row).write().text == LabsText.from_row(read_labs(json_file)).write().text


def test_several_rows_are_refused_with_the_way_to_go(tmp_path: Path) -> None:
    with pytest.raises(TgmmError, match=r"2 rows.*--manifest"):
        read_one_lab_row(write(tmp_path / "row.csv", "age\n71\n72\n"))


def test_a_lab_table_becomes_columns_of_a_cohort_table(tmp_path: Path) -> None:
    text = "id;Hb (g/L);unit.K;labs.K;patient_id;label.hf_diagnosis\n01;101,5;mmol/L;4;x;1\n"
    columns, rows, _ = read_lab_table(write(tmp_path / "labs.csv", text), TableFormat(decimal=","))
    assert columns == ["labs.Hb (g/L)", "unit.K", "labs.K", "patient_id", "label.hf_diagnosis"]
    assert rows["01"]["labs.Hb (g/L)"] == "101.5"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("age\n71\n", "column id"), ("id,age\n,71\n", "row 1"), ("id,age\na,71\na,71\n", "row 2.*occurs twice")],
)
def test_a_lab_table_needs_one_row_for_each_id(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(TgmmError, match=reason):
        read_lab_table(write(tmp_path / "labs.csv", text))


def test_two_views_of_one_clip_are_refused(tmp_path: Path) -> None:
    header = "dicom_filepath,view\n"
    assert read_views(write(tmp_path / "v.csv", f"{header}a.dcm,A4C\na.dcm,A4C\nb.dcm,\n")) == {"a.dcm": "A4C"}
    with pytest.raises(TgmmError, match="row 2"):
        read_views(write(tmp_path / "v.csv", f"{header}a.dcm,A4C\na.dcm,A2C\n"))


def test_a_table_of_views_with_two_columns_of_views_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TgmmError, match="view"):
        read_views(write(tmp_path / "v.csv", "dicom_filepath,view,view\na.dcm,A4C,A2C\n"))
    assert read_views(write(tmp_path / "v.csv", "x,dicom_filepath,view,x\n1,a.dcm,A4C,2\n")) == {"a.dcm": "A4C"}
