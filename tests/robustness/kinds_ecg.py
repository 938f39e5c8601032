"""Hostile ECGs: arrays and WFDB recordings."""

import os
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from ecg_files import STEPS, heart_steps, write_record
from scipy.signal import resample
from trials import Answer, Trial, damaged, equal, equal_or_marked, kind, marked, no_oracle, process

from tgmm_hf.utils.names import LEADS

HEARTS = 4
"""Number of different hearts, so that their references are computed once."""
QUANTISED = 0.03
"""Tolerance in standard deviations of the window where a file holds steps of 2 uV."""


def recording(signal: np.ndarray, **changes: Any) -> dict[str, Any]:
    return {"signal": signal, "sampling_rate": 500.0, "lead_names": list(LEADS), "units": "mV"} | changes


@cache
def right(seed: int) -> Answer:
    """The model input of a heart that is given plainly, in millivolts."""
    return process(ecg=recording(heart_steps(seed) / STEPS))


def draw_heart(random: np.random.Generator) -> tuple[int, np.ndarray]:
    seed = int(random.integers(HEARTS))
    return seed, heart_steps(seed)


# ---- arrays


@kind("ecg_array_unit")
def array_unit(random, folder):
    seed, steps = draw_heart(random)
    unit, factor = [("uV", 1e3), ("µV", 1e3), ("V", 1e-3), ("nV", 1e6), ("MV", None), ("", None), ("counts", None)][
        random.integers(7)
    ]
    signal = steps / STEPS * (factor or 1)
    judge = equal(right(seed), 1e-3) if factor else equal_or_marked(right(seed), 1e-3)
    return Trial(f"unit {unit!r}", partial(process, ecg=recording(signal, units=unit)), judge)


@kind("ecg_array_unit_wrong")
def array_unit_wrong(random, folder):
    """Microvolts called millivolts and the like, in all leads or in one."""
    seed, steps = draw_heart(random)
    signal = steps / STEPS
    factor = float(random.choice([1000, 100, 1e-3, 1e6, -1000]))
    if random.random() < 0.5:
        lead = int(random.integers(12))
        signal = signal.copy()
        signal[lead] *= factor
        about = LEADS[lead] if lead > 5 else ""
        return Trial(f"{LEADS[lead]} x {factor:g}", partial(process, ecg=recording(signal)), marked(right(seed), about))
    return Trial(f"all x {factor:g}", partial(process, ecg=recording(signal * factor)), marked(right(seed)))


@kind("ecg_array_order")
def array_order(random, folder):
    seed, steps = draw_heart(random)
    order = random.permutation(12)
    names = [str(random.choice([str.upper, str.lower, str])(LEADS[lead])) for lead in order]
    container = random.choice(["list", "tuple", "float32", "fortran"])
    signal: Any = (steps / STEPS)[order]
    if container in ("list", "tuple"):
        signal = signal.tolist()
    elif container == "float32":
        signal = signal.astype(np.float32)
    else:
        signal = np.asfortranarray(signal)
    return Trial(f"leads {order}", partial(process, ecg=recording(signal, lead_names=names)), equal(right(seed), 1e-3))


@kind("ecg_array_rate")
def array_rate(random, folder):
    seed = int(random.integers(HEARTS))
    rate = float(random.choice([250, 257, 360, 400, 800, 1000, 1024]))
    signal = resample(heart_steps(seed) / STEPS, int(10 * rate), axis=1)
    # 257 Hz: the window's start falls between two samples
    tolerance = 0.3 if rate % 50 else 0.1
    return Trial(
        f"{rate:g} Hz", partial(process, ecg=recording(signal, sampling_rate=rate)), equal(right(seed), tolerance)
    )


@kind("ecg_array_fewer_leads")
def array_fewer_leads(random, folder):
    """Limb leads that follow from two others."""
    seed, steps = draw_heart(random)
    kept = sorted(random.choice(6, size=int(random.integers(2, 6)), replace=False).tolist()) + list(range(6, 12))
    signal, names = (steps / STEPS)[kept], [LEADS[lead] for lead in kept]
    # derived leads lack the noise of recorded ones: 0.01 mV in make_heart
    return Trial(
        f"only {names[:-6]}", partial(process, ecg=recording(signal, lead_names=names)), equal(right(seed), 0.05)
    )


ODD_NUMBERS = (np.nan, np.inf, -np.inf, 1e300, -1e308, 1e-320, 0.0)


