"""Reports of synthetic chest X-rays, and CheXpert's labels. The wording is ours.

Report and labels follow from what the reader saw (`XrayEvidence.bands`). A report has the sections of MIMIC-CXR. It
names no disease of the heart besides its size. FINDINGS and IMPRESSION name no view.
"""

import numpy as np

from tgmm_hf.cohorts.synthetic.xray_evidence import ABSENT, DOUBTFUL, MILD, MODERATE, SEVERE, XrayEvidence

CHEXPERT_NAMES = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion"),
    *("Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax"),
    "Support Devices",
)
"""The 14 labels, in the order of the columns of MIMIC-CXR-JPG."""
POSITIVE, NEGATIVE, UNCERTAIN = 1, 0, -1

SENTENCES: dict[tuple[str, int], tuple[str, ...]] = {
    ("heart_size", ABSENT): (
        "Heart size is normal.",
        "The heart is not enlarged.",
        "The cardiac silhouette is within normal limits.",
    ),
    ("heart_size", DOUBTFUL): (
        "Heart size is borderline, and mild cardiomegaly is possible.",
        "The cardiac silhouette may be slightly enlarged.",
    ),
    ("heart_size", MILD): (
        "There is mild cardiomegaly.",
        "The heart is mildly enlarged.",
        "Mild enlargement of the cardiac silhouette.",
    ),
    ("heart_size", MODERATE): (
        "There is moderate cardiomegaly.",
        "The heart is moderately enlarged.",
        "Moderate enlargement of the cardiac silhouette.",
    ),
    ("heart_size", SEVERE): (
        "There is severe cardiomegaly.",
        "The heart is markedly enlarged.",
        "Severe enlargement of the cardiac silhouette.",
    ),
    ("congestion", ABSENT): (
        "There is no pulmonary edema.",
        "No pulmonary vascular congestion or edema.",
        "The pulmonary vasculature is normal, without edema.",
    ),
    ("congestion", DOUBTFUL): (
        "Mild interstitial edema cannot be excluded.",
        "Slight prominence of the vessels; mild edema is possible.",
    ),
    ("congestion", MILD): (
        "There is mild pulmonary vascular congestion.",
        "Mild interstitial edema with prominent upper lobe vessels.",
        "Vascular congestion with mild interstitial edema.",
    ),
    ("congestion", MODERATE): (
        "There is moderate interstitial pulmonary edema.",
        "Moderate pulmonary edema with septal lines.",
        "Perihilar haze and septal lines, consistent with moderate edema.",
    ),
    ("congestion", SEVERE): (
        "There is severe pulmonary edema.",
        "Extensive perihilar opacification, consistent with severe pulmonary edema.",
    ),
    ("atelectasis", ABSENT): ("There is no atelectasis.", "No atelectasis is seen."),
    ("atelectasis", DOUBTFUL): (
        "A faint basilar opacity may represent atelectasis.",
        "Questionable linear atelectasis at the base.",
    ),
    ("atelectasis", MILD): ("There is mild linear atelectasis at the lung base.", "Minimal plate-like atelectasis."),
    ("atelectasis", MODERATE): ("There is linear atelectasis at the lung base.", "Plate-like bibasilar atelectasis."),
    ("atelectasis", SEVERE): ("There is marked plate-like atelectasis.", "Dense linear atelectasis at the lung base."),
}
"""(What was looked at, band) -> wordings."""
NO_FLUID = ("No pleural effusion or pneumothorax.", "There is no pleural effusion and no pneumothorax.")
ONE_SIDE = {
    DOUBTFUL: ("A trace {side} pleural effusion is possible.", "A tiny {side} pleural effusion cannot be excluded."),
    MILD: ("There is a small {side} pleural effusion.", "Small {side} pleural effusion."),
    MODERATE: ("There is a moderate {side} pleural effusion.", "Moderate {side} pleural effusion."),
    SEVERE: ("There is a large {side} pleural effusion.", "Large {side} pleural effusion."),
}
BOTH_SIDES = ("There are bilateral pleural effusions, {right} on the right and {left} on the left.",)
SIZES = {DOUBTFUL: "possibly trace", MILD: "small", MODERATE: "moderate", SEVERE: "large"}
COMPRESSED = ("There is adjacent compressive atelectasis.", "Atelectasis is seen beside the fluid.")
DEVICES = (
    "A left-sided pacemaker is in place, with its lead ending in the right ventricle.",
    "Left pectoral pacemaker with a lead in the expected position.",
)
NEUTRAL: tuple[tuple[str, float, str | None], ...] = (
    ("No focal consolidation.", 0.6, "Consolidation"),
    ("The mediastinal contours are unremarkable.", 0.4, "Enlarged Cardiomediastinum"),
    ("No acute osseous abnormality is seen.", 0.3, None),
)
"""Sentences that do not depend on what is shown: wording, share of the reports, label that becomes 0."""
CLEAR = ("No acute cardiopulmonary process.", "No acute cardiopulmonary abnormality.")
CONCERNS = ("dyspnea", "chest pain", "cough", "weakness", "evaluation before a procedure", "shortness of breath")
SUMMARIES = {
    "heart_size": {MILD: "Mild cardiomegaly", MODERATE: "Moderate cardiomegaly", SEVERE: "Severe cardiomegaly"},
    "congestion": {MILD: "Mild edema", MODERATE: "Moderate pulmonary edema", SEVERE: "Severe pulmonary edema"},
    "atelectasis": {MILD: "Mild atelectasis", MODERATE: "Atelectasis", SEVERE: "Marked atelectasis"},
}


