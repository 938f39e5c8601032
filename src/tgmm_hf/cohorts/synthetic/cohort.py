"""`tgmm synth`: write a synthetic cohort: draw, split, render in parallel, write the tables, compute the optimum."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from tgmm_hf.cohorts.synthetic import measures as measured
from tgmm_hf.cohorts.synthetic.bayes import Reference, figures, population_figures, references
from tgmm_hf.cohorts.synthetic.centres import CENTRES
from tgmm_hf.cohorts.synthetic.devices import ECHO_DEVICE, EchoDevice
from tgmm_hf.cohorts.synthetic.ecg_truth import Measurements, measure
from tgmm_hf.cohorts.synthetic.evidence import (
    ECG_ANOMALIES,
    EVIDENCE,
    Evidence,
    anomaly_of,
    hide_modality,
    mask_echo_parameters,
    stack,
)
from tgmm_hf.cohorts.synthetic.hospital import (
    Identity,
    open_tables,
    write_dictionaries,
    write_ecg_lists,
    write_patient,
)
from tgmm_hf.cohorts.synthetic.layout import (
    dicom_bytes,
    ecg_path,
    echo_dataset,
    echo_file_path,
    finite,
    write_ecg,
)
from tgmm_hf.cohorts.synthetic.measures import Outcomes, draw_patient_outcomes, optimal_answers
from tgmm_hf.cohorts.synthetic.patients import (
    ECG,
    ECHO,
    SETTINGS_FILE,
    STAYS,
    VARIATION,
    Settings,
    patient_identity,
    patient_labs,
)
from tgmm_hf.cohorts.synthetic.render_ecg import PLAIN, Variation, draw_ecg, draw_variation, render_ecg
from tgmm_hf.cohorts.synthetic.render_echo import Clip, render_clip
from tgmm_hf.cohorts.synthetic.worker_processes import drawing_processes
from tgmm_hf.cohorts.synthetic.xray_files import XRAY_NAMES, write_xrays
from tgmm_hf.data.manifest import SPLITS
from tgmm_hf.data.table_files import declare_units_of_table
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json, remove_unfinished, whole_file, write_json
from tgmm_hf.utils.names import VIEWS
from tgmm_hf.utils.output_lock import one_run_at_a_time

SPLIT_SHARES = (5, 1, 1)
WRITTEN_NAMES = ("hosp", "ecg", "echo", "cohort.parquet", "truth.parquet", "views.csv", "bayes.json", *XRAY_NAMES)
MIN_HEIGHT = 96
"""Below this height, text outside the sector survives the sector mask of EchoPrime, which erodes by ten pixels."""
CORRUPT_BYTES = 1500
"""Length of the corrupt DICOM file. It ends inside the first frame."""


@one_run_at_a_time("out")
def write_cohort(  # noqa: PLR0913 - one argument per option of the command
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
    no_echo: bool = False,
    varied_ecg: bool = False,
    xray: bool = False,
    measures: bool = False,
    centre: str = "",
) -> Path:
    """Write a synthetic tri-modal cohort in the file layouts of MIMIC, with its optimum.

    `out` then holds `hosp/*.csv.gz`, `ecg/`, `echo/`, `cohort.parquet` (the cohort table), `views.csv`,
    `truth.parquet`, `bayes.json` and `synth.json`. The bytes depend on the arguments but not on `workers`. The raw
    files of patient i depend on (seed, i, evidence, frames, height, width) only. A second run skips files that exist.

    Args:
        out: Directory of the result.
        patients: Number of patients (one admission each), at least 1.
        seed: The only source of randomness.
        evidence: "default" (near the paper's table 2), "strong" (tri-modal optimum AUC >= 0.98, for demonstrations), or
            "interacting", "sign", "xor" (modalities change each other's meaning, see `interactions.py`).
        workers: Number of worker processes.
        frames: Frames per echo clip.
        height: Height of the clips. 32 x 240 x 320 resembles MIMIC-IV-ECHO, smaller is faster.
        width: Width of the clips.
        all_test: Put every patient into the test split instead of splitting 5:1:1.
        labs_only: Give no patient an ECG or an echo. Nothing is rendered, so thousands of laboratory texts to pre-train
            a text encoder take seconds.
        no_echo: Give no patient an echo. Thousands of ECGs with their reports then take minutes.
        varied_ecg: Draw rate, PR interval, QRS axis, voltage and ST segment from wide ranges, so that reports have more
            to say. They are independent of the state. The optimum was tried on ECGs without this variation only.
        xray: Write chest X-rays with reports in the layout of MIMIC-CXR-JPG too. All other files keep their bytes.
        measures: Give the patients an ejection fraction and several findings (`measures.py`): further columns of the
            tables and figures in bayes.json. Everything else keeps its values.
        centre: Name of a centre (`centres.py`), whose devices, laboratory and patients the cohort has. "": none, the
            files of earlier versions.

    Returns:
        Path of `cohort.parquet`.

    Raises:
        FileExistsError: If `out` holds files of these names that `tgmm synth` did not write.
        TgmmError: If an argument is out of range, another run writes `out`, or `out` holds a cohort made with other
            settings.
    """
    settings = Settings(
        *(seed, evidence, frames, height, width, all_test),
        labs_only=labs_only,
        no_echo=no_echo,
        varied_ecg=varied_ecg,
        xray=xray,
        measures=measures,
        centre=centre,
    )
    check_settings(settings, patients, workers)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    claim_cohort(out, settings)
    remove_unfinished(out)
    table = stack([settings.patient(i) for i in range(patients)])
    splits = ["test"] * patients if all_test else split_patients(table.label, seed)
    if labs_only:
        hide_modality(table, "ecg")
    if labs_only or no_echo:
        table.views[:] = False
        mask_echo_parameters(table)
    measured = [None] * patients if labs_only else render_all(out, settings, patients, workers)
    write_tables(out, settings, table, measured)
    reference = references(table, settings.strength)
    write_truth(out, settings, table, reference, splits)
    write_optimum(out, settings, table, reference, splits)
    if xray:
        write_xrays(out, settings, table, splits, workers)
    write_cohort_table(out, settings, table, splits)  # last, because it vouches for the cohort
    return out / "cohort.parquet"


def check_settings(settings: Settings, patients: int, workers: int) -> None:
    """Raise a TgmmError if a setting, or the number of patients or workers, is out of range."""
    if settings.evidence not in EVIDENCE:
        raise TgmmError("evidence", f"evidence is {settings.evidence!r}, known are {sorted(EVIDENCE)}.")
    if patients < 1 or workers < 1:
        raise TgmmError("settings", f"patients ({patients}) and workers ({workers}) must be at least 1.")
    if settings.labs_only and (settings.no_echo or settings.varied_ecg or settings.xray):
        raise TgmmError(
            "settings", "labs_only leaves out all files; leave out no_echo, varied_ecg and xray, or labs_only."
        )
    if (settings.xray or settings.measures) and EVIDENCE[settings.evidence].interactions is not None:
        raise TgmmError(
            "settings",
            f"evidence {settings.evidence} has neither X-rays nor measures, because their optimum is known for "
            "additive evidence only. Leave out xray and measures, or take evidence default or strong.",
        )
    if settings.centre not in ("", *CENTRES):
        raise TgmmError("centre", f"centre is {settings.centre!r}, known are {', '.join(CENTRES)}.")
    if settings.xray and settings.centre:
        raise TgmmError("settings", "a centre has no X-ray device and no optimum of X-rays. Leave out xray or centre.")
    if settings.seed < 0:
        raise TgmmError("settings", f"seed is {settings.seed}, must be 0 or more.")
    if settings.frames < 2 or settings.height < MIN_HEIGHT or settings.width < settings.height or settings.width % 2:
        raise TgmmError(
            "settings",
            f"clips of {settings.frames} frames, {settings.height} x {settings.width} (height x width) cannot be "
            f"drawn: at least 2 frames, height at least {MIN_HEIGHT}, width even and no smaller than the height.",
        )


def claim_cohort(out: Path, settings: Settings) -> None:
    """Write the settings into `out`/synth.json. If the file exists, compare the settings with it instead.

    Raises:
        FileExistsError: If `out` holds files that `tgmm synth` did not write.
        TgmmError: If `out` holds a cohort made with other settings.
    """
    path, wanted = out / SETTINGS_FILE, settings.stored()
    if path.exists():
        present = {"labs_only": False} | read_json(path)  # version 0.1.0 did not write `labs_only`
        if present != wanted:
            raise TgmmError(
                str(out),
                f"holds a cohort made with {present}, asked for {wanted}: choose another directory or delete it.",
            )
        return
    if foreign := [name for name in WRITTEN_NAMES if (out / name).exists()]:
        raise FileExistsError(
            f"{out} has no {SETTINGS_FILE} but holds {', '.join(foreign)}, which `tgmm synth` would write over. These "
            "may be real patients' files. Name a new directory."
        )
    write_json(path, wanted)


def split_patients(label: np.ndarray, seed: int) -> list[str]:
    """Split 5:1:1 by patient, with the same share of each label in every split as far as counts allow.

    The patients of one label are taken seven at a time, in their order: five train, one is validation, one is test, in
    a random order. So a patient keeps the split if the cohort grows. The two labels use each random order from opposite
    ends, so that seven patients fill all splits.

    Args:
        label: (n,) 0 or 1.
        seed: Source of the random orders.

    Returns:
        The split of each patient.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2**31,)))
    pattern = np.repeat(np.arange(len(SPLITS)), SPLIT_SHARES)
    sevens = np.stack([rng.permutation(pattern) for _ in range(0, max(len(label), 1), len(pattern))])
    out = np.empty(len(label), dtype=int)
    for y, deal in ((0, sevens), (1, sevens[:, ::-1])):
        rows = np.flatnonzero(label == y)
        out[rows] = deal.ravel()[: len(rows)]
    return [SPLITS[k] for k in out]


