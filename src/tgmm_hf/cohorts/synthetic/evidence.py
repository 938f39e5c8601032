"""The generative model: cardiac state -> label of heart failure (HF) and follow-up -> evidence of each modality.

State of one patient
    y        prevalent heart failure (0 / 1), P(y = 1) = 708 / 1524 as in HFTri-MIMIC.
    x        three correlated axes of the cardiac state, x | y ~ N(y * separation, correlation):
               labs  congestion, renal function, comorbidity  (visible in blood and history)
               ecg   conduction, hypertrophy, repolarisation  (visible in the electrocardiogram)
               echo  ejection fraction, chamber size, valves  (visible in the ultrasound)
             The state is sampled given y. The covariances of both classes are equal, so P(y = 1 | x) is logistic in x.
    rhythm   atrial fibrillation (0 / 1), P(rhythm | y), independent of x given y. It is visible in all modalities.
    follow-up (y = 0 only): incident HF with a hazard proportional to exp(risk_weights . x), death with a weaker one.

Evidence e_m of modality m: the parameters that its files are rendered from, with their presence mask.
    A Gaussian parameter is x_m + noise (or rhythm + noise), later mapped one-to-one to physical units.
    A word (a diagnosis or a drug) is present with probability sigmoid(a + b x_m), or P(word | rhythm).

Given (x, rhythm) all parameters are independent. So the joint posterior of any subset is an integral over the three
axes and a sum over the rhythm (`bayes.py`). Missing values do not depend on the state. Files are rendered from e_m and
from nuisance, which is drawn from random streams that do not depend on the state.

The numbers are invented. Figures on this cohort are no clinical evidence.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tgmm_hf.cohorts.synthetic.interactions import Interactions, draw_interactions
from tgmm_hf.utils.names import MODALITIES, VIEWS

PREVALENCE = 708 / 1524
FOLLOW_UP_RATE = 455 / 816
CENTRE = 0.66
"""Axis value half-way between the classes at the default separation. Physical units are centred on it."""


@dataclass(frozen=True)
class Strength:
    """Numbers of the generative model: how far apart patients with and without heart failure (HF) are.

    Attributes:
        separation: Distance of the two classes on the axes labs, ecg, echo, in standard deviations within a class.
        correlation: Correlations within a class: labs-ecg, labs-echo, ecg-echo.
        rhythm_given_label: Probability of atrial fibrillation without HF, and with HF.
        risk_weights: Change of the log hazard of incident HF per unit of each axis.
        interactions: Which modalities change each other's meaning. None: the evidence is additive.
        prevalence: P(y = 1), the share of patients with heart failure.
        shares: Parameter, text cell or view -> share of patients who have it, in place of the usual share.
    """

    separation: tuple[float, float, float]
    correlation: tuple[float, float, float]  # within a class: labs-ecg, labs-echo, ecg-echo
    rhythm_given_label: tuple[float, float]  # P(atrial fibrillation | y = 0), P(... | y = 1)
    risk_weights: tuple[float, float, float]  # log hazard of incident HF per unit of each axis
    interactions: Interactions | None = None
    prevalence: float = PREVALENCE
    shares: tuple[tuple[str, float], ...] = ()

    def share(self, name: str, usual: float) -> float:
        """Return the share of patients who have a parameter, text cell or view. `usual` is the share elsewhere."""
        return dict(self.shares).get(name, usual)

    @property
    def covariance(self) -> np.ndarray:
        """Covariance (3, 3) of the axes within a class, with unit variances."""
        labs_ecg, labs_echo, ecg_echo = self.correlation
        return np.array([[1, labs_ecg, labs_echo], [labs_ecg, 1, ecg_echo], [labs_echo, ecg_echo, 1]])


EVIDENCE = {
    "default": Strength((1.36, 1.26, 1.32), (0.00, 0.02, 0.18), (0.10, 0.22), (0.47, 0.45, 0.47)),
    "strong": Strength((2.40, 2.30, 2.40), (0.00, 0.02, 0.18), (0.10, 0.30), (0.80, 0.80, 0.80)),
    **{
        name: Strength((0.90, 0.85, 0.90), (0.00, 0.02, 0.18), (0.10, 0.22), (0.47, 0.45, 0.47), interactions)
        for name, interactions in (
            ("interacting", Interactions(sign=True, product=True)),
            ("sign", Interactions(sign=True, product=False)),
            ("xor", Interactions(sign=False, product=True)),
        )
    },
}
"""Name -> strength. "default" is chosen so that the AUCs lie near the paper's table 2, see docs/synthetic.md. In the
last three the modalities change each other's meaning, see `interactions.py`."""


