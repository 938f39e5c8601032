"""An ECG as a text table: read where rate, unit and leads are stated, refused with what to do where not."""

import time

import numpy as np
import pytest
from input_files import make_ecg
from vendor_files import change, write_csv

from tgmm_hf.inputs import ecg_csv
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

RATE = "# sampling_rate: 500"
UNIT = "# units: mV"


@pytest.fixture(scope="module")
def signal():
    return make_ecg(samples=600)


def with_time(signal, rate=500.0, unit=1.0, digits=6):
    return np.vstack([np.round(np.arange(signal.shape[1]) / rate * unit, digits), signal])


def assert_refused(path, match):
    with pytest.raises(InputRefusedError, match=match) as refused:
        read_ecg(path)
    assert "Doe" not in refused.value.reason and not refused.value.reason.startswith("unexpected")


def test_rate_and_unit_from_comments(tmp_path, signal):
    read = read_ecg(write_csv(tmp_path / "a.csv", signal, list(LEADS), (RATE, UNIT, "# patient: Doe")))
    assert (read.lead_names, read.sampling_rate, read.units, read.notes) == (list(LEADS), 500, "mV", [])
    assert np.abs(read.signal - signal).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "unit", "rate", "digits"),
    [("time (s)", 1, 500, 3), ("Time [ms]", 1000, 500, 0), ("t (s)", 1, 360, 3), ("time (ms)", 1000, 257, 2)],
)
def test_rate_from_a_time_column(tmp_path, signal, name, unit, rate, digits):
    table = with_time(signal, rate, unit, digits)
    read = read_ecg(write_csv(tmp_path / "a.csv", table, [name, *(f"{lead} (mV)" for lead in LEADS)]))
    assert read.sampling_rate == rate and read.lead_names == list(LEADS) and read.signal.shape == signal.shape


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1e-3), ("µV", 1e-3), ("mV", 1), ("V", 1e3), ("nV", 1e-6)])
def test_units_behind_the_names_are_converted(tmp_path, signal, unit, factor):
    header = [f"{lead} [{unit}]" for lead in LEADS]
    read = read_ecg(write_csv(tmp_path / "a.csv", signal, header, (RATE,)))
    assert read.signal == pytest.approx(signal * factor, abs=1e-4 * factor)


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_other_separators_quotes_line_ends_and_byte_order_marks(tmp_path, signal, separator, encoding):
    path = write_csv(tmp_path / "table.txt", signal, [f'"{lead} (mV)"' for lead in LEADS], (RATE,))
    text = path.read_text().replace(",", separator).replace("\n", "\r\n")
    path.write_bytes((text + "\r\n\r\n").encode(encoding))
    assert read_ecg(path).signal.shape == signal.shape


def test_empty_cells_are_missing_samples(tmp_path):
    long = make_ecg()
    path = write_csv(tmp_path / "a.csv", long, list(LEADS), (RATE, UNIT))
    lines = path.read_text().splitlines()
    lines[103] = lines[103].split(",", 1)[0] + ",," + lines[103].split(",", 2)[2]
    path.write_text("\n".join(lines))
    assert np.isnan(read_ecg(path).signal).sum() == 1
    assert any("interpolated" in note for note in EcgFeatureExtractor().prepare(path).notes)


def test_other_columns_are_left_out_without_their_names(tmp_path, signal):
    table = np.vstack([signal, signal[:1]])
    read = read_ecg(write_csv(tmp_path / "a.csv", table, [*(f"{lead} (mV)" for lead in LEADS), "Doe"], (RATE,)))
    assert read.lead_names == list(LEADS) and len(read.notes) == 1 and "Doe" not in read.notes[0]


@pytest.mark.parametrize(
    ("comments", "header", "match"),
    [
        ((UNIT,), list(LEADS), "sampling rate"),
        ((RATE,), list(LEADS), "no unit"),
        ((RATE, UNIT), [*LEADS[:11], "V6 (uV)"], "different units"),
        ((RATE, "# sampling_rate: 250", UNIT), list(LEADS), "contradict"),
        ((RATE, UNIT, "# units: uV"), list(LEADS), "contradict"),
        (("# sampling_rate: fast", UNIT), list(LEADS), "no number of Hz"),
        (("# sampling_rate: 0", UNIT), list(LEADS), "no number of Hz"),
        ((RATE, "# units: furlong"), list(LEADS), "unit"),
        ((RATE, UNIT), [f"lead {number}" for number in range(10, 22)], "none of its columns is a lead"),
        ((RATE, UNIT), [str(number) for number in range(12)], "holds numbers"),
        ((RATE,), [f"{lead} (adc)" for lead in LEADS], "unit"),
    ],
)
def test_what_a_table_does_not_state_is_not_guessed(tmp_path, signal, comments, header, match):
    assert_refused(write_csv(tmp_path / "a.csv", signal, header, comments), match)


