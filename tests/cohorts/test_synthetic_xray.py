"""Synthetic chest X-rays: MIMIC-CXR-JPG's layout, findings that can be read, reports and labels that agree."""

import hashlib
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tgmm_hf.cohorts.synthetic import write_cohort, xray_bayes, xray_files
from tgmm_hf.cohorts.synthetic.bayes import auc, make_grid
from tgmm_hf.cohorts.synthetic.evidence import EVIDENCE, draw, draw_intended, draw_state, stream
from tgmm_hf.cohorts.synthetic.patients import Settings, patient_identity, patient_labs
from tgmm_hf.cohorts.synthetic.planted_xray import (
    FINDING_OF_REGION,
    region_masks,
    xray_evidence,
    xray_regions,
)
from tgmm_hf.cohorts.synthetic.render_xray import Shown, render_xray
from tgmm_hf.cohorts.synthetic.worker_processes import drawing_processes
from tgmm_hf.cohorts.synthetic.xray_evidence import READINGS, draw_patient_xray, draw_xray, shown_of, stack_xrays
from tgmm_hf.cohorts.synthetic.xray_report import CHEXPERT_NAMES, labels_of, write_report
from tgmm_hf.inputs.image_processing_xray import MoreImageProcessor
from tgmm_hf.utils.errors import InputRefusedError

PATIENTS = 12
OPTIONS = {"frames": 4, "height": 96, "width": 128, "no_echo": True}
NAMES = ("xray", "ecg", "report")
PINNED = (-0.105465, -1.183991, -2.180527, -3.961646)
"""First evidence of the first patient of seed 1."""
SETTINGS = Settings(3, "default", 4, 96, 128, no_echo=True, xray=True)


