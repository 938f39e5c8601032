"""Controls of a report model: what it writes, and what is written without it, when the ECG says nothing.

A language model can score well on frequent findings alone. These systems stand in the same table as the model.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MODEL = "model"
SHUFFLED = "shuffled ECGs"
ZERO = "zero ECG"
NEAREST = "nearest neighbour"
FREQUENT = "most frequent report"
TRUE_REPORT = "true report"
"""The true reports, scored like a system. Their F1 shows what the reader of findings and the reports' wording lose."""
CONTROLS = (SHUFFLED, ZERO, NEAREST, FREQUENT)
"""The model with the ECG of another patient; with an ECG of zeros; the report of the training ECG whose vectors are the
nearest; the most frequent report of the training split."""


def exchanged_ecgs(patients: Sequence[str], generator: np.random.Generator) -> list[int]:
    """Choose for every row the ECG of another patient.

    The patients stand in a ring of random order. Every row gets a random ECG of the next patient.

    Args:
        patients: Patient of each row.
        generator: Source of the order.

    Returns:
        Row -> number of the row whose ECG it gets.

    Raises:
        ValueError: If there is only one patient.
    """
    rows: dict[str, list[int]] = {}
    for row, patient in enumerate(patients):
        rows.setdefault(patient, []).append(row)
    ring = [str(patient) for patient in generator.permutation(sorted(rows))]
    if len(ring) < 2:
        raise ValueError("ECGs cannot be shuffled, because all of them are of one patient.")
    following = dict(zip(ring, [*ring[1:], ring[0]], strict=True))
    return [int(generator.choice(rows[following[patient]])) for patient in patients]


def nearest_reports(queries: NDArray, candidates: NDArray, reports: Sequence[str]) -> list[str]:
    """Return for every ECG the report of the most similar training ECG, by the cosine of their vectors.

    Args:
        queries: (n, d) vectors of the scored ECGs.
        candidates: (m, d) vectors of the training ECGs.
        reports: The m reports of the training ECGs.
    """
    queries, candidates = (
        array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12) for array in (queries, candidates)
    )
    return [reports[int(index)] for index in (queries @ candidates.T).argmax(axis=1)]


def most_frequent(reports: Sequence[str]) -> str:
    """Return the most frequent report; of several, the first in the alphabet."""
    counts = Counter(reports)
    return min(counts, key=lambda report: (-counts[report], report))
