"""Measure how many faulty echo clips the reader finds, and how many good ones it refuses or doubts.

    python scripts/measure_echo_checks.py DIRECTORY [DIRECTORY ...] --clips 12 --steps steps.jsonl --out echo.md

Clips under the directories (a sample, `--good`) are read as they are: a refusal, or a check that says more than "few
frames", is a false alarm. Then faults are planted into a smaller sample: the decoded frames are written again with the
fault and read. A fault is found if the clip is refused or a check names it, or if the picture comes back right in spite
of it. Harmless changes, such as grey bars, are planted too. They shall be read without a word.
Each finished step is a line of `--steps`. A run that was stopped goes on there when it is given again. Faults take
about 10 s for a clip of 96 x 128 pixels and 100 s for one of 480 x 640.
Nothing else is written but the page, and the page names no file.
"""

import argparse
import json
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from echo_faults import (
    content_faults,
    harmless_changes,
    order_faults,
    shape_faults,
    still_faults,
)
from echo_file_faults import (
    FRAMES,
    Fault,
    colour_faults,
    damage_faults,
    geometry_faults,
    rgb_frames,
    time_faults,
)

from tgmm_hf.inputs.echo_copies import copied_views
from tgmm_hf.inputs.echo_reading import EchoClip, list_echo_files, read_echo_clip
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.utils.errors import InputRefusedError

COPIED = 4
"""Copies are made of every clip with this number in its study."""
NO_ALARM = {"few_frames", "modality_missing", "frames_counted"}
"""Checks that good clips have too."""

SAME_PICTURE = 1.0
"""Two pictures of the model are the same if they differ by less (0 to 255) in the mean."""
NO_CLIP = "no clip"


# ---- measuring


def is_found(fault: Fault, path: Path, frames: np.ndarray) -> bool:
    """Tell whether the reader finds a planted fault, or reads the picture right in spite of it."""
    if (video := path.with_suffix(".avi")).exists():
        path = video
    try:
        clip = read_echo_clip(path)
    except InputRefusedError:
        return True
    if {note["code"] for note in clip.notes} - NO_ALARM:
        return True
    if not fault.right:
        return False
    expected = frames[: 2 * len(clip.frames) : 2].astype(int)
    expected = expected[..., [1, 1, 1]] if "palette" in fault.name else expected
    return bool(clip.total_frames == len(frames) and np.abs(rgb_frames(clip) - expected).mean() < 3)


def is_seen_as(path: Path, reference: Path, processor: EchoImageProcessor) -> bool:
    """Tell whether a file is read without a word, and the model sees the same in it as in another file."""
    try:
        clip = read_echo_clip(path)
    except InputRefusedError:
        return False
    if {note["code"] for note in clip.notes} - NO_ALARM:
        return False
    seen, expected = (processor.prepare_clip(each).frames.astype(int) for each in (clip, reference))
    return bool(np.abs(seen - expected).mean() < SAME_PICTURE)


def alarm_of(path: Path) -> str | None:
    """Name what the reader says against a clip as it is; None if nothing."""
    try:
        clip = read_echo_clip(path)
    except InputRefusedError as error:
        is_no_clip = "single-frame still" in error.reason or "without an image" in error.reason
        return NO_CLIP if is_no_clip else error.reason.split("(")[0].strip()
    codes = sorted({note["code"] for note in clip.notes} - NO_ALARM)
    return ", ".join(codes) or None


class Steps:
    """Results of finished steps, kept in a file so that a stopped run goes on.

    Args:
        path: file of JSON lines; None keeps nothing.
        settings: what the results depend on. A file of other settings is refused.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]):
        self.path, self.results = path, {}
        if path is None:
            return
        if path.exists():
            first, *lines = path.read_text(encoding="utf-8").splitlines()
            if json.loads(first) != settings:
                sys.exit(f"{path} holds results of other settings: {first}. Remove it, or name another file.")
            self.results = dict(json.loads(line) for line in lines if line.endswith("]"))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings) + "\n", encoding="utf-8")

    def result(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the result of a step; make it and keep it if it is not there. It is made of what JSON can hold."""
        if name not in self.results:
            self.results[name] = make()
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([name, self.results[name]]) + "\n")
        return self.results[name]


def all_faults() -> list[tuple[str, Fault]]:
    """List (group, fault) in the order of the page."""
    groups = {
        "harmless": harmless_changes,
        "content": content_faults,
        "still": still_faults,
        "shape": shape_faults,
        "order": order_faults,
        "time": time_faults,
        "colour": colour_faults,
        "geometry": geometry_faults,
        "damage": damage_faults,
    }
    return [(group, fault) for group, make in groups.items() for fault in make()]


