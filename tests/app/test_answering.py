"""Answers from uploaded files: any subset of inputs, and the processor's own reason for each file that is not used."""

import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from cohort_files import cohort_rows, write_clip, write_ecg, write_table
from tiny_heartcare import fitting_model
from tiny_heartcare import tiny_processor as heartcare_processor
from tiny_reporters import tiny_processor, tiny_reporter

from tgmm_hf.app.answering import (
    EnteredInputs,
    Question,
    answer_patient,
    answer_table,
    answer_two,
    differences,
    form_cell,
    recording_of,
)
from tgmm_hf.app.ecg_report import ReportRequest, report_fragment, report_on_upload
from tgmm_hf.app.fragments import answer_fragment, csv_fragment
from tgmm_hf.app.private_files import RequestPlace
from tgmm_hf.families.heartcare.pipeline_heartcare import HeartcarePipeline
from tgmm_hf.families.meit.pipeline_meit import MeitReportPipeline
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
from tgmm_hf.utils.errors import TgmmError


@pytest.fixture
def place(tmp_path: Path) -> RequestPlace:
    (tmp_path / "cache").mkdir()
    (tmp_path / "request").mkdir()
    return RequestPlace(tmp_path / "cache", tmp_path / "request")


def send(place: RequestPlace, *paths: Path) -> list[str]:
    return [shutil.copy(path, place.cache / path.name) for path in paths]


@pytest.mark.parametrize("used", [("labs",), ("ecg",), ("echo",), ("labs", "ecg", "echo")])
def test_any_subset_is_answered(
    pipe: TgmmCardiacPipeline, inputs: SimpleNamespace, place: RequestPlace, used: tuple[str, ...]
) -> None:
    entered = EnteredInputs(
        labs_file=send(place, inputs.labs)[0] if "labs" in used else None,
        ecg=send(place, *inputs.ecg) if "ecg" in used else (),
        echo=send(place, inputs.clip) if "echo" in used else (),
        views={inputs.clip.name: "A4C"},
    )
    answered = answer_patient(pipe, entered, Question(), place)
    assert {name for name, items in answered.prediction["used"].items() if items} == set(used)
    assert set(answered.prediction["hf_diagnosis"]["probabilities"]) == {"no heart failure", "heart failure"}
    assert "<html" in answered.report and inputs.clip.stem not in answered.report + str(answered.prediction)
    assert not [path for path in place.cache.rglob("*") if path.is_file()]


def test_a_bad_file_is_refused_with_the_processors_reason_and_the_rest_answers(
    pipe: TgmmCardiacPipeline, inputs: SimpleNamespace, place: RequestPlace, tmp_path: Path
) -> None:
    bad = tmp_path / "Doe.dcm"
    bad.write_bytes(inputs.clip.read_bytes()[:400])
    entered = EnteredInputs({"age": "71"}, ecg=send(place, bad))
    answered = answer_patient(pipe, entered, Question(), place)
    assert answered.prediction["used"]["labs"] == ["age"]
    (message,) = answered.messages["ecg"]
    (refused,) = answered.prediction["refused"]
    assert refused["item"] == "ecg" and refused["reason"] in message and "Doe" not in message


def test_what_cannot_be_understood_as_a_whole_is_refused_per_modality(
    pipe: TgmmCardiacPipeline, inputs: SimpleNamespace, place: RequestPlace
) -> None:
    entered = EnteredInputs(
        {"age": "71"}, send(place, inputs.labs)[0], send(place, *inputs.ecg, *inputs.later), ["nowhere.dcm"]
    )
    answered = answer_patient(pipe, entered, Question(), place)
    assert {entry["item"] for entry in answered.prediction["refused"]} == {"labs", "ecg", "echo"}
    assert all(answered.messages.values()) and not any(answered.prediction["used"].values())
    assert "hf_diagnosis" not in answered.prediction


