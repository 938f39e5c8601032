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
_ENTRY_OF_A_PATIENT = re.compile(
    r"(?:age|sex|gender|[hrds]x|race|ethnicity|weight|height|bmi|\w*id|\w*date|\w*time|leads?)$", re.IGNORECASE
)
"""Key of an entry such as "Age: 71" that is no sentence about the recording."""
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
AT_REST = re.compile(
    r"(?<!\bpain at )(?<!\bangina at )(?<!\bdyspnea at )(?<!\bdyspnoea at )(?<!\bnot at )(?<!\bnot )(?<!\bto )"
    r"(?<!\bwith )(?<!\bvs )(?<!\bvs\. )(?<!\bversus )"
    r"\b(?:rest|resting|ruhe|ruhe[- ]?ekg)\b(?!\W+(?:of|pain|angina|dysp\w*|HR|BP|heart rate|blood|pulse)\b)",
    re.IGNORECASE,
)
"""Words for an ECG of a patient at rest. Words for an exercise test then name a place or another ECG."""
NOT_PRE = r"(?<!\bpre[- ])"
"""Begin of a pattern: an ECG before an exercise test is one at rest."""
_FINDING_IN = re.compile(
    r"\b(?:ST|waves?|elevations?|depressions?|inversions?|changes?)\b[^.;:]*\bin (?:the )?(?:leads? )?$", re.IGNORECASE
)
"""Words before a lead of which a sentence reports a finding: "Q waves in posterior leads"."""
_CONNECTED = r"(?:(?:was|were|is|are|may be|possibly|probably)\W+)?"
_PLACE = r"(?!\W*(?:room|lab|raum|labor|unit|dep|clinic))"
_MONTHS = r"(?:\d{1,2}|1\d\d|20\d|21[0-5]) months?"
_YOUNG = rf"(?:\d{{1,3}} days?|\d{{1,3}} weeks?|{_MONTHS})"
"""An age below 18 years in other units than years."""
_CHILD = r"(?:baby|infant|newborn|boy|girl|male|female)"
_ANIMAL = r"(?:canine|feline|equine|murine|bovine|ovine)"
_EXERCISE_PLANNED = (
    r"\b(?:requested|ordered|booked|tomorrow|follows|to follow|geplant|vorgesehen|empfohlen)\b|"
    r"\b(?:vor|zur|zum) (?:der |dem )?ergomet|\bnach\b.*\b(?:19|20)\d\d\b"
)

_TEXTS = {
    "ecg_not_a_patient": "the header names a simulator, a test signal or an animal: make sure that this is the ECG of "
    "a patient",
    "patient_not_adult": "the header names a child or an unborn child: the model is for adults",
    "ecg_other_electrodes": "the header names exchanged electrodes, other electrodes than those of the standard twelve "
    "leads, or computed leads: make sure that the leads are what their names say",
    "ecg_averaged_beat": "the header names an averaged beat: is this the recorded rhythm?",
    "ecg_processed": "the header says that the samples are not as they were recorded (another scale, paper, time, "
    "noise): find the recording itself",
    "ecg_lead_off": "the header says that an electrode or a lead was not connected: look which one",
    "ecg_not_at_rest": "the header names an exercise test or an ambulatory recording; the model knows ECGs at rest",
}
"""Code -> what is said to the user."""

