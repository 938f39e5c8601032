"""Measure how many faulty ECGs the checks find, and how many good ones they refuse or doubt.

    python scripts/measure_ecg_checks.py DIRECTORY [DIRECTORY ...] --out docs/results/checks/ecg.md

Every WFDB and DICOM recording under the directories is read as it is: a refusal or a finding is a false alarm. A file
*.npz with `signal` (recordings, samples, 12), in the order of LEADS, each lead scaled by itself, is read too (PTB-XL is
passed on like this). Such signals have lost their ratios, so faults of amplitude are not planted into them. Then faults
are planted into the arrays of the recordings without an alarm, of the scaled ones into every `--every`-th. A fault is
found if a check has its code, or the recording is refused. Nothing is written but the page, and the page names no file.
"""

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ecg_faults import (
    WAVE_DRAWS,
    WAVE_RATES,
    WAVE_SECONDS,
    Fault,
    at_500_hz,
    faults,
    unchanged,
    wave_leads,
    waves_without_heart,
)
from ecg_number_faults import number_faults

from tgmm_hf.inputs.ecg_checks import check_leads
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.ecg_recording import NORMALISED, EcgRecording
from tgmm_hf.inputs.ecg_signal import harmonise_recording
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

SHORT_LEADS = 12
"""Faults are planted into recordings with all leads usable."""
ANY_CODE = "any"
"""Code of a fault that every check may name."""
MIN_LEADS = 6
"""With fewer usable leads a recording is refused, as in `harmonise_recording`."""


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
| ecg_equal_leads | a chest lead is another lead, also scaled or turned over | both chest leads are not used | \
export the recording again |
| ecg_computed_leads | a chest lead is a mean of the leads beside it; or chest leads follow from all others \
| the lead is not used; a note | find the recorded leads: the others were derived |
| ecg_wrapped | a lead jumps over its whole span and back: its values were too large for their numbers \
| the lead is not used | export with more bits, or a smaller gain |
| ecg_lead_without_beats | a chest lead has no beats where the other leads have theirs: noise, hum \
| the lead is not used | check electrode and export |
| ecg_sampling_rate | beats and waves are together too slow, or too fast, for an adult \
| a note; refused if no adult has such waves | compare with the recorder's rate; a very slow wide rhythm looks alike |
| ecg_all_amplitudes | the median lead spans less than 0.2 or more than 3.5 mV \
| a note; refused below 0.08 and above 8 mV | check unit and gain; low voltage and hypertrophy look alike |
| ecg_repeated_beats | the recording repeats itself exactly, or a second or more comes twice | a note \
| use the rhythm, not an averaged beat; export again |
| ecg_limb_electrodes | I, II and aVR fit V1, V5 and V6 clearly better after the limb electrodes are exchanged back \
| a note | arms and leg exchanged or rotated? or dextrocardia, or chest leads upside down or in reverse order |
| ecg_chest_leads_exchanged | the chest leads fit each other clearly better in another order | a note \
| chest electrodes exchanged that are no neighbours? |
| ecg_slow_waves_missing | waves of 1 to 4 Hz have less than 0.18 of the energy of QRS complexes | a note \
| was a high-pass of 3 Hz or more used? export without it |
| ecg_chest_leads_turned | the QRS complex points up in V1 and down in V5 and V6; or one chest lead looks like the \
opposite of its neighbours | a note | chest leads (or the lead) upside down or in reverse order? or, if all are \
named, a large right ventricle, dextrocardia |
| ecg_beats_at_other_times | limb and chest leads do not beat together \
| a note; refused if clear | the leads are of two patients or shifted: export again |
| ecg_beats_change | the beats have another shape from one moment on \
| a note | two recordings joined? or conduction or pacing changed |
| ecg_gain_step | from one beat on, all leads, the chest leads or some of them are larger or smaller by one factor \
| a note | was the gain changed while recording? export the parts with their own gain |
| ecg_backwards | the waves before the QRS complex are larger than those after it | a note \
| was the recording reversed in time? or a very small T wave with a large P wave |
| ecg_mains_hum | hum of 0.04 mV or more at 50 or 60 Hz (mains), at two or three times these, or at 16.7 Hz (railways) \
| a note \
| check electrodes and earth, or filter |
| ecg_straight_line | a lead runs straight for 2 s or more; most leads do, and without the noise of the recording \
| a note | a gap that was filled; where all noise was filtered away, also a pause of the heart |
| ecg_blocks | all leads jump at the borders of blocks of 0.25, 0.5 or 1 s | a note \
| blocks are missing or in a wrong order: export again |
| ecg_chest_size | the chest leads are less than 0.4 or more than 6 times as large as the limb leads | a note \
| check the gain of the chest leads |
| ecg_amplitude | a chest lead is more than three times as large as its neighbours, or V2 to V5 less than a quarter \
of them | a note | check the lead's gain |
| ecg_lost_samples | a lead falls to exactly 0 and back five times or more, or all leads hold their values for 0.2 s \
or more | a note \
| samples were lost and filled with zeros: export again |
| ecg_flat_limb_lead | I, II or III is nearly flat | a note | the electrode of the right leg may be on an arm: repeat |
| ecg_arm_electrodes | QRS complex and P wave of I point down, aVR up | a note | arms exchanged, or dextrocardia |
| ecg_still | a lead repeats one value for at least a tenth of the time | a note | check the electrode |
| ecg_clipped | a lead stays at its highest or lowest value | a note | record with a larger range |
| ecg_no_clear_beats | a wave, a noise or one repeated signal; or ventricular tachycardia or fibrillation \
| a note | look at the recording |
| ecg_not_at_rest | the header names an exercise test or an ambulatory recording \
| a note | the model knows ECGs at rest |
| ecg_filter | the header states a filter from more than 1 Hz on, or up to less than 30 Hz \
| a note | export with the usual filter: ST segment or QRS complex are changed |
| ecg_averaged_beat | the label of the waveforms names an averaged beat \
| a note | use the recorded rhythm |
| ecg_not_a_patient | the header names a simulator, a phantom, a test signal or an animal \
| a note | use the ECG of a patient |
| ecg_processed | the header says that samples were scaled, taken from paper, turned in time or given noise \
| a note | find the recording itself |
| ecg_lead_off | a comment says that an electrode or a lead was not connected \
| a note | look which one; leave the lead out |
| ecg_other_electrodes | the header names other electrodes than those of the twelve leads, or computed leads \
| a note | make sure that the leads are what their names say |
| ecg_modality | the header has another modality than ECG \
| a note | make sure that the leads are an ECG |
| ecg_storage_class | the storage class is that of other waveforms \
| a note; refused without modality ECG | make sure that the leads are an ECG at rest |
| (refusal) | limb leads contradict each other, the wrong one is unknown | the recording is refused | export it again |
| (refusal) | no lead holds a heartbeat | the recording is refused | check that the file is an ECG |
| (refusal) | sampling rate, unit or leads of two hearts, as above | the recording is refused | export it again |
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


