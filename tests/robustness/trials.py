"""What a hostile input is, what became of it, and how one case is run and judged.

A kind of input is a function `make(random, folder) -> Trial`, registered with `kind(name)`. A case is (kind, seed): the
same case has the same bytes on every machine.
"""

import traceback
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cohort_files import small_config, small_processor

import tgmm_hf

ANSWERED, REFUSED, UNEXPECTED = "answered", "refused", "unexpected"
FOREIGN, HANG, MEMORY, NAN, SILENT = "foreign", "hang", "memory", "nan", "silent"
OUTCOMES = (ANSWERED, REFUSED, UNEXPECTED, FOREIGN, HANG, MEMORY, NAN, SILENT)
"""Every case has one outcome. UNEXPECTED: refused, but nobody foresaw the exception behind the refusal."""
FAULTS = (FOREIGN, HANG, MEMORY, NAN, SILENT)
"""Outcomes that break the promise of the package."""
PACKAGE = str(Path(tgmm_hf.__file__).parent)


@dataclass
class Answer:
    """What the package made of an input.

    Attributes:
        inputs: arrays for the model, or other arrays that the input decides. Empty if nothing can be used.
        marks: everything that the user is told: notes, checks and refusals, each as one line.
        text: lab text.
        value: anything else that a judge compares.
    """

    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)
    text: str = ""
    value: Any = None


Judge = Callable[[Answer], str]
"""Returns "" if an answer is right, else what is wrong with it."""


def no_oracle(answer: Answer) -> str:
    """Accept any answer: the right value of the input is not known."""
    return ""


class Trial(NamedTuple):
    """One hostile input.

    Attributes:
        what: the fault in it, for the table of finds.
        read: reads it.
        judge: compares the answer with the right value.
    """

    what: str
    read: Callable[[], Answer]
    judge: Judge = no_oracle


class Finding(NamedTuple):
    """The outcome of a case, with the fault in the input and what happened."""

    outcome: str
    what: str = ""
    detail: str = ""
    judged: bool = False


Maker = Callable[[np.random.Generator, Path], Trial]
KINDS: dict[str, Maker] = {}
"""Name of a kind -> its generator."""


def kind(name: str) -> Callable[[Maker], Maker]:
    """Register a generator."""

    def register(make: Maker) -> Maker:
        assert name not in KINDS
        KINDS[name] = make
        return make

    return register


def run_case(name: str, seed: int, folder: Path) -> Finding:
    """Make the case `seed` of a kind in an empty folder, read it, and judge the answer."""
    random = np.random.default_rng([zlib.crc32(name.encode()), seed])
    trial = KINDS[name](random, folder)
    judged = trial.judge is not no_oracle
    try:
        answer = trial.read()
    except BaseException as error:  # a foreign exception is a result
        if isinstance(error, KeyboardInterrupt):
            raise
        return Finding(*_classify(error, trial.what), judged)
    return Finding(*_judge(answer, trial), judged)


def _judge(answer: Answer, trial: Trial) -> tuple[str, str, str]:
    """Find the outcome of an input that raised nothing."""
    for key, array in answer.inputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return NAN, trial.what, f"{key} holds values that are not finite"
    if any("unexpected: " in mark for mark in answer.marks):
        return UNEXPECTED, trial.what, next(mark for mark in answer.marks if "unexpected: " in mark)[-200:]
    if not answer.inputs and answer.value is None:
        said = bool(answer.marks)
        return (REFUSED, trial.what, "") if said else (SILENT, trial.what, "not used, and nothing says so")
    wrong = trial.judge(answer)
    return (SILENT, trial.what, wrong) if wrong else (ANSWERED, trial.what, "")


