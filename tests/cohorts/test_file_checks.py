"""The file checks of `tgmm curate` refuse what `tgmm prepare` would refuse."""

import numpy as np
from heart_signal import make_heart
from input_files import write_wfdb

from tgmm_hf.cohorts.mimic.file_checks import ECG_REASONS, check_ecg
from tgmm_hf.utils.names import LEADS


def test_an_ecg_is_checked_as_prepare_checks_it(tmp_path):
    heart = make_heart()
    noise = np.random.default_rng(0).normal(0, 0.3, heart.shape)
    reasons = {}
    for name, signal in {"heart": heart, "noise": noise, "flat": np.zeros_like(heart)}.items():
        (tmp_path / name).mkdir()
        reasons[name] = check_ecg(write_wfdb(tmp_path / name, signal, list(LEADS)))
    assert reasons["heart"] is None and reasons["flat"] == "ECG flat"
    assert reasons["noise"] == ECG_REASONS[-1]
