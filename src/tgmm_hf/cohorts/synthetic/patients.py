"""Settings of a synthetic cohort, and what follows from them for one patient: identifiers and lab row."""

from dataclasses import asdict, dataclass

from tgmm_hf.cohorts.synthetic.evidence import draw_intended, stream
from tgmm_hf.cohorts.synthetic.hospital import Identity, identity
from tgmm_hf.cohorts.synthetic.render_labs import LabsRow, render_labs

IDENTITY, LABS, ECG, STAYS, VARIATION, ECHO = 1, 2, 3, 4, 5, 10
"""Numbers of the random streams of a patient. The clip of a view has ECHO plus its index. Stream 0 is the state, stream
6 belongs to the measured outcomes (`measures.py`)."""

SETTINGS_FILE = "synth.json"
LATER_SETTINGS = ("no_echo", "varied_ecg", "xray", "measures")
"""Settings that synth.json leaves out where they are False, because an earlier version does not know them."""


@dataclass(frozen=True)
class Settings:
    """Everything that the files and the split of a patient depend on, besides the number of the patient.

    Attributes:
        seed: The only source of randomness.
        evidence: Name of the strength of the evidence, a key of `EVIDENCE`.
        frames: Frames per clip.
        height: Height of the clips in pixels.
        width: Width of the clips in pixels.
        all_test: Every patient is in the test split.
        version: Version of the generator. Since 3, chloride balances the other ions.
        labs_only: No patient has an ECG or an echo.
        no_echo: No patient has an echo.
        varied_ecg: ECGs differ in rate, PR interval, axis, voltage and ST segment too, see `Variation`.
        xray: Patients have chest X-rays with reports.
        measures: Patients have a measured ejection fraction and several findings, see `measures.py`.
    """

    seed: int
    evidence: str
    frames: int
    height: int
    width: int
    all_test: bool = False
    version: int = 3
    labs_only: bool = False
    no_echo: bool = False
    varied_ecg: bool = False
    xray: bool = False
    measures: bool = False

    def stored(self) -> dict[str, object]:
        """Return the settings as synth.json holds them. `LATER_SETTINGS` are left out where they are False."""
        return {name: value for name, value in asdict(self).items() if value or name not in LATER_SETTINGS}


def patient_identity(settings: Settings, index: int) -> Identity:
    """Draw the identifiers and dates of patient number `index`. Equal arguments give equal results."""
    return identity(settings.seed, index, stream(settings.seed, index, IDENTITY))


def patient_labs(settings: Settings, index: int) -> LabsRow:
    """Make the lab row of patient number `index`. Equal arguments give equal results."""
    table = draw_intended(settings.seed, index, settings.evidence)
    return render_labs(table, stream(settings.seed, index, LABS))
