"""What pre-training gave the encoders: linear probes of their frozen summaries, against encoders of random weights.

    python benchmarks/encoder_probes.py grid/data --encoders grid/encoders

Logistic regression on the summary of each patient (the first token of the text, the pooled ECG, the mean over the
views), fitted on the train split, its penalty chosen on the validation split. Printed: AUC of the first diagnosis task
on the test split, with the 95 % interval over patients, of both, and their difference, paired.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.metrics import auc, bootstrap_counts, estimate, resampled_auc
from tgmm_hf.evaluation.single_modality import encode_summaries
from tgmm_hf.training.arguments import parse_arguments
from tgmm_hf.training.train import build
from tgmm_hf.utils.names import MODALITIES

TASK = "hf_diagnosis"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="prepared data")
    parser.add_argument("--encoders", type=Path, required=True, help="output of `tgmm pretrain`")
    arguments = parser.parse_args()
    rows = load_prepared(arguments.data)
    labels = {split: np.array(rows[split].with_format(None)[f"label_{TASK}"]) for split in rows}
    there = {name: str(arguments.encoders / name) for name in MODALITIES if (arguments.encoders / name).is_dir()}
    scores = {
        kind: probe(arguments.data, rows, encoders, labels) for kind, encoders in (("pre", there), ("random", {}))
    }
    print(f"{'encoder':8}  {'pre-trained':22}  {'random weights':22}  difference")
    for name in there:
        known = ~np.isnan(scores["pre"][name])
        label, patients = labels["test"][known], np.array(rows["test"].with_format(None)["patient_id"])[known]
        counts = bootstrap_counts(patients, label, 1000, 0)
        ours, other = (scores[kind][name][known] for kind in ("pre", "random"))
        print(
            f"{name:8}  {shown(estimate(lambda c, s=ours, y=label: resampled_auc(s, y, c), counts))}  "
            f"{shown(estimate(lambda c, s=other, y=label: resampled_auc(s, y, c), counts))}  "
            + shown(
                estimate(lambda c, a=ours, b=other, y=label: resampled_auc(a, y, c) - resampled_auc(b, y, c), counts)
            )
        )


def shown(estimate) -> str:
    return f"{estimate.value:+.3f} ({estimate.interval[0]:+.3f} to {estimate.interval[1]:+.3f})"


def probe(data: str, rows, encoders: dict[str, str], labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Modality -> scores of the test split, NaN where it is absent."""
    torch.manual_seed(0)
    told = {"output": "unused", "data": {"directory": data}, "tasks": {TASK: None}, "model": {"encoders": encoders}}
    model, processor = build(parse_arguments(told), rows)
    collator = TgmmCollator(processor, model.config, training=False)
    summaries = {split: encode_summaries(model.eval(), rows[split], collator, split) for split in rows}
    found = {}
    for name in MODALITIES:
        x = {split: summaries[split][name].to_numpy() for split in rows}
        known = {split: ~np.isnan(x[split]).any(1) for split in rows}

        def fit(penalty: float, x=x, known=known):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=5000))
            return model.fit(x["train"][known["train"]], labels["train"][known["train"]])

        some = known["validation"]
        fits = [fit(penalty) for penalty in (1e-3, 1e-2, 1e-1, 1.0)]
        best = max(fits, key=lambda m: auc(m.decision_function(x["validation"][some]), labels["validation"][some]))
        found[name] = np.full(len(x["test"]), np.nan)
        found[name][known["test"]] = best.decision_function(x["test"][known["test"]])
    return found


if __name__ == "__main__":
    main()