def strength_of(evidence: str | Strength) -> Strength:
    """Look up a strength by its name in `EVIDENCE`. A strength, as a centre has it, is returned as it is."""
    return EVIDENCE[evidence] if isinstance(evidence, str) else evidence


INCIDENT_RATE = 1 / 3700.0
DEATH_RATE = 1 / 9000.0
"""Events per day at x = 0 (incident HF) and deaths per day."""


@dataclass(frozen=True)
class Parameter:
    """A Gaussian evidence parameter: value = source + noise * N(0, 1), in units of the axes.

    Attributes:
        name: Name of the parameter: a laboratory column, or a property of the ECG or the echo.
        modality: The modality that shows the parameter.
        noise: Standard deviation of the noise.
        rate: Probability that a patient has the value. Below 1 for labs only.
        source: "axis": the patient's value on the axis of the modality. "rhythm": `LA_SHIFT` with atrial fibrillation,
            else 0.
    """

    name: str
    modality: str
    noise: float
    rate: float = 1.0  # share of patients who have the cell (labs only)
    source: str = "axis"


@dataclass(frozen=True)
class Word:
    """A diagnosis or drug that a text cell of a patient may name.

    The word is present with probability sigmoid(intercept + slope * (x_labs - CENTRE)). x_labs is the patient's value
    on the labs axis of the cardiac state. CENTRE is half-way between the classes. If `given_rhythm` = (p0, p1) is set,
    the probability is p0 without atrial fibrillation and p1 with it, and intercept and slope are not used.

    Attributes:
        text: The word as the cell names it.
        cell: Name of the laboratory column.
        intercept: Log odds of the word at x_labs = CENTRE.
        slope: Change of the log odds per unit of x_labs.
        icd10: ICD-10 code of a diagnosis, "" for a drug.
        given_rhythm: (p0, p1), or None if the word depends on x_labs.
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
"""la_size = LA_SHIFT * rhythm + noise, because the left atrium is large in atrial fibrillation."""

HISTORY, DRUGS = "medical history", "drug history"
CELL_RATE = {HISTORY: 0.70, DRUGS: 0.80}
"""Share of patients who have the two text cells (medical history about 70 %, paper figure 1a)."""

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
DRUG_SLOPES = [word.slope for word in WORDS if word.cell == DRUGS]
ECG_AF_GIVEN_RHYTHM = (0.01, 0.90)
"""Probability that the ten seconds of ECG show fibrillation, without and with atrial fibrillation. The second is below
1, because fibrillation may come and go."""

VIEW_RATE = dict(zip(VIEWS, (0.88, 0.80, 0.97, 0.62, 0.90, 0.88, 0.82, 0.97, 0.95, 0.68, 0.85), strict=True))
"""Share of studies with each view. A5C is from the paper (missing in 38 %, the highest share); the rest is ours."""

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

ECG_ANOMALIES = ("flat_ecg", "short_ecg")
ANOMALIES = (*ECG_ANOMALIES, "still_echo", "corrupt_echo")
ANOMALY_PERIOD, ANOMALY_FIRST, ANOMALY_STEP = 300, 7, 11
"""Patients 7, 18, 29 and 40 of every 300 get one anomalous file each. The rule depends on the index, not the state."""


@dataclass
class Evidence:
    """Labels, follow-up and evidence of n patients, one row each. A value whose mask is False has no meaning."""

    label: np.ndarray  # (n,) int, 1 = prevalent HF
    values: np.ndarray  # (n, len(PARAMETERS)) axis units
    present: np.ndarray  # (n, len(PARAMETERS)) bool
    words: np.ndarray  # (n, len(WORDS)) bool
    cells: np.ndarray  # (n, 2) bool: medical history, drug history are present
    ecg_af: np.ndarray  # (n,) bool
    views: np.ndarray  # (n, 11) bool: a readable multi-frame clip exists
    usable: np.ndarray  # (n, 3) bool: labs, ecg, echo are readable
    time: np.ndarray  # (n,) days after the 30-day landmark
    event: np.ndarray  # (n,) 0 censored, 1 incident HF, 2 death
    followed: np.ndarray  # (n,) bool: time and event are known (never for prevalent HF)

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: np.ndarray) -> "Evidence":
        """Return the evidence of the patients with these row numbers, or where `rows` is True."""
        return Evidence(**{name: column[rows] for name, column in vars(self).items()})

    def parameters_of(self, modality: str, row: int = 0) -> dict[str, float]:
        """Return name -> value of the Gaussian parameters of a modality that patient `row` has, in axis units."""
        return {
            p.name: float(self.values[row, k])
            for k, p in enumerate(PARAMETERS)
            if p.modality == modality and self.present[row, k]
        }


def stack(parts: list[Evidence]) -> Evidence:
    """Join several tables of evidence into one, row after row."""
    return Evidence(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def stream(seed: int, index: int, part: int) -> np.random.Generator:
    """Return the random generator of patient number `index` for one part of the cohort.

    `part` is 0 for the state, or a stream number of `cohort.py` (labs, ECG, ...). Equal arguments give equal numbers.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, part)))