def test_times_that_are_not_even_or_contradict_the_comment_are_refused(tmp_path, signal):
    header = ["time (s)", *(f"{lead} (mV)" for lead in LEADS)]
    table = with_time(signal)
    assert_refused(write_csv(tmp_path / "a.csv", np.delete(table, 300, axis=1), header), "evenly")
    assert_refused(write_csv(tmp_path / "a.csv", table[:, ::-1], header), "evenly")
    assert_refused(write_csv(tmp_path / "a.csv", np.repeat(table, 2, axis=1), header), "evenly")
    assert_refused(write_csv(tmp_path / "a.csv", table, header, ("# sampling_rate: 250",)), "500 Hz")
    assert_refused(write_csv(tmp_path / "a.csv", table, ["time", *header[1:]]), "no unit")
    assert_refused(write_csv(tmp_path / "a.csv", table, ["time (min)", *header[1:]]), "no unit")
    read = read_ecg(write_csv(tmp_path / "a.csv", table, header, (RATE,)))
    assert read.sampling_rate == 500


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("\n0", "\nDoe0", "no number"),
        ("\n0", "\n1_0", "no number"),
        ("\n0", "\n٣", "no number"),
        ("\n0", "\n0x1", "no number"),
        (",V6", ",V6,V6", "cells"),
        (",", ";", "decimal point"),
    ],
)
def test_cells_that_are_no_numbers_are_refused(tmp_path, signal, old, new, match):
    path = write_csv(tmp_path / "a.csv", signal, list(LEADS), (RATE, UNIT))
    if old == ",":
        path.write_text(path.read_text().replace(",", ";").replace(".", ","))
    else:
        change(path, old, new, 1)
    assert_refused(path, match)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "no header"),
        (b"I,II\n", "no header"),
        (b"# only\n# comments\n", "no header"),
        ("I (mV),II (mV)\n1,2\né".encode("latin-1"), "UTF-8"),
        ("I (mV),II (mV)\n1,2\n".encode("utf-16"), "UTF-8"),
        (b'"I (mV),II (mV)\n1,2\n', "is a lead|cells|quotes"),
        (b"I,II;III\n1,2;3\n", "separators"),
        (b"I (mV),II (mV)" + b",x" * 300 + b"\n1,2" + b",0" * 300, "columns"),
        (b"I (mV),II (mV)\n" + b"9" * 200_000 + b",1\n", "no number|quotes"),
    ],
)
def test_tables_that_are_none_are_refused(tmp_path, content, match):
    (tmp_path / "a.csv").write_bytes(content)
    assert_refused(tmp_path / "a.csv", match)


def test_a_lead_that_occurs_twice_is_refused(tmp_path):
    path = write_csv(tmp_path / "a.csv", make_ecg(), [*LEADS[:11], "V1"], (RATE, UNIT))
    with pytest.raises(InputRefusedError, match="keep one"):
        EcgFeatureExtractor().prepare(path)


def test_large_tables_are_refused_before_they_are_read(tmp_path, signal, monkeypatch):
    path = write_csv(tmp_path / "a.csv", signal, list(LEADS), (RATE, UNIT))
    monkeypatch.setattr(ecg_csv, "MAX_CSV_BYTES", 1000)
    began = time.monotonic()
    assert_refused(path, "MiB, the limit")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("rate", [0.5, 20.0])
def test_a_rate_that_no_ecg_has_is_refused_with_the_rate(tmp_path, signal, rate):
    path = write_csv(tmp_path / "slow.csv", with_time(signal, rate=rate), ["time (s)", *(f"{n} (mV)" for n in LEADS)])
    with pytest.raises(InputRefusedError, match=f"sampling rate {rate:g} Hz"):
        EcgFeatureExtractor()(path)
