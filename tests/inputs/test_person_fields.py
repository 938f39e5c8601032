"""Dates, sex and age in the forms that headers of DICOM files and of exports have, compared with the laboratory row."""

import struct
from pathlib import Path

import pytest
from heart_signal import make_heart
from input_files import make_clip, waveform_group, write_clip, write_ecg_dicom, write_wfdb
from vendor_files import change, scp_record, scp_sections, write_aecg, write_edf, write_muse, write_philips

from tgmm_hf.inputs.patient_identity import (
    Identity,
    different_patients,
    identity_of,
    identity_of_ecg,
    labs_conflicts,
    study_doubts,
)
from tgmm_hf.inputs.person_fields import age_in_years, date_digits, sex_of
from tgmm_hf.utils.names import LEADS

pydicom = pytest.importorskip("pydicom")
SIGNAL = make_heart(1000, 500.0)
NAMES = list(LEADS)
SEX, AGE, CHILD = "patient_sex_differs", "patient_age_differs", "patient_not_adult"


def codes(identity: Identity | None, gender: str | None = "F", age: float | None = 71) -> set[str]:
    return {entry["code"] for entry in labs_conflicts(gender, age, {"ECG": identity})}


# ---- DICOM

DICOM_HEADERS = [
    ({"PatientBirthDate": "19900101", "StudyDate": "20200601"}, {AGE}),
    ({"PatientBirthDate": "20170101", "StudyDate": "20200601"}, {AGE, CHILD}),
    ({"PatientBirthDate": "19900515", "StudyDate": "20200601"}, {AGE}),
    ({"PatientBirthDate": "1990.05.15", "StudyDate": "20200601"}, {AGE}),
    ({"PatientBirthDate": "1990", "StudyDate": "20200601"}, {AGE}),
    ({"PatientBirthDate": "19900101", "SeriesDate": "20200601"}, {AGE}),
    ({"PatientAge": "30"}, {AGE}),
    ({"PatientAge": "30Y"}, {AGE}),
    ({"PatientAge": "30 years"}, {AGE}),
    ({"PatientAge": "054M"}, {AGE, CHILD}),
    ({"PatientSex": "MALE"}, {SEX}),
    ({"PatientSex": "Male"}, {SEX}),
    # headers that fit, or say nothing
    ({"PatientBirthDate": "19490101", "StudyDate": "20200601"}, set()),
    ({"PatientBirthDate": "19450101", "StudyDate": "20200601"}, set()),  # 75, or 74 if born in December
    ({"PatientBirthDate": "19460101", "StudyDate": "20200601"}, set()),
    ({"PatientBirthDate": "19700101", "StudyDate": "20200601"}, set()),  # where a calendar begins
    ({"PatientBirthDate": "19000101", "StudyDate": "20200601"}, set()),
    ({"PatientBirthDate": "20000101", "StudyDate": "20200601"}, set()),
    ({"PatientBirthDate": "19490515"}, set()),
    ({"PatientBirthDate": "15.05.1949", "StudyDate": "20200601"}, set()),
    ({"PatientBirthDate": "unknown", "StudyDate": "20200601"}, set()),
    ({"PatientBirthDate": "19900101", "StudyDate": "19900101"}, set()),
    ({"PatientAge": "71"}, set()),
    ({"PatientAge": "71Y"}, set()),
    ({"PatientAge": "071Y"}, set()),
    ({"PatientAge": "0"}, set()),
    ({"PatientAge": "54M"}, set()),  # a man of 54 years, or 54 months
    ({"PatientAge": "90+"}, set()),
    ({"PatientSex": "Female"}, set()),
    ({"PatientSex": "O"}, set()),
    ({"PatientSex": "w"}, set()),
]