def digests(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of 12 patients with X-rays, without echo."""
    directory = tmp_path_factory.mktemp("cohort")
    write_cohort(directory, PATIENTS, 3, workers=1, xray=True, **OPTIONS)
    return directory


@pytest.fixture(scope="module")
def population() -> tuple:
    """Evidence and X-rays of 3,000 patients, and the grid."""
    table, xrays = xray_bayes.draw_population("default", 3000)
    return table, xrays, make_grid(EVIDENCE["default"])


def tables(out: Path) -> dict[str, pd.DataFrame]:
    return {
        name: pd.read_csv(out / "cxr" / f"mimic-cxr-2.0.0-{name}.csv.gz", dtype={"StudyDate": str, "StudyTime": str})
        for name in ("metadata", "chexpert", "split")
    }


# ---- files --------------------------------------------------------------------------------------------------------


def opencv_threads(_: int) -> int:
    """Blur a picture that is large enough for several threads, and return their number."""
    cv2.GaussianBlur(np.zeros((1000, 1000), np.float32), (0, 0), 5)
    return cv2.getNumThreads()


def test_workers_do_not_wait_for_threads_of_opencv_that_they_lack() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        opencv_threads(0)  # starts the threads of this process
        with drawing_processes(1) as pool:
            try:
                assert pool.submit(opencv_threads, 0).result(timeout=60) == 1
            except TimeoutError:
                for process in pool._processes.values():
                    process.kill()
                raise
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_x_rays_change_no_other_file(out: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path, PATIENTS, 3, workers=1, **OPTIONS)
    without, with_xrays = digests(tmp_path), digests(out)
    assert {name for name, digest in without.items() if with_xrays[name] != digest} == {"synth.json"}
    added = {Path(name).parts[0] for name in set(with_xrays) - set(without)}
    assert added == {"cxr", "truth", "xray_bayes.json"}
    assert "xray" not in json.loads((tmp_path / "synth.json").read_text())


def test_the_state_is_drawn_as_before_x_rays_existed() -> None:
    """Values of commit 29dc405, which had no X-rays: the cohorts of earlier versions stay the same."""
    table = draw(np.random.default_rng(1), 3, EVIDENCE["default"])
    assert np.allclose(table.values[0, :4], PINNED, atol=1e-6)
    label, _, _ = draw_state(np.random.default_rng(1), 3, EVIDENCE["default"])
    assert (label == table.label).all()


def test_files_and_tables_have_the_layout_of_mimic_cxr_jpg(out: Path) -> None:
    parts = tables(out)
    metadata, splits = parts["metadata"], pd.read_parquet(out / "cohort.parquet").set_index("patient_id").split
    assert list(parts["chexpert"].columns) == ["subject_id", "study_id", *CHEXPERT_NAMES]
    assert set(metadata.ViewPosition) <= {"PA", "AP", "LATERAL", "LL"} and metadata.dicom_id.is_unique
    for row in metadata.itertuples():
        assert re.fullmatch(r"([0-9a-f]{8}-){4}[0-9a-f]{8}", row.dicom_id)
        subject = str(row.subject_id)
        directory = out / "cxr" / "files" / f"p{subject[:2]}" / f"p{subject}"
        image = Image.open(directory / f"s{row.study_id}" / f"{row.dicom_id}.jpg")
        assert image.mode == "L" and (image.height, image.width) == (row.Rows, row.Columns)
        assert (directory / f"s{row.study_id}.txt").is_file()
        assert re.fullmatch(r"2\d{7}", row.StudyDate) and re.fullmatch(r"\d{6}\.\d{3}", row.StudyTime)
    assert len(list((out / "cxr").rglob("*.jpg"))) == len(metadata) == len(parts["split"])
    assert set(parts["chexpert"].study_id) == set(metadata.study_id)
    names = {"validate": "validation"}
    for row in parts["split"].itertuples():
        assert names.get(row.split, row.split) == splits[str(row.subject_id)]


def test_some_studies_have_a_lateral_picture_some_patients_an_earlier_study_or_none() -> None:
    studies = [xray_files.xray_studies(SETTINGS, i, patient_identity(SETTINGS, i)) for i in range(300)]
    assert 0.02 < np.mean([not per_patient for per_patient in studies]) < 0.16
    assert 0.05 < np.mean([len(per_patient) == 2 for per_patient in studies]) < 0.25
    assert 0.2 < np.mean([len(s[0].pictures) == 2 for s in studies if s]) < 0.55
    for index, per_patient in enumerate(studies):
        ecg_time = patient_identity(SETTINGS, index).ecg_time
        for study in per_patient:
            days = abs((study.when - ecg_time).total_seconds()) / 86400
            assert days < 1 if study.number == 0 else days >= 70
    numbers = [study.study_id for per_patient in studies for study in per_patient]
    assert len(set(numbers)) == len(numbers)


def test_bytes_do_not_depend_on_the_workers_and_a_lost_file_comes_back(out: Path, tmp_path: Path) -> None:
    few = 4
    write_cohort(tmp_path, few, 3, workers=2, xray=True, **OPTIONS)
    raw = {name: digest for name, digest in digests(tmp_path).items() if "/files/" in name}
    assert raw.items() <= digests(out).items()
    next(tmp_path.rglob("*.jpg")).unlink()
    next(tmp_path.rglob("*.txt")).unlink()
    write_cohort(tmp_path, few, 3, workers=1, xray=True, **OPTIONS)
    assert raw.items() <= digests(tmp_path).items()


def test_labs_only_and_x_rays_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="xray"):
        write_cohort(tmp_path, 2, 3, workers=1, labs_only=True, xray=True)


def test_a_damaged_picture_is_refused_and_all_others_are_read(out: Path, tmp_path: Path) -> None:
    damaged = xray_files.CORRUPT_FIRST
    rows = xray_files.write_patient_xrays((tmp_path, SETTINGS, damaged))
    assert rows.truth[0]["anomaly"] == "corrupt_xray"
    (path,) = tmp_path.rglob(f"{rows.truth[0]['dicom_id']}.jpg")
    processor = MoreImageProcessor()
    with pytest.raises(InputRefusedError):
        processor.prepare(path)
    for picture in (out / "cxr").rglob("*.jpg"):
        assert np.isfinite(processor.prepare(picture).values).all()


# ---- what is shown ------------------------------------------------------------------------------------------------


def prepared(shown: Shown, source: np.random.Generator, is_ap: bool, is_female: bool) -> np.ndarray:
    """The picture as MoRE sees it, centred: (224 * 224,)."""
    pixels = MoreImageProcessor().equalise(render_xray(shown, source, is_ap, is_female, (256, 256)), False)
    return pixels.ravel() / 255 - pixels.mean() / 255


def test_cardiomegaly_can_be_read_on_new_patients_and_not_without_it() -> None:
    """A template of other pictures separates the labels; the same pictures without findings tell nothing."""
    template = np.zeros(224 * 224)
    for k in range(12):
        shown = Shown(ratio=0.58 if k % 2 else 0.44)
        template += (1 if k % 2 else -1) * prepared(shown, np.random.default_rng(k // 2), k // 2 % 2 == 0, k % 6 < 2)
    scores, controls, labels = [], [], []
    for index in range(34):
        table = draw_patient_xray(9, index, "default")
        label = labels_of(table)["Cardiomegaly"]
        if label not in (0, 1):
            continue
        nuisance = bool(table.is_ap[0]), patient_labs(SETTINGS, index).gender == "F"
        scores.append(template @ prepared(shown_of(table), stream(9, index, 50), *nuisance))
        controls.append(template @ prepared(Shown(), stream(9, index, 50), *nuisance))
        labels.append(label)
    assert auc(np.array(scores), np.array(labels)) > 0.68
    assert abs(auc(np.array(controls), np.array(labels)) - 0.5) < 0.25


@pytest.mark.parametrize("finding", sorted(set(FINDING_OF_REGION.values())))
def test_a_finding_changes_the_picture_in_its_region(finding: str) -> None:
    index = next(
        i
        for i in range(300)
        if any(r.finding == finding and r.is_drawn for r in (xray_regions(SETTINGS, i) if has(finding, i) else []))
    )
    regions = [r for r in xray_regions(SETTINGS, index) if r.finding == finding]
    masks = region_masks(SETTINGS, index)
    inside = np.logical_or.reduce([masks[r.name] for r in regions])
    change = xray_evidence(SETTINGS, index, finding)
    assert change.shape == inside.shape and change.max() > 0
    nearby = np.zeros_like(inside)
    for region in regions:
        x0, y0, x1, y1 = region.box
        assert 0 <= x0 < x1 <= inside.shape[1] and 0 <= y0 < y1 <= inside.shape[0]
        assert masks[region.name][y0:y1, x0:x1].sum() == masks[region.name].sum()
        nearby[max(y0 - 30, 0) : y1 + 30, max(x0 - 30, 0) : x1 + 30] = True
    assert change[nearby].sum() > 0.75 * change.sum()
    assert change[inside].mean() > 3 * change[~nearby].mean()


def has(finding: str, index: int) -> bool:
    """Whether the numbers of a patient show a finding clearly, without drawing anything."""
    shown = shown_of(draw_patient_xray(3, index, "default"))
    return {
        "Cardiomegaly": shown.ratio > 0.55,
        "Edema": shown.congestion > 0.6,
        "Pleural Effusion": max(shown.effusions) > 0.25,
        "Atelectasis": shown.atelectasis > 0.8,
        "Support Devices": shown.has_device,
    }[finding]


def test_nuisance_does_not_depend_on_what_is_shown() -> None:
    """Above the lungs, two pictures of one patient with other findings differ by the tone of the film only."""
    plain, other = (
        render_xray(shown, np.random.default_rng(4), True, False)
        for shown in (Shown(), Shown(ratio=0.6, congestion=0.9, effusions=(0.3, 0.3), atelectasis=1.0))
    )
    corner = (slice(60, 150), slice(0, 40))
    assert np.corrcoef(plain[corner].ravel(), other[corner].ravel())[0, 1] > 0.95


# ---- reports and labels -------------------------------------------------------------------------------------------

DOUBT = r"possible|may |cannot be excluded|[Qq]uestionable|possibly"
WORDS = {
    "Cardiomegaly": (r"cardiomegaly|enlarge", r"Heart size is normal|not enlarged|within normal limits"),
    "Edema": (r"edema|congestion", r"no pulmonary edema|No pulmonary vascular|without edema"),
    "Pleural Effusion": (r"effusion", r"[Nn]o pleural effusion"),
    "Atelectasis": (r"[Aa]telectasis", r"[Nn]o atelectasis"),
    "Support Devices": (r"pacemaker", r"no pacemaker"),
}


def read_label(text: str, finding: str) -> int | None:
    """Read a label from the words of FINDINGS, sentence by sentence."""
    present, absent = WORDS[finding]
    values = []
    for sentence in re.split(r"(?<=\.)\s+", " ".join(text.split())):
        if re.search(absent, sentence):
            values.append(0)
        elif re.search(present, sentence):
            values.append(-1 if re.search(DOUBT, sentence) and "on the" not in sentence else 1)
    return next((value for value in (1, -1, 0) if value in values), None)


def test_the_words_of_a_report_say_what_its_labels_say() -> None:
    label, x, rhythm = draw_state(np.random.default_rng(0), 400, EVIDENCE["default"])
    xrays = draw_xray(np.random.default_rng(1), x, rhythm)
    values = {finding: set() for finding in WORDS}
    for row in range(len(label)):
        text, labels = write_report(xrays, np.random.default_rng(row), "CHEST (AP)", row)
        assert "heart failure" not in text.lower() and set(labels) == set(CHEXPERT_NAMES)
        findings = text.split("FINDINGS:")[1].split("IMPRESSION:")[0]
        for finding in WORDS:
            assert read_label(findings, finding) == labels[finding], (finding, findings)
            values[finding].add(labels[finding])
        stated = {name: value for name, value in labels.items() if name not in ("Support Devices", "No Finding")}
        assert (labels["No Finding"] == 1) == (not {1, -1} & set(stated.values()))
        assert not re.search(r"\d{1,2}:\d\d", text)
    assert all(values[finding] == {1, 0, -1, None} for finding in WORDS if finding != "Support Devices")
    assert values["Support Devices"] == {1, None}


def test_labels_in_the_table_are_those_of_the_report(out: Path) -> None:
    labels = tables(out)["chexpert"].set_index("study_id")
    for path in (out / "cxr" / "files").rglob("*.txt"):
        findings = path.read_text().split("FINDINGS:")[1].split("IMPRESSION:")[0]
        stored = labels.loc[int(path.stem[1:]), "Pleural Effusion"]
        assert read_label(findings, "Pleural Effusion") == (None if np.isnan(stored) else int(stored))


def test_x_rays_of_one_patient_follow_the_patients_own_state() -> None:
    """Hearts are larger and congestion is stronger in patients with heart failure."""
    label = np.array([draw_intended(5, i).label[0] for i in range(400)])
    xrays = stack_xrays([draw_patient_xray(5, i, "default") for i in range(400)])
    for name in ("heart_size", "congestion", "effusion_left"):
        assert auc(xrays.value(name), label) > 0.62
    assert abs(auc(xrays.value("atelectasis"), label) - 0.5) < 0.09
    assert abs(auc(xrays.is_ap.astype(float), label) - 0.5) < 0.09


# ---- the optimum --------------------------------------------------------------------------------------------------


def calibrated(chance: np.ndarray, event: np.ndarray) -> bool:
    """Whether events are as frequent as their chances say, in five bins."""
    for part in np.array_split(np.argsort(chance), 5):
        if abs(chance[part].mean() - event[part].mean()) > 4 * np.sqrt(0.25 / len(part)):
            return False
    return True


def test_the_posterior_of_heart_failure_is_calibrated(population: tuple) -> None:
    table, xrays, grid = population
    inputs = xray_bayes.input_factors(table, grid)
    for parts in ([xray_bayes.xray_factors(xrays, grid)], [xray_bayes.xray_factors(xrays, grid), inputs["ecg"]]):
        assert calibrated(xray_bayes.posterior(grid, parts), table.label)
    assert calibrated(xray_bayes.posterior(grid, [xray_bayes.report_factors(xrays, grid)]), table.label)


@pytest.mark.parametrize("source", ["xray", "ecg"])
def test_the_best_scores_of_findings_are_calibrated(population: tuple, source: str) -> None:
    """Odds of 1 against 0: a denied finding is written in a share of the reports only."""
    table, xrays, grid = population
    ecg = xray_bayes.input_factors(table, grid)["ecg"]
    scores = xray_bayes.scores_from_xrays(xrays) if source == "xray" else xray_bayes.scores_from_ecgs(grid, ecg)
    shares = {reading.parameter: reading.mentioned for reading in READINGS}
    denied = {
        "Cardiomegaly": shares["heart_size"],
        "Edema": shares["congestion"],
        "Pleural Effusion": shares["effusion_left"],
        "Atelectasis": shares["atelectasis"],
    }
    labels = [labels_of(xrays, row) for row in range(len(xrays))]
    for name, score in scores.items():
        empty = 0.0 if name in xray_bayes.BLANK_IS_ABSENT else np.nan
        column = np.array([empty if row[name] is None else row[name] for row in labels], dtype=float)
        rows = np.isin(column, (0, 1))
        chance = 1 / (1 + denied.get(name, 1.0) * np.exp(-np.clip(score[rows], -500, 500)))
        assert calibrated(chance, column[rows]), name


def test_associations_average_to_one(population: tuple) -> None:
    """The mean of P(a, b) / P(a) P(b) over patients a is 1 for every b."""
    table, xrays, grid = population
    few = np.arange(20)
    ecg = xray_bayes.input_factors(table.take(few), grid)["ecg"]
    for factors in (xray_bayes.xray_factors(xrays, grid), xray_bayes.report_factors(xrays, grid)):
        ratio = np.exp(xray_bayes.association_with_ecgs(grid, factors, ecg))
        error = ratio.std(axis=0) / np.sqrt(len(ratio))
        assert (np.abs(ratio.mean(axis=0) - 1) < 5 * error + 0.01).all()


def test_the_optimum_has_the_expected_order(population: tuple) -> None:
    table, xrays, _ = population
    figures = xray_bayes.figures(table, xrays, "default")
    for name, by_input in figures["findings"].items():
        assert by_input["xray"]["auroc"] > max(by_input["ecg"]["auroc"], 0.8), name
    assert figures["findings"]["Cardiomegaly"]["ecg"]["auroc"] > 0.58
    diagnosis = {name: value["auc"] for name, value in figures["hf_diagnosis"].items()}
    assert 0.77 < diagnosis["xray"] < 0.87 and diagnosis["ecg+xray"] > diagnosis["xray"] + 0.03
    assert diagnosis["labs+ecg+echo+xray"] > diagnosis["ecg+xray"]
    retrieval = figures["retrieval"]
    assert set(retrieval) == {f"{a}->{b}" for a in NAMES for b in NAMES if a != b}
    assert all(direction["median_rank"] < 0.42 * direction["n"] for direction in retrieval.values())


def test_the_optimum_counts_the_test_patients_with_an_x_ray(out: Path) -> None:
    content = json.loads((out / "xray_bayes.json").read_text())
    truth = pd.read_parquet(out / "truth" / "xray.parquet")
    rows = truth[(truth.split == "test") & truth.is_index_study]
    assert content["hf_diagnosis"]["xray"]["n"] == len(rows) > 0
    assert content["population"]["hf_diagnosis"]["xray"]["n"] == xray_bayes.POPULATION
    assert ((truth["posterior.xray"] > 0) & (truth["posterior.xray"] < 1)).all()
    regions = pd.read_parquet(out / "truth" / "xray_regions.parquet")
    assert set(regions.dicom_id) == set(truth.dicom_id) and set(regions.region) <= set(FINDING_OF_REGION)
    with_device = set(regions.dicom_id[regions.region == "device"])
    assert with_device == set(truth.dicom_id[truth.has_device])
