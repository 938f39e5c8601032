"""The report of one patient: what it says, what it hides, and that the page needs nothing but itself."""

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import combinations

import numpy as np
import pytest
from heart_signal import make_heart

from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.explanation.material import ClipMaterial
from tgmm_hf.explanation.verified import FALSE
from tgmm_hf.inputs.ecg_sheet import EcgTraces
from tgmm_hf.inputs.image_processing_echo import CropBox
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.reports.patient_inputs import PatientInputs
from tgmm_hf.reports.patient_report import ReportSettings, report_content, report_html
from tgmm_hf.utils.names import LEADS, MODALITIES, VIEWS

HOSTILE = '<script>alert(1)</script><img src="http://evil.example/x.png" onerror=alert(1)>'
TASKS = {
    "hf_diagnosis": {"kind": "diagnosis", "question": "Does it fail?", "candidates": ["no failure", "failure"]},
    "hf_risk": {
        "kind": "prognosis",
        "question": "When will it fail?",
        "candidates": ["low", "high"],
        "baseline_hazards": {
            "labs+ecg+echo": {
                "days": [100.0, 365.0, 730.0],
                "event_cumulative_hazard": [0.05, 0.2, 0.4],
                "death_cumulative_hazard": [0.0, 0.0, 0.0],
                "event_slope": 1.0,
                "death_slope": 0.0,
                "risk_center": 0.0,
                "risk_range": [-2.0, 2.0],
                "n": 61,
                "fitted_on": "validation",
            }
        },
    },
    "retrieval": {"kind": "retrieval", "question": "", "candidates": []},
}
ROW = {"age": 71, "gender": "F", "Creatinine": (124, "umol/L"), "NTproBNP": (5210, "pg/mL"), "Sodium": 140}
CLIP_VIEWS = ("A2C", "Parasternal_Long")


def make_inputs(modalities=MODALITIES, row=None):
    labs = LabsText.from_row(ROW | (row or {})).write() if "labs" in modalities else None
    signal = make_heart(5000)
    signal[LEADS.index("V5")] = np.nan
    ecg = EcgTraces(signal, 500.0, {"V5": "missing"}, (0.5, 9.5)) if "ecg" in modalities else None
    frames = np.random.default_rng(0).integers(0, 255, (4, 30, 40, 3), dtype=np.uint8)
    clips = {view: ClipMaterial(frames, CropBox(3, 8, 24)) for view in CLIP_VIEWS} if "echo" in modalities else {}
    return PatientInputs(labs, ecg, clips)


def make_prediction(inputs, **changes):
    used = {
        "labs": [] if inputs.labs is None else list(inputs.labs.used),
        "ecg": [] if inputs.ecg is None else [lead for lead in LEADS if lead != "V5"],
        "echo": list(inputs.clips),
    }
    clips = [
        {"item": f"echo[{number}]", "view": view, "confidence": 1.0, "by": "name", "used": True}
        for number, view in enumerate(inputs.clips, start=1)
    ]
    prediction = {
        "id": "Jane Doe 19470312",
        "hf_diagnosis": {
            "probabilities": {"no failure": 0.27, "failure": 0.73},
            "prediction_set": {"level": 0.9, "candidates": ["failure"], "text": "failure"},
            "decision": {"answer": "failure", "threshold": 0.4, "text": "'failure' is decided from 0.400 upwards"},
        },
        "hf_risk": {"risk": 0.7, "risk_by_day": {"365": 0.33, "730": 0.55}},
        "used": used,
        "views": clips,
        "refused": [{"item": "labs.Potassium", "reason": "unit not known"}],
        "checks": [{"code": "ecg_clipped", "item": "ecg.V2", "text": "lead V2 may be clipped"}],
        "notes": ["labs: Creatinine was converted to its canonical unit"],
        "model": "somewhere/model",
        "model_fingerprint": "sha256:1",
        "processor_fingerprint": "sha256:2",
        "code_revision": "sha256:3",
    }
    return prediction | changes


