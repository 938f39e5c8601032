"""The reader of findings: what a report asserts, denies and doubts."""

import pytest

from tgmm_hf.cohorts.finding_reader import read_findings


def stated(text: str) -> dict[str, str]:
    """Code -> "+" asserted, "-" denied, "?" possible, "~" probable."""
    signs = {"definite": "+", "probable": "~", "possible": "?"}
    return {
        code: "-" if finding.polarity == "absent" else signs[finding.certainty]
        for code, finding in read_findings(text).items()
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sinus rhythm. ST elevation.", {"SR": "+", "STE_": "+"}),
        ("no st elevation", {"STE_": "-"}),
        ("No acute ST-elevation or T-wave inversion", {"STE_": "-", "INVT": "-"}),
        ("without evidence of atrial fibrillation", {"AFIB": "-"}),
        ("neither st elevation nor t wave inversion", {"STE_": "-", "INVT": "-"}),
        ("no st elevation, st depression, or t wave inversion", {"STE_": "-", "STD_": "-", "INVT": "-"}),
        ("sinus rhythm, no st elevation, atrial flutter", {"SR": "+", "STE_": "-", "AFLT": "+"}),
        ("no st elevation but t wave inversion", {"STE_": "-", "INVT": "+"}),
        ("no st elevation. st depression", {"STE_": "-", "STD_": "+"}),
        ("sinus rhythm with no q waves", {"SR": "+", "QWAVE": "-"}),
        ("not a normal ecg", {"NORM": "-"}),
        ("st elevation is not seen", {"STE_": "-"}),
        ("atrial fibrillation is no longer present", {"AFIB": "-"}),
        ("anterior infarct ruled out", {"AMI": "-"}),
        ("lvh is unlikely", {"LVH": "-"}),
        ("cannot rule out anterior myocardial infarction", {"AMI": "?"}),
        ("anterior infarct cannot be excluded", {"AMI": "?"}),
        ("rule out anterior infarct", {"AMI": "?"}),
        ("possible inferior infarct and atrial fibrillation", {"IMI": "?", "AFIB": "+"}),
        ("atrial fibrillation, possible inferior infarct", {"AFIB": "+", "IMI": "?"}),
        ("inferior infarct possible", {"IMI": "?"}),
        ("probable left ventricular hypertrophy", {"LVH": "~"}),
        ("nonspecific st-t changes consistent with ischemia", {"NST_": "+", "ISC_": "~"}),
        ("st elevation, consider anterior mi", {"STE_": "+", "AMI": "?"}),
        ("no change in atrial fibrillation", {"AFIB": "+"}),
        ("no atrial fibrillation. atrial fibrillation", {"AFIB": "+"}),
        ("possible lvh. definite lvh", {"LVH": "+"}),
        ("kein vorderwandinfarkt, sinusrhythmus", {"AMI": "-", "SR": "+"}),
        ("hinterwandinfarkt nicht auszuschließen", {"IMI": "?"}),
        ("hinterwandinfarkt wahrscheinlich. ohne linksschenkelblock", {"IMI": "~", "CLBBB": "-"}),
        ("", {}),
        ("the patient is well", {}),
    ],
)
def test_denials_and_doubts(text: str, expected: dict[str, str]) -> None:
    assert stated(text) == expected
