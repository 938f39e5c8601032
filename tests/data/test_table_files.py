"""Table files as Excel and other programs write them are read right, or refused with what to do."""

import codecs
import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.data.table_files import CohortTableError, TableFormat, read_table
from tgmm_hf.utils.errors import TgmmError

TEXT = "id,patient_id,split,labs.Creatinine,unit.Creatinine\n1,1,test,88,µmol/L\n"


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_an_encoding_that_the_file_names_is_read(encoding: str, tmp_path: Path) -> None:
    table = read_cohort_table(write(tmp_path / "c.csv", TEXT.encode(encoding)))
    assert table.rows[0].labs == {"Creatinine": ("88", "µmol/L")}
    big_endian = read_cohort_table(write(tmp_path / "b.csv", codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be")))
    assert big_endian.rows == table.rows


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_another_encoding_is_read_only_if_it_is_named(encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", TEXT.encode(encoding))
    with pytest.raises(CohortTableError, match=r"UTF-8: line 2 .*0xb5.*--encoding") as error:
        read_cohort_table(path)
    assert error.value.item == "c.csv"
    table = read_cohort_table(path, table_format=TableFormat(encoding))
    assert table.rows[0].labs == {"Creatinine": ("88", "µmol/L")} and encoding in table.notes[0]


def test_zero_bytes_are_refused_and_marks_of_joined_files_are_noted(tmp_path: Path) -> None:
    plain = TEXT.replace("µ", "u")
    for content in (plain.encode("utf-16-le"), plain.replace("1,1,test", "1\x00,1,test").encode()):
        with pytest.raises(CohortTableError, match=r"line \d holds a zero byte.*--encoding"):
            read_cohort_table(write(tmp_path / "c.csv", content))
    joined = plain.encode() + codecs.BOM_UTF8 + b"2,2,test,90,umol/L\n"
    table = read_cohort_table(write(tmp_path / "c.csv", joined))
    assert [row.id for row in table.rows] == ["1", "2"] and "byte order mark" in table.notes[0]


@pytest.mark.parametrize(
    ("one", "two", "is_noted"),
    [("10000032", "10000032.0", True), ("7", "007", True), ("P7", "p7", True), ("7", "70", False)],
)
def test_ids_of_patients_in_two_splits_that_a_spreadsheet_may_have_changed_are_noted(
    one: str, two: str, is_noted: bool, tmp_path: Path
) -> None:
    for split in ("test", "train"):
        text = f"id,patient_id,split,labs.Sodium\n1,{one},train,140\n2,{two},{split},141\n"
        notes = read_cohort_table(write(tmp_path / "c.csv", text.encode())).notes
        assert any(f"{min(one, two)} and {max(one, two)}" in note for note in notes) == (is_noted and split == "test")


def test_the_cp1252_table_of_the_cases(shared_dir: Path) -> None:
    path = shared_dir / "cases" / "tables" / "latin1.csv"
    with pytest.raises(CohortTableError, match=r"latin1\.csv.*--encoding"):
        read_cohort_table(path)
    assert len(read_cohort_table(path, table_format=TableFormat("cp1252")).rows) == 1


@pytest.mark.parametrize("settings", [("rot13",), ("nonsense",), (None, ";")])
def test_a_format_that_is_not_known_is_refused(settings: tuple) -> None:
    with pytest.raises(TgmmError, match="not known"):
        TableFormat(*settings)


def test_columns_without_a_name_are_ignored_and_noted(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.csv", b"id,patient_id,split,labs.Creatinine,, \n1,1,train,1.1,,\n2,2,test,1.2,,x\n,,,,,\n"
    )
    table = read_cohort_table(path)
    assert [row.labs for row in table.rows] == [{"Creatinine": "1.1"}, {"Creatinine": "1.2"}]
    assert "2 column(s) without a name" in table.notes[0] and "1 row(s) have a value" in table.notes[0]
    columns = pa.table([pa.array(["1"]), pa.array(["train"]), pa.array([1.0])], names=["id", "split", ""])
    pq.write_table(columns, tmp_path / "c.parquet")
    assert read_table(tmp_path / "c.parquet").names == ["id", "split"]


def test_the_empty_headers_of_the_cases(shared_dir: Path) -> None:
    table = read_cohort_table(shared_dir / "cases" / "tables" / "empty_headers.csv")
    assert len(table.rows) == 2 and table.notes


def test_semicolons_are_read_where_no_number_is_in_doubt(tmp_path: Path) -> None:
    text = 'sep=;\nid;patient_id;split;labs.Calcium, Total;echo_paths\n1;1;test;2.4;"a.dcm;b.dcm"\n'
    row = read_cohort_table(write(tmp_path / "c.csv", text.encode())).rows[0]
    assert row.labs == {"Calcium, Total": "2.4"} and row.echo_paths == ("a.dcm", "b.dcm")


def test_a_decimal_comma_is_read_only_if_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", b"id;patient_id;split;labs.Creatinine;ecg_path\n1,5;1;test;1,4;3,5\n")
    with pytest.raises(CohortTableError, match=r"row 1.*--decimal"):
        read_cohort_table(path)
    row = read_cohort_table(path, table_format=TableFormat(decimal=",")).rows[0]
    assert (row.id, row.labs, row.ecg_path) == ("1,5", {"Creatinine": "1.4"}, "3,5")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("5.210", "5210"), (">5.210", ">5210"), ("1.250.000", "1250000"), ("1.250,5", "1250.5"), ("812", "812"),
     ("5.210 pg/mL", "5210 pg/mL"), ("12.03.2026", "12.03.2026"), ("250.00 diabetes", "250.00 diabetes")],
)  # fmt: skip
def test_points_between_thousands_are_left_out_where_the_comma_is_the_decimal_sign(
    written: str, meant: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "c.csv", f"id;patient_id;split;labs.NTproBNP\n1;1;test;{written}\n".encode())
    assert read_cohort_table(path, table_format=TableFormat(decimal=",")).rows[0].labs == {"NTproBNP": meant}


@pytest.mark.parametrize(
    "written", ["1.4", "0.250", "<0.01", "5.21 ng/mL", "1234.567", "880.5 H", "0.125 (0.000-0.500)", "1.250 (0.5-5)"]
)
def test_a_decimal_point_beside_decimal_commas_is_refused(written: str, tmp_path: Path) -> None:
    text = f"id;patient_id;split;labs.Creatinine;labs.K\n1;1;test;;4,1\n2;2;test;{written};4,2\n"
    with pytest.raises(CohortTableError, match=r"1 row.*decimal point \(row 2\)"):
        read_cohort_table(write(tmp_path / "c.csv", text.encode()), table_format=TableFormat(decimal=","))


def test_a_cell_longer_than_the_limit_of_python_is_read(tmp_path: Path) -> None:
    history = "x" * 200_000
    path = write(tmp_path / "c.csv", f"id,patient_id,split,labs.medical history\n1,1,test,{history}\n".encode())
    assert read_cohort_table(path).rows[0].labs == {"medical history": history}


def test_too_many_rows_are_refused_before_they_are_read(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000_000, pa.int8()), pa.array(["x"]))
    pq.write_table(pa.table({"id": column}), tmp_path / "c.parquet")
    assert (tmp_path / "c.parquet").stat().st_size < 100_000
    with pytest.raises(CohortTableError, match="more than 2,000,000 rows"):
        read_table(tmp_path / "c.parquet")
    path = write(tmp_path / "c.csv", TEXT.encode() + b"2,2,test,88,\n")
    with pytest.raises(CohortTableError, match="--max-rows"):
        read_cohort_table(path, table_format=TableFormat(max_rows=1))
    assert len(read_cohort_table(path, table_format=TableFormat(max_rows=2)).rows) == 2


