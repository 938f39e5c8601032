"""`tgmm synth`: write a whole synthetic cohort: draw -> split -> render in parallel -> tables -> references."""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from tgmm_hf.cohorts.synthetic.bayes import Reference, figures, population_figures, references
from tgmm_hf.cohorts.synthetic.evidence import (
    EVIDENCE,
    Evidence,
    anomaly_of,
    draw_intended,
    draw_patient,
    hide_modality,
    mask_echo_parameters,
    stack,
    stream,
)
from tgmm_hf.cohorts.synthetic.hospital import (
    Identity,
    identity,
    open_tables,
    write_dictionaries,
    write_ecg_lists,
    write_patient,
)
from tgmm_hf.cohorts.synthetic.layout import dicom_bytes, ecg_record_path, echo_dataset, echo_file_path, write_ecg
from tgmm_hf.cohorts.synthetic.render_ecg import RATE, SECONDS, render_ecg
from tgmm_hf.cohorts.synthetic.render_echo import Clip, render_clip
from tgmm_hf.cohorts.synthetic.render_labs import LabsRow, render_labs
from tgmm_hf.utils.child_process import end_with_parent
from tgmm_hf.utils.files import whole_file
from tgmm_hf.utils.names import VIEWS

IDENTITY, LABS, ECG, STAYS, ECHO = 1, 2, 3, 4, 10
"""Numbers of the nuisance streams of a patient; a view's clip uses ECHO + its index. Stream 0 is the state."""

SPLITS = ("train", "validation", "test")
SPLIT_SHARES = (5, 1, 1)
SETTINGS_FILE = "synth.json"
WRITTEN = ("hosp", "ecg", "echo", "cohort.parquet", "truth.parquet", "views.csv", "bayes.json")
MIN_HEIGHT = 96
"""Below this the text outside the sector survives EchoPrime's sector mask, which erodes by ten pixels."""
CORRUPT_BYTES = 1500
"""Where the corrupt DICOM is cut off: inside its first frame."""


@dataclass(frozen=True)
class Settings:
    """What a patient's files and split depend on besides its index."""

    seed: int
    evidence: str
    frames: int
    height: int
    width: int
    all_test: bool = False
    version: int = 2
    labs_only: bool = False


def write_cohort(
    out: str | Path,
    patients: int = 1524,
    seed: int = 0,
    evidence: str = "default",
    *,
    workers: int = 2,
    frames: int = 32,
    height: int = 240,
    width: int = 320,
    all_test: bool = False,
    labs_only: bool = False,
) -> Path:
    """Write a synthetic tri-modal cohort in MIMIC's file layouts, with its Bayes-optimal references.

    Leaves `hosp/*.csv.gz`, `ecg/`, `echo/`, `cohort.parquet` (the manifest), `views.csv`, `truth.parquet`,
    `bayes.json` and `synth.json` in `out`. The bytes depend on the arguments but not on `workers`; the raw files of
    patient i depend on (seed, i, evidence, frames, height, width) alone. A second run skips patients whose files are
    there.

    Args:
        out: directory, made when absent.
        patients: number of patients (one admission each), at least 1.
        seed: the only source of randomness.
        evidence: "default" (near the paper's table 2) or "strong" (tri-modal Bayes AUC >= 0.98, for demonstrations).
        workers: processes that render.
        frames, height, width: size of the echo clips; 32 x 240 x 320 resembles MIMIC-IV-ECHO, smaller is faster.
        all_test: put every patient into the test split instead of splitting 5:1:1.
        labs_only: nobody has an ECG or an echo, so that nothing is rendered: thousands of texts within seconds, to
            pre-train a text encoder on.

    Returns:
        Path of `cohort.parquet`.

    Raises:
        FileExistsError: `out` holds files of these names that `tgmm synth` did not write.
        ValueError: an argument is out of range, or `out` holds a cohort made with other settings.
    """
    settings = Settings(seed, evidence, frames, height, width, all_test, labs_only=labs_only)
    check(settings, patients, workers)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    claim(out, settings)
    table = stack([draw_patient(seed, i, evidence) for i in range(patients)])
    splits = ["test"] * patients if all_test else split_patients(table.label, seed)
    if labs_only:
        hide_modality(table, "ecg")
        table.views[:] = False
        mask_echo_parameters(table)
    else:
        render_all(out, settings, patients, workers)
    write_tables(out, settings, table)
    reference = references(table, evidence)
    write_truth(out, settings, table, reference, splits)
    write_bayes(out, settings, table, reference, splits)
    write_manifest(out, settings, table, splits)  # last: its presence says that the cohort is complete
    return out / "cohort.parquet"


