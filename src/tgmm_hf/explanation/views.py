"""How much each echo view contributed: exact Shapley values over the views that are present.

The encoder runs once for each view. Only pooling and fusion run for each subset of views.
"""

import numpy as np
import torch

from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.explanation.scoring import PatientScore
from tgmm_hf.explanation.shapley import shapley_values, subsets_of
from tgmm_hf.utils.names import VIEWS

BATCH_SIZE = 128
"""Subsets of views that are scored together."""
NO_VIEW = "no echo view; labs and ECG stay as they are"


def explain_views(patient: PatientScore) -> Attribution:
    """Attribute the score to the echo views, given the other modalities. NaN marks a view that is absent.

    Raises:
        ValueError: if the patient has no echo.
    """
    if "echo" not in patient.present:
        raise ValueError("The patient has no echo, so there are no views to explain.")
    present = np.flatnonzero(patient.inputs["view_mask"][0].cpu().numpy().astype(bool))
    subsets = np.zeros((2 ** len(present), patient.inputs["view_mask"].shape[1]), dtype=bool)
    subsets[:, present] = subsets_of(len(present))
    scores = score_view_subsets(patient, subsets)
    shares = shapley_values(scores)
    values = np.full(len(VIEWS), np.nan)
    values[present] = shares
    ends = {"output": float(scores[-1]), "baseline_output": float(scores[0]), "summed": True}
    return patient.attribution("views", "shapley", values, (Axis("view", VIEWS),), baseline=NO_VIEW, **ends)


@torch.no_grad()
def score_view_subsets(patient: PatientScore, subsets: np.ndarray) -> np.ndarray:
    """Compute the score (n,) as if the patient had only the views of each row of `subsets` (n, 11) bool."""
    features = view_features(patient)
    scores = []
    for start in range(0, len(subsets), BATCH_SIZE):
        mask = torch.from_numpy(subsets[start : start + BATCH_SIZE]).to(features.device)
        scores.append(score_views(patient, features.expand(len(mask), -1, -1), mask))
    return torch.cat(scores).cpu().numpy().astype(np.float64)


def view_features(patient: PatientScore) -> torch.Tensor:
    """Encode the patient's clips: (11, D), zeros for an absent view. The views' embeddings are left out."""
    mask = patient.inputs["view_mask"][0].bool()
    features = encode_clips(patient, patient.inputs["pixel_values_videos"][0][mask])
    return features.new_zeros(len(mask), features.shape[1]).index_put((mask.nonzero()[:, 0],), features)


def encode_clips(patient: PatientScore, clips: torch.Tensor) -> torch.Tensor:
    """Encode clips (k, frames, 3, H, W) of any view: (k, D)."""
    return patient.model.branches["echo"].encode_clips(clips)


def score_views(patient: PatientScore, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Compute the score (n,) with other echo features.

    Args:
        patient: the patient, whose labs and ECG stay as they are.
        features: (n, 11, D), as `view_features` returns them.
        mask: (n, 11) bool, True for a view that is present.
    """
    model, shown = patient.model, mask[..., None].to(features.dtype)
    summary = (features * shown).sum(1) / shown.sum(1).clamp(min=1)
    tokens = features + model.view_embeddings.weight.to(features.dtype)
    has_view = mask.any(1)
    # A row without any view is read as if it had all, and then marked as absent, because attention needs a key.
    pooled = model.echo_pool(summary, tokens * shown, mask | ~has_view[:, None])
    return patient.with_tokens("echo", pooled, has_view)
