"""bfloat16 and dynamic int8 against float32 on this CPU, all three measured in this run.

    python benchmarks/precision.py --size paper --views 2 --repeats 3
    python benchmarks/precision.py --size tiny --model MODEL --data DATA

Prints seconds per patient (CPU time of this process, best of the repeats), the ratio float32 / other, the size of the
weights, and the largest change of a probability of the first task. The model has random weights, so its answers are
near 1/2. Therefore the last figure shows that nothing is broken. With `--model` and `--data` (a trained model and
prepared data) the change of the AUC is measured too, for all diagnoses, subsets and patients (row 10).
"""

import copy
import io
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from measuring import argument_parser, best_seconds, figure, write
from sklearn.metrics import roc_auc_score

from tgmm_hf import TgmmConfig, TgmmModel
from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prediction import load_model
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.data.saved_models import NUMBER_FORMATS, load_processor
from tgmm_hf.evaluation.predictions import collect_predictions
from tgmm_hf.processing_tgmm import BERT_CASED_SIZE, bert_cased_tokenizer

AUC_GOAL = 0.003


def inputs(config: TgmmConfig, views: int) -> dict[str, torch.Tensor]:
    """Make random inputs of one patient with this number of views."""
    echo: Any = config.echo_config
    clips = torch.randn(1, config.num_views, echo.num_frames, 3, echo.image_size, echo.image_size)
    return {
        "input_ids": torch.randint(1000, 20_000, (1, 256)),
        "attention_mask": torch.ones(1, 256, dtype=torch.long),
        "ecg_values": torch.randn(1, 12, 2250),
        "ecg_mask": torch.ones(1, 12, dtype=torch.bool),
        "pixel_values_videos": clips,
        "view_mask": torch.arange(config.num_views)[None] < views,
    }


def measure(model: TgmmModel, batch: dict[str, torch.Tensor], repeats: int) -> tuple[float, torch.Tensor]:
    """Measure the CPU seconds of the fastest forward pass. Return them with the probabilities."""
    with torch.inference_mode():
        best = best_seconds({"model": lambda: model(**batch)}, repeats, clock=time.process_time)
        return best["model"], model(**batch).probabilities.float()


def megabytes(model: TgmmModel) -> float:
    """Return the size of the saved weights."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell() / 1e6


def answers(model: str, data: str, dtype: str) -> Any:
    """Answer all diagnoses for the patients of all splits in a number format: a table as in `Predictions`."""
    loaded, processor = load_model(model, dtype).eval(), load_processor(model)
    diagnoses = loaded.config.task_names("diagnosis")
    collator = TgmmCollator(processor, loaded.config, training=False)
    parts = [
        collect_predictions(loaded, rows, collator, tasks=diagnoses, progress=False).table
        for rows in load_prepared(data).values()
    ]
    return pd.concat(parts).dropna(subset=["label"])


def changes_of_auc(model: str, data: str) -> list[dict[str, Any]]:
    """Make a row of the largest change of an AUC for each number format.

    The patients of all splits are answered. A change needs no unseen patients, and a test split of 25 patients shows no
    change below one exchanged pair.
    """
    tables = {dtype: answers(model, data, dtype) for dtype in NUMBER_FORMATS}
    aucs = {
        dtype: {
            key: roc_auc_score(group["positive"].astype(bool), group["probability"])
            for key, group in table.groupby(["task", "subset"])
        }
        for dtype, table in tables.items()
    }
    rows = []
    for name in ("bfloat16", "int8"):
        changes = [abs(aucs[name][key] - auc) for key, auc in aucs["float32"].items()]
        moved = np.abs(tables[name]["probability"].to_numpy() - tables["float32"]["probability"].to_numpy()).max()
        what = f"largest change of an AUC in {name}, all subsets, {tables[name]['id'].nunique()} patients"
        rows.append(figure("10, AUC", f"{what}; of a probability {moved:.2g}", max(changes), AUC_GOAL, at_most=True))
    return rows


def main() -> None:
    """Measure the three precisions and print the result."""
    parser = argument_parser(__doc__)
    parser.add_argument("--size", choices=["tiny", "paper"], default="paper", help="size of the model (default paper)")
    parser.add_argument("--views", type=int, default=2, help="views of the patient (default 2)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="measured calls, of which the fastest counts (default 3)"
    )
    parser.add_argument("--model", help="directory of a trained model (default none)")
    parser.add_argument("--data", help="its prepared data")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    paper = arguments.size == "paper"
    config = TgmmConfig() if paper else TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE})
    config.tokenize_tasks(bert_cased_tokenizer())
    model = TgmmModel(config).eval()
    batch = inputs(config, arguments.views)
    result: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads(), **vars(arguments)}
    seconds, expected = measure(model, batch, arguments.repeats)
    result["float32"] = {"seconds": round(seconds, 3), "megabytes": round(megabytes(model), 1)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its successor, torchao, is a separate package
        int8 = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {torch.nn.Linear}, dtype=torch.qint8)
    for name, other in (("int8_dynamic", int8), ("bfloat16", model.to(torch.bfloat16))):
        taken, probabilities = measure(other, batch, arguments.repeats)
        result[name] = {
            "seconds": round(taken, 3),
            "ratio_to_float32": round(seconds / taken, 2),
            "megabytes": round(megabytes(other), 1),
            "largest_change_of_a_probability": round(float((probabilities - expected).abs().max()), 4),
        }
    rows = [
        {"row": "10", "what": f"float32 / {name}, {arguments.size} size", "ratio": result[name]["ratio_to_float32"]}
        for name in ("int8_dynamic", "bfloat16")
    ]
    rows += changes_of_auc(arguments.model, arguments.data) if arguments.model else []
    write({"rows": rows, **result}, indent=2)


if __name__ == "__main__":
    main()