@kind("ecg_array_values")
def array_values(random, folder):
    seed, steps = draw_heart(random)
    signal = steps / STEPS
    value = float(random.choice(ODD_NUMBERS))
    leads = random.choice(12, size=int(random.integers(1, 13)), replace=False)
    start, length = int(random.integers(5000)), int(random.choice([1, 3, 40, 200, 5000]))
    signal[leads, start : start + length] = value
    few = len(leads) == 1 and length == 1 and not np.isfinite(value)
    judge = equal_or_marked(right(seed), 1e-3) if few or abs(value) > 1 or not np.isfinite(value) else no_oracle
    return Trial(f"{value} in {len(leads)} leads x {length}", partial(process, ecg=recording(signal)), judge)


ODD_FIELDS: dict[str, tuple[Any, ...]] = {
    "sampling_rate": (0, -500, np.nan, np.inf, None, "500", "fast", 1e-300, 1e12, [500], True, 10**30, 5 + 1j),
    "lead_names": (
        None, [], list(LEADS)[:11], [*LEADS, "V7"], ["I"] * 12, "I,II", list(range(12)), [None] * 12, [*LEADS[:0:-1], ""],
        ["x" * 100_000] * 12, ["I\0"] * 12, ["("  * 60_000] * 12, [["I"]] * 12, dict.fromkeys(LEADS, 1),
    ),
    "units": (None, 5, "mV" * 1000, "mmHg", "normalised", ["mV"], "mV\0", b"mV"),
    "signal": (
        None, [], [[]], "signal", 5, np.zeros((12, 0)), np.zeros((0, 12)), np.zeros((12, 5000)), np.ones((12, 5000)),
        np.full((12, 5000), None), np.array([["a"] * 10] * 12), np.zeros((12, 5000), bool), np.zeros((12, 5000), complex),
        np.zeros((1, 12, 5000)), np.zeros(12), [[1.0] * 5000] * 11 + [[1.0]], {"I": [1.0]}, np.zeros((12, 1)), np.nan,
    ),
    "source": (None, 5, "x" * 100_000, Path("/etc/passwd"), "\ud800"),
}  # fmt: skip


@kind("ecg_array_fields")
def array_fields(random, folder):
    seed, steps = draw_heart(random)
    ecg = recording(steps / STEPS)
    name = str(random.choice(["sampling_rate", "lead_names", "units", "signal", "signal", "source", "absent", "extra"]))
    judge = equal_or_marked(right(seed), 1e-3)
    if name == "absent":
        name = str(random.choice(["sampling_rate", "lead_names", "units", "signal"]))
        del ecg[name]
        value: Any = "absent"
    elif name == "extra":
        ecg["samplig_rate"] = value = 250
    else:
        value = ODD_FIELDS[name][random.integers(len(ODD_FIELDS[name]))]
        ecg[name] = value
    # normalised units keep the ratios, so the standardised window is the same
    return Trial(f"{name} = {str(value)[:60]}", partial(process, ecg=ecg), judge)


@kind("ecg_array_shape")
def array_shape(random, folder):
    """The signal transposed, or with its leads cut, doubled or of integer types."""
    seed, steps = draw_heart(random)
    way = random.choice(["transposed", "int16", "int32", "object", "float16", "long", "short", "matrix"])
    signal: Any = steps / STEPS
    judge: Any = equal_or_marked(right(seed), 1e-3)
    if way == "transposed":
        signal = signal.T
    elif way in ("int16", "int32"):
        ecg = recording((steps * 2).astype(str(way)), units="uV")
        return Trial(str(way), partial(process, ecg=ecg), equal(right(seed), 1e-3))
    elif way in ("object", "float16"):
        signal, judge = signal.astype(str(way)), equal_or_marked(right(seed), 0.05)
    elif way == "long":
        signal, judge = np.tile(signal, 20), no_oracle
    elif way == "short":
        signal, judge = signal[:, : int(random.integers(0, 4000))], marked()
    else:
        signal = np.asmatrix(signal)
    return Trial(str(way), partial(process, ecg=recording(signal)), judge)


