"""Measure how often the exchange of a limb electrode with a chest electrode gets its right name.

Each of the 18 exchanges is planted into each recording. Recordings of PTB-XL that were scaled by lead get sizes back:
the limb leads by their arithmetic, the chest leads from a drawn recording in millivolts. Decision 244 has the figures.

    python scripts/measure_electrode_names.py RECORDS --scaled ptbxl_100hz_folds1-9.npz
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tgmm_hf.inputs.ecg_checks import check_leads
from tgmm_hf.inputs.ecg_electrodes import CHEST_EXCHANGES, CHEST_TURNS, LIMB_EXCHANGES
from tgmm_hf.inputs.ecg_limb_leads import LIMB_LEADS
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.ecg_signal import harmonise_recording
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

CODES = ("ecg_limb_electrodes", "ecg_chest_leads_exchanged", "ecg_chest_leads_turned", "ecg_arm_electrodes")
LIMBS = ("right arm", "left arm", "left leg")
MIXED = tuple(f"{limb} and {chest} exchanged" for limb in LIMBS for chest in LEADS[6:])


def exchange_mixed(signal: np.ndarray, limb: int, chest: int) -> np.ndarray:
    """Exchange a limb electrode with a chest electrode in leads (12, samples), by the potentials of all electrodes."""
    lead_i, lead_ii = signal[0], signal[1]
    potentials = np.concatenate([[0 * lead_i, lead_i, lead_ii], signal[6:] + (lead_i + lead_ii) / 3])
    potentials[[limb, 3 + chest]] = potentials[[3 + chest, limb]]
    lead_i, lead_ii = potentials[1] - potentials[0], potentials[2] - potentials[0]
    limb_leads = np.stack([weights[0] * lead_i + weights[1] * lead_ii for weights in LIMB_LEADS.values()])
    return np.concatenate([limb_leads, potentials[3:] - potentials[:3].mean(axis=0)])


def exchange_named(signal: np.ndarray, exchange: Mapping[str, str]) -> np.ndarray:
    """Put each lead of (12, samples) where an exchange of the package's tables takes it from."""
    changed = signal.copy()
    for lead, held in exchange.items():
        changed[LEADS.index(held.removeprefix("-"))] = (-1 if held[0] == "-" else 1) * signal[LEADS.index(lead)]
    return changed


def findings(signal: np.ndarray, rate: float) -> tuple[list[str], str]:
    """Check leads (12, samples) in millivolts: codes about electrodes, all texts."""
    try:
        checks = check_leads(dict(zip(LEADS, signal, strict=True)), rate, "", True).checks
    except InputRefusedError:
        return ["refused"], ""
    return [check["code"] for check in checks if check["code"] in CODES], " ".join(check["text"] for check in checks)


def of_size(scaled: np.ndarray, chest_sizes: np.ndarray) -> np.ndarray:
    """Bring leads (12, samples) that were scaled by lead to sizes: limb leads by arithmetic, chest leads as given."""
    lead_i, lead_ii, lead_iii = scaled[:3]
    factors = np.abs(np.linalg.svd(np.stack([lead_i, -lead_ii, lead_iii]).T, full_matrices=False)[2][-1])
    lead_i, lead_ii = factors[0] * lead_i, factors[1] * lead_ii
    limb = np.stack([weights[0] * lead_i + weights[1] * lead_ii for weights in LIMB_LEADS.values()])
    limb *= 0.15 / limb[:2].std()
    return np.concatenate([limb, scaled[6:] * (0.15 * chest_sizes)[:, None]])


def _write(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def measure(title: str, recordings: list[tuple[np.ndarray, float]]) -> None:
    """Print the false alarms, and how each planted exchange is found and named."""
    _write(f"{title}: {len(recordings)} recordings")
    alarms = Counter(code for signal, rate in recordings for code in findings(signal, rate)[0])
    _write(f"  false alarms: {dict(alarms) or 'none'}")
    coded, named, count = Counter[str](), Counter[str](), len(recordings)
    for signal, rate in recordings:
        for place, name in enumerate(MIXED):
            codes, text = findings(exchange_mixed(signal, *divmod(place, 6)), rate)
            coded[name] += bool(codes)
            named[name] += f": {name}" in text
    total = count * len(MIXED)
    _write(f"  limb and chest exchanged: a code in {coded.total()} of {total}, the right name in {named.total()}")
    _write("  right names: " + ", ".join(f"{name.removesuffix(' exchanged')} {named[name]}" for name in MIXED))
    for kind, table in (("limb", LIMB_EXCHANGES), ("chest", CHEST_EXCHANGES), ("all chest leads", CHEST_TURNS)):
        texts = [
            findings(exchange_named(signal, change), rate) for signal, rate in recordings for change in table.values()
        ]
        wrong = sum(any(name in text for name in MIXED) for _, text in texts)
        _write(f"  {kind}: a code in {sum(bool(codes) for codes, _ in texts)} of {len(texts)}, named as mixed {wrong}")


def main() -> None:
    """Read the recordings and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, help="WFDB recordings in millivolts")
    parser.add_argument("--scaled", type=Path, help="an .npz with `signal` (recordings, samples, 12), 100 Hz")
    parser.add_argument("--every", type=int, default=20, help="use every n-th scaled recording (default: 20)")
    arguments = parser.parse_args()
    read = [harmonise_recording(read_ecg(path)) for path in sorted(arguments.directory.rglob("*.hea"))]
    whole = [(ecg.signal, float(ecg.sampling_rate)) for ecg in read if ecg.mask.all()]
    measure("In millivolts", whole)
    if arguments.scaled is None:
        return
    generator = np.random.default_rng(0)
    sizes = [signal[6:].std(axis=1) / signal[:2].std() for signal, _ in whole]
    stored = np.load(arguments.scaled)["signal"][:: arguments.every].astype(float)
    drawn = [sizes[index] for index in generator.integers(len(sizes), size=len(stored))]
    measure("Scaled", [(of_size(scaled.T, sizes), 100.0) for scaled, sizes in zip(stored, drawn, strict=True)])


if __name__ == "__main__":
    main()