def labels_of(table: XrayEvidence, row: int = 0) -> dict[str, int | None]:
    """Return CheXpert's labels of one report: name -> 1, 0, -1 (uncertain) or None (not mentioned)."""
    labels: dict[str, int | None] = dict.fromkeys(CHEXPERT_NAMES)
    right, left = (int(table.band(side)[row]) for side in ("effusion_right", "effusion_left"))
    fluid = max(right, left)
    denied = bool(table.is_mentioned("effusion_right")[row])
    labels["Cardiomegaly"] = _label(table, row, "heart_size")
    labels["Edema"] = _label(table, row, "congestion")
    labels["Atelectasis"] = _label(table, row, "atelectasis")
    labels["Pleural Effusion"] = _of_band(fluid, denied)
    if fluid == ABSENT and denied:
        labels["Pneumothorax"] = NEGATIVE
    if is_compressed(table, row):
        labels["Atelectasis"] = POSITIVE
    if table.reported_device[row]:
        labels["Support Devices"] = POSITIVE
    findings = [value for name, value in labels.items() if name != "Support Devices"]
    if not any(value in (POSITIVE, UNCERTAIN) for value in findings):
        labels["No Finding"] = POSITIVE
    return labels


def is_compressed(table: XrayEvidence, row: int = 0) -> bool:
    """Tell whether the report names atelectasis beside an effusion."""
    fluid = max(int(table.band(side)[row]) for side in ("effusion_right", "effusion_left"))
    return bool(table.compression[row]) and fluid >= MILD


def _label(table: XrayEvidence, row: int, name: str) -> int | None:
    """Return the label of one reading."""
    return _of_band(int(table.band(name)[row]), bool(table.is_mentioned(name)[row]))


def _of_band(band: int, denied: bool) -> int | None:
    """Return the label of a band. `denied` tells whether an absent finding is denied in words."""
    if band >= MILD:
        return POSITIVE
    if band == DOUBTFUL:
        return UNCERTAIN
    return NEGATIVE if denied else None