@kind("ecg_array_leads_damaged")
def array_leads_damaged(random, folder):
    """Faults of cables and machines. The right answer is a mark, or no answer."""
    seed, steps = draw_heart(random)
    signal, time = steps / STEPS, np.arange(5000) / 500
    way = str(
        random.choice(
            [
                "inverted",
                "exchanged",
                "scaled",
                "chest_scaled",
                "clipped",
                "copied",
                "still",
                "noise",
                "hum",
                "ramp",
                "flat",
                "shifted",
            ]
        )
    )
    limb, chest = int(random.integers(6)), int(random.integers(6, 12))
    about = ""
    if way == "inverted":
        signal[limb] *= -1
    elif way == "exchanged":
        other = (limb + int(random.integers(1, 6))) % 6
        signal[[limb, other]] = signal[[other, limb]]
    elif way == "scaled":
        signal[limb] *= random.choice([0.1, 0.5, 2, 10])
    elif way == "chest_scaled":
        signal[chest] *= random.choice([20, 50, 1000])
        about = LEADS[chest]
    elif way == "clipped":
        limit = 0.3 * np.abs(signal[chest]).max()
        signal[chest] = np.clip(signal[chest], -limit, limit)
        about = LEADS[chest]
    elif way == "copied":
        signal[chest] = signal[chest - 1 if chest > 6 else chest + 1]
    elif way == "still":
        signal[chest, 1000:3500] = signal[chest, 1000]
        about = LEADS[chest]
    elif way == "noise":
        signal = random.normal(0, 0.2, signal.shape)
    elif way == "hum":
        signal = np.sin(2 * np.pi * 50 * time) * random.uniform(0.2, 1, (12, 1))
    elif way == "ramp":
        signal = np.linspace(-1, 1, 5000) * random.uniform(0.2, 1, (12, 1))
    elif way == "flat":
        signal[:] = random.normal(0, 1, (12, 1))
    else:
        signal[limb] = np.roll(signal[limb], 250)
    return Trial(
        f"{way} {LEADS[limb]}/{LEADS[chest]}", partial(process, ecg=recording(signal)), marked(right(seed), about)
    )


# ---- WFDB


def read_file(path: Path | str) -> Answer:
    return process(ecg=str(path))


@kind("wfdb_format")
def wfdb_format(random, folder):
    """Files that are right, in every dress that the manual allows."""
    seed, steps = draw_heart(random)
    order = random.permutation(12) if random.random() < 0.5 else np.arange(12)
    small = np.abs(steps).max() < 1900
    factors = random.choice([1.0, 1.0, 2.0], size=12)  # another gain per lead
    unit, per_mv = [("mV", 1.0), ("uV", 1e-3), ("V", 1e3), ("mV", 1.0)][random.integers(4)]
    options: dict[str, Any] = {
        "storage": int(random.choice([16, 61, 24, 32, 212] if small else [16, 61, 24, 32])),
        "names": [LEADS[lead] for lead in order],
        "units": [unit] * 12,
        "gains": [STEPS * per_mv * factor for factor in factors],
        "baselines": random.integers(-50, 50, 12).tolist(),
        "files": int(random.choice([12, 12, 6, 1])),
        "per_frame": int(random.choice([1, 1, 2, 4])),
        "offset": int(random.choice([0, 0, 24])),
        "comments": ["# Age: 71", "#", "# <age>: 900 x 12 mV"][: random.integers(4)],
    }
    if factors.max() * np.abs(steps).max() > 1900 and options["storage"] == 212:
        options["storage"] = 16
    path = write_record(
        folder,
        (steps * factors[:, None].astype(int))[order],
        **{**options, "gains": [options["gains"][lead] for lead in order]},
    )
    way = str(random.choice(["", "crlf", "bom", "date", "counter", "upper", "suffix", "blank"]))
    header = path.with_suffix(".hea")
    lines = header.read_text().splitlines()
    if way == "crlf":
        header.write_text("\r\n".join(lines) + "\r\n", newline="")
    elif way == "bom":
        header.write_text("\ufeff" + "\n".join(lines))
    elif way == "date":
        header.write_text("\n".join([f"{lines[0]} 12:30:00 01/02/2020", *lines[1:]]))
    elif way == "counter":
        parts = lines[0].split()
        parts[2] += "/1000(5)"
        header.write_text("\n".join([" ".join(parts), *lines[1:]]))
    elif way == "blank":
        header.write_text("# comment first\n\n" + "\n".join(lines) + "\n\n")
    read = folder / "r.hea" if way == "suffix" else path
    return Trial(f"{way} {options['storage']} {unit}", partial(read_file, read), equal(right(seed), QUANTISED))


