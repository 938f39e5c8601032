"""What the header of an ECG calls another signal is not used as a lead; what speaks against a resting ECG is noted."""

import pydicom
import pytest
from input_files import make_ecg, waveform_group, write_ecg_dicom, write_wfdb
from pydicom.dataset import Dataset
from vendor_files import change, write_aecg, write_edf, write_muse, write_philips

from tgmm_hf.inputs.ecg_lead_words import other_signal
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

CODES = dict(zip(LEADS, ("1", "2", "61", "62", "63", "64", "3", "4", "5", "6", "7", "8"), strict=True))
CLASS = "1.2.840.10008.5.1.4.1.1.9."


def coded_group():
    """Return a group whose channels have codes of SCPECG and the meanings of the standard."""
    group = waveform_group(make_ecg() * 1000, [f"5.6.3-9-{CODES[lead]}" for lead in LEADS], 500, "ORIGINAL")
    for channel, lead in zip(group.ChannelDefinitionSequence, LEADS, strict=True):
        channel.ChannelSourceSequence[0].CodeMeaning = f"Lead {lead}"
    return group


def read_with(tmp_path, meaning=None, label=None, modifier=None, lead="V1"):
    group = coded_group()
    channel = group.ChannelDefinitionSequence[LEADS.index(lead)]
    if meaning is not None:
        channel.ChannelSourceSequence[0].CodeMeaning = meaning
    if label is not None:
        channel.ChannelLabel = label
    if modifier is not None:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "x", "99", modifier
        channel.ChannelSourceModifiersSequence = [code]
    return read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group]))


OTHERS = [
    "Arterial pressure", "Respiration", "EEG Fp1", "Pacing spikes", "Lead V3R", "V4R", "Lead V7", "Lead X (Frank)",
    "Lead CM5", "Lead V1 inverted", "Lead V1 (posterior)", "SpO2", "Lead MCL1", "V1 (copy)", "Ableitung V2",
    "-V1", "Lead V1, average beat", "Right-sided lead V1", "EMG", "Impedance", "Impedance pneumography",
]  # fmt: skip
STANDARD = [
    "Lead V1", "V1", "V1 (precordial)", "", "Ableitung V1", "ECG lead V1", "Chest lead 1", "Precordial lead",
    "V1, 4th intercostal space, right sternal border", "Right precordial lead V1", "C1", "MDC_ECG_LEAD_V1", "ECG",
    "derivation V1", "Unipolar lead V1", "V1-V6 chest electrodes", "V1 (right)", "non-inverted", "not inverted",
    "EMG filter 35 Hz", "Muscle (EMG) filter off", "Resp. filter on", "impedance ok", "Impedance 12 kOhm",
    "ECG; skin impedance < 5 kOhm", "median filter 50 Hz", "Common average reference", "Pacemaker detection",
]  # fmt: skip


@pytest.mark.parametrize("text", OTHERS)
def test_a_channel_that_its_words_call_another_signal_is_left_out(tmp_path, text):
    recording = read_with(tmp_path, text)
    assert recording.lead_names == [lead for lead in LEADS if lead != "V1"]
    assert any(note.startswith("lead V1 was left out") and "another signal" in note for note in recording.notes)
    assert not EcgFeatureExtractor().prepare(recording).mask[LEADS.index("V1")]


@pytest.mark.parametrize("text", STANDARD)
def test_other_words_for_the_same_lead_are_accepted(tmp_path, text):
    recording = read_with(tmp_path, text)
    assert recording.lead_names == list(LEADS) and not recording.notes


def test_label_and_modifiers_count_too(tmp_path):
    for options in ({"label": "V3R"}, {"modifier": "inverted"}, {"label": "Resp"}):
        assert "V1" not in read_with(tmp_path, **options).lead_names
    for options in ({"label": "V1"}, {"label": "CH7"}, {"modifier": "electrode"}, {"label": ""}):
        assert read_with(tmp_path, **options).lead_names == list(LEADS)


