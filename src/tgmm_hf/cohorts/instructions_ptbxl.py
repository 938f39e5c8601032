"""PTB-XL -> one entry per ECG, with its report or with the descriptions of its SCP codes.

Two layouts are read, as by `tgmm curate-ptbxl`: the data set as PhysioNet ships it, and arrays (.npz) with tables of
labels. Arrays are written as WFDB recordings, so that an instruction file always names recordings. They hold no report.
"""

import ast
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from tgmm_hf.cohorts.instruction_sources import Source, SourceEntry, has_recording
from tgmm_hf.cohorts.instruction_texts import (
    PROBABLE_FROM,
    PTBXL,
    UNUSABLE,
    clean_ptbxl_report,
    statements_of_codes,
    words_of_statements,
)
from tgmm_hf.cohorts.ptbxl import PtbxlRules, read_ptbxl_table
from tgmm_hf.cohorts.ptbxl_arrays import find_arrays, write_recordings
from tgmm_hf.cohorts.report_languages import language_of
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import whole_directory

TEXTS = ("report", "statements")
DATABASE, CODES = "ptbxl_database.csv", "scp_statements.csv"
RECORDING_FILES = r"\d{5,}\.(dat|hea)"
LIKELIHOOD_COLUMNS = ("scp_diagnostic_likelihood", "scp_form_likelihood", "scp_rhythm_likelihood")
LIST_COLUMNS = ("form", "rhythm")
KEYS = ("ecg_id", "patient_id", "strat_fold")


def is_ptbxl(directory: Path) -> bool:
    """Tell whether a directory holds PTB-XL in one of the two layouts."""
    return (directory / DATABASE).is_file() or bool(list(directory.glob("*.npz")))


def ptbxl_source(directory: Path, recordings: Path, text: str, probable_from: float = PROBABLE_FROM) -> Source:
    """Read PTB-XL in either layout.

    Args:
        directory: Directory of PTB-XL, or of .npz files, tables of labels and scp_statements.csv.
        recordings: Directory to write recordings of arrays into. It is replaced if it holds nothing else.
        text: "report": the report where there is one, else the statements. "statements": always the statements.
        probable_from: Lowest likelihood, in percent, of a probable statement.

    Raises:
        FileNotFoundError: If a table is missing.
        FileExistsError: If `recordings` holds other files.
        TgmmError: If a table or an array cannot be used.
    """
    descriptions = read_descriptions(directory / CODES)
    if (directory / DATABASE).is_file():
        table, tables, notes = _shipped(directory)
    else:
        table, tables, notes = _arrays(directory, recordings, descriptions)
    _refuse_unknown(table.codes, descriptions)
    entries = _entries(table, descriptions, text, probable_from)
    return Source(PTBXL, "recordings of PTB-XL", entries, [*tables, directory / CODES], notes)


def _shipped(directory: Path) -> tuple[pd.DataFrame, list[Path], list[str]]:
    """Read PTB-XL as shipped. Returns the table for [`_entries`], the files that were read, and notes."""
    is_fast = (directory / "records500").is_dir()
    column = "filename_hr" if is_fast else "filename_lr"
    table = read_ptbxl_table(directory / DATABASE, (*KEYS, "scp_codes", column))
    _check_keys(table, DATABASE)
    table["codes"] = [_parsed(cell, DATABASE) for cell in table.scp_codes]
    table["path"] = [directory / name for name in table[column]]
    notes = [] if is_fast else ["records500 is not there, so the recordings at 100 Hz are used."]
    return table, [directory / DATABASE], notes


def _arrays(
    directory: Path, recordings: Path, descriptions: dict[str, str]
) -> tuple[pd.DataFrame, list[Path], list[str]]:
    """Read tables of labels, and write the arrays as recordings. Returns what [`_shipped`] returns."""
    arrays, labels = find_arrays(directory)
    table = pd.concat([_read_labels(path, descriptions) for path in labels], ignore_index=True)
    _check_keys(table, ", ".join(path.name for path in labels))
    with whole_directory(recordings, (RECORDING_FILES,), keep=(directory,)) as building:
        write_recordings(arrays, table.ecg_id.tolist(), building)
    table["path"] = [recordings / f"{int(number):05d}" for number in table.ecg_id]
    return table, [*arrays, *labels], ["The recordings are arrays in normalised units. They come without reports."]


