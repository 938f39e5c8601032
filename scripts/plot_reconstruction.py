"""Draws what ST-MEM's masked autoencoder makes of an ECG: the record, what it saw of it, and what it put in the gaps.

    python scripts/plot_reconstruction.py MODEL_DIRECTORY RECORD --out reconstruction.png

MODEL_DIRECTORY: of `tgmm convert st-mem` from the full file, or of your own `StMemForPreTraining`. To be looked at
while pre-training: a falling loss does not say whether QRS complexes come back. Pictures of patients' data stay out of
the repository.
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from tgmm_hf import EcgFeatureExtractor, StMemForPreTraining
from tgmm_hf.utils.names import LEADS

SPACING = 8  # standard deviations between the baselines of two leads

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="directory of a StMemForPreTraining")
    parser.add_argument("record", help="WFDB record or DICOM waveform")
    parser.add_argument("--seed", type=int, default=0, help="of the mask")
    parser.add_argument("--out", required=True, help="PNG to write")
    arguments = parser.parse_args()

    model = StMemForPreTraining.from_pretrained(arguments.model).eval()
    extractor = EcgFeatureExtractor()
    ecg = extractor(arguments.record, return_tensors="pt")["ecg_values"]
    torch.manual_seed(arguments.seed)
    with torch.inference_mode():
        output = model(ecg)
        rebuilt = model.reconstruct(ecg, output)[0]
    hidden = output.mask[0].repeat_interleave(model.config.patch_size, dim=1)
    seconds = torch.arange(ecg.shape[-1]) / extractor.sampling_rate

    figure, axes = plt.subplots(figsize=(14, 10), layout="constrained")
    for row in range(len(LEADS)):
        level = -row * SPACING
        seen = ecg[0, row].masked_fill(hidden[row], torch.nan)
        predicted = rebuilt[row].masked_fill(~hidden[row], torch.nan)
        axes.plot(seconds, ecg[0, row] + level, color="0.8", linewidth=1.5, label="record" if row == 0 else None)
        axes.plot(seconds, seen + level, color="black", linewidth=0.8, label="seen" if row == 0 else None)
        axes.plot(seconds, predicted + level, color="red", linewidth=0.8, label="predicted" if row == 0 else None)
    axes.set_yticks([-row * SPACING for row in range(len(LEADS))], LEADS)
    axes.set_xlabel("s")
    axes.set_title(f"{int(output.mask[0].sum())} of {output.mask[0].numel()} patches hidden, loss {output.loss:.3f}")
    axes.legend(loc="upper right", ncols=3)
    axes.margins(x=0)
    figure.savefig(arguments.out, dpi=110)
    print(f"wrote {arguments.out}")
