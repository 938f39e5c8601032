"""The instruction file: ECGs with an instruction and a report each, for training and evaluating MEIT.

`tgmm make-instructions` writes such a file. It is JSONL (one JSON object a line) or Parquet, by the ending of its name.
An object has these keys. In Parquet they are columns, and `messages`, `statements` and `question` hold JSON text.

    id          name of the ECG, unique in the file
    dataset     "mimic-iv-ecg", "ptb-xl" or "synthetic"
    patient_id  name of the patient; all ECGs of a patient are in one split
    split       "train", "validation" or "test"
    ecg         path of the recording, relative to the directory of this file, as `read_ecg` takes it
    messages    [{"role": "user", "content": [{"type": "ecg"}, {"type": "text", "text": INSTRUCTION}]},
                 {"role": "assistant", "content": REPORT}]
    statements  [{"code", "polarity", "certainty"}, ...], or no key if no truth is known, as for MIMIC-IV-ECG
    language    "en", "de" or "sv"; no key if it is not known
    question    what a row of a bench file asks, see `data/bench_items.py`; no key in other files

A bench file has several rows for one ECG, so its `id` names the question, and `ecg` names the ECG.
`code` is a code of `cohorts/ecg_statements.py`. `polarity` is "present" or "absent". `certainty` is "definite",
"probable", "possible", or "unstated" if the source gives no likelihood. A code that is not listed was not stated.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tgmm_hf.data.bench_items import REPORT, TEXT_KINDS, Question, checked_question, question_content
from tgmm_hf.data.manifest import SPLITS
from tgmm_hf.inputs.echo_reading import leads_outside
from tgmm_hf.utils.errors import TgmmError

SUFFIXES = (".jsonl", ".parquet")
POLARITIES = ("present", "absent")
CERTAINTIES = ("definite", "probable", "possible", "unstated")
TEXT_KEYS = ("id", "dataset", "patient_id", "split", "ecg")
"""Keys that every row has, with a text."""
ROLES = ("system", "user", "assistant")
JSON_KEYS = ("messages", "statements", "question")
"""Keys whose value is JSON text in a Parquet file."""
BATCH = 4096
"""Rows of a Parquet file that are decoded or written at a time."""


@dataclass(frozen=True)
class Statement:
    """One finding that is known to be present in, or absent from, an ECG.

    Attributes:
        code: Code of the finding, of `cohorts/ecg_statements.py`.
        polarity: One of `POLARITIES`.
        certainty: One of `CERTAINTIES`.
    """

    code: str
    polarity: str = "present"
    certainty: str = "definite"


@dataclass(frozen=True)
class Instruction:
    """One row of an instruction file.

    Attributes:
        id: Name of the ECG.
        dataset: Name of the data set.
        patient_id: Name of the patient.
        split: One of `SPLITS`.
        ecg: Path of the recording. From [`read_instructions`] it includes the directory of the instruction file.
        messages: The conversation. Its ECG block holds no file.
        statements: The truth for scoring. None if no truth is known; empty if the source states nothing.
        language: Language of the report, None if it is not known.
        question: What the row of a bench file asks. None in other files, whose rows all ask for a report.
    """

    id: str
    dataset: str
    patient_id: str
    split: str
    ecg: str
    messages: list[dict[str, Any]]
    statements: tuple[Statement, ...] | None = None
    language: str | None = None
    question: Question | None = None

    @property
    def kind(self) -> str:
        """Return the kind of the question. A row without one asks for a report."""
        return REPORT if self.question is None else self.question.kind

    @property
    def report(self) -> str:
        """Return the text of the last answer of the assistant."""
        return str(next(message["content"] for message in reversed(self.messages) if message["role"] == "assistant"))

    @property
    def instruction(self) -> str:
        """Return the text of the last message of the user, without the ECG block."""
        content = next(message["content"] for message in reversed(self.messages) if message["role"] == "user")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        return "".join(block["text"] for block in blocks if block["type"] == "text")

    def conversation(self, with_answer: bool = True) -> list[dict[str, Any]]:
        """Return the messages with the path of the recording in the ECG block, for `apply_chat_template`.

        Args:
            with_answer: False leaves out the last message, which is the answer.
        """
        messages = self.messages if with_answer else self.messages[:-1]
        return [
            {**message, "content": [self._with_file(block) for block in message["content"]]}
            if isinstance(message["content"], list)
            else message
            for message in messages
        ]

    def _with_file(self, block: dict[str, Any]) -> dict[str, Any]:
        """Return a block of a message, with the path of the recording if it is the ECG block."""
        return {"type": "ecg", "ecg": self.ecg} if block["type"] == "ecg" else block


def asked_in(row: Instruction) -> Question:
    """Return the question of a row of a bench file.

    Raises:
        TgmmError: If the row has none.
    """
    if row.question is None:
        raise TgmmError("question", "a row has none. Give a file of `tgmm make-bench`.")
    return row.question


def holds_questions(path: str | Path) -> bool:
    """Tell whether a file is a bench file, by its first row. A directory and a file of another kind are none."""
    path = Path(path)
    if path.suffix not in SUFFIXES or not path.is_file():
        return False
    _, first = next(_numbered_objects(path), (0, None))
    return isinstance(first, Mapping) and first.get("question") is not None


def rows_in_words(rows: Iterable[Instruction]) -> list[Instruction]:
    """Return the rows that are answered in words. Rows of a bench file that ask for a signal are left out."""
    return [row for row in rows if row.kind in TEXT_KINDS]


def report_rows(rows: Iterable[Instruction]) -> list[Instruction]:
    """Return the rows that ask for a report. Of a file that is no bench file, these are all rows."""
    return [row for row in rows if row.kind == REPORT]


def one_row_of_each_ecg(rows: Sequence[Instruction]) -> list[int]:
    """Return the number of one row of each ECG, in the order of the rows: the row that asks for a report, if any."""
    chosen: dict[str, int] = {}
    for number, row in enumerate(rows):
        if row.ecg not in chosen or (row.kind == REPORT and rows[chosen[row.ecg]].kind != REPORT):
            chosen[row.ecg] = number
    return sorted(chosen.values())


def new_messages(instruction: str, report: str) -> list[dict[str, Any]]:
    """Write an instruction and a report as the messages of one row."""
    content = [{"type": "ecg"}, {"type": "text", "text": instruction}]
    return [{"role": "user", "content": content}, {"role": "assistant", "content": report}]


# ---- reading


def read_instructions(path: str | Path, split: str | None = None, *, allow_outside: bool = False) -> list[Instruction]:
    """Read an instruction file.

    Args:
        path: The file, .jsonl or .parquet.
        split: Return the rows of this split only. None returns all rows. All rows are checked in both cases.
        allow_outside: Accept recordings outside the directory of the file. Give it for a file of your own only.

    Returns:
        The rows in the order of the file. `ecg` is a path that can be opened.

    Raises:
        TgmmError: If a row lacks a key or has a value that its key does not take, an id stands twice, a patient is in
            two splits, a recording lies outside the directory, or no row is left. The error names the row's number.
        FileNotFoundError: If there is no such file.
    """
    path = Path(path)
    if split is not None and split not in SPLITS:
        raise TgmmError("split", f"{split!r} is not known; known are {', '.join(SPLITS)}.")
    rows: list[Instruction] = []
    ids: set[str] = set()
    splits: dict[str, str] = {}
    for number, content in _numbered_objects(path):
        row = _checked_row(f"{path.name}, row {number}", content, path.parent, allow_outside)
        if row.id in ids:
            raise TgmmError(f"{path.name}, row {number}", "its id stands in an earlier row too. Keep one of the rows.")
        ids.add(row.id)
        if splits.setdefault(row.patient_id, row.split) != row.split:
            raise TgmmError(
                f"{path.name}, row {number}",
                f"its patient is in the splits {splits[row.patient_id]} and {row.split}. Split by patient.",
            )
        if split in (None, row.split):
            rows.append(row)
    if not rows:
        raise TgmmError(path.name, f"no row{'' if split is None else f' of the split {split}'} among {len(ids)} rows.")
    return rows


def _numbered_objects(path: Path) -> Iterator[tuple[int, Any]]:
    """Read the rows of a file one by one, each with its number from 1."""
    check_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. `tgmm make-instructions` writes such a file.")
    yield from enumerate(_json_lines(path) if path.suffix == ".jsonl" else _parquet_rows(path), start=1)


def check_suffix(path: Path) -> None:
    """Refuse a file whose name does not end with one of `SUFFIXES`."""
    if path.suffix not in SUFFIXES:
        raise TgmmError(str(path), f"ends with {path.suffix!r}; an instruction file ends with {' or '.join(SUFFIXES)}.")


def _json_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _parsed(line, f"{path.name}, line {number}")


def _parsed(text: str, item: str) -> Any:
    """Parse JSON text. The message of an error does not quote the text, because it may be a patient's report."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise TgmmError(item, "this is not valid JSON. Write the file anew.") from None


