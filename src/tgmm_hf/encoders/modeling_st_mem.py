"""ST-MEM: a vision transformer over patches of a 12-lead ECG (Na et al., ICLR 2024), encoder part."""

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ..layers.feed_forward import Mlp
from ..layers.weights_fingerprint import BoundWeights
from .configuration_st_mem import StMemConfig


def eager_attention_forward(  # noqa: PLR0913 - the signature of transformers' attention interface
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention step by step, so that the weights can be returned.

    Query, key and value are (batch, heads, tokens, head size). `attention_mask` is added to the scores.

    Returns:
        (batch, tokens, heads, head size), and the weights (batch, heads, tokens, tokens).
    """
    scores = torch.matmul(query, key.transpose(-1, -2)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class StMemEmbeddings(nn.Module):
    """Patches of every lead -> tokens, lead after lead, each lead with its own separator token before and after it."""

    def __init__(self, config: StMemConfig):
        super().__init__()
        self.num_leads = config.num_leads
        self.patch_size = config.patch_size
        with_norms, eps = config.patch_norms, config.layer_norm_eps
        self.patch_norm = nn.LayerNorm(config.patch_size, eps=eps) if with_norms else nn.Identity()
        self.patch_projection = nn.Linear(config.patch_size, config.hidden_size)
        self.projection_norm = nn.LayerNorm(config.hidden_size, eps=eps) if with_norms else nn.Identity()
        # Slot 0 belongs to the left separator, the last one to the right separator; all leads share the positions.
        self.position_embeddings = nn.Parameter(torch.zeros(1, config.num_patches + 2, config.hidden_size))
        self.separator_embedding = nn.Parameter(torch.zeros(config.hidden_size))
        self.lead_embeddings = nn.Parameter(torch.zeros(config.num_leads, config.hidden_size))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, ecg_values: torch.Tensor) -> torch.Tensor:
        """Embed an ECG (batch, leads, samples) as tokens (batch, leads * (patches + 2), hidden)."""
        return self.join_leads(self.embed_patches(ecg_values))

    def embed_patches(self, ecg_values: torch.Tensor) -> torch.Tensor:
        """Embed an ECG (batch, leads, samples) as patches with positions (batch, leads, patches, hidden).

        Raises:
            ValueError: if the number of leads is not the model's, or if the length is no multiple of a patch or longer
                than the model's positions.
        """
        batch_size, num_leads, num_samples = ecg_values.shape
        if num_leads != self.num_leads:
            raise ValueError(
                f"This ST-MEM model takes {self.num_leads} leads, got {num_leads}. Mark absent leads in ecg_mask."
            )
        num_patches = num_samples // self.patch_size
        if num_samples % self.patch_size or num_patches > self.position_embeddings.shape[1] - 2:
            raise ValueError(
                f"ECG length must be a multiple of {self.patch_size} samples, at most "
                f"{(self.position_embeddings.shape[1] - 2) * self.patch_size}; got {num_samples}."
            )
        # (batch, leads, samples) -> (batch, leads, patches, hidden)
        patches = ecg_values.reshape(batch_size, num_leads, num_patches, self.patch_size)
        patches = self.projection_norm(self.patch_projection(self.patch_norm(patches)))
        return patches + self.position_embeddings[:, 1 : num_patches + 1]

    def join_leads(self, patches: torch.Tensor) -> torch.Tensor:
        """Put separators around the patches of every lead, add lead embeddings, and join lead after lead.

        Args:
            patches: (batch, leads, patches, hidden) with their positions. They may be all or some patches of a lead.

        Returns:
            (batch, leads * (patches + 2), hidden).
        """
        batch_size, num_leads, _, _ = patches.shape
        left = (self.separator_embedding + self.position_embeddings[:, :1]).expand(batch_size, num_leads, 1, -1)
        right = (self.separator_embedding + self.position_embeddings[:, -1:]).expand(batch_size, num_leads, 1, -1)
        tokens = torch.cat([left, patches, right], dim=2) + self.lead_embeddings[:, None]
        # (batch, leads, patches + 2, hidden) -> (batch, leads * (patches + 2), hidden)
        return self.dropout(tokens.flatten(1, 2))


class StMemAttention(nn.Module):
    """Multi-head self-attention with one projection for query, key and value."""

    def __init__(self, config: StMemConfig, hidden_size: int, num_heads: int):
        super().__init__()
        self.config = config
        self.head_dim = config.attention_head_size
        self.num_key_value_groups = 1
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        inner_size = num_heads * self.head_dim
        self.qkv = nn.Linear(hidden_size, 3 * inner_size)
        self.output = nn.Linear(inner_size, hidden_size)
        self.attention_dropout = config.attention_probs_dropout_prob
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend over tokens (batch, tokens, hidden).

        Returns:
            new tokens of the same shape, and the weights (batch, heads, tokens, tokens), or None with SDPA.
        """
        batch_size, num_tokens, _ = hidden_states.shape
        # (batch, tokens, 3 * heads * head size) -> 3 x (batch, heads, tokens, head size)
        qkv = self.qkv(hidden_states).view(batch_size, num_tokens, 3, -1, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        context, weights = attention(
            self,
            query,
            key,
            value,
            attention_mask,
            is_causal=False,
            scaling=self.scaling,
            dropout=self.attention_dropout if self.training else 0.0,
            **kwargs,
        )
        return self.dropout(self.output(context.reshape(batch_size, num_tokens, -1))), weights


class StMemLayer(GradientCheckpointingLayer):
    """Pre-norm transformer block. The encoder and the decoder of the pre-training give it different widths."""

    def __init__(self, config: StMemConfig, hidden_size: int, num_heads: int, intermediate_size: int):
        super().__init__()
        self.layernorm_before = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.attention = StMemAttention(config, hidden_size, num_heads)
        self.layernorm_after = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.mlp = Mlp(hidden_size, intermediate_size, config.hidden_act, config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Add attention and MLP to the tokens (batch, tokens, hidden)."""
        attended, _ = self.attention(self.layernorm_before(hidden_states), attention_mask, **kwargs)
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.layernorm_after(hidden_states))


class StMemPreTrainedModel(BoundWeights, PreTrainedModel):
    """Base of the ST-MEM models: initial weights, and what transformers may do with them."""

    config: StMemConfig
    base_model_prefix = "st_mem"
    main_input_name = "ecg_values"
    input_modalities = ("time",)  # type: ignore[assignment] # declared a list; transformers' own models have tuples
    supports_gradient_checkpointing = True
    _no_split_modules = ["StMemLayer"]  # noqa: RUF012 - read by transformers
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": StMemLayer, "attentions": StMemAttention}  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"^decoder\."]  # noqa: RUF012 - the encoder of a masked autoencoder

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the starting weights of a module. transformers calls this for every module."""
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, StMemEmbeddings):
            init.copy_(module.position_embeddings, sincos_positions(*module.position_embeddings.shape[1:]))
            init.normal_(module.separator_embedding, std=self.config.initializer_range)
            init.normal_(module.lead_embeddings, std=self.config.initializer_range)
        else:
            super()._init_weights(module)


def sincos_positions(num_slots: int, hidden_size: int) -> torch.Tensor:
    """Compute ST-MEM's initial position embeddings of one lead.

    Args:
        num_slots: number of patches plus two separators.
        hidden_size: width.

    Returns:
        (1, `num_slots`, `hidden_size`): sines in the first half of the width, cosines in the second. The first and the
        last slot, the separators, are zeros.
    """
    frequencies = 10000.0 ** (-torch.arange(hidden_size // 2, dtype=torch.float32) / (hidden_size / 2))
    angles = torch.arange(num_slots - 2, dtype=torch.float32)[:, None] * frequencies
    positions = torch.cat([angles.sin(), angles.cos()], dim=1)
    return nn.functional.pad(positions, (0, hidden_size - positions.shape[1], 1, 1))[None]


class StMemModel(StMemPreTrainedModel):
    """ECG encoder of the paper.

    `last_hidden_state` holds the patch tokens without the separators, lead after lead, each layer-normed.
    `pooler_output` (batch, hidden) is the mean of the patch tokens of the usable leads, before their norm, and then
    layer-normed. ST-MEM gives this vector to its head.
    """

    hub_auto_class = "AutoModel"

    def __init__(self, config: StMemConfig):
        super().__init__(config)
        self.embeddings = StMemEmbeddings(config)
        sizes = (config.hidden_size, config.num_attention_heads, config.intermediate_size)
        self.layers = nn.ModuleList([StMemLayer(config, *sizes) for _ in range(config.num_hidden_layers)])
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the linear layer that embeds patches."""
        return self.embeddings.patch_projection

    def set_input_embeddings(self, value: nn.Linear) -> None:
        """Replace the linear layer that embeds patches by `value`, in place."""
        self.embeddings.patch_projection = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        ecg_values: torch.Tensor,
        ecg_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""Encode ECGs.

        ecg_values (`torch.FloatTensor` of shape `(batch_size, num_leads, num_samples)`):
            The output of `EcgFeatureExtractor`: 250 Hz, 0.67-40 Hz, standardised.
        ecg_mask (`torch.BoolTensor` of shape `(batch_size, num_leads)`, *optional*):
            True for usable leads. No token attends to the other leads, and the pooled mean does not count them. All
            leads are usable if omitted.
        """
        if ecg_mask is None:
            ecg_mask = torch.ones(ecg_values.shape[:2], dtype=torch.bool, device=ecg_values.device)
        hidden_states = self.run_lower_layers(ecg_values, ecg_mask, **kwargs)
        return self.run_upper_layers(hidden_states, ecg_mask, **kwargs)

    def run_lower_layers(
        self,
        ecg_values: torch.Tensor,
        ecg_mask: torch.Tensor,
        num_upper_layers: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Run the embeddings and all layers but the last `num_upper_layers`.

        Takes ECGs (batch, leads, samples) and a lead mask (batch, leads). Returns (batch, tokens, hidden).
        """
        # NaN or infinity under the mask would survive a multiplication by zero.
        hidden_states = self.embeddings(ecg_values.masked_fill(~ecg_mask.bool()[..., None], 0.0))
        attention_mask = self._attention_mask(hidden_states, ecg_mask)
        for layer in self.layers[: len(self.layers) - num_upper_layers]:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        return hidden_states

    def run_upper_layers(
        self,
        hidden_states: torch.Tensor,
        ecg_mask: torch.Tensor,
        num_upper_layers: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Run the last `num_upper_layers` layers and the pooling.

        Takes the result of `run_lower_layers` (batch, tokens, hidden) and the lead mask (batch, leads). Returns what
        `forward` returns.
        """
        attention_mask = self._attention_mask(hidden_states, ecg_mask)
        for layer in self.layers[len(self.layers) - num_upper_layers :]:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        # (batch, leads * (patches + 2), hidden) -> (batch, leads, patches, hidden), separators dropped
        patches = hidden_states.unflatten(1, (ecg_mask.shape[1], -1))[:, :, 1:-1]
        ecg_mask = ecg_mask.bool()
        lead_weights = (ecg_mask / ecg_mask.sum(1, keepdim=True).clamp(min=1)).to(patches.dtype)
        pooled = torch.einsum("blph,bl->bh", patches, lead_weights) / patches.shape[2]
        return BaseModelOutputWithPooling(
            last_hidden_state=self.layernorm(patches.flatten(1, 2)), pooler_output=self.layernorm(pooled)
        )

    def _attention_mask(self, hidden_states: torch.Tensor, ecg_mask: torch.Tensor) -> torch.Tensor | None:
        """Repeat a lead mask (batch, leads) for all tokens of a lead, in the form that the attention takes.

        `hidden_states` (batch, tokens, hidden) gives the number of tokens.
        """
        token_mask = ecg_mask.bool().repeat_interleave(hidden_states.shape[1] // ecg_mask.shape[1], dim=1)
        return create_bidirectional_mask(self.config, hidden_states, token_mask)


__all__ = ["StMemModel", "StMemPreTrainedModel"]