@pytest.mark.parametrize(("header", "expected"), DICOM_HEADERS)
@pytest.mark.parametrize("kind", ["ECG", "echo"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_forms_of_age_and_sex_in_dicom_are_compared(tmp_path: Path, kind: str, header: dict, expected: set) -> None:
    if kind == "ECG":
        path = write_ecg_dicom(tmp_path / "e.dcm", [waveform_group(1000 * SIGNAL, NAMES, 500.0, "ORIGINAL")])
    else:
        path = write_clip(tmp_path / "c.dcm", make_clip(4, 32, 32))
    dataset = pydicom.dcmread(path)
    for name in ("PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyDate", "AcquisitionDateTime"):
        if name in dataset:
            del dataset[name]
    for name, value in header.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    assert codes(identity_of(path)) == expected


def test_a_year_of_birth_and_a_date_in_it_are_one_birth() -> None:
    year, day = Identity(birth="19550101"), Identity(birth="19550203")
    assert different_patients([year, day]) == []
    assert different_patients([day, Identity(birth="19550204")]) == ["birth"]
    assert different_patients([year, Identity(birth="19560203")]) == ["birth"]
    assert different_patients([Identity(birth="19700101"), day]) == []  # the first day of a calendar states nothing


@pytest.mark.parametrize(
    ("ages", "is_found"),
    [(((71, 1.0), (67, 0.0)), False), (((71, 0.0), (67, 1.0)), True), (((71, 1.0), (66, 0.0)), True),
     (((71, 0.0), (68, 0.0)), False), (((30, 0.0), (80, 0.0)), True), (((0, 0.0), (40, 0.0)), True),
     (((71, 1.0), (None, 0.0)), False), (((95, 0.0), (71, 0.0)), False), (((71, 1.0), (71, 0.0), (67, 0.0)), True)],
)  # fmt: skip
def test_a_year_of_birth_beside_a_date_is_no_other_age(ages: tuple, is_found: bool) -> None:
    doubts = study_doubts(Identity(age=age, age_margin=margin) for age, margin in ages)
    assert [doubt["code"] for doubt in doubts] == ["patient_ages_differ"] * is_found


# ---- exports of other systems


def edf(path: Path, patient: str, recording: str = "Startdate 02-MAR-2022 X X X", day: str = "02.03.22") -> Path:
    write_edf(path, SIGNAL, NAMES)
    content = bytearray(path.read_bytes())
    content[8:88], content[88:168] = patient.encode().ljust(80), recording.encode().ljust(80)
    content[168:176] = day.encode()
    path.write_bytes(content)
    return path


EDF_FIELDS = [
    (("123 M 02-MAY-1951 Doe",), {SEX}),
    (("123 M 02-MAY-1951 Doe", "Startdate 01-JAN-1985 X X X"), {SEX}),
    (("123 F 02-MAY-1951 Doe", "Startdate 01-JAN-1985 X X X"), set()),
    (("123 F 02-MAY-1990 Doe",), {AGE}),
    (("123 F 02-MAY-2019 Doe",), {AGE, CHILD}),
    (("X M X X",), {SEX}),
    (("123 F 02-MAY-1990 Doe", "", "02.03.22"), {AGE}),
    (("123 F 02-MAY-1951 Doe",), set()),
    (("X X X X",), set()),
    (("Doe Jane M 1951",), set()),  # free text of plain EDF
    (("123 F 01-JAN-1951 X",), set()),
    (("123 F 02-MAY-1951 Doe", "Startdate X X X X", "01.01.85"), set()),
    (("123 F 02-MAY-1951 Doe", "", "01.01.85"), set()),
    (("123 X 02-XXX-1951 Doe",), set()),
    (("",), set()),
]


@pytest.mark.parametrize(("fields", "expected"), EDF_FIELDS)
def test_the_person_of_edf_is_compared(tmp_path: Path, fields: tuple[str, ...], expected: set[str]) -> None:
    assert codes(identity_of_ecg(edf(tmp_path / "e.edf", *fields))) == expected


MUSE_FIELDS = [
    ("<Gender>MALE</Gender>", {SEX}),
    ("<PatientAge>30</PatientAge><AgeUnits>YEARS</AgeUnits>", {AGE}),
    ("<PatientAge>6</PatientAge><AgeUnits>YEARS</AgeUnits>", {AGE, CHILD}),
    ("<PatientAge>3</PatientAge><AgeUnits>DAYS</AgeUnits>", {AGE, CHILD}),
    ("<DateofBirth>05-15-1990</DateofBirth>", {AGE}),
    ("<DateofBirth>15-05-2018</DateofBirth>", {AGE, CHILD}),
    ("<Gender>FEMALE</Gender><PatientAge>71</PatientAge><AgeUnits>YEARS</AgeUnits>", set()),
    ("<PatientAge>30</PatientAge>", set()),  # without a unit
    ("<PatientAge>0</PatientAge><AgeUnits>YEARS</AgeUnits>", set()),
    ("<PatientAge>850</PatientAge><AgeUnits>MONTHS</AgeUnits>", set()),
    ("<DateofBirth>12-31-1949</DateofBirth>", set()),
    ("<Gender>UNKNOWN</Gender>", set()),
    ("<PatientAge>old</PatientAge><AgeUnits>YEARS</AgeUnits>", set()),
]


@pytest.mark.parametrize(("fields", "expected"), MUSE_FIELDS)
def test_the_person_of_muse_is_compared(tmp_path: Path, fields: str, expected: set[str]) -> None:
    pytest.importorskip("ecgdatakit")
    path = write_muse(tmp_path / "m.xml", SIGNAL, NAMES, extra="<TestDemographics><AcquisitionDate>06-01-2020"
                      "</AcquisitionDate></TestDemographics>")  # fmt: skip
    change(path, "</PatientDemographics>", f"{fields}</PatientDemographics>")
    identity = identity_of_ecg(path)
    assert codes(identity) == expected and identity is not None and identity.patient == "4711" and identity.is_comment


AECG_FIELDS = [
    ("M", "19490601", {SEX}),
    ("F", "19900101", {AGE}),
    ("F", "20150101", {AGE, CHILD}),
    ("F", "19900601120000", {AGE}),
    ("F", "19490101", set()),
    ("F", "1949", set()),
    ("UN", "19481231235959.000+0100", set()),
    ("F", "", set()),
    ("F", "unknown", set()),
]


@pytest.mark.parametrize(("sex", "birth", "expected"), AECG_FIELDS)
def test_the_person_of_aecg_is_compared(tmp_path: Path, sex: str, birth: str, expected: set[str]) -> None:
    pytest.importorskip("ecgdatakit")
    path = write_aecg(
        tmp_path / "a.xml", SIGNAL, NAMES, extra='<effectiveTime><low value="20200102100000"/></effectiveTime>'
    )
    person = f'<administrativeGenderCode code="{sex}"/><birthTime value="{birth}"/></subjectDemographicPerson>'
    change(path, "</subjectDemographicPerson>", person)
    assert codes(identity_of_ecg(path)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [("<sex>Male</sex>", {SEX}), ("<age><years>30</years></age>", {AGE}), ("<age><years>6</years></age>", {AGE, CHILD}),
     ("<age><years>71</years></age><sex>Female</sex>", set()), ('<age defaultage="30"/>', set()), ("<sex/>", set())],
)  # fmt: skip
def test_the_person_of_philips_is_compared(tmp_path: Path, fields: str, expected: set[str]) -> None:
    pytest.importorskip("ecgdatakit")
    path = write_philips(tmp_path / "p.xml", SIGNAL, NAMES)
    change(path, "</generalpatientdata>", f"{fields}</generalpatientdata>")
    assert codes(identity_of_ecg(path)) == expected


SCP_FIELDS = [
    ({8: b"\x01"}, {SEX}),
    ({4: struct.pack("<HB", 30, 1)}, {AGE}),
    ({4: struct.pack("<HB", 8, 2)}, {AGE, CHILD}),
    ({5: struct.pack("<HBB", 1990, 5, 15), 25: struct.pack("<HBB", 2020, 6, 1)}, {AGE}),
    ({4: struct.pack("<HB", 71, 1), 8: b"\x02"}, set()),
    ({4: struct.pack("<HB", 0, 0), 8: b"\x09"}, set()),
    ({5: struct.pack("<HBB", 1949, 5, 15), 25: struct.pack("<HBB", 2020, 6, 1)}, set()),
    ({5: struct.pack("<HBB", 0, 0, 0)}, set()),
]


@pytest.mark.parametrize(("fields", "expected"), SCP_FIELDS)
def test_the_person_of_scp_is_compared(tmp_path: Path, fields: dict[int, bytes], expected: set[str]) -> None:
    sections = scp_sections(SIGNAL, NAMES, 500, packed=False)
    sections[1] = b"".join(struct.pack("<BH", tag, len(value)) + value for tag, value in fields.items()) + b"\xff\0\0"
    path = tmp_path / "s.scp"
    path.write_bytes(scp_record(dict(sorted(sections.items()))))
    assert codes(identity_of_ecg(path)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [("Age: 30", {AGE}), ("Age: 8 months", {AGE, CHILD}), ("Age: 71 years", set()), ("Age: 71 M", set())],
)
def test_the_comment_of_a_wfdb_header_is_compared(tmp_path: Path, line: str, expected: set[str]) -> None:
    record = write_wfdb(tmp_path, SIGNAL, NAMES)
    with record.with_suffix(".hea").open("a") as header:
        header.write(f"# {line}\n")
    assert codes(identity_of_ecg(record)) == expected


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 600, b"<RestingECG>", b"<RestingECG><PatientDemographics/>", b"<a>"]
)
def test_a_damaged_export_names_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.xml").write_bytes(content)
    assert identity_of_ecg(tmp_path / "x.xml") is None


def test_without_the_library_an_export_names_nobody_and_edf_somebody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tgmm_hf.inputs.ecg_vendor.SafeTree", None)
    assert identity_of_ecg(write_muse(tmp_path / "m.xml", SIGNAL, NAMES)) is None
    assert identity_of_ecg(edf(tmp_path / "e.edf", "123 F 02-MAY-1951 Doe")) is not None


def test_texts_that_are_none_of_the_forms() -> None:
    assert [date_digits(text) for text in ("19901332", "00000000", "May 1990", "1990051", "99", "")] == [""] * 6
    assert [date_digits(text) for text in ("19900000", "199005", "19900500", "1990")] == ["19900101"] * 4
    assert [sex_of(text) for text in ("", "O", "X", "male female", "unknown", "mf")] == [""] * 6
    assert [age_in_years(text) for text in ("", "old", "12-14", "1990", "7.1.3", "150Y")] == [None] * 6
