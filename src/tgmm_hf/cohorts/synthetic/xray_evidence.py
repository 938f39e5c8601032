"""What a chest X-ray shows of the cardiac state, and what a reader reports about it.

The state (axes x_labs, x_ecg, x_echo and the rhythm, see `evidence.py`) reaches the picture through six numbers and a
device:

    heart_size       x_echo + noise     cardiothoracic ratio
    left_atrium      rhythm + noise     waist of the left border
    congestion       x_labs + noise     vessels, interstitial oedema
    effusion_right   x_labs + noise     fluid, from a limit on
    effusion_left    x_labs + noise     fluid, from a limit on
    atelectasis      noise              plate at a lung base, from a limit on; independent of the state
    device           P(device | x_ecg)  pacemaker, because conduction disease needs it

A value below its limit draws nothing, so the picture tells only that it is below. The reader sees the drawn value with
an error (`Reading`). Bands of what the reader sees become the words of the report and the labels. So a finding cannot
be read from the picture without error, and the best figure follows (`xray_bayes.py`).

The numbers are invented. TGMM's inputs do not depend on anything here, because all of this comes from random streams of
its own.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from tgmm_hf.cohorts.synthetic.evidence import CENTRE, EVIDENCE, LA_SHIFT, draw_state, sigmoid, stream
from tgmm_hf.cohorts.synthetic.render_xray import Shown
from tgmm_hf.utils.names import MODALITIES

XRAY_PLAN, XRAY_STATE, XRAY_PICTURE, XRAY_WORDS, XRAY_LATERAL = 30, 40, 50, 60, 70
"""Numbers of the random streams of a patient. Study k of the patient has the number plus k."""


@dataclass(frozen=True)
class XrayParameter:
    """A number that a picture is drawn from: value = source + noise * N(0, 1), in units of the axes.

    Attributes:
        name: Name of the number.
        source: "labs", "ecg" or "echo" (an axis of the state), "rhythm" (`LA_SHIFT` with atrial fibrillation), or
            "none".
        noise: Standard deviation of the noise.
        limit: The value is drawn as far as it lies above this. None: it is drawn everywhere.
    """

    name: str
    source: str
    noise: float
    limit: float | None = None


XRAY_PARAMETERS = (
    XrayParameter("heart_size", "echo", 1.0),
    XrayParameter("left_atrium", "rhythm", 1.2),
    XrayParameter("congestion", "labs", 1.3),
    XrayParameter("effusion_right", "labs", 1.8, 2.2),
    XrayParameter("effusion_left", "labs", 1.8, 2.5),
    XrayParameter("atelectasis", "none", 1.0, 0.7),
)
DEVICE_INTERCEPT, DEVICE_SLOPE = -2.2, 0.8
"""Log odds of a pacemaker at x_ecg = CENTRE, and their change per unit of x_ecg."""


@dataclass(frozen=True)
class Reading:
    """How a reader sees one number of the picture.

    Attributes:
        parameter: Name of the number.
        noise: Standard deviation of the reader's error.
        edges: Seen values from which the reader reports: doubtful, mild, moderate, severe.
        mentioned: Share of reports that deny the finding in words where it is not reported. The others are silent.
    """

    parameter: str
    noise: float
    edges: tuple[float, float, float, float]
    mentioned: float


READINGS = (
    Reading("heart_size", 0.7, (0.6, 0.9, 1.9, 2.8), 0.85),
    Reading("congestion", 0.7, (1.1, 1.4, 2.2, 3.0), 0.65),
    Reading("effusion_right", 0.25, (0.3, 0.45, 1.5, 2.6), 0.9),
    Reading("effusion_left", 0.25, (0.3, 0.45, 1.5, 2.6), 0.9),
    Reading("atelectasis", 0.2, (0.3, 0.5, 1.2, 2.2), 0.15),
)
"""Both sides of the effusion share one mention: a report denies effusions or is silent about them."""
ABSENT, DOUBTFUL, MILD, MODERATE, SEVERE = range(5)
"""Bands of a reading."""
DEVICE_REPORTED = 0.97
"""Share of the devices that the report names."""
COMPRESSION = 0.5
"""Share of reports of an effusion that name atelectasis beside it."""
AP_RATE = 0.55
"""Share of pictures that were taken at the bed. Independent of the state."""


@dataclass
class XrayEvidence:
    """What the X-rays of n patients show, and what their readers saw. One row each."""

    values: np.ndarray  # (n, len(XRAY_PARAMETERS)) axis units
    device: np.ndarray  # (n,) bool
    is_ap: np.ndarray  # (n,) bool
    bands: np.ndarray  # (n, len(READINGS)) ABSENT to SEVERE
    mentioned: np.ndarray  # (n, len(READINGS)) bool: an absent finding is denied in words
    reported_device: np.ndarray  # (n,) bool
    compression: np.ndarray  # (n,) bool: atelectasis is named beside an effusion, if there is one

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> "XrayEvidence":
        """Return the rows with these numbers, or where `rows` is True."""
        return XrayEvidence(**{name: column[rows] for name, column in vars(self).items()})

    def value(self, name: str) -> np.ndarray:
        """Return the values (n,) of a parameter, in axis units."""
        return self.values[:, index_of(name)]

    def band(self, name: str) -> np.ndarray:
        """Return the bands (n,) that the readers saw of a parameter."""
        return self.bands[:, reading_number(name)]

    def is_mentioned(self, name: str) -> np.ndarray:
        """Tell whether an absent finding is denied in words, (n,) bool."""
        return self.mentioned[:, reading_number(name)]


def index_of(name: str) -> int:
    """Return the number of a parameter in `XRAY_PARAMETERS`."""
    return [parameter.name for parameter in XRAY_PARAMETERS].index(name)


def reading_number(name: str) -> int:
    """Return the number of a parameter in `READINGS`."""
    return [reading.parameter for reading in READINGS].index(name)


def stack_xrays(parts: list[XrayEvidence]) -> XrayEvidence:
    """Join several tables of evidence into one, row after row."""
    return XrayEvidence(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def draw_xray(rng: np.random.Generator, x: np.ndarray, rhythm: np.ndarray) -> XrayEvidence:
    """Draw what the X-rays of patients with state x (n, 3) and rhythm (n,) show, and what the readers see."""
    n = len(x)
    sources = {m: x[:, k] for k, m in enumerate(MODALITIES)} | {"rhythm": LA_SHIFT * rhythm, "none": np.zeros(n)}
    noise = rng.standard_normal((n, len(XRAY_PARAMETERS)))
    means = np.stack([sources[parameter.source] for parameter in XRAY_PARAMETERS], axis=1)
    values = means + noise * np.array([parameter.noise for parameter in XRAY_PARAMETERS])
    device = rng.random(n) < device_probability(x[:, MODALITIES.index("ecg")])
    seen = np.stack([drawn(values[:, index_of(r.parameter)], r.parameter) for r in READINGS], axis=1)
    seen = seen + rng.standard_normal(seen.shape) * np.array([reading.noise for reading in READINGS])
    bands = (seen[:, :, None] >= np.array([reading.edges for reading in READINGS])).sum(axis=2)
    mentioned = rng.random(seen.shape) < np.array([reading.mentioned for reading in READINGS])
    mentioned[:, reading_number("effusion_left")] = mentioned[:, reading_number("effusion_right")]
    return XrayEvidence(
        values=values,
        device=device,
        is_ap=rng.random(n) < AP_RATE,
        bands=bands,
        mentioned=mentioned,
        reported_device=device & (rng.random(n) < DEVICE_REPORTED),
        compression=rng.random(n) < COMPRESSION,
    )


def draw_patient_xray(seed: int, index: int, evidence: str, study: int = 0) -> XrayEvidence:
    """Draw what X-ray number `study` of patient number `index` shows, one row, from the patient's own state.

    `evidence` is the name of the strength. Equal arguments give equal results.
    """
    _, x, rhythm = draw_state(stream(seed, index, 0), 1, EVIDENCE[evidence])
    return draw_xray(stream(seed, index, XRAY_STATE + study), x, rhythm)


def device_probability(x_ecg: np.ndarray) -> np.ndarray:
    """Return the probability of a pacemaker at values x_ecg of the ECG axis."""
    return sigmoid(DEVICE_INTERCEPT + DEVICE_SLOPE * (x_ecg - CENTRE))


def drawn(value: np.ndarray, name: str) -> np.ndarray:
    """Return what is drawn of the values of a parameter: the part above its limit, or the whole value."""
    limit = XRAY_PARAMETERS[index_of(name)].limit
    return value if limit is None else np.maximum(value - limit, 0.0)


def band_chances(value: np.ndarray, name: str) -> np.ndarray:
    """Compute the chance of each band, (..., 5), given values (...) of a parameter in the picture."""
    reading = READINGS[reading_number(name)]
    above = norm.sf((np.array(reading.edges) - drawn(value, name)[..., None]) / reading.noise)
    edges = np.concatenate([np.ones((*above.shape[:-1], 1)), above, np.zeros((*above.shape[:-1], 1))], axis=-1)
    return edges[..., :-1] - edges[..., 1:]


def shown_of(table: XrayEvidence, row: int = 0) -> Shown:
    """Turn the values of one row into what the picture shows, in physical units. Each function is one-to-one."""
    value = {parameter.name: table.values[row, k] for k, parameter in enumerate(XRAY_PARAMETERS)}
    fluid = [float(drawn(value[name], name)) for name in ("effusion_right", "effusion_left")]
    return Shown(
        ratio=float(0.38 + 0.24 * sigmoid(0.9 * (value["heart_size"] - CENTRE))),
        atrium=float(sigmoid(value["left_atrium"] - 1.0)),
        congestion=float(sigmoid(0.9 * (value["congestion"] - 1.5))),
        effusions=(fluid_height(fluid[0]), fluid_height(fluid[1])),
        atelectasis=float(drawn(value["atelectasis"], "atelectasis")),
        has_device=bool(table.device[row]),
    )


def fluid_height(amount: float) -> float:
    """Turn the amount of fluid (axis units above the limit) into its height at the wall; 0 without fluid."""
    return float(0.10 + 0.75 * (1 - np.exp(-amount / 2.2))) if amount > 0 else 0.0
