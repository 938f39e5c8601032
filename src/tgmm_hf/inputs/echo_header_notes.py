"""Note what the header of an echo clip says against it: frame rate, shape of the pixels, organ, kind of examination."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

ULTRASOUND = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(3|3\.1|6|6\.1|6\.2)")
"""Storage classes of ultrasound images, the retired ones included."""
VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
"""Storage class of volumes. The frames of a volume are slices, not one picture at several times."""
PICTURE, TRACES = 1, {2: "M-mode", 3: "spectral Doppler"}
"""RegionSpatialFormat of a 2-D picture, and of traces."""
FRAMES_A_SECOND = (8.0, 400.0)
"""Lowest and highest plausible frame rate. Echo scanners record about 15 to 150 frames a second, some up to 300."""
MAX_ASPECT = 1.02
"""Largest ratio of a pixel's sides that counts as square, because headers round."""
HEART_PARTS = (
    *("HEART", "CARDIAC", "CHEST", "THORAX", "CARDIOVASCULAR", "ECHO", "CORONARY", "CORONARYARTERY", "AORTA", "LV"),
    *("VENTRICLE", "LVENTRICLE", "RVENTRICLE", "MEDIASTINUM", "WHOLEBODY", "UNKNOWN", "OTHER", "NONE"),
)
"""Values of BodyPartExamined that an echo of the heart has, or that say nothing."""
ORGAN = "another organ than the heart"
PHANTOM, FETAL, ANIMAL = "a phantom or a simulator", "a fetal or obstetric examination", "an animal"
CHILD, OPERATION = "a child", "an examination during an operation"
EXAMINATIONS = {
    "a transesophageal echo": re.compile(
        r"\b(?:tee|toe(?!\W+(?:ulcer|gangr|amput|infect))|et[eo])\b|\btrans-?\s?(?:o?e|ö)so", re.IGNORECASE
    ),
    "an intracardiac or intravascular echo": re.compile(
        r"\bintra-?\s?(?:cardiac|vascular|coronary)|\bIVUS\b|(?-i:\bICE\b)", re.IGNORECASE
    ),
    FETAL: re.compile(r"\bf(?:o?e|œ)t(?:al|us)\b|\bobstetri", re.IGNORECASE),
    CHILD: re.compile(
        r"\b(?:p(?:a?e|ä|é)diatr|neonat)(?!\w*\W+(?:ICU|intensive))|\bnewborns?\b|\bneugeboren|\binfants?\b",
        re.IGNORECASE,
    ),
    ORGAN: re.compile(
        r"\b(?:liver|hepatic(?!\W+vein)|kidneys?|renal|thyroid|carotids?|breast|bladder|gall-?bladder|spleen|pancreas|prostate|"
        r"pelvi[sc]|testis|scrotal|appendix|hernia|abdom\w*|addome|lungs?|pleural?|obstetric\w*|gyna?ecolog\w*|uterus|"
        r"ovar\w+|trans-?cranial|musculo-?skeletal|MSK|DVT|e?FAST exam|hips?|knees?|shoulders?|eyes?|ocular|"
        r"biopsy guid\w+|vascular access|nerve block|"
        r"(?-i:OB|AAA|eFAST|EFAST|FAST(?!\W+(?:mode|track|acqui|scan|rate|frame|protocol)))"
        r")\b|\b(?:leg|lower extremit\w+) (?:vein|ven|arter)|"
        r"\bperipheral vascular|bauch\b|schilddr|\b(?:venous|arterial|limb) (?:duplex|doppler)",
        re.IGNORECASE,
    ),
    ANIMAL: re.compile(
        r"\b(?:canine|feline|murine|dogs?|horses?|mouse|rats?|rabbits?|pigs?(?!\W+valve)|swine|veterinary)\b",
        re.IGNORECASE,
    ),
    "a stress echo": re.compile(
        r"\b(?:stress(?!\W+(?:cardiomy|cmp|ulcer))|dobutamine?|DSE|treadmill|dipyridamole?|regadenoson)\b|\bexercise\W+(?:echo|TTE)|\bergomet",
        re.IGNORECASE,
    ),
    OPERATION: re.compile(r"\bintra-?\s?op(?:erative)?\b", re.IGNORECASE),
    "a heart outside of the body": re.compile(
        r"\bex[- ]vivo\b|\bin[- ]vitro\W{1,3}(?:hearts?|specimens?|models?|valves?)\b|"
        r"\b(?:hearts?|specimens?|models?|valves?)\W{1,3}in[- ]vitro\b(?!\W+fertili)",
        re.IGNORECASE,
    ),
    PHANTOM: re.compile(r"\b(?:phantoms?(?!\W+(?:limb|pain))|simulator|test pattern)\b", re.IGNORECASE),
}
"""What the free text of a header may name instead of a transthoracic echo of an adult at rest."""
NEGATED = re.compile(r"\b(?:non|not|no|without)[\s-]{1,3}(?:an?\s)?$", re.IGNORECASE)
"""End of a text before a word that the text denies, such as "non-fetal"."""
NEGATED_CHARACTERS = 20
"""Longest end of a text that is searched for `NEGATED`."""
ADULT = re.compile(r"\badults?\b", re.IGNORECASE)
"""An adult with an inborn fault is examined by a pediatric cardiologist, too."""
BESIDE_THE_HEART = re.compile(
    r"\bTTE\b|\be(?:ch|c|k)o(?:cardio\w*)?\b|\btrans-?\s?thoracic|\bcardiac\b|\bhearts?\b|\baort|\beffusion|\bPE\b|"
    r"\bpre\W+(?:op\w*\W+)?\w+\W+transplant|\bpre\W?op|\bsurgery\b|\bfx\b|\bfractures?\b|\breplacements?\b",
    re.IGNORECASE,
)
"""Words of an examination of the heart, or before an operation. An organ that stands beside them is a reason for it,
such as "r/o DVT/PE" and "Hip fx pre-op"."""
TRANSTHORACIC = re.compile(r"\bTTE\b|\btrans-?\s?thoracic", re.IGNORECASE)
"""A transthoracic echo, which may be made during an operation, too."""
STAGE_OF_STRESS = re.compile(r"peak|post|recovery|dose|(?<!pre[- ])exercise|stress|dobut", re.IGNORECASE)
"""Parts of StageName that name another stage of a stress echo than rest."""
CENTIMETRES = 3
"""PhysicalUnitsXDirection and PhysicalUnitsYDirection of a region whose pixels have a size."""
TITLES = (
    *("StudyDescription", "SeriesDescription", "ProtocolName", "PerformedProcedureStepDescription"),
    "RequestedProcedureDescription",
)
"""Elements with a name of the examination."""
COMMENTS = ("StudyComments", "ImageComments", "AcquisitionDeviceProcessingDescription")
"""Elements with free text about the examination, which name other organs as a reason for a poor window."""
REASON_TEXTS = ("ReasonForStudy", "AdmittingDiagnosesDescription", "ClinicalTrialProtocolName")
"""Elements with diagnoses and plans, which name organs and earlier examinations."""
REASON_KINDS = (FETAL, ANIMAL, PHANTOM)
EXAMINED = re.compile(r"\W+(?:echo\w*|exam\w*|scan\w*|ultraso\w*|sonogr\w*|study|hearts?)\b", re.IGNORECASE)
"""What follows a word of `REASON_KINDS` in `REASON_TEXTS`, or an organ in `COMMENTS`, that names this examination, such
as "Fetal echo"."""
OTHER_TRANSDUCERS = re.compile(r"LINEAR|SINGLE CRYSTAL|SPLIT XTAL CWD|IV_\w+|ENDOCAV_\w+")
"""Values of TransducerType that no transthoracic echo of the heart has. CURVED LINEAR is used in emergencies."""
TEE_PROBES = re.compile(
    r"6VT(?:-D)?|6Tc(?:-RS)?|9T(?:c|-RS)?|10T(?:-D)?|[XS]\d-\dt|V[57]M(?:[sS])?|Z6Ms?", re.IGNORECASE
)
"""Transducers in the esophagus by the names of their makers (GE, Philips, Siemens), as TransducerData holds them."""
DOPPLER_TYPES = (3, 4)
"""RegionDataType of spectral Doppler, pulsed and continuous."""


