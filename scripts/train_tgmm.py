"""Train a model on one or several devices.

    accelerate launch scripts/train_tgmm.py configs/paper.yaml [section.key=value ...]

On two CPU processes: ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 scripts/train_tgmm.py configs/demo.yaml
(`accelerate launch --cpu --num_processes 2` starts only one process).

The same command continues a run that was stopped.
"""

import sys

from tgmm_hf.training.train_any import read_any_arguments, train_any

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    train_any(read_any_arguments(sys.argv[1], sys.argv[2:]))