# ---- measuring


def measure(directories: list[Path], every: int) -> tuple[dict[str, FalseAlarms], dict[str, Tally], list[Fault]]:
    """Count false alarms, and plant every fault into recordings with twelve usable leads.

    Args:
        directories: where the recordings lie.
        every: faults are planted into every `every`-th of the scaled recordings.
    """
    alarms = {"in millivolts": FalseAlarms(), "scaled by lead": FalseAlarms()}
    planted = faults() + number_faults()
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
        is_left_out = not in_mv and counts.recordings % every
        if harmonised.mask.sum() < SHORT_LEADS or harmonised.checks or is_left_out:
            continue
        for fault in planted:
            if in_mv or not fault.needs_mv:
                plant(tallies[fault.name], fault, harmonised.signal, recording.sampling_rate, in_mv)
    return alarms, tallies, planted


def plant(tally: Tally, fault: Fault, signal: np.ndarray, rate: float, in_mv: bool) -> None:
    """Plant a fault into a recording (12, samples) in `rate` Hz and count the outcome."""
    if fault.declared != 1:
        signal, rate = at_500_hz(signal, rate), max(rate, 500.0)
    count(tally, fault, fault.change(signal.copy(), rate), rate * fault.declared, in_mv)


def count(tally: Tally, fault: Fault, signal: np.ndarray, rate: float, in_mv: bool) -> None:
    """Check one faulty recording and count the outcome."""
    tally.tried += 1
    try:
        findings = check_leads(dict(zip(LEADS, signal, strict=True)), rate, "ecg", in_mv)
        is_refused = len(signal) - len(findings.unusable) < MIN_LEADS
    except InputRefusedError:
        is_refused = True
    if is_refused:
        tally.refused += 1
        tally.found += 1
        return
    tally.found += any(fault.code == ANY_CODE or check["code"] in fault.code.split(" or ") for check in findings.checks)
    tally.exact += fault.wrong is not None and findings.unusable.keys() == fault.wrong


def measure_waves() -> dict[str, Tally]:
    """Check waves and noise that obey the limb arithmetic; no recording is needed."""
    tallies: dict[str, Tally] = {}
    generator = np.random.default_rng(0)
    for name, wave in waves_without_heart().items():
        for is_one, kind in ((True, "one signal in all leads"), (False, "each lead its own")):
            fault = Fault(f"{name}, {kind}", ANY_CODE, unchanged)
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
    alarms: dict[str, FalseAlarms],
    tallies: dict[str, Tally],
    planted: list[Fault],
    waves: dict[str, Tally],
    every: int,
) -> str:
    """Write the results as Markdown. `every` is the option of the command."""
    total = sum(counts.recordings for counts in alarms.values())
    refusals = [entry for counts in alarms.values() for entry in counts.refused.items()]
    refused = sum(number for reason, number in refusals if is_check(reason))
    unread = sum(number for reason, number in refusals if not is_check(reason))
    lines = [
        "# ECG checks: what is found, and what is a false alarm",
        "",
        "Question: how often do the checks of `inputs/ecg_checks.py` find a fault, and how often do they refuse or",
        "doubt a recording that is right?",
        "",
        f"Command: `python scripts/measure_ecg_checks.py DIRECTORY ... --every {every} --out PAGE`. It takes any",
        "directories with WFDB or DICOM recordings.",
        "",
        f"Answer: the checks refuse {refused} of {total - unread} recordings as they are ({unread} more files are",
        "refused for another reason). The table of planted faults shows what they find. The limits of the checks were",
        "set on the PTB-XL, Georgia and Chapman recordings, so rates on these are too good; others tell more.",
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
        "obey I + III = II. Found: a check is in the output, or the recording is refused.",
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
    return reason.startswith(("no heartbeat", "the limb leads", "the waves do", "limb and chest", "the size of all"))


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
    parser.add_argument("--every", type=int, default=1, help="plant faults into every how many scaled recordings")
    parser.add_argument("--out", type=Path, help="page to write; standard output by default")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # pydicom's warnings name files
    page = write_page(*measure(arguments.directories, arguments.every), measure_waves(), arguments.every)
    if arguments.out is None:
        sys.stdout.write(page)
    else:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
