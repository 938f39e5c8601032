"""MoRE for findings: X-ray and ECG, either of which may be missing -> the logit of each label.

Notation in shape comments: B patients, p width of the shared space.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.utils import ModelOutput, can_return_tuple

from ...layers.distributed import several_processes, sum_over_processes
from ...layers.input_shapes import check_mask
from .configuration_more import MoreConfig
from .modeling_more import MoreModel, MorePreTrainedModel
from .more_features import present_rows


@dataclass
class MoreClassifierOutput(ModelOutput):
    """Output of [`MoreForClassification`].

    Attributes:
        loss: with `labels`.
        logits: (B, labels). A sigmoid gives the probability of each label.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class MoreForClassification(MorePreTrainedModel):
    """Findings of an X-ray and an ECG together, several at once. Either of the two may be missing.

    The projected features stand side by side before one linear layer. A missing input is zero. The text encoder stays
    in the model, so that it can still be asked with texts, and is not trained here.
    """

    def __init__(self, config: MoreConfig):
        super().__init__(config)
        self.more = MoreModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(2 * config.projection_dim, int(config.num_labels or 0))
        self.post_init()
        self.choose_trained()

    def hub_classes(self) -> dict[str, type]:
        """Map the names of Auto classes to the class that they load from the saved directory."""
        return {**super().hub_classes(), "AutoModelForImageClassification": type(self)}

    def choose_trained(self) -> None:
        """Freeze what texts need, in place, because the classifier reads no text."""
        for part in (self.more.text_encoder, self.more.text_projection):
            part.requires_grad_(False)
        self.more.logit_scale.requires_grad_(False)

    def train(self, mode: bool = True) -> "MoreForClassification":
        """Set the training mode in place. A frozen batch norm stays in evaluation mode and keeps its statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d) and not module.weight.requires_grad:
                module.eval()
        return self

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings of the text encoder."""
        return self.more.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings of the text encoder by `value`, in place."""
        self.more.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        xray_mask: torch.Tensor | None = None,
        ecg_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        label_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> MoreClassifierOutput:
        r"""Give the logit of each label.

        pixel_values, input_values, xray_mask, ecg_mask:
            As in [`MoreModel`].
        labels (`torch.FloatTensor` of shape `(batch_size, num_labels)`, *optional*):
            1 if the patient has the finding, 0 if not.
        label_mask (`torch.BoolTensor` of shape `(batch_size, num_labels)`, *optional*):
            True where the label is known. The rest is never read, such as the uncertain labels of CheXpert.
        """
        present: dict[str, torch.Tensor] = {}
        parts: dict[str, torch.Tensor] = {}
        for name, values, mask, get in (
            ("xray", pixel_values, xray_mask, self.more.get_xray_features),
            ("ecg", input_values, ecg_mask, self.more.get_ecg_features),
        ):
            if values is not None:
                present[name] = present_rows(values, mask, f"{name}_mask")
                parts[name] = self.more.features_of(get, (values,), present[name], kwargs)
        features = self._join(parts, present)
        logits = self.classifier(self.dropout(features.to(self.classifier.weight.dtype)))
        loss = None if labels is None else self._loss(logits, labels, label_mask)
        return MoreClassifierOutput(loss=loss, logits=logits)

    def _join(self, parts: dict[str, torch.Tensor], present: dict[str, torch.Tensor]) -> torch.Tensor:
        """Put the features (B, p) of X-ray and ECG side by side: (B, 2 p). In training, hide one of two at random."""
        if not parts or len({len(part) for part in parts.values()}) != 1:
            sizes = {name: len(part) for name, part in parts.items()}
            raise ValueError(
                f"Give pixel_values, input_values or both, with equally many patients, got {sizes or 'neither'}."
            )
        if not bool(torch.stack(list(present.values())).any(0).all()):
            raise ValueError("A patient has neither X-ray nor ECG. Leave this patient out, or correct the masks.")
        first = next(iter(parts.values()))
        xray, ecg = (parts.get(name, torch.zeros_like(first)) for name in ("xray", "ecg"))
        if self.training and len(present) == 2:
            has_both = present["xray"] & present["ecg"]
            hidden = has_both & (torch.rand(len(first), device=first.device) < self.config.modality_dropout)
            hides_xray = torch.rand(len(first), device=first.device) < 0.5
            xray = xray.masked_fill((hidden & hides_xray)[:, None], 0.0)
            ecg = ecg.masked_fill((hidden & ~hides_xray)[:, None], 0.0)
        return torch.cat([xray, ecg], dim=1)

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor, label_mask: torch.Tensor | None) -> torch.Tensor:
        """Average the binary cross-entropy over the known labels of all processes."""
        if labels.shape != logits.shape:
            raise ValueError(
                f"labels has the shape {tuple(labels.shape)}, expected {tuple(logits.shape)}: patients, labels."
            )
        mask = torch.ones_like(labels, dtype=torch.bool)
        if label_mask is not None:
            check_mask(label_mask, tuple(labels.shape), "label_mask")
            mask = label_mask.bool()
        target = labels.float().masked_fill(~mask, 0.0)
        if not bool(((target == 0) | (target == 1)).all()):
            raise ValueError(
                "labels holds other numbers than 0 and 1 where label_mask is True. Mask labels that are unknown or "
                "uncertain."
            )
        losses = nn.functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
        number = sum_over_processes(mask.sum().float()).clamp(min=1)
        processes = torch.distributed.get_world_size() if several_processes() else 1
        return (losses * mask).sum() * processes / number  # DDP averages the gradients of the processes


__all__ = ["MoreClassifierOutput", "MoreForClassification"]
