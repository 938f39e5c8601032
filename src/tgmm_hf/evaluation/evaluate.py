"""Evaluate one model on one prepared split.

`outputs.write_outputs` writes the result as data files, `reports.evaluation_report.write_report` as figures and a page.
`reports.evaluation_report.evaluate_with_report` does all three.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from tgmm_hf.configuration_measured_tasks import INTERVALS_KEY
from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prediction import load_model
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.data.prepared_fit import check_prepared
from tgmm_hf.data.saved_models import load_processor
from tgmm_hf.data.shards import check_shards
from tgmm_hf.evaluation.chosen_tasks import choose_tasks, trained_tasks
from tgmm_hf.evaluation.metrics import Bootstrap
from tgmm_hf.evaluation.optimum import read_optimum
from tgmm_hf.evaluation.predictions import Predictions, collect_predictions
from tgmm_hf.evaluation.robustness import robustness
from tgmm_hf.evaluation.slot_effects import slot_study, slot_warnings
from tgmm_hf.evaluation.subgroups import describe_rows
from tgmm_hf.evaluation.summary import compute_metrics
from tgmm_hf.evaluation.unseen import check_unseen, prepared_data_hash, weights_digest
from tgmm_hf.evaluation.validation_split import validation_rows
from tgmm_hf.layers.prediction_sets import SETS_KEY
from tgmm_hf.pipeline_binding import Binding, BindingCheck
from tgmm_hf.pipeline_tgmm import code_revision
from tgmm_hf.utils.files import read_json
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES, SUBSET_NAMES
from tgmm_hf.utils.versions import package_versions

Reader = Callable[[Any, Any, Dataset, str], tuple[Any, Any]]
"""Function of model, processor, prepared rows and hash of their data. It returns the rows to read and a collator."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What to evaluate, and how.

    Attributes:
        split: Split of the prepared data to be scored.
        tasks: Names of the tasks to be scored. None takes the tasks that the last training trained and that have
            labels.
        bayes: Directory or `bayes.json` of a synthetic cohort, with `truth.parquet` beside it. It adds the optimum on
            the same patients, and the model's distance to it. Synthetic figures are no clinical evidence.
        validation: Directory of prepared data. Thresholds, temperatures and risk groups are chosen on its validation
            split. None takes the scored data. Without a validation split the threshold is 0.5.
        sensitivity: Choose the highest threshold that reaches this sensitivity on validation. None for Youden's index.
        temperature: Whether to scale the probabilities of every subset by a temperature that is fitted on validation.
        worse_inputs: Whether to score worse inputs too, in which cells, leads or views are dropped or noise is added.
            The model then runs over the split fifteen more times.
        seed: Seed of the bootstrap.
        bootstrap: Number of resamples.
        batch_size: Number of admissions that are encoded together.
        progress: Whether to show progress bars.
        dtype: Number format of the weights of a model that is loaded here, see `load_in_format`.
    """

    split: str = "test"
    tasks: Sequence[str] | None = None
    bayes: str | Path | None = None
    validation: str | Path | None = None
    sensitivity: float | None = None
    temperature: bool = False
    worse_inputs: bool = False
    seed: int = 0
    bootstrap: int = BOOTSTRAP_RESAMPLES
    batch_size: int = 16
    progress: bool = True
    dtype: str = "float32"


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        metrics: The content of metrics.json.
        predictions: The predictions behind it.
        model: The model that was evaluated.
        processor: Its processor.
    """

    metrics: dict[str, Any]
    predictions: Predictions
    model: Any = None
    processor: Any = None


