"""The generative model on paper: cardiac state -> HF label and follow-up -> evidence of each modality.

State of one patient
    y        prevalent heart failure (0 / 1), P(y = 1) = 708 / 1524 as in HFTri-MIMIC.
    x        three correlated axes of the cardiac state, x | y ~ N(y * separation, correlation):
               labs  congestion, renal function, comorbidity  (what blood and history know)
               ecg   conduction, hypertrophy, repolarisation  (what the electrocardiogram knows)
               echo  ejection fraction, chamber size, valves  (what the ultrasound knows)
             Read the other way round, P(y = 1 | x) is logistic in x (equal covariances), so "state -> HF status" and
             "HF status -> state" are the same joint law; the second is what gets sampled.
    rhythm   atrial fibrillation (0 / 1), P(rhythm | y), independent of x given y; it shows in all three modalities.
    follow-up (y = 0 only): incident HF with hazard proportional to exp(risk_weights . x), death with a weaker one.

Evidence e_m of modality m = the parameters its files are rendered from, with their presence mask:
    a Gaussian parameter is  x_m + noise  (or rhythm + noise), later squashed one-to-one into physical units;
    a word (a diagnosis or a drug) is present with probability sigmoid(a + b x_m), or P(word | rhythm).
Given (x, rhythm) all parameters are independent, so the joint posterior of any modality subset is an integral over
the three axes and a sum over the rhythm (`bayes.py`): nothing is multiplied across modalities. Missingness is
independent of the state; files = render(e_m, nuisance), the nuisance drawn from streams that never see the state.

These are invented numbers: figures on this cohort are no clinical evidence.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tgmm_hf.utils.names import MODALITIES, VIEWS

PREVALENCE = 708 / 1524
FOLLOW_UP_RATE = 455 / 816
CENTRE = 0.66
"""Axis value half-way between the classes at the default separation; physical units are laid out around it."""


@dataclass(frozen=True)
class Strength:
    """How far apart the classes are on the three axes (in within-class standard deviations)."""

    separation: tuple[float, float, float]
    correlation: tuple[float, float, float]  # within class: labs-ecg, labs-echo, ecg-echo
    rhythm_given_label: tuple[float, float]  # P(atrial fibrillation | y = 0), P(... | y = 1)
    risk_weights: tuple[float, float, float]  # log hazard of incident HF per unit of each axis

    @property
    def covariance(self) -> np.ndarray:
        """Within-class covariance of the axes, shape (3, 3), unit variances."""
        labs_ecg, labs_echo, ecg_echo = self.correlation
        return np.array([[1, labs_ecg, labs_echo], [labs_ecg, 1, ecg_echo], [labs_echo, ecg_echo, 1]])


EVIDENCE = {
    "default": Strength((1.36, 1.26, 1.32), (0.00, 0.02, 0.18), (0.10, 0.22), (0.47, 0.45, 0.47)),
    "strong": Strength((2.40, 2.30, 2.40), (0.00, 0.02, 0.18), (0.10, 0.30), (0.80, 0.80, 0.80)),
}
"""Calibrated so that AUCs lie near the paper's table 2 (see docs/synthetic.md for the figures)."""

INCIDENT_RATE = 1 / 3700.0
DEATH_RATE = 1 / 9000.0
"""Events per day at x = 0 (incident HF) and deaths per day."""


@dataclass(frozen=True)
class Parameter:
    """A Gaussian evidence parameter: value = source + noise * N(0, 1), in axis units."""

    name: str
    modality: str
    noise: float
    rate: float = 1.0  # share of patients in whom the cell is there (labs only)
    source: str = "axis"


@dataclass(frozen=True)
class Word:
    """A diagnosis or drug; in its cell with probability sigmoid(intercept + slope * (x_labs - CENTRE)).

    `given_rhythm` replaces that law by P(word | rhythm = 0), P(word | rhythm = 1).
    """

    text: str
    cell: str
    intercept: float = 0.0
    slope: float = 0.0
    icd10: str = ""
    given_rhythm: tuple[float, float] | None = None


