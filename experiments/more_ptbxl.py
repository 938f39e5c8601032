r"""MoRE's ECG encoder on PTB-XL: superclasses by words alone, and linear probes beside other encoders.

    tgmm curate-ptbxl PTBXL --task superclass --sampling-rate 100 --validation-fold 8 --test-fold 9 \
        --out more_ptbxl/cohort
    tgmm make-instructions PTBXL --text statements --out more_ptbxl/instructions.jsonl
    tgmm prepare more_ptbxl/cohort --out more_ptbxl/data --config configs/ptbxl_superclass.yaml --allow-outside
    python experiments/more_ptbxl.py PTBXL more_ptbxl --out docs/results/more --seeds 0 1 2

All systems see the same recordings, without the few that MoRE's processor refuses: folds 1 to 7 train, fold 8 chooses
the penalties of the probes, fold 9 is scored once. A note is the descriptions of the statements of a recording. No
X-ray takes part.

* MoRE by words alone: the score of a superclass is the largest cosine with the descriptions of its statements, as
  published. Controls: the ECGs exchanged among patients, and the same model before its training.
* Linear probes: one logistic regression for each superclass on the summary of a frozen encoder: MoRE's, that of TGMM's
  ST-MEM after masked pre-training on the same recordings, and both with random weights.
* Trained with labels: a small ResNet (`ecg_resnet`) with a linear layer.
* A logistic regression on 198 numbers of each ECG (`ptbxl_benchmark.py`).

The script writes ptbxl.md: macro AUROC of the five superclasses with 95 % intervals over patients, and the paired
difference of each system to the regression. Finished trainings are not run again.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import DatasetDict
from encoder_probes import PENALTIES
from meit_fusions import as_markdown, save
from numpy.typing import NDArray
from ptbxl_benchmark import REGRESSION, cells, features_and_labels, simple_scores
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tiny_training import Descent, Recipe, write
from torch import nn
from transformers import AutoModel

from tgmm_hf import TgmmConfig
from tgmm_hf.cohorts.ptbxl_tasks import TASKS, task_name
from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.instructions import read_instructions
from tgmm_hf.data.note_index import load_more
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.metrics import auc, bootstrap_counts, estimate
from tgmm_hf.evaluation.multilabel import macro_auc
from tgmm_hf.evaluation.report_controls import exchanged_ecgs
from tgmm_hf.evaluation.single_modality import encode_summaries
from tgmm_hf.families.more.modeling_more import MoreModel
from tgmm_hf.families.more.zero_shot_prompts import encode_prompts, label_similarity
from tgmm_hf.inputs.feature_extraction_more import MoreFeatureExtractor
from tgmm_hf.training.arguments import parse_arguments
from tgmm_hf.training.pretrain import pretrain
from tgmm_hf.training.pretraining_arguments import read_pretrain_arguments
from tgmm_hf.training.starting_model import build
from tgmm_hf.training.train_any import read_any_arguments, train_any
from tgmm_hf.training.train_more import SECONDS
from tgmm_hf.utils.errors import InputRefusedError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TASK, CLASSES = task_name("superclass"), ("CD", "HYP", "MI", "NORM", "STTC")
SAMPLES = 500
"""Length of MoRE's ECG, as in configs/more_synthetic.yaml."""
SUPERCLASSES = {
    "kind": "multilabel",
    "question": TASKS["superclass"].question,
    "learnable_phrase": "not used here",
    "findings": list(CLASSES),
}
EPOCHS, BATCH = 12, 32
"""Training of the ResNet, as in configs/ptbxl_superclass.yaml."""


def main() -> None:
    """Train what is missing, score all systems, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ptbxl", type=Path, help="directory of PTB-XL, or of its arrays")
    parser.add_argument("runs", type=Path, help="directory with cohort, instructions.jsonl and data; the runs go there")
    parser.add_argument("--out", type=Path, required=True, help="directory of the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the trainings")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replaces a setting of MoRE")
    arguments = parser.parse_args()
    table = write_notes(arguments.runs)
    rows, values = usable(table, load_prepared(str(arguments.runs / "data")))
    parts = {split: features_and_labels(rows[split], TASK, list(CLASSES)) for split in rows}
    present = {split: labels.astype(float) for split, (_, labels) in parts.items()}
    scores = {REGRESSION: [simple_scores(parts["train"], parts["test"][0])[REGRESSION]]}
    for seed in arguments.seeds:
        trained, random = more_models(table, seed, arguments)
        found = {
            **zero_shot(trained, random, values["test"], rows["test"], arguments.ptbxl),
            **more_probes({"MoRE": trained[0], "MoRE, random weights": random[0]}, values, present),
            **st_mem_probes(rows, present, seed, arguments.runs),
            "small ResNet, trained with labels": resnet(rows, present, seed),
        }
        for name, score in found.items():
            scores.setdefault(name, []).append(score)
        save(arguments.out / "ptbxl.md", as_table(scores, present["test"], rows["test"]))


def write_notes(runs: Path) -> Path:
    """Write the table of notes for MoRE: the rows of the cohort with their notes. Return its path."""
    cohort = pd.read_parquet(runs / "cohort" / "cohort.parquet")
    notes = {row.id: row.report for row in read_instructions(runs / "instructions.jsonl")}
    table = cohort[["id", "patient_id", "split"]].copy()
    table["ecg"] = "cohort/" + cohort["ecg_path"]
    table["xray"], table["report"] = "", cohort["id"].map(notes)
    table.to_csv(runs / "notes.csv", index=False)
    return runs / "notes.csv"


def more_models(table: Path, seed: int, arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Train MoRE on ECGs and notes. Return it with its processor, and a model of equal shape with random weights."""
    output = arguments.runs / f"more_{seed}"
    settings = [
        f"data.file={table}",
        f"data.cache={arguments.runs / 'inputs'}",
        f"output={output}",
        f"seed={seed}",
        *arguments.set,
    ]
    train_any(read_any_arguments(CONFIGS / "more_synthetic.yaml", settings))
    model, processor = load_more(str(output))
    torch.manual_seed(seed)
    return (model, processor), (MoreModel(model.config).eval(), processor)


