"""`tgmm search`: try settings of a training one after the other, and keep the settings with the best validation score.

It runs `transformers.Trainer.hyperparameter_search` on optuna, one trial per call. The settings of a trial depend on
the seed, on the number of the trial and on the trials before it. Therefore a search that was stopped and continued
tries the same settings as one that was not stopped.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from tqdm.auto import tqdm

from tgmm_hf.evaluation.tables import as_csv
from tgmm_hf.experiments.search_plan import Search, read_search
from tgmm_hf.experiments.search_trainer import STUDY, SearchTrainer, ended_trials
from tgmm_hf.training.run_directory import MAY_CHANGE, weights_of_sources
from tgmm_hf.training.settings_files import differences, flat
from tgmm_hf.training.training_data import read_data
from tgmm_hf.utils.files import write_json, write_text
from tgmm_hf.utils.output_lock import only_run
from tgmm_hf.utils.versions import package_versions

SETTINGS_ATTRIBUTE = "settings"
"""Attribute of the optuna study with the settings of the search."""
OLD_SETTINGS_ATTRIBUTE = "told"
"""Name of this attribute in version 0.1."""


def search(path: str | Path) -> dict[str, Any]:
    """Run the trials of a search that have not ended yet.

    After every trial, ``search.json``, ``trials.csv`` and ``best.yaml`` (a configuration for ``tgmm train``) are
    written to the output of the plan. ``search.sqlite`` is the storage of optuna.

    Args:
        path: YAML file of the plan, see [`~tgmm_hf.experiments.search_plan.SearchPlan`].

    Returns:
        The content of ``search.json``: plan, digest of the data, versions, "trials", and "best", the best trial.

    Raises:
        ImportError: If the extra `optuna` is not installed.
        FileNotFoundError: If the plan, its configuration or the prepared data does not exist.
        ValueError: If the plan is wrong, the output holds another search, or no trial ended with a score.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError("tgmm search needs optuna: pip install 'tgmm-hf[optuna]'.") from error

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # its numbers of trials count stopped trials too
    search = read_search(path)
    with only_run(search.out):
        return _run_trials(search, optuna)


def _run_trials(search: Search, optuna: Any) -> dict[str, Any]:
    """Run the trials of a search, and return the content of ``search.json``. `optuna` is the package.

    Raises:
        FileNotFoundError: If there is no prepared data set.
        ValueError: If the output holds another search, or no trial ended with a score.
    """
    prepared, data = read_data(search.base.data.directory)
    search.out.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{search.out / 'search.sqlite'}")
    study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize", load_if_exists=True)
    _claim(study, search, data["data_hash"])
    for stopped in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(stopped.number, state=optuna.trial.TrialState.FAIL)
    trainer = None
    while len(ended_trials(study)) < search.plan.trials:
        trainer = trainer or SearchTrainer(search, storage, prepared, data)
        trainer.try_next(study)
        results = _write_results(search, study, data["data_hash"])
        tqdm.write(_progress_line(results["trials"][-1], search.plan.trials), file=sys.stderr)
    results = _write_results(search, study, data["data_hash"])
    if results["best"] is None:
        trials = results["trials"]
        raise ValueError(f"None of {len(trials)} trials ended with a score. The first failed: {trials[0]['failed']}")
    return results


def _claim(study: Any, search: Search, data_hash: str) -> None:
    """Write the settings of a search into the optuna study.

    Raises:
        ValueError: If the study has the settings of another search. The message names the first that differs.
    """
    settings = {name: asdict(space) for name, space in search.plan.settings.items()}
    run = {name: value for name, value in search.base.to_dict().items() if name != "output"}
    now = {"run": run, "settings": settings, "seed": search.plan.seed, "data_hash": data_hash}
    now |= {"weights": weights} if (weights := weights_of_sources(search.base)) else {}
    before = study.user_attrs.get(SETTINGS_ATTRIBUTE, study.user_attrs.get(OLD_SETTINGS_ATTRIBUTE, now))
    if different := differences(before, now, MAY_CHANGE):
        key = different[0]
        raise ValueError(
            f"{search.out} holds a search of other settings: {key} was {flat(before).get(key)!r}, now "
            f"{flat(now).get(key)!r}. Give another output."
        )
    study.set_user_attr(SETTINGS_ATTRIBUTE, now)


def _write_results(search: Search, study: Any, data_hash: str) -> dict[str, Any]:
    """Write ``search.json``, ``trials.csv`` and ``best.yaml`` from the trials so far.

    Returns:
        The content of ``search.json``. "best" is None if no trial ended with a score.
    """
    trials = [
        {
            "trial": place,
            "score": trial.value,
            "settings": trial.params,
            "seconds": round(trial.duration.total_seconds(), 1),
            "failed": trial.user_attrs.get("failed"),
        }
        for place, trial in enumerate(ended_trials(study), start=1)
    ]
    scored = [trial for trial in trials if trial["failed"] is None]
    best = max(scored, key=lambda trial: trial["score"], default=None)
    results: dict[str, Any] = {
        "plan": asdict(search.plan),
        "data_hash": data_hash,
        "versions": package_versions("optuna"),
        "trials": trials,
        "best": best,
    }
    write_json(search.out / "search.json", results)
    _write_table(search, trials)
    if best is not None:
        _write_best(search, best, len(trials))
    return results


def _write_table(search: Search, trials: list[dict[str, Any]]) -> None:
    """Write ``trials.csv``: a row per trial with number, score, settings, and the reason if it failed."""
    names = list(search.plan.settings)
    rows = [
        [trial["trial"], trial["score"], *(trial["settings"].get(name) for name in names), trial["failed"]]
        for trial in trials
    ]
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    write_text(search.out / "trials.csv", as_csv(["trial", "score", *names, "failed"], cells))


def _write_best(search: Search, best: dict[str, Any], number_of_trials: int) -> None:
    """Write ``best.yaml``: the training configuration with the settings of the best trial, and its score as comment."""
    settings = search.run(best["settings"], "best").to_dict() | {"output": str(search.out / "best")}
    comment = f"# tgmm search: trial {best['trial']} of {number_of_trials}, validation score {best['score']:.4f}.\n"
    write_text(search.out / "best.yaml", comment + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def _progress_line(trial: dict[str, Any], number_of_trials: int) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in trial["settings"].items())
    result = f"score {trial['score']:.4f}" if trial["failed"] is None else trial["failed"]
    return f"trial {trial['trial']} of {number_of_trials}: {result}; {settings}"
