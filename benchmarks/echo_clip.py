"""Time from a DICOM clip to the 16 frames that the model reads, against EchoPrime's recipe (row 1).

    OMP_NUM_THREADS=1 python benchmarks/echo_clip.py CLIP

The reference is EchoPrime's preprocessing as `scripts/published_recipes.py` writes it, with OpenCV. It decodes all
frames, masks, crops, resizes and normalises, and checks nothing. (a) It reads the file with pydicom 3 as it comes, so
YCbCr is converted to RGB. (b) It reads the components as they are stored, as its pinned version of pydicom did. Ours
reads the file, runs all checks of `inputs/echo_*.py`, masks, crops, resizes and normalises. Each side has one thread.

The bound is the reference against decoding the 16 frames alone, from a header in memory. Ours cannot be faster.
"""

import sys
from pathlib import Path

import cv2
import pydicom
from measuring import alternate, argument_parser, environment, row, write

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from published_recipes import echoprime, echoprime_input

from tgmm_hf.inputs.echo_decoders import decode_frames
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor

GOALS = {"1a": 40.0, "1b": 12.0}


def main() -> None:
    """Measure both ways of reading and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("clip", type=Path, help="DICOM clip, JPEG baseline")
    parser.add_argument("--pairs", type=int, default=7, help="measured calls of each way (default 7)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    processor, path = EchoImageProcessor(), arguments.clip
    dataset = pydicom.dcmread(path)
    chosen = range(0, processor.num_frames * processor.frame_stride, processor.frame_stride)
    times = alternate(
        {
            "1a": lambda: echoprime_input(pydicom.dcmread(path).pixel_array),
            "ours": lambda: processor.normalise(processor.prepare_clip(path).frames),
            "1b": lambda: echoprime(path),
            "bound": lambda: decode_frames(dataset, chosen),
        },
        arguments.pairs,
    )
    what = "one echo clip -> 16 frames against EchoPrime's recipe"
    reading = {"1a": "pydicom 3 as it comes", "1b": "components as stored"}
    write(
        {
            "rows": [
                *(row(name, f"{what}, {reading[name]}", times[name], times["ours"], GOALS[name]) for name in GOALS),
                *(
                    row(f"{name}, bound", f"{what}, {reading[name]}; ours decodes only", times[name], times["bound"], 0)
                    for name in GOALS
                ),
            ],
            "pairs": arguments.pairs,
            "machine": environment(),
        }
    )


if __name__ == "__main__":
    main()
