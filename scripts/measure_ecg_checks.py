"""Measure how many faulty ECGs the checks find, and how many good ones they refuse or doubt.

    python scripts/measure_ecg_checks.py DIRECTORY [DIRECTORY ...] --out docs/results/checks/ecg.md

Every WFDB and DICOM recording under the directories is read as it is: a refusal or a finding is a false alarm. A file
*.npz with `signal` (recordings, samples, 12), in the order of LEADS, each lead scaled by itself, is read too (PTB-XL is
passed on like this). Such signals have lost their ratios, so faults of amplitude are not planted into them. Then faults
are planted into the arrays of the recordings without an alarm. A fault is found if a check has its code, or the
recording is refused. Nothing is written but the page, and the page names no file.
"""

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tgmm_hf.inputs.ecg_beats import band_pass
from tgmm_hf.inputs.ecg_checks import check_leads
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.ecg_recording import NORMALISED, EcgRecording
from tgmm_hf.inputs.ecg_signal import harmonise_recording
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

LIMB, CHEST = LEADS[:6], LEADS[6:]
SHORT_LEADS = 12
"""Faults are planted into recordings with all leads usable."""
Change = Callable[[np.ndarray, float], np.ndarray]


@dataclass
class Fault:
    """One kind of fault.

    Attributes:
        name: what is wrong.
        code: check that shall name it; "" where the recording shall be refused.
        change: makes (12, samples) faulty; gets the sampling rate too.
        wrong: leads that shall be put out of use; None where the check is a note.
        needs_mv: whether the fault is one of ratios between leads.
    """

    name: str
    code: str
    change: Change
    wrong: frozenset[str] | None = None
    needs_mv: bool = True


@dataclass
class Tally:
    """Counts of one fault over all recordings."""

    tried: int = 0
    found: int = 0
    refused: int = 0
    exact: int = 0


@dataclass
class FalseAlarms:
    """Counts over the unchanged recordings of one kind."""

    recordings: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)


CODES = """| code | meaning | what the package does | what to do |
|---|---|---|---|
| ecg_limb_arithmetic | a limb lead contradicts at least four others (I + III = II) | the lead is not used | \
look for exchanged names, a wrong sign or gain |
| ecg_equal_leads | a chest lead equals another lead | both chest leads are not used | export the recording again |
| ecg_amplitude | a chest lead is more than four times as large as its neighbours | a note | check the lead's gain |
| ecg_flat_limb_lead | I, II or III is nearly flat | a note | the electrode of the right leg may be on an arm: repeat |
| ecg_arm_electrodes | QRS complex and P wave of I point down, aVR up | a note | arms exchanged, or dextrocardia |
| ecg_still | a lead repeats one value for at least a tenth of the time | a note | check the electrode |
| ecg_clipped | a lead stays at its highest or lowest value | a note | record with a larger range |
| ecg_no_clear_beats | a wave, a noise or one repeated signal; or ventricular tachycardia or fibrillation \
| a note | look at the recording |
| (refusal) | limb leads contradict each other, the wrong one is unknown | the recording is refused | export it again |
| (refusal) | no lead holds a heartbeat | the recording is refused | check that the file is an ECG |
"""


# ---- recordings


def read_all(directories: list[Path]) -> Iterator[EcgRecording | InputRefusedError]:
    """Read every recording under the directories."""
    for directory in directories:
        for path in sorted([*directory.rglob("*.hea"), *directory.rglob("*.dcm")]):
            try:
                yield read_ecg(path)
            except InputRefusedError as error:
                yield error
        for path in sorted(directory.rglob("*.npz")):
            content = np.load(path)
            if "signal" in content and content["signal"].ndim == 3 and content["signal"].shape[2] == len(LEADS):
                rate = content["signal"].shape[1] / 10.0
                for signal in content["signal"]:
                    yield EcgRecording(signal.T.astype(np.float64), rate, list(LEADS), NORMALISED)


# ---- faults


def exchange(one: str, two: str) -> Change:
    """Exchange two leads."""
    rows = [LEADS.index(one), LEADS.index(two)]

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        signal[rows] = signal[rows[::-1]]
        return signal

    return change


def scale(lead: str, factor: float) -> Change:
    """Multiply one lead."""

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        signal[LEADS.index(lead)] *= factor
        return signal

    return change


def copy(source: str, lead: str) -> Change:
    """Replace a lead by a copy of another."""

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        signal[LEADS.index(lead)] = signal[LEADS.index(source)]
        return signal

    return change


def delay(signal: np.ndarray, rate: float) -> np.ndarray:
    """Shift lead II by 0.2 s."""
    signal[1] = np.roll(signal[1], round(0.2 * rate))
    return signal


def exchange_arms(signal: np.ndarray, rate: float) -> np.ndarray:
    """Exchange the electrodes of the arms."""
    one, two, three, right, left, foot = signal[:6].copy()
    signal[:6] = -one, three, two, left, right, foot
    return signal


