"""`tgmm make-bench`: the options do not tell the answer, wrong options are wrong, and everything is counted."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import run
from ptbxl_files import write_arrays

from tgmm_hf.cohorts import bench
from tgmm_hf.cohorts.bench import make_bench
from tgmm_hf.cohorts.bench_options import IMPLIED, AskedEcg, closed_questions
from tgmm_hf.cohorts.bench_texts import (
    categories_of,
    category_of,
    closed_question,
    drawn_number,
    question_texts,
    statement_text,
)
from tgmm_hf.cohorts.ecg_statements import find_mentions
from tgmm_hf.cohorts.finding_reader import read_findings
from tgmm_hf.cohorts.instruction_texts import statements_of_codes
from tgmm_hf.cohorts.text_only import CHANCE, CLASSIFIERS, above_chance, text_only_check
from tgmm_hf.data.bench_items import KINDS, LETTERS, Question
from tgmm_hf.data.instructions import Instruction, Statement, new_messages, read_instructions, rows_in_words

FREQUENCIES = {
    **{"SR": 0.7, "AFIB": 0.1, "STACH": 0.06, "SARRH": 0.05, "SBRAD": 0.05, "PACE": 0.04},
    **{"NORM": 0.5, "IMI": 0.15, "LVH": 0.12, "CLBBB": 0.08, "ISC_": 0.08, "1AVB": 0.05, "ASMI": 0.05},
}
SURE = ("definite", "probable", "possible", "unstated")


def made_up_ecgs(number: int, seed: int) -> list[AskedEcg]:
    """ECGs with statements of very different frequency; a rare statement is mostly doubted."""
    generator = np.random.default_rng(seed)
    ecgs = []
    for index in range(number):
        codes = [code for code, share in FREQUENCIES.items() if generator.random() < share]
        sure = [SURE[0] if FREQUENCIES[code] > 0.3 else SURE[generator.integers(1, 4)] for code in codes]
        ecgs.append(AskedEcg(f"{seed}-{index:04d}", tuple(map(Statement, codes, ["present"] * len(codes), sure))))
    return ecgs


def as_rows(questions: dict[str, list[Question]], split: str) -> list[Instruction]:
    """Rows of a bench file with these closed questions."""
    return [
        Instruction(
            *(f"{name}-{number}", "synthetic", name, split, name),
            new_messages(closed_question(drawn_number(0, name, 5), question.category, question.options), "x"),
            question=question,
        )
        for name, asked in questions.items()
        for number, question in enumerate(asked)
    ]


def naive_questions(ecgs: list[AskedEcg], seed: int) -> dict[str, list[Question]]:
    """Closed questions as one would make them without thinking: plain wrong options, drawn evenly."""
    generator = np.random.default_rng(seed)
    questions: dict[str, list[Question]] = {}
    for ecg in ecgs:
        present = {one.code for one in ecg.statements}
        for one in ecg.statements:
            category = category_of(one.code)
            wrong = [code for code in FREQUENCIES if category_of(code) == category and code not in present]
            if len(wrong) < 3:
                continue
            order = [str(code) for code in generator.choice(wrong, 3, replace=False)]
            right = int(generator.integers(4))
            order.insert(right, one.code)
            texts = tuple(statement_text(one if code == one.code else Statement(code), 0, ecg.id) for code in order)
            question = Question("closed", category, 0, (one.code,), texts, tuple(order), LETTERS[right])
            questions.setdefault(ecg.id, []).append(question)
    return questions


def test_every_text_is_right_once_and_wrong_three_times_in_its_block() -> None:
    ecgs = made_up_ecgs(600, 1)
    questions = closed_questions(ecgs, seed=3)
    asked = [(name, question) for name, several in questions.items() for question in several]
    blocks = Counter((frozenset(question.options), question.codes[0]) for _, question in asked)
    sets = Counter(frozenset(question.options) for _, question in asked)
    assert len(asked) > 200
    for texts, number in sets.items():
        assert [count * 4 for (options, _), count in blocks.items() if options == texts] == [number] * 4
    for category in {question.category for _, question in asked}:
        letters = Counter(question.letter for _, question in asked if question.category == category)
        assert len(set(letters.values())) == 1 and set(letters) == set(LETTERS)
    shown = Counter(code for _, question in asked for code in question.option_codes)
    right = Counter(question.codes[0] for _, question in asked)
    assert all(shown[code] == 4 * right[code] for code in shown)
    assert right["NORM"] > right["ASMI"]  # frequent as the answer, and as a wrong option


def test_wrong_options_are_not_true_of_the_ecg_and_each_statement_is_asked_once() -> None:
    ecgs = {ecg.id: ecg for ecg in made_up_ecgs(600, 1)}
    for name, questions in closed_questions(list(ecgs.values()), seed=3).items():
        present = {one.code: one for one in ecgs[name].statements}
        for question in questions:
            (code,) = question.codes
            assert {category_of(option) for option in question.option_codes} == {question.category}
            assert question.option_codes[question.right] == code and code in present
            wrong = set(question.option_codes) - {code}
            assert not wrong & set(present) and not wrong & {one for each in present for one in IMPLIED[each]}
        assert max(Counter(question.codes for question in questions).values()) == 1


def test_a_statement_that_follows_from_another_is_no_wrong_option() -> None:
    """ "Myocardial infarction, anterior" is not wrong of an anteroseptal one, though nobody stated it."""
    ecgs = [AskedEcg(f"{code}{n}", (Statement(code),)) for code in ("AMI", "ASMI", "NORM", "LVH") for n in range(9)]
    assert closed_questions(ecgs, seed=0) == {}
    more = [AskedEcg(f"CLBBB{n}", (Statement("CLBBB"),)) for n in range(9)]
    asked = [question for several in closed_questions(ecgs + more, seed=0).values() for question in several]
    assert asked and not any({"AMI", "ASMI"} <= set(question.option_codes) for question in asked)


def test_questions_do_not_depend_on_the_order_of_the_ecgs_but_on_the_seed() -> None:
    ecgs = made_up_ecgs(200, 1)
    assert closed_questions(ecgs, seed=3) == closed_questions(ecgs[::-1], seed=3) != closed_questions(ecgs, seed=4)


def test_texts_alone_stay_at_chance_and_a_naive_choice_of_options_is_found() -> None:
    right, n = dict.fromkeys(CLASSIFIERS, 0), 0
    for seed in range(3):
        train, test = made_up_ecgs(500, 2 * seed), made_up_ecgs(250, 2 * seed + 1)
        rows = as_rows(closed_questions(train, seed), "train") + as_rows(closed_questions(test, seed), "test")
        check = text_only_check(rows)
        assert check["how"] == "train split" and above_chance(check) == []
        n += check["n"]
        for name in CLASSIFIERS:
            right[name] += round(check["accuracy"][name]["all"]["accuracy"] * check["n"])
        naive = text_only_check(
            as_rows(naive_questions(train, seed), "train") + as_rows(naive_questions(test, 9), "test")
        )
        assert above_chance(naive) == list(CLASSIFIERS)
        assert all(naive["accuracy"][name]["all"]["accuracy"] > 0.4 for name in CLASSIFIERS)
    for name in CLASSIFIERS:
        assert abs(right[name] / n - CHANCE) < 4 * np.sqrt(CHANCE * (1 - CHANCE) / n), name


def test_without_a_train_split_the_texts_are_tried_in_folds() -> None:
    rows = as_rows(closed_questions(made_up_ecgs(400, 5), 0), "test")
    assert text_only_check(rows)["how"] == "folds"
    assert "too few" in text_only_check(rows[:20])["missing"]


@pytest.mark.parametrize("kind", ["open", "closed", "prediction", "reconstruction"])
def test_no_question_names_a_statement(kind: str) -> None:
    for category in categories_of(kind):
        texts = question_texts(kind, category)
        assert len(set(texts)) == len(texts) >= 3
        assert all(find_mentions(text) == [] for text in texts)


def test_certainty_is_in_the_words_and_can_be_read_from_them() -> None:
    likelihoods = {"IMI": 100.0, "LVH": 80.0, "AMI": 79.0, "LMI": 15.0, "SR": 0.0}
    statements = {one.code: one for one in statements_of_codes(likelihoods, probable_from=80)}
    expected = {"IMI": "definite", "LVH": "probable", "AMI": "possible", "LMI": "possible", "SR": "definite"}
    for code, certainty in expected.items():
        for number in range(8):
            text = statement_text(statements[code], 0, str(number))
            assert {(one.code, one.certainty) for one in read_findings(text).values()} == {(code, certainty)}
    assert len({statement_text(statements["LMI"], 0, str(number)) for number in range(20)}) > 1


# ---- the command


REPORTS = (
    "Sinus rhythm|Normal ECG",
    "Atrial fibrillation|Probable inferior infarct|ST depression",
    "Sinus tachycardia|Left ventricular hypertrophy|T wave inversion",
    "Sinus bradycardia|1st degree A-V block|Low QRS voltages",
    "Atrial flutter|Complete left bundle branch block|No ST elevation",
    "Sinus rhythm|Possible lateral infarct|Prolonged QT interval",
)


@pytest.fixture
def mimic(tmp_path: Path) -> Path:
    """Recordings in the layout of MIMIC-IV-ECG, two a patient. Only their headers are there, because no ECG is read."""
    directory = tmp_path / "mimic"
    rows = []
    for number in range(120):
        path = f"files/s{number}"
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / f"{path}.hea").touch()
        lines = dict(zip(("report_0", "report_1", "report_2"), REPORTS[number % 6].split("|"), strict=False))
        rows.append({"subject_id": 70000 + number // 2, "study_id": number, "path": path} | lines)
    table = pd.DataFrame(rows)
    table[["subject_id", "study_id", "path"]].to_csv(directory / "record_list.csv", index=False)
    table.drop(columns="path").to_csv(directory / "machine_measurements.csv", index=False)
    return directory


def test_the_card_counts_what_the_file_holds(mimic: Path) -> None:
    out = mimic / "bench.jsonl"
    summary = make_bench(mimic, out, seed=2)
    rows = read_instructions(out)
    counts = summary["counts"]
    assert counts["rows"] == len(rows) and {row.kind for row in rows} == set(KINDS)
    for kind in KINDS:
        for split in ("train", "validation", "test"):
            assert counts["kinds"][kind][split] == sum(row.kind == kind and row.split == split for row in rows)
    assert sum(counts["templates"].values()) == len(rows)
    assert all(row.statements is None for row in rows) and any("read from" in note for note in summary["notes"])
    opened = {row.id: row for row in rows if row.kind == "open"}
    # study 4: flutter, left bundle branch block, and a denied elevation, which is no statement
    assert (opened["4-open-rhythm"].report, opened["4-open-form"].report) == (
        "atrial flutter",
        "no statement about the form",
    )
    assert opened["1-open-diagnosis"].report.endswith("inferior myocardial infarction")
    assert opened["1-open-diagnosis"].report != "inferior myocardial infarction"
    closed = [row for row in rows if row.kind == "closed"]
    for row in closed:
        letter, words = row.report.split(". ", 1)
        assert row.question.letter == letter and row.question.options[row.question.right] == words
        assert [line.split(". ", 1)[1] for line in row.instruction.split("\n")[1:5]] == list(row.question.options)
    splits = {row.patient_id: row.split for row in rows}
    assert all(splits[row.patient_id] == row.split for row in rows)
    assert {row.question.window.seconds for row in rows if row.kind == "prediction"} == {4.0}
    assert all(row.question.window.start + 5 <= 10 for row in rows if row.kind == "prediction")
    assert not {row.kind for row in rows_in_words(rows)} & {"prediction", "reconstruction"}
    card = (mimic / "bench.jsonl.README.md").read_text()
    assert f"{len(rows):,}" in card and summary["sha256"] in card and "patient data" in card
    assert not any(row.patient_id in card.split() for row in rows)
    record = json.loads((mimic / "bench.jsonl.json").read_text())
    assert record["counts"] == counts and record["sha256"] == summary["sha256"]


def test_parquet_holds_the_same_rows_and_kinds_can_be_chosen(mimic: Path, capsys) -> None:
    make_bench(mimic, mimic / "bench.jsonl")
    assert run("make-bench", mimic, "--out", mimic / "bench.parquet") == 0
    printed = capsys.readouterr()
    assert "closed questions without the ECG" in printed.out and "fibrillation" not in (printed.out + printed.err)
    assert read_instructions(mimic / "bench.parquet") == read_instructions(mimic / "bench.jsonl")
    assert run("make-bench", mimic, "--out", mimic / "few.jsonl", "--kind", "open", "--kind", "closed") == 0
    assert {row.kind for row in read_instructions(mimic / "few.jsonl")} == {"open", "closed"}
    assert run("make-bench", mimic, "--out", mimic / "all.jsonl", "--kind", "report", "--all-test") == 0
    assert {row.split for row in read_instructions(mimic / "all.jsonl")} == {"test"}


def test_few_patients_can_be_drawn_whatever_the_order(mimic: Path, monkeypatch) -> None:
    make_bench(mimic, mimic / "few.jsonl", patients=4)
    rows = read_instructions(mimic / "few.jsonl")
    drawn = {(row.split, row.patient_id) for row in rows}
    assert Counter(split for split, _ in drawn) == {"train": 4, "validation": 4, "test": 4}
    assert len({row.ecg for row in rows}) == 24  # both ECGs of each patient
    monkeypatch.setattr(bench, "KEPT_AT_ONCE", 7)
    make_bench(mimic, mimic / "again.jsonl", patients=4)
    assert read_instructions(mimic / "again.jsonl") == rows


@pytest.mark.slow
def test_every_process_writes_the_same_bytes(mimic: Path) -> None:
    out = mimic / "1.jsonl"
    words = [sys.executable, "-m", "tgmm_hf.cli", "make-bench", str(mimic), "--out", str(out), "--seed", "5"]
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    digest = json.loads((mimic / "1.jsonl.json").read_text())["sha256"]
    assert digest == make_bench(mimic, mimic / "2.jsonl", seed=5)["sha256"]
    assert digest != make_bench(mimic, mimic / "2.jsonl", seed=6)["sha256"]


def test_foreign_files_and_wrong_words_stop_without_a_file(mimic: Path, tmp_path: Path) -> None:
    out = mimic / "bench.jsonl"
    with pytest.raises(ValueError, match="riddle is not known"):
        make_bench(mimic, out, kinds=("closed", "riddle"))
    (mimic / "bench.jsonl.README.md").write_text("mine")
    with pytest.raises(FileExistsError, match=r"README\.md would be replaced"):
        make_bench(mimic, out)
    assert not out.exists() and (mimic / "bench.jsonl.README.md").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="holds no data set"):
        make_bench(tmp_path / "nothing", tmp_path / "b.jsonl")


def test_likelihoods_of_ptbxl_are_worded_from_80(tmp_path: Path) -> None:
    (tmp_path / "arrays").mkdir()
    write_arrays(tmp_path / "arrays")
    labels = tmp_path / "arrays" / "labels.csv"
    labels.write_text(labels.read_text().replace('""IMI"": 35.0', '""IMI"": 50.0'))
    summary = make_bench(tmp_path / "arrays", tmp_path / "bench.jsonl")
    rows = {row.id: row for row in read_instructions(tmp_path / "bench.jsonl")}
    assert read_findings(rows["1-open-diagnosis"].report)["IMI"].certainty == "possible"
    assert {one.code: one.certainty for one in rows["1-report"].statements}["IMI"] == "possible"
    assert summary["counts"]["kinds"]["closed"] == {"train": 0, "validation": 0, "test": 0}  # two diagnoses are too few


# ---- reading


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "riddle"}, "kind is one of"),
        ({"category": "signal"}, "category"),
        ({"template": -1}, "template"),
        ({"options": ["a", "b", "c"]}, "3 different options"),
        ({"options": ["a", "a", "b", "c"]}, "3 different options"),
        ({"letter": "E"}, "letter"),
        ({"letter": "B"}, "code of the right option"),
        ({"option_codes": "SR"}, "option_codes"),
        ({"kind": "prediction", "category": "signal", "window": {"start": 0, "seconds": 4}}, "window"),
        (
            {"kind": "prediction", "category": "signal", "window": {"start": 0, "seconds": 4, "target_seconds": 0}},
            "0 s",
        ),
    ],
)
def test_a_wrong_question_is_refused_without_its_text(change: dict, message: str, tmp_path: Path) -> None:
    (question,) = closed_questions(made_up_ecgs(200, 1), seed=0).popitem()[1][:1]
    codes = ["SR", "AFIB", "STACH", "PACE"]
    content = {"kind": "closed", "category": "rhythm", "template": 0, "codes": ["SR"], "option_codes": codes}
    content |= {"options": ["secret a", "secret b", "secret c", "secret d"], "letter": "A"}
    row = {"id": "1", "dataset": "synthetic", "patient_id": "1", "split": "test", "ecg": "x"}
    row |= {"messages": new_messages("ask", "A. secret a")}
    path = tmp_path / "bench.jsonl"
    path.write_text(json.dumps(row | {"question": content}))
    assert read_instructions(path)[0].question == replace(
        question,
        category="rhythm",
        codes=("SR",),
        options=tuple(content["options"]),
        option_codes=tuple(codes),
        letter="A",
    )
    path.write_text(json.dumps(row | {"question": content | change}))
    with pytest.raises(ValueError, match=message) as raised:
        read_instructions(path)
    assert "secret" not in str(raised.value)
