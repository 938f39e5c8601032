"""Exports of other systems: read exactly, or refused without a word of the patient."""

import base64
import struct
import time

import numpy as np
import pytest
from input_files import make_ecg
from vendor_files import (
    STEP_UV,
    aecg_series,
    change,
    muse_waveform,
    pack_chunk,
    philips_document,
    scp_record,
    scp_sections,
    write_aecg,
    write_edf,
    write_muse,
    write_philips,
    write_scp,
)

from tgmm_hf.inputs import ecg_vendor
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

pytest.importorskip("ecgdatakit")
NAMES = list(LEADS)
HALF_STEP = STEP_UV / 2000 + 1e-9
"""mV. A stored value differs from the signal by at most half a step."""


def write_packed_philips(path, signal, names, rate=500):
    return write_philips(path, signal, names, rate, packed=True)


def write_packed_scp(path, signal, names, rate=500):
    return write_scp(path, signal, names, rate, packed=True)


WRITERS = {
    "muse": write_muse,
    "aecg": write_aecg,
    "philips": write_philips,
    "philips-packed": write_packed_philips,
    "scp": write_scp,
    "scp-packed": write_packed_scp,
    "edf": write_edf,
}
everywhere = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@pytest.fixture(scope="module")
def signal():
    return make_ecg()


def assert_refused(path, match=None):
    with pytest.raises(InputRefusedError, match=match) as refused:
        read_ecg(path)
    assert "Doe" not in refused.value.reason and "Jane" not in refused.value.reason
    assert not refused.value.reason.startswith("unexpected")


# ---- right values


@everywhere
@pytest.mark.parametrize("rate", [250, 500])
def test_samples_leads_and_rate_are_the_written_ones(tmp_path, signal, write, rate):
    read = read_ecg(write(tmp_path / "export", signal, NAMES, rate))  # without a suffix: the content decides
    assert (read.lead_names, read.sampling_rate, read.units, read.notes) == (NAMES, rate, "mV", [])
    assert read.signal.shape == signal.shape and np.abs(read.signal - signal).max() <= HALF_STEP


@pytest.mark.parametrize("write", [write_muse, write_aecg, write_packed_scp, write_edf])
def test_eight_leads_give_twelve(tmp_path, signal, write):
    eight = [LEADS.index(name) for name in ("V6", "II", "V1", "I", "V2", "V3", "V4", "V5")]
    path = write(tmp_path / "a.xml", signal[eight], [NAMES[lead] for lead in eight])
    prepared = EcgFeatureExtractor().prepare(path)
    whole = EcgFeatureExtractor().prepare({"signal": signal, "sampling_rate": 500, "lead_names": NAMES})
    assert prepared.mask.all() and np.abs(prepared.values - whole.values).max() < 0.05


@pytest.mark.parametrize(
    ("write", "rate", "field", "read_as"),
    [
        (write_aecg, 360, ("", ""), 360.0),
        (write_aecg, 500, ('unit="s"', 'unit="ms"'), 0.5e6),
        (write_aecg, 500, ('value="0.002"', 'value="0.003"'), 1000 / 3),
        (write_scp, 1e6 / 3000, ("", ""), 1e6 / 3000),
    ],
)
def test_rates_that_are_no_whole_numbers_stay_exact(tmp_path, signal, write, rate, field, read_as):
    path = write(tmp_path / "a", signal, NAMES, rate)
    if field[0]:
        change(path, *field)
    assert read_ecg(path).sampling_rate == pytest.approx(read_as, rel=1e-6)


def test_edf_rate_comes_from_the_length_of_a_record(tmp_path, signal):
    read = read_ecg(write_edf(tmp_path / "a.edf", signal, NAMES, 250.5, seconds=2))
    assert read.sampling_rate == 250.5


