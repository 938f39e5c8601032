"""Free text of a WFDB header or a DICOM annotation that speaks against the ECG is a check; other words are not."""

import time

import pydicom
import pytest
from input_files import make_ecg, waveform_group, write_ecg_dicom, write_wfdb
from pydicom.dataset import Dataset

from tgmm_hf.inputs.ecg_header_findings import filter_findings
from tgmm_hf.inputs.ecg_header_words import filters_of_words, findings_of_words
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.utils.names import LEADS

NAMED = {
    "ecg_not_a_patient": [
        "simulated ECG, Fluke ProSim 8", "Patient simulator", "Phantom recording", "Test pattern", "Species: feline",
        "horse ECG", "canine, Labrador", "Synthetic signal of a generator", "TEST RECORDING DO NOT USE",
    ],
    "patient_not_adult": ["Pediatric ECG, 7 years", "neonate", "3 days old", "fetal ECG", "age 2 weeks"],
    "ecg_other_electrodes": [
        "limb leads reversed", "LA/RA reversal", "Suspect arm lead reversal, interpretation assumes no reversal",
        "Electrodes misplaced: V1 V2 too high", "Leads: V3R V4R V5R", "posterior leads V7-V9 in V4-V6",
        "Mason-Likar positions", "V1 and V2 in the 2nd ICS", "reconstructed from 3 leads", "by Dower from Frank XYZ",
    ],
    "ecg_averaged_beat": ["signal-averaged ECG", "averaged beat, 10 s", "median complex"],
    "ecg_processed": [
        "scaled to unit variance", "amplitude normalized", "z-scored", "units arbitrary", "digitized from paper image",
        "time-reversed", "noise added",
    ],
    "ecg_lead_off": ["electrode off: V3", "V6 not connected", "lead off LL", "Poor data quality, lead V3 off"],
    "ecg_not_at_rest": [
        "peak exercise stage 4", "Bruce protocol", "treadmill 160 W", "Holter 3 channel", "during CPR",
    ],
    "ecg_filter": ["filter 0.5-20 Hz", "low pass 25 Hz", "High pass filter: 2 Hz", "filter: 3 to 100 Hz"],
}  # fmt: skip
GOOD = [
    "noise: none", "test-retest study, record 2", "Stress test recording planned", "reversed polarity not seen",
    "Limb leads reversed, corrected", "Lead reversal: no", "No evidence of arm lead reversal", "leads off: none",
    "Lead off detection: off", "Technician: Old, Karen", "bruce, karl (technician)", "Room: Test Center 3",
    "filter 0.05-150 Hz", "filter 0.05-40 Hz", "Filter: 150 Hz low pass, 60 Hz notch", "Notch filter 50-60 Hz",
    "QRS detection filter 5-15 Hz", "Muscle filter 25-35 Hz", "Reason for admission: pain during treadmill exercise",
    "Hx: canine bite, phantom limb pain", "phantom limb pain", "ST normalized after nitroglycerin", "Holter planned",
    "Stress test last week negative", "Compared with stress ECG of 2012", "Chest pain at exertion", "augmented leads",
    "Exercise capacity good", "Exercise tolerance 5 METs", "median rate 72", "average heart rate 71", "Signal: normal",
    "Species: Homo sapiens", "Pediatric cardiology dept, adult patient", "Signals normalized to mV? no",
    "V1 in the 4th ICS", "RA pressure normal", "Right axis deviation, posterior hemiblock", "Electrode: Ag/AgCl",
    "Left ventricle: posterior wall", "Medication: Digoxin", "<subject_id>: 10000032", "Averaging: off", "Age: 71",
    "Acquired at rest, supine; treadmill room", "No lead reversal suspected", "Simulation-free ward 7",
]  # fmt: skip
NAMED_TOO = {
    "ecg_not_at_rest": [
        "Treadmill stage 3, ST depression vs rest", "Chest tightness, treadmill stage 2, not at rest",
        "Resting HR 60, Bruce stage 3", "EKG 2 min nach Ergometrie", "Stress ECG", "Post-stress ECG",
        "ECG during exercise", "Treadmill test, stage 3", "Treadmill stopped for fatigue",
        "Rest of the text: Stress ECG",
    ],
    "patient_not_adult": [
        "Age: 60 months", "Age: 215 months", "Patient 5 weeks old", "baby, 3 weeks old", "3 weeks old boy",
        "3 days old, male", "# 3 weeks old", "Male, 3 weeks old", "Patient age: 6 months", "newborn 2 days",
    ],
    "ecg_processed": ["signals normalized", "leads were normalized", "z-scored, ST not changed", "voltage normalized"],
    "ecg_averaged_beat": ["averaged beats", "Representative beat of 10 s", "median beat, QRS aligned"],
    "ecg_other_electrodes": [
        "Right-sided ECG: ST elevation in V4R", "posterior leads recorded", "right-sided leads", "V4R in place of V4",
        "V1, V2 in the 3rd ICS", "third intercostal space", "reversed polarity", "computed by Dower", "Dower matrix",
        "Posterior ECG leads", "inverse Dower",
    ],
    "ecg_not_a_patient": [
        "canine", "feline ECG", "dog ECG", "dog patient", "Species: dog", "species=Equus", "Patient: equine",
        "ECG test signal", "equine ECG",
    ],
    "ecg_lead_off": ["RA off", "V6 off, please repeat", "Electrode disconnected", "V3 disconnected"],
    "ecg_filter": [
        "Filter 0.5-20 Hz, AC notch 50 Hz", "Filter 0.5-20 Hz, AC notch: off", "bandpass 0.5-20 Hz", "filter 20-0.5 Hz",
        "band-pass filter 0.5-20 Hz", "AC filter 50 Hz; low pass 25 Hz", "Filter 0,5-20 Hz, notch on",
        "filter, 0.5-20 Hz",
        "Heart rate 70, filter 0.5-20 Hz", "Filter 0.5-20 Hz / muscle filter off",
    ],
}  # fmt: skip
GOOD_TOO = [
    "Rest ECG, treadmill room", "Ruhe EKG vor Ergometrie", "ECG rest (exercise ECG follows)", "Ruhe-EKG, Belastung",
    "12 Lead ECG Rest; Ergometer lab", "Stress ECG - rest phase", "Pre-stress ECG", "Pre-exercise ECG", "Ergometer lab",
    "RuheEKG; Stress ECG",
    "Infarct 3 weeks old", "MI 2 days old", "stent 4 weeks old", "Pacemaker 3 months old", "mother of a 3 weeks old",
    "mother of a 3 weeks old baby", "3 weeks old infarct", "3 weeks old anterior MI",
    "Age: 216 months", "Age: 720 months",
    "Gestational age: 32 weeks", "Pacemaker age: 3 months", "Patient 3 weeks after infarct",
    "T wave in leads V1-V4 normalized", "ST in leads II, III normalized", "lead II normalized since",
    "QRS amplitude normalized", "T wave inversions in leads normalized",
    "median beat measurements: QT 400", "ST measured on averaged beats", "Average beat HR 70",
    "signal-averaged ECG negative", "QTc computed on the median beat",
    "SOB during exertion", "Murmur during exercise", "collapse during exercise", "Claudication at exercise",
    "stress ECG requested", "Treadmill test tomorrow", "nach Ergometrie 2019", "zur Ergometrie", "Ergometrie geplant",
    "vor Ergometrie",
    "consider right-sided leads", "ST elevation in posterior leads", "Q waves in posterior leads", "V4R also recorded",
    "third ICS murmur", "2nd intercostal murmur", "reversed polarity of T wave", "Nurse Dower",
    "ICD lead, reversed polarity",
    "Posterior ECG leads not recorded", "murmur in the 2nd ICS", "T waves in leads V7-V9",
    "Bovine aortic bioprosthesis", "Equine therapist", "canine handler", "Patient lives with dog, ECG normal",
    "species unknown", "Species: unknown", "Species: H. sapiens", "ECG test signal calibration pulse 1 mV",
    "Species: human", "Candida species isolated", "upper canine, left", "Graft: bovine", "allergic to cat; ECG normal",
    "Lead off count 0", "Electrode disconnected alarm off", "RA off, repeated recording", "Lead off events: 0",
    "filter 150-0.05 Hz", "RR interval filter 5-15 Hz", "heart rate filter: 5 - 15 Hz", "low pass 0.05 Hz",
    "Filter 0.05-150 Hz, AC notch 50 Hz", "bandpass 0.05-150 Hz", "QRS-detection, filter 5-15 Hz", "Filter 0,05-35 Hz",
    "Filter 0.05-150 Hz, muscle filter 25-35 Hz", "Filter 0.5-20 Hz off", "respiration low pass 2 Hz",
]  # fmt: skip
NAMED_BESIDE_OTHER_WORDS = {
    "ecg_other_electrodes": [
        "Arm leads reversed. No ST elevation", "Limb leads reversed, not corrected", "Limb leads reversed, chest pain",
        "No STEMI but limb leads reversed", "Lead reversal: yes. STEMI: no", "V1 and V2 swapped", "RA and LA swapped",
        "Limb leads reversed, previous ECG normal", "Limb leads reversed compared with previous ECG",
        "Armelektroden verpolt", "Elektroden an den Armen vertauscht", "Inversion d'\u00e9lectrodes",
        "Elektroden vertauscht", "Verpolung der Armelektroden", "Inversion des \u00e9lectrodes", "左右手电极接反",
    ],
    "ecg_lead_off": ["V6 off. No artefact", "V1 electrode off, not replaced", "lead V3 off (no contact)",
                     "electrode fell off"],
    "ecg_not_a_patient": ["Simulated ECG, angina scenario", "Synthetic ECG; pathology: none", "Dog, 8 years"],
    "ecg_not_at_rest": [
        "Bruce stage 3, chest pain", "Peak exercise. ST depression: no", "ST depression during exercise",
        "Exercise stage 4, stopped for dyspnea",
    ],
    "patient_not_adult": ["Age: 3 months. No murmur", "newborn"],
    "ecg_processed": ["z-scored, history unknown", "Scaled to 0-1", "min-max normalized", "digitized from paper chart"],
    "ecg_averaged_beat": ["Averaged beat. No PVC"],
    "ecg_filter": ["HP 5 Hz LP 20 Hz"],
}  # fmt: skip
GOOD_BESIDE_OTHER_WORDS = [
    "Patient 32 weeks pregnant", "Male, 3 days post op", "Female, 34 weeks gestation", "2 weeks old LBBB",
    "Patient 2 days in ICU", "Has a 3 months old baby", "MI age: 2 weeks", "Post partum day 3, newborn 3 days",
    "Nausea during exercise", "Blackout during exercise", "Presyncope during exercise",
    "Pain during treadmill exercise",
    "Zustand nach Ergometrie", "Ergometrie negativ", "Treadmill 2018: negative", "Holter 2019: no AF",
    "Pt had stress ECG at outside hospital", "RV lead off", "Pacemaker: atrial lead disconnected",
    "Keine Verpolung der Elektroden", "Keine Elektroden vertauscht",
    "电极无接反", "Last ECG: limb leads reversed", "High precordial voltage",
    "Mean HR computed from 3 beats", "Report scanned from paper", "INR normalized to 1", "Min-max heart rate 55-130",
    "HP 0.05 Hz LP 150 Hz", "band-pass 5-15 Hz used for R peaks",
]  # fmt: skip
PAIRS = [
    (code, text)
    for kinds in (NAMED, NAMED_TOO, NAMED_BESIDE_OTHER_WORDS)
    for code, texts in kinds.items()
    for text in texts
]