def test_views_come_from_a_table_among_the_files(
    pipe: TgmmCardiacPipeline, inputs: SimpleNamespace, place: RequestPlace, tmp_path: Path
) -> None:
    with zipfile.ZipFile(place.cache / "study.zip", "w") as archive:
        archive.write(inputs.clip, "study/a.dcm")
        archive.writestr("study/Views.csv", "dicom_filepath,view\na.dcm,PLAX\na.dcm,\n".replace("PLAX", "A2C"))
    answered = answer_patient(pipe, EnteredInputs(echo=[str(place.cache / "study.zip")]), Question(), place)
    assert answered.prediction["used"]["echo"] == ["A2C"], answered.prediction["refused"]


@pytest.mark.parametrize(
    ("column", "text", "cell"),
    [
        ("Creatinine", " 88 umol/L ", ("88", "umol/L")),
        ("Creatinine", "1.1", "1.1"),
        ("Creatinine", "<0.3 mg/dL", ("<0.3", "mg/dL")),
        ("Creatinine", "normal", "normal"),
        ("Platelet Count", "250 10^9/L", ("250", "10^9/L")),
        ("medical history", "2 infarctions", "2 infarctions"),
    ],
)
def test_a_field_of_the_form_may_hold_a_unit(column: str, text: str, cell: object) -> None:
    assert form_cell(column, text) == cell


def test_a_recording_is_one_file_or_one_header_with_its_signals(tmp_path: Path) -> None:
    header, signal = tmp_path / "a.hea", tmp_path / "a.dat"
    assert recording_of([signal, header]) == str(tmp_path / "a")
    assert recording_of([signal]) == str(signal)
    assert recording_of([]) is None
    with pytest.raises(TgmmError):
        recording_of([signal, tmp_path / "b.dat"])


def test_two_recordings_are_compared(pipe: TgmmCardiacPipeline, inputs: SimpleNamespace, place: RequestPlace) -> None:
    recordings = (send(place, *inputs.ecg), send(place, *inputs.later))
    one, two = answer_two(pipe, recordings, send(place, inputs.labs)[0], Question(["hf_diagnosis"]), place)
    assert one.prediction["used"]["labs"] == two.prediction["used"]["labs"] != []
    rows = {name: (first, second) for name, first, second in differences(one.prediction, two.prediction)}
    name = "hf_diagnosis: probability of heart failure"
    assert rows[name] == tuple(
        answer.prediction["hf_diagnosis"]["probabilities"]["heart failure"] for answer in (one, two)
    )
    assert rows[name][0] != rows[name][1]


def test_a_table_with_an_archive_is_answered_row_by_row(
    pipe: TgmmCardiacPipeline, place: RequestPlace, tmp_path: Path
) -> None:
    rows = cohort_rows(3)
    rows[0]["ecg_path"] = "../../request/secret"
    table = write_table(place.cache / "table.csv", rows)
    write_ecg(tmp_path / "ecg" / "2", 1)
    write_clip(tmp_path / "echo" / "1_a.dcm", 2)
    with zipfile.ZipFile(place.cache / "files.zip", "w") as archive:
        for path in [*(tmp_path / "ecg").iterdir(), tmp_path / "echo" / "1_a.dcm"]:
            archive.write(path, path.relative_to(tmp_path))
    told: list[float] = []
    question = Question(["hf_diagnosis"], progress=lambda share, text: told.append(share))
    answered = answer_table(pipe, str(table), [str(place.cache / "files.zip")], question, place)
    assert (answered.patients, answered.answered, told[-1]) == (3, 2, 1.0)
    lines = answered.predictions.splitlines()
    assert len(lines) == 4 and lines[0].startswith("id,modalities")
    assert "a0,1,ecg," in answered.refused and "a1,2," in answered.refused
    assert "<td>a2</td>" in csv_fragment("Predictions", answered.predictions)


