"""Evaluate a model on one split of a bench file: closed and open questions, reports, signals, each beside controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from numpy.typing import NDArray

from tgmm_hf.cohorts.text_only import CLASSIFIERS, FEWEST, text_only_choices
from tgmm_hf.data.bench_items import CLOSED, LETTERS, OPEN, PREDICTION, RECONSTRUCTION, REPORT
from tgmm_hf.data.instructions import Instruction, asked_in, read_instructions, report_rows, rows_in_words
from tgmm_hf.evaluation.bench_answers import closed_correct, closed_figures, frequent_answers, open_figures
from tgmm_hf.evaluation.bench_models import BenchModels, WordModel, load_bench_models
from tgmm_hf.evaluation.bench_signals import signal_figures
from tgmm_hf.evaluation.bench_words import Sight
from tgmm_hf.evaluation.evaluate_reporter import (
    NO_TRAINING_SPLIT,
    ReporterEvaluationSettings,
    Scoring,
    score_reports,
)
from tgmm_hf.evaluation.finding_figures import truth_in
from tgmm_hf.evaluation.metrics import LEVEL, bootstrap_counts
from tgmm_hf.evaluation.notices import SMALL_N
from tgmm_hf.evaluation.report_controls import (
    FREQUENT,
    MODEL,
    NEAREST,
    SHUFFLED,
    TRUE_REPORT,
    exchanged_ecgs,
    most_frequent,
    nearest_reports,
)
from tgmm_hf.evaluation.text_metrics import references_digest
from tgmm_hf.evaluation.unseen import check_unseen, patient_name, weights_digest
from tgmm_hf.utils.digests import file_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.versions import package_versions

BENCH_FAMILY = "bench"
"""Value of "family" in metrics.json of a bench."""
NO_ECG, TEXTS, FREQUENT_ANSWER = "no ECG", "texts alone", "most frequent answer"
"""Controls: the model without an ECG; a classifier that reads no ECG (closed); the most frequent answer of the train
split to open questions of the category."""
NO_WORDS = "a {} model does not answer in words"
NO_SIGNALS = "a {} model gives no signals"
NOTES = (
    "Intervals: 95 % percentile bootstrap over patients. They do not cover the choice of the training seed.",
    "Closed questions: chance is 0.25. Knowing how frequent each statement is does not help. By likelihood, the option "
    "is chosen whose answer has the highest mean log-probability of a token. By letter, the letter at the start of the "
    "written answer counts, and an answer without a letter is wrong.",
    "Open questions: F1 of tokens and ROUGE-L against the reference, and F1 of the findings (micro) against the codes "
    "of the question. Findings are read from the answers by rules.",
    "Reports are scored as by `tgmm evaluate` on an instruction file.",
    "Shuffled ECGs: each question gets the ECG of another patient. No ECG: a model that cannot do without gets zeros.",
)
SIGNAL_NOTE = (
    "Signals: root mean square error in the unit of the recordings, over all leads and for each lead. The controls see "
    "the window at the model's sampling rate. The linear predictor learns from the train split only."
)


@dataclass(frozen=True)
class BenchEvaluation:
    """The result: the content of metrics.json, and the answers behind it.

    Attributes:
        metrics: Content of metrics.json.
        answers: One line for each question that is answered in words, with the answer of each system. None without.
    """

    metrics: dict[str, Any]
    answers: pd.DataFrame | None


def compute_bench_evaluation(
    model: str, data: str | Path, settings: ReporterEvaluationSettings, models: BenchModels | None = None
) -> BenchEvaluation:
    """Evaluate a model with its controls on a bench file, without writing files.

    Args:
        model: Directory or Hub repository of a saved model.
        data: Bench file.
        settings: What to evaluate, and how. Noise and other training data are not used.
        models: The loaded model, for a family that `load_bench_models` does not know. None loads `model`.

    Raises:
        FileNotFoundError: If there is no bench file.
        TgmmError: If the model or a row cannot be used, or no ECG of the split can be used.
        ValueError: If scored patients were trained on.
    """
    data = Path(data)
    rows = read_instructions(data)
    scored = [row for row in rows if row.split == settings.split]
    if not scored or any(row.question is None for row in scored):
        raise TgmmError(
            data.name, f"its {settings.split} split has no questions. `tgmm make-bench` writes a bench file."
        )
    data_hash, directory = f"sha256:{file_digest(data)}", Path(model)
    patients = Dataset.from_dict({"patient_id": [patient_name(row) for row in scored]})
    warnings = check_unseen(directory if directory.is_dir() else None, data_hash, patients, settings.split)
    loaded = models or load_bench_models(model, settings.batch_size, settings.generate_kwargs, settings.progress)
    words, table = _Words(loaded.words, data, rows, settings).figures() if loaded.words else ({}, None)
    signals = _signals(loaded, rows, settings)
    described = (loaded.words or loaded.signals).described()  # type: ignore[union-attr] # a model has words or signals
    family = described["model_family"]
    missing = {
        kind: sentence.format(family)
        for kinds, part, sentence in (
            ((CLOSED, OPEN, REPORT), loaded.words, NO_WORDS),
            ((PREDICTION, RECONSTRUCTION), loaded.signals, NO_SIGNALS),
        )
        for kind in kinds
        if part is None and any(row.kind == kind for row in scored)
    }
    notes, checks = described.pop("notes", []), described.get("checks", [])
    metrics = {
        "family": BENCH_FAMILY,
        "model": model,
        "data": data.name,
        "data_hash": data_hash,
        "split": settings.split,
        "datasets": sorted({row.dataset for row in scored}),
        "n": len({row.ecg for row in scored}),
        "patients": len({patient_name(row) for row in scored}),
        **described,
        CLOSED: words.get(CLOSED),
        OPEN: words.get(OPEN),
        REPORT: words.get(REPORT),
        **signals,
        "kinds_missing": missing,
        "weights": weights_digest(directory) if directory.is_dir() else None,
        "seed": settings.seed,
        "bootstrap": settings.bootstrap,
        "level": LEVEL,
        "warnings": [*(check["text"] for check in checks), *warnings, *words.get("warnings", [])],
        "notes": [*NOTES, *([SIGNAL_NOTE] if any(signals.values()) else []), *notes],
        "versions": package_versions("scipy", "scikit-learn"),
    }
    return BenchEvaluation(metrics, table)


def _signals(loaded: BenchModels, rows: Sequence[Instruction], settings: ReporterEvaluationSettings) -> dict[str, Any]:
    """Score the signal questions: "prediction" and "reconstruction" -> figures, None without."""
    figures: dict[str, Any] = {}
    for kind in (PREDICTION, RECONSTRUCTION):
        scored = [row for row in rows if row.split == settings.split and row.kind == kind]
        training = [row for row in rows if row.split == "train" and row.kind == PREDICTION]
        has_figures = loaded.signals is not None and bool(scored)
        figures[kind] = signal_figures(scored, training, loaded.signals, settings) if has_figures else None  # type: ignore[arg-type]
    return figures


class _Words:
    """Asks a model and its controls the closed and open questions of one split.

    Args:
        model: The model.
        file: The bench file.
        rows: All rows of the file.
        settings: What to evaluate.
    """

    def __init__(
        self, model: WordModel, file: Path, rows: Sequence[Instruction], settings: ReporterEvaluationSettings
    ) -> None:
        self.model, self.settings, self.file = model, settings, file
        self.training = [row for row in rows if row.split == "train"]
        asked = rows_in_words(row for row in rows if row.split == settings.split)
        asks_for_reports = any(row.kind == REPORT for row in asked)
        # The ECGs of the train split are needed for the nearest neighbour only.
        near = report_rows(self.training) if asks_for_reports and model.has_vectors else []
        self.rows, self.number = [*asked, *near], len(asked)
        self.refused = model.open(self.rows, self.number, settings.cache) if asked else {}

    def figures(self) -> tuple[dict[str, Any], pd.DataFrame | None]:
        """Return "closed", "open" and "warnings" of metrics.json, and the table of answers."""
        if not self.number:
            return {"warnings": []}, None
        if all(number in self.refused for number in range(self.number)):
            split = self.settings.split
            raise TgmmError(self.file.name, f"none of the ECGs of the {split} split can be used.")
        figures: dict[str, Any] = {"warnings": []}
        tables = []
        for kind, score in ((CLOSED, self._closed), (OPEN, self._open), (REPORT, self._report)):
            asked = [number for number in range(self.number) if self.rows[number].kind == kind]
            numbers = [number for number in asked if number not in self.refused]
            if not numbers:
                figures[kind] = None
                continue
            rows = [self.rows[number] for number in numbers]
            counts = bootstrap_counts(
                [patient_name(row) for row in rows], None, self.settings.bootstrap, self.settings.seed
            )
            entry, columns = score(numbers, rows, counts)
            patients = len({patient_name(row) for row in rows})
            figures[kind] = {"n": len(rows), "patients": patients, "refused": len(asked) - len(numbers), **entry}
            tables.append(_answers_table(rows, columns))
            if patients < SMALL_N:
                figures["warnings"].append(f"{kind} questions: only {patients} patients, so the intervals are wide.")
        return figures, pd.concat(tables, ignore_index=True)

    def _sights(self, numbers: Sequence[int]) -> tuple[dict[str, list[Sight]], dict[str, str]]:
        """Return system -> its input at each row, and control -> the reason why the control is missing."""
        streams = self.model.streams
        sights = {MODEL: [Sight(number, streams) for number in numbers]}
        missing = {}
        generator = np.random.default_rng(self.settings.seed)
        try:
            exchanged = exchanged_ecgs([patient_name(self.rows[number]) for number in numbers], generator)
            sights[SHUFFLED] = [Sight(numbers[place], streams) for place in exchanged]
        except ValueError as error:
            missing[SHUFFLED] = str(error)
        sights[NO_ECG] = [Sight(None, ()) for _ in numbers]
        if len(streams) > 1:
            for stream in streams:
                sights[f"{stream} only"] = [Sight(number, (stream,)) for number in numbers]
        return sights, missing

    def _closed(
        self, numbers: Sequence[int], rows: Sequence[Instruction], counts: NDArray
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Ask the closed questions. Returns the figures, and the columns of the table of answers."""
        sights, missing = self._sights(numbers)
        systems: dict[str, dict[str, Any]] = {}
        columns: dict[str, Any] = {}
        for name, seen in sights.items():
            scores = self.model.weigh_options(numbers, seen, f"{name}: options")
            answers = [text for text, _ in self.model.write(numbers, seen, f"{name}: letters")]
            systems[name] = closed_correct(rows, scores, answers)
            columns |= {name: answers, f"{name}, by likelihood": [LETTERS[place] for place in scores.argmax(axis=1)]}
        training = [row for row in self.training if row.kind == CLOSED]
        if self.settings.split == "train" or len(training) < FEWEST:
            missing[TEXTS] = f"the train split has {len(training)} closed questions, at least {FEWEST} are needed."
        else:
            chosen = text_only_choices(training, rows, CLASSIFIERS[1])
            systems[TEXTS] = {"accuracy_likelihood": chosen == np.array([asked_in(row).right for row in rows])}
        return {**closed_figures(rows, systems, MODEL, counts), "controls_missing": missing}, columns

    def _open(
        self, numbers: Sequence[int], rows: Sequence[Instruction], counts: NDArray
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Ask the open questions. Returns the figures, and the columns of the table of answers."""
        sights, missing = self._sights(numbers)
        systems = {
            name: [text for text, _ in self.model.write(numbers, seen, f"{name}: open")]
            for name, seen in sights.items()
        }
        frequent = frequent_answers([row for row in self.training if row.kind == OPEN])
        if {asked_in(row).category for row in rows} <= frequent.keys():
            systems[FREQUENT_ANSWER] = [frequent[asked_in(row).category] for row in rows]
        else:
            missing[FREQUENT_ANSWER] = NO_TRAINING_SPLIT.format(self.file.name)
        return {**open_figures(rows, systems, MODEL, counts), "controls_missing": missing}, dict(systems)

    def _report(
        self, numbers: Sequence[int], rows: Sequence[Instruction], counts: NDArray
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Ask for the reports. Returns the figures, and the columns of the table of answers."""
        sights, missing = self._sights(numbers)
        written = {name: self.model.write(numbers, seen, f"{name}: reports") for name, seen in sights.items()}
        systems = {name: [text for text, _ in answers] for name, answers in written.items()}
        training = report_rows(self.training)
        near = [number for number in range(self.number, len(self.rows)) if number not in self.refused]
        if near:
            reports = [self.rows[number].report for number in near]
            queries, candidates = self.model.vectors(numbers), self.model.vectors(near)
            systems[NEAREST] = nearest_reports(queries, candidates, reports)
        elif self.model.has_vectors:
            missing[NEAREST] = NO_TRAINING_SPLIT.format(self.file.name)
        if training:
            systems[FREQUENT] = [most_frequent([row.report for row in training])] * len(rows)
        else:
            missing[FREQUENT] = NO_TRAINING_SPLIT.format(self.file.name)
        references = [row.report for row in rows]
        truth, source = truth_in(rows)
        scoring = Scoring(references, truth, counts, self.settings.resources)
        entry = score_reports(scoring, {**systems, TRUE_REPORT: references})
        ended = [is_complete for _, is_complete in written[MODEL]]
        entry |= {"truth": source, "references_hash": references_digest(references), "robustness": None}
        return {**entry, "ended": sum(ended) / len(ended), "controls_missing": missing}, dict(systems)


def _answers_table(rows: Sequence[Instruction], columns: Mapping[str, Any]) -> pd.DataFrame:
    """Make the table of answers. It is patient data where the questions are."""
    return pd.DataFrame(
        {
            "id": [row.id for row in rows],
            "patient_id": [row.patient_id for row in rows],
            "kind": [row.kind for row in rows],
            "category": [asked_in(row).category for row in rows],
            "question": [row.instruction for row in rows],
            "reference": [row.report for row in rows],
            **columns,
        }
    )
