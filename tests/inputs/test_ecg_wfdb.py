"""WFDB recordings: every field of a header is believed, checked or refused; nothing is replaced by a default."""

import gzip
import os
import shutil

import numpy as np
import pytest
import wfdb
from input_files import make_ecg, write_wfdb

from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS


def write_plain(directory, signal, line="record 12 500 5000", gains=None, fmt="16", checksums=True):
    """Write a header by hand beside 16-bit samples (mV x 1000), so that any field can be wrong."""
    stored = np.rint(signal * 1000).astype("<i2")
    (directory / "record.dat").write_bytes(stored.T.tobytes())
    lines = [line]
    for index, lead in enumerate(LEADS[: len(signal)]):
        gain = (gains or {}).get(lead, "1000/mV")
        total = int(stored[index].sum(dtype=np.int64)) % 65536 if checksums else 0
        first = int(stored[index, 0]) if checksums else 0
        lines.append(f"record.dat {fmt} {gain} 16 0 {first} {total} 0 {lead}")
    (directory / "record.hea").write_text("\n".join(lines) + "\n")
    return directory / "record"


def edit_header(record, *replacements):
    path = record.with_name(record.name + ".hea")
    text = path.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return record


def refuse(record, *parts):
    with pytest.raises(InputRefusedError) as caught:
        read_ecg(record)
    for part in parts:
        assert part in str(caught.value)


# ---- each lead at its own rate


def test_several_samples_a_frame_are_the_leads_own_rate(tmp_path):
    signal = make_ecg()
    names = [*LEADS, "SpO2"]
    wfdb.wrsamp(
        "record",
        fs=125,
        units=["mV"] * 12 + ["%"],
        sig_name=names,
        e_p_signal=[*signal, np.linspace(90, 95, 1250)],
        samps_per_frame=[4] * 12 + [1],
        fmt=["16"] * 13,
        adc_gain=[1000.0] * 12 + [100.0],
        baseline=[0] * 13,
        write_dir=str(tmp_path),
    )
    read = read_ecg(tmp_path / "record")
    assert read.sampling_rate == 500 and read.signal.shape == (12, 5000)
    assert np.abs(read.signal - signal).max() < 0.6e-3


def test_leads_of_several_rates_are_brought_to_the_highest(tmp_path):
    time = np.arange(5000) / 500
    wave = np.sin(2 * np.pi * 3 * time)
    wfdb.wrsamp(
        "record",
        fs=250,
        units=["mV", "mV"],
        sig_name=["I", "II"],
        e_p_signal=[wave, wave[::2]],
        samps_per_frame=[2, 1],
        fmt=["16", "16"],
        adc_gain=[1000.0] * 2,
        baseline=[0, 0],
        write_dir=str(tmp_path),
    )
    read = read_ecg(tmp_path / "record")
    assert read.sampling_rate == 500 and np.abs(read.signal - wave).max() < 2e-3
    assert any("250, 500 Hz" in note for note in read.notes)


# ---- calibration


@pytest.mark.parametrize("gain", ["0", "-1000/mV", "nan/mV", "inf/mV", "0/mV"])
def test_leads_without_a_known_scale_are_left_out_and_named(tmp_path, gain):
    signal = make_ecg()
    read = read_ecg(write_plain(tmp_path, signal, gains={"V1": gain, "V2": gain}))
    assert read.lead_names == [lead for lead in LEADS if lead not in ("V1", "V2")]
    assert sum("left out: its gain is" in note for note in read.notes) == 2


def test_a_recording_without_any_known_scale_is_refused(tmp_path):
    refuse(write_plain(tmp_path, make_ecg(), gains=dict.fromkeys(LEADS, "0")), "no lead has a known scale")


@pytest.mark.parametrize("line", ["record 12", "record 12 0 5000", "record 12 -500 5000", "record 12 nan 5000"])
def test_a_missing_or_impossible_sampling_rate_is_refused(tmp_path, line):
    refuse(write_plain(tmp_path, make_ecg(), line), "sampling rate of the header", "a positive number is needed")


