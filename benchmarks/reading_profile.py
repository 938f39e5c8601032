"""Where the time of reading goes: a profile of one clip and of ECG records, by function of this package.

    OMP_NUM_THREADS=1 python benchmarks/reading_profile.py --clip CLIP --records RECORD [RECORD ...]

Prints CPU milliseconds without the profiler, and for each function of this package its share of the profiled CPU time,
with all that it calls. The profiler makes Python code look slower beside compiled code. So the shares tell where to
look, not how much would be gained. For a clip the stages are measured without the profiler too: CPU milliseconds of
each stage, and its share of the whole.
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
from tgmm_hf.inputs import echo_dicom, echo_reading, image_processing_echo
from tgmm_hf.inputs.echo_between import BrightnessOfDataset
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor

PACKAGE = Path(tgmm_hf.__file__).parent
CLIP_STAGES: dict[str, list[tuple[Any, str]]] = {
    "header and elements, parsed and checked": [
        (echo_reading, "read_dicom"),
        (echo_reading, "check_header"),
        (echo_dicom, "header_notes"),
        (echo_dicom, "number_of_frames"),
    ],
    "the chosen frames, decoded": [(echo_dicom, "decode_frames")],
    "the frames between, decoded and compared": [(BrightnessOfDataset, "changes"), (BrightnessOfDataset, "range_of")],
    "brightness of the chosen frames": [(echo_dicom, "brightness_of"), (echo_reading, "brightness_of")],
    "checks of the colours": [(echo_dicom, "_check_colours")],
    "checks of the content": [(echo_reading, "content_fault")],
    "checks of motion, shape and copies": [
        (echo_reading, "motion_doubts"),
        (echo_reading, "shape_doubts"),
        (echo_reading, "repeated_share"),
    ],
    "the mask": [(image_processing_echo, "sector_of_clip")],
    "colours converted and masked": [(image_processing_echo, "masked_bgr")],
    "resizing": [(image_processing_echo, "resize_cubic")],
    "normalising": [(image_processing_echo, "_normalise_into")],
}
"""Stage of reading a clip -> its functions, as (module or class that calls them, name)."""


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


def stages(run: Callable[[], object], calls: int) -> dict[str, list[float]]:
    """Measure the stages of reading a clip. Return the CPU milliseconds of each in one call, and its share."""
    taken = dict.fromkeys(CLIP_STAGES, 0.0)

    def timed(stage: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: Any, **kwargs: Any) -> object:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                taken[stage] += time.process_time() - start

        return call

    places = [(stage, *place) for stage, listed in CLIP_STAGES.items() for place in listed]
    before = [(owner, name, getattr(owner, name)) for _, owner, name in places]
    try:
        for (stage, owner, name), (_, _, function) in zip(places, before, strict=True):
            setattr(owner, name, timed(stage, function))
        run()
        taken.update(dict.fromkeys(taken, 0.0))
        start = time.process_time()
        for _ in range(calls):
            run()
        whole = time.process_time() - start
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)
    taken["the rest"] = whole - sum(taken.values())
    return {stage: [round(1e3 * seconds / calls, 2), round(seconds / whole, 3)] for stage, seconds in taken.items()}


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
        result["clip_stages"] = stages(run, 2 * arguments.calls)
    if arguments.records:
        read = lambda: [extractor.prepare(path) for path in arguments.records]  # noqa: E731
        result["records"] = shares(read, arguments.calls, arguments.top)
    write(result, indent=1)


if __name__ == "__main__":
    main()
