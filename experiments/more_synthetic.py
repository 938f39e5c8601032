r"""MoRE on synthetic patients: zero-shot findings and retrieval for several seeds, and arms that the paper lacks.

    tgmm synth more/cohort --patients 6000 --no-echo --varied-ecg --evidence strong --xray
    tgmm curate-more --mimic-cxr more/cohort/cxr --mimic-ecg more/cohort/ecg --mimic-iv more/cohort --out more
    python experiments/more_synthetic.py more/notes.csv --prompts configs/more_prompts.json --runs more/runs \
        --out docs/results/more

Each arm is `configs/more_synthetic.yaml` with other settings. The first arm is trained with every seed, the other
arms with the first seed. The test split is scored as `tgmm evaluate` does it. Shuffled queries and the expectation of a
random order stand beside every figure. The arms of the text encoder start from one that was trained to fill in hidden
tokens of the notes of the train split (`RUNS/text_encoder`). The script writes synthetic.md and figures_ARM_SEED.md. A
finished training or evaluation is not run again.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from meit_fusions import as_markdown, save
from tiny_training import Descent, write
from transformers import AutoModelForMaskedLM

from tgmm_hf.data.note_tables import read_note_table
from tgmm_hf.evaluation.evaluate_more import MoreEvaluationSettings
from tgmm_hf.evaluation.more_outputs import evaluate_more
from tgmm_hf.evaluation.reporter_tables import shown
from tgmm_hf.families.more.configuration_more import TEXT_TRAINING
from tgmm_hf.training.train_any import read_any_arguments, train_any
from tgmm_hf.training.train_more import starting_more
from tgmm_hf.utils.files import read_json

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "more_synthetic.yaml"
TOWERS = ("xray_config", "ecg_config")


def drop_key(probability: float, schedule: str) -> list[str]:
    """Write the settings of DropKey for both towers."""
    values = {"drop_key": probability, "drop_key_schedule": schedule}
    return [f"model.overrides.{tower}.{name}={value}" for tower in TOWERS for name, value in values.items()]


ARMS: dict[str, list[str]] = {
    "configuration": [],
    "no DropKey": drop_key(0.0, "constant"),
    "DropKey 0.3": drop_key(0.3, "constant"),
    "DropKey 0.3 down to 0": drop_key(0.3, "linear"),
    "X-ray against ECG too": ["model.overrides.xray_ecg_loss=true"],
    "crops of 0.2": ["data.smallest_area=0.2"],
    **{
        f"pretrained text encoder, {kind}": ["model.text_config={}", f"model.overrides.text_training={kind}"]
        for kind in TEXT_TRAINING
    },
}
"""Arm -> settings that replace those of the configuration."""
HIDDEN_SHARE, TEXT_EPOCHS, TEXT_BATCH = 0.15, 10, 32
"""Training of the text encoder alone: share of hidden tokens, passes over the notes, notes of a step."""


def main() -> None:
    """Train and score all arms, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="table of `tgmm curate-more`")
    parser.add_argument("--prompts", type=Path, help="JSON file: finding -> prompts, as in `tgmm evaluate`")
    parser.add_argument("--runs", type=Path, required=True, help="directory of the models")
    parser.add_argument("--out", type=Path, required=True, help="directory of the tables")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replaces a setting")
    arguments = parser.parse_args()
    header: list[str] = []
    rows: list[list[str]] = []
    for arm in arguments.arms:
        for seed in arguments.seeds if arm == next(iter(ARMS)) else arguments.seeds[:1]:
            figures = figures_of(scored(arm, seed, arguments))
            header = ["arm", "seed", *figures]
            rows.append([arm, str(seed), *figures.values()])
            write("  ".join(rows[-1]))
            save(arguments.out / "synthetic.md", as_markdown(header, rows))


def scored(arm: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and score one model, unless it is done. Return its figures."""
    name = f"{arm.replace(' ', '_').replace(',', '')}_{seed}"
    model, scores = arguments.runs / name, arguments.runs / f"{name}_scores"
    settings = [
        f"data.file={arguments.data}",
        f"data.cache={arguments.runs / 'inputs'}",
        f"output={model}",
        f"seed={seed}",
    ]
    if "model.text_config={}" in ARMS[arm]:
        settings.append(f"model.text_encoder={text_encoder(arguments)}")
    train_any(read_any_arguments(CONFIG, [*settings, *ARMS[arm], *arguments.set]))
    if not (scores / "metrics.json").is_file():
        evaluate_more(
            str(model), arguments.data, scores, MoreEvaluationSettings(prompts=arguments.prompts, progress=False)
        )
    save(arguments.out / f"figures_{name}.md", (scores / "metrics.md").read_text())
    return dict(read_json(scores / "metrics.json"))


def text_encoder(arguments: argparse.Namespace) -> Path:
    """Train the text encoder of the configuration to fill in hidden tokens of the notes, unless it is there."""
    out: Path = arguments.runs / "text_encoder"
    if out.is_dir():
        return out
    settings: Any = read_any_arguments(CONFIG, [f"data.file={arguments.data}"])
    rows = [row for row in read_note_table(arguments.data) if row.split == "train" and row.text]
    model, processor = starting_more(settings, rows)
    tokens = processor.tokenize([processor.note(row.text) for row in rows])
    ids, is_token = (torch.from_numpy(tokens[name]) for name in ("input_ids", "attention_mask"))
    network = AutoModelForMaskedLM.from_config(model.config.text_config).train()
    descent = Descent(network.parameters(), TEXT_EPOCHS * (len(ids) // TEXT_BATCH))
    random = torch.Generator().manual_seed(0)
    for _ in range(TEXT_EPOCHS):
        for chosen in torch.randperm(len(ids), generator=random).split(TEXT_BATCH)[: len(ids) // TEXT_BATCH]:
            hidden = (torch.rand(ids[chosen].shape, generator=random) < HIDDEN_SHARE) & is_token[chosen].bool()
            shown = ids[chosen].masked_fill(hidden, processor.tokenizer.unk_token_id)
            wanted = ids[chosen].masked_fill(~hidden, -100)
            descent.step(network(input_ids=shown, attention_mask=is_token[chosen], labels=wanted).loss)
    network.eval().base_model.save_pretrained(out)
    processor.tokenizer.save_pretrained(out)
    return out


def figures_of(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Write the main figures of a model: title -> figure, that of shuffled queries or of chance behind it."""
    figures = {}
    for direction, entry in metrics["retrieval"].items():
        if "missing" not in entry:
            chance = f"chance {entry['chance']['recall_10']:.3f}"
            figures[f"R@10 {direction}"] = f"{shown(entry['systems']['model'], 'recall_10')}; {chance}"
    for finding, kinds in metrics["zero_shot"].items():
        for kind, entry in kinds.items():
            if "missing" not in entry:
                figures[f"AUROC {finding}, {kind}"] = shown(entry["systems"]["model"], "auc")
    return figures


if __name__ == "__main__":
    main()
