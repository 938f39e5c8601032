"""Draw an ECG on standard paper in black, and over it in red what Beat rebuilds from its codes.

    python scripts/plot_beat.py BEAT RECORDING --out beat.png

BEAT is a model directory of `tgmm pretrain`. The recording is resampled and filtered as Beat reads it. Each window is
rebuilt by itself, and the amplitudes of its leads, which no code holds, are those of the recording. Where two windows
overlap, the later one is drawn. Keep pictures of patients' data out of the repository.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tgmm_hf import BeatFeatureExtractor, BeatModel
from tgmm_hf.inputs.ecg_picture import SheetColours, draw_ecg_picture
from tgmm_hf.inputs.ecg_sheet import LAYOUTS, EcgTraces
from tgmm_hf.inputs.ecg_signal import as_recording, harmonise_recording
from tgmm_hf.utils.files import whole_file

BLACK, RED = SheetColours(), SheetColours(ink=(220, 20, 20))


def main() -> None:
    """Read the command line, rebuild the recording, and draw both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="directory of a BeatModel")
    parser.add_argument("recording", help="path of an ECG")
    parser.add_argument("--layout", choices=list(LAYOUTS), default="3x4")
    parser.add_argument("--out", required=True, help="PNG to write")
    arguments = parser.parse_args()
    extractor = BeatFeatureExtractor.from_pretrained(arguments.model)
    model = BeatModel.from_pretrained(arguments.model).eval()
    original, rebuilt = rebuild(arguments.recording, extractor, model)
    sheets = [
        draw_ecg_picture(EcgTraces(signal, extractor.sampling_rate), arguments.layout, colours)
        for signal, colours in ((original, BLACK), (rebuilt, RED))
    ]
    both = np.minimum(*sheets)
    with whole_file(Path(arguments.out)) as building:
        Image.fromarray(both).save(building, format="PNG")


def rebuild(path: str, extractor: BeatFeatureExtractor, model: BeatModel) -> tuple[NDArray, NDArray]:
    """Read a recording and rebuild its windows.

    Args:
        path: path of the ECG.
        extractor: feature extractor of the model.
        model: the model.

    Returns:
        Recording and rebuilt recording, (12, samples) mV each. NaN where no window lies.
    """
    recording = as_recording(path)
    harmonised = harmonise_recording(
        recording, max_gap_seconds=extractor.max_gap_seconds, min_leads=extractor.min_leads
    )
    signal = extractor.clean(harmonised)
    rebuilt = np.full_like(signal, np.nan)
    for start in extractor.start_positions(signal.shape[1]):
        window = signal[:, start : start + extractor.num_samples]
        values = torch.from_numpy(extractor.scale(window))[None]
        standard = model.decode(model.encode(values))[0].detach().numpy()
        mean, deviation = window.mean(axis=1, keepdims=True), window.std(axis=1, keepdims=True)
        rebuilt[:, start : start + extractor.num_samples] = standard * deviation + mean
    return signal, rebuilt


if __name__ == "__main__":
    main()
