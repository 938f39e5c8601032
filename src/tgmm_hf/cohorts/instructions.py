"""`tgmm make-instructions`: a data set of ECGs with reports -> an instruction file for MEIT.

FILE        one ECG, instruction and report per row, see `data/instructions.py`; .jsonl or .parquet
FILE.json   the record: settings, tables with sha256, flow, counts; written last
FILE_ecg/   recordings, if the source holds arrays
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tgmm_hf.cohorts.flow import FlowEntry
from tgmm_hf.cohorts.instruction_sources import Source, SourceEntry, Tally
from tgmm_hf.cohorts.instruction_texts import PROBABLE_FROM, drawn_instruction, instruction_wordings
from tgmm_hf.cohorts.instructions_mimic import TABLES, mimic_source, synthetic_source
from tgmm_hf.cohorts.instructions_ptbxl import TEXTS, is_ptbxl, ptbxl_source
from tgmm_hf.cohorts.synthetic.cohort import SETTINGS_FILE
from tgmm_hf.data.instructions import Instruction, check_suffix, new_messages, write_instruction_rows
from tgmm_hf.data.manifest import SPLITS
from tgmm_hf.utils.digests import file_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json, whole_file, write_json
from tgmm_hf.utils.output_lock import one_run_at_a_time
from tgmm_hf.utils.versions import package_versions

COMMAND = "make-instructions"
"""Value of "command" in the record, by which a later run knows its own files."""

OUTSIDE = (
    "The recordings lie outside the directory of the file. They are refused when it is read, unless that is allowed. "
    "Write the file above its recordings to avoid this."
)


@one_run_at_a_time("out")
def make_instructions(
    source: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    wordings: int = 1,
    text: str = "report",
    all_test: bool = False,
) -> dict[str, Any]:
    """Write an instruction file and its record.

    Args:
        source: MIMIC-IV-ECG as PhysioNet ships it, PTB-XL (as shipped, or arrays), or a cohort of `tgmm synth`.
        out: File to write, .jsonl or .parquet.
        seed: Source of the split of MIMIC-IV-ECG, of the wordings, and of the instruction of each ECG.
        wordings: Number of instructions, see `instruction_wordings`.
        text: "report" or "statements", for PTB-XL: the report where there is one, or always the descriptions of the
            SCP codes.
        all_test: Put every ECG into the test split, for data on which a trained model is tried.

    Returns:
        The content of the record.

    Raises:
        FileNotFoundError: If `source` is none of these data sets, or lacks a table.
        FileExistsError: If `out` is there and this command did not write it.
        TgmmError: If a table cannot be used, or no ECG is left.
    """
    source, out = Path(source), Path(out)
    check_suffix(out)
    record = record_of(out)
    refuse_foreign(out, [out, record], COMMAND)
    tally = Tally()
    with open_source(source, out, None if all_test else seed, text) as opened:
        chosen = instruction_wordings(opened.dataset, wordings, seed)
        with whole_file(out) as building:
            entries = tqdm(opened.entries, desc=COMMAND, unit=" ECGs")
            changed = (replace(entry, split="test") for entry in entries) if all_test else entries
            rows = _rows(changed, opened.dataset, out.parent, (chosen, seed), tally)
            write_instruction_rows(rows, building, out.suffix)
            flow = tally.flow(opened.what)
            if not tally.ecgs[""]:
                raise TgmmError(str(source), f"no ECG is left: {'; '.join(flow_lines(flow))}.")
            record.unlink(missing_ok=True)  # an earlier record would not fit the file that gets its name now
    summary = {
        "command": COMMAND,
        "dataset": opened.dataset,
        "settings": {"seed": seed, "wordings": wordings, "text": text, "all_test": all_test},
        "flow": flow,
        "splits": {split: tally.splits[split] for split in SPLITS},
        "languages": dict(sorted(tally.languages.items())),
        "instructions": {instruction: tally.instructions[instruction] for instruction in chosen},
        "notes": opened.notes + ([OUTSIDE] if tally.outside else []),
        "tables": {path.name: file_digest(path) for path in opened.tables},
        "sha256": file_digest(out),
        "versions": package_versions("duckdb", "pyarrow"),
    }
    write_json(record, summary)
    return summary


def record_of(out: Path) -> Path:
    """Return the path of the record of an instruction file."""
    return out.with_name(f"{out.name}.json")


def summary_text(summary: Mapping[str, Any]) -> str:
    """Write the flow and the counts of a record as text for the terminal."""
    counts = {
        "splits": summary["splits"],
        "languages": summary["languages"],
        "ECGs per instruction": {f"wording {k}": n for k, n in enumerate(summary["instructions"].values(), start=1)},
    }
    lines = [f"{title}: " + ", ".join(f"{name} {n:,}" for name, n in count.items()) for title, count in counts.items()]
    return "\n".join([*flow_lines(summary["flow"]), *lines, *(f"note: {note}" for note in summary["notes"])])


def flow_lines(flow: Sequence[FlowEntry]) -> list[str]:
    """Write each entry of a flow as one line."""
    signs = {"start": " ", "excluded": "-", "included": "="}
    return [
        f"{signs[entry['kind']]} {entry['admissions']:>9,} ECGs {entry['patients']:>9,} patients  {entry['reason']}"
        for entry in flow
    ]


@contextmanager
def open_source(
    source: Path, out: Path, seed: int | None, text: str, probable_from: float = PROBABLE_FROM
) -> Iterator[Source]:
    """Find out which data set a directory holds, and open it while the block runs.

    Args:
        source: The directory.
        out: File that is written. Recordings of arrays get their directory beside it.
        seed: Source of the split of MIMIC-IV-ECG. None puts its patients into the test split.
        text: As in [`make_instructions`].
        probable_from: Lowest likelihood, in percent, of a probable statement of PTB-XL.

    Raises:
        FileNotFoundError: If the directory holds none of the data sets, or lacks a table.
        TgmmError: If a table cannot be used, or `text` is not known.
    """
    if text not in TEXTS:
        raise TgmmError("text", f"text is {text!r}; it must be {' or '.join(TEXTS)}.")
    if (source / SETTINGS_FILE).is_file():
        with synthetic_source(source) as opened:
            yield opened
    elif is_ptbxl(source):
        yield ptbxl_source(source, out.with_name(f"{out.name}_ecg"), text, probable_from)
    elif any(table.find(source) for table in TABLES):
        with mimic_source(source, seed) as opened:
            yield opened
    else:
        raise FileNotFoundError(
            f"{source} holds no data set of ECGs with reports. Give the directory of MIMIC-IV-ECG (with record_list.csv"
            " and machine_measurements.csv), of PTB-XL (with ptbxl_database.csv, or .npz arrays and their label table)"
            " or of a cohort of `tgmm synth` (with synth.json)."
        )


def refuse_foreign(out: Path, files: Sequence[Path], command: str) -> None:
    """Refuse to replace files that a command did not write.

    Args:
        out: The file whose record says who wrote it.
        files: All files that would be replaced.
        command: Name of the command.
    """
    record = record_of(out)
    earlier = record.is_file() and read_json(record)
    if isinstance(earlier, dict) and earlier.get("command") == command:
        return
    if foreign := [str(path) for path in files if path.exists()]:
        raise FileExistsError(
            f"{' and '.join(foreign)} would be replaced, and `tgmm {command}` did not write it. Name another file."
        )


def _rows(
    entries: Iterable[SourceEntry], dataset: str, directory: Path, drawing: tuple[tuple[str, ...], int], tally: Tally
) -> Iterator[Instruction]:
    """Count every entry, and make the row of each that is used.

    Args:
        entries: Entries of the source.
        dataset: Name of the data set.
        directory: Directory of the instruction file.
        drawing: Wordings of the instruction, and the seed that draws one for each row.
        tally: Counts, updated here.
    """
    wordings, seed = drawing
    base = directory.absolute()
    for entry in entries:
        tally.count(entry)
        if entry.left_out is not None:
            continue
        instruction = drawn_instruction(wordings, seed, entry.id)
        tally.instructions[instruction] += 1
        ecg = os.path.relpath(entry.ecg.absolute(), base)
        tally.outside += Path(ecg).parts[0] == os.pardir
        yield Instruction(
            *(entry.id, dataset, entry.patient_id, entry.split, ecg),
            new_messages(instruction, entry.report),
            entry.statements,
            entry.language,
        )