def anomaly_of(index: int) -> str | None:
    """Return the kind of anomaly (of `ANOMALIES`) of patient number `index`, or None."""
    place, rest = divmod(index % ANOMALY_PERIOD - ANOMALY_FIRST, ANOMALY_STEP)
    return ANOMALIES[place] if rest == 0 and 0 <= place < len(ANOMALIES) else None


def draw_intended(seed: int, index: int, evidence: str | Strength = "default") -> Evidence:
    """Draw the evidence of patient number `index`, one row, as if the patient had no anomalous file.

    `evidence` is the strength or its name. Equal arguments give equal results.
    """
    return draw(stream(seed, index, 0), 1, strength_of(evidence))


def draw_patient(seed: int, index: int, evidence: str | Strength = "default") -> Evidence:
    """Draw the evidence of patient number `index`, one row. Evidence in an anomalous file is masked as absent.

    `evidence` is the strength or its name. Equal arguments give equal results.
    """
    table = draw_intended(seed, index, evidence)
    anomaly = anomaly_of(index)
    if anomaly in ECG_ANOMALIES:
        hide_modality(table, "ecg")
    elif anomaly in ("still_echo", "corrupt_echo"):
        table.views[0, anomalous_view(table)] = False
        mask_echo_parameters(table)
    return table


def anomalous_view(table: Evidence) -> int:
    """Return the index in `VIEWS` of the view whose file is anomalous: the first view of the patient's study."""
    return int(np.argmax(table.views[0]))


def hide_modality(table: Evidence, modality: str) -> None:
    """Mark a modality and its parameters as absent for all patients of the table, in place."""
    table.usable[:, MODALITIES.index(modality)] = False
    for k, parameter in enumerate(PARAMETERS):
        if parameter.modality == modality:
            table.present[:, k] = False


def mask_echo_parameters(table: Evidence) -> None:
    """Update the masks of the echo from `table.views`, in place.

    A parameter is present if a view that shows it (`VIEWS_SHOWING`) is present. The echo is usable if any view is
    present.
    """
    for k, parameter in enumerate(PARAMETERS):
        if parameter.modality == "echo":
            shown = [VIEWS.index(view) for view in VIEWS_SHOWING[parameter.name]]
            table.present[:, k] = table.views[:, shown].any(axis=1)
    table.usable[:, MODALITIES.index("echo")] = table.views.any(axis=1)


def draw(rng: np.random.Generator, n: int, strength: Strength) -> Evidence:
    """Draw n patients from the generative model with the numbers `strength`: label, follow-up, evidence and masks."""
    label, x, rhythm = draw_state(rng, n, strength)
    values = draw_parameters(rng, x, rhythm)
    ecg_af = rng.random(n) < np.array(ECG_AF_GIVEN_RHYTHM)[rhythm]
    time, event, followed = draw_follow_up(rng, x, label, strength)
    table = Evidence(
        label=label,
        values=values,
        present=rng.random(values.shape) < np.array([strength.share(p.name, p.rate) for p in PARAMETERS]),
        words=rng.random((n, len(WORDS))) < word_probabilities(x[:, 0], rhythm),
        cells=rng.random((n, 2)) < np.array([strength.share(cell, CELL_RATE[cell]) for cell in (HISTORY, DRUGS)]),
        ecg_af=ecg_af,
        views=draw_views(rng, n, strength),
        usable=np.ones((n, 3), dtype=bool),
        time=time,
        event=event,
        followed=followed,
    )
    mask_echo_parameters(table)
    table.present[:, index_of("p_terminal")] &= ~ecg_af  # fibrillation has no P wave
    if strength.interactions is not None:
        show_interactions(rng, table, strength.interactions)
    return table


