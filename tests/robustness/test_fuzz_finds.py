"""What the fuzzer found (`make fuzz`): each input is refused with a reason that somebody foresaw, or read."""

import pydicom
import pytest
from ecg_files import ecg_dataset, heart_steps, waveform, write_record
from kinds_echo import clip_of, dataset_of, save

from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.echo_reading import read_echo_clip
from tgmm_hf.utils.errors import InputRefusedError


def reason(read, path) -> str:
    with pytest.raises(InputRefusedError) as caught:
        read(path)
    return caught.value.reason


@pytest.mark.parametrize("header", [b"r/\xb3 12 500 1000\nr 50/\n 212 ~ 500\n"])
def test_a_wfdb_header(tmp_path, header):
    write_record(tmp_path, heart_steps(0)[:, :500])
    (tmp_path / "r.hea").write_bytes(header)
    assert "unexpected" not in reason(read_ecg, tmp_path / "r")


def test_a_dicom_sequence_that_is_cut(tmp_path):
    dataset = ecg_dataset([waveform(heart_steps(0)[:, :300])])
    pydicom.dcmwrite(tmp_path / "ecg.dcm", dataset, enforce_file_format=True)
    content = (tmp_path / "ecg.dcm").read_bytes()
    place = content.index(b"\x3a\x00\x00\x02SQ")  # ChannelDefinitionSequence
    length = int.from_bytes(content[place + 8 : place + 12], "little")
    cut = content[: place + 12] + b"\xfe\xff\x00\xe0" + content[place + 12 + length :]
    (tmp_path / "ecg.dcm").write_bytes(cut.replace(content[place + 8 : place + 12], (4).to_bytes(4, "little"), 1))
    assert "unexpected" not in reason(read_ecg, tmp_path / "ecg.dcm")


@pytest.mark.parametrize("name", ["a number of five bytes", "an element that is cut"])
def test_a_dicom_element_of_a_waveform_is_damaged(tmp_path, name):
    dataset = ecg_dataset([waveform(heart_steps(0)[:, :300])])
    pydicom.dcmwrite(tmp_path / "ecg.dcm", dataset, enforce_file_format=True)
    content = (tmp_path / "ecg.dcm").read_bytes()
    if name == "a number of five bytes":  # NumberOfWaveformSamples, and a byte of the next element
        place = content.index(b"\x3a\x00\x10\x00UL\x04\x00")
        content = content[: place + 6] + b"\x05\x00" + content[place + 8 :]
    else:  # the sequence of the waveforms ends within the length of an element
        place = content.index(b"\x3a\x00\x00\x02SQ")
        content = content[: place + 8] + b"\xff\xff\xff\xff" + content[place + 12 : place + 26]
    (tmp_path / "ecg.dcm").write_bytes(content)
    assert "unexpected" not in reason(read_ecg, tmp_path / "ecg.dcm")


def test_pixel_data_that_are_a_sequence(tmp_path):
    from pydicom.sequence import Sequence

    from tgmm_hf.inputs.echo_decoders import PixelsError
    from tgmm_hf.inputs.echo_dicom import count_stored_frames

    dataset = pydicom.Dataset()
    dataset.add_new("PixelData", "SQ", Sequence([pydicom.Dataset()]))
    with pytest.raises(PixelsError, match="sequence of elements"):
        count_stored_frames(dataset, "1.2.840.10008.1.2.4.50")


def test_pixel_data_without_content(tmp_path):
    dataset = dataset_of(clip_of(0))
    dataset["PixelData"].value = None
    assert "unexpected" not in reason(read_echo_clip, save(tmp_path / "clip.dcm", dataset))
