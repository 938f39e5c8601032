"""Converters read safetensors, as HuBERT-ECG's weights are published, and refuse damaged files in a sentence."""

import pytest
import torch
from published_encoders import hubert_ecg_weights
from safetensors.torch import save_file

from tgmm_hf.hub.convert.loading import load_weights
from tgmm_hf.utils.errors import TgmmError

pytestmark = pytest.mark.usefixtures("forked_reading")


def test_a_safetensors_file_is_read(tmp_path):
    weights = hubert_ecg_weights()
    save_file(weights, tmp_path / "model.safetensors")
    read = load_weights(tmp_path / "model.safetensors")
    assert read.keys() == weights.keys() and all(torch.equal(read[name], weights[name]) for name in weights)


def test_a_damaged_safetensors_file_is_refused(tmp_path):
    save_file(hubert_ecg_weights(), tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TgmmError, match="cannot be read as safetensors"):
        load_weights(tmp_path / "cut.safetensors")
