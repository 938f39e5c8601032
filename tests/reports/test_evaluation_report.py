"""The report of an evaluation: the page, the figures and the checklist."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
from fake_model import TASKS, FakeModel, fake_cohort, fake_collator, optimum_table

from tgmm_hf.evaluation.outputs import write_outputs
from tgmm_hf.evaluation.predictions import FULL, collect_predictions
from tgmm_hf.evaluation.summary import compute_metrics
from tgmm_hf.reports.checklist import ITEMS, checklist
from tgmm_hf.reports.evaluation_report import report_html, write_report
from tgmm_hf.reports.figures import forest_figure, render


def test_missing_class_and_absent_modality_give_reasons(tmp_path):
    rows = fake_cohort(30)
    for row in rows:
        row["present"] = np.array([True, True, False])
        row["label"], row["event"] = 1, 0
    predictions = collect_predictions(FakeModel(), rows, fake_collator, progress=False)
    metrics = compute_metrics(predictions, TASKS, truth=optimum_table(rows), replicates=20)
    entry = metrics["hf_diagnosis"]["labs+ecg"]
    assert (
        entry["auc"] is None and "30 of 30 rows are positive" in entry["auc_missing"] and entry["accuracy"] is not None
    )
    assert metrics["hf_diagnosis"][FULL] | {"n": 0, "auc": None, "accuracy": None} == metrics["hf_diagnosis"][FULL]
    assert "0 events" in metrics["hf_risk"]["labs"]["c_index_missing"]
    assert metrics["retrieval"]["labs->ecg"]["n"] == 30 and metrics["retrieval"]["labs->echo"]["lrap_3"] is None
    assert metrics["warnings"]
    write_report(metrics, predictions, tmp_path)  # figures that are undefined are left out
    write_outputs(metrics, predictions, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics


def test_report_and_data_files_are_written_and_the_page_needs_no_other_file(predictions, metrics, tmp_path):
    metrics = metrics | {"model": "demo/model", "split": "test", "synthetic": True, "versions": {"torch": "x<y"}}
    write_report(metrics, predictions, tmp_path)
    write_outputs(metrics, predictions, tmp_path)
    figures = ("auc", "roc", "calibration", "decision", "subgroups")
    names = {f"hf_diagnosis_{figure}" for figure in figures} | {"retrieval"}
    names |= {f"hf_risk_{figure}" for figure in ("c_index", "risk_groups", "subgroups")}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"{n}.{e}" for n in names for e in ("svg", "png")
    }
    assert not list(tmp_path.rglob(".*"))  # no temporary file left
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == len(names) and "no clinical evidence" in page and "not a medical device" in page
    assert "x&lt;y" in page and "<script" not in page and "src=" not in page
    assert not any(row in page for row in predictions.ids[:20])  # figures, no patients
    assert {item[0] for item in checklist(metrics)} == {number for number, _ in ITEMS} and "Not known" in page
    tables = {path.name for path in (tmp_path / "tables").iterdir()}
    assert tables == {f"{name}.csv" for name in ("table2", "table3", "table5", "tripod_ai")} | {
        f"{task}_subgroups.csv" for task in ("hf_diagnosis", "hf_risk")
    }
    table = (tmp_path / "metrics.txt").read_text()
    assert f"{metrics['hf_diagnosis'][FULL]['auc']:.3f}" in table and "no clinical evidence" in table
    written = pd.read_parquet(tmp_path / "predictions.parquet")
    pd.testing.assert_frame_equal(written, predictions.table)
    embeddings = np.load(tmp_path / "embeddings.npz")
    np.testing.assert_array_equal(embeddings["ecg_embeds"], predictions.embeds["ecg"])


def test_checklist_names_the_patients_that_thresholds_were_chosen_on(metrics):
    answer = {number: text for number, _, text in checklist(metrics)}["12a"]
    assert metrics["hf_diagnosis"][FULL]["threshold"]["chosen_on"] in answer
    assert metrics["hf_risk"][FULL]["risk_groups"]["chosen_on"] in answer
    # a validation split that was too small: 0.5, and the cut of the baseline
    few = metrics | {"validation": {"n": 9}}
    for task, key, chosen in (
        ("hf_diagnosis", "threshold", "nobody: 9 patients"),
        ("hf_risk", "risk_groups", "mean of train"),
    ):
        entry = metrics[task][FULL]
        few[task] = metrics[task] | {FULL: entry | {key: entry[key] | {"chosen_on": chosen}}}
    answer = {number: text for number, _, text in checklist(few)}["12a"]
    assert "nobody: 9 patients" in answer and "mean of train" in answer and "validation" not in answer


def test_svg_figures_are_identical_for_identical_figures(metrics):
    first, second = (render(forest_figure(metrics["hf_risk"], "c_index", "risk"), "svg") for _ in range(2))
    assert first == second and b"C-index" in first


def test_page_escapes_values_and_forbids_the_network(metrics):
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    page = report_html(metrics | {"model": attack, "warnings": [attack], "versions": {attack: attack}}, {})
    assert "<script" not in page and "<img" not in page and page.count("&lt;script&gt;") >= 4
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'" and set(directives["style-src"].split()) == {"'unsafe-inline'"}
    assert not {"http:", "https:", "*", "'self'"} & set(policy.replace(";", "").split())


def test_page_is_html_with_every_element_closed(metrics):
    class Checker(HTMLParser):
        open_tags: tuple = ()

        def handle_starttag(self, tag, attributes):
            if tag not in ("meta", "br"):
                self.open_tags = (*self.open_tags, tag)

        def handle_endtag(self, tag):
            assert self.open_tags[-1] == tag
            self.open_tags = self.open_tags[:-1]

    checker = Checker()
    checker.feed(report_html(metrics, {}))
    assert checker.open_tags == ()
