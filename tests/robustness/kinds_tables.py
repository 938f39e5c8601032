"""Hostile tables: cohort tables as CSV and Parquet, and tables of views."""

import csv
import io
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cohort_files import cohort_rows
from trials import Answer, Trial, damaged, kind, no_oracle

from tgmm_hf.data.check_manifest import check_manifest, report_text
from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.data.prediction import patient_from_files, patients_from_table
from tgmm_hf.inputs.lab_text import LabsText


def plain_rows() -> list[dict[str, Any]]:
    """Ten rows with text in every kind of cell."""
    rows = cohort_rows(10)
    for row in rows:
        row["labs.medical history"] = "hypertension, diabètes" if row["labs.medical history"] else ""
    return rows


def csv_bytes(rows: list[dict[str, Any]], encoding: str = "utf-8", **options: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), **options)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode(encoding)


def read_table(path: Path, for_prediction: bool = False, as_text: bool = False) -> Answer:
    """Read a table for training, with what check-manifest tells about it; or for prediction.

    `as_text` gives the text that the model reads in place of the laboratory values of the table.
    """
    if for_prediction:
        return Answer(value=[str(patient) for patient in patients_from_table(path)])
    table = read_cohort_table(path)
    lines = report_text(check_manifest(path)).splitlines()
    rows = table.rows
    if as_text:
        rows = [replace(row, labs={"text": LabsText.from_row(row.labs, from_table=True).text}) for row in rows]
    return Answer(value=[str(row) for row in rows], marks=[line for line in lines if "not there" not in line])


def right_rows(folder: Path, for_prediction: bool = False) -> Answer:
    (folder / "right.csv").write_bytes(csv_bytes(plain_rows()))
    return read_table(folder / "right.csv", for_prediction)


def same(reference: Answer) -> Any:
    """Demand the same rows. The order of the cells of a row does not matter."""

    def judge(answer: Answer) -> str:
        pairs = zip(answer.value, reference.value, strict=False)
        wrong = sum(sorted(one) != sorted(two) for one, two in pairs) + abs(len(answer.value) - len(reference.value))
        return f"{wrong} rows differ" if wrong else ""

    return judge


def same_or_said(reference: Answer) -> Any:
    return lambda answer: "" if set(answer.marks) - set(reference.marks) else same(reference)(answer)