def codes_of(*lines: str) -> list[str]:
    findings = filter_findings(*filters_of_words(lines)) + findings_of_words(lines)
    return [finding["code"] for finding in findings]


@pytest.mark.parametrize(("code", "text"), PAIRS)
def test_words_against_the_ecg_are_found(code: str, text: str) -> None:
    assert code in codes_of("Age: 71", text)


@pytest.mark.parametrize("text", GOOD + GOOD_TOO + GOOD_BESIDE_OTHER_WORDS)
def test_words_of_good_headers_are_not_marked(text: str) -> None:
    assert codes_of(text) == []


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("patient_not_adult", "Male, 3 months"), ("patient_not_adult", "Sex: male, 5 months"),
        ("patient_not_adult", "Subject age: 3 months"), ("patient_not_adult", "3 months old boy has a VSD"),
        ("patient_not_adult", "Age: 3 months, has a VSD"), ("ecg_processed", "z-scored, see report"),
        ("ecg_processed", "Digitized from paper, report attached"),
        ("ecg_averaged_beat", "Averaged beat, QRS width 90 ms"),
        ("ecg_other_electrodes", "Limb leads reversed. Corrected QT 430 ms"),
        ("ecg_not_at_rest", "Stress ECG 2023/04/02"), ("ecg_not_at_rest", "Treadmill 2024.05.01"),
    ],
)  # fmt: skip
def test_a_word_elsewhere_in_the_line_takes_no_mark_away(code: str, text: str) -> None:
    assert code in codes_of("Age: 71", text)


