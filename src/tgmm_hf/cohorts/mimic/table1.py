"""Table 1 of a cohort: characteristics by group with missingness, included against excluded."""

import pandas as pd

from tgmm_hf.cohorts.ethnicity import ethnicity_group

GROUPS = ("included", "no heart failure", "heart failure", "excluded")


def table_one(cohort: pd.DataFrame, excluded: pd.DataFrame) -> pd.DataFrame:
    """Describe a cohort: one row per characteristic and statistic, one column per group.

    Args:
        cohort: Cohort table, one row per admission.
        excluded: Columns age, gender, ethnicity and prevalent (0, 1) of the excluded stays. Their laboratory cells were
            not read, so that the laboratory rows of this group are empty.

    Returns:
        Texts in the columns characteristic, statistic ("n", "mean (SD)", "median [Q1 to Q3]", "n (%)" or "missing, n
        (%)"), and one column for each of `GROUPS`.
    """
    excluded = excluded.rename(columns={name: f"labs.{name}" for name in ("age", "gender", "ethnicity")})
    excluded = excluded.rename(columns={"prevalent": "label.hf_diagnosis"})
    label = cohort["label.hf_diagnosis"]
    parts = dict(zip(GROUPS, (cohort, cohort[label == 0], cohort[label == 1], excluded), strict=True))
    rows = [table_row("admissions", "n", {name: f"{len(part):,}" for name, part in parts.items()})]
    if "patient_id" in excluded:
        rows.append(
            table_row("patients", "n", {name: f"{part.patient_id.nunique():,}" for name, part in parts.items()})
        )
    rows.append(
        table_row(
            "heart failure", "n (%)", {name: share(part["label.hf_diagnosis"] == 1) for name, part in parts.items()}
        )
    )
    for column in [name for name in cohort.columns if name.startswith("labs.")]:
        rows += _characteristic(column, {name: part.get(column) for name, part in parts.items()})
    return pd.DataFrame(rows)


def _characteristic(column: str, parts: dict[str, pd.Series | None]) -> list[dict[str, str]]:
    name = column.removeprefix("labs.")
    rows = []
    if name in ("medical history", "drug history"):
        rows.append(table_row(name, "n (%)", {group: share(_values(part).notna()) for group, part in parts.items()}))
    elif name in ("gender", "ethnicity"):
        if name == "ethnicity":
            parts = {group: _ethnicities(part) for group, part in parts.items()}
        levels = sorted({level for part in parts.values() for level in _values(part).dropna()})
        for level in levels:
            rows.append(
                table_row(f"{name}: {level}", "n (%)", {g: share(_values(part) == level) for g, part in parts.items()})
            )
    elif name == "age":
        rows.append(
            table_row(
                "age, years", "mean (SD)", {group: mean_and_deviation(_numbers(part)) for group, part in parts.items()}
            )
        )
    else:
        numbers = {group: _numbers(part) for group, part in parts.items()}
        decimals = _decimals(pd.concat(list(numbers.values())))
        medians = {group: quartiles(values, decimals) for group, values in numbers.items()}
        rows.append(table_row(name, "median [Q1 to Q3]", medians))
    return [
        *rows,
        table_row(name, "missing, n (%)", {group: share(_values(part).isna()) for group, part in parts.items()}),
    ]


def table_row(characteristic: str, statistic: str, values: dict[str, str]) -> dict[str, str]:
    """Make a row of the table. `values` holds a text for each group."""
    return {"characteristic": characteristic, "statistic": statistic, **values}


def _values(part: pd.Series | None) -> pd.Series:
    return pd.Series(dtype=object) if part is None else part


def _numbers(part: pd.Series | None) -> pd.Series:
    """Read the numbers of a column, without missing values and without texts such as "<0.01"."""
    return pd.to_numeric(_values(part), errors="coerce").dropna()


def share(flags: pd.Series) -> str:
    """Write how many flags are True, with their percentage; "" without flags."""
    return f"{int(flags.sum()):,} ({100 * flags.mean():.1f})" if len(flags) else ""


def mean_and_deviation(values: pd.Series) -> str:
    """Write mean and standard deviation; "" for fewer than two numbers."""
    return f"{values.mean():.1f} ({values.std():.1f})" if len(values) > 1 else ""


def quartiles(values: pd.Series, decimals: int) -> str:
    """Write the median and the quartiles; "" without numbers."""
    if not len(values):
        return ""
    low, middle, high = (f"{value:,.{decimals}f}" for value in values.quantile([0.25, 0.5, 0.75]))
    return f"{middle} [{low} to {high}]"


def _decimals(values: pd.Series) -> int:
    """Choose the number of decimals of a row, by the size of its typical value: 532, 11.6, 4.1, 0.22."""
    typical = values.abs().median() if len(values) else 0.0
    return 0 if typical >= 100 else 1 if typical >= 1 else 2


def _ethnicities(part: pd.Series | None) -> pd.Series:
    """Group the texts of a column: "White" for "WHITE - RUSSIAN"."""
    groups = [None if pd.isna(text) else ethnicity_group(str(text)) for text in _values(part)]
    return pd.Series([group and group.capitalize() for group in groups], dtype=object)