@pytest.mark.parametrize(
    ("write", "old", "new", "factor"),
    [
        (write_muse, "MICROVOLTS", "MILLIVOLTS", 1000),
        (write_aecg, 'unit="uV"', 'unit="mV"', 1000),
        (write_aecg, 'unit="uV"', 'unit="nV"', 0.001),
        (write_edf, b"uV      ", b"mV      ", 1000),
    ],
)
def test_stated_units_are_converted_to_millivolts(tmp_path, signal, write, old, new, factor):
    read = read_ecg(change(write(tmp_path / "a", signal, NAMES), old, new))
    assert read.units == "mV" and read.signal == pytest.approx(signal * factor, abs=HALF_STEP * factor)


def test_the_rhythm_is_read_and_not_the_median_beats(tmp_path, signal):
    beat = 3 * signal[:, :600]
    for path in (
        write_muse(tmp_path / "a.xml", signal, NAMES, extra=muse_waveform(beat, NAMES, 500, "Median")),
        write_aecg(tmp_path / "b.xml", signal, NAMES, extra=aecg_series(beat, NAMES, 500, "REPRESENTATIVE_BEAT")),
    ):
        assert np.abs(read_ecg(path).signal - signal).max() <= HALF_STEP


def test_a_second_rhythm_is_noted(tmp_path, signal):
    for path in (
        write_muse(tmp_path / "a.xml", signal, NAMES, extra=muse_waveform(2 * signal, NAMES, 500)),
        write_aecg(tmp_path / "b.xml", signal, NAMES, extra=aecg_series(2 * signal, NAMES, 500)),
    ):
        read = read_ecg(path)
        assert any("several rhythm" in note for note in read.notes)
        assert np.abs(read.signal - 2 * signal).max() <= 2 * HALF_STEP


def test_other_channels_are_left_out_without_their_names(tmp_path, signal):
    names = [*NAMES[:11], "Doe Jane"]
    for write in (write_muse, write_edf):
        read = read_ecg(write(tmp_path / "a", signal, names))
        assert read.lead_names == NAMES[:11] and not any("Doe" in note for note in read.notes) and read.notes


@everywhere
def test_a_calibration_pulse_at_the_end_is_cut_off(tmp_path, signal, write):
    """Philips machines end a recording with 0.4 s of 1 mV in every lead, where I + III is not II."""
    pulse = np.zeros((12, 200))
    pulse[:, 50:150] = 1
    read = read_ecg(write(tmp_path / "a", np.concatenate([signal[:, 200:], pulse], axis=1), NAMES))
    assert read.signal.shape[1] == pytest.approx(4800, abs=5) and any("calibration" in note for note in read.notes)
    assert np.abs(read.signal[:, :4790] - signal[:, 200:4990]).max() <= HALF_STEP


def test_a_quiet_end_is_no_calibration_pulse(tmp_path, signal):
    quiet = signal.copy()
    quiet[:, -300:] = 0
    assert read_ecg(write_edf(tmp_path / "a", quiet, NAMES)).signal.shape == (12, 5000)


# ---- refusals


@everywhere
def test_a_lead_that_occurs_twice_is_refused(tmp_path, signal, write):
    with pytest.raises(InputRefusedError, match="keep one"):
        EcgFeatureExtractor().prepare(write(tmp_path / "a", signal, [*NAMES[:11], "V1"]))


