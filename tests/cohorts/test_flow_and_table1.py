"""The flow chart branches, and table 1 prints numbers as people write them."""

from pathlib import Path

import pandas as pd

from tgmm_hf.cohorts.flow import draw_flow, flow_entry, flow_figure
from tgmm_hf.cohorts.mimic.table1 import table_one

FLOW = [
    flow_entry("start", "start", "all", 9, 20),
    flow_entry("times", "excluded", "no time", 1, 2),
    flow_entry("labs", "excluded", "nobody", 0, 0),
    flow_entry("cohort", "included", "included", 8, 18),
    flow_entry("ill", "group", "ill", 3, 8),
    flow_entry("well", "group", "well", 5, 10),
    flow_entry("candidates", "group", "prognosis", 8, 18),
    flow_entry("died", "excluded", "died", 2, 4),
    flow_entry("prognosis", "included", "followed", 6, 14),
    *(flow_entry(name, "group", name, 2, 4) for name in ("event", "death", "censored")),
]


def test_groups_stand_side_by_side_and_exclusions_beside_the_column() -> None:
    (axes,) = flow_figure(FLOW).axes
    places = {text.get_text().split("\n")[0]: text.get_position() for text in axes.texts if text.get_text()}
    assert "nobody" not in places
    column = {places[name][0] for name in ("all", "included", "prognosis", "followed", "death")}
    assert len(column) == 1
    assert places["ill"][1] == places["well"][1] and places["ill"][0] < column.pop() < places["well"][0]
    assert len({places[name][1] for name in ("event", "death", "censored")}) == 1
    assert places["no time"][0] == places["died"][0] > places["all"][0]
    heights = [places[name][1] for name in ("all", "no time", "included", "ill", "prognosis", "died", "followed")]
    assert heights == sorted(heights, reverse=True)
    low, high = axes.get_xlim()
    assert all(low < x < high for x, _ in places.values())  # an arrow outside would not be drawn


def test_the_same_flow_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("first.svg", "second.svg"):
        draw_flow(FLOW, tmp_path / name)
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


def test_table_1_has_no_powers_of_ten_and_groups_ethnicity() -> None:
    cohort = pd.DataFrame(
        {
            "label.hf_diagnosis": [0, 0, 1],
            "labs.ethnicity": ["WHITE - RUSSIAN", "WHITE", None],
            "labs.NTproBNP": [22420.4, 532.0, 44310.0],
            "labs.Creatinine": [0.8, 0.6, 1.25],
        }
    )
    excluded = pd.DataFrame(
        {"age": [50.0], "gender": ["F"], "ethnicity": ["HISPANIC/LATINO - CUBAN"], "prevalent": [0]}
    )
    table = table_one(cohort, excluded).set_index(["characteristic", "statistic"])
    assert table.loc[("NTproBNP", "median [Q1 to Q3]"), "included"] == "22,420 [11,476 to 33,365]"
    assert table.loc[("Creatinine", "median [Q1 to Q3]"), "included"] == "0.80 [0.70 to 1.02]"
    assert table.loc[("ethnicity: White", "n (%)"), "included"] == "2 (66.7)"
    assert table.loc[("ethnicity: Hispanic", "n (%)"), "excluded"] == "1 (100.0)"