PARAMETERS = (
    Parameter("NTproBNP", "labs", 2.0, 0.45),
    Parameter("Creatinine", "labs", 3.0, 0.98),
    Parameter("Urea Nitrogen", "labs", 3.0, 0.98),
    Parameter("Sodium", "labs", 3.4, 0.98),
    Parameter("RDW", "labs", 3.2, 0.95),
    Parameter("Hemoglobin", "labs", 3.4, 0.96),
    Parameter("Troponin T", "labs", 3.0, 0.40),
    Parameter("age", "labs", 3.2, 1.0),
    Parameter("qrs_width", "ecg", 0.6),
    Parameter("hypertrophy", "ecg", 0.8),
    Parameter("t_wave", "ecg", 0.6),
    Parameter("qt_interval", "ecg", 1.1),
    Parameter("p_terminal", "ecg", 1.3),
    Parameter("shortening", "echo", 0.5),
    Parameter("lv_size", "echo", 0.7),
    Parameter("wall", "echo", 1.1),
    Parameter("jet", "echo", 0.8),
    Parameter("la_size", "echo", 0.8, source="rhythm"),
)
LA_SHIFT = 2.0
"""la_size = LA_SHIFT * rhythm + noise: the left atrium is large in atrial fibrillation."""

HISTORY, DRUGS = "medical history", "drug history"
CELL_RATE = {HISTORY: 0.70, DRUGS: 0.80}
"""Availability of the two text cells (medical history about 70 %, paper figure 1a)."""

WORDS = (
    Word("Essential (primary) hypertension", HISTORY, 0.3, 1.6, "I10"),
    Word("Old myocardial infarction", HISTORY, -0.7, 1.8, "I252"),
    Word("Chronic kidney disease, stage 3 (moderate)", HISTORY, -0.5, 2.0, "N183"),
    Word("Type 2 diabetes mellitus without complications", HISTORY, -0.4, 1.6, "E119"),
    Word("Pulmonary hypertension, unspecified", HISTORY, -0.8, 2.0, "I2720"),
    Word("Nonrheumatic mitral (valve) insufficiency", HISTORY, -0.8, 1.8, "I340"),
    Word("Anxiety disorder, unspecified", HISTORY, -0.5, -1.6, "F419"),
    Word("Migraine, unspecified, not intractable, without status migrainosus", HISTORY, -0.7, -1.8, "G43909"),
    Word("Unspecified atrial fibrillation", HISTORY, icd10="I4891", given_rhythm=(0.04, 0.75)),
    Word("Furosemide", DRUGS, -0.3, 2.2),
    Word("Metoprolol Tartrate", DRUGS, 0.1, 1.8),
    Word("Lisinopril", DRUGS, -0.1, 1.6),
    Word("Spironolactone", DRUGS, -0.9, 2.0),
    Word("Insulin", DRUGS, -0.5, 1.5),
    Word("Sertraline", DRUGS, -0.6, -1.6),
    Word("Sumatriptan Succinate", DRUGS, -0.8, -1.8),
    Word("Apixaban", DRUGS, given_rhythm=(0.04, 0.65)),
)
ECG_AF_GIVEN_RHYTHM = (0.01, 0.90)
"""P(the ten seconds show fibrillation | rhythm): it may be paroxysmal."""

VIEW_RATE = dict(zip(VIEWS, (0.88, 0.80, 0.97, 0.62, 0.90, 0.88, 0.82, 0.97, 0.95, 0.68, 0.85), strict=True))
"""Share of studies with each view. The paper states A5C (missing in 38 %, the highest); the others are ours."""

LV_VIEWS = tuple(v for v in VIEWS if v not in ("Doppler_Parasternal_Short", "SSN"))
LA_VIEWS = tuple(v for v in VIEWS if v not in ("Parasternal_Short", "SSN"))
COLOUR_VIEWS = ("Apical_Doppler", "Doppler_Parasternal_Long", "Doppler_Parasternal_Short")
VIEWS_SHOWING = {
    "shortening": LV_VIEWS,
    "lv_size": LV_VIEWS,
    "wall": LV_VIEWS,
    "jet": COLOUR_VIEWS,
    "la_size": LA_VIEWS,
}

