"""What the header of a clip says against its view, a transthoracic echo of an adult, or one patient is named."""

import time

import numpy as np
import pydicom
import pytest
from input_files import make_clip, write_clip
from pydicom.dataset import Dataset

from tgmm_hf.inputs.echo_header_notes import header_notes
from tgmm_hf.inputs.echo_reading import clip_from_array, read_echo_clip
from tgmm_hf.inputs.echo_stated_view import views_of_text
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor

CODES = {"pixel_aspect", "body_part", "examination", "transducer", "other_traces", "view_header"}

ULTRASOUND_CLASS = "1.2.840.10008.5.1.4.1.1.3.1"


@pytest.fixture(scope="module")
def clip():
    return make_clip(20)


def code_of(meaning):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "x", "SCT", meaning
    return [code]


def region(spatial, data_type):
    entry = Dataset()
    entry.RegionSpatialFormat, entry.RegionDataType = spatial, data_type
    return entry


def write_with(path, clip, header):
    write_clip(path, clip)
    dataset = pydicom.dcmread(path)
    dataset.Modality = "US"
    for name, value in header.items():
        if name == "PatientID" and value is None:
            del dataset.PatientID
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def codes_of(tmp_path, clip, header):
    path = write_with(tmp_path / "clip.dcm", clip, header)
    return {note["code"] for note in read_echo_clip(path).notes} & CODES


FIELDS = ("StudyComments", "ImageComments", "ReasonForStudy", "AdmittingDiagnosesDescription",
          "ClinicalTrialProtocolName", "AcquisitionDeviceProcessingDescription")  # fmt: skip
OTHERS = ["Pediatric", "Paediatric", "Neonatal", "newborn", "OB", "ICE catheter", "Intraoperative", "FAST", "eFAST",
          "AAA", "Ex vivo heart", "Newborn hip", "Biopsy guidance", "Vascular access", "Eye", "MSK",
          "Pädiatrie"]  # fmt: skip
GOOD = ["Breakfast study", "Adult echo, FAST protocol", "non-fetal", "not a pediatric study", "Adult congenital",
        "Adult echo, pediatric cardiology", "fast heart rate", "TTE ICU", "ICED", "Obese patient", "TTE, knee surgery",
        "Echo, OB patient with dyspnea", "Echo FAST mode", "FAST track clinic", "Job 7", "Voice annotation",
        "Adult Echo", "TTE", "Hip fx pre-op", "Hip replacement preop eval", "Neonatal ICU",
        "IVF, in vitro fertilisation; TTE", "TTE during intraop", "Standard FAST protocol", "Stress cardiomyopathy",
        "Phantom limb pain, TTE", "Toe ulcer"]  # fmt: skip
OF_COMMENTS = {
    "StudyComments": ("breast implants", "Limited by breast tissue", "limited due to lungs", "hiatal hernia",
                      "poor windows due to lung disease", "left shoulder pain, cannot lie on the left",
                      "Right knee up", "Obese abdomen", "Abdominal breathing", "Eyes closed"),
    "ImageComments": ("IVC, liver", "subcostal, liver", "left pleural"),
    "AcquisitionDeviceProcessingDescription": ("Adult FAST", "Vivid FAST"),
}  # fmt: skip
COMMENTS = [(field, text) for field, texts in OF_COMMENTS.items() for text in texts]
REASONS = ["renal failure", "breast cancer, before chemotherapy", "pregnant, dyspnea", "fetal loss", "DVT", "dog bite",
           "liver transplant, non-cardiac stress", "s/p TEE", "positive stress echo", "FAST-MI",
           "lung disease"]  # fmt: skip


@pytest.mark.parametrize("text", OTHERS)
def test_words_of_another_examination_are_named(tmp_path, clip, text):
    assert codes_of(tmp_path, clip, {"SeriesDescription": text}) == {"examination"}


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_with_text_is_read(tmp_path, clip, field):
    assert codes_of(tmp_path, clip, {field: "Fetal echo"}) == {"examination"}


@pytest.mark.parametrize("text", GOOD)
def test_words_that_only_look_alike_have_no_mark(tmp_path, clip, text):
    assert not codes_of(tmp_path, clip, {"SeriesDescription": text})


@pytest.mark.parametrize(("field", "text"), COMMENTS)
def test_comments_on_the_window_have_no_mark(tmp_path, clip, field, text):
    assert not codes_of(tmp_path, clip, {field: text})


@pytest.mark.parametrize("text", ["Liver ultrasound", "Breast exam", "Knee scan", "Abdominal study", "in vitro model"])
def test_another_examination_in_a_comment_is_named(tmp_path, clip, text):
    assert codes_of(tmp_path, clip, {"StudyComments": text}) == {"examination"}


