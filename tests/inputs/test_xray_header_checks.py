"""What the header of an X-ray says against a frontal chest of an adult is named; good headers have no mark."""

import numpy as np
import pytest
from heart_signal import make_heart
from input_files import waveform_group, write_ecg_dicom
from pydicom import dcmread
from test_inputs_of_more import processor
from test_xray_reading import assert_same_picture, code, to_bytes
from xray_files import draw_chest, write_xray

from tgmm_hf.inputs.xray_reading import read_xray
from tgmm_hf.utils.names import LEADS

NAMED = [
    ({"SeriesDescription": "CHEST LATERAL"}, "xray_view"), ({"SeriesDescription": "W034 Chest LAT"}, "xray_view"),
    ({"ProtocolName": "Chest decubitus", "ViewPosition": None}, "xray_view"),
    ({"StudyDescription": "KNEE 2 VIEWS"}, "xray_body_part"),
    ({"ProtocolName": "Thoracic spine"}, "xray_body_part"), ({"ProtocolName": "Abdomen supine"}, "xray_body_part"),
    ({"SeriesDescription": "Knee", "StudyDescription": "CHEST AND KNEE"}, "xray_body_part"),
    ({"AnatomicRegionSequence": [code("Abdomen")]}, "xray_body_part"),
    ({"StudyDescription": "PHANTOM QC"}, "xray_phantom"), ({"StudyDescription": "QC"}, "xray_phantom"),
    ({"ImageComments": "QC test"}, "xray_phantom"), ({"ImageComments": "Both feet"}, "xray_body_part"),
    ({"ImageComments": "Cervical spine"}, "xray_body_part"), ({"ImageComments": "L LAT"}, "xray_view"),
    ({"PresentationLUTShape": "INVERSE"}, "xray_inverse"),
    ({"PresentationIntentType": "FOR PROCESSING"}, "xray_for_processing"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}, "xray_for_processing"),
    ({"PixelSpacing": ["0.1", "0.2"]}, "pixel_aspect"), ({"PixelAspectRatio": [1, 2]}, "pixel_aspect"),
    ({"ImagerPixelSpacing": ["0.2", "0.1"]}, "pixel_aspect"),
]  # fmt: skip
GOOD = [
    {"StudyDescription": "CHEST PA AND LATERAL"}, {"SeriesDescription": "CHEST PA AND LATERAL"},
    {"StudyDescription": "CHEST 2 VIEWS"}, {"SeriesDescription": "Chest AP portable, lateral decubitus to follow"},
    {"SeriesDescription": "Thorax p.a.", "StudyDescription": "Thorax, Knie"}, {"SeriesDescription": "PA"},
    {"StudyDescription": "RX TORACE"},
    {"SeriesDescription": "Chest", "StudyDescription": "CHEST, ABDOMEN, KNEE"},
    {"SeriesDescription": "Unilateral study"},
    {"StudyDescription": "CXR, shoulder pain"}, {"ImageComments": "head of bed 30 degrees, C-arm away"},
    {"AnatomicRegionSequence": [code("Chest")]}, {"AnatomicRegionSequence": [code("Thorax")]},
    {"PresentationLUTShape": "IDENTITY"}, {"PresentationIntentType": "FOR PRESENTATION"},
    {"PresentationLUTShape": "INVERSE", "PhotometricInterpretation": "MONOCHROME1"},
    {"PixelSpacing": ["0.139", "0.139"]}, {"ImagerPixelSpacing": ["0.1480", "0.1479"]}, {"PixelAspectRatio": [1, 1]},
    {"FieldOfViewRotation": "90"}, {"FieldOfViewHorizontalFlip": "YES"}, {"FieldOfViewRotation": "0"},
    {"ImageComments": "QC passed"}, {"StudyDescription": "Rib series"}, {},
    *[{"ImageComments": text} for text in (
        "Standing PA 6 feet", "SID 6 feet", "wheelchair 6 feet", "arms up, hands on hips", "Hands up", "Teeth out",
        "cervical collar", "spine board", "QC approved", "Auto QC", "QC by tech A", "Image QC complete",
        "Tech QC: accepted", "Lat marker", "L lateral marker right", "R LAT costophrenic angle cut")],
]  # fmt: skip


