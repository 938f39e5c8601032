"""Draw the picture of the README: AUC by subset with intervals, beside the optimum.

    python scripts/draw_readme_picture.py demo --out docs/images/demo_auc.png

Reads `metrics.json` of a directory that `tgmm evaluate --bayes` wrote, such as `demo` of `make demo`.
"""

import argparse
import sys
from pathlib import Path

from tgmm_hf.reports.figures import forest_figure
from tgmm_hf.utils.files import read_json

DOTS_PER_INCH = 150


def main() -> None:
    """Read the command line, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="directory with metrics.json")
    parser.add_argument("--task", default="hf_diagnosis", help="a diagnosis of the model (hf_diagnosis)")
    parser.add_argument("--out", type=Path, default=Path("docs/images/demo_auc.png"), help="PNG to write")
    arguments = parser.parse_args()
    metrics = read_json(arguments.directory / "metrics.json")
    figure = forest_figure(metrics[arguments.task], "auc", "Heart failure: AUC on invented test patients")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=DOTS_PER_INCH)
    sys.stdout.write(f"wrote {arguments.out}\n")


if __name__ == "__main__":
    main()
