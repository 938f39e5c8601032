"""Where the time of reading goes: a profile of one clip and of ECG records, by function of this package.

    OMP_NUM_THREADS=1 python benchmarks/reading_profile.py --clip CLIP --records RECORD [RECORD ...]

Prints CPU milliseconds without the profiler, and for each function of this package its share of the profiled CPU time,
with all that it calls. The profiler makes Python code look slower beside compiled code. So the shares tell where to
look, not how much would be gained.
"""

import cProfile
import pstats
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
from measuring import argument_parser, environment, write

import tgmm_hf
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor

PACKAGE = Path(tgmm_hf.__file__).parent


def shares(run: Callable[[], object], calls: int, top: int) -> dict[str, Any]:
    """Profile a function. Return milliseconds of a call, and the share of each of the package's functions."""
    run()
    start = time.process_time()
    for _ in range(calls):
        run()
    milliseconds = 1e3 * (time.process_time() - start) / calls
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    for _ in range(calls):
        run()
    profile.disable()
    stats: Any = pstats.Stats(profile)
    taken = {
        f"{Path(file).relative_to(PACKAGE)}:{name}": cumulative / stats.total_tt
        for (file, _, name), (_, _, _, cumulative, _) in stats.stats.items()
        if file.startswith(str(PACKAGE)) and not name.startswith("<")
    }
    ranked = sorted(taken.items(), key=lambda item: -item[1])[:top]
    return {"cpu_ms": round(milliseconds, 1), "shares": {name: round(share, 3) for name, share in ranked}}


def main() -> None:
    """Profile both and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("--clip", type=Path, help="DICOM clip")
    parser.add_argument("--records", type=Path, nargs="*", default=[], help="WFDB records without suffix")
    parser.add_argument("--calls", type=int, default=5, help="profiled calls (default 5)")
    parser.add_argument("--top", type=int, default=40, help="functions to print (default 40)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    processor, extractor = EchoImageProcessor(), EcgFeatureExtractor()
    result: dict[str, Any] = {"machine": environment()}
    if arguments.clip is not None:
        run = lambda: processor.normalise(processor.prepare_clip(arguments.clip).frames)  # noqa: E731
        result["clip"] = shares(run, arguments.calls, arguments.top)
    if arguments.records:
        read = lambda: [extractor.prepare(path) for path in arguments.records]  # noqa: E731
        result["records"] = shares(read, arguments.calls, arguments.top)
    write(result, indent=1)


if __name__ == "__main__":
    main()