@pytest.mark.parametrize("fmt", ["212", "80", "32", "24", "8", "0", "99"])
@pytest.mark.parametrize("checksums", [True, False])
def test_a_wrong_sample_format_is_refused(tmp_path, fmt, checksums):
    refuse(write_plain(tmp_path, make_ecg(), fmt=fmt, checksums=checksums), "record")


def test_micro_in_any_encoding_is_not_lost(tmp_path):
    signal = make_ecg()
    record = write_plain(tmp_path, signal, gains=dict.fromkeys(LEADS, "1/µV"))
    assert np.abs(read_ecg(record).signal - signal).max() < 0.6e-3
    header = tmp_path / "record.hea"
    header.write_bytes(header.read_text().encode("latin-1"))
    assert np.abs(read_ecg(record).signal - signal).max() < 0.6e-3


def test_changed_samples_are_found_by_the_checksum(tmp_path):
    record = write_wfdb(tmp_path, make_ecg(), list(LEADS))
    data = tmp_path / "record.dat"
    content = bytearray(data.read_bytes())
    content[1000] ^= 1
    data.write_bytes(bytes(content))
    refuse(record, "checksum")


def test_a_header_written_by_hand_without_checksums_is_read(tmp_path):
    signal = make_ecg()
    read = read_ecg(write_plain(tmp_path, signal, checksums=False))
    assert np.abs(read.signal - signal).max() < 0.6e-3


# ---- names, dates, headers that lie


def test_a_bare_year_a_dot_and_a_folder_are_read(tmp_path):
    signal = make_ecg()
    record = write_plain(tmp_path, signal, "record 12 500 5000 2006")
    assert np.abs(read_ecg(record).signal - signal).max() < 0.6e-3
    (tmp_path / "sub").mkdir()
    (tmp_path / "record.dat").rename(tmp_path / "sub" / "a.b.dat")
    edit_header(record, ("record.dat", "sub/a.b.dat"), ("record 12 500 5000 2006", "rec.1 12 500 5000"))
    (tmp_path / "record.hea").rename(tmp_path / "rec.1.hea")
    assert np.abs(read_ecg(tmp_path / "rec.1").signal - signal).max() < 0.6e-3
    assert np.abs(read_ecg(tmp_path / "rec.1.hea").signal - signal).max() < 0.6e-3


def test_names_in_capitals_are_read(tmp_path):
    signal = make_ecg(samples=500)
    record = write_wfdb(tmp_path, signal, list(LEADS))
    header = record.with_suffix(".hea")
    (tmp_path / "A.HEA").write_text(header.read_text().replace("record.dat", "A.DAT"))
    record.with_suffix(".dat").rename(tmp_path / "A.DAT")
    header.unlink()
    for name in ("A", "A.HEA", "A.DAT"):
        assert np.abs(read_ecg(tmp_path / name).signal - signal).max() < 1e-3


def test_a_signal_file_in_another_case_is_read_if_it_is_the_only_one(tmp_path):
    signal = make_ecg(samples=500)
    record = write_wfdb(tmp_path, signal, list(LEADS))
    record.with_suffix(".dat").rename(tmp_path / f"{record.name.upper()}.DAT")
    assert np.abs(read_ecg(record).signal - signal).max() < 1e-3
    shutil.copy(tmp_path / f"{record.name.upper()}.DAT", tmp_path / f"{record.name}.Dat")
    refuse(record, "a file that the header needs")


def test_a_compressed_signal_file_is_refused_with_what_to_do(tmp_path):
    record = write_wfdb(tmp_path, make_ecg(samples=500), list(LEADS))
    data = record.with_suffix(".dat")
    packed = data.with_name(data.name + ".gz")
    packed.write_bytes(gzip.compress(data.read_bytes()))
    data.unlink()
    for path in (record, packed):
        with pytest.raises(InputRefusedError, match="gunzip"):
            read_ecg(path)


