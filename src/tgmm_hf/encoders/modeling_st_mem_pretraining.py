"""ST-MEM's masked autoencoder (Na et al., ICLR 2024): pre-training of the ECG encoder on unlabelled ECGs.

Most patches of every lead are hidden. The encoder sees the rest of all leads together. The decoder rebuilds each lead
alone. Use it to pre-train your own encoder if the licence of the published weights does not allow your use.

Notation in shape comments: B ECGs, L leads, P patches a lead, K patches a lead that are kept, S samples a patch.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_st_mem import StMemConfig
from .modeling_st_mem import StMemAttention, StMemLayer, StMemModel, StMemPreTrainedModel, sincos_positions


@dataclass
class StMemForPreTrainingOutput(ModelOutput):
    """Result of the autoencoder for a batch.

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`): squared error, mean over a patch, then over the hidden patches.
        logits (`torch.FloatTensor` of shape `(batch_size, num_leads, num_patches, patch_size)`): predicted patches, in
            the units of the target: standardised patch by patch with `norm_pix_loss`, otherwise those of `ecg_values`.
        mask (`torch.BoolTensor` of shape `(batch_size, num_leads, num_patches)`): True where a patch was hidden.
        hidden_states, attentions (*optional*): of the encoder, which sees the kept patches only. The decoder's are not
            returned.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class StMemDecoder(nn.Module):
    """Decoder of the autoencoder: tokens of the kept patches -> all patches. All leads share the weights."""

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
            hidden_states: tokens of the encoder, lead after lead, each lead with its two separators.
            order: (B, L, P) indices of the patches of a lead, the K kept patches first.
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
    """Masked autoencoder around [`StMemModel`]. After the pre-training only `model.st_mem`, the encoder, is used.

    The position embeddings are sines and cosines. They are frozen in the pre-training, as in the paper. A training for
    a task trains them.

    Args:
        config: `mask_ratio` is the share of patches that are hidden.

    Raises:
        ValueError: if `mask_ratio` hides no patch or all patches.
    """

    # Of the encoder only, because the decoder's layers are of the same class and have another width.
    _can_record_outputs = {  # noqa: RUF012 - read by transformers
        "hidden_states": OutputRecorder(StMemLayer, layer_name="st_mem"),
        "attentions": OutputRecorder(StMemAttention, index=1, layer_name="st_mem"),
    }

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
        """Set the training mode, and freeze the position embeddings, because `from_pretrained` unfreezes them."""
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
        """Map the names of Auto classes to the classes that they load from the saved directory."""
        return {"AutoModel": StMemModel, "AutoModelForPreTraining": type(self)}

    @merge_with_config_defaults
    @capture_outputs
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
            True for usable leads. The published pre-training has no attention mask, so the encoder sees the other leads
            as zeros. The loss does not count them. All leads are usable if omitted.
        noise (`torch.FloatTensor` of shape `(batch_size, num_leads, num_patches)`, *optional*):
            Decides which patches are hidden: in each lead the patches of lowest noise are kept. Uniform random when
            omitted.
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
        """Average the squared error over the patches where `mask` (B, L, P) is True.

        `ecg_values` is (B, L, samples), `predicted` is (B, L, P, S). With `norm_pix_loss` the true patches are
        standardised first.
        """
        target = self._patches(ecg_values)
        if self.config.norm_pix_loss:
            mean, std = patch_statistics(target)
            target = (target - mean) / std
        error = (predicted.float() - target.float()).square().mean(-1)
        return (error * mask).sum() / mask.sum()

    @torch.no_grad()
    def reconstruct(self, ecg_values: torch.Tensor, output: StMemForPreTrainingOutput) -> torch.Tensor:
        """Put the predictions in place of the hidden patches, to draw the ECG.

        With `norm_pix_loss` a prediction is standardised. It then gets the mean and the standard deviation of the true
        patch.

        Args:
            ecg_values: (B, L, samples).
            output: the result of `forward` for these ECGs.

        Returns:
            (B, L, samples).
        """
        if output.logits is None or output.mask is None:
            raise ValueError("The output has no logits or no mask. Give the output of the model for this ECG.")
        target, predicted = self._patches(ecg_values), output.logits
        if self.config.norm_pix_loss:
            mean, std = patch_statistics(target)
            predicted = predicted * std + mean
        return torch.where(output.mask[..., None], predicted, target).flatten(2)

    def _patches(self, ecg_values: torch.Tensor) -> torch.Tensor:
        """Cut ECGs into patches: (B, L, samples) -> (B, L, P, S)."""
        return ecg_values.unflatten(2, (self.config.num_patches, self.config.patch_size))


def patch_statistics(patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the mean and the standard deviation of each patch (..., S), each of shape (..., 1).

    The variance is unbiased, and 1e-6 is added.
    """
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + 1e-6).sqrt()


__all__ = ["StMemForPreTraining", "StMemForPreTrainingOutput"]