def _parquet_rows(path: Path) -> Iterator[Any]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                for number, row in enumerate(batch.to_pylist(), start=1):
                    for key in JSON_KEYS:
                        if isinstance(row.get(key), str):
                            row[key] = _parsed(row[key], f"{path.name}, {key} of row {number} of a batch")
                    yield {key: value for key, value in row.items() if value is not None}
    except pa.ArrowException as error:
        raise TgmmError(path.name, f"cannot be read as Parquet: {type(error).__name__}. Write it anew.") from None


def _checked_row(item: str, content: Any, directory: Path, allow_outside: bool) -> Instruction:
    """Check one row, and return it as an `Instruction`.

    Args:
        item: Name of the row, for an error message.
        content: The parsed row.
        directory: Directory of the instruction file.
        allow_outside: As in [`read_instructions`].
    """
    if not isinstance(content, dict):
        raise TgmmError(item, f"holds a {type(content).__name__}, expected an object with keys.")
    if wrong := [key for key in TEXT_KEYS if not (isinstance(content.get(key), str) and content[key])]:
        raise TgmmError(item, f"{', '.join(wrong)} must hold a text that is not empty.")
    if content["split"] not in SPLITS:
        raise TgmmError(item, f"its split is none of {', '.join(SPLITS)}.")
    ecg = directory / content["ecg"]
    if not allow_outside and leads_outside(ecg, directory):
        raise TgmmError(
            item,
            "its recording lies outside the directory of the instruction file. Move the file above its recordings, or "
            "allow it (allow_outside) if you trust who wrote the file.",
        )
    statements, question = content.get("statements"), content.get("question")
    return Instruction(
        **{key: content[key] for key in TEXT_KEYS if key != "ecg"},
        ecg=str(ecg),
        messages=_checked_messages(item, content.get("messages")),
        statements=None if statements is None else tuple(_checked_statements(item, statements)),
        language=content.get("language"),
        question=None if question is None else checked_question(item, question),
    )


