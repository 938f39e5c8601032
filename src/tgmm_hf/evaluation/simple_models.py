"""Simple models to compare a large model with: logistic regression, gradient boosting and Cox models.

Each simple model reads one set of features: the laboratory cells, the summary of one frozen encoder of a saved model (a
probe), NT-proBNP or the ejection fraction alone, or only what was measured. `simple_model_evaluation` fits and scores
them.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError, ConvergenceWarning
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tgmm_hf.evaluation.metrics import UndefinedFigureError

Score = Callable[[pd.DataFrame], NDArray]
"""Function from features to the probability of the positive class, or to the risk."""
Fit = Callable[[pd.DataFrame, pd.DataFrame, float], Score]
"""Function from training features, training outcomes and a setting to the fitted score."""

CS, PENALTIES = (0.01, 0.1, 1.0), (0.01, 0.1, 1.0)
PROBE_CS, COMPONENTS = (0.0001, 0.001, 0.01, 0.1), (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class SimpleModel:
    """A simple model.

    Attributes:
        name: Its name in the results.
        kind: "diagnosis" or "prognosis".
        features: Name of a feature set, see `read_features`.
        fit: How it is fitted.
        settings: Values that the validation split chooses from.
    """

    name: str
    kind: str
    features: str
    fit: Fit
    settings: tuple[float, ...]


def fit_logistic(features: pd.DataFrame, outcomes: pd.DataFrame, setting: float) -> Score:
    """Fit a logistic regression with an L2 penalty.

    Args:
        features: One row per training admission.
        outcomes: The column label.
        setting: Inverse strength C of the penalty.
    """
    return _logistic(_preparation(), features, outcomes, setting)


def fit_logistic_probe(features: pd.DataFrame, outcomes: pd.DataFrame, setting: float) -> Score:
    """Fit a logistic regression on an encoder's summaries, which are only standardised.

    Args:
        features: One row per training admission.
        outcomes: The column label.
        setting: Inverse strength C of the penalty.
    """
    return _logistic((StandardScaler(),), features, outcomes, setting)


def _logistic(steps: Sequence[Any], features: pd.DataFrame, outcomes: pd.DataFrame, setting: float) -> Score:
    model = make_pipeline(*steps, LogisticRegression(C=setting, max_iter=5000))
    model.fit(features, outcomes["label"])
    return lambda rows: model.predict_proba(rows)[:, 1]


def fit_boosting(features: pd.DataFrame, outcomes: pd.DataFrame, setting: float) -> Score:
    """Fit gradient boosting on trees of 8 leaves. Missing values stay missing.

    Args:
        features: One row per training admission.
        outcomes: The column label.
        setting: Number of trees.
    """
    model = HistGradientBoostingClassifier(
        learning_rate=0.05, max_leaf_nodes=8, max_iter=int(setting), early_stopping=False, random_state=0
    )
    model.fit(features, outcomes["label"])
    return lambda rows: model.predict_proba(rows)[:, 1]


def fit_cox(features: pd.DataFrame, outcomes: pd.DataFrame, setting: float) -> Score:
    """Fit a Cox model of the event's cause-specific hazard. Deaths are censored.

    Args:
        features: One row per training admission.
        outcomes: The columns time and event.
        setting: Strength of the L2 penalty.
    """
    return _cox(_preparation(), features, outcomes, setting)


def fit_cox_probe(features: pd.DataFrame, outcomes: pd.DataFrame, setting: float) -> Score:
    """Fit a Cox model on the first principal components of an encoder's standardised summaries.

    Newton's steps on all 768 features of an encoder of the paper's size took 40 to 70 s per fit for 1,000 patients.

    Args:
        features: One row per training admission.
        outcomes: The columns time and event.
        setting: Number of components.
    """
    components = PCA(min(int(setting), *features.shape), svd_solver="full")
    # A component without variance is a rounding error. The Cox model would scale it up to the size of the others.
    return _cox((StandardScaler(), components, VarianceThreshold(1e-3)), features, outcomes, 0.1)


def _cox(steps: Sequence[Any], features: pd.DataFrame, outcomes: pd.DataFrame, penalty: float) -> Score:
    prepare = Pipeline([(str(i), step) for i, step in enumerate(steps)])
    table = pd.DataFrame(prepare.fit_transform(features)).add_prefix("x")
    table = table.assign(time=outcomes["time"].to_numpy(), event=(outcomes["event"] == 1).to_numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # advice about columns, which the penalty makes harmless
        warnings.filterwarnings("error", "Newton-Raphson", ConvergenceWarning)  # the fit stopped before the maximum
        try:
            model = CoxPHFitter(penalizer=penalty).fit(table, "time", "event")
        except (ConvergenceError, ConvergenceWarning) as error:
            raise UndefinedFigureError(f"the Cox model did not converge at a penalty of {penalty}") from error
    return lambda rows: model.predict_log_partial_hazard(
        pd.DataFrame(prepare.transform(rows)).add_prefix("x")
    ).to_numpy()


def _preparation() -> tuple[Any, ...]:
    """Return the steps that prepare laboratory cells.

    Skewed positive numbers go to a logarithmic scale. A missing value becomes the mean, and an indicator column.
    """
    return (
        FunctionTransformer(np.arcsinh),
        StandardScaler(),
        SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True),
        VarianceThreshold(),
    )


SIMPLE_MODELS = (
    SimpleModel("logistic regression on labs", "diagnosis", "labs", fit_logistic, CS),
    SimpleModel("gradient boosting on labs", "diagnosis", "labs", fit_boosting, (25, 100, 300)),
    SimpleModel("labs text probe", "diagnosis", "labs summary", fit_logistic_probe, PROBE_CS),
    SimpleModel("ECG probe", "diagnosis", "ecg summary", fit_logistic_probe, PROBE_CS),
    SimpleModel("echo probe", "diagnosis", "echo summary", fit_logistic_probe, PROBE_CS),
    SimpleModel("NT-proBNP alone", "diagnosis", "natriuretic", fit_logistic, (1.0,)),
    SimpleModel("LVEF alone", "diagnosis", "lvef", fit_logistic, (1.0,)),
    SimpleModel("what was measured", "diagnosis", "presence", fit_logistic, CS),
    SimpleModel("Cox model on labs", "prognosis", "labs", fit_cox, PENALTIES),
    SimpleModel("labs text probe", "prognosis", "labs summary", fit_cox_probe, COMPONENTS),
    SimpleModel("ECG probe", "prognosis", "ecg summary", fit_cox_probe, COMPONENTS),
    SimpleModel("echo probe", "prognosis", "echo summary", fit_cox_probe, COMPONENTS),
    SimpleModel("NT-proBNP alone", "prognosis", "natriuretic", fit_cox, (0.01,)),
    SimpleModel("LVEF alone", "prognosis", "lvef", fit_cox, (0.01,)),
    SimpleModel("what was measured", "prognosis", "presence", fit_cox, PENALTIES),
)