def check(settings: Settings, patients: int, workers: int) -> None:
    """Refuse arguments that cannot work."""
    if settings.evidence not in EVIDENCE:
        raise ValueError(f"evidence is {settings.evidence!r}, known are {sorted(EVIDENCE)}")
    if patients < 1 or workers < 1:
        raise ValueError(f"patients ({patients}) and workers ({workers}) must be at least 1")
    if settings.seed < 0:
        raise ValueError(f"seed is {settings.seed}, must be 0 or more")
    if settings.frames < 2 or settings.height < MIN_HEIGHT or settings.width < settings.height or settings.width % 2:
        raise ValueError(
            f"clips of {settings.frames} frames, {settings.height} x {settings.width} (height x width) cannot be "
            f"drawn: at least 2 frames, height at least {MIN_HEIGHT}, width even and no smaller than the height"
        )


def claim(out: Path, settings: Settings) -> None:
    """Write the settings file, or compare with the one there."""
    path, wanted = out / SETTINGS_FILE, asdict(settings)
    if path.exists():
        found = {"labs_only": False} | json.loads(path.read_text())  # cohorts of version 0.1.0 do not say
        if found != wanted:
            raise ValueError(
                f"{out} holds a cohort made with {found}, asked for {wanted}: choose another directory or delete it"
            )
        return
    if foreign := [name for name in WRITTEN if (out / name).exists()]:
        raise FileExistsError(
            f"{out} has no {SETTINGS_FILE} but holds {', '.join(foreign)}, which `tgmm synth` would write over. These "
            "may be real patients' files. Name a new directory."
        )
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(wanted, indent=1) + "\n")


