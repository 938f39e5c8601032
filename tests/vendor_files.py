"""ECG exports of other systems, written for tests from the public descriptions of their formats.

Each writer takes (leads, samples) mV, the lead names and the sampling rate in Hz, and puts the patient "Doe, Jane" into
the file. `extra` and `change` let a test spoil one field.
"""

import base64
import binascii
import struct
import zlib
from pathlib import Path

import numpy as np

SCP_LEADS = {"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64} | {f"V{n}": n + 2 for n in range(1, 7)}
STEP_UV = 5.0
"""Microvolts of one stored step in every format."""


def as_steps(signal: np.ndarray) -> np.ndarray:
    """Convert (leads, samples) mV to stored integers."""
    return np.rint(signal * 1000 / STEP_UV).astype("<i2")


def change(path: Path, old: str | bytes, new: str | bytes, count: int = -1) -> Path:
    """Replace a part of a file."""
    old, new = (text.encode() if isinstance(text, str) else text for text in (old, new))
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, count))
    return path


# ---- GE MUSE XML (restecg.dtd): base64 of little-endian 16-bit samples, one CRC-32 a lead


def muse_waveform(signal: np.ndarray, names: list[str], rate: float, kind: str = "Rhythm") -> str:
    leads = ""
    for name, lead in zip(names, as_steps(signal), strict=True):
        data = lead.tobytes()
        leads += (
            f"<LeadData><LeadByteCountTotal>{len(data)}</LeadByteCountTotal><LeadTimeOffset>0</LeadTimeOffset>"
            f"<LeadSampleCountTotal>{lead.size}</LeadSampleCountTotal>"
            f"<LeadAmplitudeUnitsPerBit>{STEP_UV}</LeadAmplitudeUnitsPerBit>"
            "<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits><LeadHighLimit>32767</LeadHighLimit>"
            f"<LeadID>{name}</LeadID><LeadOffsetFirstSample>0</LeadOffsetFirstSample><LeadSampleSize>2</LeadSampleSize>"
            f"<LeadOff>FALSE</LeadOff><LeadDataCRC32>{zlib.crc32(data)}</LeadDataCRC32>"
            f"<WaveFormData>{base64.b64encode(data).decode()}</WaveFormData></LeadData>"
        )
    return (
        f"<Waveform><WaveformType>{kind}</WaveformType><SampleBase>{rate:g}</SampleBase>"
        f"<SampleExponent>0</SampleExponent>{leads}</Waveform>"
    )


def write_muse(path: Path, signal: np.ndarray, names: list[str], rate: float = 500, extra: str = "") -> Path:
    path.write_text(
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n<RestingECG>'
        "<PatientDemographics><PatientID>4711</PatientID><PatientLastName>Doe</PatientLastName>"
        "<PatientFirstName>Jane</PatientFirstName></PatientDemographics>"
        f"{extra}{muse_waveform(signal, names, rate)}</RestingECG>"
    )
    return path


# ---- HL7 aECG: decimal numbers, value = origin + scale x digit


def aecg_series(signal: np.ndarray, names: list[str], rate: float, code: str = "RHYTHM") -> str:
    sequences = (
        '<component><sequence><code code="TIME_ABSOLUTE"/><value xsi:type="GLIST_TS"><head value="20200101"/>'
        f'<increment value="{1 / rate!r}" unit="s"/></value></sequence></component>'
    )
    for name, lead in zip(names, as_steps(signal), strict=True):
        sequences += (
            f'<component><sequence><code code="MDC_ECG_LEAD_{name.upper()}"/><value xsi:type="SLIST_PQ">'
            f'<origin value="0" unit="uV"/><scale value="{STEP_UV}" unit="uV"/>'
            f"<digits>{' '.join(map(str, lead))}</digits></value></sequence></component>"
        )
    return (
        f'<component><series><code code="{code}"/><component><sequenceSet>{sequences}</sequenceSet></component>'
        "</series></component>"
    )


def write_aecg(path: Path, signal: np.ndarray, names: list[str], rate: float = 500, extra: str = "") -> Path:
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<AnnotatedECG xmlns="urn:hl7-org:v3" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><id root="4711"/><componentOf><timepointEvent>'
        "<componentOf><subjectAssignment><subject><trialSubject><subjectDemographicPerson><name>Doe, Jane</name>"
        "</subjectDemographicPerson></trialSubject></subject></subjectAssignment></componentOf></timepointEvent>"
        f"</componentOf>{extra}{aecg_series(signal, names, rate)}</AnnotatedECG>"
    )
    return path


