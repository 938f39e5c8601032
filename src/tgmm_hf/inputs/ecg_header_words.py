"""Find what the comments of an ECG say against a resting ECG of an adult in the twelve standard places.

WFDB headers and DICOM annotations hold free text. A line about the patient's history, a place or a person says
nothing about the recording. A word that its sentence denies, or that belongs to another time, does not count.
"""

import re
from collections.abc import Iterable

MAX_LINES, MAX_LENGTH = 500, 1000
"""Lines, and letters of a line, that are looked at."""
BEFORE = 40
"""Letters before a word that are searched for a denial, not beyond the last stop or comma."""

_KEY = re.compile(r"\W*(?P<key>[A-Za-z][A-Za-z _/-]{0,40}?)\s*>?\s*[:=]\s*\S")
_NOT_OF_THE_RECORDING = re.compile(
    r"\b(?:reason|indication|[hrds]x$|history|diagnos|medic|drug|therap|symptom|complain|allerg|previous|prior|location|"
    r"room|ward|department|dept|clinic|hospital|institution|site|technician|operator|nurse|physician|doctor|refer|"
    r"\w*name|address|occupation|project|study|trial|plan|recommend)",
    re.IGNORECASE,
)
"""Begin of a key such as "Reason for admission": its value is no property of the recording."""
_DENIED_BEFORE = re.compile(
    r"\b(?:no|not|non|none|without|w/o|never|excluded?|exclude[sd]?|rule[sd]? out|r/o|negative for|absence of|free of|"
    r"unlike|instead of|except)\b[^.;,]*$",
    re.IGNORECASE,
)
_DENIED_BEHIND = re.compile(
    r"\W{1,3}(?:(?:was|were|is|are|has been|have been|been|study|test|seen)\W+)?"
    r"(?:not|no|none|0|off|negative|excluded|ruled out|unlikely|absent|corrected|planned|scheduled|recommended)\b",
    re.IGNORECASE,
)
_ANSWERED_NO = re.compile(r"[?:=]\s*(?:no|none|n|0|off|false)\W*$", re.IGNORECASE)
_OTHER_TIME = re.compile(
    r"\b(?:last|previous(?:ly)?|prior|planned|scheduled|recommend\w*|next|ago|before|compared|history|refer\w*|capacity|"
    r"tolerance|pain|angina|dyspn\w*|syncope|palpitations?|symptom\w*)\b",
    re.IGNORECASE,
)
"""Words of a sentence about another time, or about what the patient feels."""
_AT_REST = re.compile(r"\b(?:at rest|resting|supine|ruhe-?ekg)\b", re.IGNORECASE)