@pytest.mark.parametrize(
    ("write", "old", "new", "match"),
    [
        (write_muse, "<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits>", "", "no known scale|known scale"),
        (write_muse, "MICROVOLTS", "FURLONGS", "known scale"),
        (write_muse, "<SampleBase>500", "<SampleBase>0", "sampling rate"),
        (write_muse, "<SampleBase>500</SampleBase>", "", "sampling rate"),
        (write_muse, "<LeadSampleCountTotal>5000", "<LeadSampleCountTotal>5001", "contradicts"),
        (write_muse, "<LeadDataCRC32>", "<LeadDataCRC32>1", "checksum"),
        (write_muse, "<LeadOffsetFirstSample>0", "<LeadOffsetFirstSample>7", "another level or time"),
        (write_muse, "Rhythm", "Median", "no rhythm"),
        (write_muse, f"UnitsPerBit>{STEP_UV}", "UnitsPerBit>-5", "scale is -5"),
        (write_aecg, f'<scale value="{STEP_UV}" unit="uV"/>', "", "known scale"),
        (write_aecg, 'unit="uV"', 'unit="Pa"', "known scale"),
        (write_aecg, f'<scale value="{STEP_UV}"', '<scale value="-5"', "scale is -5"),
        (write_aecg, 'unit="s"', 'unit="year"', "sampling rate"),
        (write_aecg, "<increment", "<decrement", "sampling rate"),
        (write_aecg, "<digits>", "<digits>Doe ", "damaged"),
        (write_philips, ' resolution="5"', "", "known scale"),
        (write_philips, 'samplespersecond="500"', 'samplespersecond="0"', "sampling rate|damaged"),
        (write_philips, 'durationperchannel="10000"', 'durationperchannel="11000"', "contradicts"),
        (write_philips, 'durationperchannel="10000"', 'durationperchannel="9000"', "contradicts"),
        (write_philips, "1.04<", "9.99<", "version"),
        (write_packed_philips, "XLI", "ZIP", "variant"),
        (write_scp, struct.pack("<H", 5000), struct.pack("<H", 4000), "checksum"),
        (write_edf, b"uV      ", b"%       ", "unit"),
        (write_edf, b"uV      ", b"        ", "known scale"),
    ],
)
def test_contradictions_and_unknown_scales_are_refused(tmp_path, signal, write, old, new, match):
    path = write(tmp_path / "a", signal, NAMES)
    if write is write_philips and "samplespersecond" in str(old):
        change(path, "<samplingrate>500</samplingrate>", "")
    assert_refused(change(path, old, new), match)


@pytest.mark.parametrize(("physical", "match"), [((100, -100), "scale is -"), ((1, 1), "known scale")])
def test_edf_ranges_without_a_scale_are_refused(tmp_path, signal, physical, match):
    assert_refused(write_edf(tmp_path / "a.edf", signal, NAMES, physical=physical), match)


def test_leads_of_different_times_are_refused(tmp_path, signal):
    starts = [1] * 6 + [2501] * 6
    assert_refused(write_scp(tmp_path / "a.scp", signal, NAMES, starts=starts), "different times")
    path = write_muse(tmp_path / "b.xml", signal, NAMES)
    assert_refused(change(path, "<LeadTimeOffset>0", "<LeadTimeOffset>9", 1), "different times")
    path = write_aecg(tmp_path / "c.xml", signal, NAMES)
    assert_refused(change(path, "<digits>", "<digits>1 2 3 4 5 ", 1), "one recording")


def test_an_edf_file_with_gaps_is_refused_and_one_without_is_read(tmp_path, signal):
    path = write_edf(tmp_path / "a.edf", signal, [*NAMES[:11], "EDF Annotations"], reserved="EDF+D")
    content = bytearray(path.read_bytes())
    for record in range(10):
        place = 256 * 13 + record * 12 * 1000 + 11 * 1000
        text = f"+{record + (record > 4)}\x14\x14\x00".encode()
        content[place : place + 1000] = text.ljust(1000, b"\0")
    path.write_bytes(content)
    assert_refused(path, "gaps")
    path.write_bytes(bytes(content).replace(b"EDF+D", b"EDF+C"))
    for record in range(10):
        place = 256 * 13 + record * 12 * 1000 + 11 * 1000
        content[place : place + 6] = f"+{record}\x14\x14\x00".encode().ljust(6, b"\0")
    path.write_bytes(content)
    assert read_ecg(path).lead_names == NAMES[:11]


def test_an_electrode_that_was_off_masks_its_lead(tmp_path, signal):
    path = change(write_muse(tmp_path / "a.xml", signal, NAMES), "<LeadOff>FALSE", "<LeadOff>TRUE", 1)
    read = read_ecg(path)
    assert read.lead_names == NAMES[1:] and any("electrode" in note for note in read.notes)