HOSTILE_TOKENS = (
    "", "0", "-1", "nan", "inf", "-inf", "1e400", "1e-400", "999999999999", "99999999999999999999", "x", "0x10", "1/0", "٣",
    "1.5.2", "--", "+", "()", "(0)", "/mV", "((((", "1_000", "½", "NaN(0)/mV", "0(0)/mV", "-500(0)/mV", "500(x)/mV", "\x00", "~",
)  # fmt: skip


@kind("wfdb_header_field")
def wfdb_header_field(random, folder):
    """One field of the header replaced by another text. The samples stay right, so an answer has to stay right."""
    seed, steps = draw_heart(random)
    path = write_record(folder, steps)
    header = path.with_suffix(".hea")
    lines = header.read_text().splitlines()
    line = int(random.choice([0, int(random.integers(1, 13))]))
    fields = lines[line].split()
    field = int(random.integers(len(fields)))
    token = str(random.choice(HOSTILE_TOKENS))
    before, fields[field] = fields[field], token
    lines[line] = " ".join(fields)
    header.write_text("\n".join(lines) + "\n")
    # a fixed rate of other samples is another recording, and a plain gain is another amplitude: nobody can see that
    unknowable = token in ("999999999999", "+") and line > 0 and field in (3, 7)
    judge = no_oracle if unknowable else equal_or_marked(right(seed), QUANTISED)
    return Trial(f"line {line}, field {field}: {before} -> {token!r}", partial(read_file, path), judge)


@kind("wfdb_header_swap")
def wfdb_header_swap(random, folder):
    """Two fields or two lines exchanged."""
    seed, steps = draw_heart(random)
    path = write_record(folder, steps, baselines=list(range(0, 120, 10)))
    header = path.with_suffix(".hea")
    lines = header.read_text().splitlines()
    if random.random() < 0.4:
        first, second = random.choice(np.arange(0, 13), 2, replace=False)
        lines[first], lines[second] = lines[second], lines[first]
        what = f"lines {first} and {second}"
    elif random.random() < 0.5:
        line = int(random.integers(13))
        fields = lines[line].split()
        first, second = random.choice(len(fields), 2, replace=False)
        fields[first], fields[second] = fields[second], fields[first]
        lines[line] = " ".join(fields)
        what = f"fields {first} and {second} of line {line}"
    else:
        line = int(random.integers(13))
        way = str(random.choice(["deleted", "doubled", "cut"]))
        what = f"line {line} {way}"
        if way == "deleted":
            del lines[line]
        elif way == "doubled":
            lines.insert(line, lines[line])
        else:
            lines[line] = lines[line][: int(random.integers(len(lines[line])))]
    header.write_text("\n".join(lines) + "\n")
    return Trial(what, partial(read_file, path), equal_or_marked(right(seed), QUANTISED))


@kind("wfdb_header_bytes")
def wfdb_header_bytes(random, folder):
    _, steps = draw_heart(random)
    path = write_record(folder, steps)
    header = path.with_suffix(".hea")
    what, content = damaged(random, header.read_bytes())
    header.write_bytes(content)
    return Trial(what, partial(read_file, path))


@kind("wfdb_signal_bytes")
def wfdb_signal_bytes(random, folder):
    """Damaged signal files. The header holds their checksums."""
    seed, steps = draw_heart(random)
    path = write_record(folder, steps, storage=int(random.choice([16, 24, 32])))
    what, content = damaged(random, path.with_suffix(".dat").read_bytes())
    path.with_suffix(".dat").write_bytes(content)
    # a sum of 16 bits does not see that two samples of a lead were exchanged
    judge = no_oracle if what.startswith("swap") else equal_or_marked(right(seed), QUANTISED)
    return Trial(what, partial(read_file, path), judge)


@kind("wfdb_other_signal")
def wfdb_other_signal(random, folder):
    """The signal file of another patient, of other channels or in another format under a header."""
    seed, steps = draw_heart(random)
    path = write_record(folder, steps)
    other = heart_steps((seed + 1) % HEARTS)
    way = str(random.choice(["patient", "order", "endian", "rows", "later", "text"]))
    values = {
        "patient": other.T,
        "order": steps[::-1].T,
        "endian": steps.T.astype(np.int16).byteswap(),
        "rows": steps,
        "later": np.roll(steps, 7),
        "text": np.zeros_like(steps),
    }[way]
    path.with_suffix(".dat").write_bytes(np.ascontiguousarray(values).astype("<i2").tobytes())
    return Trial(way, partial(read_file, path), equal_or_marked(right(seed), QUANTISED))


