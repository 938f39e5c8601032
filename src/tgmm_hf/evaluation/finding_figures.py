"""Precision, recall and F1 of the findings in reports, against the truth, with bootstrap intervals."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tgmm_hf.cohorts.finding_reader import ABSENT, CERTAINTIES, PRESENT, Finding, read_findings
from tgmm_hf.data.instructions import Instruction
from tgmm_hf.evaluation.metrics import Estimate, estimate, estimate_of_values, estimate_share

TRUTH_STATED = "statements of the instruction file"
TRUTH_READ = "findings read from the reference reports, because the instruction file states none"
FIGURES = ("precision", "recall", "f1")
Report = Mapping[str, Finding]
"""Code -> finding, as `read_findings` returns it."""


class Truth(NamedTuple):
    """What is true of every ECG.

    Attributes:
        codes: Names of the statements, sorted.
        present: (n, codes) bool.
    """

    codes: list[str]
    present: NDArray


def truth_in(rows: Sequence[Instruction]) -> tuple[list[dict[str, str]], str]:
    """Return code -> certainty of what is present in each row of an instruction file, and where this comes from.

    If a row lacks statements, the findings of all reports are the truth, because the two sources differ.
    """
    if all(row.statements is not None for row in rows):
        stated = [{s.code: s.certainty for s in row.statements or () if s.polarity == PRESENT} for row in rows]
        return stated, TRUTH_STATED
    read = [read_findings(row.report).values() for row in rows]
    return [{f.code: f.certainty for f in findings if f.polarity == PRESENT} for findings in read], TRUTH_READ


def truth_of(rows: Sequence[set[str]], reports: Sequence[Sequence[Report]]) -> Truth:
    """Bring the truth to a matrix. Its columns are all codes that the truth or a report of any system holds.

    Args:
        rows: Codes that are present, of every ECG.
        reports: The findings of every ECG, of every system.
    """
    written = {finding.code for system in reports for report in system for finding in report.values()}
    codes = sorted(written.union(*rows))
    return Truth(codes, np.array([[code in row for code in codes] for row in rows], dtype=bool).reshape(len(rows), -1))


def stated_present(truth: Truth, reports: Sequence[Report]) -> NDArray:
    """Return which statements the reports make, doubted ones included: (n, codes) bool."""
    missing = Finding("", ABSENT, CERTAINTIES[0])
    stated = [[report.get(code, missing).polarity == PRESENT for code in truth.codes] for report in reports]
    return np.array(stated, dtype=bool).reshape(truth.present.shape)


def finding_figures(truth: Truth, reports: Sequence[Report], counts: NDArray) -> dict[str, Any]:
    """Compute the figures of a system's findings.

    Args:
        truth: The truth.
        reports: Findings of the system, one dict for each ECG.
        counts: Resamples (R, n).

    Returns:
        `micro_<figure>`: over all statements of all ECGs. `macro_<figure>`: mean over the statements that the truth
        holds at least once. `false_denials`: share of the denied statements that are true. `statements`: code ->
        figures, with `n` true ECGs and `stated` ECGs. Every figure stands beside its interval.
    """
    stated = stated_present(truth, reports)
    parts = (truth.present & stated, ~truth.present & stated, truth.present & ~stated)
    entry: dict[str, Any] = {}
    scored = np.asarray(truth.present.any(axis=0))
    for figure in FIGURES:
        for kind in ("micro", "macro"):
            compute = partial(_figure, parts, scored=scored, kind=kind, figure=figure)
            entry |= estimate(compute, counts).entry(f"{kind}_{figure}")
    entry |= _false_denials(truth, reports, counts)
    entry["statements"] = {
        code: {"n": int(truth.present[:, column].sum()), "stated": int(stated[:, column].sum())}
        | _of_one(parts, column, counts)
        for column, code in enumerate(truth.codes)
        if truth.present[:, column].any() or stated[:, column].any()
    }
    return entry


def _figure(
    parts: tuple[NDArray, NDArray, NDArray], counts: NDArray, *, scored: NDArray, kind: str, figure: str
) -> NDArray:
    """Compute a micro or macro figure of every resample: counts (R, n) -> (R,). NaN where it is undefined."""
    hits, false, missed = (counts @ part for part in parts)  # (R, codes)
    if kind == "micro":
        return _ratio_of(figure, hits.sum(1), false.sum(1), missed.sum(1))
    values = _ratio_of(figure, hits[:, scored], false[:, scored], missed[:, scored])
    # A statement that a system never makes has no precision. It counts as 0, or silence would pay.
    present = (hits + missed)[:, scored] > 0
    values = np.where(np.isnan(values) & present, 0.0, values)
    with np.errstate(invalid="ignore"):
        number = present.sum(axis=1)
        return np.where(number > 0, np.where(present, values, 0.0).sum(axis=1) / np.maximum(number, 1), np.nan)


def micro_f1(truth: Truth, reports: Sequence[Report], counts: NDArray) -> NDArray:
    """Compute the micro F1 of every resample, for differences between systems: counts (R, n) -> (R,)."""
    stated = stated_present(truth, reports)
    parts = (truth.present & stated, ~truth.present & stated, truth.present & ~stated)
    return _figure(parts, counts, scored=np.asarray(truth.present.any(axis=0)), kind="micro", figure="f1")


def _of_one(parts: tuple[NDArray, NDArray, NDArray], column: int, counts: NDArray) -> dict[str, Any]:
    """Compute precision, recall and F1 of one statement with their intervals."""
    entry: dict[str, Any] = {}
    of_statement = tuple(part[:, column].astype(np.float64) for part in parts)
    ones = np.ones((1, counts.shape[1]))
    for figure in FIGURES:
        whole, drawn = (_ratio_of(figure, *(drawn @ part for part in of_statement)) for drawn in (ones, counts))
        entry |= estimate_of_values(float(whole[0]), drawn).entry(figure)
    return entry


def _ratio_of(figure: str, hits: NDArray, false: NDArray, missed: NDArray) -> NDArray:
    """Compute precision, recall or F1 from numbers of hits, false and missed statements. NaN where undefined."""
    weights = {"precision": (1, 1, 0), "recall": (1, 0, 1), "f1": (2, 1, 1)}[figure]
    top = weights[0] * hits
    bottom = top + weights[1] * false + weights[2] * missed
    return np.divide(top, bottom, out=np.full(np.shape(bottom), np.nan), where=np.asarray(bottom) > 0)


def _false_denials(truth: Truth, reports: Sequence[Report], counts: NDArray) -> dict[str, Any]:
    """Compute the share of denied statements that are true, with the number of denied statements."""
    rows = [row for row, report in enumerate(reports) for f in report.values() if f.polarity == ABSENT]
    columns = [truth.codes.index(f.code) for report in reports for f in report.values() if f.polarity == ABSENT]
    return {"denied": len(rows)} | _share(truth.present[rows, columns], counts[:, rows]).entry("false_denials")


def certainty_figures(truth: Truth, reports: Sequence[Report], counts: NDArray) -> dict[str, Any]:
    """Compute how often a statement is true, by the certainty that the report gives it.

    A calibrated report is right more often where it says "definite" than where it says "possible".

    Args:
        truth: The truth.
        reports: Findings of the system.
        counts: Resamples (R, n).

    Returns:
        Certainty -> {"n": statements made, "true": share that is true, "true_ci"}.
    """
    entry = {}
    for certainty in CERTAINTIES:
        made = [
            (row, truth.codes.index(finding.code))
            for row, report in enumerate(reports)
            for finding in report.values()
            if finding.polarity == PRESENT and finding.certainty == certainty
        ]
        rows, columns = [row for row, _ in made], [column for _, column in made]
        entry[certainty] = {"n": len(made)} | _share(truth.present[rows, columns], counts[:, rows]).entry("true")
    return entry


def certainty_counts(truth: Sequence[Mapping[str, str]], reports: Sequence[Report]) -> dict[str, dict[str, int]]:
    """Count the statements made, by the word of the report and the certainty of the truth.

    Args:
        truth: Code -> certainty of what is present, of every ECG.
        reports: Findings of the system.

    Returns:
        Word of the report -> certainty of the truth, or "absent" -> number of statements.
    """
    table: dict[str, dict[str, int]] = {word: {} for word in CERTAINTIES}
    for row, report in zip(truth, reports, strict=True):
        for finding in report.values():
            if finding.polarity == PRESENT:
                true = row.get(finding.code, ABSENT)
                table[finding.certainty][true] = table[finding.certainty].get(true, 0) + 1
    return table


def _share(value: NDArray, counts: NDArray) -> Estimate:
    if not len(value):
        return Estimate(None, None, "no such statement")
    return estimate_share(value.astype(bool), counts)
