"""LoRA on the encoders in place of training their layers, and merged into them afterwards."""

import torch

from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.training.arguments import LoraArguments

TARGETS = {
    "labs": r"labs_encoder\..*\.(query|key|value)",
    "ecg": r"ecg_encoder\..*\.attention\.(qkv|output)",
    "echo": r"echo_encoder\..*\.attention\.(qkv|output)",
}
"""Modules that get an adapter, as in `docs/peft.md`."""


def add_adapters(model: TgmmModel, settings: LoraArguments) -> None:
    """Freeze the encoders and give their attention adapters; everything else of the model is trained as ever.

    Raises:
        ImportError: without the extra `peft`.
        ValueError: if an encoder has no module of the names in `TARGETS`.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("model.lora needs peft: pip install 'tgmm-hf[peft]'.") from error
    trained = [p for name, p in model.named_parameters() if "_encoder." not in name]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="|".join(TARGETS.values()),
    )
    inject_adapter_in_model(config, model)
    for parameter in trained:  # peft freezes all but its own
        parameter.requires_grad_(True)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    for modality, target in TARGETS.items():
        if not any(name.startswith(f"{modality}_encoder.") for name in names):
            kind = getattr(model.config, f"{modality}_config").model_type
            raise ValueError(
                f"The {modality} encoder ({kind}) has no modules named {target}: train its last layers instead "
                "(model.trainable_layers), or all of it."
            )


def merge_adapters(model: torch.nn.Module) -> None:
    """Add the adapters to the weights they belong to and take them out: an ordinary model again."""
    for name, module in list(model.named_modules()):
        if hasattr(module, "lora_A") and hasattr(module, "merge"):
            module.merge()
            model.set_submodule(name, module.get_base_layer())
