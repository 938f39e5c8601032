"""The centres of `tgmm synth --centre`: invented hospitals with their devices, laboratory and patients.

A centre changes four things. Its devices change how evidence is drawn into files. Its laboratory changes the units and
which cells are ordered. Its usual study changes which views exist. Its patients change how frequent heart failure is,
and how severe. The first two change no optimum: all evidence of a cell that is present can still be read. Cells and
views that are missing are missing evidence, and they are missing independently of the state. Prevalence and severity
are numbers of the generative model (`Strength`). So the optimum stays exact for each centre (`bayes.py`).

The numbers are invented. They are chosen to differ as hospitals do, not to resemble any hospital.
"""

from dataclasses import dataclass, replace
from types import MappingProxyType

from tgmm_hf.cohorts.synthetic.devices import ECG_DEVICE, ECHO_DEVICE, EcgDevice, EchoDevice
from tgmm_hf.cohorts.synthetic.evidence import DRUGS, EVIDENCE, HISTORY, PREVALENCE, Strength

NUMBERS_OF_CENTRE = 300_000_000
"""Patients of the centre at place k have the numbers from k * this on, so that no two centres have a patient or a
random stream in common. It is a multiple of `ANOMALY_PERIOD`, so that each centre has the same odd files."""
IDS_OF_CENTRE = 100_000_000
"""Identifiers of the centre at place k are k * this higher."""


@dataclass(frozen=True)
class Centre:
    """An invented hospital. The defaults are a cohort without a centre.

    Attributes:
        place: Number of the centre, which keeps its patients apart. It never changes. 0 is no centre.
        title: What kind of hospital it is, for tables.
        ecg: Its electrocardiograph.
        echo: Its echocardiograph.
        units: Units of its laboratory, "US" (conventional) or "SI".
        prevalence: Share of patients with heart failure.
        severity: Factor of the distance between patients with and without heart failure. Below 1 heart failure is
            milder and harder to see.
        shares: Column of a laboratory number, text cell or view -> share of patients who have it. What is not named
            has its usual share. 0: never ordered or recorded.
        neutral: Laboratory cells without evidence -> the same.
    """

    place: int = 0
    title: str = ""
    ecg: EcgDevice = ECG_DEVICE
    echo: EchoDevice = ECHO_DEVICE
    units: str = "US"
    prevalence: float = PREVALENCE
    severity: float = 1.0
    shares: tuple[tuple[str, float], ...] = ()
    neutral: tuple[tuple[str, float], ...] = ()

    def strength(self, evidence: str) -> Strength:
        """Return the numbers of the generative model for this centre. `evidence` is a key of `EVIDENCE`."""
        usual = EVIDENCE[evidence]
        if not self.place:
            return usual
        labs, ecg, echo = (self.severity * distance for distance in usual.separation)
        return replace(usual, separation=(labs, ecg, echo), prevalence=self.prevalence, shares=self.shares)


NO_CENTRE = Centre()
FEW_VIEWS = tuple(
    (view, 0.0)
    for view in ("Doppler_Parasternal_Long", "Doppler_Parasternal_Short", "Parasternal_Short", "SSN", "A5C", "A3C")
)

CENTRES = MappingProxyType(
    {
        "university": Centre(
            place=1,
            title="university hospital: all tests, all views",
            ecg=EcgDevice(gain=1000.0, hum=0.004, muscle=0.008, wander=0.03, bandwidth="0.05-150 Hz"),
            echo=EchoDevice(size=1.25, frames=1.5, half_angle=45.0, contrast=(32, 44)),
            prevalence=0.50,
            shares=(("NTproBNP", 0.90), ("Troponin T", 0.70), (HISTORY, 0.90), (DRUGS, 0.90)),
        ),
        "district": Centre(
            place=2,
            title="district hospital: SI units, 50 Hz mains, another echo maker, no Doppler of the short axis",
            ecg=EcgDevice(rate=1000, gain=400.0, unit="uV", mains=50, hum=0.015, bandwidth="0.05-250 Hz"),
            echo=EchoDevice(
                *("Philips Medical Systems", "EPIQ 7C"),
                depth=18.0,
                half_angle=40.0,
                brightness=(68, 92),
                contrast=(34, 46),
            ),
            units="SI",
            prevalence=0.35,
            severity=0.95,
            shares=(
                *(("NTproBNP", 0.25), ("Troponin T", 0.15), ("RDW", 0.0), (HISTORY, 0.60), (DRUGS, 0.70)),
                *(("Doppler_Parasternal_Short", 0.0), ("SSN", 0.20), ("A5C", 0.30)),
            ),
            neutral=(("Anion Gap", 0.0), ("Magnesium", 0.10), ("Phosphate", 0.10)),
        ),
        "clinic": Centre(
            place=3,
            title="outpatient clinic: SI units, few blood tests, handheld echo with five views, mild and rare disease",
            ecg=EcgDevice(rate=250, mains=50, muscle=0.018, band=(0.5, 100), bandwidth="0.5-100 Hz"),
            echo=EchoDevice(*("Butterfly Network", "iQ"), depth=19.0, brightness=(40, 60), contrast=(22, 32)),
            units="SI",
            prevalence=0.20,
            severity=0.85,
            shares=(
                *(("NTproBNP", 0.0), ("Troponin T", 0.0), ("RDW", 0.30), ("Urea Nitrogen", 0.40)),
                *((HISTORY, 0.95), (DRUGS, 0.95), *FEW_VIEWS),
            ),
            neutral=(
                *(("Anion Gap", 0.0), ("Bicarbonate", 0.05), ("Chloride", 0.20), ("Phosphate", 0.0)),
                *(("Magnesium", 0.0), ("INR(PT)", 0.10), ("Calcium, Total", 0.30)),
            ),
        ),
        "emergency": Centre(
            place=4,
            title="emergency department: noisy filtered ECG, short echo study, histories often unknown, severe disease",
            ecg=EcgDevice(hum=0.03, muscle=0.03, wander=0.15, band=(0.05, 40), bandwidth="0.05-40 Hz"),
            echo=EchoDevice("SIEMENS", "ACUSON SC2000", depth=17.0, brightness=(46, 70), contrast=(24, 36)),
            prevalence=0.62,
            severity=1.10,
            shares=(
                *(("NTproBNP", 0.85), ("Troponin T", 0.95), (HISTORY, 0.40), (DRUGS, 0.35)),
                *(("A2C", 0.40), ("Apical_Doppler", 0.40), ("Subcostal", 0.95), *FEW_VIEWS),
            ),
        ),
    }
)
"""Name -> centre. A new centre takes the next free place. An old one never changes, because its files would."""
