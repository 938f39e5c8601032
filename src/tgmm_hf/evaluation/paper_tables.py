"""The rows of the paper's tables 2 to 6 that one run can fill, as CSV.

Rows of other models, fusions and components come from other runs. The tables of several runs have the same columns, so
they can be put under each other. A C-index has its 95 % interval; the paper gives a standard deviation over folds.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tgmm_hf.evaluation.retrieval import CANDIDATES
from tgmm_hf.evaluation.tables import Entries, as_csv, tasks_of
from tgmm_hf.utils.names import SUBSET_NAMES

NAMES = dict(zip(SUBSET_NAMES, ("Lab", "ECG", "ECHO", "Lab+ECG", "Lab+ECHO", "ECG+ECHO", "Lab+ECHO+ECG"), strict=True))
"""Subset -> its name in the paper."""
MULTIMODAL = SUBSET_NAMES[3:]
WITHOUT_ECHO = ("labs", "ecg", "labs+ecg")
PAPER_DIRECTIONS = ("labs->ecg", "ecg->labs", "labs->echo", "echo->labs", "ecg->echo", "echo->ecg")
FIGURES = {"diagnosis": {"ACC": "accuracy", "AUC": "auc"}, "prognosis": {"C-index": "c_index"}}


def paper_tables(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Write the paper's tables.

    Table 2: figures by subset. Table 3: retrieval. Table 4: diagnoses of patients without echo, which are not in table
    2. Table 5: fusions. Table 6: components of guidance and response. One run fills one row of tables 5 and 6.

    Args:
        metrics: The content of metrics.json.

    Returns:
        File name, such as "table2.csv" -> CSV text. A table without rows has no entry.
    """
    with_echo = [t for t in _scored(metrics) if t[2]["echo"]["n"]]
    without_echo = [t for t in _scored(metrics) if not t[2]["echo"]["n"] and t[1] == "diagnosis"]
    retrieval = [entries for _, kind, entries in tasks_of(metrics) if kind == "retrieval"]
    components = metrics.get("components")
    fusion = (components or {}).get("fusion", "medflex")
    model = "TGMM" if fusion == "medflex" else f"TGMM with fusion {fusion}"
    tables: dict[str, str] = {}
    if with_echo:
        tables["table2.csv"] = as_csv(
            ["Task", "Metric", "Model", *NAMES.values()], _rows(with_echo, [model], SUBSET_NAMES)
        )
        names = [NAMES[subset] for subset in MULTIMODAL]
        tables["table5.csv"] = as_csv(["Task", "Metric", "Model", *names], _rows(with_echo, [model], MULTIMODAL))
    if retrieval:
        header = ["Metric", *(direction.replace("->", " -> ") for direction in PAPER_DIRECTIONS)]
        tables["table3.csv"] = as_csv(header, _retrieval_rows(retrieval[0]))
    if without_echo:
        names = [NAMES[subset] for subset in WITHOUT_ECHO]
        tables["table4.csv"] = as_csv(["Task", "Metric", "Model", *names], _rows(without_echo, [model], WITHOUT_ECHO))
    if with_echo and components is not None:
        header = ["Task", "Metric", "Human", "Learned", "Response", "Linear", *NAMES.values()]
        tables["table6.csv"] = as_csv(header, _rows(with_echo, ticks(components), SUBSET_NAMES))
    return tables


def _scored(metrics: Mapping[str, Any]) -> list[tuple[str, str, Entries]]:
    return [task for task in tasks_of(metrics) if task[1] in FIGURES]


def _rows(tasks: list[tuple[str, str, Entries]], names: list[str], subsets: tuple[str, ...]) -> Iterator[list[str]]:
    for task, kind, entries in tasks:
        for title, figure in FIGURES[kind].items():
            yield [task, title, *names, *(_cell(entries[subset], figure) for subset in subsets)]


def _retrieval_rows(entries: Entries) -> Iterator[list[str]]:
    for candidates in CANDIDATES:
        suffix = "full" if candidates is None else str(candidates)
        among = "all" if candidates is None else suffix
        for title, figure, percent in (
            ("LRAP", "lrap", 1),
            ("Recall@1", "recall_1", 100),
            ("Recall@2", "recall_2", 100),
        ):
            key = f"{figure}_{suffix}"
            yield [f"{title} of {among}", *(_cell(entries[name], key, percent) for name in PAPER_DIRECTIONS)]
            chances = (entries[name].get(f"{key}_chance") for name in PAPER_DIRECTIONS)
            yield [f"{title} of {among}, by lot", *("—" if c is None else _value(c, percent) for c in chances)]


def _cell(entry: Mapping[str, Any], figure: str, percent: int = 1) -> str:
    value, interval = entry[figure], entry[f"{figure}_ci"]
    if value is None:
        return "—"
    if interval is None:
        return _value(value, percent)
    return f"{_value(value, percent)} ({_bound(interval[0], percent)}, {_bound(interval[1], percent)})"


def _value(value: float, percent: int) -> str:
    return _bound(value, percent) + ("%" if percent == 100 else "")


def _bound(value: float, percent: int) -> str:
    return f"{value * percent:.2f}"


def ticks(components: Mapping[str, Any]) -> list[str]:
    """Return four cells of table 6, "✓" or "": human text, learned text, response decoder, linear response.

    Args:
        components: Values of `guidance` and `response` in the configuration of the model.
    """
    guidance, linear = components["guidance"], components["response"] == "linear"
    return ["✓" if on else "" for on in (guidance != "none", guidance == "human+learned", not linear, linear)]