def compute_evaluation(
    model: Any,
    data_dir: str | Path,
    settings: EvaluationSettings,
    *,
    processor: Any = None,
    read: Reader | None = None,
) -> Evaluation:
    """Evaluate a model under all seven modality subsets, without writing files.

    Args:
        model: Directory or Hub id of a saved model, or a `TgmmModel`.
        data_dir: Directory that `tgmm prepare` wrote.
        settings: What to evaluate, and how.
        processor: The model's `TgmmProcessor`. None loads it from `model`, which must then be a directory or an id.
        read: Gives rows and collator, for example to read cached frozen features. None uses `TgmmCollator`.

    Returns:
        The content of metrics.json (docs/metrics.md lists it) and the predictions.

    Raises:
        FileNotFoundError: If `settings.bayes` does not exist.
        TgmmError: If model and processor do not belong together and `processor.default_strictness` is "refuse".
        ValueError: If the split does not exist, if scored patients were trained on, if the patients that thresholds are
            chosen on are also scored or were trained on, or if a sensitivity or temperature is wanted without a
            validation split.
    """
    inputs = _checked_inputs(model, data_dir, settings, processor)
    predictor = _Predictor(inputs, settings, read)
    study = slot_study(inputs.model)
    predictions = predictor.predict(inputs.scored, model=study)
    tasks = {name: inputs.model.config.tasks[name] for name in inputs.tasks}
    tasks, stale = _tasks_without_stale_sets(tasks, inputs.binding)
    sampling = {"seed": settings.seed, "replicates": settings.bootstrap}
    truth, reference = inputs.optimum
    metrics = _metrics_entry(inputs, settings) | compute_metrics(
        predictions,
        tasks,
        validation=predictor.predict_validation(),
        groups=describe_rows(inputs.scored),
        truth=truth,
        reference=reference,
        sensitivity=settings.sensitivity,
        temperature=settings.temperature,
        **sampling,
    )
    metrics["versions"] = package_versions("scipy")
    metrics["slots"] = study.figures(predictions, Bootstrap(settings.seed, settings.bootstrap)) if study else {}
    metrics["warnings"] += slot_warnings(metrics["slots"])
    if settings.worse_inputs:
        metrics["robustness"] = robustness(predictor.predict, inputs.scored, predictions, tasks, **sampling)
    texts = [*(check["text"] for check in inputs.binding.checks), *stale]
    metrics["warnings"] = [*texts, *inputs.warnings, *metrics["warnings"]]
    metrics["notes"] = [*metrics["notes"], *inputs.binding.notes]
    return Evaluation(metrics, predictions, inputs.model, inputs.processor)


@dataclass(frozen=True)
class _Inputs:
    """A model and data that fit together.

    Attributes:
        name: Name of the model.
        directory: Its directory or Hub id, None for a model that was given as an object.
        model: `TgmmModel`.
        processor: Its processor.
        binding: Result of the check that both were saved together.
        run: The model's run record, None without a record.
        data: Directory of the prepared data.
        scored: Rows to be scored.
        chosen_on: Validation rows to choose thresholds on, None without such rows.
        tasks: Names of the tasks to be scored.
        optimum: Truth and best figures of a synthetic cohort, None twice for other data.
        warnings: Doubts about the data.
    """

    name: str
    directory: Path | None
    model: Any
    processor: Any
    binding: Binding
    run: dict[str, Any] | None
    data: str | Path
    scored: Dataset
    chosen_on: Dataset | None
    tasks: list[str]
    optimum: tuple[Any, Any]
    warnings: list[str]


def _checked_inputs(model: Any, data_dir: str | Path, settings: EvaluationSettings, processor: Any) -> _Inputs:
    """Load and check what `compute_evaluation` needs. Arguments and errors are those of `compute_evaluation`."""
    directory = Path(model) if isinstance(model, str | Path) else None
    name, model, processor = _loaded(model, processor, settings.dtype)
    binding = _binding(model, processor)
    prepared = load_prepared(data_dir)
    split = settings.split
    if split not in prepared:
        raise ValueError(f"{data_dir} has the splits {list(prepared)}, not {split!r}")
    check_shards(data_dir, [split])
    check_prepared(model.config, processor, read_json(Path(data_dir) / "prepare.json"))
    warnings = check_unseen(directory, prepared_data_hash(data_dir), prepared[split], split)
    run = _run_record(directory)
    columns = prepared[split].column_names
    names, left_out = choose_tasks(model.config.tasks, columns, trained_tasks(run), settings.tasks)
    chosen_on, doubts = _validation_rows(directory, data_dir, prepared, settings)
    return _Inputs(
        name=name,
        directory=directory,
        model=model,
        processor=processor,
        binding=binding,
        run=run,
        data=data_dir,
        scored=prepared[split],
        chosen_on=chosen_on,
        tasks=names,
        optimum=(None, None) if settings.bayes is None else read_optimum(settings.bayes),
        warnings=[*warnings, *doubts, *left_out],
    )


