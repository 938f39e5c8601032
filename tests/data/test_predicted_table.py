"""Prediction of a table: a run that was stopped goes on, and its answers are those of a run that was not."""

import copy
import json
import multiprocessing
import os
import signal
from itertools import islice

import pytest
import torch
from cohort_files import cohort_rows, small_config, small_processor, write_clip, write_ecg, write_table

from tgmm_hf.data import predicted_table, prediction
from tgmm_hf.data.predicted_table import StoredPredictions, Tally, partial_path, predict_table
from tgmm_hf.data.prediction import patients_from_table
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
from tgmm_hf.utils.errors import TgmmError

PATIENTS = 6


@pytest.fixture(scope="module")
def pipe():
    config = small_config()
    processor = small_processor(config)
    config.tokenize_tasks(processor.tokenizer)
    model = TgmmModel(config)
    model.initialise_texts()
    return TgmmCardiacPipeline(model=model.eval(), processor=processor)


@pytest.fixture
def patients(tmp_path):
    rows = cohort_rows(PATIENTS)
    for number, row in enumerate(rows):
        if row["ecg_path"]:
            write_ecg(tmp_path / row["ecg_path"], number)
        for path in filter(None, row["echo_paths"].split(";")):
            write_clip(tmp_path / path, number)
    return patients_from_table(write_table(tmp_path / "cohort.csv", rows))


@pytest.fixture
def asked(monkeypatch):
    """Ids of the patients that the model was asked about."""
    ids, predict = [], prediction.predict

    def noting(pipe, patients, *options):
        for answer in predict(pipe, patients, *options):
            ids.append(answer["id"])
            yield answer

    monkeypatch.setattr(prediction, "predict", noting)
    return ids


def stop_after(monkeypatch, number, stop):
    """Let a prediction end after this number of answers."""
    predict = prediction.predict

    def stopping(*arguments):
        yield from islice(predict(*arguments), number)
        stop()

    monkeypatch.setattr(prediction, "predict", stopping)


def fail():
    raise RuntimeError("stopped")


def stopped_run(pipe, patients, out, number=3):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="stopped"):
        stop_after(patch, number, fail)
        predict_table(pipe, patients, out, batch_size=1)


def contents(out):
    return {path.name: path.read_text() for path in out.parent.iterdir()}


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process that uses several threads of OpenMP waits for ever
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_a_killed_run_goes_on_and_gives_the_answers_of_an_undisturbed_run(pipe, patients, tmp_path, asked):
    undisturbed, killed = tmp_path / "undisturbed" / "predictions.json", tmp_path / "killed" / "predictions.json"
    predict_table(pipe, patients, undisturbed, batch_size=1)
    del asked[:]

    def work():
        with pytest.MonkeyPatch.context() as patch:
            stop_after(patch, 3, lambda: os.kill(os.getpid(), signal.SIGKILL))
            predict_table(pipe, patients, killed, batch_size=1)

    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not killed.exists() and len(partial_path(killed).read_text().splitlines()) == 1 + 3
    with partial_path(killed).open("a") as file:
        file.write('{"files": "sha256:')  # the process was killed while it wrote
    tally, _ = predict_table(pipe, patients, killed, batch_size=1)
    assert asked == [patient["id"] for patient in patients[3:]]
    assert tally.patients == PATIENTS
    assert contents(killed) == contents(undisturbed)  # and no partial file, no lock
    assert [one["id"] for one in json.loads(killed.read_text())] == [patient["id"] for patient in patients]


def test_a_patient_whose_file_has_changed_is_answered_again(pipe, patients, tmp_path, asked):
    out = tmp_path / "out" / "predictions.json"
    stopped_run(pipe, patients, out, number=4)
    changed = next(n for n, patient in enumerate(patients) if patient["ecg"] is not None and n > 0)
    os.utime(f"{patients[changed]['ecg']}.dat", ns=(0, 0))
    del asked[:]
    predict_table(pipe, patients, out, batch_size=1)
    assert 0 < changed < 4 and asked == [patient["id"] for patient in patients[changed:]]


def test_a_patient_whose_file_could_not_be_read_is_answered_again(tmp_path):
    empty = {"id": "a", "used": {"labs": [], "ecg": [], "echo": []}, "notes": []}
    gone = {"item": "ecg", "reason": "cannot be read now (I/O error EIO): try again later"}
    stored = StoredPredictions(tmp_path / "x.partial.jsonl", {})
    patients = [{"id": "a"}, {"id": "b"}, {"id": "c"}]
    stored.resume(patients)
    states = [predicted_table.state_of_files(patient) for patient in patients]
    stored.append(zip(states, [empty | {"refused": []}, empty | {"refused": [gone]}, empty], strict=True))
    assert stored.resume(patients) == 1
    assert len(list(stored)) == 1


def test_the_state_of_an_ecg_has_the_signal_file_that_its_header_names(tmp_path):
    (tmp_path / "rec.hea").write_text("rec 1 500 10\nother.dat 16 200/mV 16 0 0 0 0 I\n")
    (tmp_path / "other.dat").write_bytes(bytes(20))
    patient = {"ecg": str(tmp_path / "rec"), "echo": None}
    before = predicted_table.state_of_files(patient)
    assert predicted_table.state_of_files(patient) == before
    (tmp_path / "other.dat").write_bytes(bytes(22))
    assert predicted_table.state_of_files(patient) != before


@pytest.mark.parametrize("change", ["model", "patients", "tasks", "strictness"])
def test_answers_that_rest_on_something_else_are_not_mixed(pipe, patients, tmp_path, change, monkeypatch):
    out = tmp_path / "out" / "predictions.json"
    stopped_run(pipe, patients, out)
    before = partial_path(out).read_text()
    tasks = None
    if change == "model":
        monkeypatch.setattr(pipe, "model", copy.deepcopy(pipe.model))
        with torch.no_grad():
            next(pipe.model.parameters()).add_(1)
    elif change == "patients":
        patients[5] = patients[5] | {"labs": {"age": 33}}
    elif change == "tasks":
        tasks = ["hf_risk"]
    else:
        monkeypatch.setattr(pipe.processor, "default_strictness", "refuse")
    with pytest.raises(TgmmError, match=f"another one .*{change}: .* there, .* now"):
        predict_table(pipe, patients, out, tasks=tasks)
    assert partial_path(out).read_text() == before and not out.exists()


def test_a_file_of_somebody_else_is_left_alone(pipe, patients, tmp_path):
    out = tmp_path / "predictions.json"
    partial_path(out).write_text('{"mine": 1}\n')
    with pytest.raises(FileExistsError, match="did not write it"):
        predict_table(pipe, patients, out)
    assert partial_path(out).read_text() == '{"mine": 1}\n'


def test_a_tally_keeps_the_first_predictions_only():
    one = {"id": "a", "used": {"labs": ["age"], "ecg": [], "echo": []}, "notes": ["x"]}
    refused = [{"item": "ecg", "reason": "unexpected: KeyError"}, {"item": "echo", "reason": "broken"}]
    tally = Tally.count(one | {"refused": refused if number % 2 else []} for number in range(50))
    assert len(tally.first) == predicted_table.SHOWN_PATIENTS
    assert (tally.patients, tally.answered, tally.notes, tally.refused) == (50, 50, 50, 50)
    assert (tally.patients_with_refusals, tally.unexpected, tally.unreadable) == (25, 25, 0)
