"""The page in a real browser: every kind of upload, the answer, files out, faults, a phone, the keyboard."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from browser import AXE, chromium, running_browser, serious_faults, shoot
from cohort_files import cohort_rows, write_table
from running_page import page_of
from test_similar import write_index
from tiny_heartcare import fitting_model
from tiny_heartcare import tiny_processor as heartcare_processor
from tiny_reporters import tiny_processor, tiny_reporter

from tgmm_hf.app.similar import load_searcher
from tgmm_hf.families.heartcare.pipeline_heartcare import HeartcarePipeline
from tgmm_hf.families.meit.pipeline_meit import MeitReportPipeline

pytest.importorskip("gradio")
pytest.importorskip("playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine"),
]
needs_axe = pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: make test-app installs it")
SECONDS = 1000
"""Milliseconds."""


@pytest.fixture(scope="module")
def page(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with page_of(pipe, examples=tmp_path_factory.mktemp("examples") / "cohort") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as running:
        yield running


@pytest.fixture
def tab(browser: Any, page: SimpleNamespace) -> Iterator[Any]:
    """A window that shows the page. It fails if the page asks another server, or has an error in its scripts."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    yield opened(context, page)
    context.close()


def opened(context: Any, page: SimpleNamespace) -> Any:
    tab = context.new_page()
    tab.set_default_timeout(60 * SECONDS)
    elsewhere: list[str] = []
    tab.on(
        "request",
        lambda request: None if request.url.startswith((page.url, "data:", "blob:")) else elsewhere.append(request.url),
    )
    tab.goto(page.url)
    answer_button(tab).wait_for()
    assert not elsewhere
    return tab


def test_similar_records_are_found(browser: Any, pipe: Any, tmp_path: Path) -> None:
    searcher = load_searcher(*write_index(tmp_path))
    with page_of(pipe, searcher=searcher) as page:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        tab = opened(context, page)
        go_to(tab, "Find similar")
        send(tab, "X-ray to search with", tmp_path / "1.png")
        tab.get_by_role("button", name="Find similar", exact=True).click()
        wait_for_answer(tab)
        frame = tab.frame_locator("iframe.tgmm-report")
        assert "row r1" in frame.locator(".hit h3").first.inner_text()
        shoot(tab, "find-similar")
        if AXE.is_file():
            assert serious_faults(tab) == []
        context.close()


def test_a_report_about_an_ecg_is_written(browser: Any, pipe: Any, inputs: SimpleNamespace) -> None:
    reporter = MeitReportPipeline(model=tiny_reporter(), processor=tiny_processor())
    with page_of(pipe, reporter=reporter) as page:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        tab = opened(context, page)
        go_to(tab, "ECG report")
        send(tab, "Recording to report on", *inputs.ecg)
        tab.get_by_label("Name what carried each sentence").check()
        tab.get_by_role("button", name="Report", exact=True).click()
        assert "It rests on this recording" in wait_for_answer(tab).inner_text()
        shoot(tab, "ecg-report")
        if AXE.is_file():
            assert serious_faults(tab) == []
        context.close()


def test_a_question_about_an_ecg_is_asked_with_and_without_it(browser: Any, pipe: Any, inputs: SimpleNamespace) -> None:
    model = fitting_model()
    with page_of(pipe, reporter=HeartcarePipeline(model=model, processor=heartcare_processor(model))) as page:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        tab = opened(context, page)
        go_to(tab, "ECG report")
        assert not tab.get_by_label("Name what carried each sentence").is_visible()
        send(tab, "Recording to report on", *inputs.ecg)
        tab.get_by_label("Ask about this ECG").fill("Which rhythm?")
        tab.get_by_label("Also ask without the ECG").check()
        tab.get_by_role("button", name="Report", exact=True).click()
        shown = wait_for_answer(tab)
        assert "Which rhythm?" in shown.inner_text()
        assert shown.get_by_role("heading", name="The same question without the ECG").is_visible()
        shoot(tab, "ecg-question")
        if AXE.is_file():
            assert serious_faults(tab) == []
        context.close()