def split_patients(label: np.ndarray, seed: int) -> list[str]:
    """5:1:1 by patient, the same share of each label everywhere as far as counts allow.

    The patients of a label are dealt out in their order, seven at a time: more patients move nobody to another split.
    The two labels deal the same sevens from opposite ends, so that seven patients already fill all splits.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2**31,)))
    pattern = np.repeat(np.arange(len(SPLITS)), SPLIT_SHARES)
    sevens = np.stack([rng.permutation(pattern) for _ in range(0, max(len(label), 1), len(pattern))])
    out = np.empty(len(label), dtype=int)
    for y, deal in ((0, sevens), (1, sevens[:, ::-1])):
        rows = np.flatnonzero(label == y)
        out[rows] = deal.ravel()[: len(rows)]
    return [SPLITS[k] for k in out]


def patient_identity(settings: Settings, index: int) -> Identity:
    """Identifiers and dates of patient `index`."""
    return identity(settings.seed, index, stream(settings.seed, index, IDENTITY))


def patient_labs(settings: Settings, index: int) -> LabsRow:
    """Labs row of patient `index`."""
    table = draw_intended(settings.seed, index, settings.evidence)
    return render_labs(table, stream(settings.seed, index, LABS))


def render_all(out: Path, settings: Settings, patients: int, workers: int) -> None:
    """Render the files of every patient, `workers` at a time."""
    jobs = ((out, settings, index) for index in range(patients))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(workers, initializer=end_with_parent) as pool:
        chunk = max(1, min(8, patients // workers))
        for _ in tqdm(pool.map(render_patient, jobs, chunksize=chunk), total=patients, desc="synth", unit="patient"):
            pass


def render_patient(job: tuple[Path, Settings, int]) -> None:
    """Write the ECG record and the echo clips of one patient; what is there already stays."""
    render_ecg_file(*job)
    render_echo_files(*job)


def render_ecg_file(out: Path, settings: Settings, index: int) -> None:
    """Write the ECG record of one patient unless it is there."""
    who = patient_identity(settings, index)
    record = out / "ecg" / ecg_record_path(who.subject, who.ecg_study)
    if record.with_suffix(".hea").exists():  # written last
        return
    table = draw_intended(settings.seed, index, settings.evidence)
    signal = render_ecg(table, stream(settings.seed, index, ECG))
    write_ecg(record, with_anomaly(signal, anomaly_of(index)), who.subject, who.ecg_time)


def render_echo_files(out: Path, settings: Settings, index: int) -> None:
    """Write the echo clips of one patient that are not there yet; the first one may be the anomalous file."""
    who = patient_identity(settings, index)
    table = draw_intended(settings.seed, index, settings.evidence)
    for number, (path, view) in enumerate(echo_files(settings, index, who), start=1):
        target = out / "echo" / path
        if target.exists():
            continue
        rng = stream(settings.seed, index, ECHO + VIEWS.index(view))
        clip = render_clip(table, view, rng, settings.frames, settings.height, settings.width)
        anomaly = anomaly_of(index) if number == 1 else None
        content = echo_bytes(still(clip) if anomaly == "still_echo" else clip, who, number)
        with whole_file(target) as temporary:
            temporary.write_bytes(content[:CORRUPT_BYTES] if anomaly == "corrupt_echo" else content)


def with_anomaly(signal: np.ndarray, anomaly: str | None) -> np.ndarray:
    """The signal (samples, 12), flat or cut to five seconds for an anomalous record."""
    if anomaly == "flat_ecg":
        return np.zeros_like(signal)
    return signal[: RATE * SECONDS // 2] if anomaly == "short_ecg" else signal


def still(clip: Clip) -> Clip:
    """The first frame only."""
    return Clip(clip.luma[:1], clip.blue[:1], clip.red[:1], clip.frame_time, clip.heart_rate)


def echo_bytes(clip: Clip, who: Identity, number: int) -> bytes:
    """A clip as the bytes of a DICOM file."""
    return dicom_bytes(echo_dataset(clip, who.subject, who.echo_study, number, who.echo_time))


def echo_files(settings: Settings, index: int, who: Identity) -> list[tuple[str, str]]:
    """(path below `echo/`, view) of every clip of patient `index`, anomalous ones included."""
    table = draw_intended(settings.seed, index, settings.evidence)
    present = [view for view, there in zip(VIEWS, table.views[0], strict=True) if there]
    return [(echo_file_path(who.subject, who.echo_study, n), view) for n, view in enumerate(present, start=1)]


def write_tables(out: Path, settings: Settings, table: Evidence) -> None:
    """Hospital tables, ECG and echo lists, views.csv; streamed patient by patient."""
    with open_tables(out) as tables:
        write_dictionaries(tables)
        for index in range(len(table)):
            who, labs = patient_identity(settings, index), patient_labs(settings, index)
            rng = stream(settings.seed, index, STAYS)
            write_patient(tables, who, table.take(np.array([index])), labs, rng)
            if settings.labs_only:
                continue
            write_ecg_lists(tables, who)
            when = who.echo_time.isoformat(" ", "seconds")
            study = {"subject_id": who.subject, "study_id": who.echo_study}
            tables["echo/echo-study-list.csv"].add(**study, study_datetime=when)
            for path, view in echo_files(settings, index, who):
                tables["echo/echo-record-list.csv"].add(**study, acquisition_datetime=when, dicom_filepath=path)
                tables["views.csv"].add(dicom_filepath=path, view=view)


def write_manifest(out: Path, settings: Settings, table: Evidence, splits: list[str]) -> None:
    """cohort.parquet: one row per admission, the table that `prepare` reads."""
    rows = []
    for index, split in enumerate(splits):
        who, labs = patient_identity(settings, index), patient_labs(settings, index)
        followed = bool(table.followed[index])
        rows.append(
            {
                "id": str(who.hadm),
                "patient_id": str(who.subject),
                "split": split,
                **{f"labs.{name}": value for name, value in labs.cells().items()},
                **({} if settings.labs_only else file_columns(settings, index, who)),
                "label.hf_diagnosis": int(table.label[index]),
                "time.hf_risk": float(table.time[index]) if followed else None,
                "event.hf_risk": int(table.event[index]) if followed else None,
            }
        )
    write_parquet(out / "cohort.parquet", rows)


def file_columns(settings: Settings, index: int, who: Identity) -> dict[str, object]:
    """The manifest's columns of one patient's files."""
    files = echo_files(settings, index, who)
    return {
        "ecg_path": "ecg/" + ecg_record_path(who.subject, who.ecg_study),
        "echo_paths": [f"echo/{path}" for path, _ in files],
        "echo_views": [view for _, view in files],
    }


def write_truth(out: Path, settings: Settings, table: Evidence, reference: Reference, splits: list[str]) -> None:
    """truth.parquet: anomaly, posteriors and oracle risks per id (null where the subset is not readable)."""
    rows = []
    for index, split in enumerate(splits):
        row: dict[str, object] = {
            "id": str(patient_identity(settings, index).hadm),
            "split": split,
            "anomaly": anomaly_of(index),
            "views": [view for view, there in zip(VIEWS, table.views[index], strict=True) if there],
        }
        for prefix, scores in (("posterior", reference.posterior), ("risk", reference.risk)):
            for name, values in scores.items():
                row[f"{prefix}.{name}"] = float(values[index]) if reference.defined[name][index] else None
        rows.append(row)
    write_parquet(out / "truth.parquet", rows)


def write_parquet(path: Path, rows: list[dict]) -> None:
    """A Parquet table of `rows`, columns in the order of the first; a column of nulls only is stored as float."""
    columns = {}
    for name in rows[0]:
        column = pa.array([row[name] for row in rows])
        columns[name] = column.cast(pa.float64()) if pa.types.is_null(column.type) else column
    with whole_file(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def write_bayes(out: Path, settings: Settings, table: Evidence, reference: Reference, splits: list[str]) -> None:
    """bayes.json: the optimum on this cohort's test patients, and on a large sample ("population")."""
    rows = np.flatnonzero(np.array(splits) == "test")
    on_test = Reference(*({name: values[rows] for name, values in part.items()} for part in vars(reference).values()))
    content = {
        "evidence": settings.evidence,
        "seed": settings.seed,
        "patients": len(table),
        "note": "synthetic evidence: no clinical meaning; figures beside n are on the test split of this cohort",
        **(figures(table.take(rows), settings.evidence, on_test) if len(rows) else {}),
        "population": population_figures(settings.evidence),
    }
    with whole_file(out / "bayes.json") as temporary:
        temporary.write_text(json.dumps(finite(content), indent=1) + "\n")


def finite(value: object) -> object:
    """The same structure with NaN (an undefined figure) as None, which JSON can hold."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value