_CONNECTED = r"(?:(?:was|were|is|are|may be|possibly|probably)\W+)?"
_KINDS: dict[str, tuple[str, re.Pattern[str]]] = {
    "ecg_not_a_patient": (
        "the header names a simulator, a test signal or an animal: make sure that this is the ECG of a patient",
        re.compile(
            r"\bsimulat(?:ed|or)\b(?!\W+(?:train|lab|room|cent|study))|\bsignal generator\b|"
            r"\bsynthetic (?:ecg|ekg|signal|record|data|patient)|\bphantom\b(?!\W+(?:limb|pain))|"
            r"(?<!stress )(?<!exercise )\btest (?:pattern|signal|recording|patient)\b|"
            r"\bdemo (?:patient|ecg|recording)\b|"
            r"\b(?:canine|feline|equine|murine|bovine|ovine)\b(?!\W+(?:tooth|teeth|bite|space|valve|pericard|prosth))|"
            r"\b(?:dog|cat|horse|mouse|rat|rabbit|pig|sheep)\b(?=\W+(?:ecg|ekg|electrocard|patient))|"
            r"\bspecies\W+(?!human|homo)\w|\bveterinary (?:ecg|ekg|patient)\b",
            re.IGNORECASE,
        ),
    ),
    "patient_not_adult": (
        "the header names a child or an unborn child: the model is for adults",
        re.compile(
            r"\bfo?etal (?:ecg|ekg|electro)|\bneonat(?:e|al (?:ecg|ekg|electro))|"
            r"\bpa?ediatric (?:ecg|ekg|electro|patient)|"
            r"\b\d{1,2} (?:days?|weeks?|months?) old\b|\bage\W{1,2}\d{1,2} (?:days?|weeks?|months?)\b",
            re.IGNORECASE,
        ),
    ),
    "ecg_other_electrodes": (
        "the header names exchanged electrodes, other electrodes than those of the standard twelve leads, or computed "
        "leads: make sure that the leads are what their names say",
        re.compile(
            r"\b(?:limb|arm|leg|chest|precordial|leads?|electrodes?|cables?|[RL][AL]/[RL][AL])\b"
            rf"(?:\W(?:leads?|electrodes?|cables?)\b)?\W+{_CONNECTED}"
            r"(?:reversal|reversed|swapped|exchanged|interchanged|transposed|misplaced|misplacement)\b|"
            r"\bmisplaced (?:leads?|electrodes?)\b|\b(?:reversed|inverted) polarity\b|\bpolarity reversed\b|"
            r"\bright[- ]sided (?:leads?|ecg|ekg|V)|\bposterior (?:leads?|ecg|ekg|electrodes?)\b(?!\W+change)|"
            r"(?-i:\bV[3-6]R\b)|\bleads? V[789]\b|\bV7\W{1,3}V?9\b|\bmason\W?likar\b|"
            r"\b(?:2nd|3rd|second|third|high(?:er)?) (?:ICS|intercostal|precordial)\b|"
            r"\bdower\b|\bEASI leads?\b|\bfrank (?:leads?|xyz)\b|"
            r"\b(?:reconstructed|synthesi[sz]ed|computed|derived) from (?:[2-7]|two|three|four|five|frank|xyz)\b",
            re.IGNORECASE,
        ),
    ),
    "ecg_averaged_beat": (
        "the header names an averaged beat: is this the recorded rhythm?",
        re.compile(
            r"\bsignal[- ]averaged\b|"
            r"\b(?:averaged?|median|representative|template) (?:beats?|complex(?:es)?|cycles?)\b",
            re.IGNORECASE,
        ),
    ),
    "ecg_processed": (
        "the header says that the samples are not as they were recorded (another scale, paper, time, noise): find the "
        "recording itself",
        re.compile(
            r"\b(?:amplitudes?|signals?|leads?|voltages?)\W+(?:\w+\W+){0,2}normali[sz]ed\b|"
            r"\bnormali[sz]ed (?:units?|amplitudes?|signals?)\b|\bz-?scored\b|\bz-?score normali|\bunit variance\b|"
            r"\barbitrary units?\b|\bunits? arbitrary\b|\btime[- ]reversed\b|\bnoise (?:was )?added\b|"
            r"\b(?:digiti[sz]ed|scanned|extracted) from (?:an? )?(?:paper|image|pdf|print|scan)",
            re.IGNORECASE,
        ),
    ),
    "ecg_lead_off": (
        "the header says that an electrode or a lead was not connected: look which one",
        re.compile(
            rf"\b(?:leads?|electrodes?|V[1-6]|R[AL]|L[AL])\b\W{{1,2}}{_CONNECTED}"
            r"(?:off\b(?![- ](?:axis|set|label|detect|alarm))|"
            r"disconnected|detached|unplugged|not (?:connected|attached|applied))",
            re.IGNORECASE,
        ),
    ),
    "ecg_not_at_rest": (
        "the header names an exercise test or an ambulatory recording; the model knows ECGs at rest",
        re.compile(
            r"\b(?:during|at|peak|maximal) (?:peak )?(?:exercise|exertion)\b|\bexercise (?:stage|phase|ecg|ekg|stress)|"
            r"\bbruce\W+(?:protocol|ramp|stage|test|\d)|\btreadmill\b|\bergomet\w*|"
            r"\b(?:holter|ambulatory) (?:ecg|ekg|recording|monitor\w*|\d)|"
            r"\bstress (?:ecg|ekg|test (?:ecg|ekg|recording|stage))|\bduring CPR\b",
            re.IGNORECASE,
        ),
    ),
}
"""Code -> what is said to the user, and the words that say it."""