ANOMALIES = ("flat_ecg", "short_ecg", "still_echo", "corrupt_echo")
ANOMALY_PERIOD, ANOMALY_FIRST, ANOMALY_STEP = 300, 7, 11
"""Patients 7, 18, 29 and 40 of every 300 get one anomalous file each: a rule on the index, blind to the state."""


@dataclass
class Evidence:
    """Labels, follow-up and evidence of n patients. Where a mask is False the value beside it means nothing."""

    label: np.ndarray  # (n,) int, 1 = prevalent HF
    values: np.ndarray  # (n, len(PARAMETERS)) axis units
    present: np.ndarray  # (n, len(PARAMETERS)) bool
    words: np.ndarray  # (n, len(WORDS)) bool
    cells: np.ndarray  # (n, 2) bool: medical history, drug history recorded
    ecg_af: np.ndarray  # (n,) bool
    views: np.ndarray  # (n, 11) bool, readable multi-frame clip there
    usable: np.ndarray  # (n, 3) bool: labs, ecg, echo hold anything readable
    time: np.ndarray  # (n,) days after the 30-day landmark
    event: np.ndarray  # (n,) 0 censored, 1 incident HF, 2 death
    followed: np.ndarray  # (n,) bool: time and event are known (never for prevalent HF)

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: np.ndarray) -> "Evidence":
        """The same table for some patients only."""
        return Evidence(**{name: column[rows] for name, column in vars(self).items()})

    def parameters_of(self, modality: str, row: int = 0) -> dict[str, float]:
        """Present Gaussian parameters of one patient and modality, in axis units."""
        return {
            p.name: float(self.values[row, k])
            for k, p in enumerate(PARAMETERS)
            if p.modality == modality and self.present[row, k]
        }


