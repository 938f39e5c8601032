"""Einthoven and Goldberger: the six limb leads come from two, so any two give the other four."""

from collections.abc import Mapping

import numpy as np

LIMB_LEADS = {
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}
"""Einthoven and Goldberger: every limb lead as (weight of I, weight of II)."""


def derive_limb_leads(
    usable: Mapping[str, np.ndarray], absent: list[str]
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Compute absent limb leads from two usable limb leads, I and II if they are usable (Einthoven, Goldberger).

    A lead that was recorded and is bad is not computed, because the other limb leads may have the same defect.

    Args:
        usable: lead -> values (samples,) in mV.
        absent: leads that the recording does not have.

    Returns:
        Two elements: the names of the two leads used; and lead -> values (samples,) in mV of each absent limb lead. The
        names and the dict are empty with fewer than two usable limb leads.
    """
    sources = tuple(lead for lead in LIMB_LEADS if lead in usable)[:2]
    if len(sources) < 2:
        return (), {}
    one, two = (usable[lead] for lead in sources)
    # every two limb leads are independent, so their weights can be inverted
    solved = np.linalg.inv(np.array([LIMB_LEADS[lead] for lead in sources]))
    derived = {}
    for lead in LIMB_LEADS:
        if lead in absent:
            of_one, of_two = np.array(LIMB_LEADS[lead]) @ solved
            derived[lead] = of_one * one + of_two * two
    return sources, derived
