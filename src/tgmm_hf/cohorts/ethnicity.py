"""Groups of the texts in which hospitals write ethnicity."""

import re

NO_ETHNICITY = ("unknown", "unable to obtain", "patient declined to answer", "")


def ethnicity_group(text: str | None) -> str | None:
    """Return the first part of an ethnicity, "white" for "WHITE - RUSSIAN", because smaller parts are too rare.

    Return None if the text says that the ethnicity is not known.
    """
    lower = (text or "").casefold().strip()
    return None if lower in NO_ETHNICITY else re.split(r"\s+-\s+|/|\s+or\s+", lower)[0]
