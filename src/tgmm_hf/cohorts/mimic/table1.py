"""Table 1 of a cohort: characteristics by group with missingness, included against excluded."""

import pandas as pd

GROUPS = ("included", "no heart failure", "heart failure", "excluded")


def table_one(cohort: pd.DataFrame, excluded: pd.DataFrame) -> pd.DataFrame:
    """Describe a cohort: one row per characteristic and statistic, one column per group.

    Args:
        cohort: Cohort table, one row per admission.
        excluded: age, gender, ethnicity, prevalent (0, 1) of the excluded stays. Their laboratory cells were never
            read, so those rows are empty.

    Returns:
        Columns characteristic, statistic ("n", "mean (SD)", "median [Q1, Q3]", "n (%)", "missing, n (%)"), `GROUPS`.
    """
    excluded = excluded.rename(columns={name: f"labs.{name}" for name in ("age", "gender", "ethnicity")})
    excluded = excluded.rename(columns={"prevalent": "label.hf_diagnosis"})
    label = cohort["label.hf_diagnosis"]
    parts = dict(zip(GROUPS, (cohort, cohort[label == 0], cohort[label == 1], excluded), strict=True))
    rows = [_row("admissions", "n", {name: str(len(part)) for name, part in parts.items()})]
    if "patient_id" in excluded:
        rows.append(_row("patients", "n", {name: str(part.patient_id.nunique()) for name, part in parts.items()}))
    rows.append(
        _row("heart failure", "n (%)", {name: _share(part["label.hf_diagnosis"] == 1) for name, part in parts.items()})
    )
    for column in [name for name in cohort.columns if name.startswith("labs.")]:
        rows += _characteristic(column, {name: part.get(column) for name, part in parts.items()})
    return pd.DataFrame(rows)


def _characteristic(column: str, parts: dict[str, pd.Series | None]) -> list[dict[str, str]]:
    name = column.removeprefix("labs.")
    rows = []
    if name in ("medical history", "drug history"):
        rows.append(_row(name, "n (%)", {group: _share(_values(part).notna()) for group, part in parts.items()}))
    elif name in ("gender", "ethnicity"):
        levels = sorted({level for part in parts.values() for level in _values(part).dropna()})
        for level in levels:
            rows.append(
                _row(f"{name}: {level}", "n (%)", {g: _share(_values(part) == level) for g, part in parts.items()})
            )
    elif name == "age":
        rows.append(_row("age, years", "mean (SD)", {group: _mean(_numbers(part)) for group, part in parts.items()}))
    else:
        rows.append(_row(name, "median [Q1, Q3]", {group: _median(_numbers(part)) for group, part in parts.items()}))
    return [*rows, _row(name, "missing, n (%)", {group: _share(_values(part).isna()) for group, part in parts.items()})]


def _row(characteristic: str, statistic: str, values: dict[str, str]) -> dict[str, str]:
    return {"characteristic": characteristic, "statistic": statistic, **values}


def _values(part: pd.Series | None) -> pd.Series:
    return pd.Series(dtype=object) if part is None else part


def _numbers(part: pd.Series | None) -> pd.Series:
    """Read values as numbers; a text such as "<0.01" counts as present but has no number."""
    return pd.to_numeric(_values(part), errors="coerce").dropna()


def _share(flags: pd.Series) -> str:
    return f"{int(flags.sum())} ({100 * flags.mean():.1f})" if len(flags) else ""


def _mean(values: pd.Series) -> str:
    return f"{values.mean():.1f} ({values.std():.1f})" if len(values) > 1 else ""


def _median(values: pd.Series) -> str:
    if not len(values):
        return ""
    low, middle, high = values.quantile([0.25, 0.5, 0.75])
    return f"{middle:.4g} [{low:.4g}, {high:.4g}]"
