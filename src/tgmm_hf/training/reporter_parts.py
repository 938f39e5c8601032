"""The trained parts of a model: adapters, and checks that a training trains the parts that its settings name."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from tgmm_hf.training.arguments import LoraArguments

ADAPTERS = "adapters"
"""Name of the adapters among the parts of a model."""


def add_adapters(model: Any, settings: LoraArguments, trained_parts: Sequence[str] | None = None) -> Any:
    """Wrap a model in adapters on all linear layers of its language model.

    Args:
        model: MEIT or Heartcare; its weights are frozen in place.
        settings: Rank, scale and dropout of the adapters.
        trained_parts: Names of the parts that are trained whole beside the adapters. None takes all parts of MEIT but
            the language model.

    Returns:
        The PEFT model.
    """
    from peft import LoraConfig, get_peft_model

    parts = ["ecg_encoder", "projector"] if trained_parts is None else list(trained_parts)
    if hasattr(model, "cross_attention"):
        # One by one, because PEFT copies a module, and the layers of the language model call the original list.
        parts += [f"cross_attention.blocks.{index}" for index in range(len(model.cross_attention.blocks))]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=linear_layers(model),
        modules_to_save=parts,
    )
    return get_peft_model(model, config)


def linear_layers(model: Any) -> list[str]:
    """List the linear layers of the language model without the output layer, by their names in the model.

    The names are listed because PEFT's "all-linear" would also adapt the ECG encoder.
    """
    output = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if name.startswith("language_model.") and isinstance(module, nn.Linear | Conv1D) and module is not output
    ]


def count_parts(model: Any) -> dict[str, dict[str, int]]:
    """Count the weights of each part of a model, with or without adapters.

    Returns:
        Part -> {"weights", "trained"}. The adapters are a part. The copies that PEFT keeps of the original weights of
        trained parts are not counted.
    """
    counts: dict[str, dict[str, int]] = {}
    for name, weight in model.named_parameters():
        if ".original_module." in name:
            continue
        entry = counts.setdefault(trained_part(name), {"weights": 0, "trained": 0})
        entry["weights"] += weight.numel()
        entry["trained"] += weight.numel() * weight.requires_grad
    return counts


def trained_part(name: str) -> str:
    """Name the part that a weight belongs to, by the name of the weight."""
    if ".lora_" in name:
        return ADAPTERS
    return name.removeprefix("base_model.model.").split(".")[0]


def check_counts(counts: dict[str, dict[str, int]], with_adapters: bool) -> None:
    """Check that a model trains what its settings say.

    Args:
        counts: The result of `count_parts`.
        with_adapters: Whether the settings ask for adapters.

    Raises:
        ValueError: If a part has another number of trained weights.
    """
    expected = {part: entry["weights"] for part, entry in counts.items()}
    if with_adapters:
        expected |= {"language_model": 0, ADAPTERS: counts.get(ADAPTERS, {"weights": 1})["weights"]}
    check_expected(counts, expected)


def check_expected(counts: dict[str, dict[str, int]], expected: dict[str, int]) -> None:
    """Check that each part of a model trains the number of weights that its settings ask for.

    Args:
        counts: The result of `count_parts`.
        expected: Part -> number of trained weights.

    Raises:
        ValueError: If a part has another number of trained weights.
    """
    for part, number in expected.items():
        trained = counts.get(part, {"trained": 0})["trained"]
        if trained != number:
            raise ValueError(
                f"{part} trains {trained:,} weights and its settings ask for {number:,}. Check model.lora and the kind "
                "of the language model."
            )


def sums_of_parts(model: Any) -> dict[str, float]:
    """Return part -> sum of the absolute trained weights, in double precision, to see whether a part has moved."""
    sums: dict[str, float] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            part = trained_part(name)
            sums[part] = sums.get(part, 0.0) + float(weight.detach().double().abs().sum())
    return sums


def check_moved(before: dict[str, float], after: dict[str, float]) -> None:
    """Raise a ValueError if a trained part of a model has the same weights before and after the training."""
    if still := [part for part, value in before.items() if after.get(part) == value]:
        raise ValueError(
            f"The training changed no weight of {', '.join(still)}, though it was to be trained: no model is saved. "
            "Check the learning rates."
        )


def without_adapters(model: Any) -> Any:
    """Add the adapters of a PEFT model to its weights and return the model itself. Other models do not change."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def describe_counts(counts: dict[str, dict[str, int]]) -> str:
    """Write the numbers of weights in words, for the log."""
    parts = [f"{part} {entry['trained']:,} of {entry['weights']:,}" for part, entry in counts.items()]
    trained = sum(entry["trained"] for entry in counts.values())
    return f"trained weights: {trained:,} ({'; '.join(parts)})"