def test_other_xml_and_other_files_are_refused_by_name(tmp_path):
    for content in ("<html><p>Doe</p></html>", "<?xml version='1.0'?><CardiologyXML>Doe</CardiologyXML>", "<"):
        (tmp_path / "a.xml").write_text(content)
        assert_refused(tmp_path / "a.xml", "an XML file, but")
    for content in (b"", b"\0" * 5000, b"Doe, Jane\n", b"\xff\xfe", bytes(range(256)) * 20):
        (tmp_path / "a.bin").write_bytes(content)
        assert_refused(tmp_path / "a.bin", "not an ECG|an XML file")
    (tmp_path / "a.bdf").write_bytes(b"\xffBIOSEMI" + b" " * 248)
    assert_refused(tmp_path / "a.bdf", "BDF")


# ---- hostile files


@pytest.mark.parametrize("write", [write_muse, write_aecg, write_philips])
def test_entities_are_refused_and_never_expanded(tmp_path, signal, write):
    lines = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))
    for entities in (
        f'<!DOCTYPE x [<!ENTITY a0 "lol">{lines}]>',
        '<!DOCTYPE x [<!ENTITY a9 SYSTEM "file:///etc/passwd">]>',
    ):
        path = write(tmp_path / "a.xml", signal, NAMES)
        text = path.read_text().replace('<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n', "")
        path.write_text(text.replace("?>", f"?>{entities}", 1).replace("Doe", "&a9;"))
        began = time.process_time()
        assert_refused(path, "entities")
        assert time.process_time() - began < 5


def test_packed_samples_that_grow_without_end_are_refused(tmp_path):
    codes = [0, *range(256, 1023), *([1022] * 30_000)]  # 38 KB that unpack to 23 MB
    text = philips_document(pack_chunk(codes, 0) * 12, NAMES, 5000, packed=True)
    (tmp_path / "a.xml").write_text(text)
    began = time.process_time()
    assert_refused(tmp_path / "a.xml", "4 MiB")
    assert time.process_time() - began < 10


def test_declared_sizes_are_compared_before_decoding(tmp_path, signal):
    sections = scp_sections(signal, NAMES, 500, packed=True)
    sections[3] = sections[3][:2] + struct.pack("<IIB", 1, 4_000_000_000, 1) + sections[3][11:]
    (tmp_path / "a.scp").write_bytes(scp_record(dict(sorted(sections.items()))))
    assert_refused(tmp_path / "a.scp", "4,000,000,000 samples")
    (tmp_path / "b.scp").write_bytes(
        scp_record(scp_sections(signal[:1].repeat(40, axis=0)[:, :9], ["I"] * 40, 500, False))
    )
    assert_refused(tmp_path / "b.scp", "leads, the limit")
    assert_refused(write_edf(tmp_path / "a.edf", signal, NAMES, records=99_999_999), "data records")
    content = write_edf(tmp_path / "b.edf", signal, NAMES).read_bytes()
    (tmp_path / "b.edf").write_bytes(content[:252] + b"9999" + content[256:])
    assert_refused(tmp_path / "b.edf", "signals")


@pytest.mark.parametrize(("write", "limit"), [(write_muse, "xml"), (write_scp, "scp")])
def test_files_that_are_too_large_are_refused(tmp_path, signal, write, limit):
    path = write(tmp_path / f"a.{limit}", signal, NAMES)
    with path.open("ab") as file:
        file.truncate(17 << 20)
    assert_refused(path, "MiB, the limit is")


def test_deep_nesting_and_a_long_prolog_are_refused(tmp_path):
    for text in (
        "<RestingECG>" + "<Waveform>" * 100_000,
        "<RestingECG>" + "<a/>" * 2_000_000 + "</RestingECG>",
        "<RestingECG>" + "<a/>" * 190_000 + "</RestingECG>",
        "<RestingECG>" + "<a>" * 90_000 + "</a>" * 90_000 + "</RestingECG>",
        "<AnnotatedECG>" + "<component><series>" * 40_000 + "</series></component>" * 40_000 + "</AnnotatedECG>",
        "<RestingECG><Waveform>" + "<LeadData><LeadID>I</LeadID></LeadData>" * 40_000 + "</Waveform></RestingECG>",
        "<?xml" + " encoding='a'" * 300_000 + "<RestingECG/>",
    ):
        (tmp_path / "a.xml").write_text(text)
        began = time.process_time()
        assert_refused(tmp_path / "a.xml")
        assert time.process_time() - began < 10


