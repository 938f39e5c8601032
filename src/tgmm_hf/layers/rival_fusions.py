"""Other ways to fuse, to compare MedFlexFusion with (paper, table 5): `config.fusion` names one.

Each is written from its paper's idea for three modalities of N tokens of which any may be missing; what was left out is
said. All give one slot of N fused tokens, where MedFlexFusion gives seven, to the same guidance and the same response:
a comparison of fusions should differ in nothing else. With `guidance="none", response="linear"` they have the plain
head of their papers.

Notation in shape comments: B patients, N fusion tokens, d width.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import nn

from ..configuration_tgmm import TgmmConfig
from ..utils.names import MODALITIES
from .attention import TgmmAttention, TgmmMlp
from .fusion import FusionOutput


class RivalFusion(nn.Module, ABC):
    """Hides what is absent, lets a subclass `fuse` the rest, and hides patients who have nothing."""

    def __init__(self, config: TgmmConfig):
        super().__init__()
        self.width, self.num_tokens = config.hidden_size, config.num_fusion_tokens

    def forward(
        self, tokens: Mapping[str, torch.Tensor], present: Mapping[str, torch.Tensor], text: torch.Tensor | None = None
    ) -> FusionOutput:
        """tokens: modality -> (B, N, d); present: modality -> (B,) bool; text: word embeddings of the task's question
        (S, text width), which Text-IF alone reads."""
        there = torch.stack([present[name] for name in MODALITIES], dim=1)  # (B, 3)
        stacked = torch.stack([tokens[name] for name in MODALITIES], dim=1)  # (B, 3, N, d)
        # What stands in an absent modality's place must not matter, not even as NaN.
        fused, alignment = self.fuse(stacked.masked_fill(~there[:, :, None, None], 0.0), there, text)
        some = there.any(1, keepdim=True)
        slots = fused.masked_fill(~some[:, :, None], 0.0)[:, None]
        return FusionOutput(slots, some, gates={}, lambdas={}, alignment=alignment)

    @abstractmethod
    def fuse(
        self, tokens: torch.Tensor, present: torch.Tensor, text: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens (B, 3, N, d), zero where not present (B, 3) -> (B, N, d), and an alignment loss (B,) if there is
        one."""