def ecg_variation(settings: Settings, index: int) -> Variation:
    """Draw what the ECG of patient number `index` differs in besides the evidence."""
    return draw_variation(settings.stream(index, VARIATION)) if settings.varied_ecg else PLAIN


def render_all(out: Path, settings: Settings, patients: int, workers: int) -> list[Measurements | None]:
    """Write the ECG and echo files of every patient below `out`, in `workers` processes. Files that exist stay.

    Returns:
        The measurements of each ECG. None for an anomalous ECG.
    """
    jobs = ((out, settings, index) for index in range(patients))
    with drawing_processes(workers) as pool:
        chunk = max(1, min(8, patients // workers))
        rendered = pool.map(render_patient, jobs, chunksize=chunk)
        return list(tqdm(rendered, total=patients, desc="synth", unit="patient"))


def render_patient(job: tuple[Path, Settings, int]) -> Measurements | None:
    """Write the ECG and the echo clips of one patient: `job` is (out, settings, number of the patient).

    Returns:
        The measurements of the ECG. None if the ECG is anomalous, because a machine cannot read it.
    """
    render_ecg_file(*job)
    render_echo_files(*job)
    _, settings, index = job
    if anomaly_of(index) in ECG_ANOMALIES:
        return None
    table = settings.intended(index)
    return measure(draw_ecg(table, settings.stream(index, ECG), ecg_variation(settings, index)))


def render_ecg_file(out: Path, settings: Settings, index: int) -> None:
    """Write the ECG of patient number `index` below `out`/ecg, unless it exists."""
    who = patient_identity(settings, index)
    path = out / "ecg" / ecg_path(who.subject, who.ecg_study)
    if path.with_suffix(".hea").exists():  # the header is written last
        return
    table = settings.intended(index)
    signal = render_ecg(table, settings.stream(index, ECG), ecg_variation(settings, index), settings.site.ecg)
    write_ecg(path, with_anomaly(signal, anomaly_of(index)), who.subject, who.ecg_time, settings.site.ecg)


def render_echo_files(out: Path, settings: Settings, index: int) -> None:
    """Write the echo clips of patient number `index` below `out`/echo that do not exist yet.

    If the patient has an echo anomaly, the first clip is the anomalous file.
    """
    who = patient_identity(settings, index)
    table = settings.intended(index)
    for number, (path, view) in enumerate(echo_files(settings, index, who), start=1):
        target = out / "echo" / path
        if target.exists():
            continue
        rng = settings.stream(index, ECHO + VIEWS.index(view))
        clip = render_clip(table, view, rng, *settings.clip_size, settings.site.echo)
        anomaly = anomaly_of(index) if number == 1 else None
        content = echo_bytes(still(clip) if anomaly == "still_echo" else clip, who, number, settings.site.echo)
        with whole_file(target) as building:
            building.write_bytes(content[:CORRUPT_BYTES] if anomaly == "corrupt_echo" else content)


def with_anomaly(signal: np.ndarray, anomaly: str | None) -> np.ndarray:
    """Return a signal (samples, 12): zeros for "flat_ecg", the first five seconds for "short_ecg", else unchanged."""
    if anomaly == "flat_ecg":
        return np.zeros_like(signal)
    return signal[: len(signal) // 2] if anomaly == "short_ecg" else signal


def still(clip: Clip) -> Clip:
    """Return the clip with its first frame only."""
    return Clip(clip.luma[:1], clip.blue[:1], clip.red[:1], clip.frame_time, clip.heart_rate)


def echo_bytes(clip: Clip, who: Identity, number: int, device: EchoDevice = ECHO_DEVICE) -> bytes:
    """Encode a clip of a device as the bytes of a DICOM file. `number` is its number in the study, from 1."""
    return dicom_bytes(echo_dataset(clip, who.subject, who.echo_study, number, who.echo_time, device))


def echo_files(settings: Settings, index: int, who: Identity) -> list[tuple[str, str]]:
    """List (path below `echo/`, view) of every clip of patient number `index`, the anomalous clip included.

    `who` are the identifiers of the patient. The list is empty in a cohort without echo.
    """
    if settings.no_echo:
        return []
    table = settings.intended(index)
    present = [view for view, is_present in zip(VIEWS, table.views[0], strict=True) if is_present]
    return [(echo_file_path(who.subject, who.echo_study, n), view) for n, view in enumerate(present, start=1)]


def write_tables(out: Path, settings: Settings, table: Evidence, measured: Sequence[Measurements | None]) -> None:
    """Write hospital tables, lists of ECGs and clips, and views.csv into `out`, patient by patient.

    Args:
        out: Directory of the cohort.
        settings: Settings of the cohort.
        table: Evidence of all patients.
        measured: Measurements of the ECG of all patients, None without a readable ECG.
    """
    with open_tables(out) as tables:
        write_dictionaries(tables)
        for index in range(len(table)):
            who, labs = patient_identity(settings, index), patient_labs(settings, index)
            rng = settings.stream(index, STAYS)
            write_patient(tables, who, table.take(np.array([index])), labs, rng)
            if settings.labs_only:
                continue
            write_ecg_lists(tables, who, measured[index], settings.site.ecg.bandwidth)
            if settings.no_echo:
                continue
            when = who.echo_time.isoformat(" ", "seconds")
            study = {"subject_id": who.subject, "study_id": who.echo_study}
            tables["echo/echo-study-list.csv"].add(**study, study_datetime=when)
            for path, view in echo_files(settings, index, who):
                tables["echo/echo-record-list.csv"].add(**study, acquisition_datetime=when, dicom_filepath=path)
                tables["views.csv"].add(dicom_filepath=path, view=view)


def write_cohort_table(out: Path, settings: Settings, table: Evidence, splits: list[str]) -> None:
    """Write `out`/cohort.parquet, the table that `prepare` reads, one row per admission.

    `table` holds the evidence of all patients, `splits` the split of each patient.
    """
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
                **({f"unit.{name}": unit for name, unit in labs.unit_cells().items()} if settings.centre else {}),
                **({} if settings.labs_only else file_columns(settings, index, who)),
                "label.hf_diagnosis": int(table.label[index]),
                "time.hf_risk": float(table.time[index]) if followed else None,
                "event.hf_risk": int(table.event[index]) if followed else None,
                **(patient_outcomes(settings, index).columns(0) if settings.measures else {}),
            }
        )
    write_parquet(out / "cohort.parquet", rows, settings.site.units)


def file_columns(settings: Settings, index: int, who: Identity) -> dict[str, object]:
    """Return ecg_path, echo_paths and echo_views of patient number `index`, as the cohort table holds them."""
    ecg: dict[str, object] = {"ecg_path": "ecg/" + ecg_path(who.subject, who.ecg_study)}
    if settings.no_echo:
        return ecg
    files = echo_files(settings, index, who)
    return {
        **ecg,
        "echo_paths": [f"echo/{path}" for path, _ in files],
        "echo_views": [view for _, view in files],
    }


def write_truth(out: Path, settings: Settings, table: Evidence, reference: Reference, splits: list[str]) -> None:
    """Write truth.parquet: id, split, anomaly, views, and best scores under each subset, one row per admission.

    With interactions also `late_fusion.<subset>`, the posterior that no late fusion can beat.

    A score is null if a modality of the subset cannot be read.

    Args:
        out: Directory of the cohort.
        settings: Settings of the cohort.
        table: Evidence of all patients.
        reference: Best scores of all patients.
        splits: Split of each patient.
    """
    rows = []
    optimal = optimal_answers(table, settings.strength) if settings.measures else {}
    for index, split in enumerate(splits):
        row: dict[str, object] = {
            "id": str(patient_identity(settings, index).hadm),
            "split": split,
            "anomaly": anomaly_of(index),
            "views": [view for view, is_present in zip(VIEWS, table.views[index], strict=True) if is_present],
        }
        for prefix, scores in (
            ("posterior", reference.posterior),
            ("risk", reference.risk),
            ("late_fusion", reference.late_fusion),
        ):
            for name, values in scores.items():
                row[f"{prefix}.{name}"] = float(values[index]) if reference.defined[name][index] else None
        row |= {name: None if np.isnan(values[index]) else float(values[index]) for name, values in optimal.items()}
        rows.append(row)
    write_parquet(out / "truth.parquet", rows)


def write_parquet(path: Path, rows: list[dict], units: str = "US") -> None:
    """Write rows (column -> value) as a Parquet file, with the columns of the first row.

    An empty column is float, an empty column of units text. `units` is the unit system of the laboratory values.
    """
    columns = {}
    for name in rows[0]:
        column = pa.array([row[name] for row in rows])
        empty = pa.string() if name.startswith("unit.") else pa.float64()
        columns[name] = column.cast(empty) if pa.types.is_null(column.type) else column
    with whole_file(path) as building:
        pq.write_table(declare_units_of_table(pa.table(columns), units), building)


def write_optimum(out: Path, settings: Settings, table: Evidence, reference: Reference, splits: list[str]) -> None:
    """Write `out`/bayes.json: the optimum on the test patients of this cohort, and on a large sample ("population").

    `table`, `reference` and `splits` hold evidence, best scores and split of all patients.
    """
    rows = np.flatnonzero(np.array(splits) == "test")
    on_test = Reference(*({name: values[rows] for name, values in part.items()} for part in vars(reference).values()))
    content = {
        "evidence": settings.evidence,
        "seed": settings.seed,
        **({"centre": settings.centre, "prevalence": settings.strength.prevalence} if settings.centre else {}),
        "patients": len(table),
        "note": "synthetic evidence: no clinical meaning; figures beside n are on the test split of this cohort",
        **(figures(table.take(rows), settings.strength, on_test) if len(rows) else {}),
        "population": population_figures(settings.strength),
    }
    if settings.measures:
        content |= measured_figures(settings, table, rows)
    write_json(out / "bayes.json", finite(content))


def patient_outcomes(settings: Settings, index: int) -> Outcomes:
    """Draw the measured outcomes of patient number `index`."""
    table = settings.intended(index)
    return draw_patient_outcomes(settings.seed, settings.number(index), settings.strength, table)


def measured_figures(settings: Settings, table: Evidence, rows: np.ndarray) -> dict[str, object]:
    """Compute the optimum of the measured outcomes: on the patients with the numbers `rows`, and "population".

    `table` holds the evidence of all patients.
    """
    population = population_figures(settings.strength) | measured.population_figures(settings.strength)
    if not len(rows):
        return {"population": population}
    drawn = [patient_outcomes(settings, int(row)) for row in rows]
    outcomes = Outcomes(*(np.concatenate([getattr(part, name) for part in drawn]) for name in ("value", "findings")))
    return measured.figures(outcomes, optimal_answers(table.take(rows), settings.strength)) | {"population": population}
