"""Draw what the model sees of given files: the prepared ECG, and frames of the prepared echo clip.

    python scripts/plot_inputs.py --ecg RECORDING --echo CLIP.dcm --out inputs.png

Look at the picture, because a wrong lead order, unit or colour space is seen at once. Keep pictures of patients' data
out of the repository.
"""

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import LEADS

FRAMES_SHOWN = 6


def draw_ecg(axes: plt.Axes, recording: str) -> None:
    """Draw the leads of a prepared recording one below the other; a lead that is missing in the file is red."""
    extractor = EcgFeatureExtractor()
    harmonised = extractor.harmonise(recording)
    start = extractor.start_positions(harmonised.signal.shape[1])[0]
    values = extractor.finish(harmonised.signal, harmonised.mask, start)
    seconds = np.arange(values.shape[1]) / extractor.sampling_rate
    spacing = 8  # standard deviations between the zero lines of two leads
    for row in range(len(LEADS)):
        axes.plot(seconds, values[row] - row * spacing, linewidth=0.7, color="black" if harmonised.mask[row] else "red")
    axes.set_yticks([-row * spacing for row in range(len(LEADS))], LEADS)
    axes.set_xlabel("s")
    axes.set_title(f"{Path(recording).name}: {harmonised.mask.sum()} leads, standard deviations", fontsize=10)
    axes.margins(x=0)


def draw_clip(axes: list[plt.Axes], path: str) -> None:
    """Draw frames of a prepared clip, spread evenly over its length. A panel without a frame stays empty."""
    prepared = EchoImageProcessor().prepare_clip(path)
    for panel in axes:
        panel.axis("off")
    shown = np.linspace(0, prepared.num_real - 1, min(len(axes), prepared.num_real)).round().astype(int)
    for panel, index in zip(axes, shown, strict=False):
        panel.imshow(prepared.frames[index][..., ::-1])  # BGR -> RGB
        panel.set_title(f"frame {index + 1} of {prepared.num_real}", fontsize=10)


def main() -> None:
    """Read the command line, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ecg", help="WFDB recording or DICOM waveform")
    parser.add_argument("--echo", help="multi-frame DICOM or video")
    parser.add_argument("--out", required=True, help="PNG to write")
    arguments = parser.parse_args()
    if not (arguments.ecg or arguments.echo):
        parser.error("give --ecg, --echo or both")
    figure = plt.figure(figsize=(12, 8 * bool(arguments.ecg) + 5 * bool(arguments.echo)), layout="constrained")
    parts = figure.subfigures(bool(arguments.ecg) + bool(arguments.echo), 1, squeeze=False)[:, 0]
    if arguments.ecg:
        draw_ecg(parts[0].subplots(), arguments.ecg)
    if arguments.echo:
        draw_clip(list(parts[-1].subplots(2, FRAMES_SHOWN // 2).flat), arguments.echo)
    figure.savefig(arguments.out, dpi=110)
    sys.stdout.write(f"wrote {arguments.out}\n")


if __name__ == "__main__":
    try:
        main()
    except (TgmmError, OSError) as error:
        sys.exit(str(error))
