"""Low-rank adapters (LoRA): small weights, trained instead of the encoders' layers and merged after the training."""

import torch

from tgmm_hf.layers.pooling import TgmmStandardise
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.training.arguments import LoraArguments

TARGETS = {
    "labs": r"labs_encoder\..*\.(query|key|value)",
    "ecg": r"ecg_encoder\..*\.attention\.(qkv|output)",
    "echo": r"echo_encoder\..*\.attention\.(qkv|output)",
}
"""Modality -> regular expression of the modules that get an adapter, as in `docs/peft.md`."""


def add_adapters(model: TgmmModel, settings: LoraArguments) -> None:
    """Freeze the encoders and add adapters to their attention. The other parts of the model stay trainable.

    Args:
        model: The model to change in place.
        settings: Rank, scale and dropout of the adapters.

    Raises:
        ImportError: If peft is not installed.
        ValueError: If an encoder has no module that `TARGETS` names.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("model.lora needs peft: pip install peft.") from error
    outside_encoders = [parameter for name, parameter in model.named_parameters() if "_encoder." not in name]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="|".join(TARGETS.values()),
    )
    inject_adapter_in_model(config, model)
    for module in model.modules():
        if isinstance(module, TgmmStandardise):
            module.updates_under_adapters = True  # the whole model is saved, with its running statistics
    for parameter in outside_encoders:  # peft freezes all parameters but those of the adapters
        parameter.requires_grad_(True)
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for modality, target in TARGETS.items():
        if not any(name.startswith(f"{modality}_encoder.") for name in trainable):
            kind = getattr(model.config, f"{modality}_config").model_type
            raise ValueError(
                f"The {modality} encoder ({kind}) has no modules named {target}: train its last layers instead "
                "(model.trainable_layers), or all of it."
            )


def merge_adapters(model: torch.nn.Module) -> None:
    """Add the adapters of `model` to the weights that they belong to, and remove the adapters, in place.

    A model without adapters does not change.
    """
    for name, module in list(model.named_modules()):
        if hasattr(module, "lora_A") and hasattr(module, "merge"):
            module.merge()
            model.set_submodule(name, module.get_base_layer())
