"""Draw what ST-MEM's masked autoencoder makes of an ECG: the recording, the visible patches, and its reconstruction.

    python scripts/plot_reconstruction.py MODEL_DIRECTORY RECORDING --out reconstruction.png

MODEL_DIRECTORY is written by `tgmm convert st-mem` from the full file, or holds your own `StMemForPreTraining`. Look at
the picture during pre-training, because a falling loss does not show whether QRS complexes come back. Keep pictures of
patients' data out of the repository.
"""

import argparse
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from tgmm_hf import EcgFeatureExtractor, StMemForPreTraining
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import LEADS

SPACING = 8  # standard deviations between the zero lines of two leads


def main() -> None:
    """Read the command line, reconstruct the recording, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="directory of a StMemForPreTraining")
    parser.add_argument("recording", help="WFDB recording or DICOM waveform")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mask (0)")
    parser.add_argument("--out", required=True, help="PNG to write")
    arguments = parser.parse_args()

    model = StMemForPreTraining.from_pretrained(arguments.model).eval()
    extractor = EcgFeatureExtractor()
    ecg = extractor(arguments.recording, return_tensors="pt")["ecg_values"]
    torch.manual_seed(arguments.seed)
    with torch.inference_mode():
        output = model(ecg)
        rebuilt = model.reconstruct(ecg, output)[0]
    hidden = output.mask[0].repeat_interleave(model.config.patch_size, dim=1)
    seconds = torch.arange(ecg.shape[-1]) / extractor.sampling_rate

    figure, axes = plt.subplots(figsize=(14, 10), layout="constrained")
    draw_leads(axes, seconds, ecg[0], rebuilt, hidden)
    axes.set_title(f"{int(output.mask[0].sum())} of {output.mask[0].numel()} patches hidden, loss {output.loss:.3f}")
    figure.savefig(arguments.out, dpi=110)
    sys.stdout.write(f"wrote {arguments.out}\n")


def draw_leads(
    axes: plt.Axes, seconds: torch.Tensor, ecg: torch.Tensor, rebuilt: torch.Tensor, hidden: torch.Tensor
) -> None:
    """Draw the leads one below the other: the recording grey, visible patches black, the reconstruction red.

    Args:
        axes: Where to draw.
        seconds: Times of the samples (T,).
        ecg: Prepared recording (12, T).
        rebuilt: The model's reconstruction (12, T).
        hidden: Which samples the model did not see (12, T), bool.
    """
    for row in range(len(LEADS)):
        level = -row * SPACING
        seen = ecg[row].masked_fill(hidden[row], torch.nan)
        predicted = rebuilt[row].masked_fill(~hidden[row], torch.nan)
        axes.plot(seconds, ecg[row] + level, color="0.8", linewidth=1.5, label="recording" if row == 0 else None)
        axes.plot(seconds, seen + level, color="black", linewidth=0.8, label="seen" if row == 0 else None)
        axes.plot(seconds, predicted + level, color="red", linewidth=0.8, label="predicted" if row == 0 else None)
    axes.set_yticks([-row * SPACING for row in range(len(LEADS))], LEADS)
    axes.set_xlabel("s")
    axes.legend(loc="upper right", ncols=3)
    axes.margins(x=0)


if __name__ == "__main__":
    try:
        main()
    except (TgmmError, OSError) as error:
        sys.exit(str(error))