def found_in(source: Path, faults: list[tuple[str, Fault]]) -> list[str]:
    """Plant each fault into one clip and name those that are found, or that are read right."""
    frames, found = rgb_frames(read_echo_clip(source, FRAMES, 1)), []
    processor = EchoImageProcessor()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "faulty.dcm"
        reference = path.with_suffix(".ref")
        for _, fault in faults:
            path.with_suffix(".avi").unlink(missing_ok=True)
            fault.plant(path, frames)
            if fault.same_as is not None:
                fault.same_as(reference, frames)
            is_right = (
                is_found(fault, path, frames) if fault.same_as is None else is_seen_as(path, reference, processor)
            )
            found += [fault.name] * is_right
    return found


def measure(sample: list[Path], steps: Steps, until: float) -> tuple[int, list[tuple[str, str, int, int]]]:
    """Count the faults found in a sample: the number of clips, and (group, name, found, planted).

    Args:
        sample: good clips.
        steps: what was measured before.
        until: no further clip is begun after this moment of `time.monotonic()`.
    """
    faults, found, number = all_faults(), Counter(), 0
    for source in sample:
        if time.monotonic() > until:
            break
        found.update(steps.result(f"faults {source}", lambda source=source: found_in(source, faults)))
        number += 1
        say(f"faults planted into {number} of {len(sample)} clips")
    return number, [
        (group + (", known gap" if fault.is_known_gap else ""), fault.name, found[fault.name], number)
        for group, fault in faults
    ]


def say(line: str) -> None:
    """Print progress."""
    sys.stderr.write(f"{line}\n")