@pytest.mark.parametrize(("header", "name"), NAMED)
def test_what_the_header_says_against_the_picture_is_named(tmp_path, header, name):
    path = write_xray(tmp_path / "x.dcm", **header)
    _, (report,) = processor()(xray=path, return_report=True)
    assert [(check["code"], check["item"]) for check in report["checks"]] == [(name, "xray")]
    assert report["used"]["xray"]
    assert_same_picture(read_xray(path).pixels, read_xray(write_xray(tmp_path / "y.dcm")).pixels)


@pytest.mark.parametrize("header", GOOD)
def test_good_headers_have_no_mark(tmp_path, header):
    picture = read_xray(write_xray(tmp_path / "x.dcm", **header))
    assert not picture.checks and not picture.notes


@pytest.mark.parametrize(
    ("header", "number"),
    [({"FieldOfViewRotation": "90"}, 1), ({"FieldOfViewHorizontalFlip": "YES"}, 1), ({"FieldOfViewRotation": "0"}, 0)],
)
def test_a_turned_picture_without_an_orientation_is_noted(tmp_path, header, number):
    picture = read_xray(write_xray(tmp_path / "x.dcm", PatientOrientation=None, **header))
    assert len(picture.notes) == number and not picture.checks


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_window_that_leaves_black_and_white_is_left_out(tmp_path, width):
    picture = read_xray(write_xray(tmp_path / "x.dcm", WindowCenter=2000, WindowWidth=width))
    assert_same_picture(picture.pixels, to_bytes(draw_chest(top=4095)))
    assert [check["code"] for check in picture.checks] == ["xray_window"]
    assert not read_xray(write_xray(tmp_path / "y.dcm", WindowCenter=2000, WindowWidth=400)).checks


def codes(path):
    return [check["code"] for check in read_xray(path).checks]


def test_values_outside_of_the_stored_bits_are_named(tmp_path):
    assert codes(write_xray(tmp_path / "a.dcm", BitsStored=10, HighBit=9)) == ["xray_bits"]
    assert codes(write_xray(tmp_path / "b.dcm", PixelRepresentation=1)) == ["xray_bits"]
    assert not codes(write_xray(tmp_path / "c.dcm", draw_chest(top=1023), BitsStored=10, HighBit=9))
    assert "may not fit" in read_xray(tmp_path / "b.dcm").checks[0]["text"]
    signed = draw_chest(top=4095).astype(np.int16) - 2048
    assert not codes(write_xray(tmp_path / "d.dcm", signed)) and not codes(write_xray(tmp_path / "e.dcm", draw_chest()))


def test_an_overlay_in_the_upper_bits_is_no_fault(tmp_path):
    pixels = draw_chest(top=4095)
    pixels[:50] |= 0x8000
    path = write_xray(tmp_path / "x.dcm", pixels)
    dataset = dcmread(path)
    dataset.add_new((0x6000, 0x0102), "US", 15)
    dataset.save_as(path)
    assert not codes(path)


@pytest.mark.parametrize(
    ("header", "is_child"),
    [({"PatientAge": "003Y"}, True), ({"PatientAge": "005D"}, True), ({"PatientAge": "071Y"}, False), ({}, False),
     ({"PatientBirthDate": "20180515", "StudyDate": "20240101"}, True),
     ({"PatientBirthDate": "19500515", "StudyDate": "20240101"}, False)],
)  # fmt: skip
def test_a_child_is_named_as_in_ecg_and_echo(tmp_path, header, is_child):
    _, (report,) = processor()(xray=write_xray(tmp_path / "x.dcm", **header), return_report=True)
    assert [check["code"] for check in report["checks"]] == ["patient_not_adult"] * is_child
    group = waveform_group(1000 * make_heart(5000, 500), list(LEADS), 500.0, "ORIGINAL")
    path = write_ecg_dicom(tmp_path / "ecg.dcm", [group])
    dataset = dcmread(path)
    for name, value in header.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    _, (report,) = processor()(ecg=path, return_report=True)
    assert [check["code"] for check in report["checks"]] == ["patient_not_adult"] * is_child
