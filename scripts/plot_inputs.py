"""Draws what the model sees of given files: the prepared ECG and frames of the prepared echo clip.

    python scripts/plot_inputs.py --ecg RECORD --echo CLIP.dcm --out inputs.png

To be looked at, not only counted: a wrong lead order, unit or colour space is seen at once. Pictures of patients' data
stay out of the repository.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.utils.names import LEADS

FRAMES_SHOWN = 6


def draw_ecg(axes: plt.Axes, record: str) -> None:
    extractor = EcgFeatureExtractor()
    harmonised = extractor.harmonise(record)
    start = extractor.start_positions(harmonised.signal.shape[1])[0]
    values = extractor.finish(harmonised.signal, harmonised.mask, start)
    seconds = np.arange(values.shape[1]) / extractor.sampling_rate
    spacing = 8  # standard deviations between baselines
    for row in range(len(LEADS)):
        axes.plot(seconds, values[row] - row * spacing, linewidth=0.7, color="black" if harmonised.mask[row] else "red")
    axes.set_yticks([-row * spacing for row in range(len(LEADS))], LEADS)
    axes.set_xlabel("s")
    axes.set_title(f"{Path(record).name}: {harmonised.mask.sum()} leads, standard deviations", fontsize=10)
    axes.margins(x=0)


def draw_clip(axes: list[plt.Axes], path: str) -> None:
    prepared = EchoImageProcessor().prepare_clip(path)
    for panel, index in zip(axes, np.linspace(0, prepared.num_real - 1, len(axes)).round().astype(int), strict=True):
        panel.imshow(prepared.frames[index][..., ::-1])  # BGR -> RGB
        panel.set_title(f"frame {index + 1} of {prepared.num_real}", fontsize=10)
        panel.axis("off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ecg", help="WFDB record or DICOM waveform")
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
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
