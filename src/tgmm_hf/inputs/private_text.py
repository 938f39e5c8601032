"""Decide which text of a file or a lab row may be repeated in a message, a note or an output file.

Text of a file may name the patient. A text is repeated only if all of its words are words of this package, such as
names of laboratory tests, units and specimens, or slips of the pen for a long one ("Creatinin"). Any other text is
replaced by its position, or left out.
"""

import difflib
import re
from collections.abc import Sequence
from functools import lru_cache

from .lab_columns import GENDERS
from .lab_table import ALIAS_FACTORS, COLUMNS

NOT_SHOWN = "(text not shown)"
"""Stands where a text is not repeated."""
MAX_LENGTH = 60
"""A longer text is not repeated."""
SLIP_LENGTH = 8
"""Letters. A shorter word that is not known may be a surname, however similar it is to a known word."""
SLIP_RATIO = 0.8
"""Similarity (difflib's ratio) from which an unknown word is a slip of the pen."""

_WORD = re.compile(r"[^\W\d_]+")
_LONG_NUMBER = re.compile(r"\d{6}")
"""A number of six digits may be a record number or a date of birth."""
# Tests, specimens, units and words around them that are no column of the package, in lower case.
_OTHER_WORDS = """
    abs absolute acid activity adu after albumin alpha ammonia amylase and anti antigen apo apolipoprotein arterial at
    basophils before beta bg blood bmi body bpm calc calculated capillary carbon cell cells ckd clearance co copeptin
    corrected cortisol count csf current cystatin cytes day dbp deviation diastolic dimer direct ef egfr ejection
    eosinophils epi erythrocyte estimated excess factor fasting fibrin fibrinogen folate follicle fraction free
    galectin gamma gas gfr globulin glomerular growth haptoglobin heart high homocysteine hormone hour hr hs ionized
    ionised index indirect insulin interleukin ketones kpa last lead level lipase lipoprotein low lpa lvef lymphocytes
    marker max mean mg min minus ml mmhg monocytes mv myoglobin neutrophils nonhdl normalised normalized nt nu nv of
    ohm osmolality osmolarity oxygen parathyroid pascal pco peptide percent plasma plus po prealbumin pressure pro
    procalcitonin protein pth pulse rate ratio renin respiratory result saturation sbp score screen sec sedimentation
    selenium sensitive serum sex smoker sodium spot st standard stool systolic temp temperature test testosterone the
    thyroid thyroxine total transferrin triiodothyronine troponin tsh type urea urinary urine uv value venous
    clip column dicom file filepath id path patient study unit units vector view views
    male female man woman frau maennlich männlich weiblich homme femme masculin féminin hombre mujer masculino
    femenino uomo furlong pound pounds inch feet foot gram grams litre liter mole moles
    dev training train validation valid val holdout test yes no true false positive negative none unknown other
    plax psax apical parasternal subcostal suprasternal chamber doppler long short axis color colour
    vitamin volt volts volume waist water whole width zinc copper glucose hour lithium digoxin aldosterone estradiol
    prolactin ferritin iron tibc uibc crp esr ggt hcg psa cea afp ca
    """


def _known_words() -> frozenset[str]:
    """Collect the words of the names, aliases and units of the known columns, in lower case."""
    texts = [text for column in COLUMNS for text in (column.name, column.unit, *column.factors, *column.aliases)]
    texts += [*ALIAS_FACTORS, *GENDERS]
    return frozenset(word.casefold() for text in texts for word in _WORD.findall(text))


_WORDS = _known_words() | frozenset(_OTHER_WORDS.split())
_LONG_WORDS = [word for word in sorted(_known_words()) if len(word) >= SLIP_LENGTH]


def may_be_shown(text: str) -> bool:
    """Tell whether a text holds nothing but words of this package, single letters and short numbers."""
    if len(text) > MAX_LENGTH or _LONG_NUMBER.search(text):
        return False
    return all(len(word) == 1 or _is_known(word.casefold()) for word in _WORD.findall(text))


@lru_cache(maxsize=4096)
def _is_known(word: str) -> bool:
    """Tell whether a word in lower case is a known one, or so similar to a long one that it is a slip of the pen."""
    if word in _WORDS:
        return True
    return len(word) >= SLIP_LENGTH and bool(difflib.get_close_matches(word, _LONG_WORDS, n=1, cutoff=SLIP_RATIO))


def quoted(text: str) -> str:
    """Quote a text for a message if it may be shown; else return `NOT_SHOWN`."""
    return repr(text) if may_be_shown(text) else NOT_SHOWN


def name_or_position(name: str, kind: str, position: int) -> str:
    """Name a cell, column or channel in an output.

    Args:
        name: as the file or row writes it.
        kind: the modality, such as "labs".
        position: place in the file or row, counted from 1.

    Returns:
        "labs.<name>" if the name may be shown, else "labs.cell[<position>]".
    """
    return f"{kind}.{name}" if may_be_shown(name) else f"{kind}.cell[{position}]"


def shown_names(names: Sequence[str]) -> str:
    """Join the names of a table's columns for a message, "none" without names.

    A table without a header line has the values of its first patient there, so names of other words are only counted.
    """
    shown = [name for name in names if may_be_shown(name)]
    hidden = len(names) - len(shown)
    return ", ".join([*shown, *([f"{hidden} whose names are not shown"] if hidden else [])]) or "none"
