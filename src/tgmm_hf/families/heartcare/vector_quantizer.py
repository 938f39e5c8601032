"""Residual vector quantiser: a vector becomes one code of each level, and the codes become a vector again.

The first level takes the nearest code of the vector. Each further level takes the nearest code of what is left. The
quantised vector is the sum of the vectors of the codes.

Notation in shape comments: B ECGs, Q query tokens, L levels, K codes of a codebook, d width, N vectors.
"""

import torch
from torch import nn
from transformers.utils.generic import maybe_autocast

from ...layers.distributed import several_processes, sum_over_processes
from .configuration_beat import BeatConfig

SMALLEST_LENGTH = 1e-6
"""Vectors that are shorter count as this long where their direction is computed."""


class Codebook(nn.Module):
    """Codes, each with a vector. In training each vector follows the mean of the vectors that it stands for.

    The means are moving averages with Laplace smoothing (van den Oord et al. 2017, appendix A.1; Razavi et al. 2019).

    Args:
        config: sizes, decay, smoothing and threshold.
    """

    def __init__(self, config: BeatConfig):
        super().__init__()
        self.decay = config.codebook_decay
        self.eps = config.codebook_eps
        self.dead_code_threshold = config.dead_code_threshold
        size, width = config.codebook_size, config.hidden_size
        # float32 whatever the default dtype is, because moving averages stand still in half precision
        self.register_buffer("vectors", torch.empty(size, width, dtype=torch.float32).uniform_(-1 / size, 1 / size))
        self.register_buffer("counts", torch.zeros(size, dtype=torch.float32))
        self.register_buffer("sums", torch.zeros(size, width, dtype=torch.float32))
        self.vectors: torch.Tensor
        self.counts: torch.Tensor
        self.sums: torch.Tensor

    def nearest(self, vectors: torch.Tensor) -> torch.Tensor:
        """Find the nearest code of each vector (..., d). Of codes at the same distance the first is taken.

        Returns:
            (...), int64.
        """
        # The squared length of the vector itself is the same for all codes, so it is left out.
        codes = self.vectors.float()
        return (codes.square().sum(-1) - 2 * (vectors @ codes.T)).argmin(-1)

    @torch.no_grad()
    def update(self, vectors: torch.Tensor, codes: torch.Tensor) -> None:
        """Move the codes towards the means of their vectors, over all processes. Then replace the dead codes.

        Args:
            vectors: (N, d) float32.
            codes: (N,), the code of each vector.

        Raises:
            ValueError: if the codebook is in half precision, in which moving averages stand still.
        """
        if self.vectors.dtype != torch.float32:
            raise ValueError(
                f"The codebooks are in {self.vectors.dtype}, and their training needs torch.float32. Call "
                "`model.quantizer.float()`, or load the model with from_pretrained, which keeps them in float32."
            )
        hits = nn.functional.one_hot(codes, len(self.vectors)).to(vectors.dtype)
        self.counts.lerp_(sum_over_processes(hits.sum(0)), 1 - self.decay)
        self.sums.lerp_(sum_over_processes(hits.T @ vectors), 1 - self.decay)
        total = self.counts.sum()
        smoothed = (self.counts + self.eps) / (total + len(self.counts) * self.eps) * total
        means = self.sums / smoothed[:, None]
        # A code that was never used has no mean. It keeps the vector that it started with.
        self.vectors.copy_(torch.where(self.counts[:, None] > 0, means, self.vectors))
        if self.dead_code_threshold > 0:
            self._replace_dead_codes(vectors)

    def _replace_dead_codes(self, vectors: torch.Tensor) -> None:
        """Put random vectors (N, d) of the batch in the place of codes that are hardly used.

        A new code counts as used at the threshold. If no vector takes it in the next step, it is replaced again, so
        that the codes follow the latents through the first steps. PyTorch's generator draws. With several processes all
        take the vectors that the first one drew.
        """
        size = len(self.counts)
        order = torch.randperm(len(vectors), device=vectors.device).repeat(-(-size // len(vectors)))
        drawn = vectors[order[:size]]
        if several_processes():
            torch.distributed.broadcast(drawn, 0)
        least = self.dead_code_threshold * self.counts.mean()
        is_dead = self.counts < least
        self.vectors.copy_(torch.where(is_dead[:, None], drawn, self.vectors))
        self.sums.copy_(torch.where(is_dead[:, None], drawn * least, self.sums))
        self.counts.copy_(torch.where(is_dead, least, self.counts))


class ResidualVectorQuantizer(nn.Module):
    """Codebooks of all levels. They hold float32 and are computed in float32, whatever the dtype of the model.

    Args:
        config: sizes and settings of the codebooks, and how the gradient passes.
    """

    def __init__(self, config: BeatConfig):
        super().__init__()
        self.num_levels = config.num_levels
        self.rotates = config.quantizer_gradient == "rotation"
        self.codebooks = nn.ModuleList(
            Codebook(config) for _ in range(1 if config.shared_codebook else self.num_levels)
        )

    def codebook(self, level: int) -> Codebook:
        """Return the codebook of a level, counted from 0."""
        codebook = self.codebooks[0 if len(self.codebooks) == 1 else level]
        assert isinstance(codebook, Codebook)
        return codebook

    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantise latents (B, Q, d). In training mode the codebooks are moved afterwards, and never otherwise.

        Returns:
            the quantised vectors (B, Q, d) float32, exactly those of `decode`, with a gradient to the latents; and the
            codes (B, Q, L) int64.
        """
        codes, residuals = self._assign(latents.detach())
        quantized = self.decode(codes)
        if self.training:
            self._update(codes, residuals)
        pass_gradient = rotate_gradient if self.rotates else straight_through
        return pass_gradient(latents.float(), quantized), codes

    def encode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the codes (B, Q, L) int64 of latents (B, Q, d). The codebooks stay as they are in every mode."""
        return self._assign(latents.detach())[0]

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Sum the vectors of the codes (B, Q, L) over the levels: (B, Q, d) float32."""
        quantized = self.codebook(0).vectors[codes[..., 0]].float()
        for level in range(1, self.num_levels):
            quantized = quantized + self.codebook(level).vectors[codes[..., level]].float()
        return quantized

    @torch.no_grad()
    def _assign(self, latents: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Choose the codes (B, Q, L), and return what each level had to code, L times (B, Q, d)."""
        residual = latents.float()
        codes, residuals = [], []
        with maybe_autocast(latents.device.type, enabled=False):
            for level in range(self.num_levels):
                residuals.append(residual)
                codes.append(self.codebook(level).nearest(residual))
                residual = residual - self.codebook(level).vectors[codes[-1]].float()
        return torch.stack(codes, -1), residuals

    def _update(self, codes: torch.Tensor, residuals: list[torch.Tensor]) -> None:
        """Update each codebook once. A shared codebook gets the vectors of all levels together."""
        with maybe_autocast(codes.device.type, enabled=False):
            if len(self.codebooks) == 1:
                self.codebook(0).update(torch.stack(residuals, -2).flatten(0, -2), codes.flatten())
                return
            for level, residual in enumerate(residuals):
                self.codebook(level).update(residual.flatten(0, -2), codes[..., level].flatten())


def straight_through(latents: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
    """Return exactly `quantized`. The gradient passes to the latents unchanged (van den Oord et al. 2017).

    Args:
        latents: (..., d).
        quantized: (..., d) without gradient.
    """
    return quantized + (latents - latents.detach())


def rotate_gradient(latents: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
    """Return exactly `quantized`, with the gradient of the rotation and scaling that turns the latents into it.

    Rotation and scale count as constants (Fifty et al. 2024, "Restructuring vector quantization with the rotation
    trick", section 4). The gradient thus depends on where the latent lies relative to its code.

    Args:
        latents: (..., d).
        quantized: (..., d) without gradient.
    """
    with torch.no_grad():
        length = latents.norm(dim=-1, keepdim=True).clamp_min(SMALLEST_LENGTH)
        code_length = quantized.norm(dim=-1, keepdim=True).clamp_min(SMALLEST_LENGTH)
        direction, code_direction = latents / length, quantized / code_length
        middle = nn.functional.normalize(direction + code_direction, dim=-1, eps=SMALLEST_LENGTH)
        scale = code_length / length
    # The rotation is I - 2 m m^T + 2 c v^T, with the directions m (middle), v (latent) and c (code).
    mirrored = 2 * middle * (middle * latents).sum(-1, keepdim=True)
    turned = 2 * code_direction * (direction * latents).sum(-1, keepdim=True)
    rotated = scale * (latents - mirrored + turned)
    return quantized + (rotated - rotated.detach())


def code_usage(codes: torch.Tensor, codebook_size: int) -> torch.Tensor:
    """Compute the share of the codebook that occurs at least once in the codes, for each level.

    Args:
        codes: (..., L).
        codebook_size: K.

    Returns:
        (L,) float32 between 0 and 1, on the CPU.
    """
    used = [level.unique().numel() for level in codes.flatten(0, -2).unbind(-1)]
    return torch.tensor(used, dtype=torch.float32) / codebook_size


__all__ = ["Codebook", "ResidualVectorQuantizer", "code_usage", "rotate_gradient", "straight_through"]
