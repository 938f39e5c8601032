r"""Put pretrained encoders together into one saved model: weights, processor, code and view classifier.

    python scripts/assemble_tgmm.py --labs emilyalsentzer/Bio_ClinicalBERT --ecg encoders/ecg --echo encoders/echo \
        --view-classifier encoders/views --out runs/paper/start

The encoders come from the Hub or from `tgmm convert`. Fusion, guidance and response are new and have random weights.
`configs/paper.yaml` trains from there.
"""

import argparse
import sys

import torch

from tgmm_hf import TgmmModel, TgmmProcessor
from tgmm_hf.training.saving import save_repository

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main() -> None:
    """Read the command line, build the model, and save it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("labs", "ecg", "echo"):
        parser.add_argument(f"--{name}", required=True, help=f"directory or Hub repository of the {name} encoder")
    parser.add_argument("--view-classifier", help="directory or Hub repository of an echo view classifier")
    parser.add_argument(
        "--encoder-dtype", choices=DTYPES, default="float32", help="type of the stored encoder weights (float32)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the new parts (0)")
    parser.add_argument("--out", required=True, help="directory to write")
    arguments = parser.parse_args()

    sources = {name: getattr(arguments, name) for name in ("labs", "ecg", "echo", "view_classifier")}
    torch.manual_seed(arguments.seed)
    model = TgmmModel.from_encoders(**sources, encoder_dtype=DTYPES[arguments.encoder_dtype])
    save_repository(model, TgmmProcessor.from_encoders(**sources), arguments.out)
    sys.stdout.write(
        f"{arguments.out}: {model.num_parameters():,} parameters; encoders {model.config.encoder_sources}\n"
    )


if __name__ == "__main__":
    main()
