"""Rival fusions: the fusion methods that MedFlexFusion is compared with (paper, table 5). `config.fusion` names one.

Each is written from the idea of its paper, for three modalities of N tokens. Any modality of a patient may be missing.
Each docstring says what differs from the paper of the method. Every rival fusion gives one slot of N fused tokens.
MedFlexFusion gives seven. Guidance and response are the same for all fusions, because a comparison of fusions should
differ in nothing else. With `guidance="none", response="linear"` a rival fusion has the plain head of its paper.

To add one: write a subclass of `RivalFusion`, name it in `RIVAL_FUSIONS` and in `FUSIONS` of configuration_tgmm.py.

Notation in shapes: B patients, N fusion tokens of each modality, d width of a token.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import nn

from ..configuration_tgmm import TgmmConfig
from ..utils.names import MODALITIES
from .attention import TgmmAttention
from .feed_forward import Mlp
from .fusion import FusionOutput


class RivalFusion(nn.Module, ABC):
    """Base of the rival fusions. A subclass writes `fuse`.

    `forward` sets absent modalities to zero, calls `fuse`, and sets the result of a patient without any modality to
    zero.
    """

    def __init__(self, config: TgmmConfig):
        super().__init__()
        self.width, self.num_tokens = config.hidden_size, config.num_fusion_tokens

    def forward(
        self, tokens: Mapping[str, torch.Tensor], present: Mapping[str, torch.Tensor], text: torch.Tensor | None = None
    ) -> FusionOutput:
        """Fuse tokens into one slot.

        Args:
            tokens: modality -> (B, N, d). All three modalities need an entry.
            present: modality -> (B,) bool, True for a patient with the modality.
            text: word embeddings of the task's question (S words, text width). Only Text-IF reads them.

        Returns:
            `FusionOutput` with `slots` (B, 1, N, d), zero for a patient without any modality, `slot_mask` (B, 1) bool,
            True for a patient with any modality, and `alignment`, the loss (B,) of CMTA, None for every other fusion.
            `gates` and `lambdas` are empty.
        """
        is_present = torch.stack([present[name] for name in MODALITIES], dim=1)  # (B, 3)
        stacked = torch.stack([tokens[name] for name in MODALITIES], dim=1)  # (B, 3, N, d)
        # The values of an absent modality must not matter, not even if they are NaN.
        fused, alignment = self.fuse(stacked.masked_fill(~is_present[:, :, None, None], 0.0), is_present, text)
        slot_mask = is_present.any(1, keepdim=True)
        slots = fused.masked_fill(~slot_mask[:, :, None], 0.0)[:, None]
        return FusionOutput(slots, slot_mask, gates={}, lambdas={}, alignment=alignment)

    @abstractmethod
    def fuse(
        self, tokens: torch.Tensor, present: torch.Tensor, text: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Fuse the modalities of each patient.

        Args:
            tokens: (B, 3, N, d), zero for an absent modality.
            present: (B, 3) bool, True for a modality that the patient has, in the order of `MODALITIES`.
            text: word embeddings of the task's question (S words, text width), or None.

        Returns:
            Two elements: the fused tokens (B, N, d); and a loss of each patient (B,) that is added to the task's loss,
            or None for a fusion without a loss of its own.
        """