def usable(table: Path, rows: DatasetDict) -> tuple[DatasetDict, dict[str, torch.Tensor]]:
    """Leave out the recordings that MoRE's feature extractor refuses.

    Returns:
        The rows that are left; and split -> what MoRE reads of them, (n, 12, samples).
    """
    paths = pd.read_csv(table, dtype=str).set_index("id")["ecg"]
    extractor = MoreFeatureExtractor(sampling_rate=SAMPLES // SECONDS, num_samples=SAMPLES)
    kept, values = {}, {}
    for split, part in rows.items():
        read = {}
        for place, row_id in enumerate(part.with_format(None)["id"]):
            try:
                read[place] = extractor.prepare(str(table.parent / paths[row_id])).values
            except InputRefusedError:
                continue
        write(f"{split}: {len(part) - len(read)} of {len(part)} recordings are refused")
        kept[split], values[split] = part.select(list(read)), torch.from_numpy(np.stack(list(read.values())))
    return DatasetDict(kept), values


@torch.no_grad()
def more_vectors(model: Any, values: torch.Tensor, part: str) -> NDArray:
    """Encode recordings (n, 12, samples): "ecg_embeds" gives vectors of the shared space, "encoder" the summaries."""
    if part == "encoder":
        found = [model.ecg_encoder(batch).pooler_output for batch in values.split(BATCH)]
    else:
        found = [model(input_values=batch).ecg_embeds for batch in values.split(BATCH)]
    return torch.cat(found).numpy()


def zero_shot(trained: Any, random: Any, values: torch.Tensor, test: Any, ptbxl: Path) -> dict[str, NDArray]:
    """Score the superclasses by words: system -> (n, 5)."""
    statements = pd.read_csv(ptbxl / "scp_statements.csv")
    label_of = TASKS["superclass"].labels(statements)
    described = dict(zip(statements.iloc[:, 0], statements["description"], strict=True))
    prompts = {name: [described[code] for code, label in label_of.items() if label == name] for name in CLASSES}
    result = {}
    for name, (model, processor) in (("trained", trained), ("random", random)):
        with torch.no_grad():
            encoded = encode_prompts(model, processor, prompts, model.device)
        vectors = torch.from_numpy(more_vectors(model, values, "ecg_embeds"))
        result[name] = label_similarity(vectors @ encoded.vectors.T, encoded.label_of, "max").numpy()
    patients = list(test.with_format(None)["patient_id"])
    partners = exchanged_ecgs(patients, np.random.default_rng(0))
    return {
        "MoRE by words alone": result["trained"],
        "MoRE by words alone, ECGs exchanged among patients": result["trained"][partners],
        "MoRE by words alone, random weights": result["random"],
    }


def more_probes(
    models: Mapping[str, Any], values: Mapping[str, torch.Tensor], present: Mapping[str, NDArray]
) -> dict[str, NDArray]:
    """Score linear probes of MoRE's ECG encoder: system -> (n, 5)."""
    return {
        f"linear probe of {name}": probe(
            {split: more_vectors(model, part, "encoder") for split, part in values.items()}, present
        )
        for name, model in models.items()
    }


def st_mem_probes(rows: DatasetDict, present: Mapping[str, NDArray], seed: int, runs: Path) -> dict[str, NDArray]:
    """Pre-train ST-MEM on the recordings of the train split, and score linear probes of it: system -> (n, 5)."""
    settings = [f"data.directory={runs / 'data'}", f"output={runs / f'st_mem_{seed}'}", f"seed={seed}"]
    pretrain(read_pretrain_arguments(CONFIGS / "pretrain_ptbxl.yaml", settings))
    encoders = {"ST-MEM": {"ecg": str(runs / f"st_mem_{seed}" / "ecg")}, "ST-MEM, random weights": {}}
    result = {}
    for name, chosen in encoders.items():
        torch.manual_seed(seed)
        model = {"encoders": chosen} if chosen else {"overrides": {"ecg_config": TWO_HEADS}}
        run = {"output": "unused", "data": {"directory": "unused"}, "tasks": {TASK: SUPERCLASSES}, "model": model}
        network, processor = build(parse_arguments(run), rows)
        collator = TgmmCollator(processor, network.config, training=False)
        summaries = {
            split: encode_summaries(network.eval(), rows[split], collator, split, progress=False)["ecg"].to_numpy()
            for split in rows
        }
        result[f"linear probe of {name}"] = probe(summaries, present)
    return result


def probe(summaries: Mapping[str, NDArray], present: Mapping[str, NDArray]) -> NDArray:
    """Fit one logistic regression for each superclass, its penalty chosen on the validation split: (n, 5)."""
    columns = []
    for column in range(len(CLASSES)):
        fitted = [
            make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=5000)).fit(
                summaries["train"], present["train"][:, column]
            )
            for penalty in PENALTIES
        ]
        known = present["validation"][:, column]
        guesses = [model.decision_function(summaries["validation"]) for model in fitted]
        best = fitted[int(np.argmax([auc(guess, known) for guess in guesses]))]
        columns.append(best.decision_function(summaries["test"]))
    return np.stack(columns, axis=1)