class ConcatFusion(RivalFusion):
    """Mean-concatenation (Steyaert et al. 2023, "Mean-Cat"): the modalities' vectors side by side, projected to d.

    Zeros stand for a missing modality. The mean over tokens comes last instead of first: the projection is linear, so
    for a linear head it is the same, and the decoder has N tokens to read.
    """

    def __init__(self, config: TgmmConfig):
        super().__init__(config)
        self.output = nn.Linear(len(MODALITIES) * self.width, self.width)

    def fuse(
        self, tokens: torch.Tensor, present: torch.Tensor, text: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.output(_side_by_side(tokens)), None


class MultiSurvFusion(RivalFusion):
    """MultiSurv (Vale-Silva & Rohr 2021): each modality's vector by its own layer, then the maximum over modalities.

    Missing modalities are left out of the maximum. One layer a modality and one after it (theirs: whole submodels and
    four layers); their survival head by interval is replaced by the response.
    """

    def __init__(self, config: TgmmConfig):
        super().__init__(config)
        self.modality = nn.ModuleList(nn.Linear(self.width, self.width) for _ in MODALITIES)
        self.output = nn.Linear(self.width, self.width)

    def fuse(
        self, tokens: torch.Tensor, present: torch.Tensor, text: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        vectors = torch.stack([layer(tokens[:, i]) for i, layer in enumerate(self.modality)], dim=1).relu()
        # After ReLU nothing is below zero: an absent modality's zero never wins.
        return self.output((vectors * present[:, :, None, None]).amax(1)), None


class DeepAvFusion(RivalFusion):
    """DeepAVFusion (Mo & Morgado 2024): learned fusion tokens attend to themselves and to all modalities' tokens.

    The attention pooling behind each encoder stands for their aggregation tokens. One fusion block behind the encoders
    instead of one beside every encoder layer (cached trunks know nothing of fusion), no pairwise products of
    aggregation tokens, no masked pre-training.
    """

    def __init__(self, config: TgmmConfig):
        super().__init__(config)
        self.tokens = nn.Parameter(torch.zeros(self.num_tokens, self.width))
        self.norm = nn.LayerNorm(self.width, eps=config.layer_norm_eps)
        self.attention = TgmmAttention(self.width, config.num_attention_heads)
        self.mlp_norm = nn.LayerNorm(self.width, eps=config.layer_norm_eps)
        self.mlp = TgmmMlp(self.width)

    def fuse(
        self, tokens: torch.Tensor, present: torch.Tensor, text: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        own = self.tokens.expand(len(tokens), -1, -1)
        memory = self.norm(torch.cat([own, tokens.flatten(1, 2)], dim=1))  # (B, 4 N, d)
        mask = torch.cat([present.new_ones(len(present), 1), present], dim=1).repeat_interleave(self.num_tokens, dim=1)
        found, _ = self.attention(memory[:, : self.num_tokens], memory, mask[:, None, None])
        fused = own + found
        return fused + self.mlp(self.mlp_norm(fused)), None


class CmtaFusion(RivalFusion):
    """CMTA (Zhou & Chen 2023): each modality is translated from the others and aligned with its translation.

    The alignment loss is theirs: the L1 distance of a translation to the modality itself, which gets no gradient from
    it (the mean over a patient's translations; theirs: their sum). A modality's vector is the mean of itself and its
    translation; alone, itself. From two modalities to any number: one is translated from all others together. Our
    encoders stand for their encoders; their decoders, transformers, are one MLP each.
    """

    def __init__(self, config: TgmmConfig):
        super().__init__(config)
        self.norm = nn.LayerNorm(self.width, eps=config.layer_norm_eps)
        self.translate = nn.ModuleList(TgmmAttention(self.width, config.num_attention_heads) for _ in MODALITIES)
        self.decode = nn.ModuleList(TgmmMlp(self.width) for _ in MODALITIES)
        self.output = nn.Linear(len(MODALITIES) * self.width, self.width)

    def fuse(
        self, tokens: torch.Tensor, present: torch.Tensor, text: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        normed = self.norm(tokens)
        own = torch.arange(len(MODALITIES), device=present.device)
        parts, distances, translated = [], [], []
        for i, (attention, mlp) in enumerate(zip(self.translate, self.decode, strict=True)):
            others = present & (own != i)
            mask = others.repeat_interleave(self.num_tokens, dim=1)[:, None, None]
            found, _ = attention(normed[:, i], normed.flatten(1, 2), mask)
            translation = found + mlp(found)
            both = present[:, i] & others.any(1)
            parts.append(torch.where(both[:, None, None], (tokens[:, i] + translation) / 2, tokens[:, i]))
            distances.append((translation - tokens[:, i].detach()).abs().mean((1, 2)) * both)
            translated.append(both)
        alignment = torch.stack(distances).sum(0) / torch.stack(translated).sum(0).clamp(min=1)
        return self.output(_side_by_side(torch.stack(parts, dim=1))), alignment


class TextIfFusion(RivalFusion):
    """Text-IF (Yi et al. 2024): the fused features are scaled and shifted as a text says, (1 + gamma) F + beta.

    All tokens of all modalities attend to each other, their mean over the modalities there are is modulated. The text
    is the task's question as the mean of its frozen word embeddings (theirs: CLIP on a description of what is wrong
    with the images); one level instead of a decoder's four, nothing of images.
    """

    def __init__(self, config: TgmmConfig):
        super().__init__(config)
        self.norm = nn.LayerNorm(self.width, eps=config.layer_norm_eps)
        self.attention = TgmmAttention(self.width, config.num_attention_heads)
        self.affine = nn.Sequential(
            nn.Linear(config.labs_config.hidden_size, self.width), nn.GELU(), nn.Linear(self.width, 2 * self.width)
        )

    def fuse(
        self, tokens: torch.Tensor, present: torch.Tensor, text: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        assert text is not None
        normed = self.norm(tokens.flatten(1, 2))
        mask = present.repeat_interleave(self.num_tokens, dim=1)[:, None, None]
        found = tokens + self.attention(normed, normed, mask)[0].unflatten(1, tokens.shape[1:3])
        weight = present.to(tokens.dtype) / present.sum(1, keepdim=True).clamp(min=1)
        fused = (found * weight[:, :, None, None]).sum(1)
        gamma, beta = self.affine(text.detach().mean(0).to(fused.dtype)).chunk(2)
        return (1 + gamma) * fused + beta, None


def _side_by_side(tokens: torch.Tensor) -> torch.Tensor:
    """(B, 3, N, d) -> (B, N, 3 d)."""
    return tokens.transpose(1, 2).flatten(2)


RIVAL_FUSIONS: dict[str, type[RivalFusion]] = {
    "concat": ConcatFusion,
    "multisurv": MultiSurvFusion,
    "deepavfusion": DeepAvFusion,
    "cmta": CmtaFusion,
    "textif": TextIfFusion,
}