def test_a_year_in_a_title_dates_the_file() -> None:
    assert [finding["code"] for finding in findings_of_words([], titles=["Treadmill 2024"])] == ["ecg_not_at_rest"]


def test_a_line_with_a_long_gap_is_read_quickly() -> None:
    start = time.process_time()
    assert codes_of("species" + " " * 3000 + "unknown") == []
    assert codes_of("lead" + " " * 900 + "V3  off") == ["ecg_lead_off"]
    assert time.process_time() - start < 1


@pytest.mark.parametrize("line", ["Resting ECG: normal sinus rhythm", "ST normal at rest"])
def test_another_line_about_rest_does_not_hide_an_exercise(line: str) -> None:
    assert codes_of("Peak exercise stage 4", line) == ["ecg_not_at_rest"]


@pytest.mark.parametrize(
    "title",
    ["Langzeit-EKG", "LZ-EKG", "Spiroergometrie", "\u00c9preuve d'effort", "运动平板试验", "动态心电图", "TMT", "SAECG",
     "Exercise tolerance test", "Stress ECG before surgery", "ECG right sided"],
)  # fmt: skip
def test_a_title_of_another_recording_is_found(title: str) -> None:
    assert len(findings_of_words([], [title])) == 1


@pytest.mark.parametrize(
    "title",
    ["Cardiac stress lab", "Exercise physiology dept", "ECG, chest pain with exercise",
     "Clearance for exercise program",
     "Dr. Holter", "Stress test cancelled",
     "ECG referred by Dr Stress", "EASI Hospital ECG", "EKG bei Belastungsangina", "Angor d'effort",
     "Exercise-induced asthma, ECG", "常规心电图", "ECG avant \u00e9preuve d'effort"],
)  # fmt: skip
def test_a_title_with_like_words_is_not_marked(title: str) -> None:
    assert findings_of_words([], [title]) == []