def resnet(rows: DatasetDict, present: Mapping[str, NDArray], seed: int) -> NDArray:
    """Train a small ResNet with a linear layer on the superclasses, and score the test split: (n, 5)."""
    torch.manual_seed(seed)
    run = {"output": "unused", "data": {"directory": "unused"}, "tasks": {TASK: SUPERCLASSES}}
    model, processor = build(parse_arguments({**run, "model": {"overrides": {"ecg_config": RESNET}}}), rows)
    config: Any = TgmmConfig.tiny(ecg_config=RESNET).ecg_config
    encoder, head = (
        AutoModel.from_config(config).train(),
        nn.Sequential(nn.Dropout(0.3), nn.Linear(config.hidden_size, 5)),
    )
    cut = TgmmCollator(processor, model.config, training=True)
    rng = np.random.default_rng(seed)
    descent = Descent([*encoder.parameters(), *head.parameters()], EPOCHS * (len(rows["train"]) // BATCH), Recipe())
    for _ in range(EPOCHS):
        order = rng.permutation(len(rows["train"]))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            batch = cut([rows["train"][int(place)] for place in chosen])
            logits = head(encoder(batch["ecg_values"]).pooler_output)
            wanted = torch.from_numpy(present["train"][chosen]).float()
            descent.step(nn.functional.binary_cross_entropy_with_logits(logits, wanted))
    encoder.eval(), head.eval()
    whole = TgmmCollator(processor, model.config, training=False)
    with torch.no_grad():
        parts = [
            head(encoder(batch["ecg_values"]).pooler_output)
            for start in range(0, len(rows["test"]), BATCH)
            for batch in [whole([rows["test"][k] for k in range(start, min(start + BATCH, len(rows["test"])))])]
        ]
    return torch.cat(parts).numpy()


RESNET = {"model_type": "ecg_resnet"}
TWO_HEADS = {"num_attention_heads": 2, "attention_head_size": 32}
"""ST-MEM as configs/pretrain_ptbxl.yaml makes it."""


def as_table(scores: Mapping[str, list[NDArray]], present: NDArray, test: Any) -> str:
    """Write the macro AUROC of every system, the mean over its seeds, and its difference to the regression."""
    patients = np.array(test.with_format(None)["patient_id"])
    counts = bootstrap_counts(patients, None, 1000, 0)
    baseline = scores[REGRESSION]
    rows = []
    for name, runs in scores.items():
        figure = estimate(partial(_mean_auc, runs, present), counts)
        gain = estimate(partial(_gain, runs, baseline, present), counts)
        value, interval = cells(figure)
        change = ["", ""] if name == REGRESSION else list(cells(gain, "+.3f"))
        rows.append([name, str(len(runs)), value, interval, *change])
    header = ["system", "seeds", "macro AUROC", "95 % interval", "minus the regression", "95 % interval"]
    return as_markdown(header, rows)


def _mean_auc(runs: Sequence[NDArray], present: NDArray, counts: NDArray) -> NDArray:
    """Average the macro AUROC over the seeds, in every resample."""
    return np.mean([macro_auc(score, present, counts) for score in runs], axis=0)


def _gain(runs: Sequence[NDArray], baseline: Sequence[NDArray], present: NDArray, counts: NDArray) -> NDArray:
    """Compute the difference of two systems in every resample."""
    return _mean_auc(runs, present, counts) - _mean_auc(baseline, present, counts)


if __name__ == "__main__":
    main()
