"""The planted evidence of a synthetic patient on the units of the faithfulness check."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from tgmm_hf.cohorts.synthetic.cohort import SETTINGS_FILE, Settings, patient_identity
from tgmm_hf.cohorts.synthetic.evidence import anomaly_of
from tgmm_hf.cohorts.synthetic.planted import EVIDENCE_CELLS, clip_evidence, ecg_evidence
from tgmm_hf.cohorts.synthetic.render_ecg import RATE
from tgmm_hf.explanation.units import Units
from tgmm_hf.inputs.image_processing_echo import CropBox
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json
from tgmm_hf.utils.names import VIEWS

TRUTH_FILE = "truth.parquet"
"""File of a synthetic cohort with a row for each patient."""


class PlantedEvidence:
    """Where the evidence of the patients of a synthetic cohort lies.

    Args:
        cohort: directory that `tgmm synth` wrote.
        ids: names of the admissions that are asked for. Patients whose inputs were all refused may be missing.
        processor: `TgmmProcessor`, whose window and crop are applied.

    Raises:
        TgmmError: if the directory is no synthetic cohort, or an admission is not one of its patients.
    """

    def __init__(self, cohort: Path, ids: list[str], processor: Any):
        path = cohort / SETTINGS_FILE
        if not path.is_file():
            raise TgmmError(str(cohort), f"holds no {SETTINGS_FILE}. Name a directory that `tgmm synth` wrote.")
        self.settings = Settings(**({"labs_only": False} | read_json(path)))
        patients = len(pd.read_parquet(cohort / TRUTH_FILE, columns=["id"]))
        self.index_of = {str(patient_identity(self.settings, index).hadm): index for index in range(patients)}
        if missing := set(ids) - set(self.index_of):
            raise TgmmError(str(cohort), f"{len(missing)} of {len(ids)} admissions are not of this cohort.")
        self.processor = processor

    def is_anomalous(self, identifier: str) -> bool:
        """Tell whether a file of the patient was damaged on purpose."""
        return anomaly_of(self.index_of[identifier]) is not None

    def in_units(self, modality: str, identifier: str, units: Units, cells: Mapping[int, str]) -> np.ndarray:
        """Compute the planted change of each unit that the patient has: (units,), not negative.

        Args:
            modality: "labs", "ecg" or "echo".
            identifier: name of the admission.
            units: the patient's units of the modality.
            cells: number of a unit -> name of the lab cell; read for labs only.
        """
        if modality == "labs":
            return np.array([float(cells[number] in EVIDENCE_CELLS) for number in range(units.shape[0])])
        full = self._ecg(identifier, units) if modality == "ecg" else self._echo(identifier, units)
        return full[units.present]

    def _ecg(self, identifier: str, units: Units) -> np.ndarray:
        """Sum the change of an ECG over the tokens of the central window: (leads, tokens) mV s."""
        change = ecg_evidence(self.settings, self.index_of[identifier])
        extractor = self.processor.feature_extractor
        step = RATE // extractor.sampling_rate
        start = extractor.start_positions(change.shape[1] // step)[0] * step
        window = change[:, start : start + extractor.num_samples * step]
        return window.reshape(len(window), units.shape[1], -1).sum(2) / RATE

    def _echo(self, identifier: str, units: Units) -> np.ndarray:
        """Average the change of the clips over the frames that the model reads and over regions: (views, h, w)."""
        images = self.processor.image_processor
        result = np.zeros(units.shape)
        for number, view in enumerate(VIEWS):
            if not units.present[number].any():
                continue
            change = clip_evidence(self.settings, self.index_of[identifier], view)
            read = change[:: images.frame_stride][: images.num_frames].mean(0)
            top, left, side = CropBox.of_centre(read.shape[0], read.shape[1], images.zoom)
            square = np.ascontiguousarray(read[top : top + side, left : left + side])
            result[number] = cv2.resize(square, units.shape[:0:-1], interpolation=cv2.INTER_AREA)
        return result
