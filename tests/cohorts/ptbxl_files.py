"""PTB-XL in small: the table of statements, and arrays with their labels as public mirrors hold them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from heart_signal import make_heart

STATEMENTS = """,description,diagnostic,form,rhythm,diagnostic_class
NORM,normal ECG,1.0,,,NORM
IMI,inferior myocardial infarction,1.0,,,MI
ASMI,anteroseptal myocardial infarction,1.0,,,MI
NDT,non-diagnostic T abnormalities,1.0,1.0,,STTC
SR,sinus rhythm,,,1.0,
QWAVE,Q waves present,,1.0,,MI
"""


def write_arrays(
    directory: Path, order: Sequence[int] = range(12), folds: Sequence[int] = range(3, 11), first: int = 0
) -> None:
    """Eight z-scored records as arrays, leads in this order of `LEADS`, as public mirrors of PTB-XL hold them."""
    identifiers = range(first, first + 8)
    hearts = np.stack([make_heart(1000, 100.0, identifier) for identifier in identifiers])  # (8, 12, 1000)
    signal = hearts[:, list(order)].transpose(0, 2, 1)
    signal = (signal - signal.mean(axis=1, keepdims=True)) / signal.std(axis=1, keepdims=True)
    np.savez(directory / "arrays.npz", ecg_id=identifiers, signal=signal.astype(np.float16))
    table = {"ecg_id": identifiers, "patient_id": identifiers, "age": 60, "sex": 0, "strat_fold": folds}
    table |= {"super_class": ["['NORM']", "['MI', 'STTC']"] * 4}
    table |= {"scp_diagnostic_likelihood": ["{}", '{"IMI": 35.0, "NDT": 100.0}'] * 4}
    pd.DataFrame(table).to_csv(directory / "labels.csv", index=False)
    (directory / "scp_statements.csv").write_text(STATEMENTS)
