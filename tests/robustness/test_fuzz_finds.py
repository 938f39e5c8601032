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


def test_pixel_data_without_content(tmp_path):
    dataset = dataset_of(clip_of(0))
    dataset["PixelData"].value = None
    assert "unexpected" not in reason(read_echo_clip, save(tmp_path / "clip.dcm", dataset))