# ---- Philips (Sierra) XML: base64, plain or packed (XLI: second differences, LZW with ten bits)


def lzw_codes(data: bytes) -> list[int]:
    table, codes, word = {bytes([value]): value for value in range(256)}, [], b""
    for value in data:
        longer = word + bytes([value])
        if longer in table:
            word = longer
            continue
        codes.append(table[word])
        if len(table) < 1023:
            table[longer] = len(table)
        word = bytes([value])
    return [*codes, table[word]]


def pack_chunk(codes: list[int], start: int) -> bytes:
    bits = "".join(f"{code:010b}" for code in codes) + "1" * 10  # the last code means the end
    bits += "0" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return struct.pack("<iHh", len(data), 0, start) + data


def pack_lead(lead: np.ndarray) -> bytes:
    """Pack one lead (samples,): the first two samples, then the second differences one place late."""
    values = lead.astype(int)
    second = 2 * values[1:-1] - values[:-2] - values[2:]
    deltas = np.concatenate([values[:2], second[1:] + 64, [64]]).astype(np.int16).view(np.uint16)
    high, low = (deltas >> 8).astype(np.uint8), (deltas & 255).astype(np.uint8)
    return pack_chunk(lzw_codes(high.tobytes() + low.tobytes()), int(second[0]))


def pack_philips(signal: np.ndarray) -> bytes:
    """Pack twelve leads in the order of LEADS; III, aVR, aVL and aVF are stored as what their sums leave over."""
    one, two, three, right, left, foot, *chest = as_steps(signal).astype(int)
    rest = [two - one - three, -right - (one + two) // 2, (one - three) // 2 - left, (two + three) // 2 - foot]
    return b"".join(pack_lead(lead) for lead in (one, two, *rest, *chest))


def philips_document(data: bytes, names: list[str], samples: int, rate: float = 500, packed: bool = False) -> str:
    compression = 'compression="XLI" ' if packed else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<restingecgdata xmlns="http://www3.medical.philips.com">'
        "<documentinfo><documenttype>PhilipsECG</documenttype><documentversion>1.04</documentversion></documentinfo>"
        "<patient><generalpatientdata><name><lastname>Doe</lastname><firstname>Jane</firstname></name>"
        "</generalpatientdata></patient><dataacquisition><signalcharacteristics><samplingrate>500</samplingrate>"
        "</signalcharacteristics></dataacquisition><waveforms>"
        f'<parsedwaveforms dataencoding="Base64" {compression}numberofleads="{len(names)}" '
        f'leadlabels="{" ".join(names)}" durationperchannel="{1000 * samples / rate:g}" samplespersecond="{rate:g}" '
        f'resolution="{STEP_UV:g}" signaloffset="0" signalsigned="True" bitspersample="16">'
        f"{base64.b64encode(data).decode()}</parsedwaveforms></waveforms></restingecgdata>"
    )


def write_philips(path: Path, signal: np.ndarray, names: list[str], rate: float = 500, packed: bool = False) -> Path:
    data = pack_philips(signal) if packed else as_steps(signal).tobytes()
    path.write_text(philips_document(data, names, signal.shape[1], rate, packed))
    return path


# ---- SCP-ECG (EN 1064): sections with CRC-CCITT; plain 16-bit samples, or Huffman codes of second differences


def _scp_section(number: int, body: bytes) -> bytes:
    body += b"\0" * (len(body) % 2)
    content = struct.pack("<HIBB6s", number, len(body) + 16, 13, 13, b"\0" * 6) + body
    return struct.pack("<H", binascii.crc_hqx(content, 0xFFFF)) + content


