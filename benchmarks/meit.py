"""A training step and a generated token of MEIT: keys and values of the prefix against placeholder tokens (row 14).

    OMP_NUM_THREADS=1 python benchmarks/meit.py --pairs 7

Both models have the same sizes and random weights; only the way differs in which the ECG enters the language model.
The number of runs of the ECG encoder for one answer is counted too: it must be one, whatever the number of tokens.
"""

from functools import partial
from typing import Any

import torch
from measuring import alternate, argument_parser, environment, figure, row, write

from tgmm_hf.families.meit.configuration_meit import MeitConfig
from tgmm_hf.families.meit.modeling_meit import MeitForConditionalGeneration

VOCABULARY, ECG_TOKEN = 8000, 7999


def make_model(fusion: str, vectors: int, small: bool) -> MeitForConditionalGeneration:
    """Make a model with a Llama of 12 layers (two if small) and random weights."""
    text = {"model_type": "llama", "vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}
    text |= {"hidden_size": 64 if small else 576, "intermediate_size": 128 if small else 1536}
    text |= {"num_hidden_layers": 2 if small else 12, "num_attention_heads": 2 if small else 9}
    text |= {"num_key_value_heads": 1 if small else 3}
    torch.manual_seed(0)
    return MeitForConditionalGeneration(
        MeitConfig(text_config=text, fusion=fusion, num_ecg_vectors=vectors, ecg_token_id=ECG_TOKEN)
    )


def text_of(fusion: str, rows: int, length: int, vectors: int) -> torch.Tensor:
    """Make random token ids (rows, length), behind the placeholder tokens if the fusion needs them."""
    ids = torch.randint(5, ECG_TOKEN, (rows, length), generator=torch.Generator().manual_seed(0))
    return ids if fusion == "prefix" else torch.cat([torch.full((rows, vectors), ECG_TOKEN), ids], dim=1)


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("--vectors", type=int, default=8, help="vectors of an ECG (default 8)")
    parser.add_argument("--batch-size", type=int, default=4, help="reports of a training step (default 4)")
    parser.add_argument("--length", type=int, default=96, help="tokens of a report (default 96)")
    parser.add_argument("--new-tokens", type=int, default=32, help="tokens that are generated (default 32)")
    parser.add_argument("--pairs", type=int, default=7, help="measured calls of each side (default 7)")
    parser.add_argument("--small", action="store_true", help="a tiny language model, to try the script")
    arguments = parser.parse_args()
    models = {name: make_model(name, arguments.vectors, arguments.small) for name in ("tokens", "prefix")}
    values = torch.rand(arguments.batch_size, 12, 5000)

    def step(fusion: str) -> None:
        model = models[fusion].train()
        ids = text_of(fusion, arguments.batch_size, arguments.length, arguments.vectors)
        model(ids, input_values=values, labels=ids.masked_fill(ids == ECG_TOKEN, -100)).loss.backward()
        model.zero_grad(set_to_none=True)

    def generate(fusion: str) -> Any:
        ids = text_of(fusion, 1, 16, arguments.vectors)
        return (
            models[fusion]
            .eval()
            .generate(ids, input_values=values[:1], do_sample=False, max_new_tokens=arguments.new_tokens)
        )

    training = alternate({name: partial(step, name) for name in models}, arguments.pairs)
    # An answer takes a quarter of the time of a step, and the two sides differ by less than its scatter.
    generation = alternate({name: partial(generate, name) for name in models}, 3 * arguments.pairs)
    each = {
        name: {key: value / arguments.new_tokens for key, value in times.items()} for name, times in generation.items()
    }
    runs: list[Any] = []
    hook = models["prefix"].ecg_encoder.register_forward_hook(lambda *_: runs.append(None))
    generate("prefix")
    hook.remove()
    what = f"MEIT, {arguments.vectors} ECG vectors, placeholder tokens / prefix"
    rows = [
        row("14", f"{what}: training step", training["tokens"], training["prefix"], 1.0),
        row("14", f"{what}: generated token", each["tokens"], each["prefix"], 1.0),
        figure("14, encoder", "runs of the ECG encoder for one answer of MEIT", len(runs), 1, at_most=True),
    ]
    write({"rows": rows, "pairs": arguments.pairs, "torch": torch.__version__, "machine": environment()})


if __name__ == "__main__":
    main()
