"""What the simple models read of an admission: laboratory cells, words, what is there; the ejection fraction.

The ejection fraction comes from a table of its own. Prepared data do not hold it, so that it can become no model's
input: heart failure is diagnosed by it.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from tgmm_hf.inputs.lab_text import read_cells

NATRIURETIC = "NTproBNP"
WORD_SHARE = 0.02
"""A word of the text cells (history, drugs) becomes a column if this share of the training rows with labs has it."""


def read_features(rows: Mapping[str, Dataset]) -> dict[str, dict[str, pd.DataFrame]]:
    """Column set -> split -> one row an admission, in order; NaN where there is nothing.

    "labs": numbers in canonical units, `female`, and 0 or 1 for each common word of the training rows' text cells; an
    admission without labs is all NaN. "natriuretic": NT-proBNP. "presence": what was measured.
    """
    cells = {split: [_cells(labs) for labs in column(rows[split], "labs")] for split in rows}
    names = sorted({name for numbers, _ in cells["train"] for name in numbers})
    texts = [set(words) for numbers, words in cells["train"] if numbers or words]
    counts = Counter(word for words in texts for word in words)
    common = sorted(word for word, count in counts.items() if count >= max(2, WORD_SHARE * len(texts)))
    found: dict[str, dict[str, pd.DataFrame]] = {"labs": {}, "natriuretic": {}, "presence": {}}
    for split, of_rows in cells.items():
        numbers = pd.DataFrame([each for each, _ in of_rows], columns=names, dtype=np.float64)
        words = pd.DataFrame([[float(word in each) for word in common] for _, each in of_rows], columns=common)
        given = np.array([bool(each or text) for each, text in of_rows])
        words = words.add_prefix("word ").where(pd.Series(given), np.nan)
        found["labs"][split] = pd.concat([numbers, words], axis=1)
        natriuretic = numbers[NATRIURETIC] if NATRIURETIC in numbers else pd.Series(np.nan, index=numbers.index)
        found["natriuretic"][split] = natriuretic.to_frame(NATRIURETIC)
        presence = numbers.notna().astype(float).add_prefix("has ")
        found["presence"][split] = presence.assign(
            labs=given,
            leads=[sum(mask) for mask in column(rows[split], "ecg_mask")],
            views=[len(views) for views in column(rows[split], "clip_views")],
        ).astype(float)
    return found


def read_lvef(path: str | Path, rows: Mapping[str, Dataset]) -> dict[str, pd.DataFrame]:
    """Split -> left ventricular ejection fraction in percent, one row an admission, in order; NaN where unknown.

    Args:
        path: Parquet or CSV with the columns id and lvef, such as the `cohort.parquet` of `tgmm curate`.

    Raises:
        ValueError: if a column is missing, an id occurs twice or none is in `rows`, or a value is no percentage.
    """
    path = Path(path)
    is_csv = path.suffix == ".csv"
    table = pd.read_csv(path, dtype=str, encoding="utf-8-sig") if is_csv else pd.read_parquet(path)
    if missing := [name for name in ("id", "lvef") if name not in table]:
        raise ValueError(f"{path} has no column {' and no column '.join(missing)}.")
    table.index = table["id"].astype(str).str.strip()
    if table.index.has_duplicates:
        raise ValueError(f"{path}: {int(table.index.duplicated().sum())} id(s) occur more than once.")
    if not any(table.index.isin(column(rows[split], "id")).any() for split in rows):
        raise ValueError(f"None of the {len(table)} ids of {path} is among the prepared admissions: another cohort?")
    values = pd.to_numeric(table["lvef"], errors="coerce").astype(np.float64)
    # a fraction among percentages, or ">55", must not become a number that nobody meant
    bad = table["lvef"].notna() & ~((values > 1) & (values <= 100))
    if bad.any():
        raise ValueError(
            f"{path}: {int(bad.sum())} of {int(table['lvef'].notna().sum())} values of lvef are no percentage above 1 "
            f"and up to 100 (the first is {table['lvef'][bad].iloc[0]!r}): correct them, or leave them empty."
        )
    return {split: values.reindex(column(rows[split], "id")).reset_index(drop=True).to_frame("LVEF") for split in rows}


def _cells(labs: str) -> tuple[dict[str, float], set[str]]:
    """Numbers by column and the words of the text cells of one laboratory row."""
    numbers: dict[str, float] = {}
    words: set[str] = set()
    for cell in read_cells(json.loads(labs))[0] if labs else ():
        if cell.name == "gender":
            numbers["female"] = float(cell.value == "F")
        elif cell.number is not None:
            numbers[cell.name] = cell.number
        else:
            words |= set(re.findall(r"\w+", cell.value.casefold()))
    return numbers, words


def column(rows: Dataset, name: str) -> list[Any]:
    return list(rows.select_columns([name]).with_format(None)[name])