def answer_button(tab: Any) -> Any:
    return tab.get_by_role("button", name="Answer", exact=True)


def go_to(tab: Any, *names: str) -> None:
    for name in names:
        tab.get_by_role("tab", name=name, exact=True).click()


def send(tab: Any, label: str, *paths: Path) -> None:
    """Give files to the field with a label, and wait until they are there."""
    field = tab.locator(".block").filter(has=tab.get_by_text(label, exact=True)).last
    field.locator("input[type=file]").set_input_files([str(path) for path in paths])
    field.get_by_text(paths[-1].stem[:6]).first.wait_for()


def wait_for_answer(tab: Any) -> Any:
    result = tab.locator(".tgmm-result section").first
    result.wait_for()
    return result


def plain_answer(tab: Any) -> None:
    """Ask without an explanation, which takes longer."""
    explain = tab.get_by_label("Explain the answer to the first chosen question")
    if explain.count():
        explain.uncheck()
    answer_button(tab).click()


def test_every_kind_of_upload_is_answered_together(tab: Any, inputs: SimpleNamespace) -> None:
    send(tab, "Lab file (CSV or JSON)", inputs.labs)
    go_to(tab, "ECG")
    send(tab, "ECG file or files", *inputs.ecg)
    go_to(tab, "Echo")
    send(tab, "Echo files or ZIP archive", inputs.clip)
    tab.get_by_label(f"View of {inputs.clip.name}").click()
    tab.get_by_role("option", name="A4C").click()
    plain_answer(tab)
    result = wait_for_answer(tab)
    text = result.inner_text()
    assert "lab cells" in text and "12 ECG leads" in text and "1 echo views" in text
    tab.locator(".block").get_by_text(inputs.clip.stem[:6]).first.wait_for(state="hidden")  # the fields are empty
    shoot(tab, "patient-echo")


def test_the_form_alone_is_answered_and_a_bad_cell_is_named_beside_it(tab: Any) -> None:
    tab.get_by_label("age (years)").fill("71")
    tab.get_by_label("Creatinine (mg/dL)").fill("9000 umol/L")
    plain_answer(tab)
    assert "1 lab cells" in wait_for_answer(tab).inner_text()
    assert "Creatinine" in tab.locator(".tgmm-messages").first.inner_text()
    assert tab.get_by_label("age (years)").input_value() == "71"


def test_a_bad_file_is_named_beside_its_field(tab: Any, inputs: SimpleNamespace, tmp_path: Path) -> None:
    bad = tmp_path / "cut.dcm"
    bad.write_bytes(inputs.clip.read_bytes()[:300])
    go_to(tab, "ECG")
    send(tab, "ECG file or files", bad)
    plain_answer(tab)
    assert "No answer" in wait_for_answer(tab).inner_text()
    assert "Refused: ecg" in tab.locator(".tgmm-messages").first.inner_text()
    shoot(tab, "patient-bad-file")


def test_an_archive_and_a_folder_are_answered(tab: Any, inputs: SimpleNamespace, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "clip.dcm").write_bytes(inputs.clip.read_bytes())
    (folder / "views.csv").write_text("dicom_filepath,view\nclip.dcm,A4C\n")
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    go_to(tab, "Echo")
    send(tab, "Echo files or ZIP archive", tmp_path / "study.zip")
    plain_answer(tab)
    assert "1 echo views" in wait_for_answer(tab).inner_text()
    tab.reload()
    go_to(tab, "Echo")
    field = tab.locator(".block").filter(has=tab.get_by_text("Echo folder", exact=True)).last
    field.locator("input[type=file]").set_input_files(str(folder))
    field.get_by_text("views").first.wait_for()
    plain_answer(tab)
    assert "1 echo views" in wait_for_answer(tab).inner_text()