def header_notes(dataset: Any) -> list[dict[str, str]]:
    """Return notes {"code", "text"} on modality, storage class, frame rate and traces."""
    notes = []
    if not dataset.get("Modality"):
        text = "the header states no modality; the file was taken for ultrasound"
        notes.append({"code": "modality_missing", "text": text})
    elif not ULTRASOUND.fullmatch(str(dataset.get("SOPClassUID") or "")):
        text = "the modality is US, but the storage class is not ultrasound (a screen capture or an export?)"
        notes.append({"code": "storage_class", "text": text})
    notes += frame_rate_notes(frames_a_second(dataset))
    if (aspect := _pixel_aspect(dataset)) is not None and not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        text = f"a pixel is {aspect:.3g} times as high as wide by the header: export the clip with square pixels"
        notes.append({"code": "pixel_aspect", "text": text})
    if (element := _other_part(dataset)) is not None:
        text = f"the header names another body part than the heart ({element}): is this an echocardiogram?"
        notes.append({"code": "body_part", "text": text})
    if (element := _other_transducer(dataset)) is not None:
        text = f"the header names another transducer than one of a transthoracic echo ({element}): is this one?"
        notes.append({"code": "transducer", "text": text})
    if (kind := _examination(dataset)) is not None:
        text = f"the header names {kind}; the model knows transthoracic clips of adults at rest: is this one?"
        notes.append({"code": "examination", "text": text})
    if (formats := region_formats(dataset)) & set(TRACES):
        text = f"beside the 2-D picture the file shows {traces_of(formats)}, which the model does not know"
        notes.append({"code": "other_traces", "text": text})
    elif _has_doppler_picture(dataset):
        text = "the header calls one region a 2-D picture and spectral Doppler: is this a clip of a view?"
        notes.append({"code": "other_traces", "text": text})
    return notes