_NEVER = r"(?!)"
_PATTERNS: tuple[tuple[str, str, str], ...] = (
    (
        "ecg_not_a_patient",
        r"\bsimulat(?:ed|or)\b(?!\W+(?:train|lab|room|cent|study))|\bsignal generator\b|"
        r"\bsynthetic (?:ecg|ekg|signal|record|data|patient)|\bphantom\b(?!\W+(?:limb|pain))|"
        r"\bdemo (?:patient|ecg|recording)\b|"
        rf"(?:^\W*|\b(?:species|animal|subject|patient|breed)\W+){_ANIMAL}\b(?=\W*$|\s*[,;(])|"
        rf"\b{_ANIMAL}[ -](?:ecg|ekg|electrocard\w*|patient|subject|heart|recording|model|breed)\b|"
        r"\b(?:dog|cat|horse|mouse|rat|rabbit|pig|sheep)\b(?=[ -](?:ecg|ekg|electrocard|patient))|"
        r"\bspecies\s*[:=]\W*(?!human|homo|h\W+sapiens|mensch|man\b|unknown|unspec|undef|not\b|none|n/?a\b)\w|"
        r"\bspecies\W+(?:dog|cat|horse|mouse|rat|rabbit|pig|sheep)\b|"
        r"\bveterinary (?:ecg|ekg|patient)\b",
        _NEVER,
    ),
    (
        "ecg_not_a_patient",
        r"(?<!stress )(?<!exercise )\btest (?:pattern|signal|recording|patient)\b",
        r"\bcalibrat\w*",
    ),
    (
        "patient_not_adult",
        r"\bfo?etal (?:ecg|ekg|electro)|\bneonat(?:e|al (?:ecg|ekg|electro))|"
        r"\bpa?ediatric (?:ecg|ekg|electro|patient)",
        _NEVER,
    ),
    (
        "patient_not_adult",
        rf"^\W*{_YOUNG} old\b(?!\W+(?:\w+\W+)?(?:infarct\w*|MI|N?STEMI|stents?|scars?|pacemakers?|ecg|ekg|recording))|"
        rf"(?:(?<!gestational )(?<!infarct )(?<!pacemaker )(?<!device )(?<!battery )(?<!lead )(?<!stent )\baged?|"
        rf"\bpatient)\W{{1,3}}(?:is\W+|was\W+|aged?\W+)?{_YOUNG}\b(?!\W+(?:after|post|following|since))|"
        rf"\b{_CHILD}\W{{1,3}}(?:aged?\W+)?{_YOUNG}\b|\b{_YOUNG}(?: old)? {_CHILD}\b",
        r"\b(?:mother|father|parents?) of\b",
    ),
    (
        "ecg_other_electrodes",
        r"(?<!\bICD )(?<!\bpacemaker )(?<!\bpacing )"
        r"\b(?:limb|arm|leg|chest|precordial|leads?|electrodes?|cables?|[RL][AL]/[RL][AL])\b"
        rf"(?:\W(?:leads?|electrodes?|cables?)\b)?\W+{_CONNECTED}"
        r"(?:reversal|reversed|swapped|exchanged|interchanged|transposed|misplaced|misplacement)\b|"
        r"\bmisplaced (?:leads?|electrodes?)\b|\bmason\W?likar\b|\bEASI leads?\b|\bfrank (?:leads?|xyz)\b|"
        r"\bdower\W+(?:transform|matri|method)|\binverse dower\b|"
        r"\b(?:reconstructed|synthesi[sz]ed|computed|derived|transformed) (?:by|with|using) dower\b|"
        r"\b(?:reconstructed|synthesi[sz]ed|computed|derived) from (?:[2-7]|two|three|four|five|frank|xyz)\b",
        _NEVER,
    ),
    (
        "ecg_other_electrodes",
        r"\b(?:reversed|inverted) polarity\b|\bpolarity reversed\b",
        r"\b(?:(?-i:[TPQ])\W?waves?|QRS|ICD|pacemaker|pacing)\b",
    ),
    (
        "ecg_other_electrodes",
        r"\bright[- ]sided (?:(?:ecg|ekg|precordial|chest) )?(?:leads?|electrodes?)\b|\bright[- ]sided (?:ecg|ekg|V)|"
        r"\bposterior (?:(?:ecg|ekg) )?(?:leads?|electrodes?)\b(?!\W+change)|"
        r"\bposterior (?:ecg|ekg)\b(?!\W+(?:leads?|electrodes?|change))|"
        r"(?-i:\bV[3-6]R\b)|\bleads? V[789]\b|\bV7\W{1,3}V?9\b",
        r"\b(?:consider\w*|suggest\w*|advised?|also (?:recorded|taken|done|obtained))\b",
    ),
    (
        "ecg_other_electrodes",
        r"\b(?:2nd|3rd|second|third|high(?:er)?) (?:ICS|intercostal|precordial)\b",
        r"\b(?:murmurs?|bruits?|thrills?|heaves?|auscult\w*|scars?|drains?|fractures?)\b",
    ),
    (
        "ecg_averaged_beat",
        r"\bsignal[- ]averaged\b|"
        r"\b(?:averaged?|median|representative|template) (?:beats?|complex(?:es)?|cycles?)\b",
        r"\b(?:measure\w*|QTc?|HR|heart rate|(?-i:ST)|computed|negative)\b",
    ),
    (
        "ecg_processed",
        r"\bz-?scored\b|\bz-?score normali|\bunit variance\b|"
        r"\barbitrary units?\b|\bunits? arbitrary\b|\btime[- ]reversed\b|\bnoise (?:was )?added\b|"
        r"\b(?:digiti[sz]ed|scanned|extracted) from (?:an? )?(?:paper|image|pdf|print|scan)",
        _NEVER,
    ),
    (
        "ecg_processed",
        r"\b(?:amplitudes?|signals?|leads?|voltages?)\W+(?:\w+\W+){0,2}normali[sz]ed\b|"
        r"\bnormali[sz]ed (?:units?|amplitudes?|signals?)\b",
        r"\b(?:(?-i:ST|st|[TPQ])\W?waves?|(?-i:ST)|QRS|repolari\w*|inversions?|elevations?|depressions?|since)\b",
    ),
    (
        "ecg_lead_off",
        rf"\b(?:leads?|electrodes?|V[1-6]|R[AL]|L[AL])\b\W{{1,2}}{_CONNECTED}"
        r"(?:off|disconnected|detached|unplugged|not (?:connected|attached|applied))\b"
        r"(?![- ](?:axis|set|label|detect|alarm|count|event|status|sensor|indicator))",
        r"\b(?:repeated|re-?recorded|re-?attached|re-?connected|corrected)\b",
    ),
    (
        "ecg_not_at_rest",
        r"\b(?:during|at) (?:exercise|exertion)\b",
        r"\b(?:SOB|short(?:ness)? of breath|breathless\w*|murmurs?|collapsed?|claudication|faint\w*|dizz\w*|cramps?|"
        rf"fatigue|weakness|cough)\b|{_EXERCISE_PLANNED}",
    ),
    (
        "ecg_not_at_rest",
        rf"{NOT_PRE}(?:\b(?:peak|maximal) (?:exercise|exertion)\b|\bexercise (?:stage|phase|ecg|ekg|stress)|"
        rf"\bbruce\W+(?:protocol|ramp|stage|test|\d)|\btreadmill\b{_PLACE}|\bergomet\w*\b{_PLACE}|"
        r"\b(?:holter|ambulatory) (?:ecg|ekg|recording|monitor\w*|\d)|"
        r"\bstress (?:ecg|ekg|test (?:ecg|ekg|recording|stage))|\bduring CPR\b)",
        _EXERCISE_PLANNED,
    ),
)
_TITLE_PATTERNS = (
    (
        "ecg_not_at_rest",
        rf"{NOT_PRE}(?:\bstress\b(?!\W+(?:ulcer|reaction|disorder|fracture|urin|incont|free|induced|cardiomy))"
        rf"|\b(?:treadmill|exercise(?!\W+(?:intoler|clinic))|holter)\b{_PLACE}"
        rf"|\bbruce\W+(?:protocol|stage|ramp|test|\d)|\bmodified bruce\b|\bergomet\w*\b{_PLACE}|\bbelastung(?!s\W?dys)"
        r"|\brecovery[ -]+(?:stage|phase)\b|\b(?:stage|phase)\W+recovery\b"
        r"|\bambulatory (?:ecg|ekg|electrocardio\w+|recording|monitor\w*)\b)",
        rf"\b(?:previous(?:ly)?|prior|next|before|scheduled|planned)\b|{_EXERCISE_PLANNED}",
    ),
    (
        "ecg_other_electrodes",
        r"\bright[- ](?:precordial|chest)(?: precordial| chest)? (?:leads?|ecg|ekg|electrodes?)\b|\bright[- ]sided 12"
        r"|\bEASI\b|\bfrank system\b|\bXYZ leads?\b|\bderived (?:12|twelve)\b|\bvectorcardio\w*|\bnehb\b",
        _NEVER,
    ),
)
"""Further words for a title, such as the description of a study: there one word says what the whole file is."""