def exchange_right_leg(signal: np.ndarray, rate: float) -> np.ndarray:
    """Exchange the electrodes of right arm and right leg: lead II becomes nearly flat."""
    one, two = -signal[2], 0.02 * signal[1]
    signal[:6] = one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2
    return signal


def clip(share: float) -> Change:
    """Clip every lead at a share of its largest value."""

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        middle = np.median(signal, axis=1, keepdims=True)
        limit = share * np.abs(signal - middle).max(axis=1, keepdims=True)
        return np.clip(signal, middle - limit, middle + limit)

    return change


def hold(signal: np.ndarray, rate: float) -> np.ndarray:
    """Hold lead V2 for a third of the time, in stretches of 1 s."""
    length, row = int(rate), LEADS.index("V2")
    for start in range(0, signal.shape[1] - length, 3 * length):
        signal[row, start : start + length] = signal[row, start]
    return signal


def replace_by(make: Callable[[np.random.Generator, int, float], np.ndarray]) -> Change:
    """Replace all leads by a signal without a heart, each as large as the lead."""
    generator = np.random.default_rng(0)

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        size = signal.std(axis=1, keepdims=True)
        other = np.stack([make(generator, signal.shape[1], rate) for _ in signal])
        return size * (other - other.mean(axis=1, keepdims=True)) / other.std(axis=1, keepdims=True)

    return change


WAVE_SECONDS, WAVE_DRAWS, WAVE_RATES = 10.0, 20, (100.0, 250.0, 500.0)
"""Length of a wave (s), number of draws at each sampling rate, and the sampling rates (Hz)."""
Wave = Callable[[np.random.Generator, np.ndarray, float], np.ndarray]
"""Makes one signal from a generator, the times (samples,) in seconds, and the sampling rate."""


def wave_leads(make: Wave, is_one_signal: bool, rate: float, generator: np.random.Generator) -> np.ndarray:
    """Make twelve leads (12, samples) without a heart that obey the limb arithmetic.

    Args:
        make: makes the signal of a lead.
        is_one_signal: True if every lead shows the same signal, with a size of its own and a little noise.
        rate: Hz.
        generator: draws sizes, phases and noise.
    """
    time = np.arange(int(WAVE_SECONDS * rate)) / rate
    once = make(generator, time, rate)
    leads = []
    for _ in range(8):
        lead = once if is_one_signal else make(generator, time, rate)
        size = 0.4 * generator.uniform(0.3, 1.2) * generator.choice([-1.0, 1.0])
        leads.append(size * lead / lead.std() + 0.005 * generator.normal(size=time.size))
    one, two = leads[:2]
    return np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2, *leads[2:]])


def noise_in_band(low: float, high: float) -> Wave:
    """Make noise of a band (Hz)."""

    def make(generator: np.random.Generator, time: np.ndarray, rate: float) -> np.ndarray:
        return band_pass(generator.normal(size=time.size)[None], low, min(high, 0.45 * rate), rate)[0]

    return make


def eeg(generator: np.random.Generator, time: np.ndarray, rate: float) -> np.ndarray:
    """Make an alpha rhythm (10 Hz) that swells and fades, on pink noise."""
    frequency = np.fft.rfftfreq(time.size, 1 / rate)
    pink = np.fft.irfft(np.fft.rfft(generator.normal(size=time.size)) / np.sqrt(np.maximum(frequency, 0.5)), time.size)
    phase = generator.uniform(0, 6)
    alpha = np.sin(2 * np.pi * 10 * time + phase) * (1 + 0.8 * np.sin(2 * np.pi * 0.5 * time + phase))
    return 0.3 * pink / pink.std() + alpha


def waves_without_heart() -> dict[str, Wave]:
    """List signals without a heart that pass the heartbeat check, or could."""
    waves: dict[str, Wave] = {
        f"sawtooth, {rate} a minute": lambda generator, time, _, rate=rate: (
            (time * rate / 60 + generator.uniform()) % 1 - 0.5
        )
        for rate in (40, 75, 120, 200)
    }
    waves |= {
        f"sine, {hertz:g} Hz": lambda generator, time, _, hertz=hertz: np.sin(
            2 * np.pi * (hertz * time + generator.uniform())
        )
        for hertz in (1.2, 3, 10)
    }
    waves["square wave, 75 a minute"] = lambda generator, time, _: np.sign(np.sin(2.5 * np.pi * time + 1))
    waves["chirp, 0.5 to 20 Hz"] = lambda generator, time, _: np.sin(
        2 * np.pi * (0.5 * time + 19.5 * time**2 / 2 / time[-1])
    )
    waves["chirp, 1 to 10 Hz"] = lambda generator, time, _: np.sin(2 * np.pi * (time + 9 * time**2 / 2 / time[-1]))
    waves["EEG rhythm"] = eeg
    waves["pulse wave"] = lambda generator, time, _: (
        np.exp(-(((time % 0.8 - 0.2) / 0.1) ** 2)) + 0.4 * np.exp(-(((time % 0.8 - 0.45) / 0.12) ** 2))
    )
    waves |= {f"noise, {low:g} to {high:g} Hz": noise_in_band(low, high) for low, high in ((1, 10), (5, 15), (0.5, 40))}
    return waves