def _other_part(dataset: Any) -> str | None:
    """Name the element that states another body part than the heart; None if there is none."""
    part = str(dataset.get("BodyPartExamined") or "").strip().upper()
    if part and part not in HEART_PARTS:
        return "BodyPartExamined"
    for element in ("AnatomicRegionSequence", "PrimaryAnatomicStructureSequence"):
        for code in dataset.get(element) or []:
            meaning = str(code.get("CodeMeaning") or "")
            is_organ = EXAMINATIONS[ORGAN].search(meaning) is not None and not BESIDE_THE_HEART.search(meaning)
            if is_organ or EXAMINATIONS[FETAL].search(meaning):
                return element
    return None


def _other_transducer(dataset: Any) -> str | None:
    """Name the element that states a transducer which no transthoracic echo of the heart has; None if none does."""
    kinds = _texts(dataset.get("TransducerType"))
    if any(OTHER_TRANSDUCERS.fullmatch(kind.upper()) for kind in kinds):
        return "TransducerType"
    return (
        "TransducerData" if any(TEE_PROBES.fullmatch(name) for name in _texts(dataset.get("TransducerData"))) else None
    )


def _texts(value: Any) -> list[str]:
    """Read the texts of an element with one or several values, without white space at their ends."""
    return [str(single).strip() for single in ([value] if isinstance(value, str) else value or [])]


def _has_doppler_picture(dataset: Any) -> bool:
    """Tell whether all regions that are 2-D pictures by their format are spectral Doppler by their data type."""
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    kinds = [region.get("RegionDataType") for region in regions if region.get("RegionSpatialFormat") == PICTURE]
    return bool(kinds) and all(kind in DOPPLER_TYPES for kind in kinds)


def frame_rate_notes(rate: float | None) -> list[dict[str, str]]:
    """Return a note {"code", "text"} on a frame rate that no echo scanner has; `rate` is None if none is stated."""
    low, high = FRAMES_A_SECOND
    if rate is None or low <= rate <= high:
        return []
    text = f"the header states {rate:.3g} frames a second, echo clips have {low:g} to {high:g}: is this right?"
    return [{"code": "frame_rate", "text": text}]


