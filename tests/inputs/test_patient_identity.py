"""Files of two patients or of two examinations are never used as one."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from heart_signal import make_heart
from input_files import make_clip, waveform_group, write_clip, write_ecg_dicom, write_wfdb
from pydicom.uid import generate_uid

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.data.manifest import CohortRow
from tgmm_hf.data.tokenizer import train_tokenizer
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.inputs.patient_identity import Identity, ids_not_compared, is_one_numbering, patient_conflict, plain_id
from tgmm_hf.processing_tgmm import default_processor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

ANNE = {"PatientID": "0451", "PatientBirthDate": "19550203", "PatientSex": "F", "PatientName": "Doe^Anne"}
STUDY = {"StudyInstanceUID": generate_uid(entropy_srcs=["one"])}


def with_header(path: Path, **values: str) -> Path:
    dataset = pydicom.dcmread(path)
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return path


@pytest.fixture
def study(tmp_path) -> Path:
    for number in range(2):
        path = write_clip((tmp_path / "study").joinpath(f"{number}.dcm"), make_clip(20, 96, 128, seed=number))
        with_header(path, Modality="US", **ANNE, **STUDY)
    return tmp_path / "study"


VIEWS_OF_FILES = {"0.dcm": "A4C", "1.dcm": "A2C"}
OTHER = {
    "PatientID": {"PatientID": "77"},
    "PatientBirthDate": {"PatientBirthDate": "19610203"},
    "PatientSex": {"PatientSex": "M"},
    "StudyInstanceUID": {"StudyInstanceUID": generate_uid(entropy_srcs=["two"])},
}


@pytest.mark.parametrize("element", OTHER)
def test_a_study_of_two_patients_or_examinations_is_refused(study, element):
    processor = EchoImageProcessor(size=32)
    assert len(processor.prepare_study(study, views=VIEWS_OF_FILES).clips) == 2
    with_header(study / "1.dcm", **OTHER[element])
    for given in (study, [study / "0.dcm", study / "1.dcm"], {"A4C": study / "0.dcm", "A2C": study / "1.dcm"}):
        with pytest.raises(InputRefusedError, match=element) as caught:
            processor.prepare_study(given, views=VIEWS_OF_FILES)
        assert not any(text in caught.value.reason for text in ("0451", "77", "1955", "Doe", "1.2.826"))


def test_spelling_and_missing_elements_are_no_difference(study):
    with_header(study / "1.dcm", PatientID=" 451", PatientBirthDate="", PatientSex="O", PatientName="DOE^ANNE")
    assert len(EchoImageProcessor(size=32).prepare_study(study, views=VIEWS_OF_FILES).clips) == 2


@pytest.fixture
def ecg(tmp_path) -> Path:
    signal = 1000 * make_heart(5000, 500.0)
    path = write_ecg_dicom(tmp_path / "ecg.dcm", [waveform_group(signal, list(LEADS), 500.0, "ORIGINAL")])
    return with_header(path, **ANNE)


@pytest.mark.parametrize(
    ("header", "is_refused"),
    [({}, False), ({"PatientID": "77"}, None), ({"PatientSex": "M"}, True), ({"PatientBirthDate": "19610203"}, True),
     ({"PatientID": "77", "PatientBirthDate": ""}, True),
     ({"PatientID": "77", "PatientBirthDate": "", "IssuerOfPatientID": "A"}, True)],
)  # fmt: skip
def test_an_ecg_and_an_echo_of_two_patients_are_refused(study, ecg, header, is_refused):
    with_header(ecg, **header)
    processor = default_processor(
        TgmmConfig.tiny(echo_config={"image_size": 32, "num_frames": 4}), train_tokenizer(["Sodium of the patient is"])
    )
    features, (report,) = processor(
        labs={"Sodium": 140}, ecg=ecg, echo=study, views=VIEWS_OF_FILES, on_refusal="report", return_report=True
    )
    refused = [entry["item"] for entry in report["refused"]]
    assert (refused == ["patient"]) == bool(is_refused) and ("ecg_values" in features) != bool(is_refused)
    assert ("patient_ids_differ" in [check["code"] for check in report["checks"]]) == (is_refused is None)
    assert "0451" not in json.dumps(report)
    row = CohortRow("a", "p", "train", labs={"Sodium": 140}, ecg_path="ecg.dcm",
                    echo_paths=["study/0.dcm", "study/1.dcm"], echo_views=["A4C", "A2C"])  # fmt: skip
    preparer = AdmissionPreparer(processor.feature_extractor, processor.image_processor, study.parent)
    prepared = preparer.prepare(row)
    assert (prepared.example is None) == bool(is_refused)
    assert ("patient_ids_differ" in [check["code"] for check in prepared.checks]) == (is_refused is None)


@pytest.mark.parametrize(
    ("comment", "is_other"),
    [("# <subject_id>: 77", True), ("#subject_id: 77", True), ("# Patient ID = 77", True),
     ("# <age>: 50 <sex>: F <patient_id>: 77 <dx>: none", True), ("# <subject_id>: 0451", False),
     ("# Age: 77", False), ("# patient id: unknown", False), ("", False)],
)  # fmt: skip
def test_another_id_in_a_comment_of_a_wfdb_header_is_a_finding(study, tmp_path, comment, is_other):
    record = write_wfdb(tmp_path, make_heart(5000, 500.0), list(LEADS))
    with record.with_suffix(".hea").open("a") as header:
        header.write(f"{comment}\n")
    processor = default_processor(
        TgmmConfig.tiny(echo_config={"image_size": 32, "num_frames": 4}), train_tokenizer(["Sodium of the patient is"])
    )
    for ecg in (record, f"{record}.dat"):
        _, (report,) = processor(ecg=ecg, echo=study, views=VIEWS_OF_FILES, on_refusal="report", return_report=True)
        assert ("patient_ids_differ" in [check["code"] for check in report["checks"]]) == is_other
        assert report["used"]["ecg"] and report["used"]["echo"] and "77" not in json.dumps(report)


PEOPLE = [
    ({"gender": "F", "age": 62}, set()),
    ({"gender": "F", "age": 60}, set()),
    ({"age": 95}, set()),
    ({"gender": "male", "age": 62}, {"patient_sex_differs"}),
    ({"gender": "F", "age": 31}, {"patient_age_differs"}),
    ({"gender": "M", "age": "20 y"}, {"patient_sex_differs", "patient_age_differs"}),
]


@pytest.mark.parametrize("kind", ["DICOM", "WFDB", "WFDB, one line", "study"])
@pytest.mark.parametrize(("labs", "expected"), PEOPLE)
def test_labs_of_another_gender_or_age_than_the_header_are_named(study, ecg, tmp_path, kind, labs, expected):
    given: dict = {"labs": {"Sodium": 140, **labs}}
    if kind == "DICOM":
        with_header(ecg, PatientBirthDate="", PatientAge="062Y")
        given["ecg_path"] = "ecg.dcm"
    elif kind == "study":
        for name in ("0.dcm", "1.dcm"):
            with_header(study / name, StudyDate="20170901")
        given |= {"echo_paths": ["study/0.dcm", "study/1.dcm"], "echo_views": ["A4C", "A2C"]}
    else:
        record = write_wfdb(tmp_path, make_heart(5000, 500.0), list(LEADS))
        with record.with_suffix(".hea").open("a") as header:
            header.write("# <age>: 62 <sex>: F\n" if "line" in kind else "# Age: 62\n#Sex: Female\n")
        given["ecg_path"] = "record"
    processor = default_processor(
        TgmmConfig.tiny(echo_config={"image_size": 32, "num_frames": 4}), train_tokenizer(["Sodium of the patient is"])
    )
    recording = tmp_path / given["ecg_path"] if "ecg_path" in given else None
    clips = study if kind == "study" else None
    _, (report,) = processor(
        labs=given["labs"], ecg=recording, echo=clips, views=VIEWS_OF_FILES if clips else None, return_report=True
    )
    codes = {"patient_sex_differs", "patient_age_differs"}
    assert {check["code"] for check in report["checks"]} & codes == expected
    preparer = AdmissionPreparer(processor.feature_extractor, processor.image_processor, tmp_path)
    prepared = preparer.prepare(CohortRow("a", "p", "train", **given))
    assert prepared.example is not None and {check["code"] for check in prepared.checks} & codes == expected


@pytest.mark.parametrize(("age", "is_child"), [("012Y", True), ("008M", True), ("040D", True), ("018Y", False)])
def test_a_child_by_the_header_is_named_without_labs(ecg, tmp_path, age, is_child):
    with_header(ecg, PatientBirthDate="", PatientAge=age)
    processor = default_processor(TgmmConfig.tiny(), train_tokenizer(["Sodium of the patient is"]))
    _, (report,) = processor(ecg=ecg, return_report=True)
    assert ("patient_not_adult" in [check["code"] for check in report["checks"]]) == is_child


PAIRS = [
    ("10000032", "10000039", True), ("451", "77", True), ("A7", "B8", True), ("1234-5", "98765", True),
    ("MRN0012", "MRN0441", True), ("3f2b77aa09", "a91c04b2ee", True),
    ("10000032", "0012", True),
    ("10000032", "sub-0012", False), ("10000032", "ANON0012", False),
    ("10000032", "a3f1b2c4d5e6", False), ("MRN0012", "P12", False), ("10000032", "1.2.840.99.1", False),
]  # fmt: skip


@pytest.mark.parametrize(("one", "two", "is_one"), PAIRS)
def test_a_pseudonym_and_the_id_of_a_hospital_are_not_compared(one, two, is_one):
    assert is_one_numbering(plain_id(one), plain_id(two)) == is_one == is_one_numbering(plain_id(two), plain_id(one))
    for is_comment in (False, True):
        ecg, echo = Identity(plain_id(one), is_comment=is_comment), Identity(plain_id(two))
        conflict = patient_conflict(ecg, echo)
        assert (conflict is not None) == is_one and (conflict is None or conflict[1] != is_comment)
        assert (ids_not_compared(ecg, echo) is None) == is_one  # silence would hide a wrong pair
        others = Identity(ecg.patient, birth="19550203"), Identity(echo.patient, birth="19610203")
        assert patient_conflict(*others) is not None  # the dates of birth are compared all the same


def test_arrays_and_other_files_name_nobody(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"no DICOM")
    study = {"A4C": make_clip(20, 96, 128), "A2C": tmp_path / "a.dcm"}
    assert list(EchoImageProcessor(size=32).prepare_study(study).clips) == ["A4C"]
    assert np.asarray(study["A4C"]).dtype == np.uint8
