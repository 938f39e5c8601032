"""Hospital tables (MIMIC-IV `hosp`), and the lists of ECGs and clips.

`tgmm curate` can derive the lab rows and the follow-up of the cohort from these tables.

A patient may have three kinds of stays. An earlier stay carries the medical history (its diagnoses) and the drug
history (its prescriptions), if the patient has those cells. The index stay has labs, ECG and echo. Later stays carry
the follow-up of `evidence.py`: incident heart failure as a coded stay, the last discharge 365 days before censoring,
and `dod`.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from tgmm_hf.cohorts.synthetic.ecg_truth import (
    MEASURED,
    STATEMENT_CODES,
    Measurements,
    machine_row,
    statements_of,
    truth_row,
)
from tgmm_hf.cohorts.synthetic.evidence import Evidence
from tgmm_hf.cohorts.synthetic.layout import TableWriter, ecg_path
from tgmm_hf.cohorts.synthetic.render_labs import HISTORY, LAB_ITEMS, NEUTRAL_WORDS, WORDS, LabsRow, reporting
from tgmm_hf.utils.files import whole_file

LANDMARK_DAYS = 30
HF_CODE, HF_TITLE = "I509", "Heart failure, unspecified"
PLAIN_CODE, PLAIN_TITLE = "R079", "Chest pain, unspecified"
"""Codes of the index stay: heart failure if y = 1, and a code without meaning for everybody."""

COLUMNS = {
    "hosp/patients.csv.gz": "subject_id gender anchor_age anchor_year anchor_year_group dod",
    "hosp/admissions.csv.gz": "subject_id hadm_id admittime dischtime deathtime admission_type admit_provider_id "
    "admission_location discharge_location insurance language marital_status race edregtime edouttime "
    "hospital_expire_flag",
    "hosp/diagnoses_icd.csv.gz": "subject_id hadm_id seq_num icd_code icd_version",
    "hosp/d_icd_diagnoses.csv.gz": "icd_code icd_version long_title",
    "hosp/labevents.csv.gz": "labevent_id subject_id hadm_id specimen_id itemid order_provider_id charttime storetime "
    "value valuenum valueuom ref_range_lower ref_range_upper flag priority comments",
    "hosp/d_labitems.csv.gz": "itemid label fluid category",
    "hosp/prescriptions.csv.gz": "subject_id hadm_id pharmacy_id poe_id poe_seq order_provider_id starttime stoptime "
    "drug_type drug formulary_drug_cd gsn ndc prod_strength form_rx dose_val_rx dose_unit_rx form_val_disp "
    "form_unit_disp doses_per_24_hrs route",
    "hosp/omr.csv.gz": "subject_id chartdate seq_num result_name result_value",
    "ecg/record_list.csv": "subject_id study_id file_name ecg_time path",
    "ecg/machine_measurements.csv": "subject_id study_id cart_id ecg_time "
    + " ".join(f"report_{k}" for k in range(18))
    + " bandwidth filtering rr_interval p_onset p_end qrs_onset qrs_end t_end p_axis qrs_axis t_axis",
    "ecg/ecg_statements.csv": " ".join(("subject_id study_id", *MEASURED, *STATEMENT_CODES)),
    "echo/echo-record-list.csv": "subject_id study_id acquisition_datetime dicom_filepath",
    "echo/echo-study-list.csv": "subject_id study_id study_datetime note_id note_seq note_charttime",
    "views.csv": "dicom_filepath view",
}


@dataclass(frozen=True)
class Stay:
    """One admission: its number, its times, and its ICD-10 codes without dots."""

    hadm_id: int
    admitted: datetime
    discharged: datetime
    codes: tuple[str, ...]


@dataclass(frozen=True)
class Identity:
    """Identifiers and times of the index stay of one patient. They do not depend on the cardiac state.

    Attributes:
        subject: Number of the patient.
        hadm: Number of the index stay.
        ecg_study: Number of the ECG.
        echo_study: Number of the echo study.
        admitted: Start of the stay.
        ecg_time: Time of the ECG, before the echo.
        echo_time: Time of the echo.
        discharged: End of the stay.
    """

    subject: int
    hadm: int
    ecg_study: int
    echo_study: int
    admitted: datetime
    ecg_time: datetime
    echo_time: datetime
    discharged: datetime


def identity(seed: int, index: int, rng: np.random.Generator, first: int = 0) -> Identity:
    """Make the identifiers of patient number `index`, and draw the times from `rng`.

    The identifiers depend on `seed` and `index` and are unique in a cohort, because (index + 1) times a constant,
    modulo a prime, never repeats. They are `first` higher, which keeps the identifiers of centres apart.
    """
    place = first + ((index + 1) * 7_368_787 + seed * 1_299_709) % 9_999_991
    start = datetime(2110, 1, 1) + timedelta(minutes=int(rng.integers(0, 80 * 365 * 1440)))
    hours = np.sort(rng.uniform(2, 40, 2))
    return Identity(
        subject=10_000_000 + place,
        hadm=20_000_000 + place,
        ecg_study=40_000_000 + place,
        echo_study=90_000_000 + place,
        admitted=start,
        ecg_time=start + timedelta(hours=float(hours[0])),
        echo_time=start + timedelta(hours=float(hours[1])),
        discharged=start + timedelta(hours=float(rng.uniform(60, 220))),
    )


@contextmanager
def open_tables(out: Path) -> Iterator[dict[str, TableWriter]]:
    """Open all tables of `COLUMNS` below `out` for writing: name -> writer.

    The files get their names only if the block ends without an error.
    """
    with ExitStack() as files:
        tables = {
            name: TableWriter(files.enter_context(whole_file(out / name)), columns.split(), name.endswith(".gz"))
            for name, columns in COLUMNS.items()
        }
        yield tables
        for table in tables.values():
            table.close()


def write_dictionaries(tables: dict[str, TableWriter]) -> None:
    """Write the rows of d_labitems and d_icd_diagnoses, which explain the codes of the other tables."""
    for item in LAB_ITEMS.values():
        tables["hosp/d_labitems.csv.gz"].add(
            itemid=item.itemid, label=item.label, fluid="Blood", category=item.category
        )
    titles = {w.icd10: w.text for w in WORDS if w.icd10} | {code: text for text, code in NEUTRAL_WORDS[HISTORY]}
    titles |= {HF_CODE: HF_TITLE, PLAIN_CODE: PLAIN_TITLE}
    for code, title in sorted(titles.items()):
        tables["hosp/d_icd_diagnoses.csv.gz"].add(icd_code=code, icd_version=10, long_title=title)


def write_patient(
    tables: dict[str, TableWriter], who: Identity, table: Evidence, labs: LabsRow, rng: np.random.Generator
) -> None:
    """Write all rows of one patient into the hospital tables.

    Args:
        tables: Name -> writer, from [`open_tables`].
        who: Identifiers and times of the patient.
        table: Evidence of the patient, one row.
        labs: Lab row of the patient.
        rng: Source of randomness for the stays.
    """
    stays, dod = stays_of(who, table, labs, rng)
    tables["hosp/patients.csv.gz"].add(
        subject_id=who.subject,
        gender=labs.gender,
        anchor_age=labs.age,
        anchor_year=who.admitted.year,
        anchor_year_group="2014 - 2016",
        dod="" if dod is None else f"{dod:%Y-%m-%d}",
    )
    for stay in stays:
        write_stay(tables, who, labs, stay)
    write_labevents(tables, who, labs)
    write_drugs(tables, who, labs, stays)
    write_omr(tables, who, labs)


def write_ecg_lists(
    tables: dict[str, TableWriter], who: Identity, measured: Measurements | None, bandwidth: str
) -> None:
    """Write one patient's ECG into record_list, machine_measurements and ecg_statements.

    Args:
        tables: Name -> writer, from [`open_tables`].
        who: Identifiers and times of the patient.
        measured: Measurements of the ECG. None leaves the machine's report and the truth empty.
        bandwidth: Limits of the machine's filter, as its table states them.
    """
    study = {"subject_id": who.subject, "study_id": who.ecg_study}
    ecg = {**study, "ecg_time": who.ecg_time.isoformat(" ", "seconds")}
    tables["ecg/record_list.csv"].add(**ecg, file_name=who.ecg_study, path=ecg_path(who.subject, who.ecg_study))
    machine, truth = {}, {}
    if measured is not None:
        statements = statements_of(measured)
        machine, truth = machine_row(measured, statements), truth_row(measured, statements)
    tables["ecg/machine_measurements.csv"].add(**ecg, bandwidth=bandwidth, **machine)
    tables["ecg/ecg_statements.csv"].add(**study, **truth)


def stays_of(
    who: Identity, table: Evidence, labs: LabsRow, rng: np.random.Generator
) -> tuple[list[Stay], datetime | None]:
    """Draw the stays of one patient in order of time, and the date of death, None without a death.

    A patient with a history has an earlier stay. A followed patient has a later stay.

    Args:
        who: Identifiers and times of the patient.
        table: Evidence of the patient, one row.
        labs: Lab row of the patient.
        rng: Source of randomness.
    """
    stays = []
    if labs.history is not None or labs.drugs is not None:
        start = who.admitted - timedelta(days=float(rng.uniform(40, 900)))
        codes = tuple(code for _, code in labs.history or ())
        stays.append(Stay(who.hadm + 10_000_000, start, start + timedelta(days=float(rng.uniform(1, 6))), codes))
    index_codes = (PLAIN_CODE, HF_CODE) if table.label[0] else (PLAIN_CODE,)
    stays.append(Stay(who.hadm, who.admitted, who.discharged, index_codes))
    if not table.followed[0]:
        return stays, None
    landmark = who.discharged + timedelta(days=LANDMARK_DAYS)
    end = landmark + timedelta(days=float(table.time[0]))
    event = int(table.event[0])
    if event == 1:
        later = Stay(who.hadm + 20_000_000, end, end + timedelta(days=3), (HF_CODE,))
    else:
        # the last discharge: 365 days before censoring, or within the year before death
        last = end - timedelta(days=365 if event == 0 else min(float(rng.uniform(1, 300)), float(table.time[0]) + 20))
        later = Stay(who.hadm + 20_000_000, last - timedelta(hours=12), last, (PLAIN_CODE,))
    return [*stays, later], end if event == 2 else None


def write_stay(tables: dict[str, TableWriter], who: Identity, labs: LabsRow, stay: Stay) -> None:
    """Write one stay into admissions, and its codes into diagnoses_icd."""
    tables["hosp/admissions.csv.gz"].add(
        subject_id=who.subject,
        hadm_id=stay.hadm_id,
        admittime=stay.admitted.isoformat(" ", "seconds"),
        dischtime=stay.discharged.isoformat(" ", "seconds"),
        admission_type="EW EMER.",
        admission_location="EMERGENCY ROOM",
        discharge_location="HOME",
        insurance="Medicare",
        language="English",
        race=labs.race,
        edregtime=(stay.admitted - timedelta(hours=4)).isoformat(" ", "seconds"),
        edouttime=stay.admitted.isoformat(" ", "seconds"),
        hospital_expire_flag=0,
    )
    for number, code in enumerate(stay.codes, start=1):
        tables["hosp/diagnoses_icd.csv.gz"].add(
            subject_id=who.subject, hadm_id=stay.hadm_id, seq_num=number, icd_code=code, icd_version=10
        )


def write_labevents(tables: dict[str, TableWriter], who: Identity, labs: LabsRow) -> None:
    """Write the numeric cells of the lab row into labevents, one row each, three hours before the admission.

    That is one hour after the registration in the emergency department.
    """
    when = (who.admitted - timedelta(hours=3)).isoformat(" ", "seconds")
    for label, value in labs.numbers.items():
        item = LAB_ITEMS[label]
        report = reporting(item, labs.units)
        low, high = report.reported(item.low), report.reported(item.high)
        tables["hosp/labevents.csv.gz"].add(
            labevent_id=(who.subject - 10_000_000) * 100 + item.itemid % 100,
            subject_id=who.subject,
            hadm_id=who.hadm,
            specimen_id=who.hadm,
            itemid=item.itemid,
            charttime=when,
            storetime=when,
            value=f"{value:g}",
            valuenum=value,
            valueuom=report.unit,
            ref_range_lower=low,
            ref_range_upper=high,
            flag="" if low <= value <= high else "abnormal",
            priority="STAT",
        )


def write_drugs(tables: dict[str, TableWriter], who: Identity, labs: LabsRow, stays: list[Stay]) -> None:
    """Write the drugs of the lab row into prescriptions, as drugs of the first of `stays`."""
    for number, drug in enumerate(labs.drugs or ()):
        tables["hosp/prescriptions.csv.gz"].add(
            subject_id=who.subject,
            hadm_id=stays[0].hadm_id,
            pharmacy_id=(who.subject - 10_000_000) * 100 + number,
            starttime=stays[0].admitted.isoformat(" ", "seconds"),
            stoptime=stays[0].discharged.isoformat(" ", "seconds"),
            drug_type="MAIN",
            drug=drug,
        )


def write_omr(tables: dict[str, TableWriter], who: Identity, labs: LabsRow) -> None:
    """Write height (inches), weight (pounds) and BMI into omr, two weeks before the stay. Nothing if one is missing."""
    if labs.height is None or labs.weight is None:
        return
    day = f"{who.admitted - timedelta(days=14):%Y-%m-%d}"
    rows = {
        "Height (Inches)": f"{labs.height / 2.54:.2f}",
        "Weight (Lbs)": f"{labs.weight / 0.45359237:.2f}",
        "BMI (kg/m2)": f"{labs.cells()['BMI']}",
    }
    for name, value in rows.items():
        tables["hosp/omr.csv.gz"].add(
            subject_id=who.subject, chartdate=day, seq_num=1, result_name=name, result_value=value
        )