def _compiled(patterns: Iterable[tuple[str, str, str]]) -> list[tuple[str, re.Pattern[str], re.Pattern[str]]]:
    """Compile the patterns of kinds: code, the words that say it, words of the sentence that change their meaning."""
    return [(code, re.compile(words, re.I), re.compile(unless, re.I)) for code, words, unless in patterns]


_WORDS, _TITLE_WORDS = _compiled(_PATTERNS), _compiled(_TITLE_PATTERNS)

_NUMBER = r"(\d{1,4}(?:[.,]\d{1,4})?)"
_HZ = rf"{_NUMBER}\s*Hz\b"
_BAND = re.compile(
    rf"\b(?:filter\w*|band[- ]?pass|pass[- ]?band)\W{{1,3}}{_NUMBER}\s*(?:Hz)?\s*(?:-|\u2013|to)\s*{_HZ}", re.IGNORECASE
)
_LOW_END = re.compile(rf"\bhigh[- ]?pass\b(?:\W+filter\w*)?\W{{1,3}}{_HZ}|{_HZ}\s+high[- ]?pass\b", re.IGNORECASE)
_HIGH_END = re.compile(rf"\blow[- ]?pass\b(?:\W+filter\w*)?\W{{1,3}}{_HZ}|{_HZ}\s+low[- ]?pass\b", re.IGNORECASE)
_FILTER_PARTS = re.compile(r"(?<!filter)(?<!filters)[,;](?!\d)|\s[+/|&]\s", re.IGNORECASE)
_OTHER_FILTER = re.compile(
    r"\b(?:notch|mains|line|AC|band[- ]?stop|muscle|EMG|off|QRS|detect\w*|R-?R|heart rate|HRV?|pulse|resp\w*)\b",
    re.IGNORECASE,
)
"""Words beside a filter of mains hum, one that was off, or one that only finds beats."""
_BEAT_DETECTION = re.compile(r"\b(?:QRS|beat|peak|R|R-?wave)[- ]?detect\w*", re.IGNORECASE)
"""Words of a line whose filters all find beats."""
LEAST_LOW_PASS_HZ = 1.0
"""A low-pass below this leaves no ECG: the ends were exchanged or mean something else."""