def test_exchanged_ends_of_a_filter_are_one_finding() -> None:
    assert filters_of_words(["filter 150-0.05 Hz"]) == (0.05, 150.0)
    assert codes_of("filter 40-2 Hz") == ["ecg_filter"]


def test_a_comment_of_a_wfdb_header_is_a_check_and_is_not_repeated(tmp_path) -> None:
    stem = write_wfdb(tmp_path, make_ecg(), list(LEADS))
    header = stem.with_suffix(".hea")
    plain = header.read_text()
    header.write_text(plain + "# Age: 71\n# limb leads reversed by Karen\n# filter 0.5-20 Hz\n")
    checks = read_ecg(stem).checks
    assert [check["code"] for check in checks] == ["ecg_filter", "ecg_other_electrodes"]
    assert "Karen" not in str(checks)
    header.write_text(plain + "# Age: 71\n# filter 0.05-150 Hz\n# Reason: limb leads reversed last time\n")
    assert read_ecg(stem).checks == []


def test_lines_of_free_text_are_counted_in_a_note(tmp_path) -> None:
    stem = write_wfdb(tmp_path, make_ecg(), list(LEADS))
    header = stem.with_suffix(".hea")
    plain = header.read_text()
    header.write_text(
        plain + "# Age: 71\n# Sex: Male\n# Dx: 426783006\n# Reason: chest pain\n# <subject_id>: 1\n# --\n"
    )
    assert read_ecg(stem).notes == []
    header.write_text(plain + "# Age: 71\n# the cables were plugged in the wrong way round, Karen\n# cable: other\n")
    (note,) = read_ecg(stem).notes
    assert "2 line(s)" in note and "Karen" not in note


def read_dicom_with(tmp_path, **elements):
    path = write_ecg_dicom(tmp_path / "ecg.dcm", [waveform_group(make_ecg() * 1000, list(LEADS), 500, "ORIGINAL")])
    dataset = pydicom.dcmread(path)
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return [check["code"] for check in read_ecg(path).checks]


def annotation(text: str) -> list[Dataset]:
    entry = Dataset()
    entry.UnformattedTextValue = text
    return [entry]


@pytest.mark.parametrize(
    ("elements", "codes"),
    [
        ({"WaveformAnnotationSequence": annotation("Sinus rhythm\nArm electrodes reversed")}, ["ecg_other_electrodes"]),
        ({"StudyDescription": "ECG Phantom"}, ["ecg_not_a_patient"]),
        ({"QualityControlSubject": "YES"}, ["ecg_not_a_patient"]),
        ({"PatientBreedDescription": "Labrador"}, ["ecg_not_a_patient"]),
        ({"StudyDescription": "Right-sided leads V3R"}, ["ecg_other_electrodes"]),
        ({"WaveformAnnotationSequence": annotation("Sinus rhythm, normal ECG. No lead reversal")}, []),
        ({"StudyDescription": "Resting 12 lead ECG", "QualityControlSubject": "NO"}, []),
    ],
)
def test_free_text_of_a_dicom_file_is_read(tmp_path, elements, codes) -> None:
    assert read_dicom_with(tmp_path, **elements) == codes
