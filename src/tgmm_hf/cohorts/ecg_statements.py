"""The vocabulary of ECG statements: codes, wordings, and patterns that find a statement in a report.

The codes are the 71 codes of PTB-XL (`scp_statements.csv`, SCP-ECG), and `LAD` and `RAD` for the axis, which are ours.
All data sets use these codes, so that a model trained on one data set can be scored on another.

A pattern is a regular expression that ignores the case. A space in it stands for any number of spaces and hyphens, or
none, so that "t wave" finds "T-wave" too. A pattern matches whole words. German patterns are those of frequent reports
of PTB-XL. Where two matches overlap, the longer match counts. So "incomplete right bundle branch block" is not also a
complete one. A pattern does not know whether the statement is denied or doubted. The reader of findings decides that.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

KINDS = ("rhythm", "axis", "form", "diagnostic")


@dataclass(frozen=True)
class EcgStatement:
    """One statement of the vocabulary.

    Attributes:
        code: Its code.
        kind: One of `KINDS`.
        description: English description, as in `scp_statements.csv`.
        patterns: Regular expressions of further wordings. The description is a pattern too.
        wording: Sentence of a synthetic machine report. Empty if the synthetic cohort never has the statement.
    """

    code: str
    kind: str
    description: str
    patterns: tuple[str, ...] = ()
    wording: str = ""


class Mention(NamedTuple):
    """A place in a text where a statement is mentioned.

    Attributes:
        code: Code of the statement.
        start: First letter.
        end: Letter after the last one.
    """

    code: str
    start: int
    end: int


_NONSPECIFIC = "non specific|nonspec|unspezifische[rn]?|unspez"
_INFARCT = "(?:myocardial )?(?:infarct(?:ion)?|mi)"
_GERMAN_INFARCT = "(?:myokard)?infarkt"
_CHANGES = "(?:changes?|abnormalit(?:y|ies)|ver(?:ä|ae|a)nderungen)"


def _infarct(places: str, german: str) -> tuple[str, ...]:
    """Return the patterns of an infarction.

    Args:
        places: Pattern of the English words for the place.
        german: Pattern of the German words.
    """
    return f"(?:{places}) (?:wall )?{_INFARCT}", f"(?:{german})e?r? {_GERMAN_INFARCT}"


def _ischaemia(places: str) -> tuple[str, ...]:
    """Return the patterns of ischaemia in the leads that `places` names."""
    return (
        f"ischa?emic (?:st t {_CHANGES} )?in (?:the )?{places} leads?",
        f"(?:st t {_CHANGES}.{{0,20}} )?{places} (?:wall )?(?:myocardial )?ischa?emia",
    )


def _injury(places: str) -> tuple[str, ...]:
    """Return the patterns of subendocardial injury in the leads that `places` names."""
    return (f"(?:subendocardial )?injury in (?:the )?{places} leads?", f"{places} subendocardial injury")


STATEMENTS: tuple[EcgStatement, ...] = (
    # ---- rhythm
    EcgStatement("SR", "rhythm", "sinus rhythm", ("sinus rhythmus", "sinus rh?ythm", "sinusrytm"), "Sinus rhythm"),
    EcgStatement(
        *("AFIB", "rhythm", "atrial fibrillation"),
        ("a fib", "auricular fibrillation", "vorhofflimmern", "f(?:ö|oe|o)rmaksflimmer"),
        "Atrial fibrillation",
    ),
    EcgStatement("STACH", "rhythm", "sinus tachycardia", ("sinus tachykardie?",), "Sinus tachycardia"),
    EcgStatement("SARRH", "rhythm", "sinus arrhythmia", ("sinus arrh?ythmie", "marked sinus arrhythmia")),
    EcgStatement("SBRAD", "rhythm", "sinus bradycardia", ("sinus bradykardie?",), "Sinus bradycardia"),
    EcgStatement(
        *("PACE", "rhythm", "normal functioning artificial pacemaker"),
        (
            "(?:artificial |electronic )?(?:atrial |ventricular |a v |dual chamber |demand )*pace(?:d|maker|r)"
            "(?: rhythm| complexes)?",
            "(?:atrial |ventricular |a v sequential )pacing",
            "(?:herz)?schrittmacher(?: ekg| rhythmus)?",
        ),
    ),
    EcgStatement("SVARR", "rhythm", "supraventricular arrhythmia", ("supraventrikul(?:ä|ae|a)re arrh?ythmie",)),
    EcgStatement(
        *("BIGU", "rhythm", "bigeminal pattern (unknown origin, SV or Ventricular)"),
        ("bigemin(?:y|us|al pattern|al pvcs?)",),
    ),
    EcgStatement("AFLT", "rhythm", "atrial flutter", ("a flutter", "vorhofflattern", "f(?:ö|oe|o)rmaksfladder")),
    EcgStatement("SVTAC", "rhythm", "supraventricular tachycardia", ("svt", "supraventrikul(?:ä|ae|a)re tachykardie")),
    EcgStatement("PSVT", "rhythm", "paroxysmal supraventricular tachycardia", ("psvt",)),
    EcgStatement(
        *("TRIGU", "rhythm", "trigeminal pattern (unknown origin, SV or Ventricular)"),
        ("trigemin(?:y|us|al pattern|al pvcs?)",),
    ),
    # ---- axis (ours)
    EcgStatement(
        *("LAD", "axis", "left axis deviation"),
        ("(?:ü|ue|u)berdrehter linkstyp", "abnormal left axis(?: deviation)?", "marked left axis deviation"),
        "Left axis deviation",
    ),
    EcgStatement(
        *("RAD", "axis", "right axis deviation"),
        ("(?:(?:ü|ue|u)berdrehter )?rechtstyp", "abnormal right axis(?: deviation)?", "marked right axis deviation"),
        "Right axis deviation",
    ),
    # ---- form
    EcgStatement("ABQRS", "form", "abnormal QRS", ("qrs(?:\\(t\\))? abnorm(?:al)?", "qrs contour abnormal")),
    EcgStatement(
        *("PVC", "form", "ventricular premature complex"),
        (
            "(?:premature ventricular|ventricular premature) (?:contraction|complex|beat)(?:s|es|\\(e?s\\))?",
            "ventricular (?:ectop(?:y|ics?|ic beats?)|extrasystoles?)",
            "(?:pvc|vpc|vpb|ves)(?:s|\\(s\\))?",
            "ventrikul(?:ä|ae|a)re extrasystolen?",
        ),
    ),
    EcgStatement(
        *("STD_", "form", "non-specific ST depression"),
        (
            f"(?:(?:{_NONSPECIFIC}) )?st (?:segments? )?(?:depressions?|(?:is |are )?depressed)",
            "st (?:strecken )?senkung(?:en)?",
        ),
        "ST depression",
    ),
    EcgStatement(
        *("VCLVH", "form", "voltage criteria (QRS) for left ventricular hypertrophy"),
        (
            "voltage criteria (?:\\(qrs\\) )?for (?:lvh|left ventricular hypertrophy)",
            "(?:lvh|left ventricular hypertrophy) by voltage(?: criteria)?",
            "voltages (?:is|are) high in (?:chest|limb|chest and limb|limb and chest) leads suggesting lvh",
            "amplitudenkriterien f(?:ü|ue|u|#)r linkshypertrophie",
        ),
        "Left ventricular hypertrophy by voltage",
    ),
    EcgStatement("QWAVE", "form", "Q waves present", ("(?:abnormal |pathologi(?:c|cal|sche) )?q (?:waves?|zacken?)",)),
    EcgStatement(
        *("LOWT", "form", "low amplitude T-waves"),
        (
            "t waves? (?:is |are )?(?:slightly )?(?:low or flat|low|flat|flattened)",
            "(?:low|flat|flattened) t waves?",
            "t waves? flattening",
            "t abflachung(?:en)?",
            "flache t welle",
        ),
        "Low amplitude T waves",
    ),
    EcgStatement(
        *("NT_", "form", "non-specific T-wave changes"),
        (f"(?:{_NONSPECIFIC}) t (?:waves? )?(?:{_CHANGES}|flattening|inversion)",),
    ),
    EcgStatement(
        *("PAC", "form", "atrial premature complex"),
        (
            "(?:premature (?:atrial|supraventricular)|(?:atrial|supraventricular) premature) "
            "(?:contraction|complex|beat)(?:s|es|\\(e?s\\))?",
            "(?:atrial|supraventricular) (?:ectop(?:y|ics?|ic beats?)|extrasystoles?)",
            "(?:pac|apc|apb|sves)(?:s|\\(s\\))?",
            "supraventrikul(?:ä|ae|a)re extrasystolen?",
        ),
    ),
    EcgStatement(
        "LPR", "form", "prolonged PR interval", ("(?:long|prolonged) (?:pr|pq)(?: interval| zeit)?", "pr prolongation")
    ),
    EcgStatement(
        *("INVT", "form", "inverted T-waves"),
        (
            "(?:inverted|negative) t(?: waves?)?",
            "t (?:waves? )?(?:inversions?|negativierung(?:en)?|neg)",
            "t waves? (?:is |are )?(?:slightly |deeply |symmetrically )?inverted",
            "t negativ",
        ),
        "T wave inversion",
    ),
    EcgStatement(
        *("LVOLT", "form", "low QRS voltages in the frontal and horizontal leads"),
        (
            "low limb lead voltages?",
            "low (?:qrs )?voltages?(?: in (?:the )?(?:frontal and horizontal|limb|frontal|precordial|chest) leads)?",
            "(?:periphere |thorakale )?(?:nieder(?:spannung|voltage)|low voltage)",
        ),
        "Low QRS voltages",
    ),
    EcgStatement("HVOLT", "form", "high QRS voltage", ("high (?:qrs )?voltages?", "hochspannung")),
    EcgStatement(
        "TAB_", "form", "T-wave abnormality", ("abnormal t(?: waves?)?", "t(?: waves?)? abnormal(?:it(?:y|ies))?")
    ),
    EcgStatement(
        *("STE_", "form", "non-specific ST elevation"),
        (
            f"(?:(?:{_NONSPECIFIC}) )?st (?:segments? )?(?:elevations?|(?:is |are )?elevated)",
            "st (?:strecken )?hebung(?:en)?",
        ),
        "ST elevation",
    ),
    EcgStatement("PRC(S)", "form", "premature complex(es)", ("premature (?:complex|beat)(?:es|s|\\(es\\)|\\(s\\))?",)),
    EcgStatement(
        *("NDT", "form", "non-diagnostic T abnormalities"), ("non diagnostic t (?:wave )?abnormalit(?:y|ies)",)
    ),
    EcgStatement(
        *("NST_", "form", "non-specific ST changes"),
        (f"(?:{_NONSPECIFIC}) st(?: segment)?(?: [t/]| & t| and t)?(?: waves?)? {_CHANGES}",),
    ),
    EcgStatement("DIG", "form", "digitalis-effect", ("digitalis (?:effect|effekt|wirkung)", "digoxin effect")),
    EcgStatement(
        *("LNGQT", "form", "long QT-interval"),
        ("(?:long|prolonged) qtc?(?: interval)?", "qtc? prolongation", "qtc? (?:zeit )?verl(?:ä|ae|a)ngerung"),
        "Prolonged QT interval",
    ),
    # ---- diagnostic
    EcgStatement(
        *("NORM", "diagnostic", "normal ECG"),
        # "otherwise normal ECG" is a mention too: in PTB-XL most such reports have the code NORM, with likelihood 80.
        ("(?:normal(?:es)?|unauff(?:ä|ae|a)lliges) e[ck]g", "normalt ekg"),
        "Normal ECG",
    ),
    EcgStatement(
        *("IMI", "diagnostic", "inferior myocardial infarction"),
        (*_infarct("inferior", "inferior|hinterwand"), "hinterwandinfarkt"),
    ),
    EcgStatement(
        *("ASMI", "diagnostic", "anteroseptal myocardial infarction"),
        _infarct("antero septal|septal", "antero septal|septal"),
    ),
    EcgStatement(
        *("LVH", "diagnostic", "left ventricular hypertrophy"),
        ("lvh", "links(?:ventrikul(?:ä|ae|a)re )?hypertrophie", "v(?:ä|ae|a)nsterkammarhypertrofi"),
    ),
    EcgStatement(
        *("LAFB", "diagnostic", "left anterior fascicular block"),
        ("(?:left anterior|linksanteriorer) (?:hemi block|fas[cz]i[ck]\\w* ?block)", "lafb", "lahb"),
    ),
    EcgStatement(
        *("ISC_", "diagnostic", "non-specific ischemic"),
        (
            "(?:non specific )?ischa?emic st t changes",
            "(?:myocardial )?ischa?emia",
            "(?:myokard)?isch(?:ä|ae|a)mie",
        ),
    ),
    EcgStatement(
        *("IRBBB", "diagnostic", "incomplete right bundle branch block"),
        (
            "incomplete (?:rbbb|right bundle branch block)",
            "(?:inkompletter|unvollst(?:ä|ae|a)ndiger) (?:rechtsschenkelblock|rsb)",
        ),
    ),
    EcgStatement(
        *("1AVB", "diagnostic", "first degree AV block"),
        (
            "(?:first|1st|1\\.|i) degree (?:a v|atrio ventricular) (?:heart )?block",
            "(?:a v|atrio ventricular) (?:heart )?block (?:first|1st|i\\.?|1\\.?)(?: degree| grades?)?",
            "prolonged pr interval \\(first degree\\)",
        ),
        "1st degree A-V block",
    ),
    EcgStatement(
        *("IVCD", "diagnostic", "non-specific intraventricular conduction disturbance (block)"),
        (
            f"(?:(?:{_NONSPECIFIC}) )?(?:intra ventricular|iv) conduction (?:delay|defect|disturbance|block)"
            "(?: \\(block\\))?",
            f"(?:(?:{_NONSPECIFIC}) )?intra ventricular (?:delay|block)",
            f"(?:(?:{_NONSPECIFIC}) )?intraventr(?:\\.|ikul(?:ä|ae|a)re) leitungsst(?:ö|oe|o)rung(?:en)?",
            "ivcd",
            "unspez(?:ifischer|\\.)? intraventrikul(?:ä|ae|a)rer block",
        ),
        "Intraventricular conduction delay",
    ),
    EcgStatement("ISCAL", "diagnostic", "ischemic in anterolateral leads", _ischaemia("antero lateral")),
    EcgStatement(
        *("CRBBB", "diagnostic", "complete right bundle branch block"),
        (
            "(?:complete |\\(complete\\) )?(?:right bundle branch block|rbbb)",
            "(?:kompletter |vollst(?:ä|ae|a)ndiger )?rechtsschenkelblock",
        ),
    ),
    EcgStatement(
        *("CLBBB", "diagnostic", "complete left bundle branch block"),
        (
            "(?:complete |\\(complete\\) )?(?:left bundle branch block|lbbb)",
            "(?:kompletter |vollst(?:ä|ae|a)ndiger )?linksschenkelblock",
        ),
    ),
    EcgStatement(
        *("ILMI", "diagnostic", "inferolateral myocardial infarction"), _infarct("infero lateral", "infero lateral")
    ),
    EcgStatement(
        *("LAO/LAE", "diagnostic", "left atrial overload/enlargement"),
        ("left atrial (?:overload|enlargement|abnormality|hypertrophy)", "lae", "p sinistro(?:atriale|cardiale)"),
        "Left atrial enlargement",
    ),
    EcgStatement(
        *("AMI", "diagnostic", "anterior myocardial infarction"),
        (*_infarct("anterior", "anterior|vorderwand"), "vorderwandinfarkt"),
    ),
    EcgStatement(
        *("ALMI", "diagnostic", "anterolateral myocardial infarction"), _infarct("antero lateral", "antero lateral")
    ),
    EcgStatement("ISCIN", "diagnostic", "ischemic in inferior leads", _ischaemia("inferior")),
    EcgStatement("INJAS", "diagnostic", "subendocardial injury in anteroseptal leads", _injury("antero septal")),
    EcgStatement("LMI", "diagnostic", "lateral myocardial infarction", _infarct("lateral", "lateral|seitenwand")),
    EcgStatement("ISCIL", "diagnostic", "ischemic in inferolateral leads", _ischaemia("infero lateral")),
    EcgStatement(
        *("LPFB", "diagnostic", "left posterior fascicular block"),
        ("(?:left posterior|linksposteriorer) (?:hemi block|fas[cz]i[ck]\\w* ?block)", "lpfb", "lphb"),
    ),
    EcgStatement("ISCAS", "diagnostic", "ischemic in anteroseptal leads", _ischaemia("antero septal")),
    EcgStatement("INJAL", "diagnostic", "subendocardial injury in anterolateral leads", _injury("antero lateral")),
    EcgStatement("ISCLA", "diagnostic", "ischemic in lateral leads", _ischaemia("lateral")),
    EcgStatement(
        *("RVH", "diagnostic", "right ventricular hypertrophy"),
        ("rvh", "rechts(?:ventrikul(?:ä|ae|a)re )?hypertrophie"),
    ),
    EcgStatement(
        *("ANEUR", "diagnostic", "ST-T changes compatible with ventricular aneurysm"),
        ("(?:ventricular )?aneurysm", "ventrikelaneurysma"),
    ),
    EcgStatement(
        *("RAO/RAE", "diagnostic", "right atrial overload/enlargement"),
        ("right atrial (?:overload|enlargement|abnormality|hypertrophy)", "rae", "p dextro(?:atriale|cardiale)"),
    ),
    EcgStatement(
        *("EL", "diagnostic", "electrolytic disturbance or drug (former EDIS)"),
        (
            "(?:compatible with )?electroly(?:te|tic) (?:abnormalit(?:y|ies)|disturbances?|imbalance)(?: or drug)?",
            "elektrolytst(?:ö|oe|o)rung(?:en)?",
        ),
    ),
    EcgStatement(
        *("WPW", "diagnostic", "Wolf-Parkinson-White syndrome"),
        ("wpw(?: syndrom)?", "wolf{1,2} parkinson white(?: syndrome?)?", "(?:ventricular )?pre excitation"),
    ),
    EcgStatement(
        *("ILBBB", "diagnostic", "incomplete left bundle branch block"),
        (
            "incomplete (?:lbbb|left bundle branch block)",
            "(?:inkompletter|unvollst(?:ä|ae|a)ndiger) (?:linksschenkelblock|lsb)",
        ),
    ),
    EcgStatement(
        *("IPLMI", "diagnostic", "inferoposterolateral myocardial infarction"),
        _infarct("infero postero lateral", "infero postero lateral"),
    ),
    EcgStatement("ISCAN", "diagnostic", "ischemic in anterior leads", _ischaemia("anterior")),
    EcgStatement(
        *("IPMI", "diagnostic", "inferoposterior myocardial infarction"),
        _infarct("infero posterior", "infero posterior"),
    ),
    EcgStatement("SEHYP", "diagnostic", "septal hypertrophy", ("septum hypertrophie", "septale hypertrophie")),
    EcgStatement("INJIN", "diagnostic", "subendocardial injury in inferior leads", _injury("inferior")),
    EcgStatement("INJLA", "diagnostic", "subendocardial injury in lateral leads", _injury("lateral")),
    EcgStatement("PMI", "diagnostic", "posterior myocardial infarction", _infarct("(?:true )?posterior", "posterior")),
    EcgStatement(
        *("3AVB", "diagnostic", "third degree AV block"),
        (
            "(?:third|3rd|3\\.|iii) degree (?:a v|atrio ventricular) (?:heart )?block",
            "(?:a v|atrio ventricular) (?:heart )?block (?:third|3rd|iii\\.?|3\\.?)(?: degree| grades?)?",
            "complete (?:a v|atrio ventricular|heart) block",
        ),
    ),
    EcgStatement("INJIL", "diagnostic", "subendocardial injury in inferolateral leads", _injury("infero lateral")),
    EcgStatement(
        *("2AVB", "diagnostic", "second degree AV block"),
        (
            "(?:second|2nd|2\\.|ii) degree (?:a v|atrio ventricular) (?:heart )?block",
            "(?:a v|atrio ventricular) (?:heart )?block (?:second|2nd|ii\\.?|2\\.?)(?: degree| grades?)?",
            "mobitz(?: type)? (?:i{1,2}|1|2)|wenckebach",
        ),
    ),
)
BY_CODE = {statement.code: statement for statement in STATEMENTS}
"""Code -> statement."""


def _compiled(alternatives: Iterable[str]) -> re.Pattern[str]:
    """Join patterns to one expression of whole words."""
    joined = "|".join(alternatives).replace(" ", r"[\s-]*")
    return re.compile(rf"(?<!\w)(?:{joined})(?!\w)", re.IGNORECASE)


def _pattern_of(statement: EcgStatement) -> re.Pattern[str]:
    """Make the expression of a statement from its description and its patterns."""
    words = re.split(r"[\s-]+", statement.description)
    return _compiled((" ".join(map(re.escape, words)), *statement.patterns))


_PATTERNS = [(entry.code, _pattern_of(entry)) for entry in STATEMENTS]


def find_mentions(text: str) -> list[Mention]:
    """Find the places where a text mentions a statement, whether it asserts, doubts or denies the statement.

    Args:
        text: A report, or a part of one.

    Returns:
        The mentions in their order. They do not overlap. Of two that would overlap, the longer one is returned.
    """
    mentions = [Mention(code, *match.span()) for code, pattern in _PATTERNS for match in pattern.finditer(text)]
    chosen: list[Mention] = []
    for mention in sorted(mentions, key=lambda m: (m.start - m.end, m.start)):
        if all(mention.end <= other.start or other.end <= mention.start for other in chosen):
            chosen.append(mention)
    return sorted(chosen, key=lambda mention: mention.start)