@pytest.mark.parametrize(
    ("lead", "text"),
    [("aVR", "aVR, augmented voltage, right"), ("aVR", "aVR (right)"), ("I", "Lead I (Einthoven)"),
     ("I", "Lead I (LA-RA)"), ("II", "Lead II, negative electrode on the right arm"), ("III", "Lead III (derived)"),
     ("I", "Bipolar limb lead I"), ("aVF", "augmented voltage, foot"), ("V2", "V2 (parasternal)"),
     ("V6", "V6 lateral"), ("V6", "V6, posterior axillary line"), ("II", "MLII"), ("II", "II pace detect on"),
     ("V1", "V1 (right)"), ("V1", "Mason-Likar off")],
)  # fmt: skip
def test_words_of_the_standard_leads_are_accepted(lead, text):
    assert other_signal(lead, [text]) == ""


@pytest.mark.parametrize(
    ("lead", "text"),
    [("V4", "Lead V4 (right)"), ("V1", "MLII"), ("V1", "MLV1"), ("II", "MLIII"), ("II", "II inverted"),
     ("V5", "V5, EMG filter on, inverted")],
)  # fmt: skip
def test_words_that_contradict_other_leads_are_found(lead, text):
    assert other_signal(lead, [text])


def changed(path, **elements):
    dataset = pydicom.dcmread(path)
    for name, value in elements.items():
        if name == "meta":
            dataset.file_meta.MediaStorageSOPClassUID = value
        elif name == "context":
            entry, code = Dataset(), Dataset()
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "x", "99", value
            entry.ConceptCodeSequence = [code]
            dataset.AcquisitionContextSequence = [entry]
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("ending", ["7.1", "7.2", "7.3", "7.4", "6.1", "6.2", "8.1", "4.1", "4.2"])
@pytest.mark.parametrize("element", ["SOPClassUID", "meta"])
def test_a_storage_class_of_other_waveforms_is_refused(tmp_path, ending, element):
    path = write_ecg_dicom(tmp_path / "ecg.dcm", [coded_group()])
    with pytest.raises(InputRefusedError, match="storage class"):
        read_ecg(changed(path, **{element: CLASS + ending}))
    assert [check["code"] for check in read_ecg(changed(path, Modality="ECG")).checks] == ["ecg_storage_class"]


@pytest.mark.parametrize(
    "elements",
    [{"Modality": name} for name in ("MR", "US", "OT", "HD", "EPS")]
    + [{"SOPClassUID": CLASS + name} for name in ("2.1", "3.1", "5.1", "1.3")]
    + [{"context": text} for text in ("Right sided precordial leads", "Derived 12-lead ECG from EASI", "Mason-Likar")]
    + [
        {"StudyDescription": text}
        for text in (
            "Stress ECG",
            "Bruce protocol",
            "Exercise ECG",
            "Posterior ECG",
            "Stress test, chest pain",
            "Vectorcardiogram",
            "EASI",
            "right precordial leads",
            "Ergometrie",
            "Belastungs-EKG",
            "Holter",
        )
    ]
    + [{"context": "Exercise, stage 2"}, {"StudyDescription": "ECG right-sided leads"}, {"ProtocolName": "V3R V4R"}],
)
def test_another_kind_of_recording_is_noted(tmp_path, elements):
    path = changed(write_ecg_dicom(tmp_path / "ecg.dcm", [coded_group()]), **elements)
    recording = read_ecg(path)
    assert recording.lead_names == list(LEADS) and len(recording.checks) == 1


def test_a_doubtful_header_is_a_check_and_one_note(tmp_path):
    path = changed(write_ecg_dicom(tmp_path / "ecg.dcm", [coded_group()]), StudyDescription="Stress ECG")
    prepared = EcgFeatureExtractor().prepare(path)
    assert [check["code"] for check in prepared.checks].count("ecg_not_at_rest") == 1
    assert sum("exercise test" in note for note in prepared.notes) == 1


@pytest.mark.parametrize(
    "elements",
    [{"Modality": "ECG"}, {"Modality": "ecg"}, {"Modality": ""}, {"SOPClassUID": CLASS + "1.2"},
     {"SOPClassUID": CLASS + "1.4"}, {"context": "Standard 12-lead positions: limb leads placed at extremities"},
     {"context": "Resting"}, {"StudyDescription": "ECG, right sided heart failure"},
     {"StudyDescription": "ECG, posterior infarction?"}, {"context": "Left arm"},
     *[{"StudyDescription": text} for text in (
         "ECG w/o stress", "no exercise", "Stress ulcer", "acute stress reaction", "Dr. Bruce", "Holter clinic",
         "ECG EASI off", "Mason-Likar off", "ECG; no posterior leads", "posterior ECG changes",
         "posterior ECG leads not recorded", "12 Lead ECG Rest; Ergometer lab", "Treadmill test tomorrow",
         "ECG before exercise test", "Treadmill room", "Stress test scheduled", "Exercise lab")]],
)  # fmt: skip
def test_a_resting_ecg_has_no_note(tmp_path, elements):
    recording = read_ecg(changed(write_ecg_dicom(tmp_path / "ecg.dcm", [coded_group()]), **elements))
    assert not recording.notes and not recording.checks