def test_text_of_a_file_is_no_markup_and_no_template(pipe: TgmmCardiacPipeline, place: RequestPlace) -> None:
    hostile = "<img src=x onerror=alert(1)>${alert(1)}{{value}}\"'</textarea>"
    answered = answer_patient(pipe, EnteredInputs({hostile: hostile, "age": "71"}), Question(), place)
    answered.prediction["notes"].append(hostile)
    answered.prediction["refused"].append({"item": hostile, "reason": hostile})
    for report in ("", f"<p>{hostile}</p>"):
        html = answer_fragment(answered.prediction, {"hf_diagnosis": "?"}, report, hostile)
        assert not any(bad in html for bad in ("<img", "${", "{{", "<p><img"))
    assert "<img" not in csv_fragment("x", f'a\n"{hostile.replace(chr(34), "")}"\n')


@pytest.fixture(scope="module")
def reporter() -> MeitReportPipeline:
    return MeitReportPipeline(model=tiny_reporter(), processor=tiny_processor())


def test_an_ecg_gets_a_report_whose_sentences_are_checked(
    pipe: TgmmCardiacPipeline, reporter: MeitReportPipeline, inputs: SimpleNamespace, place: RequestPlace
) -> None:
    request = ReportRequest(send(place, *inputs.ecg), sentences=True, control=True)
    answer = report_on_upload(pipe, reporter, request, place, lambda share, text: None)
    assert "without_ecg" not in answer  # a MEIT model cannot do without
    assert answer["report"] is not None and len(answer["used"]["ecg"]) == 12
    assert not answer["report"] or all(each["carried_by"] or each["doubt"] for each in answer["sentences"])
    shown = report_fragment(answer)
    assert "not a medical device" in shown and "{" not in shown and inputs.ecg[0].stem not in shown
    assert not [path for path in place.cache.rglob("*") if path.is_file()]


def test_a_recording_that_cannot_be_used_gets_no_report(
    pipe: TgmmCardiacPipeline, reporter: MeitReportPipeline, inputs: SimpleNamespace, place: RequestPlace
) -> None:
    request = ReportRequest(send(place, inputs.clip))
    answer = report_on_upload(pipe, reporter, request, place, lambda share, text: None)
    assert answer["report"] is None and answer["refused"][0]["reason"] in report_fragment(answer)


def test_a_question_about_an_ecg_is_answered_with_and_without_it(
    pipe: TgmmCardiacPipeline, inputs: SimpleNamespace, place: RequestPlace
) -> None:
    model = fitting_model()
    heartcare = HeartcarePipeline(model=model, processor=heartcare_processor(model))
    question = "Which rhythm?"
    request = ReportRequest(send(place, *inputs.ecg), question, sentences=True, control=True)
    answer = report_on_upload(pipe, heartcare, request, place, lambda share, text: None)
    assert answer["instruction"] == question and answer["streams"] == ["signal", "picture"]
    assert answer["report"] and answer["without_ecg"] and answer["report"] != answer["without_ecg"]
    assert "sentences" not in answer
    shown = report_fragment({**answer, "report": "with", "without_ecg": "without <b>"})
    assert "without &lt;b&gt;" in shown and "{" not in shown and inputs.ecg[0].stem not in shown
    assert report_fragment({**answer, "without_ecg": ""}) != report_fragment(
        {key: value for key, value in answer.items() if key != "without_ecg"}
    )
    assert not [path for path in place.cache.rglob("*") if path.is_file()]


def test_a_question_with_a_placeholder_is_refused_and_its_files_are_taken(
    pipe: TgmmCardiacPipeline, inputs: SimpleNamespace, place: RequestPlace
) -> None:
    model = fitting_model()
    heartcare = HeartcarePipeline(model=model, processor=heartcare_processor(model))
    with pytest.raises(TgmmError, match="<image>"):
        report_on_upload(pipe, heartcare, ReportRequest(send(place, *inputs.ecg), "<image>"), place, lambda *_: None)
    assert not [path for path in place.cache.rglob("*") if path.is_file()]
