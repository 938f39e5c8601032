"""Tell the language of an ECG report by its words.

PTB-XL holds reports in German (about 71 %), English (28 %) and Swedish (1 %). Its reports are short lists of medical
words without sentences, so that the words alone decide. A report whose words fit no language, or two languages equally,
has no language here.
"""

import re
from collections import Counter

MARKS: dict[str, tuple[str, ...]] = {
    "en": (
        *("rhythm", "arrhythmia", "atrial", "ventricular", "axis", "wave", "waves", "complexes", "with", "limits"),
        *("fibrillation", "flutter", "the", "of", "and", "no", "is", "are", "possible", "probable", "consistent"),
        *("infarct", "infarction", "hypertrophy", "changes", "leads", "low", "age", "otherwise", "voltages", "limb"),
        *("premature", "left", "right", "bundle", "branch", "deviation", "bradycardia", "tachycardia", "pathology"),
        *("depressed", "elevation", "inverted", "intraventricular", "pacemaker", "trace", "requested", "only"),
    ),
    "de": (
        *("sinusrhythmus", "vorhofflimmern", "vorhofflattern", "linkstyp", "rechtstyp", "lagetyp", "steiltyp"),
        *("normales", "normaler", "und", "nicht", "keine", "kein", "mit", "bei", "der", "die", "das", "des"),
        *("infarkt", "alter", "unbest", "wahrscheinlich", "möglich", "moeglich", "ableitungen", "ueberdrehter"),
        *("überdrehter", "rechtsschenkelblock", "linksschenkelblock", "hemiblock", "inkompletter", "unspezifische"),
        *("veränderungen", "veraenderungen", "hinterwand", "vorderwand", "extrasystolen", "extrasystole", "periphere"),
        *("niederspannung", "linkshypertrophie", "schrittmacher", "sonst", "auf", "ist", "zu", "v.a", "verdacht"),
        *("sinustachykardie", "sinusbradykardie", "sinusarrhythmie", "ventrikuläre", "hinweis"),
        *("inferiorer", "anteriorer", "lateraler", "anteroseptaler", "anterolateralen", "lateralen", "inferioren"),
        *("typisch", "typische", "leichte", "ausgeprägte", "repolarisationsstörung", "überleitungsstörung", "ohne"),
        *("tachykardes", "normokardes", "bradykardes", "st-senkung", "st-hebung", "flach", "abgeflacht", "hohes"),
        *("abnormes", "abnorme", "abnorm", "verbreiterung", "pathologisches", "pathologisch", "unbestätigter"),
        *("bericht", "veraenderung", "linkslagetyp", "grenzbefund", "ruhe-ekg", "überleitung", "schlechte", "llt"),
        *("indifferenztyp", "supraventrikuläre", "unauffälliges", "erregungsrückbildungsstörungen", "für", "fuer"),
    ),
    "sv": (
        *("sinusrytm", "normalt", "och", "för", "förmaksflimmer", "förmaksfladder", "ej", "vid", "av", "sannolikt"),
        *("hjärtinfarkt", "vänsterkammarhypertrofi", "vänstersidigt", "högersidigt", "grenblock", "skänkelblock"),
        *("frekvens", "eller", "möjlig", "tidigare", "elaxel", "vänster", "höger", "ospecifika", "förändringar"),
        *("sinusbradykardi", "sinustakykardi", "takykardi", "bradykardi", "flimmer", "extraslag", "patologiskt"),
    ),
}
"""Language -> words that occur in reports of this language."""


def language_of(text: str) -> str | None:
    """Tell the language of a report.

    Args:
        text: The report.

    Returns:
        "en", "de" or "sv": the language with most words of `MARKS`. None if two languages have as many, or none has a
        word.
    """
    words = Counter(re.findall(r"[^\W\d_]+(?:[-.][^\W\d_]+)*", text.lower()))
    counts = {language: sum(words[mark] for mark in marks) for language, marks in MARKS.items()}
    best, second = sorted(counts.values(), reverse=True)[:2]
    return None if best == second else max(counts, key=lambda language: counts[language])
