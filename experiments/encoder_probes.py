"""What pre-training gave the encoders: linear probes of their summaries, compared with encoders of random weights.

    python experiments/encoder_probes.py grid/data --encoders grid/encoders

A logistic regression reads the summary of each patient: the first token of the text, the pooled ECG, or the mean over
the views. It is fitted on the train split. Its penalty is chosen on the validation split. The script prints the AUC on
the test split with pre-trained encoders, with random encoders, and their paired difference, each with its 95 %
interval over patients.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from datasets import DatasetDict
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from tiny_training import write

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.metrics import Estimate, auc, bootstrap_counts, estimate, resampled_auc
from tgmm_hf.evaluation.single_modality import encode_summaries
from tgmm_hf.training.arguments import parse_arguments
from tgmm_hf.training.starting_model import build
from tgmm_hf.utils.names import MODALITIES

TASK = "hf_diagnosis"
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Values of C of the logistic regression."""


def main() -> None:
    """Probe all encoders and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="prepared data")
    parser.add_argument("--encoders", type=Path, required=True, help="output of `tgmm pretrain`")
    arguments = parser.parse_args()
    rows = load_prepared(arguments.data)
    labels = {split: np.array(rows[split].with_format(None)[f"label_{TASK}"]) for split in rows}
    pretrained = {name: str(arguments.encoders / name) for name in MODALITIES if (arguments.encoders / name).is_dir()}
    scores = {
        kind: probe(arguments.data, rows, encoders, labels)
        for kind, encoders in (("pretrained", pretrained), ("random", {}))
    }
    write(f"{'encoder':8}  {'pre-trained':22}  {'random weights':22}  difference")
    patients = np.array(rows["test"].with_format(None)["patient_id"])
    for name in pretrained:
        present = ~np.isnan(scores["pretrained"][name])
        ours, theirs = (scores[kind][name][present] for kind in ("pretrained", "random"))
        write(f"{name:8}  {compare(ours, theirs, labels['test'][present], patients[present])}")


def compare(ours: NDArray, theirs: NDArray, label: NDArray, patients: NDArray) -> str:
    """Return the AUC of both scores and their difference, each with its interval."""
    counts = bootstrap_counts(patients, label, 1000, 0)
    figures = (
        estimate(lambda drawn: resampled_auc(ours, label, drawn), counts),
        estimate(lambda drawn: resampled_auc(theirs, label, drawn), counts),
        estimate(lambda drawn: resampled_auc(ours, label, drawn) - resampled_auc(theirs, label, drawn), counts),
    )
    return "  ".join(as_text(figure) for figure in figures)


def as_text(figure: Estimate) -> str:
    """Write a figure with its interval."""
    assert figure.interval is not None
    return f"{figure.value:+.3f} ({figure.interval[0]:+.3f} to {figure.interval[1]:+.3f})"


def probe(data: str, rows: DatasetDict, encoders: dict[str, str], labels: dict[str, NDArray]) -> dict[str, NDArray]:
    """Score the test split: modality -> one score per patient, NaN where the modality is absent."""
    torch.manual_seed(0)
    settings = {"output": "unused", "data": {"directory": data}, "tasks": {TASK: None}, "model": {"encoders": encoders}}
    model, processor = build(parse_arguments(settings), rows)
    collator = TgmmCollator(processor, model.config, training=False)
    summaries = {split: encode_summaries(model.eval(), rows[split], collator, split) for split in rows}
    return {
        name: probe_one({split: summaries[split][name].to_numpy() for split in rows}, labels) for name in MODALITIES
    }


def probe_one(summaries: dict[str, NDArray], labels: dict[str, NDArray]) -> NDArray:
    """Fit a logistic regression on the summaries of one modality. Return the scores of the test split."""
    present = {split: ~np.isnan(values).any(1) for split, values in summaries.items()}

    def fit(penalty: float) -> Pipeline:
        regression = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=5000))
        return regression.fit(summaries["train"][present["train"]], labels["train"][present["train"]])

    def validation_auc(regression: Pipeline) -> float:
        chosen = present["validation"]
        return auc(regression.decision_function(summaries["validation"][chosen]), labels["validation"][chosen])

    best = max((fit(penalty) for penalty in PENALTIES), key=validation_auc)
    scores = np.full(len(summaries["test"]), np.nan)
    scores[present["test"]] = best.decision_function(summaries["test"][present["test"]])
    return scores


if __name__ == "__main__":
    main()
