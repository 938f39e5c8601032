"""Measure whether texts tell the answers of closed questions: two classifiers read the texts only.

The two classifiers see a question and its four options, and choose an option. The first is a logistic regression on the
words of an option, its place and its length. The second is gradient boosting on the whole texts of the option, of the
other options and of the question, places and lengths, so that it can learn which of two statements is right more often.
Chance is one right answer in four questions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline

from tgmm_hf.data.bench_items import CATEGORIES, CLOSED, LETTERS
from tgmm_hf.data.instructions import Instruction, asked_in

CLASSIFIERS = ("logistic regression", "gradient boosting")
CHANCE = 1 / len(LETTERS)
FOLDS = 5
FEWEST = 40
"""Fewest questions to learn from, and to be scored on. With fewer there is no figure."""
LEVEL = 0.95
ALARM = 0.001
"""Probability of as many right answers at chance, below which a classifier counts as above chance."""


def text_only_choices(learned: Sequence[Instruction], asked: Sequence[Instruction], classifier: str) -> NDArray:
    """Let a classifier that reads no ECG answer closed questions.

    Args:
        learned: Closed questions that it learns from.
        asked: Closed questions that it answers.
        classifier: One of `CLASSIFIERS`.

    Returns:
        Place of the chosen option of each question, shape (n,).
    """
    model = _words_model() if classifier == CLASSIFIERS[0] else _Boosting(learned)
    places = np.array([asked_in(row).right for row in learned])
    is_right = (np.arange(len(LETTERS)) == places[:, None]).ravel()
    model.fit(_options(learned), is_right)
    scores = model.predict_proba(_options(asked))[:, 1].reshape(-1, len(LETTERS))
    # Equal scores are decided at random, because the first option would be a choice by place.
    return (scores + 1e-9 * np.random.default_rng(0).random(scores.shape)).argmax(axis=1)


def text_only_check(rows: Sequence[Instruction]) -> dict[str, Any]:
    """Measure whether closed questions can be answered from their texts.

    The classifiers learn from the train split and answer the questions of the other splits. If a split is too
    small, the classifiers learn and answer in five folds of all questions. No set of options is in two folds.

    Args:
        rows: Rows of a bench file.

    Returns:
        "how": "train split" or "folds"; "n": number of scored questions; "accuracy": classifier -> category or "all" ->
        {"n", "accuracy", "interval"} with Wilson's 95 % interval. With too few questions "missing" says so.
    """
    closed = [row for row in rows if row.kind == CLOSED]
    train = [row for row in closed if row.split == "train"]
    held_out = [row for row in closed if row.split != "train"]
    if min(len(train), len(held_out)) >= FEWEST:
        how, asked = "train split", held_out
        choices = {name: text_only_choices(train, held_out, name) for name in CLASSIFIERS}
    elif len(closed) >= 2 * FEWEST and len(_sets(closed)) >= FOLDS:
        how, asked = "folds", closed
        choices = {name: _in_folds(closed, name) for name in CLASSIFIERS}
    else:
        return {"missing": f"{len(closed)} closed questions are too few to learn from and to be scored on."}
    places = np.array([asked_in(row).right for row in asked])
    right = {name: np.asarray(chosen == places) for name, chosen in choices.items()}
    categories = np.array([asked_in(row).category for row in asked])
    return {
        "how": how,
        "n": len(asked),
        "accuracy": {
            name: {"all": _share(correct)}
            | {
                category: _share(correct[categories == category])
                for category in CATEGORIES
                if (categories == category).any()
            }
            for name, correct in right.items()
        },
    }


def above_chance(check: Mapping[str, Any]) -> list[str]:
    """List the classifiers of a check that are above chance over all questions, by an exact binomial test."""
    whole = {name: entry["all"] for name, entry in check.get("accuracy", {}).items()}
    return [
        name
        for name, figures in whole.items()
        if binomtest(round(figures["accuracy"] * figures["n"]), figures["n"], CHANCE, alternative="greater").pvalue
        < ALARM
    ]


def _share(correct: NDArray) -> dict[str, Any]:
    """Return the share of right answers with its interval."""
    interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(LEVEL, method="wilson")
    return {
        "n": len(correct),
        "accuracy": float(correct.mean()),
        "interval": [float(interval.low), float(interval.high)],
    }


def _sets(rows: Sequence[Instruction]) -> list[tuple[str, ...]]:
    """Return the different sets of options, as sorted codes."""
    return sorted({tuple(sorted(asked_in(row).option_codes)) for row in rows})


def _in_folds(rows: Sequence[Instruction], classifier: str) -> NDArray:
    """Answer questions in folds, each by a classifier that has learned from the other folds."""
    number = {codes: place for place, codes in enumerate(_sets(rows))}
    groups = [number[tuple(sorted(asked_in(row).option_codes))] for row in rows]
    chosen = np.zeros(len(rows), dtype=int)
    for learned, asked in GroupKFold(FOLDS).split(rows, groups=groups):
        chosen[asked] = text_only_choices([rows[i] for i in learned], [rows[i] for i in asked], classifier)
    return chosen


Option = dict[str, Any]
"""One option of a question: "text", "place", "rank" of its length, "others" (texts, sorted), "question"."""


def _options(rows: Sequence[Instruction]) -> list[Option]:
    """List the options of all questions, four a question."""
    listed = []
    for row in rows:
        options = asked_in(row).options
        lengths = [len(text) for text in options]
        for place, text in enumerate(options):
            listed.append(
                {
                    "text": text,
                    "place": place,
                    "rank": sorted(lengths).index(lengths[place]),
                    "others": sorted(other for other in options if other != text),
                    "question": row.instruction.split("\n")[0],
                }
            )
    return listed


def _words(option: Option) -> list[str]:
    """List what the logistic regression sees of an option: words, the whole text, place, rank of its length."""
    places = [f"place={option['place']}", f"rank={option['rank']}", f"length={len(option['text']) // 8}"]
    return [*option["text"].split(), option["text"], *places, f"{option['question']}|{option['place']}"]


def _words_model() -> Any:
    return make_pipeline(CountVectorizer(analyzer=_words, binary=True), LogisticRegression(C=0.3, max_iter=500))


class _Boosting:
    """Gradient boosting on the numbers of texts.

    Args:
        rows: The questions that give each text its number.
    """

    def __init__(self, rows: Sequence[Instruction]) -> None:
        options = _options(rows)
        texts = sorted({option["text"] for option in options} | {option["question"] for option in options})
        self.number = {text: place for place, text in enumerate(texts)}
        self.model = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.1, max_leaf_nodes=15, random_state=0)

    def fit(self, options: Sequence[Option], is_right: NDArray) -> None:
        """Learn from options and whether each is right."""
        self.model.fit(self._numbers(options), is_right)

    def predict_proba(self, options: Sequence[Option]) -> NDArray:
        """Return the probabilities that options are wrong and right, shape (n, 2)."""
        return np.asarray(self.model.predict_proba(self._numbers(options)))

    def _numbers(self, options: Sequence[Option]) -> NDArray:
        """Describe options by numbers. A text that the model has not learned from has the number -1."""
        rows = []
        for option in options:
            texts = [self.number.get(text, -1) for text in (option["text"], option["question"], *option["others"])]
            lengths = [len(option["text"]), *(len(text) for text in option["others"])]
            rows.append([option["place"], option["rank"], *texts, *lengths])
        return np.array(rows, dtype=np.float64)