def copies_of(frames: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Make pairs of clips of one recording: name -> (frames of one view, frames of the other view)."""
    first, height, width = frames[:30], *frames.shape[1:3]
    copies = {"one frame later": (first, frames[1:31])}
    copies["mirrored"] = (first, np.ascontiguousarray(first[:, :, ::-1]))
    for percent in (2, 5, 10):
        down, right = height * percent // 200, width * percent // 200
        copies[f"cropped by {percent} %"] = (first, first[:, down : height - down, right : width - right])
    copies["brighter by a third"] = (first, np.clip(first.astype(int) * 4 // 3, 0, 255).astype(np.uint8))
    copies["cut in two, known gap"] = (frames[:16], frames[16:32])
    return copies


def copies_in(clips: list[Path]) -> dict[str, int]:
    """Count within one study: pairs of clips, pairs that are taken for one recording, copies, and copies found."""
    views, found = {}, Counter()
    processor = EchoImageProcessor(size=112)

    def prepared(frames: np.ndarray) -> np.ndarray:
        clip = EchoClip(np.ascontiguousarray(frames[::2]), "RGB", len(frames))
        return processor.prepare_clip(clip).frames[: len(clip.frames)]

    def number_of_copies(views: dict[str, np.ndarray]) -> int:
        return len(copied_views(views, {view: len(frames) for view, frames in views.items()}))

    for path in clips:
        clip = read_echo_clip(path, FRAMES, 1)
        if clip.total_frames < FRAMES:
            continue
        frames = rgb_frames(clip)
        views[path.name] = prepared(frames[:30])
        if len(views) % COPIED != 1:
            continue
        found["copies"] += 1
        for name, pair in copies_of(frames).items():
            found[name] += bool(number_of_copies({str(index): prepared(one) for index, one in enumerate(pair)}))
    found["pairs"] = len(views) * (len(views) - 1) // 2
    found["wrong"] = number_of_copies(views)
    return dict(found)


def table_of_copies(found: Counter) -> str:
    """Write the sums of `copies_in` over all studies."""
    return "\n".join(
        [
            "| one recording under two views, the second one | taken for one recording | of |",
            "|---|---|---|",
            *(
                f"| {name} | {found[name]} | {found['copies']} |"
                for name in copies_of(np.zeros((FRAMES, 64, 64, 3), np.uint8))
            ),
            "",
            f"Different clips of one study that are taken for one recording: {found['wrong']}, "
            f"among {found['pairs']} pairs.",
        ]
    )


def page(command: str, number: int, alarms: Counter, rows: list[tuple[str, str, int, int]], copies: str) -> str:
    """Write the page.

    Args:
        command: how to make the page again.
        number: clips that were read as they are.
        alarms: what was said against them -> how often.
        rows: (group, name, found, planted) of each fault.
        copies: the table of copies.
    """
    others = alarms.pop(NO_CLIP, 0)
    harmless = [row for row in rows if row[0] == "harmless"]
    claimed = [row for row in rows if "known gap" not in row[0] and row not in harmless]
    lines = [
        "# Echo clips: faults found and false alarms",
        "",
        f"    {command}",
        "",
        f"False alarms: {sum(alarms.values())} of {number - others} good clips"
        + (f" ({others} stills, or files without pixels, are not counted)." if others else "."),
        *(f"* {count} x {alarm}" for alarm, count in alarms.most_common()),
        "",
        f"Faults planted: {sum(row[3] for row in claimed)}, found or read right: {sum(row[2] for row in claimed)}. "
        "The rows named *known gap* are not counted: no check looks for them.",
        "",
        f"Harmless changes: {sum(row[3] for row in harmless)}, read without a word, and the model sees them as "
        f"black bars: {sum(row[2] for row in harmless)}.",
        "",
        copies,
        "",
        "The limits of the checks were set on the synthetic cohort and one real clip, and three of them after faults "
        "of this list were missed. On those clips the rates are optimistic; rates on other clips count.",
        "",
        "| kind | fault or harmless change | found or read right | of |",
        "|---|---|---|---|",
        *(f"| {group} | {name} | {found} | {total} |" for group, name, found, total in rows),
        "",
    ]
    return "\n".join(lines)


def good_clips(directory: Path, options: argparse.Namespace, steps: Steps) -> tuple[list[Path], list[str]]:
    """Read a sample of the clips of a directory: those without a word against them, and what was said of the others."""
    clips = list_echo_files(directory)
    if len(clips) > options.good:
        clips = random.Random(options.seed).sample(clips, options.good)
    alarms = {path: steps.result(f"alarm {path}", lambda path=path: alarm_of(path)) for path in sorted(clips)}
    say(f"{len(clips)} clips of {directory.name} read as they are")
    return [path for path, alarm in alarms.items() if alarm is None], [alarm for alarm in alarms.values() if alarm]


def options_of() -> argparse.Namespace:
    """Read the options of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", nargs="+", type=Path, help="directories with good clips, searched recursively")
    parser.add_argument("--clips", type=int, default=12, help="clips into which faults are planted (default 12)")
    parser.add_argument("--good", type=int, default=400, help="clips of a directory read as they are (default 400)")
    parser.add_argument("--studies", type=int, default=12, help="studies of a directory for copies (default 12)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the samples (default 0)")
    parser.add_argument("--minutes", type=float, default=60, help="faults go into no further clip after this time")
    parser.add_argument("--steps", type=Path, help="file of finished steps, from which a stopped run goes on")
    parser.add_argument("--out", type=Path, help="page to write; printed where it is not given")
    return parser.parse_args()


def main() -> None:
    """Read the options, measure and write the page."""
    options, started = options_of(), time.monotonic()
    warnings.simplefilter("ignore")  # pydicom's warnings may quote values of a file
    named = " ".join(directory.name for directory in options.directories)
    sizes = f"--clips {options.clips} --good {options.good} --studies {options.studies} --seed {options.seed}"
    steps = Steps(options.steps, {"directories": [str(path) for path in options.directories], "options": sizes})
    samples, alarms, copies, number = [], Counter(), Counter(), 0
    for directory in options.directories:
        good, words = good_clips(directory, options, steps)
        alarms.update(words)
        number += len(good) + len(words)
        samples.append(random.Random(options.seed).sample(good, len(good)))
        folders = sorted({path.parent for path in good})
        for folder in random.Random(options.seed).sample(folders, min(options.studies, len(folders))):
            study = [path for path in good if path.parent == folder]
            copies.update(steps.result(f"copies {folder}", lambda study=study: copies_in(study)))
        say(f"copies of {directory.name} compared")
    in_turn = [path for path in chain.from_iterable(zip_longest(*samples)) if path is not None]
    planted, rows = measure(in_turn[: options.clips], steps, started + 60 * options.minutes)
    if planted < min(options.clips, len(in_turn)):
        say(f"the time is over after {planted} of {options.clips} clips: run the command again with --steps to go on")
    text = page(f"python scripts/measure_echo_checks.py {named} {sizes}", number, alarms, rows, table_of_copies(copies))
    if options.out is None:
        sys.stdout.write(text)
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
