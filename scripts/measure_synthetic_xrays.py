"""Measure whether the findings of synthetic chest X-rays can be read from the pictures that MoRE sees.

    python scripts/measure_synthetic_xrays.py --patients 900

Draws patients and their pictures, prepares the pictures as MoRE does (224 x 224, equalised), and fits a logistic
regression on the principal components of their pixels, trained on the first two thirds of the patients. Prints the
AUROC on the others for each label, beside the optimum of the same patients, and beside the control: the same pictures
without any finding. The cardiothoracic ratio is measured too. Writes nothing.
"""

import argparse
import sys
import time

import cv2
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tgmm_hf.cohorts.synthetic.bayes import auc
from tgmm_hf.cohorts.synthetic.evidence import draw_intended
from tgmm_hf.cohorts.synthetic.patients import Settings, patient_labs
from tgmm_hf.cohorts.synthetic.planted_xray import SHAPES, picture_source
from tgmm_hf.cohorts.synthetic.render_xray import Shown, render_xray
from tgmm_hf.cohorts.synthetic.xray_bayes import BLANK_IS_ABSENT, FINDINGS, scores_from_xrays
from tgmm_hf.cohorts.synthetic.xray_evidence import draw_patient_xray, shown_of, stack_xrays
from tgmm_hf.cohorts.synthetic.xray_report import labels_of
from tgmm_hf.inputs.image_processing_xray import MoreImageProcessor

SIDE, COMPONENTS = 64, 60


def cardiothoracic_ratio(grey: np.ndarray) -> float:
    """Measure the cardiothoracic ratio of a prepared picture (size, size) uint8 at the level of the heart."""
    size = len(grey)
    ratios = []
    for row in range(round(0.50 * size), round(0.68 * size), 4):
        profile = cv2.GaussianBlur(grey[row - 3 : row + 4].mean(axis=0)[None].astype(np.float32), (0, 0), 3)[0]
        right = round(0.1 * size) + int(np.argmin(profile[round(0.1 * size) : round(0.42 * size)]))
        left = round(0.58 * size) + int(np.argmin(profile[round(0.58 * size) : round(0.92 * size)]))
        bright = (
            profile > (profile[[right, left]].max() + np.median(profile[round(0.45 * size) : round(0.55 * size)])) / 2
        )
        heart = bright[right:left].sum()
        outer_right = right - int(np.argmax(bright[right::-1]))
        outer_left = left + int(np.argmax(bright[left:]))
        ratios.append(heart / max(outer_left - outer_right, 1))
    return float(np.max(ratios))


def draw_pictures(settings: Settings, patients: int, with_findings: bool) -> np.ndarray:
    """Draw the prepared pictures of all patients: (patients, 224, 224) uint8."""
    processor, pictures = MoreImageProcessor(), []
    for index in range(patients):
        table = draw_patient_xray(settings.seed, index, settings.evidence)
        is_ap, is_female = bool(table.is_ap[0]), patient_labs(settings, index).gender == "F"
        shown = shown_of(table) if with_findings else Shown()
        pixels = render_xray(shown, picture_source(settings, index, 0), is_ap, is_female, SHAPES[is_ap])
        pictures.append(processor.equalise(pixels, is_dicom=False))
    return np.stack(pictures)


def features(pictures: np.ndarray) -> np.ndarray:
    """Shrink pictures and flatten them: (patients, `SIDE` * `SIDE`)."""
    small = [cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for picture in pictures]
    return np.stack(small).reshape(len(pictures), -1).astype(np.float32) / 255


def main() -> None:
    """Print the time of a picture, then one line for each label."""
    parser = argparse.ArgumentParser(description="Read findings from synthetic X-rays.")
    parser.add_argument("--patients", type=int, default=900)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--evidence", default="default")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    settings = Settings(arguments.seed, arguments.evidence, 32, 240, 320, xray=True)
    n = arguments.patients
    start = time.process_time()
    pictures = draw_pictures(settings, n, with_findings=True)
    sys.stdout.write(f"{1000 * (time.process_time() - start) / n:.0f} ms of CPU for drawing and preparing a picture\n")
    controls = draw_pictures(settings, n, with_findings=False)
    xrays = stack_xrays([draw_patient_xray(settings.seed, index, settings.evidence) for index in range(n)])
    labels = [labels_of(xrays, row) for row in range(n)]
    heart_failure = np.array([draw_intended(settings.seed, i, settings.evidence).label[0] for i in range(n)])
    best, train = scores_from_xrays(xrays), np.arange(n) < n * 2 // 3
    shown, plain = features(pictures), features(controls)
    columns = {}
    for name in FINDINGS:
        empty = 0.0 if name in BLANK_IS_ABSENT else np.nan
        columns[name] = np.array([empty if row[name] is None else row[name] for row in labels], dtype=float)
    sys.stdout.write("label  patients  optimum  pixels  control\n")
    for name, column in [*columns.items(), ("heart failure", heart_failure.astype(float))]:
        rows = np.isin(column, (0, 1))
        model = make_pipeline(
            PCA(COMPONENTS, random_state=0), StandardScaler(), LogisticRegression(C=0.05, max_iter=500)
        )
        model.fit(shown[rows & train], column[rows & train])
        test = rows & ~train
        read, control = (auc(model.decision_function(part[test]), column[test].astype(int)) for part in (shown, plain))
        optimum = f"{auc(best[name][test], column[test].astype(int)):.3f}" if name in best else "-"
        sys.stdout.write(f"{name}  {test.sum()}  {optimum}  {read:.3f}  {control:.3f}\n")
    ratios = [np.array([cardiothoracic_ratio(picture) for picture in part]) for part in (pictures, controls)]
    rows = np.isin(columns["Cardiomegaly"], (0, 1))
    read, control = (auc(ratio[rows], columns["Cardiomegaly"][rows].astype(int)) for ratio in ratios)
    sys.stdout.write(f"Cardiomegaly by the measured ratio  {rows.sum()}  -  {read:.3f}  {control:.3f}\n")


if __name__ == "__main__":
    main()
