"""The command that writes the report of a patient, from files, in three formats."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from heart_signal import make_heart
from input_files import write_wfdb
from PIL import Image
from tiny_models import smallest_model, tiny_tokenizer
from typer.testing import CliRunner

from tgmm_hf import default_processor
from tgmm_hf.cli.application import app
from tgmm_hf.data.prediction import load_pipeline, patient_from_files
from tgmm_hf.explanation.explain import Explanation
from tgmm_hf.inputs.ecg_sheet import LAYOUTS
from tgmm_hf.reports import pdf
from tgmm_hf.reports.patient_file import claim_report, explain_patient, require_same_answer
from tgmm_hf.reports.patient_inputs import ecg_traces, read_inputs
from tgmm_hf.reports.pdf import print_to_pdf
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import LEADS

ROW = {"age": 71, "gender": "F", "Creatinine": [1.4, "mg/dL"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory with a model, a lab row and a recording without V3 that has a gap in V2."""
    root = tmp_path_factory.mktemp("explain")
    model = smallest_model()
    model.save_pretrained(root / "model")
    default_processor(model.config, tiny_tokenizer()).save_pretrained(root / "model")
    (root / "row.json").write_text(json.dumps(ROW))
    signal = make_heart(5000)
    signal[LEADS.index("V2"), 2000:2200] = np.nan
    kept = [index for index, lead in enumerate(LEADS) if lead != "V3"]
    write_wfdb(root, signal[kept], [LEADS[index] for index in kept])
    return root


def run(*words):
    return CliRunner().invoke(app, ["explain", *map(str, words)])


def words(root, *more):
    return [root / "model", "--labs", root / "row.json", "--ecg", root / "record", *more]


def test_the_command_writes_page_and_json(root):
    out = root / "report.html"
    result = run(*words(root, "--no-contributions", "--out", out, "--id", "Jane Doe"))
    assert result.exit_code == 0, result.output
    page = out.read_text()
    assert 'data-lead="V1"' in page and "Creatinine" in page and "Jane Doe" not in page
    assert str(root) not in page.replace(str(root / "model"), "")
    out = root / "report.json"
    assert run(*words(root, "--no-contributions", "--out", out, "--id", "Jane Doe", "--show-id")).exit_code == 0
    content = json.loads(out.read_text())
    assert content["patient"] == "Jane Doe" and content["attributions"] == []
    assert {entry["lead"] for entry in content["ecg"]["not_used"]} == {"V2", "V3"}
    assert all(entry["reason"] for entry in content["ecg"]["not_used"])


def test_the_command_line_is_checked_before_the_work(root):
    assert run(root / "model").exit_code == 2
    assert run(*words(root, "--out", root / "report.docx")).exit_code == 2
    (root / "mine.html").write_text("my notes")
    with pytest.raises(FileExistsError):
        claim_report(root / "mine.html", "html")
    claim_report(root / "none.html", "html")


def test_the_drawing_keeps_gaps_and_derives_no_chest_lead(root):
    pipe = load_pipeline(str(root / "model"))
    patient = patient_from_files(labs=root / "row.json", ecg=root / "record")
    inputs = read_inputs(pipe.processor, patient, pipe(patient))
    assert np.isnan(inputs.ecg.signal[LEADS.index("V2")]).sum() == 200
    assert np.isnan(inputs.ecg.signal[LEADS.index("V3")]).all()
    assert np.isfinite(inputs.ecg.signal[LEADS.index("V4")]).all()
    assert inputs.ecg.window == (0.5, 9.5) and not inputs.clips


def test_limb_leads_that_the_reader_derives_are_drawn(root):
    pipe = load_pipeline(str(root / "model"))
    names = ["I", "II", *LEADS[6:]]
    recording = {
        "signal": make_heart(5000)[[LEADS.index(name) for name in names]],
        "sampling_rate": 500,
        "lead_names": names,
    }
    traces = ecg_traces(recording, pipe.processor.feature_extractor, pipe({"ecg": recording}))
    assert not traces.problems
    np.testing.assert_allclose(traces.signal[2], traces.signal[1] - traces.signal[0], atol=1e-6)


