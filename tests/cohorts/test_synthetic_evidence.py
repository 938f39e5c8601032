"""The stated optimum can be reached from the written files: simple estimators re-measure the evidence.

Files are written, read back through wfdb / pydicom / pandas, measured (areas, widths, amplitudes, words), the
measurements turned into axis units by a calibration fitted on one half of the patients, and the exact posterior of
the other half computed from what was measured. Its AUC must lie within 0.02 of the stated optimum.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import wfdb
from pydicom.pixels import pixel_array
from scipy.ndimage import distance_transform_edt, label, uniform_filter
from scipy.signal import butter, find_peaks, sosfiltfilt
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from tgmm_hf.cohorts.synthetic import bayes, cohort
from tgmm_hf.cohorts.synthetic.evidence import (
    DRUGS,
    HISTORY,
    PARAMETERS,
    VIEWS_SHOWING,
    WORDS,
    Evidence,
    anomaly_of,
    draw_patient,
    stack,
)
from tgmm_hf.cohorts.synthetic.render_ecg import DOWER, T_AXIS
from tgmm_hf.cohorts.synthetic.render_echo import APEX, VIEW_GEOMETRY
from tgmm_hf.cohorts.synthetic.render_labs import PHYSICAL, SEPARATOR

PATIENTS = 700
ECHO_PATIENTS = 160  # measuring clips costs about 0.3 s a patient
TOLERANCE = 0.02
SMALL = cohort.Settings(seed=11, evidence="default", frames=16, height=120, width=160)
ECG_PARAMETERS = [p.name for p in PARAMETERS if p.modality == "ecg"]
ECHO_PARAMETERS = [p.name for p in PARAMETERS if p.modality == "echo"]


# ---- measuring one record -------------------------------------------------------------------------------------


def ecg_features(record: str) -> tuple[np.ndarray, bool]:
    """Ten numbers of the average beat of a written record, and whether its rhythm is irregular."""
    signal, fields = wfdb.rdsamp(record)
    rate = fields["fs"]
    signal = sosfiltfilt(butter(2, [0.5, 40], "bandpass", fs=rate, output="sos"), signal, axis=0)
    columns = [fields["sig_name"].index(lead) for lead in DOWER]
    dipole = signal[:, columns] @ np.linalg.pinv(np.array(list(DOWER.values()))).T  # (T, 3)
    strength = np.linalg.norm(np.gradient(dipole, axis=0), axis=1)
    strength = uniform_filter(strength, rate // 25)
    peaks, _ = find_peaks(strength, distance=int(0.35 * rate), height=0.45 * np.quantile(strength, 0.99))
    intervals = np.diff(peaks) / rate
    before, after = int(0.35 * rate), int(0.55 * rate)
    size = np.linalg.norm(dipole, axis=1)
    centres = [
        p - 40 + int(np.argmax(size[p - 40 : p + 40])) for p in peaks if before + 40 < p < len(size) - after - 40
    ]
    beat = np.median([dipole[c - before : c + after] for c in centres], axis=0)
    time = np.arange(-before, after) / rate
    qrs = np.abs(time) < 0.13
    energy = np.linalg.norm(beat[qrs], axis=1) ** 2
    middle = (energy * time[qrs]).sum() / energy.sum()
    width = np.sqrt((energy * (time[qrs] - middle) ** 2).sum() / energy.sum())
    main = beat[np.argmin(np.abs(time))]
    t_part = (time > 0.16) & (time < 0.52)
    at = int(np.argmax(np.linalg.norm(beat[t_part], axis=1)))
    t_wave = beat[t_part] @ T_AXIS
    p_part = (time > -0.26) & (time < -0.07)
    cycle = float(np.clip(np.median(intervals), 0.45, 1.5))
    features = [
        width,
        np.log((energy > 0.03 * energy.max()).sum()),
        *main / abs(main[1]),
        np.log(np.linalg.norm(main)),
        t_wave[at] / abs(main[1]),
        t_wave[at],
        time[t_part][at] / np.sqrt(cycle),
        beat[p_part, 2].max() - beat[p_part, 2].min(),
    ]
    return np.array(features), bool(intervals.std() / intervals.mean() > 0.08)


def region(dark: np.ndarray, row: float, column: float) -> np.ndarray:
    """The connected dark region at a point (the nearest dark pixel when the point itself is bright)."""
    labels, _ = label(dark)
    rows, columns = np.nonzero(labels)
    if len(rows) == 0:
        return np.zeros_like(dark)
    nearest = np.argmin((rows - row) ** 2 + (columns - column) ** 2)
    return labels == labels[rows[nearest], columns[nearest]]


def wall_width(luma: np.ndarray, cavity: np.ndarray, tissue: float) -> float:
    """Thickness of the bright rim around a cavity, frame heights."""
    distance = distance_transform_edt(~cavity)
    profile = np.array([luma[(distance > d) & (distance <= d + 1)].mean() for d in range(1, luma.shape[0] // 7)])
    excess = np.clip(profile - tissue, 0, None)
    return float(excess.sum() / excess.max() / luma.shape[0])


def clip_features(path: Path, view: str) -> dict[str, float]:
    """What a clip shows of each echo parameter: area ratio, sizes, rim, coloured area (frame heights)."""
    frames = pixel_array(pydicom.dcmread(path), raw=True).astype(np.float32)  # (F, H, W, 3) YCbCr
    luma, height, width = frames[..., 0], frames.shape[1], frames.shape[2]
    smooth = uniform_filter(luma, (0, max(3, height // 40), max(3, height // 40)))
    rows, columns = np.mgrid[0:height, 0:width]
    x, y = (columns - width / 2) / height, rows / height
    inside = (np.hypot(x, y - APEX) < 0.84) & (np.abs(np.degrees(np.arctan2(x, y - APEX))) < 41)
    tissue = np.median(smooth[:, inside])
    dark = (smooth < 0.6 * tissue) & inside
    out = {}
    for chamber in VIEW_GEOMETRY[view].chambers:
        if chamber.role == "plain":
            continue
        row, column = chamber.y * height, chamber.x * height + width / 2
        regions = [region(frame, row, column) for frame in dark]
        areas = np.array([r.sum() for r in regions]) / height**2
        if chamber.role == "la":
            out["la_size"] = np.sqrt(np.median(areas))
        else:
            out["shortening"] = np.sqrt(np.quantile(areas, 0.04) / np.quantile(areas, 0.9))
            out["lv_size"] = np.sqrt(np.quantile(areas, 0.9))
            filled = np.argsort(areas)[-4:]
            out["wall"] = float(np.mean([wall_width(luma[f], regions[f], tissue) for f in filled]))
    if view in VIEWS_SHOWING["jet"]:
        colour = np.abs(frames[..., 1:] - 128).sum(axis=-1) > 40
        out["jet"] = np.sqrt(colour.sum(axis=(1, 2)).max()) / height
    return out


# ---- from measurements back to evidence -----------------------------------------------------------------------


def calibrated(features: np.ndarray, target: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Quadratic ridge regression of axis units on features, fitted where `known`, predicted everywhere."""
    model = make_pipeline(
        StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler(), RidgeCV(np.logspace(-3, 2, 6))
    )
    return model.fit(features[known], target[known]).predict(features)