def test_line_breaks_inside_cells_and_odd_separators_survive(tmp_path: Path) -> None:
    text = 'id,patient_id,split,labs.medical history\n1,1,test,"a\nb\x0bc\u2028d"\n'
    table = read_table(write(tmp_path / "c.csv", text.encode()))
    assert table.rows[0]["labs.medical history"] == "a\nb\x0bc\u2028d"


@pytest.mark.parametrize(("sign", "word"), [("\t", "tabs"), ("|", "vertical bars")])
def test_columns_separated_by_tabs_or_bars_are_read_and_noted(sign: str, word: str, tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "c.csv", TEXT.replace(",", sign).encode()))
    plain = read_table(write(tmp_path / "plain.csv", TEXT.encode()))
    assert table.rows == plain.rows and f"the columns are separated by {word}" in table.notes


def test_a_bar_inside_a_name_is_no_separator(tmp_path: Path) -> None:
    assert read_table(write(tmp_path / "c.csv", b"id,a|b\n1,2\n")).names == ["id", "a|b"]


@pytest.mark.parametrize("sign", ["\t", "|"])
def test_a_name_with_a_comma_between_tabs_or_bars_is_one_name(sign: str, tmp_path: Path) -> None:
    text = "id|Calcium, Total|Sodium\n1|9.5|138\n2|9.1|140\n||\n".replace("|", sign)
    table = read_table(write(tmp_path / "c.csv", text.encode()))
    assert table.names == ["id", "Calcium, Total", "Sodium"]
    assert table.rows[0] == {"id": "1", "Calcium, Total": "9.5", "Sodium": "138"}
    path = write(tmp_path / "d.csv", "id|Calcium, Total\n1|9,5\n".replace("|", sign).encode())
    with pytest.raises(CohortTableError, match="--decimal ,"):
        read_table(path)
    table = read_table(path, TableFormat(decimal=","))
    assert table.rows == [{"id": "1", "Calcium, Total": "9.5"}]