def _huffman(values: np.ndarray) -> bytes:
    """Encode with the default table: 0 is "0", 1 to 8 are ones, "0" and the sign; escapes hold 8 or 16 bits."""
    bits = ""
    for value in map(int, values):
        if value == 0:
            bits += "0"
        elif abs(value) <= 8:
            bits += "1" * abs(value) + "0" + ("1" if value < 0 else "0")
        elif -128 <= value <= 127:
            bits += "1111111110" + f"{value & 0xFF:08b}"
        else:
            bits += "1111111111" + f"{value & 0xFFFF:016b}"
    bits += "0" * (-len(bits) % 16)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def scp_record(sections: dict[int, bytes]) -> bytes:
    """Join sections (number -> body) to a record with its pointers and checksums."""
    parts = {number: _scp_section(number, body) for number, body in sections.items()}
    length = 16 + 10 * (1 + len(parts))
    pointers, place = struct.pack("<HII", 0, length, 7), 7 + length
    for number, part in parts.items():
        pointers += struct.pack("<HII", number, len(part), place)
        place += len(part)
    content = b"".join([_scp_section(0, pointers), *parts.values()])
    record = struct.pack("<I", 6 + len(content)) + content
    return struct.pack("<H", binascii.crc_hqx(record, 0xFFFF)) + record


def scp_sections(signal: np.ndarray, names: list[str], rate: float, packed: bool, starts: list[int] | None = None):
    """Bodies of the sections 1 (patient), 2 (Huffman), 3 (leads) and 6 (rhythm)."""
    steps = as_steps(signal)
    starts = starts or [1] * len(names)
    leads = b"".join(
        struct.pack("<IIB", start, start + steps.shape[1] - 1, SCP_LEADS.get(name, 0))
        for name, start in zip(names, starts, strict=True)
    )
    data = [lead.tobytes() for lead in steps]
    if packed:
        wide = steps.astype(int)
        second = wide[:, 2:] - 2 * wide[:, 1:-1] + wide[:, :-2]
        data = [_huffman(np.concatenate([lead[:2], rest])) for lead, rest in zip(wide, second, strict=True)]
    rhythm = struct.pack("<HHBB", int(1000 * STEP_UV), round(1e6 / rate), 2 if packed else 0, 0)
    rhythm += b"".join(struct.pack("<H", len(lead)) for lead in data) + b"".join(data)
    patient = b"".join(struct.pack("<BH", tag, len(text)) + text for tag, text in ((0, b"Doe\0"), (1, b"Jane\0")))
    sections = {1: patient + b"\xff\0\0", 3: bytes([len(names), 4 | len(names) << 3 & 0xF8]) + leads, 6: rhythm}
    return sections | ({2: struct.pack("<H", 19999)} if packed else {})


def write_scp(path: Path, signal: np.ndarray, names: list[str], rate: float = 500, packed: bool = False, starts=None):
    sections = scp_sections(signal, names, rate, packed, starts)
    path.write_bytes(scp_record(dict(sorted(sections.items()))))
    return path


# ---- EDF: header in ASCII, data records of 16-bit samples


def write_edf(path: Path, signal: np.ndarray, names: list[str], rate: float = 500, unit: str = "uV", **fields) -> Path:
    """Write EDF with records of one second; `fields` replace values of the header (reserved, records, physical)."""
    steps = as_steps(signal)
    per_record = round(rate * fields.get("seconds", 1))
    records = steps.shape[1] // per_record
    count = len(names)
    low, high = fields.get("physical", (-32768 * STEP_UV, 32767 * STEP_UV))

    def column(values, width: int) -> bytes:
        return b"".join(str(value).encode("latin-1")[:width].ljust(width) for value in values)

    header = column(["0"], 8) + column(["4711 F 01-JAN-1950 Doe_Jane"], 80) + column(["Startdate X"], 80)
    header += column(["01.01.20", "10.00.00", 256 * (count + 1)], 8) + column([fields.get("reserved", "")], 44)
    header += column([fields.get("records", records), fields.get("seconds", 1)], 8) + column([count], 4)
    header += column(names, 16) + column([""] * count, 80) + column([unit] * count, 8)
    header += column([f"{low:g}"[:8]] * count, 8) + column([f"{high:g}"[:8]] * count, 8)
    header += column([-32768] * count, 8) + column([32767] * count, 8)
    header += column([""] * count, 80) + column([per_record] * count, 8) + column([""] * count, 32)
    blocks = steps[:, : records * per_record].reshape(count, records, per_record).transpose(1, 0, 2)
    path.write_bytes(header + np.ascontiguousarray(blocks).tobytes())
    return path


# ---- text table


def write_csv(path: Path, signal: np.ndarray, header: list[str], comments: tuple[str, ...] = ()) -> Path:
    rows = [",".join(f"{value:.4f}" for value in sample) for sample in signal.T]
    path.write_text("\n".join([*comments, ",".join(header), *rows]) + "\n")
    return path