def make_attributions(inputs):
    generator = np.random.default_rng(1)

    def attribution(modality, values, *axes, method="shap", **more):
        about = {"task": "hf_diagnosis", "target": "failure", "unit": "log-odds", "baseline": "nothing", "output": 1.0}
        return Attribution(modality, method, values=values, axes=axes, **about | more)

    shapley = {"method": "shapley", "baseline_output": 0.0, "completeness_error": 0.0}
    made = [attribution("modalities", np.array([0.7, 0.4, -0.1]), Axis("modality", MODALITIES), **shapley)]
    if inputs.labs is not None:
        names = tuple(inputs.labs.used)
        made.append(attribution("labs", generator.normal(size=len(names)), Axis("cell", names)))
    if inputs.ecg is not None:
        made.append(attribution("ecg", generator.normal(size=(12, 30)), Axis("lead", LEADS), Axis("token", None, 0.3)))
    if inputs.clips:
        maps = np.full((11, 2, 7, 7), np.nan)
        maps[[VIEWS.index(view) for view in CLIP_VIEWS]] = generator.normal(size=(2, 2, 7, 7))
        axes = Axis("view", VIEWS), Axis("frame"), Axis("row"), Axis("column")
        made.append(attribution("echo", maps, *axes, method="grad_cam_plus_plus", unit="relative"))
    return made


def make_report(modalities=MODALITIES, *, explained=True, settings=None, row=None, **changes):
    """The content and the page of a patient with these modalities."""
    inputs = make_inputs(modalities, row)
    attributions = make_attributions(inputs) if explained else []
    content = report_content(make_prediction(inputs, **changes), inputs, TASKS, attributions, settings)
    return content, report_html(content, inputs, attributions, settings)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_needs_no_other_file_and_runs_no_script():
    page = Page(make_report()[1])
    assert not page.all("script") and not page.all("link") and not page.all("iframe") and not page.all("form")
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script" not in policy
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), tag
            if name in ("src", "href", "xlink:href", "action", "data", "poster"):
                assert value.startswith(("data:image/", "#")), (tag, name, value)
            assert "url(http" not in (value or "")


def test_no_address_of_the_network_but_names_of_formats():
    addresses = set(re.findall(r"(?:https?:)?//[\w.]+[^\"'\s<]*", re.sub(r"base64,[^\"]*", "", make_report()[1])))
    formats = (
        "http://www.w3.org/",
        "https://www.w3.org/",
        "http://purl.org/",
        "http://creativecommons.org/",
        "//www.w3.org/",
    )
    assert [address for address in addresses if not address.startswith((*formats, "https://matplotlib.org/"))] == []


def test_hostile_text_is_escaped():
    row = {HOSTILE: HOSTILE, "drug history": HOSTILE}
    refused = [{"item": HOSTILE, "reason": HOSTILE}]
    checks = [{"code": "x", "item": HOSTILE, "text": HOSTILE}]
    settings = ReportSettings(identifiers=True)
    changes = {"refused": refused, "checks": checks, "notes": [HOSTILE], "id": HOSTILE, "model": HOSTILE}
    page = make_report(row=row, settings=settings, **changes)[1]
    assert "alert(1)" in page
    tags = Page(page)
    assert not tags.all("script") and "evil.example" not in str([img.get("src") for img in tags.all("img")])
    assert not any("onerror" in attributes for _, attributes in tags.tags)


def test_identifiers_appear_only_if_asked_for():
    row = {"Surname": "Katzenellenbogen"}
    content, page = make_report(row=row)
    for text in (json.dumps(content), page):
        assert "Jane Doe" not in text and "Katzenellenbogen" not in text and "Surname" not in text
    content, page = make_report(row=row, settings=ReportSettings(identifiers=True))
    assert "Jane Doe 19470312" in page and "Katzenellenbogen" in page and content["patient"] == "Jane Doe 19470312"


