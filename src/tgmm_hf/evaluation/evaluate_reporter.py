"""Evaluate a MEIT model on one split of an instruction file: text, findings, controls, certainty and noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from tgmm_hf.cohorts.finding_reader import Finding, read_findings
from tgmm_hf.data.ecg_reports import MEIT, load_report_pipeline
from tgmm_hf.data.instructions import Instruction, read_instructions, report_rows
from tgmm_hf.data.processed_ecgs import ProcessedArrays, digest_of_ecgs, process_rows
from tgmm_hf.evaluation.finding_figures import (
    Truth,
    certainty_counts,
    certainty_figures,
    finding_figures,
    micro_f1,
    truth_in,
    truth_of,
)
from tgmm_hf.evaluation.metrics import LEVEL, bootstrap_counts, estimate, estimate_of_values
from tgmm_hf.evaluation.notices import SMALL_N
from tgmm_hf.evaluation.report_answers import GetValues, Reporter
from tgmm_hf.evaluation.report_controls import (
    CONTROLS,
    FREQUENT,
    MODEL,
    NEAREST,
    SHUFFLED,
    TRUE_REPORT,
    ZERO,
    exchanged_ecgs,
    most_frequent,
    nearest_reports,
)
from tgmm_hf.evaluation.signal_noise import DECIBELS, LONGEST_SEGMENTS, add_segment_noise, add_white_noise
from tgmm_hf.evaluation.text_metrics import TextResources, references_digest, text_figures
from tgmm_hf.evaluation.unseen import check_unseen, patient_name, read_if_present, weights_digest
from tgmm_hf.inputs.feature_extraction_meit import MeitFeatureExtractor
from tgmm_hf.utils.code_revision import code_revision
from tgmm_hf.utils.digests import file_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES
from tgmm_hf.utils.versions import package_versions

NO_TRAINING_SPLIT = "{} has no train split. Name an instruction file with one by --training-data."
NOTES = (
    "Intervals: 95 % percentile bootstrap over patients. They do not cover the choice of the training seed.",
    "Findings are read from the reports by rules. A doubted statement (possible, probable, cannot rule out) counts as "
    "made. A statement that the truth does not hold counts as absent.",
    "Macro figures are means over the statements that the truth holds at least once; a statement that a system never "
    "makes counts as 0.",
    "Text metrics are of the whole corpus. An empty report counts as empty. The document frequencies of CIDEr-D come "
    "from the references of this table, also in the resamples.",
    "Noise is added to the window that the model reads. White noise has one signal-to-noise ratio in all leads, by the "
    "power of each lead after its mean is removed.",
)


@dataclass(frozen=True)
class ReporterEvaluationSettings:
    """What to evaluate, and how.

    Attributes:
        split: Split of the instruction file to be scored.
        training_data: Instruction file whose train split gives the reports of two controls. None takes the scored file.
        resources: Local files that some text metrics need.
        noise: Whether to report on noisy ECGs too. The model then writes all reports eight more times.
        generate_kwargs: Settings of `generate`.
        seed: Seed of the bootstrap, of the shuffling and of the noise.
        bootstrap: Number of resamples.
        batch_size: ECGs that are reported together.
        cache: Directory of processed ECGs, which several evaluations may share. They are patient data. None keeps them
            in memory.
        progress: Whether to show progress bars.
    """

    split: str = "test"
    training_data: str | Path | None = None
    resources: TextResources = field(default_factory=TextResources)
    noise: bool = False
    generate_kwargs: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    bootstrap: int = BOOTSTRAP_RESAMPLES
    batch_size: int = 16
    cache: Path | None = None
    progress: bool = True


@dataclass(frozen=True)
class ReporterEvaluation:
    """The result: the content of metrics.json, and the reports behind it.

    Attributes:
        metrics: Content of metrics.json.
        rows: The scored rows.
        reports: System -> one report for each row.
    """

    metrics: dict[str, Any]
    rows: list[Instruction]
    reports: dict[str, list[str]]


@dataclass(frozen=True)
class Scoring:
    """What all systems are scored with.

    Attributes:
        references: True reports.
        truth: Code -> certainty of what is present, for each row.
        counts: Bootstrap resamples (R, n).
        resources: Local files.
    """

    references: list[str]
    truth: list[dict[str, str]]
    counts: NDArray
    resources: TextResources


def compute_reporter_evaluation(
    model: str, data: str | Path, settings: ReporterEvaluationSettings
) -> ReporterEvaluation:
    """Evaluate a MEIT model with its controls, without writing files.

    Args:
        model: Directory or Hub repository of a saved MEIT model.
        data: Instruction file.
        settings: What to evaluate, and how.

    Raises:
        FileNotFoundError: If there is no instruction file.
        TgmmError: If the model or a row cannot be used, or no ECG of the split can be used.
        ValueError: If scored patients were trained on.
    """
    pipe = load_report_pipeline(model, kind=MEIT)
    binding = pipe.binding_check(pipe.model, pipe.processor)
    rows = report_rows(read_instructions(data, settings.split))
    if not rows:
        raise TgmmError(str(data), f"no row of the {settings.split} split asks for a report.")
    directory, data_hash = Path(model), f"sha256:{file_digest(data)}"
    patients = Dataset.from_dict({"patient_id": [patient_name(row) for row in rows]})
    warnings = check_unseen(directory if directory.is_dir() else None, data_hash, patients, settings.split)
    ecgs = _process(pipe, rows, settings.cache)
    usable = ecgs.usable(range(len(rows)))
    if not usable:
        raise TgmmError(str(data), f"none of the {len(rows)} ECGs of the {settings.split} split can be used.")
    scored = [rows[number] for number in usable]
    reporter = Reporter(pipe, settings.batch_size, settings.generate_kwargs, progress=settings.progress)
    values = partial(_values, ecgs, usable)
    written, missing = _write_all(reporter, scored, values, data, settings)
    truth, source = truth_in(scored)
    counts = bootstrap_counts([patient_name(row) for row in scored], None, settings.bootstrap, settings.seed)
    scoring = Scoring([row.report for row in scored], truth, counts, settings.resources)
    reports = {system: [report for report, _ in answers] for system, answers in written.items()}
    systems = {name: reports[name] for name in (MODEL, *CONTROLS) if name in reports}
    systems[TRUE_REPORT] = scoring.references
    ended = [is_complete for _, is_complete in written[MODEL]]
    if len(scored) < SMALL_N:
        warnings.append(f"Only {len(scored)} ECGs are scored, so the intervals are wide.")
    if not all(ended):
        warnings.append(f"{ended.count(False)} of {len(ended)} reports were cut at the longest length.")
    metrics = {
        "family": "meit",
        "model": model,
        "data": Path(data).name,
        "data_hash": data_hash,
        "references_hash": references_digest(scoring.references),
        "split": settings.split,
        "datasets": sorted({row.dataset for row in scored}),
        "n": len(scored),
        "patients": len({patient_name(row) for row in scored}),
        "refused": len(rows) - len(scored),
        "fusion": pipe.model.config.fusion,
        "generation": reporter.generation,
        "truth": source,
        **score_reports(scoring, systems),
        "controls_missing": missing,
        "ended": sum(ended) / len(ended),
        "robustness": _noise_figures(scoring, reports) if settings.noise else None,
        "training": _training(directory),
        "weights": weights_digest(directory) if directory.is_dir() else None,
        "model_fingerprint": binding.model,
        "processor_fingerprint": binding.processor,
        "checks": binding.checks,
        "code_revision": code_revision(pipe.model, pipe.processor),
        "seed": settings.seed,
        "bootstrap": settings.bootstrap,
        "level": LEVEL,
        "warnings": [*(check["text"] for check in binding.checks), *warnings],
        "notes": [*NOTES, *binding.notes],
        "versions": package_versions("scipy"),
    }
    return ReporterEvaluation(metrics, scored, reports)


def _process(pipe: Any, rows: Sequence[Instruction], cache: Path | None) -> ProcessedArrays:
    """Process the ECGs of rows of an instruction file, or open the cache that holds them."""
    extractor = pipe.processor.feature_extractor
    digest = "" if cache is None else digest_of_ecgs(rows)
    return process_rows(rows, extractor, cache=cache, data_hash=digest)


def _values(ecgs: ProcessedArrays, usable: Sequence[int], row: int) -> NDArray:
    """Return the processed ECG of a scored row."""
    return ecgs.values[usable[row]].astype(np.float32)


def _write_all(
    reporter: Reporter,
    rows: Sequence[Instruction],
    values: GetValues,
    data: str | Path,
    settings: ReporterEvaluationSettings,
) -> tuple[dict[str, list[tuple[str, bool]]], dict[str, str]]:
    """Let the model and the controls write their reports.

    Args:
        reporter: Writes the model's reports.
        rows: The scored rows.
        values: Gives their processed ECGs.
        data: The scored file.
        settings: What to evaluate.

    Returns:
        Two dicts. System -> (report, whether it ended) for each row. Control -> why there is none.
    """
    written = {MODEL: reporter.write(rows, values, MODEL)}
    missing: dict[str, str] = {}
    generator = np.random.default_rng(settings.seed)
    try:
        exchanged = exchanged_ecgs([patient_name(row) for row in rows], generator)
        written[SHUFFLED] = reporter.write(rows, lambda row: values(exchanged[row]), SHUFFLED)
    except ValueError as error:
        missing[SHUFFLED] = str(error)
    written[ZERO] = reporter.write(rows, lambda row: np.zeros_like(values(row)), ZERO)
    file = settings.training_data or data
    training = [row for row in report_rows(read_instructions(file)) if row.split == "train"]
    if training:
        ecgs = _process(reporter.pipe, training, settings.cache)
        for name, reports in _from_training(reporter, training, ecgs, rows, values).items():
            written[name] = [(report, True) for report in reports]
    else:
        missing |= dict.fromkeys((NEAREST, FREQUENT), NO_TRAINING_SPLIT.format(Path(file).name))
    for name, change in _noises(reporter.pipe, settings).items():
        written[name] = reporter.write(rows, partial(_changed, values, change), name)
    return written, missing


def _changed(values: GetValues, change: Any, row: int) -> NDArray:
    """Return the processed ECG of a row after a change."""
    return np.asarray(change(values(row), row))


def _from_training(
    reporter: Reporter,
    training: Sequence[Instruction],
    ecgs: ProcessedArrays,
    rows: Sequence[Instruction],
    values: GetValues,
) -> dict[str, list[str]]:
    """Return the reports of the two controls that take reports of the training split.

    Args:
        reporter: Gives the vectors of ECGs.
        training: The rows of the training split.
        ecgs: Their processed ECGs.
        rows: The scored rows.
        values: Gives the processed ECGs of the scored rows.
    """
    usable = ecgs.usable(range(len(training)))
    reports = [training[number].report for number in usable]
    candidates = reporter.vectors(len(usable), partial(_values, ecgs, usable))
    queries = reporter.vectors(len(rows), values)
    return {NEAREST: nearest_reports(queries, candidates, reports), FREQUENT: [most_frequent(reports)] * len(rows)}


def _noises(pipe: Any, settings: ReporterEvaluationSettings) -> dict[str, Any]:
    """Return name -> function of a processed ECG and its row, which adds noise. Empty if no noise is wanted."""
    if not settings.noise:
        return {}
    is_scaled = isinstance(pipe.processor.feature_extractor, MeitFeatureExtractor)

    def white(decibels: float, ecg: NDArray, row: int) -> NDArray:
        return add_white_noise(ecg, decibels, np.random.default_rng([settings.seed, row]), is_scaled)

    def segment(longest: float, ecg: NDArray, row: int) -> NDArray:
        return add_segment_noise(ecg, longest, np.random.default_rng([settings.seed, row]))

    noises = {f"white noise, SNR {decibels} dB": partial(white, decibels) for decibels in DECIBELS}
    if is_scaled:  # the published noise is defined on ECGs that are scaled to 0-1
        noises |= {f"segment noise up to {longest:.0%}": partial(segment, longest) for longest in LONGEST_SEGMENTS}
    return noises


def score_reports(scoring: Scoring, systems: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Score the model and its controls.

    Args:
        scoring: What all are scored with.
        systems: Name -> one report for each row. `MODEL` is compared with all but `TRUE_REPORT`.

    Returns:
        "systems", "differences", "certainty", "implementations" and "metrics_missing" of metrics.json.
    """
    findings = {name: [read_findings(report) for report in reports] for name, reports in systems.items()}
    truth = truth_of([set(row) for row in scoring.truth], list(findings.values()))
    entries: dict[str, Any] = {}
    implementations: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, reports in systems.items():
        text = text_figures(scoring.references, reports, scoring.resources)
        implementations, missing = text.implementations, text.missing
        entry: dict[str, Any] = {"empty": sum(not report for report in reports)}
        for figure, compute in text.figures.items():
            entry |= estimate(compute, scoring.counts).entry(figure)
        entries[name] = entry | finding_figures(truth, findings[name], scoring.counts)
    return {
        "systems": entries,
        "differences": {
            name: _difference(truth, findings[MODEL], findings[name], scoring.counts)
            for name in systems
            if name not in (MODEL, TRUE_REPORT)
        },
        "certainty": certainty_figures(truth, findings[MODEL], scoring.counts),
        "certainty_counts": certainty_counts(scoring.truth, findings[MODEL]),
        "implementations": implementations,
        "metrics_missing": missing,
    }


