"""The text tables and data files of an evaluation."""

from dataclasses import replace

import pytest

from tgmm_hf.evaluation.outputs import metrics_text, write_outputs
from tgmm_hf.evaluation.predictions import FULL
from tgmm_hf.evaluation.summary import compute_metrics
from tgmm_hf.evaluation.tables import by_day_tables, calibration_table, headline
from tgmm_hf.utils.files import whole_file
from tgmm_hf.utils.names import SUBSET_NAMES


def test_text_tables_are_aligned(metrics):
    first, *blocks = metrics_text(metrics).split("\n\n")
    assert f"hf_diagnosis: AUC {metrics['hf_diagnosis'][FULL]['auc']:.3f}" in first.splitlines()[0]
    for block in blocks[:3]:
        lines = block.split("\n")[1:]
        assert len({len(line.rstrip()) for line in lines if not line.startswith("-")}) <= 2, block


def test_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "metrics.json"
    target.write_text("old")
    with pytest.raises(OSError, match="disk full"), whole_file(target) as building:
        building.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_nan_is_refused_and_leaves_the_old_figures(predictions, metrics, tmp_path):
    (tmp_path / "metrics.json").write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_outputs(metrics | {"broken": float("nan")}, predictions, tmp_path)
    assert (tmp_path / "metrics.json").read_text() == "old"
    assert not list(tmp_path.rglob(".*"))  # no temporary file is left


@pytest.mark.parametrize("events", [9, 10])
def test_a_c_index_of_few_events_is_no_headline(predictions, events):
    rows = predictions.table[(predictions.table["task"] == "hf_risk") & (predictions.table["subset"] == FULL)]
    kept = rows["id"][rows["event"] == 1][:events].tolist() + rows["id"][rows["event"] != 1][:20].tolist()
    few = replace(predictions, table=predictions.table[predictions.table["id"].isin(kept)])
    metrics = compute_metrics(few, {"hf_risk": {"kind": "prognosis"}}, replicates=20)
    figure, behind = headline("hf_risk", "prognosis", metrics["hf_risk"])
    value = f"{metrics['hf_risk'][FULL]['c_index']:.3f}"
    assert (value in figure) is (events == 10) and f"{'< 10' if events < 10 else events} events" in behind
    assert value in metrics_text(metrics)  # the table has it all the same
    assert ("too few events" in metrics_text(metrics).splitlines()[0]) is (events == 9)


def test_slope_without_interval_has_a_reason(metrics):
    reason = "defined in only 3 of 50 bootstrap resamples"
    changed = {"calibration_slope": 1.094, "calibration_slope_ci": None, "calibration_slope_missing": reason}
    entries = metrics["hf_diagnosis"] | {FULL: metrics["hf_diagnosis"][FULL] | changed}
    assert calibration_table("dx", entries).rows[-1][4] == f"1.094 ({reason})"


def test_figures_by_day_are_shown_if_any_combination_has_them(metrics):
    entries = metrics["hf_risk"]
    nothing = entries[FULL] | {"uno_c": None, "uno_c_until": None, "uno_c_missing": "8 events", "by_day": {}}
    weighted, by_day = by_day_tables("risk", entries | {FULL: nothing})
    for table in (weighted, by_day):
        assert [row[0] for row in table.rows] == [subset for subset in SUBSET_NAMES if subset != FULL]
    (reason,) = by_day_tables("risk", dict.fromkeys(SUBSET_NAMES, nothing))
    assert reason.rows == [["8 events"]]
