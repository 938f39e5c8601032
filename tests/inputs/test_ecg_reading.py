"""Reading ECG files: what was written in several formats comes back; bad files are refused with a reason."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import wfdb
from heart_signal import make_heart
from input_files import (
    MIMIC_LEADS,
    make_ecg,
    make_frames,
    waveform_group,
    write_ecg_dicom,
    write_echo_dicom,
    write_wfdb,
)

from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.ecg_recording import millivolts_per_unit, normalise_lead_name
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS


@pytest.mark.parametrize(
    ("written", "lead"),
    [
        ("I", "I"),
        ("AVR", "aVR"),
        ("avf", "aVF"),
        ("v6", "V6"),
        ("Lead I (Einthoven)", "I"),
        ("Lead aVL", "aVL"),
        ("MDC_ECG_LEAD_AVR", "aVR"),
        ("MDC_ECG_LEAD_I", "I"),
        ("ECG Lead V3", "V3"),
        (" iii ", "III"),
        ("aVR, augmented voltage, right", "aVR"),
        ("DI", "I"),
        ("DII", "II"),
        ("diii", "III"),
        ("D1", "I"),
        ("D3", "III"),
        ("C1", "V1"),
        ("Lead C6", "V6"),
        ("Lead 2", "II"),
        ("2", None),
        ("aVR(inverted)", None),
        ("aVR, inverted", None),
        ("I (copy)", None),
        ("V4 (right)", None),
        ("V2 (2)", None),
        ("(" * 60_000, None),
        ("I" + "(" * 60_000, None),
        ("C7", None),
        ("D4", None),
        ("MLII", None),
        ("-aVR", None),
        ("V7", None),
        ("vx", None),
        ("PLETH", None),
        ("IIII", None),
    ],
)
def test_lead_names_are_recognised_as_files_write_them(written, lead):
    assert normalise_lead_name(written) == lead


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("mV", 1), ("mv", 1), ("uV", 1e-3), ("µV", 1e-3), ("\u03bcV", 1e-3), ("V", 1e3), ("microvolts", 1e-3)],
)
def test_voltage_units_are_recognised(unit, factor):
    assert millivolts_per_unit(unit) == factor


def test_unknown_unit_names_the_known_ones():
    with pytest.raises(ValueError, match="mmHg.*mV, uV"):
        millivolts_per_unit("mmHg")


@pytest.mark.parametrize(("fmt", "gain"), [("16", 1000.0), ("212", 200.0)])
@pytest.mark.parametrize("suffix", ["", ".hea", ".dat"])
def test_wfdb_comes_back_as_written(tmp_path, fmt, gain, suffix):
    signal = make_ecg()
    record = write_wfdb(tmp_path, signal, MIMIC_LEADS, fmt=fmt, gain=gain)
    read = read_ecg(f"{record}{suffix}")
    assert read.lead_names == MIMIC_LEADS and read.sampling_rate == 500 and read.units == "mV"
    assert np.abs(read.signal - signal).max() <= 0.51 / gain


def test_wfdb_microvolts_become_millivolts(tmp_path):
    signal = make_ecg()
    read = read_ecg(write_wfdb(tmp_path, signal * 1000, list(LEADS), units="uV", gain=1.0))
    assert np.abs(read.signal - signal).max() <= 0.6e-3


def test_wfdb_missing_samples_are_nan(tmp_path):
    signal = make_ecg()
    signal[3, 100:120] = np.nan
    read = read_ecg(write_wfdb(tmp_path, signal, list(LEADS)))
    assert np.array_equal(np.isnan(read.signal), np.isnan(signal))


def test_wfdb_foreign_channels_are_left_out_and_named(tmp_path):
    record = write_wfdb(tmp_path, make_ecg(13), [*LEADS, "PLETH"], unit_list=["mV"] * 12 + ["NU"], gain=1000.0)
    read = read_ecg(record)
    assert read.lead_names == list(LEADS)
    assert any("PLETH" in note for note in read.notes)


def test_wfdb_unknown_unit_is_refused(tmp_path):
    with pytest.raises(InputRefusedError, match="lead II: unknown unit 'mmHg'"):
        read_ecg(write_wfdb(tmp_path, make_ecg(2), ["I", "II"], unit_list=["mV", "mmHg"]))


def test_wfdb_without_any_lead_is_refused(tmp_path):
    with pytest.raises(InputRefusedError, match="PLETH"):
        read_ecg(write_wfdb(tmp_path, make_ecg(1), ["PLETH"]))


def test_missing_and_damaged_recordings_are_refused(tmp_path):
    with pytest.raises(InputRefusedError, match=r"nowhere: .*\.hea is not there"):
        read_ecg(tmp_path / "nowhere")
    record = write_wfdb(tmp_path, make_ecg(), list(LEADS))
    data = record.with_suffix(".dat")
    data.write_bytes(data.read_bytes()[:1001])
    with pytest.raises(InputRefusedError, match="record"):
        read_ecg(record)
    record.with_suffix(".hea").write_text("not a header\n")
    with pytest.raises(InputRefusedError, match="record"):
        read_ecg(record)
    record.with_suffix(".dat").unlink()
    with pytest.raises(InputRefusedError, match="record"):
        read_ecg(record)


def test_refusals_survive_pickling():
    error = pickle.loads(pickle.dumps(InputRefusedError("file", "why")))
    assert (error.item, error.reason, str(error)) == ("file", "why", "file: why")


@pytest.mark.parametrize("library", ["wfdb", "pydicom"])
def test_missing_library_names_the_pip_command(tmp_path, monkeypatch, library):
    path = write_wfdb(tmp_path, make_ecg(), list(LEADS))
    if library == "pydicom":
        path = write_ecg_dicom(tmp_path / "a.dcm", [waveform_group(make_ecg() * 1000, list(LEADS), 500, "ORIGINAL")])
    monkeypatch.setitem(sys.modules, library, None)  # importing it raises ImportError
    with pytest.raises(ImportError, match=f"pip install {library}"):
        read_ecg(path)


def test_dicom_ecg_picks_the_rhythm_group_and_scales(tmp_path):
    signal = make_ecg()
    median = waveform_group(make_ecg(samples=600, seed=1) * 1000, list(LEADS), 500, "DERIVED")
    rhythm = waveform_group(signal * 1000, [f"Lead {lead}" for lead in MIMIC_LEADS], 500, "ORIGINAL")
    read = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [median, rhythm]))
    assert [normalise_lead_name(name) for name in read.lead_names] == MIMIC_LEADS
    assert read.sampling_rate == 500 and read.signal.shape == (12, 5000)
    assert np.abs(read.signal - signal).max() <= 1.1e-3  # half a step of 2 uV
    assert read.notes == ["read multiplex group 2 of 2"]


def test_dicom_ecg_leads_by_code(tmp_path):
    codes = [f"5.6.3-9-{number}" for number in (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)]
    read = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [waveform_group(make_ecg() * 1000, codes, 500, "ORIGINAL")]))
    assert read.lead_names == list(LEADS)


def test_dicom_ecg_padding_is_missing(tmp_path):
    group = waveform_group(make_ecg() * 1000, list(LEADS), 500, "ORIGINAL")
    samples = np.frombuffer(group.WaveformData, "<i2").reshape(5000, 12).copy()
    samples[:7, 2] = -32768
    group.WaveformData = samples.tobytes()
    group.add_new("WaveformPaddingValue", "OW", np.int16(-32768).tobytes())
    read = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group]))
    assert np.isnan(read.signal).sum() == 7 and np.isnan(read.signal[2, :7]).all()


def test_dicom_ecg_without_unit_is_refused(tmp_path):
    group = waveform_group(make_ecg() * 1000, list(LEADS), 500, "ORIGINAL", unit=None)
    with pytest.raises(InputRefusedError, match="unknown unit 'not stated'"):
        read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group]))


def test_dicom_ecg_cut_short_is_refused(tmp_path):
    group = waveform_group(make_ecg() * 1000, list(LEADS), 500, "ORIGINAL")
    group.WaveformData = group.WaveformData[:1000]
    with pytest.raises(InputRefusedError, match="cannot be decoded"):
        read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group]))


def test_an_image_is_no_ecg(tmp_path):
    with pytest.raises(InputRefusedError, match="without waveforms"):
        read_ecg(write_echo_dicom(tmp_path / "echo.dcm", make_frames()))


def test_real_recordings_are_twelve_leads_in_millivolts(shared_dir):
    for name in ("georgia/E07500", "chapman/JS20000", "ptbxl/HR06000", "ptbxl/00001_lr"):
        read = read_ecg(shared_dir / "data" / "wfdb" / name)
        assert read.signal.shape[0] == 12 and 0.2 < np.ptp(read.signal, axis=1).max() < 10
    read = read_ecg(shared_dir / "data" / "ecg_dicom" / "waveform_ecg.dcm")
    assert read.sampling_rate == 1000 and read.signal.shape == (12, 10000)
    assert np.abs(read.signal[0] + read.signal[2] - read.signal[1]).max() < 0.01  # I + III = II


def test_normalised_units_are_kept_and_not_mixed_with_volts(tmp_path: Path) -> None:
    signal = make_heart().T * 60  # would be implausible as millivolts
    for name, units in (("scaled", ["NU"] * 12), ("mixed", ["mV", *["NU"] * 11])):
        wfdb.wrsamp(name, 500, units, list(LEADS), signal, fmt=["16"] * 12, write_dir=str(tmp_path))
    record = read_ecg(tmp_path / "scaled")
    assert record.units == "normalised" and np.abs(record.signal - signal.T).max() < 1e-2
    assert EcgFeatureExtractor()(record)["ecg_values"][0].shape == (12, 2250)
    with pytest.raises(InputRefusedError, match="others in normalised units"):
        read_ecg(tmp_path / "mixed")