@pytest.mark.parametrize("explained", [True, False])
@pytest.mark.parametrize(
    "modalities", [s for n in range(4) for s in combinations(MODALITIES, n)], ids=lambda s: "+".join(s) or "none"
)
def test_every_subset_of_modalities_has_a_report(modalities, explained):
    changes = {} if modalities else {"hf_diagnosis": None, "hf_risk": None}
    content, page = make_report(modalities, explained=explained and bool(modalities), **changes)
    json.dumps(content, allow_nan=False)
    sections = {section.get("aria-labelledby") for section in Page(page).all("section")}
    assert {"answer", "echo", "model"} <= sections
    assert ("labs" in sections) == ("labs" in modalities) and ("ecg" in sections) == ("ecg" in modalities)
    assert page.count('class="frames"') == (len(CLIP_VIEWS) if "echo" in modalities else 0)
    assert bool(content["answers"]) == bool(modalities)


def test_answers_refusals_checks_and_notes_are_told():
    content, page = make_report()
    for text in ("Does it fail?", "0.730", "labs.Potassium", "unit not known", "lead V2 may be clipped"):
        assert text in page
    assert content["refused"] == [{"item": "labs.Potassium", "reason": "unit not known"}]
    diagnosis, prognosis = content["answers"]
    assert diagnosis["decision"]["answer"] == "failure" and prognosis["risk_by_day"]["730"] == 0.55
    curve = prognosis["curve"]
    assert curve["risk"] == sorted(curve["risk"]) and curve["days"][-1] == 730
    assert "0.70" in prognosis["place"] and "61 patients" in prognosis["place"]
    assert {"missing": [view for view in VIEWS if view not in CLIP_VIEWS]}.items() <= content["echo"].items()


@pytest.mark.parametrize("calibrated", [0.611, None])
def test_a_probability_has_its_place_among_validation_patients(calibrated):
    answer = {"probabilities": {"no failure": 0.27, "failure": 0.73}}
    place = {"n": 64, "share_below": 0.85, "calibrated": calibrated}
    content, page = make_report(("labs",), hf_diagnosis=answer | {"among_validation": place})
    described = content["answers"][0]
    assert "85 %" in described["place"] and "64 patients" in described["place"] and described["place"] in unescape(page)
    assert ("0.611" in described["calibration"]) == (calibrated is not None)
    assert "Not known" in make_report(("labs",), hf_diagnosis=answer)[0]["answers"][0]["place"]


def test_a_risk_without_a_stored_hazard_has_no_curve_and_no_place():
    content, _ = make_report(("labs",), hf_risk={"risk": 0.7, "risk_by_day": {}})
    prognosis = content["answers"][1]
    assert prognosis["curve"] is None and "Not known" in prognosis["place"]


def test_cells_are_marked():
    row = {"my own test": 3.5, "Troponin T": ("<0.01", "ng/mL"), "Potassium": ("4.1 H", "mEq/L")}
    cells = {cell["name"]: cell for cell in make_report(row=row)[0]["labs"]}
    assert any("converted" in mark for mark in cells["Creatinine"]["marks"])
    assert cells["Creatinine"]["value"] == "1.4" and cells["Creatinine"]["unit"] == "mg/dL"
    assert cells["Creatinine"]["level"] == "high" and cells["Creatinine"]["range"] == "0.4 to 1.1"
    unknown = next(cell for cell in cells.values() if any("unknown" in mark for mark in cell["marks"]))
    assert unknown["name"].startswith("cell ") and unknown["range"] == ""
    assert any("limit" in mark for mark in cells["Troponin T"]["marks"]) and cells["Troponin T"]["level"] == ""
    assert any("'H'" in mark for mark in cells["Potassium"]["marks"])
    assert cells["NTproBNP"]["marks"] == ()


