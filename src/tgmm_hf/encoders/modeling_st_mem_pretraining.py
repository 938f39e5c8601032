"""ST-MEM's masked autoencoder (Na et al., ICLR 2024): pre-training of the ECG encoder on unlabelled ECGs.

Most patches of every lead are hidden. The encoder sees the rest of all leads together. The decoder rebuilds each lead
alone. Pre-train your own encoder with it if the licence of the published weights does not allow your use.

Notation in shape comments: B ECGs, L leads, P patches a lead, K patches a lead that are kept, S samples a patch.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple

from .configuration_st_mem import StMemConfig
from .modeling_st_mem import StMemLayer, StMemModel, StMemPreTrainedModel, sincos_positions


@dataclass
class StMemForPreTrainingOutput(ModelOutput):
    """Result of the autoencoder for a batch.

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`): squared error, mean over a patch, then over the hidden patches.
        logits (`torch.FloatTensor` of shape `(batch_size, num_leads, num_patches, patch_size)`): predicted patches, in
            the units of the target: standardised patch by patch with `norm_pix_loss`, otherwise those of `ecg_values`.
        mask (`torch.BoolTensor` of shape `(batch_size, num_leads, num_patches)`): True where a patch was hidden.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    mask: torch.Tensor | None = None


class StMemDecoder(nn.Module):
    """Kept tokens of the encoder -> every patch of the ECG, lead by lead, with shared weights."""

    def __init__(self, config: StMemConfig):
        super().__init__()
        width = config.decoder_hidden_size
        self.num_leads = config.num_leads
        self.num_patches = config.num_patches
        self.embedding = nn.Linear(config.hidden_size, width)
        self.mask_embedding = nn.Parameter(torch.zeros(width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, config.num_patches + 2, width))
        sizes = (width, config.decoder_num_attention_heads, config.decoder_intermediate_size)
        self.layers = nn.ModuleList([StMemLayer(config, *sizes) for _ in range(config.decoder_num_hidden_layers)])
        self.layernorm = nn.LayerNorm(width, eps=config.decoder_norm_eps)
        self.head = nn.Linear(width, config.patch_size)

    def forward(
        self, hidden_states: torch.Tensor, order: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        """Predict all patches (B, L, P, S) from the kept tokens (B, L * (K + 2), hidden).

        Args:
            hidden_states: tokens of the encoder.
            order: (B, L, P) indices of the patches, kept patches first.
            kwargs: passed on to the layers.
        """
        # (B, L * (K + 2), hidden) -> (B, L, K + 2, width)
        tokens = self.embedding(hidden_states).unflatten(1, (self.num_leads, -1))
        left, kept, right = tokens[:, :, :1], tokens[:, :, 1:-1], tokens[:, :, -1:]
        batch_size, num_leads, num_kept, width = kept.shape
        hidden = self.mask_embedding.expand(batch_size, num_leads, self.num_patches - num_kept, -1)
        # From kept patches first, hidden patches last, to their places in the lead.
        places = order.argsort(dim=2)[..., None].expand(-1, -1, -1, width)
        patches = torch.cat([kept, hidden], dim=2).gather(2, places)
        tokens = torch.cat([left, patches, right], dim=2) + self.position_embeddings[:, None]
        tokens = tokens.flatten(0, 1)  # every lead alone, (B * L, P + 2, width)
        for layer in self.layers:
            tokens = layer(tokens, None, **kwargs)
        return self.head(self.layernorm(tokens)[:, 1:-1]).unflatten(0, (batch_size, num_leads))


class StMemForPreTraining(StMemPreTrainedModel):
    """Masked autoencoder around [`StMemModel`]. Later work keeps `model.st_mem`, the encoder.

    Positions are sines and cosines and stay frozen here, as in the paper. Training for a task trains them.
    """

    def __init__(self, config: StMemConfig):
        super().__init__(config)
        self.num_kept = int(config.num_patches * (1 - config.mask_ratio))
        if not 0 < self.num_kept < config.num_patches:
            raise ValueError(
                f"mask_ratio {config.mask_ratio} keeps {self.num_kept} of {config.num_patches} patches a lead: at "
                "least one has to be kept and one hidden."
            )
        self.st_mem = StMemModel(config)
        self.decoder = StMemDecoder(config)
        self.post_init()
        self.train()

    def train(self, mode: bool = True) -> "StMemForPreTraining":
        """Set the training mode, and freeze the positions, because `from_pretrained` leaves them trainable."""
        self.st_mem.embeddings.position_embeddings.requires_grad_(False)
        self.decoder.position_embeddings.requires_grad_(False)
        return super().train(mode)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the starting weights of a module. transformers calls this for every module."""
        if isinstance(module, StMemDecoder):
            init.copy_(module.position_embeddings, sincos_positions(*module.position_embeddings.shape[1:]))
            init.normal_(module.mask_embedding, std=self.config.initializer_range)
        else:
            super()._init_weights(module)

    def hub_classes(self) -> dict[str, type]:
        """Let `AutoModel` find the encoder in the saved directory, too."""
        return {"AutoModel": StMemModel, "AutoModelForPreTraining": type(self)}

    @can_return_tuple
    def forward(
        self,
        ecg_values: torch.Tensor,
        ecg_mask: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> StMemForPreTrainingOutput:
        r"""Hide patches, predict them, and compute the loss.

        ecg_values (`torch.FloatTensor` of shape `(batch_size, num_leads, seq_length)`):
            As `EcgFeatureExtractor` prepares them.
        ecg_mask (`torch.BoolTensor` of shape `(batch_size, num_leads)`, *optional*):
            Usable leads. ST-MEM has no mask, so the encoder sees the other leads as zeros. The loss leaves them out.
        noise (`torch.FloatTensor` of shape `(batch_size, num_leads, num_patches)`, *optional*):
            In each lead the patches of lowest noise are kept. Uniform random when omitted.
        """
        usable = torch.ones_like(ecg_values[..., 0], dtype=torch.bool) if ecg_mask is None else ecg_mask.bool()
        if not bool(usable.any()):
            raise ValueError("No usable lead in the batch. Leave patients without an ECG out of pre-training.")
        ecg_values = ecg_values.masked_fill(~usable[..., None], 0.0)
        patches = self.st_mem.embeddings.embed_patches(ecg_values)
        if patches.shape[2] != self.config.num_patches:
            raise ValueError(
                f"Pre-training takes ECGs of {self.config.seq_length} samples, got {ecg_values.shape[-1]}: crop them, "
                "or set seq_length."
            )
        if noise is None:
            noise = torch.rand(patches.shape[:3], device=patches.device)
        order = noise.argsort(dim=2)
        kept = patches.gather(2, order[:, :, : self.num_kept, None].expand(-1, -1, -1, patches.shape[-1]))
        hidden_states = self.st_mem.embeddings.join_leads(kept)
        for layer in self.st_mem.layers:
            hidden_states = layer(hidden_states, None, **kwargs)
        # Normed token by token here, separators too. The encoder alone pools first.
        predicted = self.decoder(self.st_mem.layernorm(hidden_states), order, **kwargs)
        mask = torch.ones_like(order, dtype=torch.bool).scatter(2, order[:, :, : self.num_kept], False)
        loss = self._loss(ecg_values, predicted, mask & usable[..., None])
        return StMemForPreTrainingOutput(loss=loss, logits=predicted, mask=mask)

    def _loss(self, ecg_values: torch.Tensor, predicted: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Average the squared error over the hidden patches of usable leads."""
        target = self._patches(ecg_values)
        if self.config.norm_pix_loss:
            mean, std = patch_statistics(target)
            target = (target - mean) / std
        error = (predicted.float() - target.float()).square().mean(-1)
        return (error * mask).sum() / mask.sum()

    @torch.no_grad()
    def reconstruct(self, ecg_values: torch.Tensor, output: StMemForPreTrainingOutput) -> torch.Tensor:
        """Put the predictions in place of the hidden patches, (B, L, samples), to draw the ECG.

        With `norm_pix_loss` a prediction has no level and no height, so it gets those of the true patch.
        """
        if output.logits is None or output.mask is None:
            raise ValueError("The output has no logits or no mask. Give the output of the model for this ECG.")
        target, predicted = self._patches(ecg_values), output.logits
        if self.config.norm_pix_loss:
            mean, std = patch_statistics(target)
            predicted = predicted * std + mean
        return torch.where(output.mask[..., None], predicted, target).flatten(2)

    def _patches(self, ecg_values: torch.Tensor) -> torch.Tensor:
        """Cut an ECG into patches: (B, L, samples) -> (B, L, P, S)."""
        return ecg_values.unflatten(2, (self.config.num_patches, self.config.patch_size))


def patch_statistics(patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute mean and standard deviation (unbiased, variance plus 1e-6) of each patch, (..., S) -> (..., 1)."""
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + 1e-6).sqrt()


__all__ = ["StMemForPreTraining", "StMemForPreTrainingOutput"]