_HZ = r"(\d{1,4}(?:\.\d{1,4})?)\s*Hz\b"
_BAND = re.compile(r"\bfilter\w*\W{1,3}(\d{1,4}(?:\.\d{1,4})?)\s*(?:Hz)?\s*(?:-|\u2013|to)\s*" + _HZ, re.IGNORECASE)
_LOW_END = re.compile(rf"\bhigh[- ]?pass\b(?:\W+filter\w*)?\W{{1,3}}{_HZ}|{_HZ}\s+high[- ]?pass\b", re.IGNORECASE)
_HIGH_END = re.compile(rf"\blow[- ]?pass\b(?:\W+filter\w*)?\W{{1,3}}{_HZ}|{_HZ}\s+low[- ]?pass\b", re.IGNORECASE)
_OTHER_FILTER = re.compile(r"\b(?:notch|mains|line|AC|band[- ]?stop|muscle|EMG|off|QRS|detect\w*)\b", re.IGNORECASE)
"""Words of a line about a filter of mains hum, one that was off, or one that only finds beats."""


def findings_of_words(lines: Iterable[str]) -> list[dict[str, str]]:
    """Return what free text says against a resting ECG, one entry of `EcgRecording.checks` for each kind.

    No text of the file is repeated, because it may name the patient.

    Args:
        lines: comments, one statement or several in each.
    """
    looked_at = _of_the_recording(lines)
    found = [code for code, (_, words) in _KINDS.items() if any(_says(line, code, words) for line in looked_at)]
    if any(_AT_REST.search(line) for line in looked_at):
        found = [code for code in found if code != "ecg_not_at_rest"]
    return [{"code": code, "item": "ecg", "text": _KINDS[code][0]} for code in found]


def filters_of_words(lines: Iterable[str]) -> tuple[float | None, float | None]:
    """Read the ends (Hz) of the strictest filter that free text states; None where it states none.

    Args:
        lines: as `findings_of_words` takes them.
    """
    lowest: list[float] = []
    highest: list[float] = []
    for line in _of_the_recording(lines):
        if _OTHER_FILTER.search(line):
            continue
        for low, high in _BAND.findall(line):
            lowest.append(float(low))
            highest.append(float(high))
        lowest += [float(one or two) for one, two in _LOW_END.findall(line)]
        highest += [float(one or two) for one, two in _HIGH_END.findall(line)]
    return max(lowest, default=None), min(highest, default=None)


def _of_the_recording(lines: Iterable[str]) -> list[str]:
    """Keep the lines that may be about the recording, cut to a length."""
    kept = []
    for line in list(lines)[:MAX_LINES]:
        key = _KEY.match(line)
        if not _ANSWERED_NO.search(line) and (key is None or _NOT_OF_THE_RECORDING.search(key["key"]) is None):
            kept.append(line[:MAX_LENGTH])
    return kept


def _says(line: str, code: str, words: re.Pattern[str]) -> bool:
    """Tell whether a line says one of the words of a kind, of this recording and without denying it."""
    for match in words.finditer(line):
        before = line[max(0, match.start() - BEFORE) : match.start()]
        if _DENIED_BEFORE.search(before) or _DENIED_BEHIND.match(line, match.end()):
            continue
        sentence = re.split(r"[.;](?!\d)", before)[-1] + re.split(r"[.;](?!\d)", line[match.start() :])[0]
        if code == "ecg_lead_off" or not _OTHER_TIME.search(sentence):
            return True
    return False


__all__ = ["filters_of_words", "findings_of_words"]
