"""DICOM waveforms: formats, groups and lead codes are read right or refused."""

import numpy as np
import pydicom
import pytest
from input_files import MIMIC_LEADS, make_ecg, new_dicom, waveform_group, write_ecg_dicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage

from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

HALF_A_STEP = 1.1e-3  # mV; the files hold steps of 2 uV


def group_of(signal, names=LEADS, rate=500, originality="ORIGINAL", **elements):
    group = waveform_group(signal * 1000, list(names), rate, originality)
    for name, value in elements.items():
        setattr(group, name, value)
    return group


def stored(group):
    channels = group.NumberOfWaveformChannels
    return np.frombuffer(group.WaveformData, "<i2").reshape(-1, channels).copy()


def refuse(path, *parts):
    with pytest.raises(InputRefusedError) as caught:
        read_ecg(path)
    for part in parts:
        assert part in str(caught.value)


# ---- formats of samples


def test_big_endian_samples_and_padding_are_read(tmp_path):
    signal = make_ecg()
    group = group_of(signal)
    samples = stored(group)
    samples[:7, 2] = -32768
    group.WaveformData = samples.astype(">i2").tobytes()
    group.add_new("WaveformPaddingValue", "OW", np.array(-32768, ">i2").tobytes())
    dataset = new_dicom(TwelveLeadECGWaveformStorage, ExplicitVRBigEndian)
    dataset.WaveformSequence = [group]
    pydicom.dcmwrite(tmp_path / "ecg.dcm", dataset, implicit_vr=False, little_endian=False, force_encoding=True)
    read = read_ecg(tmp_path / "ecg.dcm")
    assert np.isnan(read.signal[2, :7]).all() and np.isnan(read.signal).sum() == 7
    assert np.nanmax(np.abs(read.signal - signal)) <= HALF_A_STEP


@pytest.mark.parametrize("filled", [True, False])
def test_the_sign_of_twelve_bits_is_extended(tmp_path, filled):
    signal = make_ecg()
    group = group_of(signal)
    samples = stored(group)
    assert np.abs(samples).max() < 2048
    group.WaveformData = (samples if filled else samples & 0x0FFF).astype("<i2").tobytes()
    for channel in group.ChannelDefinitionSequence:
        channel.WaveformBitsStored = 12
    assert np.abs(read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group])).signal - signal).max() <= HALF_A_STEP


def test_samples_beyond_the_declared_bits_are_refused(tmp_path):
    group = group_of(make_ecg())
    for channel in group.ChannelDefinitionSequence:
        channel.WaveformBitsStored = 8
    refuse(write_ecg_dicom(tmp_path / "ecg.dcm", [group]), "WaveformBitsStored is 8 of 16")


@pytest.mark.parametrize(("law", "name"), [("MB", "mu-law"), ("AB", "A-law"), ("XX", "'XX'"), ("", "''")])
def test_other_sample_interpretations_are_refused_by_name(tmp_path, law, name):
    group = group_of(make_ecg(), WaveformSampleInterpretation=law)
    refuse(write_ecg_dicom(tmp_path / "ecg.dcm", [group]), name, "linear samples")


@pytest.mark.parametrize("count", [11, 13, 0])
@pytest.mark.parametrize("element", ["NumberOfWaveformChannels", "WaveformBitsAllocated"])
def test_counts_that_contradict_the_data_are_refused(tmp_path, element, count):
    refuse(write_ecg_dicom(tmp_path / "ecg.dcm", [group_of(make_ecg(), **{element: count})]), "cannot be decoded")


@pytest.mark.parametrize("samples", [4999, 5001, 2_000_000_000])
def test_a_length_that_contradicts_the_data_is_refused(tmp_path, samples):
    refuse(write_ecg_dicom(tmp_path / "ecg.dcm", [group_of(make_ecg(), NumberOfWaveformSamples=samples)]), "ecg.dcm")


# ---- calibration


