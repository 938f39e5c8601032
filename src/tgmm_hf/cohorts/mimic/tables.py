"""The tables of MIMIC-IV, MIMIC-IV-ECG and MIMIC-IV-ECHO that `tgmm curate` reads."""

from typing import Any

from tgmm_hf.cohorts.tables import Table

OPTIONS = {"mimic_iv": "--mimic-iv", "mimic_ecg": "--mimic-ecg", "mimic_echo": "--mimic-echo"}
"""Source -> option of the command line that names its directory."""


def _table(source: str, stems: str, columns: str, optional: str = "", **settings: Any) -> Table:
    """Describe a table. Columns are written as "name TYPE, name TYPE"; its name is the first stem if none is given."""
    name = settings.pop("name", stems.split()[0])
    folders = ("hosp", "") if source == "mimic_iv" else ("",)
    return Table(name, source, tuple(stems.split()), _columns(columns), _columns(optional), folders=folders, **settings)


def _columns(text: str) -> dict[str, str]:
    columns: dict[str, str] = {}
    for column in text.split(",") if text else ():
        name, kind = column.split()
        columns[name] = kind
    return columns


TABLES = (
    _table(
        "mimic_iv",
        "patients",
        "subject_id BIGINT, gender VARCHAR, anchor_age INTEGER, anchor_year INTEGER, dod DATE",
        "anchor_year_group VARCHAR",
    ),
    _table(
        "mimic_iv",
        "admissions",
        "subject_id BIGINT, hadm_id BIGINT, admittime TIMESTAMP, dischtime TIMESTAMP",
        "deathtime TIMESTAMP, discharge_location VARCHAR, race VARCHAR, edregtime TIMESTAMP, "
        "edouttime TIMESTAMP, hospital_expire_flag INTEGER",
    ),
    _table(
        "mimic_iv",
        "diagnoses_icd",
        "hadm_id BIGINT, icd_code VARCHAR, icd_version INTEGER",
        "seq_num INTEGER",
    ),
    _table(
        "mimic_iv",
        "labevents",
        "subject_id BIGINT, itemid BIGINT, charttime TIMESTAMP, value VARCHAR, valuenum DOUBLE, valueuom VARCHAR",
        "labevent_id BIGINT, storetime TIMESTAMP, comments VARCHAR",
        stored=False,
    ),
    _table(
        "mimic_iv",
        "d_labitems",
        "itemid BIGINT, label VARCHAR, fluid VARCHAR",
        required=False,
    ),
    _table(
        "mimic_iv",
        "d_icd_diagnoses",
        "icd_code VARCHAR, icd_version INTEGER, long_title VARCHAR",
        required=False,
    ),
    _table(
        "mimic_iv",
        "prescriptions",
        "hadm_id BIGINT, drug VARCHAR",
        "starttime TIMESTAMP, pharmacy_id BIGINT, drug_type VARCHAR",
        required=False,
        stored=False,
    ),
    _table(
        "mimic_iv",
        "omr",
        "subject_id BIGINT, chartdate DATE, result_name VARCHAR, result_value VARCHAR",
        "seq_num INTEGER",
        required=False,
        stored=False,
    ),
    _table(
        "mimic_ecg",
        "record_list record-list",
        "subject_id BIGINT, study_id BIGINT, ecg_time TIMESTAMP, path VARCHAR",
        name="ecg_records",
    ),
    _table(
        "mimic_echo",
        "echo-record-list",
        "subject_id BIGINT, study_id BIGINT, dicom_filepath VARCHAR",
        "acquisition_datetime TIMESTAMP",
        name="echo_records",
    ),
    _table(
        "mimic_echo",
        "echo-study-list",
        "subject_id BIGINT, study_id BIGINT, study_datetime TIMESTAMP",
        "measurement_id BIGINT",
        name="echo_study_list",
        required=False,
    ),
    _table(
        "mimic_echo",
        "structured-measurement structured-measurements",
        "subject_id BIGINT, measurement_id BIGINT, measurement VARCHAR, result VARCHAR",
        "measurement_datetime TIMESTAMP, test_type VARCHAR",
        name="structured_measurements",
        required=False,
        stored=False,
    ),
)
