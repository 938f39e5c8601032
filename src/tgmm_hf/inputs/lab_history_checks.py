"""Doubts about words of a lab row: history against gender and age, results and identity among the words.

No text of a cell is put into a finding. All findings are marks, because the words are used as they are (decision 256).
"""

import re
from collections.abc import Mapping, Sequence

from .lab_findings import Finding, lab_finding

HISTORY, DRUGS = "medical history", "drug history"
MAX_LENGTH = 20_000
"""Letters of a text that are looked at, because that takes time."""
YEARS_APART = 5
"""Years by which an age in a history may differ from the age of the row, because a history may be older."""
OLDEST_PREGNANT = 60
"""Years. A pregnancy that is counted in weeks is of an older woman in no hospital."""

_WOMEN = re.compile(
    r"\b(?:pregnan|puerper|postpartum|obstetric|childbirth|ca?esarean|pre-?eclampsia|eclampsia|ovary\b|ovari|"
    r"uterus|uterine|endometri|(?:post|peri)?menopaus|menstrua|vagina\b|vaginal\b|vaginitis|vulva|cervix|"
    r"cervical (?:intraepithelial|cancer|carcinoma|dysplasia|ca\b|neoplasia)|fallopian|hysterectom|oophorectom|"
    r"salping|tubal ligation|polycystic ovar|pcos\b|g\d{1,2}\s?p\d{1,2}(?!\w)|gravida\b|peripartum cardiomyopathy|"
    r"gestational (?:diabetes|hypertension)|miscarriage|spontaneous abortion|breast[ -]?feeding\b|lactating\b|"
    r"(?:has an?|with|copper|mirena|hormonal) iud\b|"
    r"iud (?:in situ|in place|placed|placement|inserted|removed)\b|iud\W*$)",
    re.IGNORECASE,
)
_MEN = re.compile(
    r"\b(?:prostat|BPH\b|TURP\b|vasectom|orchiect|orchidect|testis\b|testes\b|testic|scrot|penis\b|penile|"
    r"epididym|spermat|erectile|gleason\b|hydrocele|varicocele|(?:para)?phimosis|hypospadias|cryptorchid|seminoma)",
    re.IGNORECASE,
)
_PSA = re.compile(
    r"\b(?:(?:elevated|raised|high|rising|increased) (?-i:PSA)\b|"
    r"(?-i:PSA) (?:elevat|raised|high|rising|increased|increasing|level|of \d|\d))",
    re.IGNORECASE,
)
_OTHER_PSA = re.compile(r"psoria|pseudomonas", re.IGNORECASE)
"""What PsA also stands for."""
_OF_OTHERS = re.compile(
    r"\b(?:family|familial|fhx?|partner|wife|husband|spouse|(?:girl|boy)friend|(?:grand)?(?:mother|father|parent|son|"
    r"daughter|child)s?|sibling|sister|brother|uncle|aunt|cousin|niece|nephew|maternal|paternal|newborn|fetus|"
    r"susceptib\w*|no|not|never|without|denie[sd]|donor)\b",
    re.IGNORECASE,
)
"""Words of an entry that is about somebody else, about a risk, or that states an absence."""
_FAMILY_HEADING = re.compile(r"\b(?:family history|family hx|fhx?)\s*[:=-].*", re.IGNORECASE | re.DOTALL)
"""A heading after which the text is about relatives, with the rest of the text."""
_PERSON = re.compile(
    r"\b(?P<age>\d{1,3})[ -]?(?:years?|yrs?|y)[ -]?(?:old|/?o\b)[ -]*(?:[a-z]+[ -]+){0,2}?"
    r"(?:(?P<man>man|male|gentleman|boy)|(?P<woman>woman|female|lady|girl)|patient|pt)\b",
    re.IGNORECASE,
)
"""The sentence with which a letter begins: "80-year-old man", "71 year old retired gentleman"."""
_PERSON_BEFORE = re.compile(r"(?:(?:^|:)\W*(?:(?:an?|the|pt|patient)\W+)?|\bis an? (?:\w+ )?)$", re.IGNORECASE)
"""What stands before `_PERSON` if the patient is meant: the start of an entry, or "is a"."""
_PERSON_OF_OTHERS = re.compile(r"\b(?:transplant\w*|diagnos\w*|driver|graft)\b", re.IGNORECASE)
_PREGNANT_NOW = re.compile(
    r"\bpregnan(?:cy|t)\b\W{0,3}(?:\w+ )?(?:at |in (?:the )?)?\d{1,2}(?:\s?\+\s?\d)? ?(?:weeks?|wks?)\b|"
    r"\b\d{1,2} (?:weeks?|wks?) (?:pregnan|of gestation)|\bcurrently pregnant\b",
    re.IGNORECASE,
)
_PAST = re.compile(
    r"\b(?:(?:history of|h/o|hx of|prior|previous|past|ago|(?:19|20)\d\d|born|birth|deliver(?:y|ed)|infant)\b|"
    r"ex-|pre-?term|prematurity|premie)",
    re.IGNORECASE,
)
"""A pregnancy of another time, or the birth of the patient."""
_LAB_NAME = (
    r"(?:hs[- ]?)?troponin(?:[ -][TI]\b)?|trop(?:[TI]\b)?|hs-?tn[TI]|NT[- ]?pro[- ]?BNP|BNP|"
    r"crea(?:t(?:inine)?)?|kreatinin|BUN|"
    r"urea(?: nitrogen)?|potassium|sodium|h(?:a)?emoglobin|hgb|Hb|glucose|lactate|CRP|WBC|platelets|plt|bilirubin|"
    r"ALT|AST|CK(?:-MB)?|LDH|TSH|ferritin"
)
_SYMBOL = r"(?-i:K\+?|Na\+?|Cr|Cl|Ca|Mg|HCO3|CO2|INR|eGFR|EF|LVEF|pH|BP|HR)"
_BEHIND_RESULT = (
    r"(?=\s{0,5}(?:$|[,;)\]\n<>≥≤=↑↓]|\.(?!\d)|\(?(?:(?:elevated|raised|high|low|increased|decreased|abnormal|"
    r"critical|h(?:a)?emoly[sz]ed|today)\b|(?-i:[HL])\b)|"
    r"(?:on|at) (?:admission|presentation|arrival|discharge)\b|(?:in|on) (?:19|20)\d\d\b|"
    r"(?:p|n|u|µ|μ|m|mc)?(?:g|mol|Eq|kat|U|IU)/(?:d|m|u|µ|μ)?L\b|m?[UI]U?/m?L\b|(?:x ?)?10\W?[369]/u?L|"
    rf"(?:and |& )?(?:{_LAB_NAME}|{_SYMBOL}(?=\s{{0,5}}[=:<>]?\s{{0,5}}\d))(?!\w)))"
)
"""What may follow a result: an end, a comparison, a unit of concentration or the next test."""
_LAB_RESULT = re.compile(
    rf"(?<![\w-])(?:{_LAB_NAME}|(?-i:K\+?|Na\+?|Cr)(?=\s{{0,5}}[=:<>]?\s{{0,5}}\d))(?!\w)"
    r"(?:\s{0,5}(?:levels?|values?|results?|was|is|of|at|up to|to|elevated|raised|high|low|increased|peak(?:ed)?|the|"
    r"patient|[=:<>≥≤~])){0,5}\s{0,5}"
    rf"(?P<number>\d{{1,6}}(?:\.\d+)?)(?![\d%]|\.\d){_BEHIND_RESULT}",
    re.IGNORECASE,
)
"""A number behind the name of a test: "K 6.9", "BNP elevated at 3200". A dose, a time, a year or a share is none."""
_NO_TEST = re.compile(
    r"\b(?:vitamin|factor|deficiency|stage|grade|type|serotype|strain|slow|chromium|"
    r"(?:goal|target|threshold|trigger|keep|maintain|transfus\w*)(?:\W+(?:for|if|of|when|at|is|the|an?))?)\W*$",
    re.IGNORECASE,
)
"""What stands before a letter or a test that is no result: "vitamin K 2", "transfusion goal Hb 7"."""
_SALT = re.compile(r"(?:potassium|sodium|lactate)\b", re.IGNORECASE)
_DRUG_OR_SYMBOL = re.compile(r"(?:potassium|sodium|glucose|lactate|urea|platelets|plt|K|Na|Cr)\b", re.IGNORECASE)
"""Tests whose name is a drug, an infusion or a letter too. In a drug list they need a unit of concentration."""
_OF_A_LITRE = re.compile(r"\s{0,5}(?:m|u|µ|μ)?(?:mol|Eq|g)/d?L\b", re.IGNORECASE)
_WORD_BEFORE = re.compile(r"(?P<word>[^\W\d_]+)[ -]+$")
_BEFORE_TEST = frozenset(
    """
    a admission an and at by current did for found from had has her high his hypo in initial is its lab
    labs last latest level low lowest max measured min my noted of on or peak plasma raised recent
    repeat repeated result results serum showed showing shows the their to today venous arterial was
    were with elevated normal abnormal blood
    """.split()  # noqa: SIM905
)
"""Words before sodium, potassium or lactate behind which it is the test. Behind another word it is a salt."""
_NO_IDENTITY = re.compile(
    r"\b(?:lot|code|icd|ref|batch|serial|model|device|catalogu?e?)\b\W{0,3}(?:(?:no|number|code)\b\W{0,3})?"
    r"\d{3}-\d{2,3}-\d{4}\b|\b\d{3}-\d{2,3}-\d{4}\s?(?:mg|mcg|g|ml|units?|iu)\b",
    re.IGNORECASE,
)
"""Numbers of a lot, a code or doses, which have the form of a number of an authority."""
_IDENTITY = re.compile(
    r"[\w.+-]{1,64}@[\w-]{1,63}\.[a-z]{2,}|\b\d{3}-\d{2}-\d{4}\b|\b(?:MRN|patient[ _-]?id|case (?:no|number)|"
    r"social security|SSN)\b\W{0,3}\w{0,4}\d{4,}|\b(?:geb\.|geboren|born(?: on)?|DOB|date of birth)\W{0,3}"
    r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|(?:\b(?:tel|phone|telephone|mobile|fax)\b\.?|☎)\W{0,3}[+(]?\d[\d\s()/.-]{5,}\d|"
    r"(?<!\w)\+\d{1,3}[\s(/-]?\d[\d\s()/-]{6,}\d|(?<!\d)\(\d{3}\) ?\d{3}-\d{4}\b|(?<![\d-])\d{3}-\d{3}-\d{4}(?![\d-])",
    re.IGNORECASE,
)
"""An e-mail address, a number of an authority, of a file or of a telephone, or a date of birth."""


def history_findings(texts: Mapping[str, str], age: float | None) -> list[Finding]:
    """List the words of a row that do not fit its gender or age, or are no words of their column.

    Args:
        texts: column -> text, of the known text columns; gender as F or M.
        age: years; None without one.

    Returns:
        Findings with a `code`: "labs_gender_history", "labs_age_history", "labs_result_in_history" or
        "labs_identity_in_text".
    """
    history, findings = texts.get(HISTORY, "")[:MAX_LENGTH], []
    of_patient = _FAMILY_HEADING.sub("", history)
    entries = _of_patient(of_patient.split(","))
    persons = _persons(re.split(r"[,\n]|\.\s", of_patient))
    if _is_other_gender(entries, persons, texts.get("gender", "")):
        text = "medical history does not fit the gender: look which of the two is wrong"
        findings.append(lab_finding("labs_gender_history", HISTORY, text))
    if age is not None and _is_other_age(of_patient, persons, age):
        text = "medical history does not fit the age: look which of the two is wrong"
        findings.append(lab_finding("labs_age_history", HISTORY, text))
    for column, words in texts.items():
        if column != "gender" and _holds_result(column, words[:MAX_LENGTH]):
            text = f"{column} holds a laboratory result: put it into the column of the test"
            findings.append(lab_finding("labs_result_in_history", column, text))
        if column != "gender" and _IDENTITY.search(_NO_IDENTITY.sub(" ", words[:MAX_LENGTH])):
            text = f"{column} holds a number, an address or a date that names a person: remove it"
            findings.append(lab_finding("labs_identity_in_text", column, text))
    return findings


def _of_patient(entries: Sequence[str]) -> list[str]:
    """Leave out the entries that are about somebody else or state an absence."""
    return [entry for entry in entries if not _OF_OTHERS.search(entry)]


def _persons(entries: Sequence[str]) -> list[re.Match[str]]:
    """Find where the entries say who the patient is."""
    return [
        match
        for entry in _of_patient(entries)
        if not _PERSON_OF_OTHERS.search(entry)
        for match in _PERSON.finditer(entry)
        if _PERSON_BEFORE.search(entry[max(0, match.start() - 40) : match.start()])
    ]


def _is_other_gender(entries: Sequence[str], persons: Sequence[re.Match[str]], gender: str) -> bool:
    """Tell whether an entry of a history, or the person whom it names, is of the other gender."""
    words, group = {"M": (_WOMEN, "woman"), "F": (_MEN, "man")}.get(gender, (None, ""))
    if words is None:
        return False
    if gender == "F" and any(_PSA.search(entry) and not _OTHER_PSA.search(entry) for entry in entries):
        return True
    return any(words.search(entry) for entry in entries) or any(match[group] for match in persons)


def _is_other_age(history: str, persons: Sequence[re.Match[str]], age: float) -> bool:
    """Tell whether a history states another age, or a pregnancy of today in an old woman."""
    if any(abs(float(match["age"]) - age) > YEARS_APART for match in persons):
        return True
    around = [history[max(0, match.start() - 40) : match.end() + 20] for match in _PREGNANT_NOW.finditer(history)]
    return age > OLDEST_PREGNANT and any(not _PAST.search(words) and not _OF_OTHERS.search(words) for words in around)


def _holds_result(column: str, text: str) -> bool:
    """Tell whether a text holds a laboratory result. A drug list may name the dose of a salt: "potassium 20"."""
    results = [match for match in _LAB_RESULT.finditer(text) if _is_result(match)]
    if column != DRUGS:
        return bool(results)
    return any(
        not _DRUG_OR_SYMBOL.match(match[0]) or _OF_A_LITRE.match(text, match.end()) is not None for match in results
    )


def _is_result(match: re.Match[str]) -> bool:
    """Tell whether a number behind the name of a test is a result, and not a year or the name of something else."""
    number = match["number"]
    has_sign = any(sign in match[0] for sign in "<>≥≤=~")
    is_year = "." not in number and len(number) == 4 and number[:2] in ("19", "20")
    before = match.string[max(0, match.start() - 40) : match.start()]
    word = _WORD_BEFORE.search(before)
    is_salt = _SALT.match(match[0]) and word is not None and not _is_before_test(word["word"].casefold())
    return (not is_year or has_sign) and not is_salt and not _NO_TEST.search(before)


def _is_before_test(word: str) -> bool:
    """Tell whether a test may stand behind a word in lower case. The name of a disorder in the blood is no drug."""
    return word in _BEFORE_TEST or word.endswith("emia")


__all__ = ["HISTORY", "history_findings"]