@kind("wfdb_lead_names")
def wfdb_lead_names(random, folder):
    """Names of leads as machines write them, and names that mean another signal."""
    seed, steps = draw_heart(random)
    forms = ["{}", "Lead {}", "ECG {}", "MDC_ECG_LEAD_{}", "lead_{}", "{} (Einthoven)"]
    names = [str(random.choice(forms)).format(lead) for lead in LEADS]
    if random.random() < 0.3:
        names[:6] = ["DI", "DII", "DIII", "aVR", "aVL", "aVF"]
    if random.random() < 0.3:
        names[6:] = [f"C{number}" for number in range(1, 7)]
    judge = equal(right(seed), QUANTISED)
    what = "good names"
    if random.random() < 0.6:
        lead = int(random.integers(12))
        form = str(
            random.choice(["{}(inverted)", "-{}", "{} (copy)", "M{}", "{}r", "resp", "{}{}", "?", "{} rev", "V", ""])
        )
        names[lead] = form.format(LEADS[lead], LEADS[lead])
        what, judge = names[lead], equal_or_marked(right(seed), QUANTISED)
    return Trial(what, partial(read_file, write_record(folder, steps, names=names)), judge)


@kind("wfdb_segments")
def wfdb_segments(random, folder):
    """Recordings of segments: right, gapped, contradicting and self-naming."""
    seed, steps = draw_heart(random)
    cut = int(random.integers(1000, 4000))
    orders = [list(range(12)), list(range(12))]
    write_record(folder, steps[:, :cut], "s1")
    way = "right" if random.random() < 0.4 else ""
    way = way or str(random.choice(["order", "rate", "self", "missing", "length", "gap", "huge", "many"]))
    if way == "order":
        orders[1] = orders[1][::-1]
    write_record(
        folder,
        steps[orders[1], cut:],
        "s2",
        names=[LEADS[lead] for lead in orders[1]],
        rate=250 if way == "rate" else 500,
    )
    second = {"self": "m 1000", "missing": "s3 1000", "length": f"s2 {5000 - cut + 7}", "gap": f"~ {5000 - cut}"}.get(
        way
    )
    second = second or {"huge": "s2 999999999999"}.get(way, f"s2 {5000 - cut}")
    total = 999999999999 if way == "huge" else 5000
    lines = [f"m/2 12 500 {total}", f"s1 {cut}", second]
    if way == "many":
        lines = [f"m/{20_000} 12 500 5000"] + ["s1 1"] * 20_000
    (folder / "m.hea").write_text("\n".join(lines) + "\n")
    judge = equal(right(seed), QUANTISED) if way == "right" else equal_or_marked(right(seed), QUANTISED)
    return Trial(way, partial(read_file, folder / "m"), judge)


@kind("wfdb_paths")
def wfdb_paths(random, folder):
    """Names that lead elsewhere, and files that are none."""
    _, steps = draw_heart(random)
    inner = folder / "inner"
    inner.mkdir()
    write_record(folder, steps, "outside")
    path = write_record(inner, steps)
    way = str(
        random.choice(
            [
                "up",
                "absolute",
                "pipe",
                "device",
                "directory",
                "loop",
                "long",
                "null",
                "empty",
                "absent",
                "header_pipe",
                "tilde",
            ]
        )
    )
    header, data = path.with_suffix(".hea"), path.with_suffix(".dat")
    text = header.read_text()
    target: Any = path
    names = {"up": "../outside.dat", "absolute": str(folder / "outside.dat"), "tilde": "~/r.dat"}
    if way in names:
        header.write_text(text.replace("r.dat", names[way]))
    elif way in ("pipe", "device", "directory", "loop", "empty", "absent"):
        data.unlink()
        if way == "pipe":
            os.mkfifo(data)
        elif way == "device":
            data.symlink_to("/dev/zero")
        elif way == "directory":
            data.mkdir()
        elif way == "loop":
            data.symlink_to(data)
        elif way == "empty":
            data.touch()
    elif way == "header_pipe":
        header.unlink()
        os.mkfifo(header)
    else:
        target = {"long": inner / ("x" * 5000), "null": f"{inner}/r\0"}[way]
    return Trial(way, partial(read_file, target), marked())
