"""The card of a bench file: what it holds, how it was made, and whether its texts tell the answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from tgmm_hf.cohorts.bench_texts import categories_of, category_of, question_texts
from tgmm_hf.cohorts.ecg_statements import BY_CODE
from tgmm_hf.cohorts.instruction_texts import OWN_INSTRUCTIONS, instruction_wordings
from tgmm_hf.cohorts.instructions import flow_lines
from tgmm_hf.data.bench_items import ALL, KINDS, LETTERS, REPORT
from tgmm_hf.data.manifest import SPLITS

HOW = """\
* **Closed questions** have four options of one category. None of the three wrong options is true of the ECG: neither
  stated, nor what may follow from a statement (a table in `cohorts/bench_options.py`). They come in blocks of four ECGs
  and four statements. The four questions of a block show the same four texts, and each text is right once. So a
  statement is a wrong option three times as often as it is the right one, in every set of options.
* **Open questions** ask for all statements of a category. Where nothing is stated, the answer says so.
* **Report** rows are those of `tgmm make-instructions`.
* **Prediction and reconstruction** rows name a window of the recording. Their answer is the signal itself.
* **Certainty** stands in the words: a likelihood of 100 % is plain, from 80 % "highly likely" and the like, below
  "possible" and the like. 0 means in PTB-XL that nothing is stated, and is plain.
* Wordings, options and windows are drawn from the seed. All questions of a patient are in one split."""


def bench_card(name: str, summary: Mapping[str, Any]) -> str:
    """Write the card in Markdown.

    Args:
        name: Name of the bench file.
        summary: Content of its record.
    """
    counts, settings = summary["counts"], summary["settings"]
    parts = [
        f"# {name}",
        f"Questions about ECGs of {summary['dataset']}, made by `tgmm make-bench` of tgmm-hf. Seed {settings['seed']}. "
        f"{counts['rows']:,} rows. sha256 {summary['sha256']}.",
        "**Research software. Not a medical device.** The file names recordings and holds reports. Where these are "
        "patient data, the file is patient data.",
        "\n".join(f"* {note}" for note in summary["notes"]),
        "## How it was made",
        HOW,
        "## ECGs",
        "```\n" + "\n".join(flow_lines(summary["flow"])) + "\n```",
        _table(["split", "ECGs", "patients"], [[s, counts["ecgs"][s], counts["patients"][s]] for s in SPLITS]),
        "## Do the texts tell the answers?",
        _text_only(summary["text_only"]),
        "## Rows",
        _table(["kind", *SPLITS], _by_split(counts["kinds"])),
        _table(["kind / category", *SPLITS], _by_split(counts["categories"])),
        "## Right letters",
        _table(["category", *LETTERS], [[category, *entry.values()] for category, entry in counts["letters"].items()]),
        "## Statements",
        _table(["code", "statement", "category", "open answers", "right option", "wrong option"], _codes(counts)),
        "## Wordings",
        _table(["kind / category / number", "rows", "wording"], _wordings(counts["templates"], summary["dataset"])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _by_split(entries: Mapping[str, Mapping[str, int]]) -> list[list[Any]]:
    """Return one line for each name, with its number in each split."""
    return [[name, *(entry[split] for split in SPLITS)] for name, entry in entries.items()]


def _codes(counts: Mapping[str, Any]) -> list[list[Any]]:
    """Return one line for each statement."""
    return [
        [code, BY_CODE[code].description if code in BY_CODE else "", category_of(code) or "", *entry.values()]
        for code, entry in counts["statements"].items()
    ]


def _wordings(templates: Mapping[str, int], dataset: str) -> list[list[Any]]:
    """Return one line for each wording that occurs.

    Args:
        templates: "kind / category / number" -> rows.
        dataset: Name of the data set, whose published instruction is the first wording of a report.
    """
    texts = {
        f"{kind} / {category} / {number}": text
        for kind in KINDS
        for category in categories_of(kind)
        for number, text in enumerate(question_texts(kind, category))
    }
    reports = instruction_wordings(dataset, 1 + len(OWN_INSTRUCTIONS), seed=0)
    texts |= {f"{REPORT} / {ALL} / {number}": text for number, text in enumerate(reports)}
    return [[name, number, texts[name]] for name, number in templates.items()]


def _text_only(check: Mapping[str, Any]) -> str:
    """Write the figures of the classifiers that read no ECG."""
    if "missing" in check:
        return f"Not measured: {check['missing']}"
    how = "learned from the train split, asked on the others" if check["how"] == "train split" else "five folds"
    rows = [
        [
            name,
            category,
            figures["n"],
            f"{figures['accuracy']:.3f}",
            f"{figures['interval'][0]:.3f} to {figures['interval'][1]:.3f}",
        ]
        for name, entry in check["accuracy"].items()
        for category, figures in entry.items()
    ]
    table = _table(["classifier", "category", "questions", "right", "95 % interval (Wilson)"], rows)
    return (
        f"Classifiers that see question and options, and no ECG ({how}). Chance is 0.250. The choice of the options "
        "leaves nothing better, whoever knows how frequent the statements are. Single figures scatter around chance."
        f"\n\n{table}"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Write a table in Markdown. Numbers get separators of thousands."""
    if not rows:
        return "None."
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")
