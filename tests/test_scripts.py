"""Scripts of the clone that draw pictures."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
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
