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
    r"(?:age|sex|gender|[hrds]x|race|ethnicity|weight|height|bmi|\w*id|\w*date|\w*time)$", re.IGNORECASE
)
"""Key of an entry such as "Age: 71" that is no sentence about the recording."""
_DENIED_BEFORE = re.compile(
    r"\b(?:no|not|non|none|without|w/o|never|excluded?|exclude[sd]?|rule[sd]? out|r/o|negative for|absence of|free of|"
    r"unlike|instead of|except|keine?n?|ohne|sans|pas d[eu]?)\b(?:(?!\bbut\b)[^.;,])*$|[\u65e0\u672a\u975e]\s?$|"
    r"\b(?:dr|prof)\b\.? $",
    re.IGNORECASE,
)
_DENIED_BEHIND = re.compile(
    r"[\s:=?]{1,3}(?:(?:was|were|is|are|has been|have been|been|study|test|seen)\W+)?"
    r"(?:(?:no|none|0|off)\b(?=\s*(?:$|[.,;/]))|not\b(?! corrected)|"
    r"(?:negativ\w*|excluded|ruled out|unlikely|absent|planned|scheduled|recommended)\b)|"
    r"[\s,:=?(-]{1,3}(?:(?:was|were|now|since|then|later)\W+)?corrected\b(?! QT)",
    re.IGNORECASE,
)
"""A comma or stop ends what a denial is about: "limb leads reversed, no infarct" says that they are reversed."""
_ANSWERED_NO = re.compile(r"[?:=]\s*(?:no|none|n|0|off|false)\W*$", re.IGNORECASE)
_OTHER_TIME = re.compile(
    r"(?<!compared with )(?<!compared to )\b(?:last|previous(?:ly)?|prior)\b|^\W*compared\b|"
    r"\b(?:planned|scheduled|recommend\w*|next|ago|before|history|refer\w*)\b",
    re.IGNORECASE,
)
"""Words of a clause about another time."""
_FELT = re.compile(r"\b(?:pain|angina|dyspn\w*|syncope|palpitations?|symptom\w*)\b[^.;,:]*$", re.IGNORECASE)
"""What the patient feels, before a word for an exercise: "pain during treadmill exercise"."""
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
_PLACE = r"(?!\W*(?:room|lab|raum|unit|ward|dep|clinic|hospital))"
"""Behind a word: it names no place."""
_NOT_DEVICE = "".join(
    rf"(?<!\b{word} )" for word in ("ICD", "RV", "LV", "atrial", "ventricular", "pacemaker", "pacing")
)
"""Before a word: it is no lead of a pacemaker."""
_PLACES = r"(?:V[1-6]|[RL][AL])(?:/| ?(?:and|&) ?)(?:V[1-6]|[RL][AL])"
"""Two electrodes: "RA/LA", "V1 and V2"."""
_MONTHS = r"(?:\d{1,2}|1\d\d|20\d|21[0-5]) months?"
_YOUNG = rf"(?:\d{{1,3}} days?|\d{{1,3}} weeks?|{_MONTHS})"
"""An age below 18 years in other units than years."""
_CHILD = r"(?:baby|infant|newborn|boy|girl)"
_END = r"(?=\W*$|\s*[,;.)])"
"""Behind an age: nothing else is said, as of a pregnancy or an infarct."""
_ANIMAL = r"(?:canine|feline|equine|murine|bovine|ovine)"
_EXERCISE_PLANNED = (
    r"\b(?:requested|ordered|booked|cancel\w*|declined|refused|tomorrow|follows|to follow|geplant|vorgesehen|"
    r"empfohlen)\b|"
    r"\b(?:vor|zur|zum) (?:der |dem )?ergomet|\bnach\b.*\b(?:19|20)\d\d\b|\bzustand nach\b|"
    r"\bhad (?:an? )?(?:stress|exercise|treadmill|holter)\b|\b(?:capacity|tolerance(?! test))\b"
)
_EXERCISE_OF_A_YEAR = r"\b(?:treadmill|ergomet\w*|holter|stress(?: test| ecg| ekg)?)\W+(?:19|20)\d\d\b(?![-./ ]\d)"
"""In a comment a year behind the word dates another test. In a title it dates the file."""

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
        rf"(?:^\W*|\b(?:species|animal|subject|patient|breed)\W+)(?:{_ANIMAL}|dog|cat|horse)\b(?=\W*$|\s*[,;(])|"
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
        rf"\bfo?etal (?:ecg|ekg|electro)|\bneonat(?:e\b{_PLACE}|al (?:ecg|ekg|electro))|"
        r"^\W*(?:newborn|infant)\W*$|"
        r"\bpa?ediatric (?:ecg|ekg|electro|patient)",
        _NEVER,
    ),
    (
        "patient_not_adult",
        rf"^\W*{_YOUNG} old\b{_END}|"
        r"(?:(?:^|[.;,])\W*(?:(?:subject|infant|child)\W+)?aged?\W{1,3}(?:is\W+|was\W+)?|"
        r"\bpatient\W{1,3}(?:is\W+|was\W+)?(?:aged?\W{1,3})?)"
        rf"{_YOUNG}(?: old\b|{_END})|"
        rf"\b{_CHILD}\W{{1,3}}(?:aged?\W+)?{_YOUNG}\b|\b(?:fe)?male\W{{1,3}}(?:aged?\W+)?{_YOUNG}(?: old\b|\W*$)|"
        rf"\b{_YOUNG}(?: old)? (?:{_CHILD}|(?:fe)?male)\b",
        r"\b(?:mother|father|parents?) of\b|\bpost\W?partum\b|\bdelivered\b|"
        r"\bhas an?\b[^.;,]{0,20}\b(?:days?|weeks?|months?)\b",
    ),
    (
        "ecg_other_electrodes",
        rf"{_NOT_DEVICE}\b(?:limb|arm|leg|chest|precordial|leads?|electrodes?|cables?|{_PLACES})\b"
        rf"(?:\W(?:leads?|electrodes?|cables?)\b)?\W+{_CONNECTED}"
        r"(?:reversal|reversed|swap(?:ped)?|exchanged|interchanged|transposed|misplaced|misplacement)\b|"
        r"\bmisplaced (?:leads?|electrodes?)\b|\bmason\W?likar\b|\bEASI leads?\b|\bfrank (?:leads?|xyz)\b|"
        r"\bdower\W+(?:transform|matri|method)|\binverse dower\b|"
        r"\b(?:reconstructed|synthesi[sz]ed|computed|derived|transformed) (?:by|with|using) dower\b|"
        r"\b(?:reconstructed|synthesi[sz]ed|computed|derived) from (?:frank|xyz|"
        r"(?:[2-7]|two|three|four|five)[- ](?:\w+ )?(?:leads?|channels?|electrodes?))\b|"
        r"(?:elektroden|ableitungen|kabel)\b[^.;,]{0,30}\b(?:vertauscht|verpolt)\b|\bverpolung\b|"
        r"\binversion d\w*\W(?:\w+ )?(?:\u00e9lectrodes|d\u00e9rivations)\b|"
        r"(?:\u7535\u6781|\u5bfc\u8054)[^\s\u65e0\u672a]*(?:\u63a5\u53cd|\u53cd\u63a5)",
        _NEVER,
    ),
    (
        "ecg_other_electrodes",
        r"\b(?:reversed|inverted) (?:polarity|signals?)\b|\bpolarity reversed\b",
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
        r"\b(?:2nd|3rd|second|third|high(?:er)?) (?:ICS|intercostal|precordial (?:leads?|electrodes?|pos))",
        r"\b(?:murmurs?|bruits?|thrills?|heaves?|auscult\w*|scars?|drains?|fractures?)\b",
    ),
    (
        "ecg_averaged_beat",
        r"\bsignal[- ]averaged\b|"
        r"\b(?:averaged?|median|representative|template) (?:beats?|complex(?:es)?|cycles?)\b",
        r"\b(?:measure\w*|QTc?|HR|heart rate|(?-i:ST)|computed|negative)\b|"
        r"(?:beats?|complex(?:es)?|cycles?) (?:is |are )?(?:available|below)\b",
    ),
    (
        "ecg_processed",
        r"\bz-?scored\b|\bz-?score normali|\bunit variance\b|"
        r"\barbitrary units?\b|\bunits? arbitrary\b|\btime[- ]reversed\b|\bnoise (?:was )?added\b|"
        r"(?<!\breport )(?<!\bletter )\b(?:digiti[sz]ed|scanned|extracted) from (?:an? )?"
        r"(?:paper|image|pdf|print|scan)|"
        r"\b(?:scaled|normali[sz]ed) to \W?-?[01]\W{1,4}(?:to )?[01]\b|\bmin-?max (?:normali|scal)",
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
        rf"{_NOT_DEVICE}\b(?:leads?|electrodes?|V[1-6]|R[AL]|L[AL])\b\W{{1,2}}{_CONNECTED}"
        r"(?:(?:fell |fallen )?off|disconnected|detached|unplugged|not (?:connected|attached|applied))\b"
        r"(?![- ](?:axis|set|label|detect|alarm|count|event|status|sensor|indicator))",
        r"\b(?:repeated|re-?recorded|re-?attached|re-?connected|corrected)\b",
    ),
    (
        "ecg_not_at_rest",
        r"(?:^\W*|[.;:,(] ?|\b(?:ecg|ekg|(?-i:ST)|QRS|record\w*|acquired|tracing|obtained|rhythm|tachycardia|bpm)\b"
        r"[^.;,]{0,40}\b)(?:during|at) (?:exercise|exertion)\b",
        rf"{_EXERCISE_PLANNED}|{_EXERCISE_OF_A_YEAR}",
    ),
    (
        "ecg_not_at_rest",
        rf"{NOT_PRE}(?:\b(?:peak|maximal) (?:exercise|exertion)\b|\bexercise (?:stage|phase|ecg|ekg|stress)|"
        rf"\bbruce\W+(?:protocol|ramp|stage|test|\d)|\btreadmill\b{_PLACE}|ergomet\w*\b{_PLACE}|"
        r"\b(?:holter|ambulatory) (?:ecg|ekg|recording|monitor\w*|\d{1,2}\b)"
        r"(?!\W+(?:normal|results?|reviewed|applied))|"
        r"\bstress (?:ecg|ekg|test (?:ecg|ekg|recording|stage))|\bduring CPR\b)",
        rf"{_EXERCISE_PLANNED}|{_EXERCISE_OF_A_YEAR}",
    ),
)
_TITLE_PATTERNS = (
    (
        "ecg_not_at_rest",
        rf"{NOT_PRE}(?:\bstress\b{_PLACE}(?!\W+(?:ulcer|reaction|disorder|fracture|urin|incont|free|induced|cardiomy))"
        rf"|\b(?:treadmill|holter)\b{_PLACE}|(?<!\bwith )(?<!\bon )\bexercise\b(?=\W*$|\s*[,;:(/]|\s+-|"
        r"\W+(?:test|ecg|ekg|electro|stress|treadmill|tolerance test|stage|phase|bike|recovery|\d))"
        rf"|\bbruce\W+(?:protocol|stage|ramp|test|\d)|\b(?:modified|ETT) bruce\b|ergomet\w*\b{_PLACE}"
        r"|\bbelastung(?:\b|s\W?(?:ekg|ecg|elektro|test|untersuch|stufe))"
        r"|\b(?:test|\w*preuve|ecg|ekg) d\Weffort\b|^\W*TMT\b"
        r"|\b(?:langzeit|lz)\W?(?:ekg|ecg)\b|\u52a8\u6001\u5fc3\u7535|\u8fd0\u52a8(?:\u5e73\u677f|\u8bd5\u9a8c|\u5fc3\u7535)"
        r"|\brecovery[ -]+(?:stage|phase|\d+ ?(?:min|s))\b|\b(?:stage|phase)\W+recovery\b|\bevent recorder\b"
        r"|\bambulatory (?:ecg|ekg|electrocardio\w+|recording|monitor\w*)\b)",
        r"\b(?:previous(?:ly)?|prior|last|next|before|avant)\b(?=.*(?:stress|exercise|treadmill|holter|effort))|"
        rf"\blast (?:week|month|year)\b|\b(?:scheduled|planned)\b|{_EXERCISE_PLANNED}",
    ),
    (
        "ecg_other_electrodes",
        r"\bright[- ](?:precordial|chest)(?: precordial| chest)? (?:leads?|ecg|ekg|electrodes?)\b"
        rf"|\bright[- ]sided(?: 12|\W*$)|\bEASI\b{_PLACE}"
        r"|\bfrank system\b|\bXYZ leads?\b|\bderived (?:12|twelve)\b|\bvectorcardio\w*|\bnehb\b",
        _NEVER,
    ),
    ("ecg_averaged_beat", r"\bSAECG\b|\blate potentials\b", _NEVER),
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
_LOW_END = re.compile(
    rf"\b(?:high[- ]?pass|HP)\b(?:\W+filter\w*)?\W{{1,3}}{_HZ}|{_HZ}\s+high[- ]?pass\b", re.IGNORECASE
)
_HIGH_END = re.compile(rf"\b(?:low[- ]?pass|LP)\b(?:\W+filter\w*)?\W{{1,3}}{_HZ}|{_HZ}\s+low[- ]?pass\b", re.IGNORECASE)
_FILTER_PARTS = re.compile(r"(?<!filter)(?<!filters)[,;](?!\d)|\s[+/|&]\s", re.IGNORECASE)
_OTHER_FILTER = re.compile(
    r"\b(?:notch|mains|line|AC|band[- ]?stop|muscle|EMG|off|QRS|detect\w*|R-?R|heart rate|HRV?|pulse|resp\w*)\b",
    re.IGNORECASE,
)
"""Words beside a filter of mains hum, one that was off, or one that only finds beats."""
_BEAT_DETECTION = re.compile(r"\b(?:QRS|beat|peak|R|R-?wave)[- ]?detect\w*|\b(?-i:R)[- ]peaks?\b", re.IGNORECASE)
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
    statements = _of_the_recording([*titles, *comments])
    codes = {code for code, words, unless in _WORDS if any(_says(line, code, words, unless) for line in statements)}
    names = _shortened(titles)
    at_rest = any(AT_REST.search(name) for name in names)
    if at_rest:
        codes.discard("ecg_not_at_rest")
    for code, words, unless in _TITLE_WORDS:
        if any(_names(name, words, unless) for name in names) and not (at_rest and code == "ecg_not_at_rest"):
            codes.add(code)
    return [{"code": code, "item": "ecg", "text": text} for code, text in _TEXTS.items() if code in codes]


def free_text_notes(comments: Iterable[str]) -> list[str]:
    """Note how many comments are sentences. This package looks for single words, so a person should read them.

    Args:
        comments: as `findings_of_words` takes them.
    """
    keys = ((line, _KEY.match(line)) for line in _of_the_recording(comments) if re.search(r"[^\W\d_]", line))
    sentences = [line for line, key in keys if key is None or _ENTRY_OF_A_PATIENT.match(key["key"]) is None]
    if not sentences:
        return []
    return [
        f"the header has {len(sentences)} line(s) of free text, in which only single words are looked for: read them"
    ]


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
    is_exercise = code == "ecg_not_at_rest"
    if is_exercise and AT_REST.search(line):
        return False
    for match in words.finditer(line):
        if _denied(line, match) or unless.search(_sentence(line, match)):
            continue
        if is_exercise and _FELT.search(_before(line, match)):
            continue
        if code == "ecg_lead_off" or not _OTHER_TIME.search(_sentence(line, match, ".;,")):
            return True
    return False


def _names(title: str, words: re.Pattern[str], unless: re.Pattern[str]) -> bool:
    """Tell whether a title has one of the words of a kind, without denying it. Symptoms beside it change nothing."""
    return any(
        not _denied(title, match) and not unless.search(_sentence(title, match)) for match in words.finditer(title)
    )


def _denied(line: str, match: re.Match[str]) -> bool:
    """Tell whether the words around a match deny it, or say in which lead a finding was seen."""
    before = _before(line, match)
    answer = re.split(r"[.;,](?!\d)", line[match.start() :])[0]
    denied = _DENIED_BEFORE.search(before) or _DENIED_BEHIND.match(line, match.end()) or _FINDING_IN.search(before)
    return denied is not None or _ANSWERED_NO.search(answer) is not None


def _before(line: str, match: re.Match[str]) -> str:
    """Return the letters before a match, at most `BEFORE`."""
    return line[max(0, match.start() - BEFORE) : match.start()]


def _sentence(line: str, match: re.Match[str], stops: str = ".;") -> str:
    """Return the sentence or clause around a match, with at most `BEFORE` letters before it."""
    stop = rf"[{stops}](?!\d)"
    return re.split(stop, _before(line, match))[-1] + re.split(stop, line[match.start() :])[0]


__all__ = ["filters_of_words", "findings_of_words", "free_text_notes"]
