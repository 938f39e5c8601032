"""Masked modelling of echo clips with MViT-v2: pre-training of the echo encoder on unlabelled clips.

It follows MaskFeat (Wei et al., CVPR 2022): one learned vector takes the place of hidden patches, all layers run on the
full grid, and a linear layer on the last tokens predicts the hidden patches. Two choices are ours. A patch is hidden in
all frames (VideoMAE's tubes), because a beating wall could be copied from the frame before. The target is the mean
colour of a patch's quarters in each frame and not a histogram of gradients, because Doppler is colour.

The class token is added to every token before the linear layer. So the class token is trained too, which a later task
needs.

Notation in shape comments: B clips, T token frames, R x C patches of a token frame, V values of a patch.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_echo_mvit import EchoMvitConfig
from .modeling_echo_mvit import EchoMvitModel, EchoMvitPreTrainedModel, block_shapes, pooled_grid


@dataclass
class EchoMvitForPreTrainingOutput(ModelOutput):
    """Result of masked modelling for a batch.

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`): squared error, mean over a patch, then over the hidden patches.
        logits (`torch.FloatTensor` of shape `(batch_size, token_frames, rows, columns, values)`): predicted patches, as
            mean colours, see [`EchoMvitForPreTraining.targets`].
        mask (`torch.BoolTensor` of shape `(batch_size, rows, columns)`): True where a patch was hidden, in all frames.
        hidden_states, attentions (*optional*): of the encoder, as [`EchoMvitModel`] returns them.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class EchoMvitForPreTraining(EchoMvitPreTrainedModel):
    """Masked modelling around [`EchoMvitModel`]: predict the mean colours of hidden patches.

    After the pre-training only `model.echo_mvit`, the encoder, is used.

    Args:
        config: `mask_ratio` is the share of patches that are hidden.

    Raises:
        ValueError: if the patches do not tile the frame, or `mask_ratio` hides no patch or all patches.
    """

    def __init__(self, config: EchoMvitConfig):
        super().__init__(config)
        shapes = block_shapes(config)
        (_, self.rows, self.columns), last = shapes[0].grid, shapes[-1]
        self.last_grid = pooled_grid(last.grid, last.query_stride)
        frames, height, width = config.patch_stride
        if (self.rows * height, self.columns * width) != (config.image_size, config.image_size) or height % 2:
            raise ValueError(
                f"Masked modelling needs patches that tile the frame and have an even side: {self.rows} x "
                f"{self.columns} patches of stride {tuple(config.patch_stride)} do not tile {config.image_size} pixels."
            )
        if self.rows % self.last_grid[1] or self.columns % self.last_grid[2]:
            raise ValueError(f"The last grid {self.last_grid} does not divide {self.rows} x {self.columns} patches.")
        self.num_hidden = round(config.mask_ratio * self.rows * self.columns)
        if not 0 < self.num_hidden < self.rows * self.columns:
            raise ValueError(
                f"mask_ratio {config.mask_ratio} hides {self.num_hidden} of {self.rows * self.columns} patches: at "
                "least one has to be hidden and one kept."
            )
        self.patches_per_token = (self.rows // self.last_grid[1], self.columns // self.last_grid[2])
        values = frames * config.num_channels * 4
        self.echo_mvit = EchoMvitModel(config)
        self.mask_embedding = nn.Parameter(torch.zeros(config.stage_widths[0]))
        self.head = nn.Linear(config.hidden_size, self.patches_per_token[0] * self.patches_per_token[1] * values)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the starting weights of a module. transformers calls this for every module."""
        if isinstance(module, EchoMvitForPreTraining):
            init.trunc_normal_(module.mask_embedding, std=self.config.initializer_range)
        else:
            super()._init_weights(module)

    def hub_classes(self) -> dict[str, type]:
        """Map the names of Auto classes to the classes that they load from the saved directory."""
        return {"AutoModel": EchoMvitModel, "AutoModelForPreTraining": type(self)}

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        noise: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> EchoMvitForPreTrainingOutput:
        r"""Hide patches, predict their colours, and compute the loss.

        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            One clip a row, as `EchoImageProcessor` makes them.
        noise (`torch.FloatTensor` of shape `(batch_size, rows, columns)`, *optional*):
            The patches of highest noise are hidden, in all frames. Uniform random when omitted.
        """
        if noise is None:
            noise = torch.rand(len(pixel_values_videos), self.rows, self.columns, device=pixel_values_videos.device)
        hidden = noise.flatten(1).argsort(1)[:, -self.num_hidden :]
        mask = torch.zeros_like(noise.flatten(1), dtype=torch.bool).scatter(1, hidden, True)  # (B, R * C)
        tokens = self.echo_mvit.embeddings(pixel_values_videos)
        patches = tokens[:, 1:].unflatten(1, (-1, mask.shape[1]))  # (B, T, R * C, width)
        patches = torch.where(mask[:, None, :, None], self.mask_embedding.to(patches.dtype), patches)
        tokens = torch.cat([tokens[:, :1], patches.flatten(1, 2)], dim=1)
        for layer in self.echo_mvit.layers:
            tokens = layer(tokens, **kwargs)
        tokens = self.echo_mvit.layernorm(tokens)
        predicted = self._patches_of(self.head(tokens[:, 1:] + tokens[:, :1]))
        mask = mask.unflatten(1, (self.rows, self.columns))
        error = (predicted.float() - self.targets(pixel_values_videos).float()).square().mean(-1).mean(1)  # (B, R, C)
        return EchoMvitForPreTrainingOutput(loss=error[mask].mean(), logits=predicted, mask=mask)

    def targets(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """Compute the prediction targets: the mean colours of the four quarters of every patch, frame by frame.

        Args:
            pixel_values_videos: (B, frames, channels, height, width).

        Returns:
            (B, T, R, C, V), with V = frames of a token x channels x 4.
        """
        side = self.config.patch_stride[1] // 2
        # (B, F, channels, H, W) -> (B, F, channels, 2 R, 2 C)
        cells = nn.functional.avg_pool2d(pixel_values_videos.flatten(0, 1), side).unflatten(
            0, pixel_values_videos.shape[:2]
        )
        cells = cells.unflatten(1, (self.last_grid[0], -1)).unflatten(-1, (self.columns, 2))
        cells = cells.unflatten(-3, (self.rows, 2))  # (B, T, frames, channels, R, 2, C, 2)
        return cells.permute(0, 1, 4, 6, 2, 3, 5, 7).flatten(4)

    def _patches_of(self, tokens: torch.Tensor) -> torch.Tensor:
        """Sort the predictions by patch: (B, tokens, patches of a token * V) -> (B, T, R, C, V).

        A token of the last grid covers several patches.
        """
        rows, columns = self.patches_per_token
        blocks = tokens.unflatten(1, self.last_grid).unflatten(-1, (rows, columns, -1))
        return blocks.permute(0, 1, 2, 4, 3, 5, 6).flatten(4, 5).flatten(2, 3)


__all__ = ["EchoMvitForPreTraining", "EchoMvitForPreTrainingOutput"]
