"""Cost of answers beside encoding, and of what a patient does not have (rows 5 to 7).

    OMP_NUM_THREADS=1 python benchmarks/answers.py --views 1 --pairs 3

* Row 5: a full-size forward pass with labs, ECG and echo, against the three encoders alone.
* Row 6: a patient with three of eleven views against one with all, echo alone; labs alone against the labs encoder.
* Row 7: a task of eight candidates against one of two: whole forward passes. And the CPU time of all answers
  (a diagnosis, a prognosis and retrieval) for an encoded patient.
"""

from functools import partial
from typing import Any

import torch
from measuring import alternate, argument_parser, environment, figure, write

from tgmm_hf import TgmmConfig, TgmmModel
from tgmm_hf.configuration_tasks import DEFAULT_TASKS
from tgmm_hf.processing_tgmm import BERT_CASED_SIZE, bert_cased_tokenizer
from tgmm_hf.utils.names import MODALITIES

FEW_VIEWS = 3
"""Views of the patient of row 6."""
KINDS = ("sinus rhythm", "atrial fibrillation", "flutter", "block", "infarction", "hypertrophy", "pacing", "other")
"""Candidates of the task with eight answers."""


def make_model(size: str) -> TgmmModel:
    """Make a model with random weights and two tasks that differ in their number of candidates."""
    one = {**DEFAULT_TASKS["hf_diagnosis"]}
    tasks = {
        **DEFAULT_TASKS,
        "two": {**one, "candidates": list(KINDS[:2])},
        "eight": {**one, "candidates": list(KINDS)},
    }
    config = TgmmConfig(tasks=tasks)
    if size == "tiny":
        config = TgmmConfig.tiny(tasks=tasks, labs_config={"vocab_size": BERT_CASED_SIZE})
    config.tokenize_tasks(bert_cased_tokenizer())
    torch.manual_seed(0)
    return TgmmModel(config).eval()


def inputs_of(config: TgmmConfig, views: int) -> dict[str, torch.Tensor]:
    """Make random inputs of one patient with all modalities."""
    echo: Any = config.echo_config
    return {
        "input_ids": torch.randint(1000, 20_000, (1, 256)),
        "attention_mask": torch.ones(1, 256, dtype=torch.long),
        "ecg_values": torch.randn(1, 12, 2250),
        "ecg_mask": torch.ones(1, 12, dtype=torch.bool),
        "pixel_values_videos": torch.randn(1, config.num_views, echo.num_frames, 3, echo.image_size, echo.image_size),
        "view_mask": torch.arange(config.num_views)[None] < views,
    }


def missing_parts(model: TgmmModel, pairs: int) -> list[dict[str, Any]]:
    """Measure whether what a patient lacks costs nothing: the rows 6 of the table."""
    views = model.config.num_views
    batch = inputs_of(model.config, views)
    labs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    clips = batch["pixel_values_videos"]
    few = torch.arange(views)[None] < FEW_VIEWS

    def echo(mask: torch.Tensor) -> None:
        model(pixel_values_videos=clips, view_mask=mask, task="two")

    of_echo = alternate({"few": lambda: echo(few), "all": lambda: echo(batch["view_mask"])}, pairs)
    of_labs = alternate(
        {"model": lambda: model(**labs, task="two"), "encoder": lambda: model.labs_encoder(**labs)}, pairs * 3
    )
    return [
        figure("6", f"echo: {FEW_VIEWS} of {views} views / all", _ratio(of_echo, "few", "all"), 0.26, at_most=True),
        figure("6, labs", "labs alone / the labs encoder", _ratio(of_labs, "model", "encoder"), 1.08, at_most=True),
    ]


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("--size", choices=["tiny", "paper"], default="paper", help="size of the model (default paper)")
    parser.add_argument("--views", type=int, default=1, help="views of the patient (default 1)")
    parser.add_argument("--pairs", type=int, default=3, help="measured calls of each side (default 3)")
    arguments = parser.parse_args()
    model = make_model(arguments.size)
    batch = inputs_of(model.config, arguments.views)
    clips = batch["pixel_values_videos"][batch["view_mask"]]

    def encoders() -> None:
        model.labs_encoder(batch["input_ids"], attention_mask=batch["attention_mask"])
        model.ecg_encoder(batch["ecg_values"])
        model.echo_encoder(clips)

    with torch.inference_mode():
        whole = alternate({"encoders": encoders, "whole": lambda: model(**batch, task="two")}, arguments.pairs)
        missing = missing_parts(model, min(arguments.pairs, 2))
        encoded = model.encode(**batch)
        names = ["hf_diagnosis", "hf_risk", *model.config.task_names("retrieval")]
        single = alternate(
            {name: partial(model.answer, encoded, name) for name in ("two", "eight")}
            | {"all": lambda: model.answer_subsets(encoded, names, [MODALITIES])},
            arguments.pairs * 3,
        )
    two, eight = (
        whole["whole"]["cpu_ms"] - single["two"]["cpu_ms"] + single[name]["cpu_ms"] for name in ("two", "eight")
    )
    what = "forward pass with labs, ECG and echo"
    rows = [
        figure("5", f"{what} / the three encoders alone", _ratio(whole, "whole", "encoders"), 1.03, at_most=True),
        *missing,
        figure("7", f"{what}: 8 candidates / 2", eight / two, 1.01, at_most=True),
        figure(
            "7, all", "CPU ms of the answers to all tasks, retrieval too, encoded before", single["all"]["cpu_ms"], 0
        ),
    ]
    write({"rows": rows, "whole": whole, "answers": single, "pairs": arguments.pairs, "machine": environment()})


def _ratio(times: dict[str, dict[str, float]], above: str, below: str) -> float:
    return times[above]["cpu_ms"] / times[below]["cpu_ms"]


if __name__ == "__main__":
    main()