@pytest.mark.parametrize("name", ["../record.dat", "/etc/passwd", "a/../../record.dat", "..\\record.dat", "~"])
def test_signal_files_outside_the_folder_are_not_followed(tmp_path, name):
    refuse(edit_header(write_plain(tmp_path, make_ecg()), ("record.dat", name)), "outside its own folder")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("record 12 500 1000000000000", "the limit is"),
        ("record 999999999 500 5000", "the limit is"),
        ("record 12 500 99999999999999999999999", "number of samples"),
        ("record 12 500 6000", "do not fit"),
        ("record 13 500 5000", "13 signals and describes 12"),
        ("record 12 500 -5", "number of samples"),
        ("record", "number of signals"),
        ("record 0 500 5000", "lists no signal"),
    ],
)
def test_headers_that_declare_too_much_are_refused_before_reading(tmp_path, line, part):
    refuse(write_plain(tmp_path, make_ecg(), line), part)


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"#only a comment\n", b"\xff\xfe\x00r", b"x" * 1_100_000])
def test_files_that_are_no_header_are_refused(tmp_path, content):
    record = write_plain(tmp_path, make_ecg())
    (tmp_path / "record.hea").write_bytes(content)
    refuse(record, "record")


def test_pipes_and_endless_paths_are_refused(tmp_path):
    record = write_plain(tmp_path, make_ecg())
    (tmp_path / "record.dat").unlink()
    os.mkfifo(tmp_path / "record.dat")
    refuse(record, "not a regular file")
    (tmp_path / "record.hea").unlink()
    os.mkfifo(tmp_path / "record.hea")
    refuse(record, "check the path")
    refuse("a" * 5000)
    refuse(tmp_path / ("b" * 300) / "c")
    refuse("a\0b")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0 V1", "0 Erika Mustermann"),
        ("0 V1", "0 V1 (Erika Mustermann)"),
        (" 16 1000/mV", " 16 Mustermann/mV"),
        ("record.dat 16", "record.dat Mustermann"),
        ("1000/mV 16", "1000/mV Mustermann"),
        ("record 12 500", "record 12 Mustermann"),
        ("record 12 500 5000", "record Mustermann 500 5000"),
        ("1000/mV", "1000/Mustermann"),
    ],
)
def test_text_of_a_header_is_in_no_message(tmp_path, old, new):
    record = edit_header(write_plain(tmp_path, make_ecg()), (old, new))
    try:
        read = read_ecg(record)
    except InputRefusedError as error:
        assert "Mustermann" not in error.reason
    else:
        assert "Mustermann" not in " ".join([*read.notes, *read.lead_names, read.units])


# ---- recordings of segments


def write_segments(directory, parts, first="whole/2 12 500 5000", lines=None):
    for name, signal, leads, rate in parts:
        wfdb.wrsamp(
            name,
            fs=rate,
            units=["mV"] * len(leads),
            sig_name=list(leads),
            p_signal=signal.T,
            fmt=["16"] * len(leads),
            adc_gain=[1000.0] * len(leads),
            baseline=[0] * len(leads),
            write_dir=str(directory),
        )
    lines = lines or [f"{name} {signal.shape[1]}" for name, signal, _, _ in parts]
    (directory / "whole.hea").write_text("\n".join([first, *lines]) + "\n")
    return directory / "whole"


def test_segments_of_one_recording_are_joined_in_time(tmp_path):
    signal = make_ecg()
    record = write_segments(tmp_path, [("a", signal[:, :2000], LEADS, 500), ("b", signal[:, 2000:], LEADS, 500)])
    read = read_ecg(record)
    assert read.signal.shape == (12, 5000) and np.abs(read.signal - signal).max() < 0.6e-3


def test_gaps_and_layouts_are_read_by_lead_name(tmp_path):
    signal = make_ecg()
    parts = [("a", signal[:, :2000], LEADS, 500), ("b", signal[2::-1, 2000:4000], LEADS[2::-1], 500)]
    lines = ["layout 0", "a 2000", "b 2000", "~ 1000"]
    (tmp_path / "layout.hea").write_text(
        "\n".join(["layout 12 500 0", *[f"~ 0 1000/mV 16 0 0 0 0 {lead}" for lead in LEADS]]) + "\n"
    )
    read = read_ecg(write_segments(tmp_path, parts, "whole/4 12 500 5000", lines))
    assert np.nanmax(np.abs(read.signal[:3, :4000] - signal[:3, :4000])) < 0.6e-3
    assert np.isnan(read.signal[3:, 2000:]).all() and np.isnan(read.signal[:, 4000:]).all()


