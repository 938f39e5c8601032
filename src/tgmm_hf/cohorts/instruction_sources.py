"""What every source of instruction data gives: one entry per ECG, used or left out with a reason, and the flow."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tgmm_hf.cohorts.flow import FlowEntry, check_flow, flow_entry
from tgmm_hf.data.instructions import Statement

REASONS = {
    "no_id": "no study_id or subject_id",
    "repeated": "study_id stands more than once in record_list",
    "repeated_report": "study_id stands more than once in machine_measurements",
    "no_measurement": "no row in machine_measurements",
    "other_patient": "subject_id differs between the tables",
    "no_report": "no report",
    "unusable_report": "the report says that something is wrong with the data",
    "no_ecg": "no ECG file",
}
"""Step of the flow -> why an ECG is left out, in the order in which the steps are tried."""


@dataclass(frozen=True)
class SourceEntry:
    """One ECG of a source.

    Attributes:
        id: Name of the ECG.
        patient_id: Name of the patient.
        split: "train", "validation" or "test".
        ecg: The recording, as `read_ecg` takes it.
        report: Cleaned report.
        statements: The truth, None if there is none.
        language: Language of the report, None if it is not known.
        left_out: Key of `REASONS`, None if the ECG is used.
    """

    id: str
    patient_id: str
    split: str
    ecg: Path
    report: str = ""
    statements: tuple[Statement, ...] | None = None
    language: str | None = None
    left_out: str | None = None


@dataclass
class Tally:
    """Counts of the ECGs that went by.

    Attributes:
        ecgs: Reason, or "" for used ECGs -> number of ECGs.
        splits: Split -> number of used ECGs.
        languages: Language, or "not known" -> number of used ECGs.
        instructions: Instruction -> number of used ECGs.
        outside: Number of used ECGs whose recording lies outside the directory of the instruction file.
    """

    ecgs: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    instructions: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    _last_step: dict[str, int] = field(default_factory=dict)

    def count(self, entry: SourceEntry) -> None:
        """Count one ECG."""
        steps = ["", *REASONS]
        reason = entry.left_out or ""
        self.ecgs[reason] += 1
        # A patient is lost at the step that takes the last ECG: the largest step, or never.
        step = steps.index(reason) or len(steps)
        self._last_step[entry.patient_id] = max(step, self._last_step.get(entry.patient_id, 0))
        if entry.left_out is None:
            self.splits[entry.split] += 1
            self.languages[entry.language or "not known"] += 1

    def flow(self, what: str) -> list[FlowEntry]:
        """Write the flow: all ECGs, those left out by reason, those used, and the used ones by split.

        Args:
            what: Name of the ECGs at the start.

        Returns:
            Entries of `cohorts/flow.py`. An "admission" is an ECG here.
        """
        lost = Counter(self._last_step.values())
        flow = [flow_entry("source", "start", what, len(self._last_step), self.ecgs.total())]
        for step, (name, reason) in enumerate(REASONS.items(), start=1):
            if self.ecgs[name]:
                flow.append(flow_entry(name, "excluded", reason, lost[step], self.ecgs[name]))
        flow.append(flow_entry("used", "included", "used", lost[len(REASONS) + 1], self.ecgs[""]))
        check_flow(flow)
        return flow


@dataclass(frozen=True)
class Source:
    """A data set that instructions are made of.

    Attributes:
        dataset: Name of the data set.
        what: Name of its ECGs for the flow.
        entries: One entry per ECG. It can be read once.
        tables: Tables that were read.
        notes: Sentences for the user.
    """

    dataset: str
    what: str
    entries: Iterator[SourceEntry]
    tables: list[Path]
    notes: list[str] = field(default_factory=list)


def has_recording(path: Path) -> bool:
    """Tell whether the header of a WFDB recording exists. `path` has no suffix."""
    return path.with_name(f"{path.name}.hea").is_file()