def write_report(
    table: XrayEvidence, rng: np.random.Generator, views: str, row: int = 0
) -> tuple[str, dict[str, int | None]]:
    """Write a report in the form of MIMIC-CXR.

    Args:
        table: What the X-rays show.
        rng: Chooses the wording. It never sees the state.
        views: Views of the study, for the line EXAMINATION.
        row: Row of `table`.

    Returns:
        The text of the file, and the labels that follow from it.
    """
    labels = labels_of(table, row)
    findings = [*_sentences(table, rng, row), *_fluid(table, rng, row)]
    if any("opaci" in sentence for sentence in findings):
        labels["Lung Opacity"] = POSITIVE
    for sentence, rate, name in NEUTRAL:
        if rng.random() < rate:
            findings.append(sentence)
            labels |= {} if name is None else {name: NEGATIVE}
    rng.shuffle(findings)
    if table.reported_device[row]:
        findings.insert(0, str(rng.choice(DEVICES)))
    concern = rng.choice(CONCERNS)
    lines = [
        " " * 33 + "FINAL REPORT",
        f" EXAMINATION:  {views}",
        "",
        f" INDICATION:  ___ year old patient with {concern}.",
        "",
        " TECHNIQUE:  Chest radiograph.",
        "",
        " COMPARISON:  None.",
        "",
        " FINDINGS: ",
        "",
        *_wrapped(findings),
        "",
        " IMPRESSION: ",
        "",
        *_wrapped(_impression(table, rng, row)),
    ]
    return "\n".join(lines) + "\n", labels


def _sentences(table: XrayEvidence, rng: np.random.Generator, row: int) -> list[str]:
    """Word heart, congestion and atelectasis. An absent finding is denied or left out."""
    sentences = []
    for name in ("heart_size", "congestion", "atelectasis"):
        band = int(table.band(name)[row])
        sentence = str(rng.choice(SENTENCES[name, band]))
        hidden = name == "atelectasis" and is_compressed(table, row)
        if band != ABSENT or (table.is_mentioned(name)[row] and not hidden):
            sentences.append(sentence)
    return sentences


def _fluid(table: XrayEvidence, rng: np.random.Generator, row: int) -> list[str]:
    """Word pleural effusions."""
    bands = {side: int(table.band(f"effusion_{side}")[row]) for side in ("right", "left")}
    present = [side for side, band in bands.items() if band != ABSENT]
    if not present:
        return [str(rng.choice(NO_FLUID))] if table.is_mentioned("effusion_right")[row] else []
    if len(present) == 2 and min(bands.values()) >= MILD:
        sentence = str(rng.choice(BOTH_SIDES)).format(**{side: SIZES[band] for side, band in bands.items()})
        sentences = [sentence]
    else:
        sentences = [str(rng.choice(ONE_SIDE[bands[side]])).format(side=side) for side in present]
    return [" ".join([*sentences, str(rng.choice(COMPRESSED))])] if is_compressed(table, row) else sentences


def _impression(table: XrayEvidence, rng: np.random.Generator, row: int) -> list[str]:
    """Sum up what is present. Doubtful findings stand in FINDINGS only."""
    parts = [words[band] for name, words in SUMMARIES.items() if (band := int(table.band(name)[row])) in words]
    sides = [side for side in ("right", "left") if int(table.band(f"effusion_{side}")[row]) >= MILD]
    if sides:
        parts.append("Bilateral pleural effusions" if len(sides) == 2 else f"{sides[0].capitalize()} pleural effusion")
    if not parts:
        return [str(rng.choice(CLEAR))]
    if rng.random() < 0.5:
        return [f"{number}.  {part}." for number, part in enumerate(parts, start=1)]
    return [" and ".join([parts[0], *(part[0].lower() + part[1:] for part in parts[1:])]) + "."]


def _wrapped(sentences: list[str], width: int = 78) -> list[str]:
    """Break sentences into lines that begin with a space, as in MIMIC-CXR."""
    lines, line = [], ""
    for word in " ".join(sentences).split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(f" {line}")
            line = ""
        line = f"{line} {word}" if line else word
    return [*lines, f" {line}"]
