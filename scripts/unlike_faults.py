"""Faults of ECGs, clips and laboratory rows for `measure_unlike_training.py`. Most have no check of their own."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.ndimage import zoom
from scipy.signal import butter, resample, sosfiltfilt

from tgmm_hf.utils.names import LEADS

EcgChange = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""Makes a signal (12, samples) faulty; gets the sampling rate in Hz and a generator too."""
ClipChange = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""Makes a clip (frames, size, size, 3) uint8 faulty; gets a clip of another patient and a generator too."""
LIMB, CHEST = LEADS[:6], LEADS[6:]


def row(lead: str) -> int:
    """Return the row of a lead."""
    return LEADS.index(lead)


def ramp(seconds: float, leads: tuple[str, ...] = LEADS) -> EcgChange:
    """Fill a gap of some leads with a straight line."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        size = int(seconds * rate)
        start = generator.integers(int(0.5 * rate), signal.shape[1] - size - int(0.5 * rate))
        for lead in leads:
            ends = signal[row(lead), start], signal[row(lead), start + size]
            signal[row(lead), start : start + size] = np.linspace(*ends, size)
        return signal

    return change


def cut_out(seconds: float) -> EcgChange:
    """Cut a part out of every second."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        first = generator.integers(0, int(rate))
        return signal[:, (np.arange(signal.shape[1]) - first) % int(rate) >= int(seconds * rate)]

    return change


def delayed(seconds: float, source: str, lead: str) -> EcgChange:
    """Replace a lead by another one that is late."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        signal[row(lead)] = np.roll(signal[row(source)], max(1, round(seconds * rate)))
        return signal

    return change


def filtered_copy(hertz: float, kind: str, source: str = "V2", lead: str = "V3") -> EcgChange:
    """Replace a lead by another one after a filter."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        signal[row(lead)] = sosfiltfilt(butter(2, hertz, kind, fs=rate, output="sos"), signal[row(source)])
        return signal

    return change


def noisy_copy(share: float, source: str = "V2", lead: str = "V3") -> EcgChange:
    """Replace a lead by another one with noise."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        copied = signal[row(source)]
        signal[row(lead)] = copied + share * copied.std() * generator.normal(size=copied.size)
        return signal

    return change


def soft_clip(share: float) -> EcgChange:
    """Bend large values towards a share of the largest one, as an amplifier at its limit does."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        middle = np.median(signal, axis=1, keepdims=True)
        limit = share * np.abs(signal - middle).max(axis=1, keepdims=True)
        return np.asarray(middle + limit * np.tanh((signal - middle) / limit))

    return change


def half_upside_down(leads: tuple[str, ...]) -> EcgChange:
    """Turn the second half of some leads over."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        signal[[row(lead) for lead in leads], signal.shape[1] // 2 :] *= -1
        return signal

    return change


def exchanged(one: str, two: str) -> EcgChange:
    """Exchange two leads."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        rows = [row(one), row(two)]
        signal[rows] = signal[rows[::-1]]
        return signal

    return change


def upside_down(lead: str) -> EcgChange:
    """Turn a lead over."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        signal[row(lead)] *= -1
        return signal

    return change


def filtered(hertz: float, kind: str) -> EcgChange:
    """Filter all leads forwards and backwards."""
    return lambda signal, rate, generator: np.asarray(
        sosfiltfilt(butter(2, hertz, kind, fs=rate, output="sos"), signal, axis=1)
    )


def tremor(share: float) -> EcgChange:
    """Add a tremor of 5 to 9 Hz of the arms."""
    shares = np.array([1, 1, 0.2, -1, 0.4, 0.6, *[0.3] * 6])[:, None]

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        phase = np.cumsum(2 * np.pi * generator.uniform(5, 9) + 6 * generator.normal(size=signal.shape[1])) / rate
        return np.asarray(signal + share * signal.std(axis=1, keepdims=True) * shares * np.sin(phase))

    return change


def reordered(seconds: float) -> EcgChange:
    """Put blocks in another order."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        size = int(seconds * rate)
        order = generator.permutation(signal.shape[1] // size)
        return np.concatenate([signal[:, place * size : (place + 1) * size] for place in order], axis=1)

    return change


def slower(times: float) -> EcgChange:
    """Play the recording slower, as a rate that is declared too low."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        played = np.asarray(resample(signal, int(signal.shape[1] * times), axis=1))
        return played[:, : signal.shape[1]]

    return change


def noisy(share: float, leads: tuple[str, ...]) -> EcgChange:
    """Add white noise to some leads."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        for lead in leads:
            signal[row(lead)] += share * signal[row(lead)].std() * generator.normal(size=signal.shape[1])
        return signal

    return change


def wrapped(lead: str, share: float) -> EcgChange:
    """Let a lead leave its range at a share of its largest value and come out at the other end."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        limit = share * float(np.abs(signal[row(lead)]).max())
        signal[row(lead)] = (signal[row(lead)] + limit) % (2 * limit) - limit
        return signal

    return change


