"""Figures that need no evaluation."""

import pytest

from tgmm_hf.reports.figures import render, robustness_figure, subgroup_figure


def test_one_modality_alone_has_a_figure_of_one_panel():
    point = {"level": "none", "subset": "labs", "n": 40, "auc": 0.8, "auc_ci": [0.7, 0.9]}
    figure = robustness_figure({"laboratory cells dropped": [point, point | {"level": "20%"}]}, "auc", "dx")
    assert render(figure, "svg")


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ((10, 30, 40), ["80", "10", "30", "40"]),
        ((9, 30, 41), ["80", "< 10", "not shown", "41"]),  # 80 - 30 - 41 is 9
        ((4, 5, 71), ["80", "< 10", "< 10", "71"]),
        ((80,), ["80", "80"]),
    ],
)
def test_figure_does_not_show_how_small_a_small_group_is(sizes: tuple[int, ...], shown: list[str]) -> None:
    entries = [{"grouping": "all", "group": "all", "n": sum(sizes), "positives": 3, "auc": 0.7, "auc_ci": None}]
    entries += [{**entries[0], "grouping": "ethnicity", "group": f"g{n}", "n": n} for n in sizes]
    labels = [label.get_text() for label in subgroup_figure(entries, "auc", "").axes[0].get_yticklabels()]
    assert all(f"({n})" in text or f"of {n})" in text for n, text in zip(shown, labels, strict=True))