def measured_ecg(truth: Evidence, features: np.ndarray, irregular: np.ndarray, train: np.ndarray) -> Evidence:
    """Evidence table with the ECG part replaced by what the files show."""
    out = truth.take(np.arange(len(truth)))
    out.ecg_af[:] = irregular
    for name in ECG_PARAMETERS:
        k = [p.name for p in PARAMETERS].index(name)
        out.values[:, k] = calibrated(features, truth.values[:, k], train & truth.present[:, k])
        if name == "p_terminal":
            out.present[:, k] = ~irregular
    return out


def measured_echo(truth: Evidence, clips: list[dict[str, dict[str, float]]], train: np.ndarray) -> Evidence:
    """Evidence table with the echo part replaced by what the clips show, averaged over the views by precision."""
    out = truth.take(np.arange(len(truth)))
    for name in ECHO_PARAMETERS:
        k = [p.name for p in PARAMETERS].index(name)
        total, weight = np.zeros(len(truth)), np.zeros(len(truth))
        for view in VIEWS_SHOWING[name]:
            there = np.array([name in patient.get(view, {}) for patient in clips])
            feature = np.array([patient.get(view, {}).get(name, 0.0) for patient in clips])[:, None]
            estimate = calibrated(feature, truth.values[:, k], train & there)
            error = np.mean((estimate - truth.values[:, k])[train & there] ** 2)
            total += np.where(there, estimate / error, 0)
            weight += np.where(there, 1 / error, 0)
        out.present[:, k] = weight > 0
        out.values[:, k] = np.where(weight > 0, total / np.maximum(weight, 1e-9), 0)
    return out