def findings_of_words(comments: Iterable[str], titles: Iterable[str] = ()) -> list[dict[str, str]]:
    """Return what free text says against a resting ECG, one entry of `EcgRecording.checks` for each kind.

    No text of the file is repeated, because it may name the patient.

    Args:
        comments: lines, one statement or several in each.
        titles: names of the whole study, such as its description.
    """
    titles = [line for title in titles for line in title.splitlines()]
    statements = [line for line in _of_the_recording([*titles, *comments]) if not _ANSWERED_NO.search(line)]
    codes = {code for code, words, unless in _WORDS if any(_says(line, code, words, unless) for line in statements)}
    if any(AT_REST.search(line) for line in statements):
        codes.discard("ecg_not_at_rest")
    names = [line for line in _shortened(titles) if not _ANSWERED_NO.search(line)]
    at_rest = any(AT_REST.search(name) for name in names)
    for code, words, unless in _TITLE_WORDS:
        if any(_names(name, words, unless) for name in names) and not (at_rest and code == "ecg_not_at_rest"):
            codes.add(code)
    return [{"code": code, "item": "ecg", "text": text} for code, text in _TEXTS.items() if code in codes]


def free_text_notes(comments: Iterable[str]) -> list[str]:
    """Note how many comments are sentences, because this package knows only some words and a person reads all.

    Args:
        comments: as `findings_of_words` takes them.
    """
    keys = ((line, _KEY.match(line)) for line in _of_the_recording(comments) if re.search(r"[^\W\d_]", line))
    sentences = [line for line, key in keys if key is None or _ENTRY_OF_A_PATIENT.match(key["key"]) is None]
    if not sentences:
        return []
    return [f"the header has {len(sentences)} line(s) of free text, of which only some words are known: read them"]