def _pixel_aspect(dataset: Any) -> float | None:
    """Read height / width of a pixel from PixelAspectRatio, PixelSpacing or the size in the regions of 2-D pictures.

    Returns:
        The ratio that is farthest from 1; None if the header states none.
    """
    sizes = [_numbers(dataset.get(name)) for name in ("PixelAspectRatio", "PixelSpacing", "NominalScannedPixelSpacing")]
    ratios = [size[0] / size[1] for size in sizes if len(size) == 2 and min(size) > 0]
    for region in dataset.get("SequenceOfUltrasoundRegions") or []:
        units = {region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")}
        sides = [abs(side) for name in ("Y", "X") for side in _numbers(region.get(f"PhysicalDelta{name}"))]
        if region.get("RegionSpatialFormat") == PICTURE and units == {CENTIMETRES} and len(sides) == 2 and all(sides):
            ratios.append(sides[0] / sides[1])
    return max(ratios, key=lambda ratio: max(ratio, 1 / ratio), default=None)


def _examination(dataset: Any) -> str | None:
    """Name the examination that a header is about, if it is none that the model knows."""
    titles, comments = ("\n".join(str(dataset.get(name) or "") for name in names) for names in (TITLES, COMMENTS))
    text = f"{titles}\n{comments}"
    exempt = {ORGAN: BESIDE_THE_HEART, CHILD: ADULT, OPERATION: TRANSTHORACIC}
    for kind, words in EXAMINATIONS.items():
        is_named = _names(words, text)
        if kind == ORGAN:
            is_named = _names(words, titles) or _is_examined(words, comments)
        if is_named and not (kind in exempt and exempt[kind].search(text)):
            return kind
    reasons = "\n".join(str(dataset.get(name) or "") for name in REASON_TEXTS)
    for kind in REASON_KINDS:
        if _is_examined(EXAMINATIONS[kind], reasons):
            return kind
    if STAGE_OF_STRESS.search(str(dataset.get("StageName") or "")):
        return "a stress echo"
    agent = str(dataset.get("ContrastBolusAgent") or "").strip().casefold()
    return "a contrast agent" if agent and agent not in ("none", "no", "n", "0") else None


def _named(words: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Find the words in a text that the text does not deny."""
    for match in words.finditer(text):
        start = match.start()
        if not NEGATED.search(text, max(0, start - NEGATED_CHARACTERS), start):
            yield match


def _names(words: re.Pattern[str], text: str) -> bool:
    """Tell whether a text names one of the words without denying it."""
    return next(_named(words, text), None) is not None


def _is_examined(words: re.Pattern[str], text: str) -> bool:
    """Tell whether one of the words stands directly before a word for an examination, such as "Fetal echo"."""
    return any(EXAMINED.match(text, match.end()) for match in _named(words, text))


def frames_a_second(dataset: Any) -> float | None:
    """Read the frame rate from FrameTime (ms), FrameTimeVector (ms), CineRate or RecommendedDisplayFrameRate.

    Returns:
        Frames a second; None if the header states none, or none that is a positive number.
    """
    times = [number for number in _numbers(dataset.get("FrameTimeVector"))[1:] if number > 0]
    values = [1000 / number for number in _numbers(dataset.get("FrameTime")) if number > 0]
    values += [1000 / float(np.median(times))] if times else []
    values += [
        number
        for name in ("CineRate", "RecommendedDisplayFrameRate")
        for number in _numbers(dataset.get(name))
        if number > 0
    ]
    return values[0] if values else None


def _numbers(value: Any) -> list[float]:
    """Read the finite numbers of an element with one or several values; other values are left out."""
    numbers = []
    for single in [value] if isinstance(value, str | int | float) else value or []:
        try:
            number = float(single)
        except (TypeError, ValueError):
            continue
        if np.isfinite(number):
            numbers.append(number)
    return numbers


def region_formats(dataset: Any) -> set[int]:
    """Read the spatial formats of the ultrasound regions: 1 is a 2-D picture, 2 M-mode, 3 spectral Doppler."""
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    formats = [region.get("RegionSpatialFormat") for region in regions]
    return {value for value in formats if isinstance(value, int)}


def traces_of(formats: set[int]) -> str:
    """Write the names of the traces among the formats of regions."""
    return " and ".join(name for number, name in TRACES.items() if number in formats)
