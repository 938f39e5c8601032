"""Scripts of the clone that draw pictures and measure explanations."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from heart_signal import make_heart
from input_files import make_frames, write_clip

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.mark.parametrize(("frames", "drawn"), [(6, 3), (30, 6)])
def test_a_frame_of_a_clip_is_drawn_once(frames, drawn, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import plot_inputs

    panels = list(plt.figure().subplots(2, 3).flat)
    plot_inputs.draw_clip(panels, str(write_clip(tmp_path / "clip.dcm", make_frames(frames))))
    titles = [panel.get_title() for panel in panels if panel.images]
    assert len(titles) == len(set(titles)) == drawn
    assert not any(panel.axison for panel in panels)
    sys.modules.pop("plot_inputs")


def test_relevance_is_counted_on_the_waves_against_chance(monkeypatch):
    pytest.importorskip("neurokit2")
    monkeypatch.syspath_prepend(SCRIPTS)
    import measure_ecg_relevance as script

    signal = make_heart(2250, 250)[1]
    masks = script.wave_masks(signal, 250)
    assert masks is not None and masks["QRS"][np.argmax(np.abs(signal))]
    assert 0.02 < masks["QRS"].mean() < 0.25 and not (masks["QRS"] & masks["rest"]).any()
    equal = script.shares(np.ones((12, 30)), masks)
    assert all(ratio == pytest.approx(1) for ratio in equal.values())
    on_qrs = script.shares(np.where(masks["QRS"], 1.0, 0.0)[None], masks)
    assert on_qrs["QRS"] == pytest.approx(1 / masks["QRS"].mean()) and on_qrs["rest"] == 0
    assert script.wave_masks(np.zeros(2250), 250) is None
    sys.modules.pop("measure_ecg_relevance")