class ConcatFusion(RivalFusion):
    """Mean-concatenation (Steyaert et al. 2023, "Mean-Cat"): the modalities' vectors side by side, projected to d.

    Zeros stand for a missing modality. Their paper takes the mean over tokens before the projection. Here the linear
    head takes the mean after the projection. The result is the same, because the projection is linear. With a
    decoder no mean is taken, so that the decoder has N tokens to read.
    """

    def __init__(self, config: TgmmConfig):
        super().__init__(config)
        self.output = nn.Linear(len(MODALITIES) * self.width, self.width)

    def fuse(
        self, tokens: torch.Tensor, present: torch.Tensor, text: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Fuse (B, 3, N, d) to (B, N, d) as the class describes. Return the fused tokens, and None for "no loss"."""
        return self.output(_side_by_side(tokens)), None


class MultiSurvFusion(RivalFusion):
    """MultiSurv (Vale-Silva & Rohr 2021): each modality's vector by its own layer, then the maximum over modalities.

    Missing modalities do not enter the maximum. Here each modality has one layer and one layer follows the maximum. In
    their paper each modality has a whole submodel and four layers follow. The response takes the place of their
    survival head, which predicts the hazard of each time interval.
    """

    def __init__(self, config: TgmmConfig):
        super().__init__(config)
        self.modality = nn.ModuleList(nn.Linear(self.width, self.width) for _ in MODALITIES)
        self.output = nn.Linear(self.width, self.width)

    def fuse(
        self, tokens: torch.Tensor, present: torch.Tensor, text: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Fuse (B, 3, N, d) to (B, N, d) as the class describes. Return the fused tokens, and None for "no loss"."""
        vectors = torch.stack([layer(tokens[:, i]) for i, layer in enumerate(self.modality)], dim=1).relu()
        # After ReLU nothing is below zero, so the zero of an absent modality never wins.
        return self.output((vectors * present[:, :, None, None]).amax(1)), None


class DeepAvFusion(RivalFusion):
    """DeepAVFusion (Mo & Morgado 2024): learned fusion tokens attend to themselves and to all modalities' tokens.

    Four things differ from their paper. The attention pooling after each encoder takes the place of aggregation tokens.
    There is one fusion block after the encoders instead of one beside every encoder layer, because the frozen features
    in the cache are computed without fusion. There are no pairwise products of aggregation tokens. There is no masked
    pre-training.
    """

    def __init__(self, config: TgmmConfig):
        super().__init__(config)
        self.tokens = nn.Parameter(torch.zeros(self.num_tokens, self.width))
        self.norm = nn.LayerNorm(self.width, eps=config.layer_norm_eps)
        self.attention = TgmmAttention(self.width, config.num_attention_heads)
        self.mlp_norm = nn.LayerNorm(self.width, eps=config.layer_norm_eps)
        self.mlp = Mlp(self.width, 4 * self.width)

    def fuse(
        self, tokens: torch.Tensor, present: torch.Tensor, text: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Fuse (B, 3, N, d) to (B, N, d) as the class describes. Return the fused tokens, and None for "no loss"."""
        learned = self.tokens.expand(len(tokens), -1, -1)
        memory = self.norm(torch.cat([learned, tokens.flatten(1, 2)], dim=1))  # (B, 4 N, d)
        mask = torch.cat([present.new_ones(len(present), 1), present], dim=1).repeat_interleave(self.num_tokens, dim=1)
        read, _ = self.attention(memory[:, : self.num_tokens], memory, mask[:, None, None])
        fused = learned + read
        return fused + self.mlp(self.mlp_norm(fused)), None


class CmtaFusion(RivalFusion):
    """CMTA (Zhou & Chen 2023): each modality is translated from the other two, and the translation is aligned with it.

    The fused vector of a modality is the mean of the modality's tokens and their translation. If the patient has only
    this modality, it is the modality itself. The alignment loss is the mean L1 distance of the translations to the
    modalities, averaged over the translations of a patient. The modality gets no gradient from this loss.

    In their paper there are two modalities, and the distances are added up. Here there are three, and a modality is
    translated from the other modalities together. Our encoders take the place of their encoders. An MLP takes the place
    of each of their transformer decoders.
    """

    def __init__(self, config: TgmmConfig):
        super().__init__(config)
        self.norm = nn.LayerNorm(self.width, eps=config.layer_norm_eps)
        self.translate = nn.ModuleList(TgmmAttention(self.width, config.num_attention_heads) for _ in MODALITIES)
        self.decode = nn.ModuleList(Mlp(self.width, 4 * self.width) for _ in MODALITIES)
        self.output = nn.Linear(len(MODALITIES) * self.width, self.width)

    def fuse(
        self, tokens: torch.Tensor, present: torch.Tensor, text: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Fuse (B, 3, N, d) to (B, N, d) as the class describes. The second element is the alignment loss (B,)."""
        normed = self.norm(tokens)
        index = torch.arange(len(MODALITIES), device=present.device)
        parts, distances, translated = [], [], []
        for i, (attention, mlp) in enumerate(zip(self.translate, self.decode, strict=True)):
            sources = present & (index != i)
            mask = sources.repeat_interleave(self.num_tokens, dim=1)[:, None, None]
            read, _ = attention(normed[:, i], normed.flatten(1, 2), mask)
            translation = read + mlp(read)
            is_translated = present[:, i] & sources.any(1)
            parts.append(torch.where(is_translated[:, None, None], (tokens[:, i] + translation) / 2, tokens[:, i]))
            distances.append((translation - tokens[:, i].detach()).abs().mean((1, 2)) * is_translated)
            translated.append(is_translated)
        alignment = torch.stack(distances).sum(0) / torch.stack(translated).sum(0).clamp(min=1)
        return self.output(_side_by_side(torch.stack(parts, dim=1))), alignment


class TextIfFusion(RivalFusion):
    """Text-IF (Yi et al. 2024): a text scales and shifts the fused features F: (1 + gamma) F + beta.

    All tokens of all modalities attend to each other. F is the mean over the modalities that the patient has. gamma and
    beta are computed from the text, which is the mean of the frozen word embeddings of the task's question. In their
    paper the text is a description of what is wrong with the images, embedded by CLIP, and four levels of a decoder are
    scaled and shifted. Here there is one level and no part for images.
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
        """Fuse (B, 3, N, d) to (B, N, d) as the class describes. Return the fused tokens, and None for "no loss"."""
        assert text is not None
        normed = self.norm(tokens.flatten(1, 2))
        mask = present.repeat_interleave(self.num_tokens, dim=1)[:, None, None]
        attended = tokens + self.attention(normed, normed, mask)[0].unflatten(1, tokens.shape[1:3])
        weight = present.to(tokens.dtype) / present.sum(1, keepdim=True).clamp(min=1)
        fused = (attended * weight[:, :, None, None]).sum(1)
        gamma, beta = self.affine(text.detach().mean(0).to(fused.dtype)).chunk(2)
        return (1 + gamma) * fused + beta, None


def _side_by_side(tokens: torch.Tensor) -> torch.Tensor:
    """Put the tokens of the three modalities side by side: (B, 3, N, d) -> (B, N, 3 d)."""
    return tokens.transpose(1, 2).flatten(2)


RIVAL_FUSIONS: dict[str, type[RivalFusion]] = {
    "concat": ConcatFusion,
    "multisurv": MultiSurvFusion,
    "deepavfusion": DeepAvFusion,
    "cmta": CmtaFusion,
    "textif": TextIfFusion,
}