def test_a_reference_range_that_is_open_has_words_and_no_bar():
    content, page = make_report(row={"Cholesterol, HDL": (35, "mg/dL")})
    cell = next(cell for cell in content["labs"] if cell["name"] == "Cholesterol, HDL")
    assert cell["range"] == "from 40" and cell["level"] == "low"
    assert '"nan"' not in page


def test_a_doubtful_unit_is_marked():
    cells = {cell["name"]: cell for cell in make_report(row={"Urea Nitrogen": 15})[0]["labs"]}
    assert any("doubtful" in mark for mark in cells["Urea Nitrogen"]["marks"])


def test_contributions_stand_beside_their_cells():
    content, page = make_report()
    inputs = make_inputs()
    values = dict(zip(inputs.labs.used, make_attributions(inputs)[1].values, strict=True))
    assert {cell["name"]: cell["contribution"] for cell in content["labs"]} == pytest.approx(values)
    for value in values.values():
        assert f"{value:+.3f}" in page
    assert all(cell["contribution"] is None for cell in make_report(explained=False)[0]["labs"])


def test_a_map_that_does_not_beat_random_order_is_not_shown_and_this_is_told():
    inputs = make_inputs()
    failed = [replace(each, notes=(FALSE,)) for each in make_attributions(inputs) if each.modality == "ecg"]
    attributions = [each for each in make_attributions(inputs) if each.modality != "ecg"] + failed
    content = report_content(make_prediction(inputs), inputs, TASKS, attributions)
    page = report_html(content, inputs, attributions)
    assert len(content["not_shown"]) == 1 and content["not_shown"][0].startswith("ECG")
    assert "show-ecg" not in {box["id"] for box in Page(page).all("input")} and content["not_shown"][0] in page
    assert [each["modality"] for each in content["attributions"]] == ["modalities", "labs", "echo"]


def test_switches_can_be_reached_by_keyboard_and_have_labels():
    page = Page(make_report()[1])
    boxes = {box["id"] for box in page.all("input") if box["type"] == "checkbox"}
    assert boxes == {"show-ecg", "show-echo", "pause-all", *(f"pause-{view}" for view in CLIP_VIEWS)}
    assert boxes == {label["for"] for label in page.all("label")}
    assert not any("disabled" in box or box.get("tabindex") == "-1" for box in page.all("input"))
    style = make_report()[1].split("</style>")[0]
    hidden = re.findall(r"(\.switch[^{]*)\{[^}]*(?:display: none|visibility: hidden)", style.split("@media print")[0])
    assert hidden == []


def test_pictures_tables_and_page_have_names_for_screen_readers():
    text = make_report()[1]
    page = Page(text)
    assert page.all("html")[0]["lang"] == "en" and page.all("main") and page.all("title")
    assert all(image["alt"].strip() for image in page.all("img"))
    assert all("scope" in header for header in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    for section in page.all("section"):
        assert section["aria-labelledby"] in ids
    drawing = next(svg for svg in page.all("svg") if svg.get("class") == "ecg")
    assert drawing["role"] == "img" and all(name in ids for name in drawing["aria-labelledby"].split())


def test_equal_inputs_give_equal_pages():
    assert make_report() == make_report()


def test_other_data_have_another_fingerprint():
    names = [make_inputs(row=row).fingerprint for row in ({}, {}, {"Sodium": 141})]
    names += [make_inputs(subset).fingerprint for subset in (("labs",), ("ecg",), ("labs", "ecg"))]
    assert names[0] == names[1] and len(set(names)) == 5
    assert make_report()[0]["model"]["data fingerprint"] == names[0]


def test_json_holds_no_picture_and_large_maps_only_in_part():
    content, _ = make_report()
    text = json.dumps(content, allow_nan=False)
    assert "base64" not in text and "<svg" not in text
    sizes = {each["modality"]: each["values"] for each in content["attributions"]}
    assert sizes["labs"] is not None
    assert content["ecg"]["not_used"] == [{"lead": "V5", "reason": "missing"}]