def _difference(
    truth: Truth, model: Sequence[Mapping[str, Finding]], control: Sequence[Mapping[str, Finding]], counts: NDArray
) -> dict[str, Any]:
    """Compute the difference of the micro F1 of the model and of a control, on the same resamples."""

    def difference(drawn: NDArray) -> NDArray:
        return micro_f1(truth, model, drawn) - micro_f1(truth, control, drawn)

    whole = difference(np.ones((1, counts.shape[1])))
    return estimate_of_values(float(whole[0]), difference(counts)).entry("micro_f1_difference")


def _noise_figures(scoring: Scoring, reports: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Score the reports on noisy ECGs: name of the noise -> main figures, the clean ones first."""
    names = [MODEL, *(name for name in reports if name not in (MODEL, *CONTROLS))]
    findings = {name: [read_findings(report) for report in reports[name]] for name in names}
    truth = truth_of([set(row) for row in scoring.truth], list(findings.values()))
    result = {}
    for name in names:
        text = text_figures(scoring.references, reports[name], TextResources())
        entry = estimate(partial(micro_f1, truth, findings[name]), scoring.counts).entry("micro_f1")
        for figure in ("bleu_4", "rouge_l"):
            if figure in text.figures:
                entry |= estimate(text.figures[figure], scoring.counts).entry(figure)
        result["none" if name == MODEL else name] = entry
    return result


def _training(directory: Path) -> dict[str, Any] | None:
    """Return data_hash, parameters, epochs and seed of the model's run record; None without a record."""
    run = read_if_present(directory / "run.json")
    keys = ("data_hash", "parameters", "trainable_parameters", "epochs", "seed")
    return None if run is None else {name: run[name] for name in keys if name in run}