def filters_of_words(lines: Iterable[str]) -> tuple[float | None, float | None]:
    """Read the ends (Hz) of the strictest filter that free text states; None where it states none.

    Args:
        lines: as `findings_of_words` takes them.
    """
    low_ends: list[float] = []
    high_ends: list[float] = []
    for line in _of_the_recording(lines):
        if _BEAT_DETECTION.search(line):
            continue
        for part in _FILTER_PARTS.split(line):
            if _OTHER_FILTER.search(part) or _ANSWERED_NO.search(part):
                continue
            for ends in _BAND.findall(part):
                lower, upper = sorted(_hertz(ends))
                low_ends.append(lower)
                high_ends.append(upper)
            for ends in _LOW_END.findall(part):
                low_ends += _hertz(ends)
            for ends in _HIGH_END.findall(part):
                high_ends += _hertz(ends)
    return max(low_ends, default=None), min((end for end in high_ends if end >= LEAST_LOW_PASS_HZ), default=None)


def _hertz(ends: Iterable[str]) -> list[float]:
    """Read the numbers (Hz) that a pattern matched; groups that matched nothing are empty."""
    return [float(end.replace(",", ".")) for end in ends if end]


def _of_the_recording(lines: Iterable[str]) -> list[str]:
    """Keep the lines that may be about the recording, as `_shortened` gives them."""
    kept = []
    for text in _shortened(lines):
        key = _KEY.match(text)
        if key is None or _NOT_OF_THE_RECORDING.search(key["key"]) is None:
            kept.append(text)
    return kept


def _shortened(lines: Iterable[str]) -> list[str]:
    """Cut lines to a length, with single spaces, because a long gap would take the patterns long."""
    return [re.sub(r"\s+", " ", line[:MAX_LENGTH]) for line in list(lines)[:MAX_LINES]]


def _says(line: str, code: str, words: re.Pattern[str], unless: re.Pattern[str]) -> bool:
    """Tell whether a line says one of the words of a kind, of this recording and without denying it."""
    for match in words.finditer(line):
        sentence = _sentence(line, match)
        if _denied(line, match) or unless.search(sentence):
            continue
        if code == "ecg_lead_off" or not _OTHER_TIME.search(sentence):
            return True
    return False


def _names(title: str, words: re.Pattern[str], unless: re.Pattern[str]) -> bool:
    """Tell whether a title has one of the words of a kind, without denying it. Symptoms beside it change nothing."""
    return any(
        not _denied(title, match) and not unless.search(_sentence(title, match)) for match in words.finditer(title)
    )


def _denied(line: str, match: re.Match[str]) -> bool:
    """Tell whether the words around a match deny it, or say in which lead a finding was seen."""
    before = line[max(0, match.start() - BEFORE) : match.start()]
    denied = _DENIED_BEFORE.search(before) or _DENIED_BEHIND.match(line, match.end()) or _FINDING_IN.search(before)
    return denied is not None


def _sentence(line: str, match: re.Match[str]) -> str:
    """Return the sentence around a match, with at most `BEFORE` letters before it."""
    before = line[max(0, match.start() - BEFORE) : match.start()]
    return re.split(r"[.;](?!\d)", before)[-1] + re.split(r"[.;](?!\d)", line[match.start() :])[0]


__all__ = ["filters_of_words", "findings_of_words", "free_text_notes"]