@needs_axe
def test_a_synthetic_patient_is_explained_and_the_files_can_be_saved(tab: Any, tmp_path: Path) -> None:
    tab.get_by_text("Try a synthetic patient").click()
    tab.get_by_role("button", name="Answer for the synthetic patient").click()
    wait_for_answer(tab)
    report = tab.frame_locator(".tgmm-report")
    report.get_by_role("heading", level=1).wait_for()
    toggle = report.locator("#show-ecg")
    if toggle.count():  # without the extra `explain` nothing can be switched
        bands = report.locator(".attribution").first
        for shown in (True, False, True):
            toggle.set_checked(shown)
            assert bands.evaluate("band => getComputedStyle(band).visibility") == ("visible" if shown else "hidden")
    for button, name, start in (
        ("report (HTML)", "report.html", "<!doctype html>"),
        ("answer (JSON)", "answer.json", "{"),
    ):
        with tab.expect_download() as download:
            tab.get_by_role("button", name=f"Save the {button}").click()
        download.value.save_as(tmp_path / name)
        assert download.value.suggested_filename == name
        assert (tmp_path / name).read_text().startswith(start)
    assert json.loads((tmp_path / "answer.json").read_text())["hf_diagnosis"]["probabilities"]
    assert not serious_faults(tab)
    shoot(tab, "patient-synthetic")


def test_the_report_runs_no_script_and_reaches_no_page(tab: Any) -> None:
    tab.get_by_label("age (years)").fill("71")
    plain_answer(tab)
    wait_for_answer(tab)
    frame = tab.locator(".tgmm-report")
    assert frame.get_attribute("sandbox") == ""
    assert "script" not in frame.get_attribute("srcdoc").partition("</head>")[0]
    inner = next(each for each in tab.frames if each != tab.main_frame)
    assert inner.evaluate("self.origin") == "null"


def test_two_recordings_are_compared(tab: Any, inputs: SimpleNamespace) -> None:
    go_to(tab, "Compare")
    send(tab, "First recording", *inputs.ecg)
    send(tab, "Second recording", *inputs.later)
    tab.get_by_role("button", name="Compare", exact=True).click()
    tab.get_by_text("Both recordings").first.wait_for()
    assert tab.locator(".tgmm-report").count() == 2
    shoot(tab, "compare")


def test_a_table_gives_tables(tab: Any, tmp_path: Path) -> None:
    go_to(tab, "Table")
    tab.get_by_role("button", name="Answer for all patients").click()
    tab.get_by_text("A cohort table is needed").first.wait_for()
    send(tab, "Cohort table (CSV or Parquet)", write_table(tmp_path / "table.csv", cohort_rows(3)))
    tab.get_by_role("button", name="Answer for all patients").click()
    tab.get_by_text("2 of 3 patients").first.wait_for()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save the refusals").click()
    download.value.save_as(tmp_path / "refused.csv")
    assert (tmp_path / "refused.csv").read_text().startswith("id,row,item,reason")
    shoot(tab, "table")


@needs_axe
@pytest.mark.parametrize("width", [1280, 390])
def test_no_tab_has_a_serious_fault_of_accessibility(browser: Any, page: SimpleNamespace, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844})
    tab = opened(context, page)
    for names in (("Labs",), ("ECG",), ("Echo",), ("Compare",), ("Table",), ("Model",)):
        go_to(tab, *names)
        tab.wait_for_timeout(400)
        assert not serious_faults(tab), names
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the screen"
        shoot(tab, f"{names[0].lower()}-{width}")
    context.close()


def test_the_keyboard_is_enough(tab: Any) -> None:
    def press_until(name: str, limit: int = 120) -> None:
        for _ in range(limit):
            tab.keyboard.press("Tab")
            focused = tab.evaluate("(document.activeElement.closest('label') ?? document.activeElement).innerText")
            if (focused or "").strip().startswith(name):
                return
        raise AssertionError(f"{name} is not reached with the Tab key")

    press_until("age (years)")
    tab.keyboard.type("71")
    press_until("Explain the answer")
    tab.keyboard.press("Space")
    press_until("Answer")
    tab.keyboard.press("Enter")
    assert "1 lab cells" in wait_for_answer(tab).inner_text()
