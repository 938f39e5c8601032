"""What a plain reader of Beat's latents knows of the closed questions: is the ECG lost in the codes, or not read?

    python experiments/heartcare_probe.py ptbxl/bench.jsonl --beat ptbxl/beat --cache ptbxl/runs/ecgs

For each code of the closed questions, a logistic regression learns from the train split whether an ECG has the
statement. It sees the mean and the deviation of the quantised latents over the query tokens of all windows. Of four
options it chooses the one whose log-odds are highest above those of its frequency. The figures stand beside those of
the language model, which learns from the same ECGs. The test split is scored, or the validation split where there is no
test split. Nothing is chosen on it. The last lines see the latents before the codebooks.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tiny_training import write

from tgmm_hf import BeatModel
from tgmm_hf.data.bench_items import CATEGORIES, CLOSED
from tgmm_hf.data.heartcare_ecgs import WindowsForCache
from tgmm_hf.data.instructions import Instruction, asked_in, read_instructions, rows_in_words
from tgmm_hf.data.processed_ecgs import digest_of_ecgs, process_rows
from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate_share
from tgmm_hf.evaluation.reporter_tables import shown
from tgmm_hf.evaluation.unseen import patient_name
from tgmm_hf.inputs.feature_extraction_beat import BeatFeatureExtractor

FEWEST = 5
"""ECGs of the train split that have a statement, below which its log-odds are taken as those of its frequency."""
STRENGTH = 0.01
"""Inverse strength of the penalty, set before the first run."""


def main() -> None:
    """Learn the statements, answer the questions, and print the accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="bench file")
    parser.add_argument("--beat", required=True, help="trained Beat")
    parser.add_argument("--cache", type=Path, required=True, help="directory of processed ECGs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_in_words(read_instructions(arguments.bench))
    split = "test" if any(row.split == "test" for row in rows) else "validation"
    features, refused = latent_features(rows, arguments.beat, arguments.cache)
    usable = [number for number in range(len(rows)) if number not in refused]
    training = {rows[number].ecg: number for number in usable if rows[number].split == "train"}
    asked = [number for number in usable if rows[number].split == split and rows[number].kind == CLOSED]
    counts = bootstrap_counts([patient_name(rows[number]) for number in asked], None, 1000, 0)
    for name, values in features.items():
        right = answered(rows, values, list(training.values()), asked)
        for category in ("all", *CATEGORIES):
            chosen = [
                place for place, number in enumerate(asked) if category in ("all", asked_in(rows[number]).category)
            ]
            if chosen:
                entry = estimate_share(right[chosen], counts[:, chosen]).entry("accuracy")
                write(f"{name} | {category} | {len(chosen)} | {shown(entry, 'accuracy')}")


def latent_features(
    rows: Sequence[Instruction], source: str, cache: Path
) -> tuple[dict[str, dict[str, NDArray]], dict[int, str]]:
    """Compute mean and deviation of the latents of each ECG: name -> ECG -> (2 d,). Return refused rows too."""
    model = BeatModel.from_pretrained(source).eval()
    extractor = WindowsForCache(BeatFeatureExtractor(num_samples=model.config.seq_length))
    stored = process_rows(rows, extractor, cache=cache, data_hash=digest_of_ecgs(rows))
    features: dict[str, dict[str, NDArray]] = {"quantised latents": {}, "latents before the codebooks": {}}
    for number, row in enumerate(rows):
        if number in stored.refused or row.ecg in features["quantised latents"]:
            continue
        windows = np.asarray(stored.values[number], dtype=np.float32)
        with torch.no_grad():
            output = model(torch.from_numpy(windows[windows.any((1, 2))]), codes_only=True)
        for values, by_ecg in zip((output.quantized_latents, output.latents), features.values(), strict=True):
            tokens = values.flatten(0, 1)
            by_ecg[row.ecg] = torch.cat([tokens.mean(0), tokens.std(0)]).numpy()
    return features, stored.refused


def answered(
    rows: Sequence[Instruction], features: dict[str, NDArray], training: Sequence[int], asked: Sequence[int]
) -> NDArray:
    """Answer closed questions by logistic regression of each statement: (n,) bool, whether each is right."""
    seen = np.stack([features[rows[number].ecg] for number in training])
    questioned = np.stack([features[rows[number].ecg] for number in asked])
    codes = sorted({code for number in asked for code in asked_in(rows[number]).option_codes})
    evidence = {}
    for code in codes:
        truth = np.array([has(rows[number], code) for number in training])
        evidence[code] = np.zeros(len(asked))
        if FEWEST <= truth.sum() <= len(truth) - FEWEST:
            fitted = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000)).fit(seen, truth)
            evidence[code] = fitted.decision_function(questioned) - np.log(truth.mean() / (1 - truth.mean()))
    right = []
    for place, number in enumerate(asked):
        question = asked_in(rows[number])
        scores = [evidence[code][place] for code in question.option_codes]
        right.append(int(np.argmax(scores)) == question.right)
    return np.array(right, dtype=bool)


def has(row: Instruction, code: str) -> bool:
    """Tell whether a statement is present in the ECG of a row."""
    return any(statement.code == code and statement.polarity == "present" for statement in row.statements or ())


if __name__ == "__main__":
    main()