def read_descriptions(path: Path) -> dict[str, str]:
    """Read scp_statements.csv: code -> English description."""
    table = read_ptbxl_table(path, ("description",))
    return dict(zip(table[table.columns[0]], table.description, strict=True))


def _entries(
    table: pd.DataFrame, descriptions: dict[str, str], text: str, probable_from: float
) -> Iterator[SourceEntry]:
    """Make one entry per row.

    Args:
        table: Columns ecg_id, patient_id, strat_fold, codes, path, and report where there are reports.
        descriptions: Code -> description.
        text: "report": the report where there is one, else the statements. "statements": always the statements.
        probable_from: As in [`ptbxl_source`].
    """
    rules = PtbxlRules()
    for row in table.to_dict("records"):
        statements = statements_of_codes(row["codes"], probable_from)
        report, language = "", None
        if text == "report" and isinstance(row.get("report"), str):
            report = clean_ptbxl_report(row["report"])
            language = language_of(report)
        if not report and statements:
            report, language = words_of_statements(statements, descriptions), "en"
        left_out = "unusable_report" if UNUSABLE in report else None if report else "no_report"
        if left_out is None and not has_recording(row["path"]):
            left_out = "no_ecg"
        yield SourceEntry(
            str(int(row["ecg_id"])),
            str(int(row["patient_id"])),
            rules.split(int(row["strat_fold"])),
            row["path"],
            report,
            statements,
            language,
            left_out,
        )


def _read_labels(path: Path, descriptions: dict[str, str]) -> pd.DataFrame:
    """Read a table of labels beside arrays, with the column `codes` (code -> likelihood in percent).

    The likelihoods stand in `LIKELIHOOD_COLUMNS` as JSON, where they are above 0. Form and rhythm statements stand in
    `LIST_COLUMNS`, without the underscore at the end of some codes, and the normal ECG in super_class. What is in a
    list only has the likelihood 0, which means "not stated".
    """
    table = read_ptbxl_table(path, (*KEYS, "super_class", LIKELIHOOD_COLUMNS[0]))
    codes = []
    for row in table.to_dict("records"):
        likelihoods: dict[str, float] = {}
        for column in LIKELIHOOD_COLUMNS:
            likelihoods |= _parsed(row.get(column), path.name)
        listed = [name for column in LIST_COLUMNS for name in _parsed(row.get(column), path.name)]
        listed += [name for name in _parsed(row["super_class"], path.name) if name == "NORM"]
        for name in listed:
            likelihoods.setdefault(name if name in descriptions else f"{name}_", 0.0)
        codes.append(likelihoods)
    return table.assign(codes=codes)


def _parsed(text: Any, item: str) -> Any:
    """Parse a cell that holds a dictionary or a list, in Python's or JSON's form. An empty cell is an empty one."""
    if text is None or (isinstance(text, float) and math.isnan(text)):
        return {}
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        raise TgmmError(item, "a cell of codes is no list and no dictionary. Is it the table of PTB-XL?") from None


def _check_keys(table: pd.DataFrame, item: str) -> None:
    """Refuse a table in which one of `KEYS` is no number, or an ecg_id stands twice."""
    for name in KEYS:
        if faulty := int(pd.to_numeric(table[name], errors="coerce").isna().sum()):
            raise TgmmError(item, f"{name} of {faulty} row(s) is no number. Remove these rows.")
    if repeated := table.ecg_id[table.ecg_id.duplicated()].tolist():
        raise TgmmError(item, f"{len(repeated)} ecg_id stand twice, for example {repeated[0]}. Remove one of the rows.")


def _refuse_unknown(codes: pd.Series, descriptions: dict[str, str]) -> None:
    if unknown := sorted({code for likelihoods in codes for code in likelihoods} - set(descriptions)):
        raise TgmmError(
            CODES,
            f"lacks the description of {len(unknown)} code(s) that recordings have: {', '.join(unknown[:5])}. Take "
            "the table of the same version of PTB-XL.",
        )