def inverse(name: str, value: float) -> float:
    """Axis units of a laboratory value, by bisection of the monotone map."""
    low, high = -12.0, 13.0
    rising = PHYSICAL[name](high) > PHYSICAL[name](low)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if (PHYSICAL[name](middle) < value) == rising else (low, middle)
    return (low + high) / 2


def measured_labs(truth: Evidence, manifest: pd.DataFrame) -> Evidence:
    """Evidence table with the labs part read from the manifest's cells."""
    out = truth.take(np.arange(len(truth)))
    for k, p in enumerate(PARAMETERS):
        if p.modality == "labs":
            cells = manifest[f"labs.{p.name}"]
            out.present[:, k] = cells.notna()
            out.values[:, k] = [0.0 if np.isnan(v) else inverse(p.name, v) for v in cells.astype(float)]
    for column, cell in enumerate((HISTORY, DRUGS)):
        texts = manifest[f"labs.{cell}"]
        out.cells[:, column] = texts.notna()
        for k, word in enumerate(WORDS):
            if word.cell == cell:
                out.words[:, k] = [word.text in t.split(SEPARATOR) if isinstance(t, str) else False for t in texts]
    return out


def written_ecgs(out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write and measure every ECG: features (n, 10), irregular (n,); anomalous records get zeros."""
    rows = []
    for index in range(PATIENTS):
        cohort.render_ecg_file(out, SMALL, index)
        who = cohort.patient_identity(SMALL, index)
        if anomaly_of(index) in ("flat_ecg", "short_ecg"):
            rows.append((np.zeros(10), False))
            continue
        rows.append(ecg_features(str(out / "ecg" / cohort.ecg_path(who.subject, who.ecg_study))))
    return np.stack([features for features, _ in rows]), np.array([irregular for _, irregular in rows])


def written_echos(out: Path) -> list[dict[str, dict[str, float]]]:
    """Write and measure the readable echo clips of the first patients: per patient, view -> features."""
    rows = []
    for index in range(ECHO_PATIENTS):
        cohort.render_echo_files(out, SMALL, index)
        files = cohort.echo_files(SMALL, index, cohort.patient_identity(SMALL, index))
        readable = files[1:] if anomaly_of(index) in ("still_echo", "corrupt_echo") else files
        rows.append({view: clip_features(out / "echo" / path, view) for path, view in readable})
    return rows


# ---- the tests ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def truth() -> Evidence:
    """What the files of patients 0 .. PATIENTS - 1 let one read, anomalous files masked out."""
    return stack([draw_patient(SMALL.seed, i, SMALL.evidence) for i in range(PATIENTS)])


@pytest.fixture(scope="module")
def train() -> np.ndarray:
    """Patients the calibration may use."""
    return np.arange(PATIENTS) % 2 == 0


def optimum_and_reached(truth: Evidence, measured: Evidence, subset: str, rows: np.ndarray) -> tuple[float, float]:
    """(stated optimum, AUC of the posterior computed from measurements) on `rows`."""
    rows = rows & truth.usable.all(axis=1)
    pair = (bayes.references(table, SMALL.evidence).posterior[subset][rows] for table in (truth, measured))
    stated, reached = (bayes.auc(truth.label[rows], posterior) for posterior in pair)
    return stated, reached


def test_labs_cells_hold_the_evidence(truth: Evidence, train: np.ndarray) -> None:
    rows = [cohort.patient_labs(SMALL, i).cells() for i in range(PATIENTS)]
    manifest = pd.DataFrame(rows).add_prefix("labs.")
    stated, reached = optimum_and_reached(truth, measured_labs(truth, manifest), "labs", ~train)
    assert abs(stated - reached) < TOLERANCE


@pytest.mark.slow
def test_written_ecgs_hold_the_evidence(truth: Evidence, train: np.ndarray, tmp_path: Path) -> None:
    features, irregular = written_ecgs(tmp_path)
    stated, reached = optimum_and_reached(truth, measured_ecg(truth, features, irregular, train), "ecg", ~train)
    assert stated - reached < TOLERANCE


@pytest.mark.slow
def test_written_echos_hold_the_evidence(truth: Evidence, train: np.ndarray, tmp_path: Path) -> None:
    truth, train = truth.take(np.arange(ECHO_PATIENTS)), train[:ECHO_PATIENTS]
    stated, reached = optimum_and_reached(truth, measured_echo(truth, written_echos(tmp_path), train), "echo", ~train)
    assert stated - reached < TOLERANCE