@kind("table_encoding")
def table_encoding(random, folder):
    """The same table in other encodings, separators, quotes and line ends."""
    encoding = str(random.choice(["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "latin-1", "utf-32"]))
    delimiter = str(random.choice([",", ",", ";", "\t", "|"]))
    quoting = int(random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    end = str(random.choice(["\n", "\r\n", "\r"]))
    content = csv_bytes(plain_rows(), encoding, delimiter=delimiter, quoting=quoting, lineterminator=end)
    (folder / "t.csv").write_bytes(content)
    predict = bool(random.integers(2))
    what = f"{encoding} {delimiter!r} {end!r}"
    return Trial(what, partial(read_table, folder / "t.csv", predict), same(right_rows(folder, predict)))


CELLS: tuple[Any, ...] = (
    "", " ", "nan", "None", "NULL", "x" * 200_000, "\x00", "\n", '"', "'", "=1+1", "1e999", "-1", "1,4", "9" * 400, "NaT", "train ", "TRAIN", "validate", "2020-01-01", "01/02/2020",
    "true", "[1, 2]", "{}", "a;b;c", ";;", "A4C;;", "a5c", "../../etc/passwd", "/dev/zero", "\ud7ff", "‮", "0x10", "3", "2.5", "1.0", "inf",
)  # fmt: skip


@kind("table_cell")
def table_cell(random, folder):
    """One cell with another content."""
    rows = plain_rows()
    row, name = int(random.integers(10)), str(random.choice(list(rows[0])))
    value = CELLS[random.integers(len(CELLS))]
    rows[row][name] = value
    (folder / "t.csv").write_bytes(csv_bytes(rows))
    predict = bool(random.integers(2))
    read = partial(read_table, folder / "t.csv", predict)
    reference = right_rows(folder, predict)

    def judge(answer: Answer) -> str:
        """Only this row may change."""
        wrong = [
            index for index, (one, two) in enumerate(zip(answer.value, reference.value, strict=False)) if one != two
        ]
        if len(answer.value) != len(reference.value) or set(wrong) - {row}:
            return f"rows {wrong} changed, the cell is in row {row}"
        return ""

    return Trial(f"{name} = {str(value)[:40]!r}", read, judge)


@kind("table_columns")
def table_columns(random, folder):
    """Columns that are missing, doubled, renamed, exchanged, empty or too many."""
    rows = plain_rows()
    names = list(rows[0])
    way = str(
        random.choice(
            [
                "drop",
                "rename",
                "order",
                "double",
                "empty",
                "extra",
                "case",
                "swap",
                "space",
                "many",
                "short",
                "long",
                "no_rows",
                "header_only",
            ]
        )
    )
    name, other = (str(one) for one in random.choice(names, 2, replace=False))
    reference = right_rows(folder)
    judge: Any = same_or_said(reference)
    if way == "drop":
        rows = [{key: value for key, value in row.items() if key != name} for row in rows]
        judge = no_oracle
    elif way in ("rename", "case", "space"):
        new = {"rename": f"{name}_x", "case": name.upper(), "space": f" {name} "}[way]
        rows = [{(new if key == name else key): value for key, value in row.items()} for row in rows]
        judge = same_or_said(reference) if way != "rename" or name in ("ecg_path", "echo_paths", "split") else no_oracle
    elif way == "order":
        order = [str(one) for one in random.permutation(names)]
        rows = [{key: row[key] for key in order} for row in rows]
    elif way == "extra":
        rows = [row | {"comment": "Doe, Jane", "labs.zinc": 1} for row in rows]
        judge = no_oracle
    elif way == "many":
        rows = [row | {f"labs.own{number}": number for number in range(3000)} for row in rows]
        judge = no_oracle
    content = csv_bytes(rows)
    lines = content.split(b"\r\n")
    if way in ("double", "swap"):
        header = lines[0].decode().split(",")
        first, second = header.index(name), header.index(other)
        if way == "double":
            header[second] = name
        else:
            header[first], header[second] = header[second], header[first]
        lines[0] = ",".join(header).encode()
        judge = no_oracle if way == "swap" else same_or_said(reference)
    elif way == "empty":
        lines = [line + b",," for line in lines if line]
    elif way in ("short", "long"):
        row = int(random.integers(1, 10))
        lines[row] = lines[row].rpartition(b",")[0] if way == "short" else lines[row] + b",7"
    elif way == "no_rows":
        lines = lines[:1]
    elif way == "header_only":
        lines = [b""]
    (folder / "t.csv").write_bytes(b"\r\n".join(lines))
    return Trial(f"{way} {name}", partial(read_table, folder / "t.csv"), judge)


@kind("table_meaning")
def table_meaning(random, folder):
    """Tables that are well formed and wrong: they must be refused, or check-manifest has to say so."""
    rows = plain_rows()
    way = str(
        random.choice(
            [
                "years",
                "leak",
                "twice",
                "constant_label",
                "label_text",
                "negative",
                "no_event",
                "event_3",
                "unit_without",
                "view_unknown",
                "view_count",
                "semicolon_path",
            ]
        )
    )
    if way == "years":
        for row in rows:
            row["time.hf_risk"] = float(row["time.hf_risk"]) / 365.25 if row["time.hf_risk"] != "" else ""
    elif way == "leak":
        rows[1]["patient_id"] = rows[3]["patient_id"]
    elif way == "twice":
        rows[1]["id"] = rows[2]["id"]
    elif way == "constant_label":
        rows = [row for row in rows if row["split"] != "validation" or not row["label.hf_diagnosis"]]
    elif way == "label_text":
        rows[2]["label.hf_diagnosis"] = "heart failure"
    elif way == "negative":
        rows[2]["time.hf_risk"] = -5
    elif way == "no_event":
        rows[2]["event.hf_risk"] = ""
    elif way == "event_3":
        rows[2]["event.hf_risk"] = 3
    elif way == "unit_without":
        rows = [row | {"unit.zinc": "mg"} for row in rows]
    elif way == "view_unknown":
        rows[0]["echo_views"] = "A4C;Apical"
    elif way == "view_count":
        rows[0]["echo_views"] = "A4C"
    else:
        rows[0]["echo_paths"] = "echo/0;a.dcm;echo/0_b.dcm"
    (folder / "t.csv").write_bytes(csv_bytes(rows))
    reference = right_rows(folder)

    def judge(answer: Answer) -> str:
        words = {word for line in reference.marks for word in line.split()}
        new = [line for line in answer.marks if set(line.split()) - words - set("0123456789")]
        return (
            ""
            if any(any(part.isalpha() and part not in words for part in line.replace(",", " ").split()) for line in new)
            else "nothing says what is wrong"
        )

    return Trial(way, partial(read_table, folder / "t.csv"), judge)


@kind("table_bytes")
def table_bytes(random, folder):
    what, content = damaged(random, csv_bytes(plain_rows()))
    (folder / "t.csv").write_bytes(content)
    return Trial(what, partial(read_table, folder / "t.csv", bool(random.integers(2))))


def arrow_table(rows: list[dict[str, Any]]) -> pa.Table:
    columns: dict[str, Any] = {}
    for name in rows[0]:
        cells = [row[name] for row in rows]
        number = name.startswith(("label.", "time.", "event.")) or name in ("labs.Creatinine", "labs.NT-proBNP")
        columns[name] = [None if cell == "" else float(cell) if number else str(cell) for cell in cells]
    return pa.table(columns)


@kind("table_parquet")
def table_parquet(random, folder):
    """The same table as Parquet, with columns of other types.

    Rows are compared as the model reads them, because a laboratory value may be a text or a decimal number.
    """
    table = arrow_table(plain_rows())
    reference_path = folder / "right.parquet"
    pq.write_table(table, reference_path)
    reference = read_table(reference_path, as_text=True)
    way = str(
        random.choice(
            [
                "dictionary",
                "large",
                "binary",
                "decimal",
                "float32",
                "struct",
                "list",
                "timestamp",
                "bool",
                "null",
                "int",
                "compression",
                "chunks",
                "many_rows",
                "duplicate",
                "csv_inside",
            ]
        )
    )
    judge: Any = same(reference)
    name = str(random.choice(["labs.Creatinine", "id", "label.hf_diagnosis", "echo_paths", "ecg_path", "time.hf_risk"]))
    column = table[name]
    options: dict[str, Any] = {}
    try:
        if way == "dictionary":
            column = column.dictionary_encode()
        elif way == "large":
            column = column.cast(pa.large_string())
        elif way == "binary":
            column, judge = column.cast(pa.string()).cast(pa.binary()), no_oracle
        elif way == "decimal":
            column = column.cast(pa.decimal128(30, 4))
        elif way == "float32":
            column, judge = column.cast(pa.float32()), no_oracle
        elif way in ("struct", "list"):
            cells = column.to_pylist()
            column = pa.array([{"a": cell} for cell in cells] if way == "struct" else [[cell] for cell in cells])
            judge = no_oracle
        elif way == "timestamp":
            column, judge = pa.array([2**62] * 10, pa.timestamp("ns")), no_oracle
        elif way in ("bool", "null"):
            column, judge = pa.array([True] * 10 if way == "bool" else [None] * 10), no_oracle
        elif way == "int":
            column = column.cast(pa.int64())
        elif way == "compression":
            options["compression"] = str(random.choice(["zstd", "brotli", "none", "gzip"]))
        elif way == "chunks":
            options["row_group_size"] = 1
    except pa.ArrowException:
        column = pa.array([None] * 10)
        judge = no_oracle
    table = table.set_column(table.column_names.index(name), name, column)
    path = folder / "t.parquet"
    if way == "duplicate":
        pq.write_table(table.append_column("id", table["id"]), path)
        judge = no_oracle
    elif way == "many_rows":
        pq.write_table(
            pa.table(
                {"id": pa.array(["a"] * 3_000_000).dictionary_encode(), "labs.Creatinine": pa.array(np.ones(3_000_000))}
            ),
            path,
        )
        judge = no_oracle
    elif way == "csv_inside":
        path.write_bytes(csv_bytes(plain_rows()))
    else:
        pq.write_table(table, path, **options)
    return Trial(f"{way} {name}", partial(read_table, path, way == "many_rows", as_text=True), judge)


@kind("table_parquet_bytes")
def table_parquet_bytes(random, folder):
    pq.write_table(arrow_table(plain_rows()), folder / "right.parquet")
    what, content = damaged(random, (folder / "right.parquet").read_bytes())
    (folder / "t.parquet").write_bytes(content)
    return Trial(what, partial(read_table, folder / "t.parquet"))


VIEW_TABLES: tuple[tuple[str, bytes, bool], ...] = (
    ("plain", b"dicom_filepath,view\na.dcm,A4C\nb.dcm,A2C\n", True),
    ("bom", "\ufeffdicom_filepath,view\r\na.dcm,A4C\r\nb.dcm,A2C\r\n".encode(), True),
    ("order", b"view,x,dicom_filepath\nA4C,1,a.dcm\nA2C,2,b.dcm\n", True),
    ("spaces", b"dicom_filepath, view\na.dcm, A4C\nb.dcm, A2C\n", True),
    ("repeated", b"dicom_filepath,view\na.dcm,A4C\nb.dcm,A2C\na.dcm,A2C\n", False),
    ("repeated_equal", b"dicom_filepath,view\na.dcm,A4C\nb.dcm,A2C\na.dcm,A4C\n", True),
    ("doubled_column", b"dicom_filepath,view,view\na.dcm,A4C,A2C\nb.dcm,A2C,A4C\n", False),
    ("utf16", "dicom_filepath,view\na.dcm,A4C\nb.dcm,A2C\n".encode("utf-16"), True),
    ("cp1252", "dicom_filepath,view\na.dcm,A4C\nb.dcm,A2C\nü.dcm,A4C\n".encode("cp1252"), True),
    ("semicolon", b"dicom_filepath;view\na.dcm;A4C\nb.dcm;A2C\n", True),
    ("short", b"dicom_filepath,view\na.dcm,A4C\nb.dcm,A2C\nc.dcm\n", False),
    ("long", b"dicom_filepath,view\na.dcm,A4C,7,8\nb.dcm,A2C\n", True),
    ("null", b"dicom_filepath,view\na.dcm,A4C\0\nb.dcm,A2C\n", True),
    ("empty", b"", True), ("header", b"dicom_filepath,view\n", True),
    ("field", b"dicom_filepath,view\na.dcm," + b"x" * 200_000 + b"\n", True),
    ("quote", b'dicom_filepath,view\na.dcm,"A4C\nb.dcm,A2C\n', False),
    ("binary", bytes(range(256)) * 20, True),
)  # fmt: skip


@kind("views_csv")
def views_csv(random, folder):
    """Tables of views. What is answered has to be a.dcm = A4C and b.dcm = A2C.

    A view of an unknown name ("field", "null") is no contradiction. `echo_study` judges what becomes of its clip.
    """
    name, content, plain = VIEW_TABLES[random.integers(len(VIEW_TABLES))]
    what = name
    judge: Any = lambda answer: (
        "" if {"a.dcm": "A4C", "b.dcm": "A2C"}.items() <= answer.value.items() else f"views are {answer.value}"[:100]
    )
    if not plain:
        judge = lambda answer: "a table that contradicts itself is accepted"
    elif name in ("header", "empty", "binary", "field", "null"):
        judge = no_oracle
    if random.random() < 0.4:
        what, content = damaged(random, VIEW_TABLES[0][1])
        judge = no_oracle
    (folder / "views.csv").write_bytes(content)
    (folder / "a.dcm").touch()

    def read() -> Answer:
        return Answer(value=patient_from_files(echo=folder / "a.dcm", views=folder / "views.csv")["views"])

    return Trial(what, read, judge)
