"""Make faulty ECGs out of good ones, and waves without a heart, for `measure_ecg_checks.py`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, detrend, resample, sosfiltfilt

from tgmm_hf.inputs.ecg_artefacts import rms_around_lines
from tgmm_hf.inputs.ecg_beats import band_pass
from tgmm_hf.inputs.ecg_electrodes import CHEST_EXCHANGES, LIMB_EXCHANGES
from tgmm_hf.utils.names import LEADS

LIMB, CHEST = LEADS[:6], LEADS[6:]
Change = Callable[[np.ndarray, float], np.ndarray]
"""Makes a signal (12, samples) faulty; gets the sampling rate in Hz too."""


@dataclass
class Fault:
    """One kind of fault.

    Attributes:
        name: what is wrong.
        code: check that shall name it, or several with " or " between them; "" where the recording shall be refused.
        change: makes (12, samples) faulty; gets the sampling rate too.
        wrong: leads that shall be put out of use; None where the check is a note.
        needs_mv: whether the fault is one of ratios between leads, or of sizes.
        declared: sampling rate that is declared, over the true one. The signal is first brought to 500 Hz.
    """

    name: str
    code: str
    change: Change
    wrong: frozenset[str] | None = None
    needs_mv: bool = True
    declared: float = 1.0


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


def scaled_copy(source: str, lead: str, factor: float) -> Change:
    """Replace a lead by another one times a factor, rounded to 5 uV as in files."""

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        signal[LEADS.index(lead)] = np.round(factor * signal[LEADS.index(source)] / 0.005) * 0.005
        return signal

    return change


def replace_lead(lead: str, make: Callable[[np.random.Generator, int, float], np.ndarray]) -> Change:
    """Replace one lead by a signal without a heart, as large as the lead."""
    generator = np.random.default_rng(0)

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        row = LEADS.index(lead)
        other = make(generator, signal.shape[1], rate)
        signal[row] = signal[row].std() * (other - other.mean()) / other.std()
        return signal

    return change


def scale_all(factor: float) -> Change:
    """Multiply all leads."""
    return lambda signal, rate: factor * signal


def late_chest(signal: np.ndarray, rate: float) -> np.ndarray:
    """Shift all chest leads by 0.2 s."""
    signal[6:] = np.roll(signal[6:], round(0.2 * rate), axis=1)
    return signal


def turn_chest(signal: np.ndarray, rate: float) -> np.ndarray:
    """Turn all chest leads upside down."""
    signal[6:] *= -1
    return signal


def reverse_chest(signal: np.ndarray, rate: float) -> np.ndarray:
    """Put the chest leads in reverse order."""
    signal[6:] = signal[6:][::-1].copy()
    return signal


def undo(exchange: Mapping[str, str]) -> Change:
    """Exchange electrodes: `exchange` has the lead -> the recorded lead that holds it, with its sign."""

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        true = signal.copy()
        for lead, held in exchange.items():
            sign = -1 if held.startswith("-") else 1
            signal[LEADS.index(held.removeprefix("-"))] = sign * true[LEADS.index(lead)]
        return signal

    return change


def copy_seconds(seconds: float) -> Change:
    """Replace the end by a part of a length (s) from the beginning."""

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        size, start = round(seconds * rate), round(0.7 * rate)
        signal[:, -size:] = signal[:, start : start + size].copy()
        return signal

    return change


def high_pass(hertz: float) -> Change:
    """Filter forwards and backwards with a Butterworth high-pass of order 2."""
    return lambda signal, rate: sosfiltfilt(butter(2, hertz, "high", fs=rate, output="sos"), signal, axis=1)


def unchanged(signal: np.ndarray, rate: float) -> np.ndarray:
    """Return the signal as it is."""
    return signal


def backwards(signal: np.ndarray, rate: float) -> np.ndarray:
    """Play the recording backwards."""
    return signal[:, ::-1].copy()


def hum(amplitude: float, hertz: float) -> Change:
    """Add mains hum of an amplitude (mV) to lead I, lead II and the chest leads, and its share to the other leads."""
    shares = np.array([1, 1, 0, -1, 0.5, 0.5, *[1] * 6])[:, None]
    return lambda signal, rate: (
        signal + amplitude * shares * np.sin(2 * np.pi * hertz * np.arange(signal.shape[1]) / rate + 1)
    )


def straight(leads: list[str]) -> Change:
    """Draw a straight line of 4 s over leads, from 3 s on, rounded to 5 uV as in files."""
    rows = [LEADS.index(lead) for lead in leads]

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        start, end = round(3 * rate), min(round(7 * rate), signal.shape[1] - 1)
        line = np.linspace(signal[rows, start], signal[rows, end], end - start, axis=1)
        signal[rows, start:end] = np.round(line / 0.005) * 0.005
        return signal

    return change


def pause(signal: np.ndarray, rate: float) -> np.ndarray:
    """Let the heart pause for 3 s: a line with the noise of the quietest parts of each lead."""
    generator, short = np.random.default_rng(0), round(0.16 * rate)
    start, length = round(3.5 * rate), round(3 * rate)
    for lead in signal:
        places = np.argsort(rms_around_lines(lead[None], short)[0])
        chosen = generator.choice(places[: max(5, len(places) // 20)], length // short + 1)
        quiet = np.concatenate([detrend(lead[place : place + short]) for place in chosen])[:length]
        lead[start : start + length] = np.linspace(lead[start], lead[start + length], length) + quiet
    return signal


def reorder(seconds: float) -> Change:
    """Put blocks of a length (s) in a random order."""
    generator = np.random.default_rng(0)

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        size = round(seconds * rate)
        number = signal.shape[1] // size
        blocks = signal[:, : number * size].reshape(len(signal), number, size)
        return blocks[:, generator.permutation(number)].reshape(len(signal), -1)

    return change


def lose(seconds: float, times: int) -> Change:
    """Set parts of a length (s), at least one sample, to zero; the distance of their starts is `times` the length."""

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        length = max(1, round(seconds * rate))
        signal[:, np.arange(signal.shape[1]) % (times * length) < length] = 0
        return signal

    return change


def hold_all(seconds: float, is_zero: bool) -> Change:
    """Let all leads hold their values, or 0, for a time (s) from 3.1 s on."""

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        start = round(3.1 * rate)
        signal[:, start : start + round(seconds * rate)] = 0 if is_zero else signal[:, start : start + 1]
        return signal

    return change


def scale_chest(factor: float) -> Change:
    """Multiply all chest leads."""

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        signal[6:] *= factor
        return signal

    return change


def repeat_beat(signal: np.ndarray, rate: float) -> np.ndarray:
    """Repeat 0.8 s of the recording, which hold a beat."""
    length, start = round(0.8 * rate), round(2 * rate)
    return np.tile(signal[:, start : start + length], signal.shape[1] // length + 1)[:, : signal.shape[1]]


def of_two_patients(join: Callable[[np.ndarray, np.ndarray], None]) -> Change:
    """Put parts of the recording before this one into the recording; `join` changes its first argument."""
    earlier: dict[float, np.ndarray] = {}

    def change(signal: np.ndarray, rate: float) -> np.ndarray:
        other = earlier.get(rate, np.roll(signal, signal.shape[1] // 3, axis=1))
        earlier[rate] = signal.copy()
        join(signal, other)
        return signal

    return change


def chest_of_other(signal: np.ndarray, other: np.ndarray) -> None:
    """Take the chest leads of the other patient."""
    length = min(signal.shape[1], other.shape[1])
    signal[6:, :length] = other[6:, :length]


def half_of_other(signal: np.ndarray, other: np.ndarray) -> None:
    """Take the second half of the other patient."""
    start, end = signal.shape[1] // 2, min(signal.shape[1], other.shape[1])
    signal[:, start:end] = other[:, start:end]


def at_500_hz(signal: np.ndarray, rate: float) -> np.ndarray:
    """Resample (leads, samples) to 500 Hz."""
    return signal if rate >= 500 else np.asarray(resample(signal, round(signal.shape[1] * 500 / rate), axis=1))


def delay(signal: np.ndarray, rate: float) -> np.ndarray:
    """Shift lead II by 0.2 s."""
    signal[1] = np.roll(signal[1], round(0.2 * rate))
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


def pressure(generator: np.random.Generator, time: np.ndarray, rate: float) -> np.ndarray:
    """Make an arterial pressure wave with a dicrotic notch, 70 a minute, which begins at a random time."""
    since = (time + generator.uniform(0, 0.85)) % 0.857
    rise = np.exp(-(((since - 0.15) / 0.06) ** 2)) + 0.6 * np.exp(-(((since - 0.28) / 0.1) ** 2))
    return rise + 0.15 * np.exp(-(((since - 0.45) / 0.05) ** 2))


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
    waves["arterial pressure, each lead at another time"] = pressure
    waves["pacemaker spikes only"] = lambda generator, time, _: (
        (time % 0.857 < 0.002).astype(float) + 0.002 * (generator.normal(size=time.size))
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
    for factor, leads in ((10.0, CHEST), (5.0, CHEST), (0.1, CHEST[1:5])):
        listed += [Fault(f"{lead} x {factor:g}", "ecg_amplitude", scale(lead, factor)) for lead in leads]
    listed += [
        Fault("right arm and right leg exchanged", "ecg_flat_limb_lead", exchange_right_leg),
        Fault("V3 copies V2", "ecg_equal_leads", copy("V2", "V3"), frozenset({"V2", "V3"}), needs_mv=False),
        Fault("V6 copies I", "ecg_equal_leads", copy("I", "V6"), frozenset({"V6"}), needs_mv=False),
        Fault("clipped at half of the peak", "ecg_clipped", clip(0.5), needs_mv=False),
        Fault("clipped at 80 % of the peak", "ecg_clipped", clip(0.8), needs_mv=False),
        Fault("V2 still for a third", "ecg_still", hold, needs_mv=False),
    ]
    noise: dict[str, Callable[[np.random.Generator, int, float], np.ndarray]] = {
        "white noise": lambda generator, size, rate: generator.normal(size=size),
        "noise of 1 to 20 Hz": lambda generator, size, rate: band_pass(
            generator.normal(size=(1, size)), 1.0, 20.0, rate
        )[0],
        "mains hum": lambda generator, size, rate: np.sin(2 * np.pi * 0.4 * min(rate, 125) * np.arange(size) / rate),
        "a sine of 5 Hz": lambda generator, size, rate: np.sin(10 * np.pi * np.arange(size) / rate),
    }
    without_beats = "ecg_lead_without_beats"
    listed += [
        Fault(f"V3 is {name}", without_beats, replace_lead("V3", make), frozenset({"V3"}), needs_mv=False)
        for name, make in noise.items()
    ]
    listed += [
        Fault(
            f"{lead} is {source} x {factor:g}", "ecg_equal_leads", scaled_copy(source, lead, factor), frozenset(wrong)
        )
        for lead, source, factor, wrong in (
            ("V3", "V2", 0.5, {"V2", "V3"}),
            ("V3", "V2", -1.0, {"V2", "V3"}),
            ("V4", "V5", 1.7, {"V4", "V5"}),
            ("V6", "II", -0.8, {"V6"}),
        )
    ]
    listed += [
        Fault(f"sampling rate declared {name}", "ecg_sampling_rate", unchanged, needs_mv=False, declared=declared)
        for declared, name in (
            (1 / 1.5, "1.5 times too low"),
            (1 / 2, "2 times too low"),
            (1 / 3, "3 times too low"),
            (1 / 5, "5 times too low"),
            (2.0, "2 times too high"),
        )
    ]
    listed += [
        Fault("all leads x 10", "ecg_all_amplitudes", scale_all(10.0)),
        Fault("all leads x 0.1", "ecg_all_amplitudes", scale_all(0.1)),
        Fault("one beat repeated", "ecg_repeated_beats", repeat_beat, needs_mv=False),
        Fault("chest leads upside down", "ecg_chest_leads_turned", turn_chest, needs_mv=False),
        *(Fault(f"{lead} upside down", "ecg_chest_leads_turned", scale(lead, -1.0), needs_mv=False) for lead in CHEST),
        Fault("chest leads in reverse order", "ecg_chest_leads_turned", reverse_chest, needs_mv=False),
        Fault("chest leads late by 0.2 s", "ecg_beats_at_other_times", late_chest, needs_mv=False),
        Fault(
            "chest leads of another patient",
            "ecg_beats_at_other_times",
            of_two_patients(chest_of_other),
            needs_mv=False,
        ),
        Fault("second half of another patient", "ecg_beats_change", of_two_patients(half_of_other), needs_mv=False),
    ]
    listed += [
        Fault("played backwards", "ecg_backwards", backwards, needs_mv=False),
        *(
            Fault(f"mains hum of {size:g} mV at {hertz:.3g} Hz", "ecg_mains_hum", hum(size, hertz))
            for size in (0.05, 0.1)
            for hertz in (50 / 3, 50, 60, 100, 120, 150, 180)
        ),
        *(
            Fault(name, "ecg_arm_electrodes or ecg_limb_electrodes", undo(made), needs_mv=False)
            for name, made in LIMB_EXCHANGES.items()
        ),
        *(
            Fault(name, "ecg_chest_leads_exchanged", undo(made), needs_mv=False)
            for name, made in CHEST_EXCHANGES.items()
        ),
        *(
            Fault(f"{seconds:g} s copied to the end", "ecg_repeated_beats", copy_seconds(seconds), needs_mv=False)
            for seconds in (1.5, 5.0)
        ),
        *(
            Fault(f"high-pass at {hertz:g} Hz", "ecg_slow_waves_missing", high_pass(hertz), needs_mv=False)
            for hertz in (2.0, 3.0, 4.0, 8.0)
        ),
        Fault("a straight line of 4 s in V2", "ecg_straight_line", straight(["V2"]), needs_mv=False),
        Fault("a straight line of 4 s in all leads", "ecg_straight_line", straight(list(LEADS)), needs_mv=False),
        Fault("no fault: the heart pauses for 3 s", "ecg_straight_line", pause, needs_mv=False),
        *(
            Fault(f"blocks of {seconds:g} s in another order", "ecg_blocks", reorder(seconds), needs_mv=False)
            for seconds in (0.5, 1.0, 2.0)
        ),
        Fault("every tenth sample zero", "ecg_lost_samples", lose(0.0, 10), needs_mv=False),
        Fault("20 ms of zeros every 200 ms", "ecg_lost_samples", lose(0.02, 10), needs_mv=False),
        *(
            Fault(f"{seconds:g} s {name} in all leads", "ecg_lost_samples", hold_all(seconds, is_zero), needs_mv=False)
            for seconds in (0.4, 1.0)
            for name, is_zero in (("of zeros", True), ("held", False))
        ),
        Fault("chest leads x 0.1", "ecg_chest_size", scale_chest(0.1)),
        Fault("chest leads x 10", "ecg_chest_size", scale_chest(10.0)),
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