@everywhere
def test_damaged_files_are_read_or_refused_and_name_nobody(tmp_path, signal, write):
    content = write(tmp_path / "a", signal[:, :600], NAMES).read_bytes()
    generator = np.random.default_rng(7)
    for attempt in range(40):
        spoiled = bytearray(content)
        if attempt % 4 == 0:
            del spoiled[int(generator.integers(0, len(content))) :]
        header = min(len(spoiled), 2500 if attempt % 2 else len(content))
        for place in generator.integers(0, max(header, 1), int(generator.integers(1, 6))):
            spoiled[place : place + 1] = bytes([int(generator.integers(0, 256))])
        (tmp_path / "b").write_bytes(bytes(spoiled))
        try:
            read = read_ecg(tmp_path / "b")
        except InputRefusedError as error:
            assert "Doe" not in error.reason and not error.reason.startswith("unexpected")
        else:
            assert "Doe" not in " ".join(read.notes)


def test_latin_letters_under_utf8_are_no_damage(tmp_path, signal):
    for write in (write_muse, write_aecg, write_philips):
        path = change(write(tmp_path / "a.xml", signal, NAMES), b"Doe", "Döe".encode("latin-1"))
        change(path, "ISO-8859-1", "UTF-8") if write is write_muse else None
        assert np.abs(read_ecg(path).signal - signal).max() <= HALF_STEP


def test_utf16_exports_are_read(tmp_path, signal):
    path = write_philips(tmp_path / "a.xml", signal, NAMES)
    path.write_bytes(path.read_text().replace("UTF-8", "UTF-16").encode("utf-16"))
    assert np.abs(read_ecg(path).signal - signal).max() <= HALF_STEP


def test_the_library_never_sees_the_patient(tmp_path, signal, monkeypatch):
    """Only the waveforms of an XML file go to the library."""
    for write, name in (
        (write_muse, ecg_vendor.MUSE),
        (write_aecg, ecg_vendor.AECG),
        (write_philips, ecg_vendor.PHILIPS),
    ):
        seen = []
        layout = ecg_vendor.LAYOUTS[name]

        class Parser(layout.parser):
            def parse(self, path, seen=seen):
                seen.append(path.read_text())
                return super().parse(path)

        monkeypatch.setitem(ecg_vendor.LAYOUTS, name, layout._replace(parser=Parser))
        read_ecg(write(tmp_path / "a.xml", signal, NAMES))
        assert len(seen) == 1 and "Doe" not in seen[0] and "Jane" not in seen[0]


def test_without_the_library_the_pip_command_is_named(tmp_path, signal, monkeypatch):
    monkeypatch.setattr(ecg_vendor, "ecgdatakit", None)
    with pytest.raises(ImportError, match=r'pip install "tgmm-hf\[formats\]"'):
        read_ecg(write_edf(tmp_path / "a.edf", signal, NAMES))


def test_unknown_warnings_of_the_library_refuse_the_file(tmp_path, signal, monkeypatch):
    import warnings

    layout = ecg_vendor.LAYOUTS[ecg_vendor.EDF]

    class Parser(layout.parser):
        def parse(self, path):
            warnings.warn("Doe, Jane has something new", stacklevel=1)
            return super().parse(path)

    monkeypatch.setitem(ecg_vendor.LAYOUTS, ecg_vendor.EDF, layout._replace(parser=Parser))
    assert_refused(write_edf(tmp_path / "a.edf", signal, NAMES), "damaged, or of a variant")


def test_base64_of_another_length_is_refused(tmp_path, signal):
    data = base64.b64encode(b"\1").decode()
    path = write_muse(tmp_path / "a.xml", signal[:, :2], NAMES)
    text = path.read_text()
    start = text.index("<WaveFormData>") + 14
    path.write_text(text[:start] + data + text[text.index("</WaveFormData>") :])
    assert_refused(path)