def scaled(factor: float, leads: tuple[str, ...]) -> EcgChange:
    """Multiply some leads."""

    def change(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
        signal[[row(lead) for lead in leads]] *= factor
        return signal

    return change


def backwards(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
    """Play the recording backwards."""
    return signal[:, ::-1].copy()


def logarithmic(signal: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
    """Draw the values on a logarithmic scale."""
    middle = np.median(signal, axis=1, keepdims=True)
    largest = np.abs(signal - middle).max(axis=1, keepdims=True)
    return np.asarray(
        np.sign(signal - middle) * largest * np.log1p(10 * np.abs(signal - middle) / largest) / np.log(11)
    )


def ecg_faults() -> dict[str, EcgChange]:
    """List the faults of ECGs: name -> change."""
    return {
        "gap of 0.8 s filled by a ramp": ramp(0.8),
        "gap of 1.5 s filled by a ramp": ramp(1.5),
        "gap of 1 s of V3 filled by a ramp": ramp(1.0, ("V3",)),
        "0.1 s cut out of each second": cut_out(0.1),
        "V3 is V2, 20 ms late": delayed(0.02, "V2", "V3"),
        "V6 is V5, 40 ms late": delayed(0.04, "V5", "V6"),
        "V3 is V2 below 20 Hz": filtered_copy(20, "low"),
        "V3 is V2 below 10 Hz": filtered_copy(10, "low"),
        "V3 is V2 above 2 Hz": filtered_copy(2, "high"),
        "V3 is V2 with noise of 1 %": noisy_copy(0.01),
        "soft clipping at half of the peak": soft_clip(0.5),
        "soft clipping at a third of the peak": soft_clip(0.3),
        "second half of V3 upside down": half_upside_down(("V3",)),
        "second half of V1 to V6 upside down": half_upside_down(CHEST),
        "second half of all leads upside down": half_upside_down(LEADS),
        "V2 and V3 exchanged": exchanged("V2", "V3"),
        "V4 and V6 exchanged": exchanged("V4", "V6"),
        "V4 upside down": upside_down("V4"),
        "V6 upside down": upside_down("V6"),
        "low-pass of 5 Hz": filtered(5, "low"),
        "low-pass of 15 Hz": filtered(15, "low"),
        "high-pass of 3 Hz": filtered(3, "high"),
        "tremor": tremor(0.5),
        "blocks of 2 s in another order": reordered(2.0),
        "played 1.5 times too slow": slower(1.5),
        "played 2 times too slow": slower(2.0),
        "noise of half of the deviation in V3": noisy(0.5, ("V3",)),
        "noise of a third of the deviation in all leads": noisy(0.3, LEADS),
        "V4 wrapped around at half of the peak": wrapped("V4", 0.5),
        "V1 times 0.1": scaled(0.1, ("V1",)),
        "limb leads times 2.5": scaled(2.5, LIMB),
        "backwards": backwards,
        "logarithmic scale": logarithmic,
    }


def harmless_ecg_changes() -> dict[str, EcgChange]:
    """List what ordinary recordings have: name -> change. They shall pass."""
    return {
        "noise of 3 % of the deviation": noisy(0.03, LEADS),
        "all leads times 0.6": scaled(0.6, LEADS),
        "all leads times 1.5": scaled(1.5, LEADS),
        "10 % faster": slower(1 / 1.1),
    }


# ---- clips


def covered(frames: np.ndarray, other: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Cover the middle of the sector."""
    size = frames.shape[1]
    frames[:, size // 3 : 2 * size // 3, size // 3 : 2 * size // 3] = 0
    return frames


def second_picture(frames: np.ndarray, other: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Lay a small clip of another patient over a corner."""
    size = frames.shape[1] // 3
    frames[:, :size, -size:] = shrunk(other, size)
    return frames


def shrunk(frames: np.ndarray, size: int) -> np.ndarray:
    """Shrink a clip to `size` x `size` pixels."""
    factor = size / frames.shape[1]
    small = zoom(frames.astype(np.float32), (1, factor, factor, 1), order=1)
    return np.clip(small[:, :size, :size], 0, 255).astype(np.uint8)


def small_picture(frames: np.ndarray, other: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Shrink the picture to half of its size."""
    size = frames.shape[1] // 2
    out, start = np.zeros_like(frames), (frames.shape[1] - size) // 2
    out[:, start : start + size, start : start + size] = shrunk(frames, size)
    return out


def turned(frames: np.ndarray, other: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Turn the clip by 20 degrees."""
    size = frames.shape[1]
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    angle = np.deg2rad(20)
    places = np.stack([np.cos(angle) * rows + np.sin(angle) * columns, np.cos(angle) * columns - np.sin(angle) * rows])
    chosen = np.rint(places + (size - 1) / 2).astype(int)
    inside = ((chosen >= 0) & (chosen < size)).all(axis=0)
    out = np.zeros_like(frames)
    out[:, inside] = frames[:, chosen[0][inside], chosen[1][inside]]
    return out


def every(step: int) -> ClipChange:
    """Take every frame of a number only, and begin again at the end."""
    return lambda frames, other, generator: frames[np.arange(len(frames)) * step % len(frames)]


def twice_too_slow(frames: np.ndarray, other: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Show the first half in the double time, with means between its frames."""
    half = frames[: len(frames) // 2 + 1].astype(np.float32)
    out = np.empty((len(frames), *frames.shape[1:]), np.float32)
    out[::2] = half[: len(out[::2])]
    out[1::2] = (half[: len(out[1::2])] + half[1 : len(out[1::2]) + 1]) / 2
    return out.astype(np.uint8)


def halves_of_two(frames: np.ndarray, other: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Lay the left half of one clip beside the right half of another."""
    size = frames.shape[2] // 2
    return np.concatenate([frames[:, :, :size], other[:, :, size:]], axis=2)


def in_turn(frames: np.ndarray, other: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Take frames of two clips in turn."""
    frames[1::2] = other[1::2]
    return frames


def noise_inside(frames: np.ndarray, other: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Put noise of the same brightness into the sector."""
    mean = frames.mean(axis=(0, 3), keepdims=True)
    noise = np.clip(mean * generator.exponential(1.0, frames.shape[:3])[..., None], 0, 255)
    return noise.astype(np.uint8).repeat(3, axis=-1)


def masked(keep: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> ClipChange:
    """Blacken a part; `keep` gets rows and columns from 0 to 1 and returns True for what stays."""

    def change(frames: np.ndarray, other: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        rows, columns = np.mgrid[: frames.shape[1], : frames.shape[2]] / frames.shape[1]
        return frames * keep(rows, columns)[None, :, :, None].astype(np.uint8)

    return change


def as_uint8(make: Callable[[np.ndarray], np.ndarray]) -> ClipChange:
    """Change the grey values, which are given as float."""
    return lambda frames, other, generator: np.clip(make(frames.astype(np.float32)), 0, 255).astype(np.uint8)


def clip_faults() -> dict[str, ClipChange]:
    """List the faults of clips: name -> change."""
    order = np.random.default_rng(0).permutation(16)
    return {
        "the middle of the sector covered": covered,
        "a small second picture over a corner": second_picture,
        "a picture of half of the size": small_picture,
        "turned by 20 degrees": turned,
        "mirrored": lambda frames, other, generator: frames[:, :, ::-1],
        "upside down": lambda frames, other, generator: frames[:, ::-1],
        "the lower half dark": masked(lambda rows, columns: rows < 0.5),
        "the left half dark": masked(lambda rows, columns: columns > 0.5),
        "a quarter dark": masked(lambda rows, columns: (columns > 0.5) | (rows < 0.5)),
        "left half of one clip, right half of another": halves_of_two,
        "two clips in turn, frame by frame": in_turn,
        "two clips blended": lambda frames, other, generator: ((frames.astype(int) + other) // 2).astype(np.uint8),
        "every third frame": every(3),
        "twice too slow": twice_too_slow,
        "frames in another order": lambda frames, other, generator: frames[order[order < len(frames)]],
        "backwards": lambda frames, other, generator: frames[::-1],
        "second half first": lambda frames, other, generator: np.roll(frames, len(frames) // 2, axis=0),
        "frozen": lambda frames, other, generator: frames[:1].repeat(len(frames), axis=0),
        "noise of the same brightness": noise_inside,
        "twice as bright": as_uint8(lambda frames: 2 * frames),
        "half as bright": as_uint8(lambda frames: frames / 2),
        "inverted": as_uint8(lambda frames: 255 - frames),
        "red and blue exchanged": lambda frames, other, generator: frames[..., ::-1],
        "blurred": lambda frames, other, generator: ((np.roll(frames, 1, 1).astype(int) + frames) // 2).astype(
            np.uint8
        ),
    }


def harmless_clip_changes() -> dict[str, ClipChange]:
    """List what ordinary clips have: name -> change. They shall pass."""
    return {
        "10 % brighter": as_uint8(lambda frames: 1.1 * frames),
        "one frame later": lambda frames, other, generator: np.concatenate([frames[1:], frames[-1:]]),
        "moved by a pixel": lambda frames, other, generator: np.roll(frames, 1, axis=2),
    }


# ---- laboratory rows

Cells = dict[str, float]
"""Column with unit -> arcsinh of the value, as `lab_numbers` gives it."""


def lab_faults(rows: list[Cells], generator: np.random.Generator) -> Iterator[tuple[str, Cells]]:
    """Yield (fault, faulty row) for rows of several cells."""
    for cells, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        names = sorted(cells)
        if len(names) < 3:
            continue
        name, second = generator.choice(names, 2, replace=False)
        for factor in (0.1, 0.5, 2.0, 10.0, 100.0):
            yield f"one cell times {factor:g}", {**cells, name: float(np.arcsinh(factor * np.sinh(cells[name])))}
        yield "two cells exchanged", {**cells, name: cells[second], second: cells[name]}
        yield "half of the row of another patient", {**cells, **{key: other[key] for key in names[::2] if key in other}}


__all__ = ["clip_faults", "ecg_faults", "harmless_clip_changes", "harmless_ecg_changes", "lab_faults"]
