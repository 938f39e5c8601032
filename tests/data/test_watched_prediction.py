"""Prediction of a table of patients whose files are read in a watched worker process."""

import json
from itertools import count, islice

import pytest
from cohort_files import cohort_rows, small_config, small_processor, write_clip, write_ecg, write_table
from command_line import run
from planted_readers import PlantedExtractor

from tgmm_hf.data.prediction import count_unexpected, count_unreadable, patients_from_table, predict
from tgmm_hf.data.watched_prediction import READERS
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
from tgmm_hf.utils.watched_worker import Limits

PATIENT = Limits(seconds=60)


@pytest.fixture(scope="module")
def pipe():
    config = small_config()
    processor = small_processor(config)
    processor.feature_extractor = PlantedExtractor()
    config.tokenize_tasks(processor.tokenizer)
    model = TgmmModel(config)
    model.initialise_texts()
    return TgmmCardiacPipeline(model=model.eval(), processor=processor)


@pytest.fixture
def table(tmp_path):
    """Ten patients with mixed modalities."""
    rows = cohort_rows(10)
    for number, row in enumerate(rows):
        if row["ecg_path"]:
            write_ecg(tmp_path / row["ecg_path"], number)
        for path in filter(None, row["echo_paths"].split(";")):
            write_clip(tmp_path / path, number)
    return write_table(tmp_path / "cohort.csv", rows)


def test_the_answers_are_those_of_an_unwatched_prediction(pipe, table, tmp_path):
    (tmp_path / "echo" / "4_a.dcm").write_bytes(b"damaged")
    patients = [*patients_from_table(table), {"id": "nothing"}]
    expected = list(predict(pipe, patients, batch_size=4))
    found = list(predict(pipe, patients, batch_size=4, limits=PATIENT))
    for one, other in zip(found, expected, strict=True):
        if one["id"] == "nothing":  # the unwatched note depends on the other patients of the batch
            assert one.pop("notes") and other.pop("notes")
        for name in ("hf_diagnosis", "hf_risk"):
            assert (name in one) == (name in other)
            if name in one:
                assert json.dumps(one.pop(name)) == json.dumps(other.pop(name))
        assert one == other


def test_no_patient_stops_the_others_and_a_fault_costs_one_modality(pipe, table, tmp_path):
    patients = patients_from_table(table)
    for number, fault in ((0, "exit"), (2, "recursion"), (3, "kill"), (5, "notimplemented"), (6, "hang"), (8, "eio")):
        patients[number]["ecg"] = str(tmp_path / "ecg" / f"{fault}-1")
    found = list(predict(pipe, patients, batch_size=4, limits=Limits(seconds=4)))
    assert [one["id"] for one in found] == [f"a{number}" for number in range(10)]
    refused = {one["id"]: [entry["reason"] for entry in one["refused"]] for one in found}
    assert {name: len(reasons) for name, reasons in refused.items() if reasons} == dict.fromkeys(
        ("a0", "a2", "a3", "a5", "a6", "a8"), 1
    )
    assert all("hf_diagnosis" in one and not one["used"]["ecg"] for one in found if refused[one["id"]])
    assert "limit of 4 s" in refused["a6"][0] and "exit code 3" in refused["a0"][0] and "SIGKILL" in refused["a3"][0]
    assert not any("a value of the file" in reason for reasons in refused.values() for reason in reasons)
    assert count_unexpected(found) == 3  # exit, kill and notimplemented
    assert found[0]["used"]["echo"] and found[2]["used"]["labs"]
    assert count_unreadable(found) == 1  # after several tries


def test_answers_come_while_patients_are_read_and_few_are_read_ahead(pipe):
    drawn = []

    def endless():
        for number in count():
            drawn.append(number)
            yield {"id": number, "labs": {"age": 60}}

    answers = predict(pipe, endless(), batch_size=2, limits=PATIENT)
    assert [answer["id"] for answer in islice(answers, 5)] == list(range(5))
    answers.close()
    assert len(drawn) <= 6 + READERS + 2 + 1  # three batches, what is read ahead, and the next one


def test_the_command_counts_the_unexpected_and_fails_for_unreadable_files(pipe, table, tmp_path, monkeypatch, capsys):
    pipe.model.save_pretrained(tmp_path / "model")
    pipe.processor.save_pretrained(tmp_path / "model")

    def answers(pipe, patients, tasks, batch_size, limits):
        assert limits == Limits(seconds=7, memory=2**30)
        refused = [{"item": "ecg", "reason": reason} for reason in reasons]
        empty = {"notes": [], "checks": [], "views": [], "refused": refused}
        return iter([{"id": "a", "used": {"labs": ["age"], "ecg": [], "echo": []}, **empty} for _ in patients])

    monkeypatch.setattr("tgmm_hf.data.prediction.load_pipeline", lambda *arguments: pipe)
    monkeypatch.setattr("tgmm_hf.data.prediction.predict", answers)
    options = ["predict", "model", "--manifest", table, "--out", tmp_path / "out.json"]
    options += ["--time-limit", 7, "--memory-limit", 1]
    monkeypatch.setattr("tgmm_hf.cli.predict.announce_hub", lambda name: None)
    reasons = ["unexpected: KeyError while the file was read"]
    assert run(*options) == 0 and "10 items for an unexpected reason" in capsys.readouterr().out
    reasons = ["cannot be read now (I/O error EIO): try again later"]
    assert run(*options) == 1 and "10 file(s) could not be read now" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_stops_the_command_before_the_work(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tgmm_hf.cli.predict.announce_hub", lambda name: None)
    monkeypatch.setattr("tgmm_hf.data.prediction.load_pipeline", lambda *arguments: pytest.fail("work"))
    (tmp_path / "file").write_text("")
    assert run("predict", "model", "--manifest", table, "--out", tmp_path / "file" / "out.json") == 1
    assert "cannot be written" in capsys.readouterr().err