def test_a_recording_that_is_refused_is_drawn_with_every_lead_marked(root):
    pipe = load_pipeline(str(root / "model"))
    short = {"signal": make_heart(2000), "sampling_rate": 500, "lead_names": list(LEADS)}  # 4 s
    prediction = pipe({"labs": ROW | {"Creatinine": 1.4}, "ecg": short})
    assert not prediction["used"]["ecg"]
    traces = ecg_traces(short, pipe.processor.feature_extractor, prediction)
    assert set(traces.problems) == set(LEADS)
    assert read_inputs(pipe.processor, {"ecg": "nowhere"}, prediction).ecg is None


def test_a_recording_without_millivolts_is_not_drawn(root):
    pipe = load_pipeline(str(root / "model"))
    scaled = {"signal": make_heart(5000), "sampling_rate": 500, "lead_names": list(LEADS), "units": "normalised"}
    inputs = read_inputs(pipe.processor, {"ecg": scaled}, pipe({"ecg": scaled}))
    assert inputs.ecg is None and len(inputs.notes) == 1


def test_the_explained_answer_is_the_shown_one(root):
    pytest.importorskip("shap")
    pytest.importorskip("captum")
    pipe = load_pipeline(str(root / "model"))
    patient = patient_from_files(labs=root / "row.json", ecg=root / "record")
    steps = []
    explained = explain_patient(pipe, patient, ["hf_risk"], progress=lambda step, share: steps.append((step, share)))
    assert {each.task for each in explained.explanation.attributions} == {"hf_risk"}
    shares = [share for _, share in steps]
    assert shares == sorted(shares) and shares[0] == 0 and 0.5 < shares[-1] < 1 and len(set(shares)) == len(shares)
    other = Explanation({"hf_risk": {"risk": explained.prediction["hf_risk"]["risk"] + 1}}, "hf_risk", "risk")
    with pytest.raises(TgmmError):
        require_same_answer(explained.prediction, other)


def test_without_a_browser_a_pdf_is_refused_with_the_way_out(root, monkeypatch):
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    with pytest.raises(TgmmError, match="--format html"):
        print_to_pdf("<!doctype html>", root / "report.pdf")
    assert not (root / "report.pdf").exists()


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["3x4", "6x2", "12x1"])
def test_a_millimetre_is_a_millimetre_on_the_pdf(root, layout):
    if not any(map(shutil.which, pdf.BROWSERS)) or not shutil.which("pdftoppm"):
        pytest.skip("needs Chromium, and pdftoppm of poppler-utils")
    out = root / f"{layout}.pdf"
    assert run(*words(root, "--no-contributions", "--ecg-layout", layout, "--out", out)).exit_code == 0
    subprocess.run(["pdftoppm", "-r", "254", "-gray", out, root / layout], check=True)  # 10 pixels a millimetre
    pages = [grey(path) for path in sorted(root.glob(f"{layout}-*.pgm"))]
    sheet = next(page for page in pages if page.shape[1] > page.shape[0])  # the ECG stands on a page in landscape
    margin = sheet[:, :200] < 100
    # the pulses before the rows: two upright lines of 10 mm, 5 mm apart
    upright = np.flatnonzero((longest_runs(margin) >= 95) & (longest_runs(margin) <= 110))
    assert upright[-1] - upright[0] == pytest.approx(50, abs=3)
    edges = np.flatnonzero(np.diff(margin[:, upright[1]].astype(int)))
    lengths = np.diff(edges)[::2]
    assert (lengths >= 95).sum() == len(LAYOUTS[layout].rows)


def longest_runs(dark):
    """Length of the longest run of True in each column."""
    best = current = np.zeros(dark.shape[1], int)
    for row in dark:
        current = (current + 1) * row
        best = np.maximum(best, current)
    return best


def grey(path):
    """Grey values (height, width) of a picture."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L")).astype(int)
