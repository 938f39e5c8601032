"""DICOM files whose parts cost far more than their size: elements and items inside sequences."""

import functools
import struct
import zlib

import pydicom
import pytest
from input_files import make_clip, write_clip
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from tgmm_hf.inputs import dicom_files
from tgmm_hf.inputs.dicom_files import read_dicom
from tgmm_hf.utils.errors import InputRefusedError


def sequence(content: bytes, is_open: bool, tag: bytes = b"\x08\x00\x40\x11") -> bytes:
    """A sequence, explicit little endian, of one item; its end is marked (`is_open`) or its length is stated."""
    if is_open:
        item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + content + b"\xfe\xff\x0d\xe0" + bytes(4)
        return tag + b"SQ\x00\x00\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0" + bytes(4)
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(content)) + content
    return tag + b"SQ\x00\x00" + struct.pack("<I", len(item)) + item


SMALL = b"".join(struct.pack("<HH2sHI", 8, element, b"UL", 4, 0) for element in range(0x1000, 0x9000))
ITEMS = b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * 35_000
HIDDEN = {
    "elements": lambda is_open: sequence(SMALL, is_open),
    "elements, two levels down": lambda is_open: sequence(sequence(sequence(SMALL, is_open), is_open), False),
    "elements in a sequence without a meaning": lambda is_open: sequence(SMALL, is_open, b"\x09\x00\x01\x10"),
    "empty items": lambda _: b"\x08\x00\x40\x11SQ\x00\x00" + struct.pack("<I", len(ITEMS)) + ITEMS,
    "empty items, two levels down": lambda is_open: sequence(
        b"\x08\x00\x40\x11SQ\x00\x00" + struct.pack("<I", len(ITEMS)) + ITEMS, is_open
    ),
    "levels": lambda is_open: functools.reduce(lambda content, _: sequence(content, is_open), range(400), SMALL[:16]),
}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("kind", HIDDEN)
def test_what_hides_in_sequences_is_counted_before_it_costs_minutes(tmp_path, kind, is_open, syntax, monkeypatch):
    monkeypatch.setattr(dicom_files, "MAX_SHORT_READS", 30_000)
    path = write_clip(tmp_path / "a.dcm", make_clip(2))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path)
    content = path.read_bytes()
    start = 144 + struct.unpack("<I", content[140:144])[0]
    head, body = content[:start], content[start:]
    if syntax == DeflatedExplicitVRLittleEndian:
        body = zlib.decompress(body, -zlib.MAX_WBITS)
    place = body.index(b"\x10\x00\x10\x00PN")
    body = body[:place] + HIDDEN[kind](is_open) + body[place:]
    if syntax == DeflatedExplicitVRLittleEndian:
        squeeze = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = squeeze.compress(body) + squeeze.flush()
    path.write_bytes(head + body)
    with pytest.raises(InputRefusedError, match="hostile"):
        read_dicom(path)


def test_a_long_sequence_of_an_honest_file_is_read(tmp_path):
    """Three levels with 6,000 items, as of a clip that describes each of 1,500 frames."""
    path = write_clip(tmp_path / "a.dcm", make_clip(2))
    dataset = pydicom.dcmread(path)
    dataset.SequenceOfUltrasoundRegions = [pydicom.Dataset() for _ in range(1500)]
    for item in dataset.SequenceOfUltrasoundRegions:
        item.RegionSpatialFormat = 1
        item.RegionDataType = 1
        item.ContentSequence = [pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()]
    dataset.save_as(path)
    assert len(read_dicom(path).SequenceOfUltrasoundRegions) == 1500