def test_a_long_text_is_searched_soon():
    for length in (10_000, 100_000):
        header = {"Modality": "US", "SOPClassUID": ULTRASOUND_CLASS, "StudyDescription": "non-fetal " * (length // 10)}
        begin = time.process_time()
        assert not header_notes(header)
        assert time.process_time() - begin < 1


@pytest.mark.parametrize("text", REASONS)
def test_reasons_for_an_echo_have_no_mark(tmp_path, clip, text):
    header = dict.fromkeys(("ReasonForStudy", "AdmittingDiagnosesDescription", "ClinicalTrialProtocolName"), text)
    assert not codes_of(tmp_path, clip, header)


@pytest.mark.parametrize(
    ("header", "code"),
    [({"AnatomicRegionSequence": code_of("Kidney")}, "body_part"),
     ({"AnatomicRegionSequence": code_of("Fetal heart")}, "body_part"),
     ({"AnatomicRegionSequence": code_of("Heart")}, None), ({"AnatomicRegionSequence": code_of("Chest")}, None),
     ({"AnatomicRegionSequence": code_of("Coeur")}, None), ({"AnatomicRegionSequence": code_of("")}, None),
     ({"AnatomicRegionSequence": code_of("Abdominal aorta")}, None),
     ({"AnatomicRegionSequence": code_of("Hepatic vein")}, None),
     ({"AnatomicRegionSequence": code_of("Hepatic")}, "body_part"),
     ({"PixelSpacing": ["0.2", "0.4"]}, "pixel_aspect"), ({"PixelSpacing": ["0.139", "0.139"]}, None),
     ({"PixelSpacing": ["0.1391", "0.1389"]}, None), ({"PixelSpacing": ["0", "0"]}, None),
     ({"TransducerType": "LINEAR"}, "transducer"), ({"TransducerType": "ENDOCAV_CLA"}, "transducer"),
     ({"TransducerType": "SECTOR_PHASED"}, None), ({"TransducerType": "CURVED LINEAR"}, None),
     ({"TransducerType": ""}, None), ({"TransducerData": ["6VT-D"]}, "transducer"),
     ({"TransducerData": ["X8-2t", "1"]}, "transducer"), ({"TransducerData": ["M5S-D", "", ""]}, None),
     ({"TransducerData": "S5-1"}, None), ({"TransducerData": "X5-1"}, None), ({"TransducerData": "4Vc-D"}, None),
     ({"SequenceOfUltrasoundRegions": [region(1, 3)]}, "other_traces"),
     ({"SequenceOfUltrasoundRegions": [region(1, 1)]}, None), ({"SequenceOfUltrasoundRegions": [region(1, 2)]}, None),
     ({"SequenceOfUltrasoundRegions": [region(1, 1), region(1, 3)]}, None),
     ({"SequenceOfUltrasoundRegions": [region(1, 0)]}, None)],
)  # fmt: skip
def test_organ_transducer_pixels_and_regions_of_the_header(tmp_path, clip, header, code):
    assert codes_of(tmp_path, clip, header) == {code} - {None}


# ---- the view


@pytest.mark.parametrize(
    ("header", "is_named"),
    [({"ViewCodeSequence": code_of("Apical two chamber")}, True), ({"ViewName": "Subcostal"}, True),
     ({"ViewCodeSequence": code_of("Parasternal long axis")}, True), ({"ImageComments": "A2C"}, True),
     ({"SeriesDescription": "PLAX"}, True), ({"ViewName": "2CH"}, True), ({"ViewName": "Parasternal"}, True),
     ({"ViewName": "A4C"}, False), ({"ViewName": "a4c"}, False), ({"ViewName": "AP4"}, False),
     ({"ViewName": "Apical"}, False), ({"ViewName": "4CH"}, False), ({"ViewCodeSequence": code_of("Apical")}, False),
     ({"ViewCodeSequence": code_of("Apical four chamber")}, False), ({"ViewName": "Vista 1"}, False),
     ({"ImageComments": "prolapse of A2"}, False),
     ({"ViewName": "A4C", "SeriesDescription": "PLAX, PSAX"}, False), ({"SeriesDescription": "Steep A4C"}, False),
     ({"SeriesDescription": "A4C, A2C, PLAX"}, False), ({"SeriesDescription": "2D sweep 4C probe"}, False),
     ({}, False)],
)  # fmt: skip
def test_a_view_that_the_header_contradicts_is_named(tmp_path, clip, header, is_named):
    path = write_with(tmp_path / "clip.dcm", clip, header)
    study = EchoImageProcessor(size=32).prepare_study({"A4C": path})
    assert list(study.clips) == ["A4C"]
    assert [check["item"] for check in study.checks if check["code"] == "view_header"] == [str(path)] * is_named


@pytest.mark.parametrize(
    ("text", "view"),
    [("Apical 3 chamber", "A3C"), ("APLAX", "A3C"), ("Apical long axis", "A3C"), ("Apical five chamber", "A5C"),
     ("A4C colour MV", "Apical_Doppler"), ("PLAX colour", "Doppler_Parasternal_Long"), ("PSAX AV", "Parasternal_Short"),
     ("Parasternal short axis", "Parasternal_Short"), ("Subcostal four chamber", "Subcostal"), ("SSN", "SSN"),
     ("Suprasternal notch", "SSN"), ("subxiphoid", "Subcostal")],
)  # fmt: skip
def test_names_of_views_are_understood(text, view):
    assert view in views_of_text(text)


@pytest.mark.parametrize(
    "text",
    ["SC SAX", "SC short axis", "SC 4CH", "Subc 4CH", "Subcost. 4ch", "subkostal 4 chamber", "SC4C", "SC-LAX",
     "SC long axis"],
)  # fmt: skip
def test_short_names_of_the_subcostal_window_are_no_other_view(text):
    assert views_of_text(text) == {"Subcostal"}


def test_a_view_of_the_header_is_not_taken_for_two_windows():
    assert views_of_text("Subcostal four chamber") == {"Subcostal"} == views_of_text("Subcostal short axis")
    assert views_of_text("Apical long axis") == {"A3C", "Apical_Doppler"}
    assert not views_of_text("TTE complete, adult") and not views_of_text("Single beat, harmonic")


# ---- small frames, and persons


def test_frames_that_are_thumbnails_are_named():
    processor = EchoImageProcessor(size=32)
    for side, is_named in ((24, True), (95, True), (112, False)):
        frames = make_clip(20, side, side + 8)
        codes = [note["code"] for note in clip_from_array(frames).notes]
        assert ("frame_small" in codes) == is_named
        assert np.asarray(processor.prepare_clip(frames).frames).shape[1:3] == (32, 32)


@pytest.mark.parametrize(
    ("one", "two", "code"),
    [({"PatientName": "Roe^Anna"}, {"PatientName": "Doe^Jane"}, "patient_names_differ"),
     ({"PatientAge": "030Y"}, {"PatientAge": "080Y"}, "patient_ages_differ"),
     ({"PatientName": "Doe^Jane"}, {"PatientName": "DOE^JANE^Mary"}, None), ({"PatientName": ""}, {}, None),
     ({"PatientName": "Anonymous"}, {"PatientName": "Doe^Jane"}, None),
     ({"PatientAge": "071Y"}, {"PatientAge": "072Y"}, None), ({"PatientAge": "090Y"}, {"PatientAge": "099Y"}, None),
     ({"PatientID": "7", "PatientName": "Roe^A"}, {"PatientID": "7", "PatientName": "Doe^Jane"}, None),
     *[({"PatientName": one}, {"PatientName": two, "SpecificCharacterSet": "ISO_IR 192"}, None) for one, two in (
         ("Mueller^Hans", "Müller^Hans"), ("Muller^Hans", "Müller^Hans"), ("Garcia^Jose", "García^José"),
         ("OBRIEN^Pat", "O'BRIEN^Pat"), ("OBRIEN^Pat", "O\u2019Brien^Pat"), ("Ivanov^Ivan", "Иванов^Иван"),
         ("Yamada^Tarou", "山田^太郎"), ("Roe^Anna", "XXX"), ("Roe^Anna", "XXX^XXX"), ("Roe^Anna", "REMOVED"),
         ("Roe^Anna", "HIDDEN"), ("Roe^Anna", "Emergency^Patient"), ("Roe^Anna", "Anonymous Female 1960"))]],
)  # fmt: skip
def test_two_persons_without_ids_in_one_study_are_named(tmp_path, clip, one, two, code):
    paths = [write_with(tmp_path / f"{number}.dcm", clip, header) for number, header in enumerate((one, two))]
    study = EchoImageProcessor(size=32).prepare_study(dict(zip(("A4C", "A2C"), paths, strict=True)))
    found = [check for check in study.checks if check["code"].startswith("patient_")]
    assert [check["code"] for check in found] == [code] * (code is not None) and len(study.clips) == 2
    assert not any(word in str(found) for word in ("Doe", "Roe", "030", "080"))
