"""Settings of a synthetic cohort, and what follows from them for one patient: identifiers and lab row."""

from dataclasses import asdict, dataclass

import numpy as np

from tgmm_hf.cohorts.synthetic.centres import CENTRES, IDS_OF_CENTRE, NO_CENTRE, NUMBERS_OF_CENTRE, Centre
from tgmm_hf.cohorts.synthetic.evidence import Evidence, Strength, draw_intended, draw_patient, stream
from tgmm_hf.cohorts.synthetic.hospital import Identity, identity
from tgmm_hf.cohorts.synthetic.render_labs import LabsRow, render_labs

IDENTITY, LABS, ECG, STAYS, VARIATION, ECHO = 1, 2, 3, 4, 5, 10
"""Numbers of the random streams of a patient. The clip of a view has ECHO plus its index. Stream 0 is the state, stream
6 belongs to the measured outcomes (`measures.py`)."""

SETTINGS_FILE = "synth.json"
LATER_SETTINGS = ("no_echo", "varied_ecg", "xray", "measures", "centre")
"""Settings that synth.json leaves out where they are False or empty, because an earlier version does not know them."""


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
        centre: Name of the centre in `CENTRES`, "" without a centre.
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
    centre: str = ""

    @property
    def site(self) -> Centre:
        """The centre, or `NO_CENTRE`."""
        return CENTRES[self.centre] if self.centre else NO_CENTRE

    @property
    def strength(self) -> Strength:
        """Numbers of the generative model."""
        return self.site.strength(self.evidence)

    @property
    def clip_size(self) -> tuple[int, int, int]:
        """Frames, height and width of the clips that the centre's device writes."""
        return self.site.echo.clip_size(self.frames, self.height, self.width)

    def number(self, index: int) -> int:
        """Return the number that the random streams of patient number `index` have. No two centres share one."""
        return self.site.place * NUMBERS_OF_CENTRE + index

    def stream(self, index: int, part: int) -> np.random.Generator:
        """Return the random generator of patient number `index` for one part of the cohort."""
        return stream(self.seed, self.number(index), part)

    def intended(self, index: int) -> Evidence:
        """Draw the evidence of patient number `index`, one row, as if the patient had no anomalous file."""
        return draw_intended(self.seed, self.number(index), self.strength)

    def patient(self, index: int) -> Evidence:
        """Draw the evidence of patient number `index`, one row. Evidence in an anomalous file is masked as absent."""
        return draw_patient(self.seed, self.number(index), self.strength)

    def stored(self) -> dict[str, object]:
        """Return the settings as synth.json holds them. `LATER_SETTINGS` are left out where they are False."""
        return {name: value for name, value in asdict(self).items() if value or name not in LATER_SETTINGS}


def patient_identity(settings: Settings, index: int) -> Identity:
    """Draw the identifiers and dates of patient number `index`. Equal arguments give equal results."""
    return identity(settings.seed, index, settings.stream(index, IDENTITY), settings.site.place * IDS_OF_CENTRE)


def patient_labs(settings: Settings, index: int) -> LabsRow:
    """Make the lab row of patient number `index`. Equal arguments give equal results."""
    row = render_labs(settings.intended(index), settings.stream(index, LABS), dict(settings.site.neutral))
    return row.in_units(settings.site.units)