def test_an_empty_baseline_is_zero(tmp_path):
    signal = make_ecg()
    group = group_of(signal + 0.01)
    for channel in group.ChannelDefinitionSequence:
        channel.ChannelBaseline = None
        channel.ChannelSensitivityCorrectionFactor = None
    read = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group]))
    assert np.abs(read.signal - signal).max() <= HALF_A_STEP


@pytest.mark.parametrize("sensitivity", [0, -2.0, None])
def test_leads_without_a_known_sensitivity_are_left_out(tmp_path, sensitivity):
    group = group_of(make_ecg())
    group.ChannelDefinitionSequence[6].ChannelSensitivity = sensitivity
    read = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group]))
    assert read.lead_names == [lead for lead in LEADS if lead != "V1"]
    assert any("lead V1 was left out" in note for note in read.notes)
    for channel in group.ChannelDefinitionSequence:
        channel.ChannelSensitivity = sensitivity
    refuse(write_ecg_dicom(tmp_path / "ecg.dcm", [group]), "no lead has a known scale")


@pytest.mark.parametrize("rate", [0, -500, None])
def test_an_impossible_rate_is_refused(tmp_path, rate):
    group = group_of(make_ecg())
    group.SamplingFrequency = rate
    refuse(write_ecg_dicom(tmp_path / "ecg.dcm", [group]), "SamplingFrequency")


# ---- lead names


def test_a_code_that_contradicts_its_meaning_is_refused(tmp_path):
    group = group_of(make_ecg())
    source = group.ChannelDefinitionSequence[6].ChannelSourceSequence[0]
    source.CodeValue, source.CodeMeaning = "5.6.3-9-3", "Lead V2"
    refuse(write_ecg_dicom(tmp_path / "ecg.dcm", [group]), "V1, V2")
    source.CodeValue, source.CodeMeaning = "5.6.3-9-9", "Lead V1"  # the code of V7
    refuse(write_ecg_dicom(tmp_path / "ecg.dcm", [group]), "another lead, V1")
    source.CodeValue, source.CodeMeaning = "5.6.3-9-3", "Brustwand 1"
    assert read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group])).lead_names == list(LEADS)
    group.ChannelDefinitionSequence[6].ChannelLabel = "aVF"
    refuse(write_ecg_dicom(tmp_path / "ecg.dcm", [group]), "V1, aVF")


# ---- groups


def test_groups_of_one_rate_and_length_are_joined(tmp_path):
    signal = make_ecg()
    median = group_of(make_ecg(samples=600, seed=1), originality="DERIVED")
    groups = [group_of(signal[:6], LEADS[:6]), median, group_of(signal[6:], LEADS[6:])]
    read = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", groups))
    assert read.lead_names == list(LEADS) and np.abs(read.signal - signal).max() <= HALF_A_STEP
    assert read.notes == ["read multiplex groups 1 and 3 of 3"]


def test_groups_of_different_times_are_not_joined(tmp_path):
    signal = make_ecg()
    first, second = group_of(signal[:6], LEADS[:6]), group_of(signal[6:], LEADS[6:])
    first.MultiplexGroupTimeOffset, second.MultiplexGroupTimeOffset = 0.0, 10_000.0
    read = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [first, second]))
    assert read.lead_names == list(LEADS[:6]) and read.notes == ["read multiplex group 1 of 2"]


@pytest.mark.parametrize("rhythm_first", [True, False])
def test_a_rhythm_of_eight_leads_is_preferred_to_twelve_averaged_beats(tmp_path, rhythm_first):
    names = ["I", "II", *LEADS[6:]]
    signal = make_ecg(8)
    groups = [group_of(signal, names), group_of(make_ecg(samples=600), MIMIC_LEADS, originality="DERIVED")]
    read = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", groups[:: 1 if rhythm_first else -1]))
    assert read.lead_names == names and read.signal.shape == (8, 5000)


# ---- damaged sequences


