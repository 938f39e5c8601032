"""Who belongs to which group, and how groups are scored."""

import json

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from sklearn.metrics import recall_score, roc_auc_score

from tgmm_hf.evaluation.calibration import OperatingPoint
from tgmm_hf.evaluation.subgroups import (
    NOT_STATED,
    SMALLEST_GROUP,
    describe_rows,
    shown_counts,
    shown_parts,
    subgroup_table,
)
from tgmm_hf.evaluation.tables import subgroup_rows


def prepared(*rows):
    """Prepared rows of (laboratory cells, usable leads, views)."""
    return Dataset.from_dict(
        {
            "labs": [json.dumps(cells) if cells else "" for cells, _, _ in rows],
            "ecg_mask": [[i < leads for i in range(12)] for _, leads, _ in rows],
            "clip_views": [list(range(views)) for _, _, views in rows],
        }
    )


def test_groups_are_read_from_the_prepared_rows():
    described = describe_rows(
        prepared(
            (
                {"age": [49.9, "years"], "gender": "F", "ethnicity": "WHITE - RUSSIAN", "NTproBNP": [900.0, "pg/mL"]},
                12,
                0,
            ),
            ({"age": 80.0, "gender": "M", "ethnicity": "BLACK/AFRICAN AMERICAN", "BNP": "<10"}, 0, 11),
            ({"gender": "X", "ethnicity": "UNABLE TO OBTAIN", "age": ">89"}, 7, 5),
            ({}, 12, 1),
        )
    )
    assert described["sex"].tolist() == ["female", "male", NOT_STATED, NOT_STATED]
    assert described["age"].tolist() == ["under 50", "80 and over", NOT_STATED, NOT_STATED]
    assert described["ethnicity"].tolist() == ["white", "black", NOT_STATED, NOT_STATED]
    assert described["modalities"].tolist() == ["labs+ecg", "labs+echo", "labs+ecg+echo", "ecg+echo"]
    assert described["natriuretic"].tolist() == ["given", "given", "missing", "missing"]
    assert described["cells"].tolist() == ["80 % and over", "80 % and over", "50 to 79 %", "under 50 %"]  # of 5 columns
    assert described["views"].tolist() == ["none", "9 to 11", "5 to 8", "1 to 4"]


@pytest.fixture(scope="module")
def scored():
    """200 admissions, half of them without echo; probabilities under two combinations."""
    generator = np.random.default_rng(0)
    n, label = 200, np.arange(200) % 2
    groups = pd.DataFrame(
        {
            "sex": np.where(np.arange(n) < 15, "male", "female"),
            "age": np.where(np.arange(n) % 4 < 2, "65 to 79", "under 50"),
            "ethnicity": np.where(label == 1, "white", "asian"),  # one class each
            "modalities": np.where(np.arange(n) < 100, "labs+ecg", "labs+ecg+echo"),
            "natriuretic": "given",
            "cells": "80 % and over",
            "views": np.where(np.arange(n) < 100, "none", "9 to 11"),
        }
    )
    parts = []
    for subset, members in (("labs+ecg", np.arange(n)), ("labs+ecg+echo", np.arange(100, n))):
        probability = 1 / (1 + np.exp(-(label[members] - 0.5) * 2 - generator.normal(size=len(members))))
        parts.append(
            pd.DataFrame(
                {
                    "row": members,
                    "subset": subset,
                    "patient_id": members.astype(str),
                    "probability": probability,
                    "label": label[members].astype(float),
                    "positive": label[members].astype(float),
                    "risk": probability,
                    "time": 10.0 + members,
                    "event": label[members],
                }
            )
        )
    return pd.concat(parts, ignore_index=True), groups


def test_every_admission_is_scored_once_on_the_modalities_it_has(scored):
    table, groups = scored
    points = {"labs+ecg": OperatingPoint(0.3), "labs+ecg+echo": OperatingPoint(0.7)}
    entries = {
        (e["grouping"], e["group"]): e
        for e in subgroup_table(table, "diagnosis", groups, points, seed=0, replicates=50)
    }
    own = groups["modalities"].to_numpy()[table["row"]]
    rows = table[table["subset"] == own]
    everybody = entries["all", "all"]
    assert len(rows) == everybody["n"] == 200 and everybody["positives"] == 100
    assert everybody["auc"] == pytest.approx(roc_auc_score(rows["positive"], rows["probability"]), abs=1e-12)
    named = rows["probability"] >= np.where(rows["subset"] == "labs+ecg", 0.3, 0.7)  # each has its own threshold
    assert everybody["sensitivity"] == pytest.approx(recall_score(rows["positive"], named), abs=1e-12)
    older = rows[(groups["age"] == "65 to 79").to_numpy()[rows["row"]]]
    assert entries["age", "65 to 79"]["auc"] == pytest.approx(roc_auc_score(older["positive"], older["probability"]))
    assert [key[1] for key in entries if key[0] == "age"] == ["under 50", "65 to 79"]  # in order of age
    assert not any(grouping in ("natriuretic", "cells") for grouping, _ in entries)  # nothing to tell apart