class _Predictor:
    """Runs the model over prepared rows.

    Args:
        inputs: Model and data.
        settings: Seed of the collator, batch size and progress bar.
        read: As in `compute_evaluation`.
    """

    def __init__(self, inputs: _Inputs, settings: EvaluationSettings, read: Reader | None) -> None:
        self.inputs, self.settings, self.read = inputs, settings, read
        self.collator = TgmmCollator(inputs.processor, inputs.model.config, training=False, seed=settings.seed)

    def predict(
        self,
        rows: Any,
        subsets: Sequence[str] = SUBSET_NAMES,
        *,
        data: str | Path | None = None,
        model: Any = None,
    ) -> Predictions:
        """Predict rows under each subset.

        Args:
            rows: Prepared rows.
            subsets: Names of subsets.
            data: Directory of the prepared data that the rows come from. None for the scored data.
            model: The model itself, or a wrapper that also notes what happens inside. None for the model itself.
        """
        collate: Any = self.collator
        if self.read is not None:
            data_hash = prepared_data_hash(self.inputs.data if data is None else data)
            rows, collate = self.read(self.inputs.model, self.inputs.processor, rows, data_hash)
        return collect_predictions(
            self.inputs.model if model is None else model,
            rows,
            collate,
            subsets=subsets,
            tasks=self.inputs.tasks,
            batch_size=self.settings.batch_size,
            progress=self.settings.progress,
        )

    def predict_validation(self) -> Predictions | None:
        """Predict the patients whom thresholds are chosen on. None without such patients."""
        if self.inputs.chosen_on is None:
            return None
        return self.predict(self.inputs.chosen_on, data=self.settings.validation)


def _metrics_entry(inputs: _Inputs, settings: EvaluationSettings) -> dict[str, Any]:
    """Collect the entries of metrics.json that name the model and the data."""
    model, directory = inputs.model, inputs.directory
    return {
        "model": inputs.name,
        "data": str(Path(inputs.data).name),
        "data_hash": prepared_data_hash(inputs.data),
        "code_revision": code_revision(model, inputs.processor),
        "model_fingerprint": inputs.binding.model,
        "processor_fingerprint": inputs.binding.processor,
        "checks": inputs.binding.checks,
        "weights": weights_digest(directory) if directory is not None and directory.is_dir() else None,
        "split": settings.split,
        "dtype": settings.dtype,
        "synthetic": settings.bayes is not None,
        "components": {name: getattr(model.config, name) for name in ("fusion", "guidance", "response")},
        "training": _training(inputs.run),
    }


def _loaded(model: Any, processor: Any, dtype: str) -> tuple[str, Any, Any]:
    """Return the name of the model, the model and the processor. Load them if they are given as names or None."""
    if isinstance(model, str | Path):
        name = str(model)
        model = load_model(name, dtype)
    else:
        name = model.name_or_path or type(model).__name__
    return name, model, load_processor(name) if processor is None else processor


def _binding(model: Any, processor: Any) -> Binding:
    """Check that a model and a processor were saved together.

    Raises:
        TgmmError: If they were not, and `processor.default_strictness` is "refuse".
    """
    binding = BindingCheck()(model, processor)
    if getattr(processor, "default_strictness", "note") == "refuse":
        binding.refuse()
    return binding


def _tasks_without_stale_sets(
    tasks: Mapping[str, Mapping[str, Any]], binding: Binding
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Leave out prediction sets and intervals that were fitted for other weights, as predictions do.

    Returns:
        The tasks, and a warning for each task whose sets or intervals were left out.
    """
    words = {
        SETS_KEY: 'the stored prediction sets were fitted for other weights, so that predictions say "cannot say".',
        INTERVALS_KEY: "the stored prediction intervals were fitted for other weights, so that predictions have none.",
    }
    stale = {name: [key for key in words if not binding.fits(task.get(key) or {})] for name, task in tasks.items()}
    kept = {name: {key: value for key, value in task.items() if key not in stale[name]} for name, task in tasks.items()}
    return kept, [f"{name}: {words[key]}" for name, keys in stale.items() for key in keys]


def _validation_rows(
    directory: Path | None, data_dir: str | Path, prepared: DatasetDict, settings: EvaluationSettings
) -> tuple[Dataset | None, list[str]]:
    """Find the validation patients and the doubts about them, see `validation_rows`.

    Raises:
        ValueError: If there are none, and a sensitivity or a temperature is wanted.
    """
    rows, doubts = validation_rows(directory, data_dir, prepared, settings.split, settings.validation)
    if rows is None and (settings.sensitivity is not None or settings.temperature):
        raise ValueError(
            "A temperature, and the threshold for a sensitivity, are chosen on a validation split. There is none "
            f"beside the {settings.split} split of {data_dir}: name prepared data with such a split with --validation."
        )
    return rows, doubts


def _run_record(model: Path | None) -> dict[str, Any] | None:
    """Read the run.json of a model; None if there is no such file."""
    if model is None or not (model / "run.json").is_file():
        return None
    return dict(read_json(model / "run.json"))


def _training(run: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return data_hash, parameters, epochs and seed of a run record; None without a record.

    Other keys are left out, because they may hold the names of local directories.
    """
    if run is None:
        return None
    return {name: run[name] for name in ("data_hash", "parameters", "epochs", "seed") if name in run}