def test_incomplete_groups_are_refused(tmp_path):
    for name in (
        "NumberOfWaveformSamples",
        "SamplingFrequency",
        "ChannelDefinitionSequence",
        "WaveformData",
        "WaveformBitsAllocated",
        "NumberOfWaveformChannels",
        "WaveformSampleInterpretation",
    ):
        group = group_of(make_ecg())
        group["WaveformData"].VR = "OW"
        delattr(group, name)
        refuse(write_ecg_dicom(tmp_path / "ecg.dcm", [group]), "ecg.dcm")
    refuse(write_ecg_dicom(tmp_path / "ecg.dcm", []), "without waveforms")
    refuse(write_ecg_dicom(tmp_path / "ecg.dcm", [Dataset()]), "incomplete")


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_are_refused_or_read_but_never_raise(tmp_path, seed):
    path = write_ecg_dicom(tmp_path / "ecg.dcm", [group_of(make_ecg())])
    content = bytearray(path.read_bytes())
    generator = np.random.default_rng(seed)
    for position in generator.integers(0, 6000, 4):
        content[position] = int(generator.integers(0, 256))
    path.write_bytes(bytes(content))
    try:
        EcgFeatureExtractor().prepare(path)
    except InputRefusedError as error:
        assert error.reason


def test_a_file_without_preamble_is_read(tmp_path):
    signal = make_ecg()
    path = write_ecg_dicom(tmp_path / "ecg", [group_of(signal)])
    content = path.read_bytes()
    meta = 144 + int.from_bytes(content[140:144], "little")
    for start in (132, meta):  # with the file's meta information, and the bare data set
        path.write_bytes(content[start:])
        assert np.abs(read_ecg(path).signal - signal).max() <= HALF_A_STEP


@pytest.mark.parametrize(("element", "value"), [("ChannelSampleSkew", "60"), ("ChannelTimeSkew", "0.06")])
def test_a_lead_that_is_apart_from_the_others_is_left_out(tmp_path, element, value):
    group = waveform_group(make_ecg() * 1000, list(LEADS), 500, "ORIGINAL")
    setattr(group.ChannelDefinitionSequence[7], element, value)
    recording = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group]))
    assert "V2" not in recording.lead_names and any("V2" in note and "120 ms" in note for note in recording.notes) == (
        element == "ChannelSampleSkew"
    )


def test_two_rhythms_of_one_time_must_be_the_same(tmp_path):
    first = waveform_group(make_ecg() * 1000, list(LEADS), 500, "ORIGINAL")
    same = waveform_group(make_ecg() * 1000, list(LEADS), 500, "ORIGINAL")
    other = waveform_group(make_ecg(seed=1) * 1000, list(LEADS), 500, "ORIGINAL")
    assert len(read_ecg(write_ecg_dicom(tmp_path / "same.dcm", [first, same])).lead_names) == 12
    with pytest.raises(InputRefusedError, match="different signals"):
        read_ecg(write_ecg_dicom(tmp_path / "other.dcm", [first, other]))


@pytest.mark.parametrize(
    ("header", "word"),
    [({"PatientSpeciesDescription": "Canine"}, "animal"), ({"Modality": "EEG"}, "EEG"), ({"Modality": "emg"}, "EMG")],
)
def test_a_header_of_an_animal_or_of_other_waveforms_is_refused(tmp_path, header, word):
    dataset = new_dicom(TwelveLeadECGWaveformStorage, ExplicitVRLittleEndian)
    dataset.WaveformSequence = [group_of(make_ecg())]
    dataset.Modality, dataset.PatientSpeciesDescription = "ECG", "Homo sapiens"
    dataset.save_as(tmp_path / "ecg.dcm", enforce_file_format=True)
    assert read_ecg(tmp_path / "ecg.dcm").signal.shape[0] == 12
    for name, value in header.items():
        setattr(dataset, name, value)
    dataset.save_as(tmp_path / "ecg.dcm", enforce_file_format=True)
    refuse(tmp_path / "ecg.dcm", word)


# ---- what the header says against the samples


