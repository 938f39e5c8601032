"""A saved Beat model as a `SignalModel` of a bench: it predicts the next second and rebuilds windows from codes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tgmm_hf.data.saved_models import damaged_files_in_one_line, load_whole_model
from tgmm_hf.families.heartcare.modeling_beat import BeatModel
from tgmm_hf.inputs.ecg_signal import HarmonisedEcg
from tgmm_hf.inputs.feature_extraction_beat import SMALLEST_DEVIATION, BeatFeatureExtractor
from tgmm_hf.utils.code_revision import code_revision
from tgmm_hf.utils.errors import TgmmError


class BeatSignals:
    """A Beat model that gives signals in the unit of its windows.

    The recording is cleaned as in the training: resampled to 250 Hz and filtered. So windows, targets and controls are
    cleaned signals too. The filters see the whole recording, as in the training.

    Args:
        model: Directory or Hub repository of a saved Beat model.
    """

    def __init__(self, model: str) -> None:
        self.model = load_whole_model(BeatModel, model).eval()
        with damaged_files_in_one_line(model):
            self.extractor = BeatFeatureExtractor.from_pretrained(model)
        self.sampling_rate = float(self.extractor.sampling_rate)
        self.name = Path(model).name

    def clean(self, ecg: HarmonisedEcg) -> NDArray:
        """Resample and filter a recording, as `SignalModel` describes it."""
        return self.extractor.clean(ecg)

    def predict(self, windows: NDArray, samples: int) -> NDArray:
        """Continue windows by `samples` samples. Of a longer window the end is read.

        Raises:
            TgmmError: If a window is shorter, or the question longer, than the model takes.
        """
        config = self.model.config
        self._check("window", windows.shape[2], config.seq_length)
        self._check("prediction", config.prediction_length, samples)
        prediction = self._run(windows[:, :, -config.seq_length :], "prediction")
        return prediction[:, :, :samples]

    def rebuild(self, windows: NDArray) -> NDArray:
        """Rebuild windows from their codes, part by part. What is left at the end is rebuilt with the part before it.

        Raises:
            TgmmError: If a window is shorter than the model takes.
        """
        length, samples = self.model.config.seq_length, windows.shape[2]
        self._check("window", samples, length)
        rebuilt = np.empty_like(windows)
        for start in [*range(0, samples - length, length), samples - length]:
            part = slice(start, start + length)
            rebuilt[:, :, part] = self._run(windows[:, :, part], "reconstruction")
        return rebuilt

    def described(self) -> dict[str, Any]:
        """Return the family, the sizes and the commit of the code."""
        config = self.model.config
        return {
            "model_family": "beat",
            "seq_length": config.seq_length,
            "codebook_size": config.codebook_size,
            "code_revision": code_revision(self.model, self.extractor),
        }

    def _check(self, what: str, samples: int, needed: int) -> None:
        """Refuse a length of which the model cannot do enough."""
        if samples < needed:
            raise TgmmError(self.name, f"a {what} of {samples} samples was found, and {needed} are needed at 250 Hz.")

    def _run(self, windows: NDArray, name: str) -> NDArray:
        """Scale windows as the feature extractor does, and return an output of the model in the unit of the windows."""
        mean, deviation = windows.mean(axis=2, keepdims=True), windows.std(axis=2, keepdims=True) + SMALLEST_DEVIATION
        values = torch.from_numpy(((windows - mean) / deviation).astype(np.float32)).to(self.model.device)
        with torch.no_grad():
            output = self.model(values)[name]
        return output.float().cpu().numpy() * deviation + mean


__all__ = ["BeatSignals"]
