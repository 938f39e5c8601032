"""Random weights in the layouts of the published checkpoints: what the converters are tested on."""

import torch


def randomise(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Move every parameter: norms and biases that start at 1 and 0, and layer scales of 1e-6, would hide a swap."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("layer_scale"):
                parameter.normal_(std=0.2)
            else:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return module.eval()


def st_mem_encoder(
    width: int = 48,
    depth: int = 2,
    heads: int = 3,
    head_size: int = 64,
    leads: int = 12,
    mlp_ratio: int = 2,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Tensors of ST-MEM's encoder file (published: 768 wide, 12 blocks, 12 heads, MLP four times as wide)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / max(shape[-1], 1) ** 0.5

    weights = {"pos_embedding": normal(1, 32, width), "sep_embedding": normal(width)}
    weights |= {f"lead_embeddings.{lead}": normal(width) for lead in range(leads)}
    for index, shape in (("1", (75,)), ("2", (width, 75)), ("3", (width,))):
        weights[f"to_patch_embedding.{index}.weight"] = normal(*shape)
        weights[f"to_patch_embedding.{index}.bias"] = normal(shape[0])
    for layer in range(depth):
        weights |= st_mem_block(f"block{layer}", width, heads * head_size, mlp_ratio * width, normal)
    return weights | {"norm.weight": normal(width), "norm.bias": normal(width)}


def st_mem_block(prefix: str, width: int, inner: int, hidden: int, normal) -> dict[str, torch.Tensor]:
    shapes = {
        "attn.norm": (width,),
        "attn.fn.to_qkv": (3 * inner, width),
        "attn.fn.to_out.0": (width, inner),
        "ff.norm": (width,),
        "ff.fn.net.0": (hidden, width),
        "ff.fn.net.3": (width, hidden),
    }
    weights = {f"{prefix}.{name}.weight": normal(*shape) for name, shape in shapes.items()}
    return weights | {f"{prefix}.{name}.bias": normal(shape[0]) for name, shape in shapes.items()}


def st_mem_full(width: int = 48, depth: int = 2, heads: int = 3, decoder: int = 32) -> dict[str, torch.Tensor]:
    """Tensors of the full masked autoencoder, with upstream's duplicate of the patch embedding."""
    encoder = st_mem_encoder(width, depth, heads)
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / max(shape[-1], 1) ** 0.5

    weights = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    weights |= {name: tensor for name, tensor in encoder.items() if name.startswith("to_patch_embedding.")}
    weights |= {"mask_embedding": normal(1, 1, decoder), "decoder_pos_embed": normal(1, 32, decoder)}
    for index in range(2):
        weights |= st_mem_block(f"decoder_blocks.{index}", decoder, 2 * 64, 2 * decoder, normal)
    for name, shape in (
        ("to_decoder_embedding", (decoder, width)),
        ("decoder_norm", (decoder,)),
        ("decoder_head", (75, decoder)),
    ):
        weights |= {f"{name}.weight": normal(*shape), f"{name}.bias": normal(shape[0])}
    return weights