def faults() -> list[Fault]:
    """List the faults that are planted."""
    arithmetic = "ecg_limb_arithmetic"
    pairs = [(one, two) for index, one in enumerate(LIMB) for two in LIMB[index + 1 :]]
    listed = [
        Fault(f"{one} and {two} exchanged", arithmetic, exchange(one, two), frozenset({one, two})) for one, two in pairs
    ]
    for factor, name in ((-1.0, "turned over"), (10.0, "x 10"), (2.0, "x 2"), (0.1, "x 0.1")):
        listed += [Fault(f"{lead} {name}", arithmetic, scale(lead, factor), frozenset({lead})) for lead in LIMB]
    listed.append(Fault("II late by 0.2 s", arithmetic, delay, frozenset({"II"})))
    listed += [Fault(f"{lead} x 10", "ecg_amplitude", scale(lead, 10.0)) for lead in CHEST]
    listed += [
        Fault("right arm and right leg exchanged", "ecg_flat_limb_lead", exchange_right_leg),
        Fault("arms exchanged", "ecg_arm_electrodes", exchange_arms, needs_mv=False),
        Fault("V3 copies V2", "ecg_equal_leads", copy("V2", "V3"), frozenset({"V2", "V3"}), needs_mv=False),
        Fault("V6 copies I", "ecg_equal_leads", copy("I", "V6"), frozenset({"V6"}), needs_mv=False),
        Fault("clipped at half of the peak", "ecg_clipped", clip(0.5), needs_mv=False),
        Fault("clipped at 80 % of the peak", "ecg_clipped", clip(0.8), needs_mv=False),
        Fault("V2 still for a third", "ecg_still", hold, needs_mv=False),
    ]
    without_heart: dict[str, Callable[[np.random.Generator, int, float], np.ndarray]] = {
        "white noise": lambda generator, size, rate: generator.normal(size=size),
        "random walk": lambda generator, size, rate: generator.normal(size=size).cumsum(),
        "mains hum": lambda generator, size, rate: (
            np.sin(2 * np.pi * 0.4 * min(rate, 125) * np.arange(size) / rate + generator.uniform(0, 6))
            + 0.02 * generator.normal(size=size)
        ),
        "a ramp": lambda generator, size, rate: np.arange(size) * generator.choice([-1.0, 1.0]),
    }
    listed += [Fault(f"{name} instead", "", replace_by(make), needs_mv=False) for name, make in without_heart.items()]
    return listed


# ---- measuring


def measure(directories: list[Path]) -> tuple[dict[str, FalseAlarms], dict[str, Tally], list[Fault]]:
    """Count false alarms, and plant every fault into every recording with twelve usable leads."""
    alarms = {"in millivolts": FalseAlarms(), "scaled by lead": FalseAlarms()}
    planted = faults()
    tallies = {fault.name: Tally() for fault in planted}
    for recording in read_all(directories):
        if isinstance(recording, InputRefusedError):
            alarms["in millivolts"].refused[first_words(recording)] += 1
            alarms["in millivolts"].recordings += 1
            continue
        in_mv = recording.units != NORMALISED
        counts = alarms["in millivolts" if in_mv else "scaled by lead"]
        counts.recordings += 1
        try:
            harmonised = harmonise_recording(recording)
        except InputRefusedError as error:
            counts.refused[first_words(error)] += 1
            continue
        counts.codes.update({check["code"] for check in harmonised.checks})
        if harmonised.mask.sum() < SHORT_LEADS or harmonised.checks:
            continue
        for fault in planted:
            if in_mv or not fault.needs_mv:
                signal = fault.change(harmonised.signal.copy(), recording.sampling_rate)
                count(tallies[fault.name], fault, signal, recording.sampling_rate, in_mv)
    return alarms, tallies, planted


def count(tally: Tally, fault: Fault, signal: np.ndarray, rate: float, in_mv: bool) -> None:
    """Check one faulty recording and count the outcome."""
    tally.tried += 1
    try:
        findings = check_leads(dict(zip(LEADS, signal, strict=True)), rate, "ecg", in_mv)
    except InputRefusedError:
        tally.refused += 1
        tally.found += 1
        return
    tally.found += any(check["code"] == fault.code for check in findings.checks)
    tally.exact += fault.wrong is not None and findings.unusable.keys() == fault.wrong