@pytest.mark.parametrize("status", ["DISCONNECTED", "INVALID", "QUESTIONABLE", "UNCALIBRATED", "TEST DATA", "JANE DOE"])
def test_a_channel_that_the_recorder_calls_bad_is_not_used(tmp_path, status):
    group = group_of(make_ecg())
    group.ChannelDefinitionSequence[7].ChannelStatus = status
    recording = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group]))
    assert "V2" not in recording.lead_names and len(recording.lead_names) == 11
    assert any("channel status" in note and "JANE" not in note for note in recording.notes)


@pytest.mark.parametrize("status", ["OK", "", "UNZEROED"])
def test_a_channel_that_the_recorder_calls_good_is_used(tmp_path, status):
    group = group_of(make_ecg())
    for channel in group.ChannelDefinitionSequence:
        channel.ChannelStatus = status
    recording = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group]))
    assert len(recording.lead_names) == 12 and not recording.notes


def test_test_data_are_no_recording(tmp_path):
    group = group_of(make_ecg())
    for channel in group.ChannelDefinitionSequence:
        channel.ChannelStatus = "TEST DATA"
    refuse(write_ecg_dicom(tmp_path / "ecg.dcm", [group]), "TEST DATA")


@pytest.mark.parametrize(
    ("elements", "channel", "words"),
    [
        ({}, {"FilterLowFrequency": "5"}, "filter from 5 Hz"),
        ({}, {"FilterHighFrequency": "15"}, "filter up to 15 Hz"),
        ({}, {"FilterLowFrequency": "0.05", "FilterHighFrequency": "40"}, None),
        ({"MultiplexGroupLabel": "MEDIAN BEAT"}, {}, "averaged beat"),
        ({"MultiplexGroupLabel": "RHYTHM"}, {}, None),
    ],
)
def test_filters_and_averaged_beats_of_the_header_are_noted(tmp_path, elements, channel, words):
    group = group_of(make_ecg(), **elements)
    for definition in group.ChannelDefinitionSequence:
        for name, value in channel.items():
            setattr(definition, name, value)
    checks = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group])).checks
    assert any(words in check["text"] for check in checks) if words else not checks


@pytest.mark.parametrize(
    ("header", "is_noted"),
    [({"StudyDescription": "Treadmill test, stage 3"}, True), ({"SeriesDescription": "Holter strip"}, True),
     ({"StudyDescription": "Exercise test, recovery stage"}, True), ({"ProtocolName": "Stage: recovery"}, True),
     ({"StudyDescription": "Ambulatory ECG, 24 h"}, True), ({"SeriesDescription": "ambulatory monitoring"}, True),
     ({"StudyDescription": "Stress ECG"}, True), ({"StudyDescription": "Post-stress ECG"}, True),
     ({"StudyDescription": "Belastungs-EKG"}, True),
     ({"StudyDescription": "Resting 12-lead ECG"}, False), ({"StudyDescription": "ECG Recovery Room"}, False),
     ({"StudyDescription": "Ambulatory care clinic ECG"}, False), ({"StudyDescription": "Pre-stress ECG"}, False),
     ({"StudyDescription": "pre-stress resting ECG"}, False), ({"StudyDescription": "ECG at rest, stress lab"}, False),
     *[({"StudyDescription": text}, False) for text in (
         "Rest ECG, treadmill room", "Ruhe EKG vor Ergometrie", "ECG rest (exercise ECG follows)", "RuheEKG, Belastung",
         "12 Lead ECG Rest; Ergometer lab", "Stress ECG - rest phase", "Pre-exercise ECG")],
     *[({"StudyDescription": text}, True) for text in ("Exercise ECG, compared to rest", "Stress ECG, not at rest")],
     ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.9.2.1"}, True)],
)  # fmt: skip
def test_an_ecg_of_a_patient_who_is_not_at_rest_is_noted(tmp_path, header, is_noted):
    path = write_ecg_dicom(tmp_path / "ecg.dcm", [group_of(make_ecg())])
    dataset = pydicom.dcmread(path)
    for name, value in header.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    assert bool(read_ecg(path).checks) == is_noted
