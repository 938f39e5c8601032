"""The layout of MEIT's `ecg_model.pth`: a ResNet and its projector."""

import re
from collections.abc import Mapping

import torch

from tgmm_hf.encoders.configuration_ecg_resnet import EcgResNetConfig
from tgmm_hf.encoders.modeling_ecg_resnet import EcgResNetModelWithProjection
from tgmm_hf.hub.convert.encoders import Converted
from tgmm_hf.hub.convert.renaming import build, rename, require

TRAINING_PREFIX = "ecg_model."
"""The published training code saves the encoder with this prefix, and its loader takes it off."""
WITH_NORM = (
    (r"^proj_ecg\.0\.", "projector.linear1."),
    (r"^proj_ecg\.1\.", "projector.norm1."),
    (r"^proj_ecg\.3\.", "projector.linear2."),
    (r"^proj_ecg\.4\.", "projector.norm2."),
)
WITHOUT_NORM = ((r"^proj_ecg\.0\.", "projector.linear1."), (r"^proj_ecg\.2\.", "projector.linear2."))
"""The projector for GPT-NeoX has no batch norms, so its second linear layer has another number."""


def meit_ecg_model(weights: Mapping[str, torch.Tensor]) -> Converted:
    """Convert MEIT's `ecg_model.pth` to [`EcgResNetModelWithProjection`]. Sizes are read from the shapes.

    Args:
        weights: Published name -> tensor, with or without the prefix `ecg_model.`.

    Raises:
        ConversionError: If the tensors are not those of MEIT's bottleneck ResNet and its projector.
    """
    plain = {name.removeprefix(TRAINING_PREFIX): tensor for name, tensor in weights.items()}
    require(
        plain,
        ["ecg_encoder.conv1.weight", "ecg_encoder.layer1.0.conv3.weight", "proj_ecg.0.weight"],
        "MEIT ecg_model.pth",
    )
    has_norm = "proj_ecg.1.weight" in plain
    last = "proj_ecg.3.weight" if has_norm else "proj_ecg.2.weight"
    require(plain, [last], "MEIT ecg_model.pth")
    first = plain["ecg_encoder.conv1.weight"]
    stages = sorted({int(match[1]) for name in plain if (match := re.match(r"ecg_encoder\.layer(\d+)\.", name))})
    firsts = [f"ecg_encoder.layer{stage}.0.conv1.weight" for stage in stages]
    require(plain, firsts, "MEIT ecg_model.pth")
    config = EcgResNetConfig(
        num_leads=first.shape[1],
        embedding_size=first.shape[0],
        stage_depths=[
            len({name.split(".")[2] for name in plain if name.startswith(f"ecg_encoder.layer{stage}.")})
            for stage in stages
        ],
        stage_widths=[len(plain[name]) for name in firsts],
        projection_dim=len(plain[last]),
        projector_norm=has_norm,
    )
    renamed = rename(plain, ((r"^ecg_encoder\.", "ecg_resnet."), *(WITH_NORM if has_norm else WITHOUT_NORM)))
    return Converted(build(lambda: EcgResNetModelWithProjection(config), renamed))