def stack(parts: list[Evidence]) -> Evidence:
    """Tables of several patients below one another."""
    return Evidence(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def stream(seed: int, index: int, part: int) -> np.random.Generator:
    """The independent random stream of one patient and one part of the generator (state, labs, ECG, ...)."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, part)))


def anomaly_of(index: int) -> str | None:
    """Which anomalous file patient `index` has, if any."""
    place, rest = divmod(index % ANOMALY_PERIOD - ANOMALY_FIRST, ANOMALY_STEP)
    return ANOMALIES[place] if rest == 0 and 0 <= place < len(ANOMALIES) else None


def draw_intended(seed: int, index: int, evidence: str = "default") -> Evidence:
    """Evidence of patient `index` (one row) from that patient's own stream, as if none of its files were anomalous."""
    return draw(stream(seed, index, 0), 1, EVIDENCE[evidence])


def draw_patient(seed: int, index: int, evidence: str = "default") -> Evidence:
    """Evidence of patient `index` (one row) that its files let one read: what an anomalous file held is masked out."""
    table = draw_intended(seed, index, evidence)
    anomaly = anomaly_of(index)
    if anomaly in ("flat_ecg", "short_ecg"):
        hide_modality(table, "ecg")
    elif anomaly in ("still_echo", "corrupt_echo"):
        table.views[0, anomalous_view(table)] = False
        mask_echo_parameters(table)
    return table


def anomalous_view(table: Evidence) -> int:
    """The view that an anomalous echo file would have shown: the first one of the study."""
    return int(np.argmax(table.views[0]))


def hide_modality(table: Evidence, modality: str) -> None:
    """Mark a modality as unreadable, in place."""
    table.usable[:, MODALITIES.index(modality)] = False
    for k, parameter in enumerate(PARAMETERS):
        if parameter.modality == modality:
            table.present[:, k] = False


def mask_echo_parameters(table: Evidence) -> None:
    """An echo parameter is present when a view that shows it is; in place."""
    for k, parameter in enumerate(PARAMETERS):
        if parameter.modality == "echo":
            shown = [VIEWS.index(view) for view in VIEWS_SHOWING[parameter.name]]
            table.present[:, k] = table.views[:, shown].any(axis=1)
    table.usable[:, MODALITIES.index("echo")] = table.views.any(axis=1)


def draw(rng: np.random.Generator, n: int, strength: Strength) -> Evidence:
    """Draw n patients: state, label, follow-up, evidence with its presence masks."""
    label = (rng.random(n) < PREVALENCE).astype(np.int64)
    x = (
        label[:, None] * np.array(strength.separation)
        + rng.standard_normal((n, 3)) @ np.linalg.cholesky(strength.covariance).T
    )
    rhythm = (rng.random(n) < np.array(strength.rhythm_given_label)[label]).astype(np.int64)
    values = draw_parameters(rng, x, rhythm)
    ecg_af = rng.random(n) < np.array(ECG_AF_GIVEN_RHYTHM)[rhythm]
    time, event, followed = draw_follow_up(rng, x, label, strength)
    table = Evidence(
        label=label,
        values=values,
        present=rng.random(values.shape) < np.array([p.rate for p in PARAMETERS]),
        words=rng.random((n, len(WORDS))) < word_probabilities(x[:, 0], rhythm),
        cells=rng.random((n, 2)) < np.array([CELL_RATE[HISTORY], CELL_RATE[DRUGS]]),
        ecg_af=ecg_af,
        views=draw_views(rng, n),
        usable=np.ones((n, 3), dtype=bool),
        time=time,
        event=event,
        followed=followed,
    )
    mask_echo_parameters(table)
    table.present[:, index_of("p_terminal")] &= ~ecg_af  # no P wave in fibrillation
    return table


def index_of(parameter: str) -> int:
    """Column of a Gaussian parameter."""
    return [p.name for p in PARAMETERS].index(parameter)


def draw_parameters(rng: np.random.Generator, x: np.ndarray, rhythm: np.ndarray) -> np.ndarray:
    """Gaussian parameters (n, len(PARAMETERS)) given axes (n, 3) and rhythm (n,)."""
    noise = rng.standard_normal((len(x), len(PARAMETERS)))
    means = [LA_SHIFT * rhythm if p.source == "rhythm" else x[:, MODALITIES.index(p.modality)] for p in PARAMETERS]
    return np.stack(means, axis=1) + noise * np.array([p.noise for p in PARAMETERS])


def draw_views(rng: np.random.Generator, n: int) -> np.ndarray:
    """View presence (n, 11); a study without any view gets an apical four-chamber one."""
    views = rng.random((n, len(VIEWS))) < np.array([VIEW_RATE[view] for view in VIEWS])
    views[~views.any(axis=1), VIEWS.index("A4C")] = True
    return views


def sigmoid(value: np.ndarray | float) -> np.ndarray:
    """Logistic function."""
    return 1.0 / (1.0 + np.exp(-np.asarray(value, dtype=np.float64)))


def word_probabilities(x_labs: np.ndarray, rhythm: np.ndarray) -> np.ndarray:
    """P(word | state), shape (n, len(WORDS))."""
    columns: Iterator[np.ndarray] = (
        sigmoid(w.intercept + w.slope * (x_labs - CENTRE))
        if w.given_rhythm is None
        else np.array(w.given_rhythm)[rhythm]
        for w in WORDS
    )
    return np.stack(list(columns), axis=1)


def draw_follow_up(
    rng: np.random.Generator, x: np.ndarray, label: np.ndarray, strength: Strength
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time (days after the landmark), event code and "followed" of n patients.

    Incident HF and death are exponential with log-linear hazards in the axes; the last contact lies 30 to 1,460 days
    after the landmark and observation ends 365 days after it, as `dod` does in MIMIC. Who is followed is independent.
    """
    n = len(x)
    score = x @ np.array(strength.risk_weights)
    incident = rng.exponential(1.0, n) / (INCIDENT_RATE * np.exp(score))
    death = rng.exponential(1.0, n) / (DEATH_RATE * np.exp(0.4 * score))
    censor = rng.uniform(30, 1460, n) + 365
    times = np.ceil(np.stack([censor, incident, death], axis=1))
    event = np.argmin(times, axis=1)  # ties go to the smaller code
    followed = (label == 0) & (rng.random(n) < FOLLOW_UP_RATE)
    return times.min(axis=1), event, followed