def measure_waves() -> dict[str, Tally]:
    """Check waves and noise that obey the limb arithmetic; no recording is needed."""
    tallies: dict[str, Tally] = {}
    generator = np.random.default_rng(0)
    for name, wave in waves_without_heart().items():
        for is_one, kind in ((True, "one signal in all leads"), (False, "each lead its own")):
            fault = Fault(f"{name}, {kind}", "ecg_no_clear_beats", lambda signal, rate: signal)
            tally = tallies.setdefault(fault.name, Tally())
            for rate in WAVE_RATES:
                for _ in range(WAVE_DRAWS):
                    count(tally, fault, wave_leads(wave, is_one, rate, generator), rate, in_mv=True)
    return tallies


def first_words(error: InputRefusedError) -> str:
    """Shorten a reason to its kind, because numbers and names differ from file to file."""
    return error.reason.split(":")[0].split("(")[0][:60].strip()


# ---- the page


def write_page(
    alarms: dict[str, FalseAlarms], tallies: dict[str, Tally], planted: list[Fault], waves: dict[str, Tally]
) -> str:
    """Write the results as Markdown."""
    total = sum(counts.recordings for counts in alarms.values())
    refused = sum(number for counts in alarms.values() for reason, number in counts.refused.items() if is_check(reason))
    lines = [
        "# ECG checks: what is found, and what is a false alarm",
        "",
        "Question: how often do the checks of `inputs/ecg_checks.py` find a fault, and how often do they refuse or",
        "doubt a recording that is right?",
        "",
        "Command: `python scripts/measure_ecg_checks.py DIRECTORY ... --out docs/results/checks/ecg.md`. It takes any",
        "directories with WFDB or DICOM recordings.",
        "",
        f"Answer: the checks refuse {refused} of {total} recordings as they are. The table of planted faults shows",
        "what they find. The limits of the checks were set on the PTB-XL, Georgia and Chapman recordings, so rates on",
        "these are too good; other recordings tell more.",
        "",
        "## Codes",
        "",
        *CODES.splitlines(),
        "",
        "## False alarms",
        "",
        "| recordings | number | refused by a check | refused for another reason | findings |",
        "|---|---|---|---|---|",
    ]
    for name, counts in alarms.items():
        by_check = {reason: number for reason, number in counts.refused.items() if is_check(reason)}
        others = {reason: number for reason, number in counts.refused.items() if not is_check(reason)}
        cells = [listing(by_check), listing(others), listing(counts.codes)]
        lines.append(f"| {name} | {counts.recordings} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Planted faults",
        "",
        "Found: the check's code is in the output, or the recording is refused. Exact: the wrong leads and no others",
        "are put out of use. Faults of ratios are planted into recordings in millivolts only.",
        "",
        "| fault | check | recordings | found | refused | exact |",
        "|---|---|---|---|---|---|",
    ]
    for fault in planted:
        tally = tallies[fault.name]
        exact = "" if fault.wrong is None else share(tally.exact, tally.tried)
        lines.append(
            f"| {fault.name} | {fault.code or 'refused'} | {tally.tried} | {share(tally.found, tally.tried)} | "
            f"{share(tally.refused, tally.tried)} | {exact} |"
        )
    lines += [
        "",
        "## Waves and noise instead of a heart",
        "",
        f"{WAVE_DRAWS} draws at {', '.join(f'{rate:g}' for rate in WAVE_RATES)} Hz, {WAVE_SECONDS:g} s each. The leads",
        "obey I + III = II. Found: the check `ecg_no_clear_beats` is in the output, or the recording is refused.",
        "",
        "| signal | drawn | found | refused |",
        "|---|---|---|---|",
    ]
    for name, tally in waves.items():
        lines.append(
            f"| {name} | {tally.tried} | {share(tally.found, tally.tried)} | {share(tally.refused, tally.tried)} |"
        )
    return "\n".join(lines) + "\n"


def is_check(reason: str) -> bool:
    """Tell whether a refusal came from a check of the signal."""
    return reason.startswith(("no heartbeat", "the limb leads"))


def listing(counts: dict[str, int] | Counter[str]) -> str:
    """Write counts by name in one cell."""
    return "; ".join(f"{number} x {name}" for name, number in sorted(counts.items())) or "0"


def share(part: int, whole: int) -> str:
    """Write a share with its numerator."""
    return f"{part / whole:.1%} ({part})" if whole else "-"


def main() -> None:
    """Read the arguments, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directories", nargs="+", type=Path, help="folders with WFDB, DICOM or .npz recordings")
    parser.add_argument("--out", type=Path, help="page to write; standard output by default")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # pydicom's warnings name files
    page = write_page(*measure(arguments.directories), measure_waves())
    if arguments.out is None:
        sys.stdout.write(page)
    else:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
