"""No text of a patient's files reaches an output: identities are planted everywhere, and every output is searched.

The rule stands in SECURITY.md. Every planted word begins with `MARK`, so that one search finds all of them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest
from cohort_files import cohort_rows, small_config, small_processor, write_clip, write_ecg, write_table
from command_line import run
from heart_signal import make_heart
from input_files import waveform_group, write_ecg_dicom

from tgmm_hf.cohorts.mimic.file_checks import check_clip, check_ecg
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.utils.names import LEADS

MARK = "qxidentity"
"""Beginning of every planted word. No word of the package contains it."""
FOLDER = f"{MARK}folder^smith john 1950"
TEXT_ELEMENTS = (
    *("PatientName", "PatientID", "PatientComments", "StudyDescription", "SeriesDescription", "InstitutionName"),
    *("InstitutionAddress", "AccessionNumber", "StudyID", "ImageComments", "OperatorsName", "ReferringPhysicianName"),
    *("Manufacturer", "ManufacturerModelName", "ProtocolName", "BodyPartExamined", "PatientAge", "StudyDate"),
    *("StudyTime", "AcquisitionDateTime", "TextValue", "LongCodeValue", "URNCodeValue", "RetrieveURI", "LossyImage"),
)
"""One or more elements of each text VR, from person names to addresses."""

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # pydicom, while the hostile files are written
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def planted(place: str) -> str:
    """Return a word that names a patient, made for one place."""
    return f"{MARK}{place}"


def plant_in_dicom(path: Path, **elements: Any) -> Path:
    """Write words into every text element of a DICOM file, and `elements` over its own values."""
    dataset = pydicom.dcmread(path)
    for name in TEXT_ELEMENTS:
        if pydicom.datadict.tag_for_keyword(name) is not None:
            dataset.add_new(name, pydicom.datadict.dictionary_VR(name), planted(name.lower())[:60])
    block = dataset.private_block(0x0009, planted("creator"), create=True)
    block.add_new(0x01, "LO", planted("private"))
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def plant_in_wfdb(header: Path, **fields: str) -> Path:
    """Add comments to a WFDB header, and replace parts of it."""
    text = header.read_text() + f"# {planted('comment')} male 1950\n"
    for old, new in fields.values():
        assert old in text
        text = text.replace(old, new, 1)
    header.write_text(text)
    return header


def write_video(path: Path) -> Path:
    """Write a video with a title in its metadata."""
    random = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for _ in range(12):
        writer.write(random.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    title = b"INAM" + (32).to_bytes(4, "little") + planted("title").encode().ljust(32, b"\0")
    path.write_bytes(path.read_bytes() + b"LIST" + (len(title) + 4).to_bytes(4, "little") + b"INFO" + title)
    return path


def ecg_files(folder: Path) -> list[Path]:
    """Write recordings, good and bad, each with words in other places; return their paths."""
    paths = []
    faults: dict[str, dict[str, Any]] = {
        "good": {},
        "channel": {"name": (" aVR\n", f" {planted('channel')}\n")},
        "all channels": {},
        "unit": {"unit": ("/mV", f"/{planted('unit')}")},
        "gain": {"gain": ("/mV", "/mV"), "format": (" 16 ", f" {planted('format')} ")},
        "file": {"file": (".dat", f"{planted('signal')}.dat")},
        "outside": {"file": ("good.dat", f"../../{planted('outside')}.dat")},
        "number": {"samples": (" 5000\n", f" {planted('samples')}\n")},
        "rate": {"rate": (" 500 ", f" {planted('rate')} ")},
        "date": {"date": (" 5000\n", f" 5000 10:00:00 {planted('date')}\n")},
    }
    for number, (fault, fields) in enumerate(faults.items()):
        name = planted(f"ecg{number}")
        write_ecg(folder / name, number)
        header = folder / f"{name}.hea"
        if fault == "outside":
            fields = {"file": (f"{name}.dat", f"../../{planted('outside')}.dat")}
        plant_in_wfdb(header, **fields)
        if fault == "all channels":
            lines = [line.rsplit(" ", 1)[0] + f" {planted('lead')}" for line in header.read_text().splitlines()]
            header.write_text("\n".join([f"{name} 12 500 5000", *lines[1:13]]) + "\n")
        paths.append(folder / name)
    signal = make_heart(5000, 500.0, 1) * 1000
    for number, changes in enumerate(({}, {"WaveformSampleInterpretation": "QXIDENTITYFORMAT"}, {"leads": True})):
        names = [planted("meaning")] * 12 if changes.pop("leads", False) else list(LEADS)
        group = waveform_group(signal, names, 500.0, "ORIGINAL")
        group.MultiplexGroupLabel = planted("group")
        for channel in group.ChannelDefinitionSequence:
            channel.ChannelLabel = planted("label")[:16]
        for name, value in changes.items():
            setattr(group, name, value)
        path = write_ecg_dicom(folder / f"{planted(f'waveform{number}')}.dcm", [group])
        paths.append(plant_in_dicom(path))
    broken = folder / planted("broken.dcm")
    broken.write_text(planted("content") * 100)
    return [*paths, broken, folder / planted("absent")]


def echo_files(folder: Path) -> list[Path]:
    """Write clips, good and bad, each with words in other places; return their paths."""
    faults: list[dict[str, Any]] = [
        {},
        {"PhotometricInterpretation": planted("colours").upper()[:16]},
        {"Modality": planted("modality").upper()[:16]},
        {"NumberOfFrames": 7},
        {"SamplesPerPixel": 9},
    ]
    paths = []
    for number, elements in enumerate(faults):
        path = folder / f"{planted(f'clip{number}')}.dcm"
        write_clip(path, number)
        paths.append(plant_in_dicom(path, **elements))
    write_clip(folder / f"{planted('still')}.dcm", 1, frames=1)
    cut = folder / f"{planted('cut')}.dcm"
    write_clip(cut, 2)
    cut.write_bytes(plant_in_dicom(cut).read_bytes()[:-700])
    syntax = folder / f"{planted('syntax')}.dcm"
    write_clip(syntax, 3)
    content = syntax.read_bytes().replace(b"1.2.840.10008.1.2.1\0", planted("syntax").encode().ljust(20, b"\0")[:20])
    syntax.write_bytes(content)
    paths += [folder / f"{planted('still')}.dcm", cut, syntax, write_video(folder / f"{planted('video')}.avi")]
    for name, head in (
        ("movie.mp4", b"\0\0\0\x18ftyp"),
        ("movie.avi", b"RIFF\0\0\0\0AVI "),
        ("playlist.mp4", b"#EXTM3U\n"),
    ):
        path = folder / planted(name)
        path.write_bytes(head + planted("brand").encode() * 40)
        paths.append(path)
    return [*paths, folder / f"{planted('absent')}.dcm"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model, and a folder of a patient whose name is written all over it."""
    place = tmp_path_factory.mktemp("place")
    config = small_config()
    processor = small_processor(config)
    config.labs_config.vocab_size = len(processor.tokenizer)
    config.tokenize_tasks(processor.tokenizer)
    TgmmModel(config).save_pretrained(place / "model")
    processor.save_pretrained(place / "model")
    folder = place / FOLDER
    folder.mkdir()
    (folder / "ecg").mkdir()
    (folder / "echo").mkdir()
    ecg_files(folder / "ecg")
    echo_files(folder / "echo")
    return place


def listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the recordings and clips that `place` holds, the absent ones too."""
    ecgs = sorted({path.with_suffix("") if path.suffix in (".hea", ".dat") else path for path in folder.glob("ecg/*")})
    return [*ecgs, folder / "ecg" / planted("absent")], [*sorted(folder.glob("echo/*")), folder / planted("absent.dcm")]


@pytest.fixture
def searched(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[..., str]:
    """Function that asserts that no planted word is in the console, in the logs, or in files; returns the console."""

    def search(*outputs: Path) -> str:
        printed = capfd.readouterr()
        console = printed.out + printed.err + caplog.text
        assert MARK not in console.lower(), context(console)
        for output in outputs:
            for path in [output, *output.rglob("*")] if output.is_dir() else [output]:
                content = path.read_bytes().decode("latin-1").lower() if path.is_file() else ""
                assert MARK not in content, f"{path}: {context(content)}"
                assert MARK not in path.name.lower(), path
        return console

    return search


def context(text: str) -> str:
    """Cut out what stands around a planted word."""
    at = text.lower().find(MARK)
    return text[max(at - 300, 0) : at + 100]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])  # two processes start slowly
def test_prepare_and_check_manifest(workers: int, place: Path, searched: Callable[..., str]) -> None:
    ecgs, clips = listed(place / FOLDER)
    rows = cohort_rows(len(ecgs))
    for number, (row, ecg) in enumerate(zip(rows, ecgs, strict=True)):
        clip = clips[number % len(clips)]
        row |= {"ecg_path": ecg.relative_to(place), "echo_paths": f"{clip.relative_to(place)};{FOLDER}/nowhere.dcm"}
        row |= {"echo_views": "A4C;A2C", "labs.Potassium": planted("potassium") if number % 2 else "12345 mmol"}
        row |= {"labs.gender": planted("gender"), "labs.Sodium": 140, "unit.Sodium": planted("unit")}
        row["split"] = "train"  # patients of several splits must not share a file
    rows[1]["echo_paths"] = f"../{planted('outside')}.dcm;/{planted('absolute')}.dcm"
    table = write_table(place / "cohort.csv", rows)
    out = place / f"data{workers}"
    assert run("prepare", table, "--out", out, "--model", place / "model", "--workers", workers) == 0
    refused = (out / "refused.csv").read_text()
    assert refused.count("\n") > len(rows) and "echo[2]" in refused
    for shard in out.rglob("*.arrow"):  # the lab row of a patient is data: its text stays in the prepared rows
        content = shard.read_bytes().decode("latin-1")
        for word in ("folder", "ecg0", "clip0", "studydescription", "comment", "channel"):
            assert planted(word) not in content
        shard.unlink()
    searched(out)
    assert run("prepare", table, "--out", place / "dry", "--model", place / "model", "--dry-run") == 0
    assert run("check-manifest", table, "--out", place / "report.json") == 1
    searched(place / "report.json")


def test_predict_of_one_patient(place: Path, searched: Callable[..., str]) -> None:
    folder = place / FOLDER
    ecgs, clips = listed(folder)
    out = place / "one"
    (folder / "row.json").write_text(json.dumps({
        **{"Creatinine": 1.4, planted("key"): 3, "Sodium": [140, planted("unit")], "K": f"{planted('value')}"},
        **{"gender": planted("gender"), "Glucose": f"5,1 {planted('glucose')}", f"Albumin ({planted('name')})": 4},
        **{"Hb": 9, "hemoglobin": 12, planted("own"): planted("text"), f"Creatinin {planted('slip')}": 2},
    }))  # fmt: skip
    (folder / "views.csv").write_text(
        f"dicom_filepath,view\n{clips[0].name},A4C\n{clips[1].name},{planted('view')}\n"
        + "".join(f"{clip.name},A2C\n" for clip in clips[2:])
    )
    for number, ecg in enumerate([ecgs[0], ecgs[-2]]):  # the table of patients tries all of them
        words = ["--labs", folder / "row.json", "--ecg", ecg, "--id", "p1", "--out", out / f"{number}.json"]
        assert run("predict", place / "model", *words) == 0
    words = ["--echo", folder / "echo", "--views", folder / "views.csv", "--labs", folder / "row.json"]
    assert run("predict", place / "model", *words, "--out", out / "echo.json") == 0
    prediction = json.loads((out / "echo.json").read_text())
    assert {entry["item"] for entry in prediction["refused"]} >= {"echo[2]", "labs.gender"}
    for clip in (clips[0], clips[2]):
        assert run("predict", place / "model", "--echo", clip, "--out", out / "clip.json") in (0, 1)
    searched(out)


def test_calls_of_predict_that_stop(place: Path, searched: Callable[..., str]) -> None:
    folder = place / FOLDER
    faulty = {
        "list.json": json.dumps([planted("list")]),
        "cut.json": f'{{"{planted("cut")}": 3, "Creat',
        "twice.json": f'{{"{planted("twice")}": 3, "{planted("twice")}": 4}}',
        "bytes.json": f'{{"{planted("bytes")}": "\udcff"}}',
    }
    for name, text in faulty.items():
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        assert run("predict", place / "model", "--labs", folder / name, "--out", place / "none.json") == 1
    (folder / "headless.csv").write_text(f"{planted('path')}.dcm,A4C\n")
    words = ["--echo", folder / "echo", "--views", folder / "headless.csv"]
    assert run("predict", place / "model", *words, "--out", place / "none.json") == 1
    absent = folder / planted("nowhere")
    for option in ("--labs", "--ecg", "--echo", "--manifest"):
        assert run("predict", place / "model", option, absent) == 2
    assert run("predict", place / "model", "--labs", folder, "--out", place / "none.json") == 1
    searched()
    assert not (place / "none.json").exists()


def test_predict_of_a_table(place: Path, searched: Callable[..., str]) -> None:
    ecgs, clips = listed(place / FOLDER)
    rows: list[dict[str, Any]] = [
        {
            **{"id": f"a{number}", "ecg_path": str(ecg), "echo_paths": str(clips[number % len(clips)])},
            **{"echo_views": "A4C", "labs.Potassium": planted("value"), "labs.Sodium": 140},
        }
        for number, ecg in enumerate(ecgs)
    ]
    rows[0] |= {"ecg_path": f"../{planted('outside')}", "echo_paths": f"/{planted('absolute')}.dcm"}
    table = write_table(place / "predict.csv", rows)
    out = place / "table" / "p.json"
    assert run("predict", place / "model", "--manifest", table, "--out", out) == 0
    predictions = json.loads(out.read_text())
    assert {"ecg", "echo[1]"} <= {entry["item"] for entry in predictions[0]["refused"]}
    searched(out)


@pytest.mark.parametrize(
    "change",
    [
        {"split": planted("split")},
        {"echo_views": f"A4C;{planted('view')}"},
        {"label.hf_diagnosis": planted("label")},
        {"time.hf_risk": planted("time")},
    ],
)
def test_faults_of_a_table(change: dict[str, Any], place: Path, searched: Callable[..., str]) -> None:
    rows = cohort_rows(3)
    rows[0] |= change
    table = write_table(place / "faulty.csv", rows)
    assert run("check-manifest", table, "--out", place / "report.json") == 1
    assert run("prepare", table, "--out", place / "none", "--model", place / "model") == 1
    searched()


def test_tables_without_a_header_or_of_another_kind(place: Path, searched: Callable[..., str]) -> None:
    (place / "headless.csv").write_text(f"{planted('id')},{planted('patient')},train,1.4\na2,p2,train,1.5\n")
    (place / "broken.parquet").write_text(planted("content"))
    pq.write_table(pa.table({planted("column"): [planted("cell")]}), place / "other.parquet")
    for name in ("headless.csv", "broken.parquet", "other.parquet"):
        assert run("check-manifest", place / name) == 1
        assert run("predict", place / "model", "--manifest", place / name) == 1
    searched()


def test_file_checks_of_curate(place: Path, searched: Callable[..., str]) -> None:
    ecgs, clips = listed(place / FOLDER)
    reasons = [check_ecg(path) for path in ecgs] + [check_clip(path, 2) for path in clips]
    assert len(set(reasons)) > 4 and MARK not in str(reasons)
    searched()


def test_evaluate_of_prepared_data(place: Path, searched: Callable[..., str]) -> None:
    rows = cohort_rows(40)
    for number, row in enumerate(rows):
        row |= {"ecg_path": "", "echo_paths": "", "echo_views": "", "labs.Creatinine": 1 + number / 40}
        row |= {"labs.medical history": planted("history"), "labs.drug history": planted("drugs"), "split": "test"}
        row |= {"label.hf_diagnosis": number % 2, "time.hf_risk": 10 + number, "event.hf_risk": number % 3}
    table = write_table(place / "labs.csv", rows)
    assert run("prepare", table, "--out", place / "labs", "--model", place / "model", "--workers", 1) == 0
    words = ["--out", place / "results", "--bootstrap", 100]
    code = run("evaluate", place / "model", place / "labs", *words)
    console = searched(place / "results") if (place / "results").exists() else searched()
    assert code == 0, console
