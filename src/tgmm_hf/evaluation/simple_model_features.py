"""The features of simple models: laboratory cells, words, what was measured, and the ejection fraction.

The ejection fraction comes from a separate table. Prepared data do not hold the ejection fraction, so that no model can
use it as an input. The reason is that doctors diagnose heart failure by it.
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

from tgmm_hf.inputs.lab_text import LabsText

NATRIURETIC = "NTproBNP"
WORD_SHARE = 0.02
"""Share of the training rows with labs that must contain a word of the text cells, so that it becomes a column."""


def read_features(rows: Mapping[str, Dataset]) -> dict[str, dict[str, pd.DataFrame]]:
    """Read three sets of features of every prepared split.

    "labs": numbers in canonical units, `female` (0 or 1), and a column of 0 or 1 for each common word of the text cells
    of the training rows. The words of an admission without labs are NaN. "natriuretic": NT-proBNP. "presence": 0 or 1
    for each number and for labs, number of leads, number of views.

    Args:
        rows: Split -> prepared rows. The split "train" must be there.

    Returns:
        Feature set -> split -> one row per admission, in order. NaN where a value is missing.
    """
    cells = {split: [_cells(labs) for labs in column(rows[split], "labs")] for split in rows}
    names = sorted({name for numbers, _ in cells["train"] for name in numbers})
    common = _common_words([set(words) for numbers, words in cells["train"] if numbers or words])
    features: dict[str, dict[str, pd.DataFrame]] = {"labs": {}, "natriuretic": {}, "presence": {}}
    for split, cells_of_split in cells.items():
        numbers = pd.DataFrame([cells for cells, _ in cells_of_split], columns=names, dtype=np.float64)
        words = pd.DataFrame([[float(word in cells) for word in common] for _, cells in cells_of_split], columns=common)
        has_labs = np.array([bool(cells or text) for cells, text in cells_of_split])
        words = words.add_prefix("word ").where(pd.Series(has_labs), np.nan)
        features["labs"][split] = pd.concat([numbers, words], axis=1)
        natriuretic = numbers[NATRIURETIC] if NATRIURETIC in numbers else pd.Series(np.nan, index=numbers.index)
        features["natriuretic"][split] = natriuretic.to_frame(NATRIURETIC)
        presence = numbers.notna().astype(float).add_prefix("has ")
        features["presence"][split] = presence.assign(
            labs=has_labs,
            leads=[sum(mask) for mask in column(rows[split], "ecg_mask")],
            views=[len(views) for views in column(rows[split], "clip_views")],
        ).astype(float)
    return features


def _common_words(texts: list[set[str]]) -> list[str]:
    """List the words that at least two of the texts, and at least the share `WORD_SHARE` of the texts, contain.

    Each text is given as the set of its words.
    """
    counts = Counter(word for words in texts for word in words)
    return sorted(word for word, count in counts.items() if count >= max(2, WORD_SHARE * len(texts)))


def read_lvef(path: str | Path, rows: Mapping[str, Dataset]) -> dict[str, pd.DataFrame]:
    """Read the left ventricular ejection fraction of every prepared admission, in percent.

    Args:
        path: Parquet or CSV file with the columns id and lvef, such as the `cohort.parquet` of `tgmm curate`.
        rows: Split -> prepared rows.

    Returns:
        Split -> table with the column LVEF, one row per admission, in order. NaN where unknown.

    Raises:
        ValueError: If a column is missing, an id occurs twice, no id is in `rows`, or a value is no percentage.
    """
    path = Path(path)
    is_csv = path.suffix == ".csv"
    table = pd.read_csv(path, dtype=str, encoding="utf-8-sig") if is_csv else pd.read_parquet(path)
    if missing := [name for name in ("id", "lvef") if name not in table]:
        raise ValueError(
            f"{path} has no column {' and no column '.join(missing)}. Its first columns are {list(table)[:8]}. Rename "
            "the columns to `id` and `lvef`."
        )
    table.index = table["id"].astype(str).str.strip()
    if table.index.has_duplicates:
        raise ValueError(
            f"{path}: {int(table.index.duplicated().sum())} id(s) occur more than once. Keep one row per id."
        )
    if not any(table.index.isin(column(rows[split], "id")).any() for split in rows):
        raise ValueError(
            f"None of the {len(table)} ids of {path} is among the prepared admissions. Is it a table of another cohort?"
        )
    values = pd.to_numeric(table["lvef"], errors="coerce").astype(np.float64)
    # A fraction among percentages, or ">55", must not be read as a percentage.
    is_bad = table["lvef"].notna() & ~((values > 1) & (values <= 100))
    if is_bad.any():
        raise ValueError(
            f"{path}: {int(is_bad.sum())} of {int(table['lvef'].notna().sum())} values of lvef are no percentage "
            f"above 1 and up to 100 (the first is {table['lvef'][is_bad].iloc[0]!r}). Correct them or leave them empty."
        )
    return {split: values.reindex(column(rows[split], "id")).reset_index(drop=True).to_frame("LVEF") for split in rows}


def _cells(labs: str) -> tuple[dict[str, float], set[str]]:
    """Read the laboratory row of a prepared row, as JSON text.

    Returns:
        Column -> number, with "female" for the gender; and the words of all text cells, in small letters.
    """
    numbers: dict[str, float] = {}
    words: set[str] = set()
    for cell in LabsText.from_stored(json.loads(labs)).cells if labs else ():
        if cell.name == "gender":
            numbers["female"] = float(cell.value == "F")
        elif cell.number is not None:
            numbers[cell.name] = cell.number
        else:
            words |= set(re.findall(r"\w+", cell.value.casefold()))
    return numbers, words


def column(rows: Dataset, name: str) -> list[Any]:
    """Return the column `name` of prepared rows as a list of Python values."""
    return list(rows.select_columns([name]).with_format(None)[name])
