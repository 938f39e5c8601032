"""The tables of MIMIC-CXR-JPG, MIMIC-IV-ECG and MIMIC-IV that `tgmm curate-more` reads."""

from tgmm_hf.cohorts.instruction_texts import REPORT_COLUMNS
from tgmm_hf.cohorts.tables import Table

OPTIONS = {"mimic_cxr": "--mimic-cxr", "mimic_ecg": "--mimic-ecg", "mimic_iv": "--mimic-iv"}
"""Source -> option of the command line that names its directory."""
VERSIONS = ("2.1.0", "2.0.0")
"""Versions of MIMIC-CXR-JPG that stand in names of files, newest first."""
FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
"""Columns of the two tables of labels."""
LABELLERS = ("chexpert", "negbio")


def finding_name(column: str) -> str:
    """Return the name of a finding: "pleural_effusion" for "Pleural Effusion"."""
    return column.lower().replace(" ", "_")


def more_tables(labeller: str) -> tuple[Table, ...]:
    """List the tables.

    Args:
        labeller: Whose labels are read, one of `LABELLERS`.
    """
    studies = {"subject_id": "BIGINT", "study_id": "BIGINT"}
    return (
        Table(
            "cxr_metadata",
            "mimic_cxr",
            _stems("metadata"),
            {"dicom_id": "VARCHAR", **studies, "ViewPosition": "VARCHAR", "StudyDate": "VARCHAR"},
            {"StudyTime": "VARCHAR"},
            stored=False,
        ),
        Table(
            "cxr_splits",
            "mimic_cxr",
            _stems("split"),
            {"dicom_id": "VARCHAR", "subject_id": "BIGINT", "split": "VARCHAR"},
        ),
        Table(
            "cxr_label_rows",
            "mimic_cxr",
            _stems(labeller),
            studies,
            dict.fromkeys(FINDINGS, "DOUBLE"),
            stored=False,
        ),
        Table(
            "ecg_records",
            "mimic_ecg",
            ("record_list", "record-list"),
            {**studies, "ecg_time": "TIMESTAMP", "path": "VARCHAR"},
        ),
        Table(
            "machine_measurements",
            "mimic_ecg",
            ("machine_measurements",),
            {**studies, "report_0": "VARCHAR"},
            dict.fromkeys(REPORT_COLUMNS[1:], "VARCHAR"),
            required=False,
            stored=False,
        ),
        Table(
            "patients",
            "mimic_iv",
            ("patients",),
            {"subject_id": "BIGINT", "gender": "VARCHAR", "anchor_age": "INTEGER", "anchor_year": "INTEGER"},
            folders=("hosp", ""),
        ),
    )


def _stems(part: str) -> tuple[str, ...]:
    """Return the names that a table of MIMIC-CXR-JPG may have, without their suffix."""
    return tuple(f"mimic-cxr-{version}-{part}" for version in VERSIONS)