def test_segments_of_other_leads_or_rates_are_refused(tmp_path):
    signal = make_ecg()
    parts = [("a", signal[:, :2000], LEADS, 500), ("b", signal[::-1, 2000:], LEADS[::-1], 500)]
    refuse(write_segments(tmp_path, parts), "other orders of leads")
    parts[1] = ("b", signal[:, 2000:], LEADS, 250)
    refuse(write_segments(tmp_path, parts), "500 and 250 Hz")
    parts[1] = ("b", signal[:, 2000:], LEADS, 500)
    refuse(write_segments(tmp_path, parts, lines=["a 2000", "b 2999"]), "the header of all segments states 2999")


@pytest.mark.parametrize(
    "lines", [["whole 5000"], ["~ 5000"], ["../a 5000"], ["a 1000000000000"], ["nowhere 5000"], []]
)
def test_recordings_that_name_themselves_or_nothing_are_refused(tmp_path, lines):
    signal = make_ecg()
    first = f"whole/{max(len(lines), 1)} 12 500 5000"
    refuse(write_segments(tmp_path, [("a", signal, LEADS, 500)], first, lines or ["", ""]), "whole")


# ---- damage of any kind


@pytest.mark.parametrize("seed", range(60))
def test_damaged_headers_are_refused_or_read_but_never_raise(tmp_path, seed):
    generator = np.random.default_rng(seed)
    record = write_plain(tmp_path, make_ecg())
    content = bytearray((tmp_path / "record.hea").read_bytes())
    for _ in range(generator.integers(1, 5)):
        position = int(generator.integers(0, len(content)))
        change = generator.integers(0, 3)
        if change == 0:
            content[position] = int(generator.choice(list(b"0123456789-+.x:/()~ \n#e\xff\0")))
        elif change == 1:
            del content[position : position + int(generator.integers(1, 6))]
        else:
            content[position:position] = bytes(generator.choice(list(b"0123456789 -/x+"), 3).tolist())
    (tmp_path / "record.hea").write_bytes(bytes(content))
    try:
        read = read_ecg(record)
    except InputRefusedError as error:
        assert error.reason and not error.reason.startswith("unexpected")
    else:
        assert read.signal.ndim == 2 and read.sampling_rate > 0


def test_big_endian_samples_are_read(tmp_path):
    signal = make_ecg()
    record = write_plain(tmp_path, signal, fmt="61")
    data = tmp_path / "record.dat"
    data.write_bytes(np.frombuffer(data.read_bytes(), "<i2").astype(">i2").tobytes())
    assert np.abs(read_ecg(record).signal - signal).max() < 0.001


def test_samples_in_the_wrong_byte_order_are_refused(tmp_path):
    (tmp_path / "summed").mkdir()
    refuse(write_plain(tmp_path / "summed", make_ecg(), fmt="61"), "checksum")
    record = write_plain(tmp_path, make_ecg(), fmt="61", checksums=False)
    with pytest.raises(InputRefusedError):
        EcgFeatureExtractor().prepare(record)


def test_a_baseline_far_away_does_not_blur_the_signal(tmp_path):
    signal = make_ecg()
    record = write_plain(tmp_path, signal, gains=dict.fromkeys(LEADS, "1000(2000000000)/mV"))
    plain = EcgFeatureExtractor().prepare({"signal": signal, "sampling_rate": 500, "lead_names": list(LEADS)})
    assert np.abs(EcgFeatureExtractor().prepare(record).values - plain.values).max() < 0.05
    with pytest.raises(InputRefusedError, match="32 bits"):
        read_ecg(edit_header(record, ("2000000000", "2000000000000")))


def test_a_declared_skew_is_undone_and_the_checksum_still_compared(tmp_path):
    signal, late = make_ecg(), 40
    stored = signal.copy()
    stored[6:] = np.roll(signal[6:], late, axis=1)
    header = write_wfdb(tmp_path, stored, list(LEADS)).with_suffix(".hea")
    lines = header.read_text().splitlines()
    for index in range(7, 13):
        lines[index] = lines[index].replace(" 16", f" 16:{late}", 1)
    header.write_text("\n".join(lines) + "\n")
    read = read_ecg(tmp_path / "record").signal
    assert np.abs(read[:, :-late] - signal[:, :-late]).max() < 0.001 and np.isnan(read[6:, -late:]).all()
