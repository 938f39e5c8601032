"""`tgmm make-bench`: a data set of ECGs with statements -> a bench file, Heartcare-Bench of one's own data.

FILE             the questions, one a row, see `data/instructions.py` and `data/bench_items.py`; .jsonl or .parquet
FILE.README.md   the card: all counts, and whether the texts tell the answers
FILE.json        the record: settings, tables with sha256, flow, counts; written last
FILE_ecg/        recordings, if the source holds arrays
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tgmm_hf.cohorts.bench_card import bench_card
from tgmm_hf.cohorts.bench_counts import bench_counts
from tgmm_hf.cohorts.bench_options import AskedEcg, closed_questions
from tgmm_hf.cohorts.bench_texts import (
    PROBABLE_FROM,
    category_of,
    closed_question,
    drawn_number,
    open_answer,
    open_question,
    question_texts,
    signal_texts,
)
from tgmm_hf.cohorts.finding_reader import PRESENT, read_findings
from tgmm_hf.cohorts.instruction_sources import Source, SourceEntry, Tally
from tgmm_hf.cohorts.instruction_texts import OWN_INSTRUCTIONS, instruction_wordings
from tgmm_hf.cohorts.instructions import OUTSIDE, flow_lines, open_source, record_of, refuse_foreign
from tgmm_hf.cohorts.text_only import CHANCE, above_chance, text_only_check
from tgmm_hf.data.bench_items import (
    ALL,
    CATEGORIES,
    CLOSED,
    KINDS,
    OPEN,
    PREDICTION,
    RECONSTRUCTION,
    REPORT,
    SIGNAL,
    Question,
    Window,
    option_answer,
)
from tgmm_hf.data.instructions import Instruction, Statement, check_suffix, new_messages, write_instruction_rows
from tgmm_hf.data.manifest import SPLITS
from tgmm_hf.utils.digests import file_digest, json_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import whole_file, write_json, write_text
from tgmm_hf.utils.output_lock import one_run_at_a_time
from tgmm_hf.utils.versions import package_versions

COMMAND = "make-bench"
WINDOW_SECONDS, TARGET_SECONDS = 4.0, 1.0
"""Length of the window of a signal question, and of the target after it. Beat has the same lengths."""
RECORDING_SECONDS = 10.0
"""Length of a standard recording. Windows are drawn within it, in steps of half a second."""
READ_FROM_REPORTS = (
    "The source states no truth. The statements of the questions were read from its reports by rules. They are those "
    "of the ECG machine."
)
DRAWN = "At most {} patients of each split were drawn. The flow counts the ECGs before that."
KEPT_AT_ONCE = 50_000
"""Each time the number of kept ECGs reaches a multiple of this, the ECGs of patients outside the draw are removed."""
WORDING_TELLS = (
    "A classifier that reads no ECG answers the closed questions above chance: {}. Look for what the texts tell before "
    "you use the file."
)


@one_run_at_a_time("out")
def make_bench(  # noqa: PLR0913 - the options of the command
    source: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    text: str = "report",
    kinds: Sequence[str] = KINDS,
    patients: int | None = None,
    all_test: bool = False,
) -> dict[str, Any]:
    """Write a bench file, its card and its record.

    Args:
        source: MIMIC-IV-ECG as PhysioNet ships it, PTB-XL (as shipped, or arrays), or a cohort of `tgmm synth`.
        out: File to write, .jsonl or .parquet.
        seed: Source of the split of MIMIC-IV-ECG, of wordings, options and windows.
        text: "report" or "statements", for the reports of PTB-XL: as [`make_instructions`] takes it.
        kinds: Kinds of question to write.
        patients: Largest number of patients of a split. They are drawn by the seed. None takes all.
        all_test: Put every ECG into the test split.

    Returns:
        The content of the record.

    Raises:
        FileNotFoundError: If `source` is none of these data sets, or lacks a table.
        FileExistsError: If one of the files is there and this command did not write it.
        TgmmError: If a table cannot be used, a kind is not known, or no ECG or no question is left.
    """
    source, out = Path(source), Path(out)
    check_suffix(out)
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise TgmmError("kinds", f"{', '.join(unknown)} is not known; known are {', '.join(KINDS)}.")
    record, card = record_of(out), out.with_name(f"{out.name}.README.md")
    refuse_foreign(out, [out, card, record], COMMAND)
    tally = Tally()
    with open_source(source, out, None if all_test else seed, text, PROBABLE_FROM) as opened:
        used = _used(tqdm(opened.entries, desc=COMMAND, unit=" ECGs"), tally, all_test)
        entries = list(used) if patients is None else drawn_patients(used, patients, seed)
    flow = tally.flow(opened.what)
    if not entries:
        raise TgmmError(str(source), f"no ECG is left: {'; '.join(flow_lines(flow))}.")
    rows = list(_rows(entries, opened.dataset, out.parent, seed, kinds))
    if not rows:
        raise TgmmError(str(source), f"no question of the kinds {', '.join(kinds)} can be asked about its ECGs.")
    check = text_only_check(rows)
    summary = {
        "command": COMMAND,
        "dataset": opened.dataset,
        "settings": {
            "seed": seed,
            "text": text,
            "kinds": [kind for kind in KINDS if kind in kinds],
            "patients": patients,
            "all_test": all_test,
        },
        "flow": flow,
        "counts": bench_counts(rows),
        "text_only": check,
        "notes": _notes(opened, entries, rows, above_chance(check))
        + ([] if patients is None else [DRAWN.format(patients)]),
        "tables": {path.name: file_digest(path) for path in opened.tables},
    }
    with whole_file(out) as building:
        write_instruction_rows(rows, building, out.suffix)
        record.unlink(missing_ok=True)  # an earlier record would not fit the file that gets its name now
    summary |= {"sha256": file_digest(out), "versions": package_versions("duckdb", "pyarrow", "scikit-learn")}
    write_text(card, bench_card(out.name, summary))
    write_json(record, summary)
    return summary


def bench_summary(summary: dict[str, Any]) -> str:
    """Write flow and counts of a record as text for the terminal."""
    counts = summary["counts"]
    lines = [*flow_lines(summary["flow"])]
    for split, number in counts["ecgs"].items():
        kinds = ", ".join(f"{kind} {entry[split]:,}" for kind, entry in counts["kinds"].items() if entry[split])
        lines.append(f"{split}: {number:,} ECGs of {counts['patients'][split]:,} patients; {kinds or 'no question'}")
    check = summary["text_only"]
    if "missing" in check:
        lines.append(f"closed questions without the ECG: not measured. {check['missing']}")
    for name, entry in check.get("accuracy", {}).items():
        low, high = entry["all"]["interval"]
        share = f"{entry['all']['accuracy']:.3f} right ({low:.3f} to {high:.3f}); chance is {CHANCE}"
        lines.append(f"closed questions without the ECG, {name}: {share}")
    return "\n".join([*lines, *(f"note: {note}" for note in summary["notes"])])


def _used(entries: Iterable[SourceEntry], tally: Tally, all_test: bool) -> Iterator[SourceEntry]:
    """Count all entries. Return the used entries, which have statements."""
    for entry in entries:
        moved = replace(entry, split="test") if all_test else entry
        tally.count(moved)
        if moved.left_out is None:
            yield moved


def drawn_patients(entries: Iterable[SourceEntry], number: int, seed: int) -> list[SourceEntry]:
    """Keep the ECGs of at most `number` patients of each split, so that few of a large source are in memory.

    Args:
        entries: ECGs of the source, in any order.
        number: Largest number of patients of a split.
        seed: Decides who is drawn. It does not depend on the other patients.
    """
    ranks: dict[tuple[str, str], str] = {}
    kept: list[SourceEntry] = []
    for entry in entries:
        patient = (entry.split, entry.patient_id)
        ranks.setdefault(patient, json_digest([seed, entry.patient_id]))
        kept.append(entry)
        if len(kept) % KEPT_AT_ONCE == 0:
            kept, ranks = _of_first(kept, ranks, number)
    return _of_first(kept, ranks, number)[0]


def _of_first(
    entries: Sequence[SourceEntry], ranks: Mapping[tuple[str, str], str], number: int
) -> tuple[list[SourceEntry], dict[tuple[str, str], str]]:
    """Return the ECGs and the ranks of the first `number` patients of each split, by rank."""
    by_split: dict[str, list[tuple[str, str]]] = {}
    for patient in sorted(ranks, key=ranks.__getitem__):
        by_split.setdefault(patient[0], []).append(patient)
    first = {patient: ranks[patient] for patients in by_split.values() for patient in patients[:number]}
    return [entry for entry in entries if (entry.split, entry.patient_id) in first], first


def present_statements(entry: SourceEntry) -> tuple[Statement, ...]:
    """Return the statements that are present. Where the source states no truth they are read from the report."""
    if entry.statements is not None:
        return tuple(statement for statement in entry.statements if statement.polarity == PRESENT)
    return tuple(Statement(*finding) for finding in read_findings(entry.report).values() if finding.polarity == PRESENT)


def _rows(
    entries: Sequence[SourceEntry], dataset: str, directory: Path, seed: int, kinds: Sequence[str]
) -> Iterator[Instruction]:
    """Make all rows, ECG by ECG.

    Args:
        entries: The used entries.
        dataset: Name of the data set.
        directory: Directory of the bench file.
        seed: Source of all draws.
        kinds: Kinds to write.
    """
    present = {entry.id: present_statements(entry) for entry in entries}
    closed: dict[str, list[Question]] = {}
    for number, split in enumerate(SPLITS):
        if CLOSED in kinds:
            asked = [AskedEcg(entry.id, present[entry.id]) for entry in entries if entry.split == split]
            closed |= closed_questions(asked, seed * len(SPLITS) + number)
    reports, base = instruction_wordings(dataset, 1 + len(OWN_INSTRUCTIONS), seed=0), directory.absolute()
    for entry in entries:
        made = {
            CLOSED: lambda entry=entry: _closed(entry, closed.get(entry.id, []), seed),
            OPEN: lambda entry=entry: _open(entry, present[entry.id], seed),
            REPORT: lambda entry=entry: _report(entry, reports, present[entry.id], seed),
            PREDICTION: lambda entry=entry: _signal(entry, PREDICTION, seed),
            RECONSTRUCTION: lambda entry=entry: _signal(entry, RECONSTRUCTION, seed),
        }
        ecg = os.path.relpath(entry.ecg.absolute(), base)
        for kind in KINDS:
            for name, question, text, answer in made[kind]() if kind in kinds else ():
                yield Instruction(
                    *(f"{entry.id}-{name}", dataset, entry.patient_id, entry.split, ecg),
                    new_messages(text, answer),
                    entry.statements,
                    entry.language if kind == REPORT else "en",
                    question,
                )


Row = tuple[str, Question, str, str]
"""Name of a question within its ECG, the question, its text, and the text of the answer."""


def _closed(entry: SourceEntry, questions: Sequence[Question], seed: int) -> Iterator[Row]:
    """Give the closed questions of an ECG their wording."""
    for number, question in enumerate(questions):
        name = f"closed-{question.category}-{number}"
        template = _template(entry, name, seed, len(question_texts(CLOSED, question.category)))
        text = closed_question(template, question.category, question.options)
        answer = option_answer(question.right, question.options[question.right])
        yield name, replace(question, template=template), text, answer


def _open(entry: SourceEntry, present: Sequence[Statement], seed: int) -> Iterator[Row]:
    """Ask for all statements of each category."""
    for category in CATEGORIES:
        stated = [statement for statement in present if category_of(statement.code) == category]
        name = f"open-{category}"
        template = _template(entry, name, seed, len(question_texts(OPEN, category)))
        question = Question(OPEN, category, template, tuple(statement.code for statement in stated))
        yield name, question, open_question(template, category), open_answer(category, stated, seed, entry.id)


def _report(entry: SourceEntry, wordings: Sequence[str], present: Sequence[Statement], seed: int) -> Iterator[Row]:
    """Ask for the report, in the words of the instruction file."""
    template = _template(entry, REPORT, seed, len(wordings))
    question = Question(REPORT, ALL, template, tuple(statement.code for statement in present))
    yield REPORT, question, wordings[template], entry.report


def _signal(entry: SourceEntry, kind: str, seed: int) -> Iterator[Row]:
    """Ask for what follows a window, or for the window itself."""
    target = TARGET_SECONDS if kind == PREDICTION else 0.0
    places = int(2 * (RECORDING_SECONDS - WINDOW_SECONDS - target)) + 1
    window = Window(drawn_number(seed, f"{entry.id}/{kind}/window", places) / 2, WINDOW_SECONDS, target)
    template = _template(entry, kind, seed, len(question_texts(kind, SIGNAL)))
    yield kind, Question(kind, SIGNAL, template, window=window), *signal_texts(kind, template, window)


def _template(entry: SourceEntry, name: str, seed: int, number: int) -> int:
    """Draw the wording of a question by its name. The answer has no part in it."""
    return drawn_number(seed, f"{entry.id}/{name}", number)


def _notes(
    opened: Source, entries: Sequence[SourceEntry], rows: Sequence[Instruction], telling: Sequence[str]
) -> list[str]:
    """Collect the sentences for the user.

    Args:
        opened: The source.
        entries: The used entries.
        rows: All rows.
        telling: Classifiers that answer from the texts.
    """
    notes = list(opened.notes)
    if any(entry.statements is None for entry in entries):
        notes.append(READ_FROM_REPORTS)
    if any(Path(row.ecg).parts[0] == os.pardir for row in rows):
        notes.append(OUTSIDE)
    if telling:
        notes.append(WORDING_TELLS.format(", ".join(telling)))
    return notes