@pytest.mark.parametrize("text", ["id,a|b,c\n1,x|y,2\n", 'id,"a\tb",c\n1,2,3\n', "id;a, b|x;c\n1;2;3\n"])
def test_a_tab_or_bar_in_a_name_between_commas_is_no_separator(text: str, tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "c.csv", text.encode()))
    assert [table.names[0], table.names[2], table.rows[0]["id"]] == ["id", "c", "1"]


def test_a_decimal_comma_between_tabs_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", b"id\tlabs.Sodium\n1\t138,5\n")
    with pytest.raises(CohortTableError, match="--decimal ,"):
        read_table(path)


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(CohortTableError("a", "b", "c", 3)))
    assert (error.item, error.reason, error.kind, error.row) == ("a", "b", "c", 3)


@pytest.mark.parametrize(
    ("start", "word"),
    [(b"PK\x03\x04", "Excel"), (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ".xls"), (b"\x1f\x8b\x08\x00", "gunzip")],
)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_a_workbook_or_a_compressed_table_is_refused_with_what_to_do(tmp_path, start, word, name) -> None:
    with pytest.raises(CohortTableError, match=word):
        read_table(write(tmp_path / name, start + bytes(100)))


def test_a_parquet_table_called_csv_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "a.csv")
    with pytest.raises(CohortTableError, match="parquet"):
        read_table(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "title", ["Laboratory report", '"Laboratory report"', "Laboratory report,,", "Report\n\nWard 7"]
)
def test_a_title_above_the_header_is_left_out_and_noted(title: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{title}\nid,Sodium,Potassium\na,139,4.1\n", encoding="utf-8")
    table = read_table(path)
    assert table.rows == [{"id": "a", "Sodium": "139", "Potassium": "4.1"}]
    assert any("title" in note and "report" not in note.lower() for note in table.notes)


@pytest.mark.parametrize("title", ["Cohort | Hospital A", "Heart failure\t2024", "Cohort | A\n\nYear\t2024"])
@pytest.mark.parametrize("sign", [",", ";"])
def test_a_title_with_tabs_or_bars_above_commas_is_left_out(title: str, sign: str, tmp_path: Path) -> None:
    lines = "id,Sodium,gender\n1,138,F\n2,141,M\n".replace(",", sign)
    table = read_table(write(tmp_path / "t.csv", f"{title}\n{lines}".encode()))
    assert table.names == ["id", "Sodium", "gender"] and len(table.rows) == 2
    assert any("title" in note for note in table.notes)


@pytest.mark.parametrize("sign", ["\t", "|"])
@pytest.mark.parametrize("cells", ["p1,Doe| J,F;p2,Roe| K,M", "p1,a,F;p2,a| b,M", 'p1,"a\nb| c",F;p2,d,M'])
def test_a_header_above_cells_with_commas_is_no_title(sign: str, cells: str, tmp_path: Path) -> None:
    text = f"id,name,gender\n{cells}\n".translate({ord(","): sign, ord("|"): ",", ord(";"): "\n"})
    table = read_table(write(tmp_path / "t.csv", text.encode()))
    assert table.names == ["id", "name", "gender"] and [row["id"] for row in table.rows] == ["p1", "p2"]
    assert table.notes == [f"the columns are separated by {'tabs' if sign == chr(9) else 'vertical bars'}"]


@pytest.mark.parametrize(
    "text",
    [
        "Cohort | SI units\nid,Sodium\na,139\n",
        "id\tname\np1\tDoe, J\np2\tRoe, K\tx\n",
        "id\tCalcium, Total\n1\t9,5\n2\t9,6\t\n",
        "All values in SI units\nid,Sodium\na,139\n",
        "Labs in mmol\nid,Sodium\na,139\n",
        "Results in mg/dL\nid,Glucose\na,90\n",
        "Report\n1,139\n2,140\n",
    ],
)
def test_a_line_above_the_header_that_matters_or_is_no_title_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CohortTableError):
        read_table(path)