def _classify(error: BaseException, what: str) -> tuple[str, str, str]:
    """Find the outcome of an input that raised `error`."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    place = f"{Path(last.filename).name}:{last.lineno}" if last else ""
    detail = f"{type(error).__name__}: {str(error)[:160]} ({place})"
    if getattr(error, "is_tgmm_error", False):
        return (UNEXPECTED if "unexpected: " in str(error) else REFUSED), what, detail
    # A ValueError or TypeError is documented where our own code raises it, and foreign where a library does.
    ours = last is not None and last.filename.startswith(PACKAGE) and (last.line or "").startswith("raise")
    if isinstance(error, ValueError | TypeError) and ours:
        return REFUSED, what, detail
    return FOREIGN, what, detail


# ---- reading through the public door


@cache
def processor() -> Any:
    """The small processor of the tests."""
    return small_processor(small_config())


def process(**patient: Any) -> Answer:
    """Read one patient as `tgmm predict` does."""
    features, reports = processor()(**patient, on_refusal="report", return_report=True)
    return answer_of(features, reports[0])


def answer_of(features: Mapping[str, Any], report: Mapping[str, Any]) -> Answer:
    """Bring features and report of one patient to an `Answer`. A lab text is compared by the caller."""
    inputs = {key: np.asarray(value) for key, value in features.items()}
    marks = [f"{entry['code']} {entry['item']} {entry['text']}" for entry in report["checks"]]
    marks += [f"refused {entry['item']} {entry['reason']}" for entry in report["refused"]]
    return Answer(inputs, marks + list(report["notes"]))


# ---- judges


def difference(answer: Answer, reference: Answer, tolerance: float) -> str:
    """Say how the model inputs of two answers differ; "" within the tolerance."""
    if set(answer.inputs) != set(reference.inputs):
        return f"has {sorted(answer.inputs)}, right are {sorted(reference.inputs)}"
    for key, right in reference.inputs.items():
        array = answer.inputs[key]
        if array.shape != right.shape:
            return f"{key} has shape {array.shape}, right is {right.shape}"
        distance = float(np.abs(array.astype(np.float64) - right.astype(np.float64)).max(initial=0))
        if not distance <= tolerance:
            return f"{key} is off by {distance:.3g}, tolerance {tolerance:g}"
    return ""


def new_marks(answer: Answer, reference: Answer | None = None, about: str = "") -> list[str]:
    """List the marks that the reference has not; only those that name `about`."""
    known = set(reference.marks) if reference else set()
    return [mark for mark in answer.marks if mark not in known and about.casefold() in mark.casefold()]


def equal(reference: Answer, tolerance: float) -> Judge:
    """Demand the reference's model input. A mark does not excuse another value."""
    return lambda answer: difference(answer, reference, tolerance)


def equal_or_marked(reference: Answer, tolerance: float, about: str = "") -> Judge:
    """Demand the reference's model input, or a mark that the reference has not."""

    def judge(answer: Answer) -> str:
        return "" if new_marks(answer, reference, about) else difference(answer, reference, tolerance)

    return judge


def marked(reference: Answer | None = None, about: str = "") -> Judge:
    """Demand a mark that the reference has not."""
    return lambda answer: "" if new_marks(answer, reference, about) else f"nothing says what is wrong {about}".strip()


# ---- damage


def damaged(random: np.random.Generator, content: bytes) -> tuple[str, bytes]:
    """Flip bits, cut, double or overwrite parts of a file."""
    data = bytearray(content)
    way = str(random.choice(["flip", "flips", "cut", "double", "zero", "noise", "insert", "swap"]))
    start, length = int(random.integers(len(data))), int(random.integers(1, 200))
    if way in ("flip", "flips"):
        for place in random.integers(0, len(data), 1 if way == "flip" else 20):
            data[place] ^= 1 << int(random.integers(8))
    elif way == "cut":
        del data[start:]
    elif way == "double":
        data[start:start] = data[start : start + length]
    elif way == "zero":
        data[start : start + length] = bytes(len(data[start : start + length]))
    elif way == "noise":
        data[start : start + length] = random.bytes(len(data[start : start + length]))
    elif way == "insert":
        data[start:start] = random.bytes(int(random.integers(1, 9)))
    else:
        other = int(random.integers(len(data)))
        data[start : start + 4], data[other : other + 4] = data[other : other + 4], data[start : start + 4]
    return f"{way} at {start} of {len(content)}", bytes(data)