def _checked_messages(item: str, messages: Any) -> list[dict[str, Any]]:
    """Check that messages have one ECG block and end with an answer of the assistant."""
    form = (
        "messages must be a list of {role, content} with one block {type: ecg}, and end with a text of the assistant."
    )
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise TgmmError(item, form)
    blocks = [block for message in messages if isinstance(message["content"], list) for block in message["content"]]
    ecgs = sum(block["type"] == "ecg" for block in blocks)
    last = messages[-1] if messages else {"role": "nobody", "content": ""}
    if ecgs != 1 or last["role"] != "assistant" or not isinstance(last["content"], str) or not last["content"].strip():
        raise TgmmError(item, f"{form} It has {ecgs} such block(s), and the last message is by {last['role']}.")
    return messages


def _is_message(message: Any) -> bool:
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
        return False
    content = message.get("content")
    return isinstance(content, str) or (isinstance(content, list) and all(map(_is_block, content)))


def _is_block(block: Any) -> bool:
    if not isinstance(block, Mapping):
        return False
    return block.get("type") == "ecg" or (block.get("type") == "text" and isinstance(block.get("text"), str))


def _checked_statements(item: str, statements: Any) -> Iterator[Statement]:
    """Check the statements of a row, and make `Statement`s of them."""
    for entry in statements if isinstance(statements, list) else [statements]:
        is_object = isinstance(entry, dict) and isinstance(entry.get("code"), str)
        if not is_object or entry.get("polarity") not in POLARITIES or entry.get("certainty") not in CERTAINTIES:
            raise TgmmError(
                item,
                f"statements must be a list of {{code, polarity, certainty}}; polarity is one of "
                f"{', '.join(POLARITIES)}, certainty one of {', '.join(CERTAINTIES)}.",
            )
        yield Statement(entry["code"], entry["polarity"], entry["certainty"])


# ---- writing


def write_instruction_rows(rows: Iterable[Instruction], building: Path, suffix: str) -> None:
    """Write rows into the file `building`, one after the other, so that any number fits into memory.

    Args:
        rows: The rows. `ecg` is relative to the directory of the finished file.
        building: File to write, see `utils/files.whole_file`.
        suffix: One of `SUFFIXES`, the form of the file.
    """
    if suffix == ".jsonl":
        with building.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(_content(row), ensure_ascii=False) + "\n" for row in rows)
        return
    schema = pa.schema([(key, pa.string()) for key in (*TEXT_KEYS, *JSON_KEYS, "language")])
    with pq.ParquetWriter(building, schema) as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            content = _content(row)
            batch.append(
                {
                    key: json.dumps(value, ensure_ascii=False) if key in JSON_KEYS else value
                    for key, value in content.items()
                }
            )
            if len(batch) == BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch = []
        writer.write_table(pa.Table.from_pylist(batch, schema))


def _content(row: Instruction) -> dict[str, Any]:
    """Return a row as the value that JSON holds. What is not known has no key."""
    content: dict[str, Any] = {key: getattr(row, key) for key in TEXT_KEYS} | {"messages": row.messages}
    if row.statements is not None:
        content["statements"] = [vars(statement) for statement in row.statements]
    if row.language is not None:
        content["language"] = row.language
    return content if row.question is None else content | {"question": question_content(row.question)}
