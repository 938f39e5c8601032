"""Small parts that several figures share."""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.axes import Axes

from tgmm_hf.evaluation.headline_figures import NO_SKILL


def draw_no_skill(draw_line: Callable[..., Any], headline: str) -> None:
    """Draw the value of a headline figure without any skill, if it has one.

    Args:
        draw_line: `axvline` or `axhline` of the axes.
        headline: A headline figure, such as "auc".
    """
    if headline in NO_SKILL:
        draw_line(NO_SKILL[headline], color="0.75", linewidth=1, linestyle=":")


def write_reason(axes: Axes, headline: str, position: float, entry: Mapping[str, Any]) -> None:
    """Write why an entry of metrics.json has no headline figure, right of the line of no skill."""
    place = NO_SKILL.get(headline, 0.0) + 0.02
    axes.text(place, position, entry[f"{headline}_missing"], fontsize=7, color="0.5", va="center")