def test_a_table_of_one_column_has_no_title(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("age\n71\n", encoding="utf-8")
    assert read_table(path).rows == [{"age": "71"}] and not read_table(path).notes


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_a_directory_in_the_place_of_a_table_is_called_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for name, words in (("pipe.csv", "a pipe"), ("folder.csv", "is a directory"), ("none.csv", "does not exist")):
        with pytest.raises(CohortTableError, match=words):
            read_table(tmp_path / name)


TITLED = "id,patient_id,split,labs.Sodium\n1,1,test,140\n2,2,train,141\n"


@pytest.mark.parametrize(
    "title", ["Laboratory export, March", '"Laboratory export, 2024"', "Ward 3, bed\n\nExport; part 1"]
)
@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_a_title_with_a_comma_is_left_out(title: str, sign: str, tmp_path: Path) -> None:
    table = read_cohort_table(write(tmp_path / "c.csv", f"{title}\n{TITLED.replace(',', sign)}".encode()))
    assert [row.labs for row in table.rows] == [{"Sodium": "140"}, {"Sodium": "141"}]
    assert any("left out as a title" in note for note in table.notes)


@pytest.mark.parametrize(
    "title",
    ["Creatinine in umol/L, sodium in mmol/L", "Creatinine in micromol per litre", "\u5355\u4f4d SI, all",
     "Weights in pounds, heights in inches", "Enzyme activities in ukat, 37 degrees"],
)  # fmt: skip
def test_a_title_with_a_comma_that_may_name_units_is_refused(title: str, tmp_path: Path) -> None:
    with pytest.raises(CohortTableError, match="may name units"):
        read_cohort_table(write(tmp_path / "c.csv", f"{title}\n{TITLED}".encode()))


@pytest.mark.parametrize("text", [TITLED.replace("140", "1,40"), "a,b,c\n" + TITLED, "1,2\n" + TITLED])
def test_a_line_with_another_number_of_cells_that_is_no_title_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(CohortTableError, match="another number of cells"):
        read_cohort_table(write(tmp_path / "c.csv", text.encode()))


def test_a_header_with_more_commas_than_semicolons_is_read(tmp_path: Path) -> None:
    header = (
        "id;patient_id;split;labs.Calcium, Total;labs.Cholesterol, LDL, Calculated;labs.Creatine Kinase, MB Isoenzyme"
    )
    row = read_cohort_table(write(tmp_path / "c.csv", f"{header}\n1;1;test;9.2;130;4\n".encode())).rows[0]
    assert row.labs["Calcium, Total"] == "9.2" and len(row.labs) == 3


@pytest.mark.parametrize(
    ("written", "meant"),
    [("12.500 H", "12500 H"), ("12.500 ng/l ++", "12500 ng/l ++"), ("*12.500 ng/l", "*12500 ng/l"),
     ("12.500 ng/l (0-125)", "12500 ng/l (0-125)"), (">35.000 ng/l (H)", ">35000 ng/l (H)"),
     ("1.250,5 U/l HH", "1250.5 U/l HH"), ("1,25 mg/dl (0,5-1,2)", "1.25 mg/dl (0.5-1.2)"),
     ("< 0,3 mg/dl", "< 0.3 mg/dl"),     ("1,72 m", "1.72 m"), ("33,1 Sek.", "33.1 Sek."),
     ("7,5 10^9/L", "7.5 10^9/L"), ("7,2 %", "7.2 %"),
     ("27,4 kg/m\u00b2", "27.4 kg/m\u00b2"), ("4,1 (3,5-5,1) mmol/l", "4.1 (3.5-5.1) mmol/l"),
     ("12.03.2026", "12.03.2026"), ("250.00 diabetes", "250.00 diabetes"), ("Bisoprolol 2,5 mg", "Bisoprolol 2,5 mg"),
     ("1,2,3", "1,2,3"), ("08:15:01,500", "08:15:01,500")],
)  # fmt: skip
def test_a_result_with_its_unit_or_mark_is_read_with_the_named_decimal_sign(
    written: str, meant: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "c.csv", f"id;patient_id;split;labs.NTproBNP\n1;1;test;{written}\n".encode())
    assert read_cohort_table(path, table_format=TableFormat(decimal=",")).rows[0].labs == {"NTproBNP": meant}


@pytest.mark.parametrize("written", ["1,25 mg/dl", "1,25 H", "<0,3 mg/dl", "1,25 (0,5-1,2)"])
def test_a_comma_beside_a_unit_asks_for_the_decimal_sign(written: str, tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", f"id;patient_id;split;labs.Creatinine\n1;1;test;{written}\n".encode())
    with pytest.raises(CohortTableError, match="--decimal"):
        read_cohort_table(path)
    path = write(tmp_path / "d.csv", b"id;patient_id;split;labs.drug history\n1;1;test;5,000 IU/day\n")
    for decimal in (".", ","):
        row = read_cohort_table(path, table_format=TableFormat(decimal=decimal)).rows[0]
        assert row.labs == {"drug history": "5,000 IU/day"}
    path = write(tmp_path / "d.csv", b"id;patient_id;split;labs.drug history\n1;1;test;5,000 units heparin\n")
    assert read_cohort_table(path).rows[0].labs == {"drug history": "5,000 units heparin"}