def test_small_groups_and_few_cases_are_not_scored(scored):
    table, groups = scored
    entries = subgroup_table(table, "diagnosis", groups, {}, seed=0, replicates=50)
    by_group = {e["group"]: e for e in entries}
    assert by_group["male"]["n"] == 15 < SMALLEST_GROUP
    assert by_group["male"]["auc"] is None and "n < 20" in by_group["male"]["auc_missing"]
    assert by_group["asian"]["auc"] is None and "10 of the rarer class" in by_group["asian"]["auc_missing"]
    for positives, scored_too in ((9, False), (10, True)):
        few = table[(table["positive"] == 0) | (table["row"] < 100 + 2 * positives) & (table["row"] >= 100)]
        everybody = subgroup_table(few, "diagnosis", groups, {}, seed=0, replicates=50)[0]
        assert everybody["positives"] == positives and (everybody["auc"] is not None) is scored_too
        everybody = subgroup_table(few, "prognosis", groups, {}, seed=0, replicates=50)[0]
        assert everybody["events"] == positives and (everybody["c_index"] is not None) is scored_too


def test_interval_of_width_zero_is_not_given(scored):
    table, groups = scored
    perfect = table.assign(probability=table["positive"])
    everybody = subgroup_table(perfect, "diagnosis", groups, {}, seed=0, replicates=50)[0]
    assert everybody["auc"] == 1 and everybody["auc_ci"] is None and "resamples agree" in everybody["auc_missing"]


def test_prognosis_has_concordance(scored):
    table, groups = scored
    entries = subgroup_table(table, "prognosis", groups, {}, seed=0, replicates=50)
    assert (
        entries[0]["events"] == 100
        and entries[0]["c_index_ci"][0] < entries[0]["c_index"] < entries[0]["c_index_ci"][1]
    )


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ((10, 30, 40), ["80", "10", "30", "40"]),
        ((9, 30, 41), ["80", "< 10", "not shown", "41"]),  # 80 - 30 - 41 would tell
        ((4, 5, 71), ["80", "< 10", "< 10", "71"]),
        ((80,), ["80", "80"]),
    ],
)
def test_tables_do_not_show_how_small_a_small_group_is(sizes: tuple[int, ...], shown: list[str]) -> None:
    entries = [{"grouping": "all", "group": "all", "n": sum(sizes), "positives": 3, "auc": 0.7, "auc_ci": None}]
    entries += [{**entries[0], "grouping": "ethnicity", "group": f"g{n}", "n": n} for n in sizes]
    assert [n for n, _ in shown_counts(entries)] == shown
    rows = subgroup_rows("dx", entries).rows
    assert [row[2] for row in rows] == shown
    assert all((row[3] == "-") is not row[2].isdigit() for row in rows)


@pytest.mark.parametrize(
    ("positives", "shown"),
    [
        ((12, 14), ["12", "14"]),
        ((4, 22), ["< 10", "-"]),  # 26 - 22 would tell
        ((4, 6), ["< 10", "< 10"]),
        ((34, 20), ["> 30", "-"]),  # 40 - 34 are negative
    ],
)
def test_few_positives_are_hidden_as_small_groups_are(positives: tuple[int, int], shown: list[str]) -> None:
    whole = {"grouping": "all", "group": "all", "n": 80, "positives": sum(positives)}
    entries = [whole, *({"grouping": "sex", "group": f"g{p}", "n": 40, "positives": p} for p in positives)]
    assert [cases for _, cases in shown_counts(entries)][1:] == shown


def test_a_small_part_does_not_follow_from_the_other_part() -> None:
    assert shown_parts([12, 30]) == ["12", "30"]
    assert shown_parts([12, 3]) == ["not shown", "< 10"]
    assert shown_parts([0, 30]) == ["0", "30"]
