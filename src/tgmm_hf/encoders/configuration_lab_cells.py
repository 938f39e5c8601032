"""Configuration of the encoder that reads one token for each lab cell or history item."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..utils.hub_code import HubCode


@strict
class LabCellsConfig(HubCode, PreTrainedConfig):
    """Configuration of [`LabCellsModel`] (ours, decision 218).

    Args:
        vocab_size: number of tokens. Words are read in histories and in the texts of the tasks.
        hidden_size: width D.
        num_hidden_layers: number of transformer layers.
        num_attention_heads: heads of the attention.
        num_columns: number of lab columns; `TgmmConfig` sets it to the length of `labs_scales`.
        max_position_embeddings: longest lab text, in tokens. The encoder has no positions, so this only bounds the
            memory.
        pad_token_id: padding token.
        starts_from_cells: adds the sum of the cells' tokens, over the root of their number, to the summary before the
            layers. False by default, because a model that was saved before this setting has to answer as it did;
            `TgmmConfig.tiny` sets True.
        layer_norm_eps: epsilon of the layer norms.
        initializer_range: standard deviation of the starting embeddings.
        weights_fingerprint: see `TgmmConfig`.
    """

    hub_auto_class = "AutoConfig"
    model_type = "lab_cells"
    base_config_key = "labs_config"

    vocab_size: int = 28996
    hidden_size: int = 768
    num_hidden_layers: int = 2
    num_attention_heads: int = 12
    num_columns: int = 0
    max_position_embeddings: int = 2048
    pad_token_id: int | None = 0
    starts_from_cells: bool = False
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    weights_fingerprint: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_attention_heads, got {self.hidden_size} and "
                f"{self.num_attention_heads}."
            )