def show_interactions(rng: np.random.Generator, table: Evidence, interactions: Interactions) -> None:
    """Put the evidence of interactions in place of the drugs and of three parameters, in place."""
    drawn = draw_interactions(rng, table.label, DRUG_SLOPES, interactions)
    table.words[:, [word.cell == DRUGS for word in WORDS]] = drawn.drugs
    for name, values in drawn.values.items():
        table.values[:, index_of(name)] = CENTRE + values


def draw_state(rng: np.random.Generator, n: int, strength: Strength) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the state of n patients: label (n,), axes (n, 3) and rhythm (n,).

    `draw` draws the state first. So a random generator of the same seed gives the state behind its evidence.
    """
    label = (rng.random(n) < strength.prevalence).astype(np.int64)
    x = (
        label[:, None] * np.array(strength.separation)
        + rng.standard_normal((n, 3)) @ np.linalg.cholesky(strength.covariance).T
    )
    rhythm = (rng.random(n) < np.array(strength.rhythm_given_label)[label]).astype(np.int64)
    return label, x, rhythm


def index_of(parameter: str) -> int:
    """Return the number of a Gaussian parameter in `PARAMETERS`, which is its column in `Evidence.values`."""
    return [p.name for p in PARAMETERS].index(parameter)


def draw_parameters(rng: np.random.Generator, x: np.ndarray, rhythm: np.ndarray) -> np.ndarray:
    """Draw the Gaussian parameters, (n, len(PARAMETERS)), of patients with state x (n, 3) and rhythm (n,), 0 or 1."""
    noise = rng.standard_normal((len(x), len(PARAMETERS)))
    means = [LA_SHIFT * rhythm if p.source == "rhythm" else x[:, MODALITIES.index(p.modality)] for p in PARAMETERS]
    return np.stack(means, axis=1) + noise * np.array([p.noise for p in PARAMETERS])


def draw_views(rng: np.random.Generator, n: int, strength: Strength) -> np.ndarray:
    """Draw which views each of n studies has, (n, 11) bool. A study without any view gets A4C."""
    views = rng.random((n, len(VIEWS))) < np.array([strength.share(view, VIEW_RATE[view]) for view in VIEWS])
    views[~views.any(axis=1), VIEWS.index("A4C")] = True
    return views


def sigmoid(value: np.ndarray | float) -> np.ndarray:
    """Compute the logistic function 1 / (1 + exp(-value)), element by element."""
    return 1.0 / (1.0 + np.exp(-np.asarray(value, dtype=np.float64)))


def word_probabilities(x_labs: np.ndarray, rhythm: np.ndarray) -> np.ndarray:
    """Compute the probability of every word, (n, len(WORDS)), from the labs axis (n,) and the rhythm (n,), 0 or 1."""
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
    """Draw the follow-up of n patients.

    The times to incident HF and to death are exponential. Their log hazards are linear in the state x. The last contact
    lies 30 to 1,460 days after the landmark. Observation ends 365 days after the last contact, because MIMIC knows
    deaths (`dod`) for so long. Of the patients without heart failure, a random part is followed.

    Args:
        rng: Source of randomness.
        x: State, (n, 3).
        label: (n,), 1 = heart failure.
        strength: Numbers of the generative model.

    Returns:
        Time in days after the landmark (n,); event (n,), 0 censored, 1 incident HF, 2 death; and followed (n,), bool.
    """
    n = len(x)
    score = x @ np.array(strength.risk_weights)
    incident = rng.exponential(1.0, n) / (INCIDENT_RATE * np.exp(score))
    death = rng.exponential(1.0, n) / (DEATH_RATE * np.exp(0.4 * score))
    censor = rng.uniform(30, 1460, n) + 365
    times = np.ceil(np.stack([censor, incident, death], axis=1))
    event = np.argmin(times, axis=1)  # the smaller code wins a tie
    followed = (label == 0) & (rng.random(n) < FOLLOW_UP_RATE)
    return times.min(axis=1), event, followed