# ---- filters of other formats


def edf_with(path, prefilter, transducer=""):
    write_edf(path, make_ecg(), list(LEADS))
    content = bytearray(path.read_bytes())
    for place, width, text in ((256 + 12 * 16, 80, transducer), (256 + 12 * (16 + 80 + 5 * 8), 80, prefilter)):
        for index in range(12):
            start = place + index * width
            content[start : start + width] = text.encode().ljust(width)
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize(
    ("prefilter", "words"),
    [("HP:5Hz", "filter from 5 Hz"), ("LP:15Hz", "up to 15 Hz"), ("HP:0.05Hz LP:150Hz N:50Hz", None), ("", None),
     ("HP: DC; LP: 100 Hz", None), ("HP:0.5Hz LP:40Hz", None)],
)  # fmt: skip
def test_the_filter_of_an_edf_file_is_noted(tmp_path, prefilter, words):
    checks = read_ecg(edf_with(tmp_path / "e.edf", prefilter)).checks
    assert (len(checks) == 1 and words in checks[0]["text"]) if words else not checks


def test_the_transducer_of_an_edf_file_names_the_signal(tmp_path):
    with pytest.raises(InputRefusedError, match="another signal"):
        read_ecg(edf_with(tmp_path / "e.edf", "", "Respiration belt"))
    assert read_ecg(edf_with(tmp_path / "f.edf", "", "AgAgCl electrode")).lead_names == list(LEADS)


@pytest.mark.parametrize(
    ("high_pass", "low_pass", "number"), [(300, 150, 1), (500, 20, 2), (16, 150, 0), (5, 40, 0), (50, 100, 0)]
)
def test_the_filter_of_a_muse_file_is_noted(tmp_path, high_pass, low_pass, number):
    path = write_muse(tmp_path / "m.xml", make_ecg(), list(LEADS))
    tags = f"<HighPassFilter>{high_pass}</HighPassFilter><LowPassFilter>{low_pass}</LowPassFilter>"
    checks = read_ecg(change(path, "<SampleBase>", tags + "<SampleBase>")).checks
    assert [check["code"] for check in checks] == ["ecg_filter"] * number


@pytest.mark.parametrize(("kind", "frequency", "number"), [("HIGH", 5, 1), ("HIGH", 0.05, 0), ("LOW", 15, 1)])
def test_the_filter_of_an_aecg_is_noted(tmp_path, kind, frequency, number):
    path = write_aecg(tmp_path / "a.xml", make_ecg(), list(LEADS))
    variable = (
        f'<controlVariable><controlVariable><code code="MDC_ECG_CTL_VBL_ATTR_FILTER_{kind}_PASS"/><component>'
        f'<controlVariable><code code="MDC_ECG_CTL_VBL_ATTR_FILTER_CUTOFF_FREQ"/><value value="{frequency}" unit="Hz"/>'
        "</controlVariable></component></controlVariable></controlVariable>"
    )
    checks = read_ecg(change(path, '<code code="RHYTHM"/>', '<code code="RHYTHM"/>' + variable)).checks
    assert len(checks) == number


@pytest.mark.parametrize(("high_pass", "number"), [("5", 1), ("0.05", 0)])
def test_the_filter_of_a_philips_file_is_noted(tmp_path, high_pass, number):
    path = write_philips(tmp_path / "p.xml", make_ecg(), list(LEADS))
    checks = read_ecg(change(path, "<parsedwaveforms", f'<parsedwaveforms hipass="{high_pass}"')).checks
    assert len(checks) == number


def test_a_plain_recording_has_no_note(tmp_path):
    recording = read_ecg(write_wfdb(tmp_path, make_ecg(), list(LEADS)))
    assert not recording.notes and not recording.checks
