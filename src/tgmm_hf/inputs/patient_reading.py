"""Read the inputs of one patient, and report what became of each: used, changed, in doubt or refused."""

from collections.abc import Mapping
from typing import Any

from ..utils.errors import InputRefusedError, is_refusal
from ..utils.names import LEADS, MODALITIES, VIEWS
from .feature_extraction_ecg import EcgFeatureExtractor, PreparedEcg
from .image_processing_echo import EchoImageProcessor
from .lab_text import LabsText, age_of, gender_of
from .patient_identity import DIFFERENT_IDS, identity_of_ecg, ids_not_compared, labs_conflicts, patient_conflict
from .unlike_training import TrainedInputs

Report = dict[str, Any]
"""What became of one patient's inputs. `TgmmProcessor.__call__` lists the keys."""


class PatientReader:
    """Reads one patient and fills the patient's report.

    Args:
        refuse: raise on the first refusal. False writes refusals into the report and goes on.
        trained: descriptions of the training inputs, which the inputs are compared with. None compares nothing.

    Attributes:
        report: the report, see `TgmmProcessor.__call__`.
    """

    def __init__(self, refuse: bool, trained: TrainedInputs | None = None):
        self.refuse = refuse
        self.trained = TrainedInputs({}) if trained is None else trained
        self.report: Report = {"used": {name: [] for name in MODALITIES}}
        self.report |= {"views": [], "units": [], "refused": [], "checks": [], "notes": []}
        self.gender: str | None = None
        self.age: float | None = None

    def labs(self, row: Mapping[str, Any] | None, labs: LabsText) -> LabsText:
        """Report the lab row of a patient, and return it.

        Args:
            row: the row as given; None for a patient without labs.
            labs: the row, checked and with its text.

        Raises:
            InputRefusedError: on a refused cell, if the reader refuses.
        """
        if labs.refused and self.refuse:
            raise InputRefusedError(labs.refused[0]["item"], labs.refused[0]["reason"])
        self.report["used"]["labs"] = labs.used
        self.report["units"] = labs.units
        self.report["refused"] += labs.refused
        self.report["checks"] += labs.checks
        self.report["checks"] += self.trained.check_labs(cell for cell in labs.cells if cell.name in labs.used)
        self.report["notes"] += labs.notes
        self.gender, self.age = gender_of(labs.cells), age_of(labs.cells)
        if row is not None and not labs.used:
            self.report["notes"].append("labs: the row has no usable cell; labs are absent")
        return labs

    def ecg(self, extractor: EcgFeatureExtractor, recording: Any, **options: Any) -> PreparedEcg | None:
        """Return the window of a recording; None without a recording, or if it cannot be used.

        Args:
            extractor: reads the recording.
            recording: as `TgmmProcessor.__call__` takes it.
            **options: of `EcgFeatureExtractor.prepare`.

        Raises:
            InputRefusedError: if the recording cannot be used and the reader refuses.
        """
        if recording is None:
            return None
        try:
            ecg = extractor.prepare(recording, **options)
        except ValueError as error:
            self._add_refusal(error, "ecg")
            return None
        self.report["used"]["ecg"] = [lead for lead, usable in zip(LEADS, ecg.mask, strict=True) if usable]
        self.report["checks"] += ecg.checks
        if (middle := getattr(ecg, "middle", None)) is not None:
            self.report["checks"] += self.trained.check_ecg(middle, ecg.mask, ecg.rate)
        self.report["notes"] += [f"ecg: {note}" for note in ecg.notes]
        return ecg

    def echo(self, image_processor: EchoImageProcessor, study: Any, **options: Any) -> Any:
        """Return the `StudyClips` of a study; None without a study or without a usable clip.

        Args:
            image_processor: reads the study.
            study: as `TgmmProcessor.__call__` takes it.
            **options: of `EchoImageProcessor.prepare_study`.

        Raises:
            InputRefusedError: if the study has no usable clip, or a clip that was given under its view cannot be used,
                and the reader refuses.
        """
        if study is None:
            return None
        try:
            clips = image_processor.prepare_study(study, **options)
        except ValueError as error:
            self._add_refusal(error, "echo")
            return None
        self.report["refused"] += clips.by_position(clips.refused)
        self.report["views"] += clips.by_position(clips.assignments)
        unlike = self.trained.check_clips(clips.clips, clips.frame_counts)
        clips.checks += [{**finding, "item": clips.items[view]} for view, finding in unlike.items()]
        self.report["checks"] += clips.by_position(clips.checks)
        refusal = clips.refusal(study, list_reasons=self.refuse)
        if refusal is not None and (self.refuse or not clips.clips):
            self._add_refusal(refusal, "echo")
        if not clips.clips:
            return None
        self.report["used"]["echo"] = [view for view in VIEWS if view in clips.clips]
        return clips

    def refuse_two_patients(self, recording: Any, study: Any) -> bool:
        """Refuse the whole patient if the headers of the ECG and the echo name two. Return whether it is refused.

        A laboratory row whose gender or age is another than in a header becomes a finding.

        Args:
            recording: as `TgmmProcessor.__call__` takes it; only DICOM and WFDB files have such a header.
            study: the `StudyClips` of the patient, or None.

        Raises:
            InputRefusedError: if the patient is refused and the reader refuses.
        """
        ecg, echo = identity_of_ecg(recording), None if study is None else study.identity
        self.report["checks"] += labs_conflicts(self.gender, self.age, {"ECG": ecg, "echo": echo})
        if (note := ids_not_compared(ecg, echo)) is not None:
            self.report["notes"].append(note)
        conflict = patient_conflict(ecg, echo)
        if conflict is None:
            return False
        reason, is_certain = conflict
        if not is_certain:
            self.report["checks"].append({"code": DIFFERENT_IDS, "item": "patient", "text": reason})
            return False
        self.report["used"] = {name: [] for name in MODALITIES}
        self.report["units"] = []
        self._add_refusal(InputRefusedError("patient", reason), "patient")
        return True

    def refuse_if_doubtful(self) -> bool:
        """Refuse the whole patient if an input was refused or is in doubt. Return whether the patient is refused.

        Raises:
            InputRefusedError: if the patient is refused and the reader refuses.
        """
        items = dict.fromkeys(entry["item"] for entry in (*self.report["refused"], *self.report["checks"]))
        if not items:
            return False
        reason = (
            f"the strictness is 'refuse', and these inputs are refused or in doubt: {', '.join(items)}. Correct them, "
            "or leave them out"
        )
        self.report["used"] = {name: [] for name in MODALITIES}
        self.report["units"] = []
        self._add_refusal(InputRefusedError("patient", reason), "patient")
        return True

    def _add_refusal(self, error: ValueError, item: str) -> None:
        """Write a refusal into the report, or raise it if the reader refuses. An error that is no refusal is raised.

        The report names the modality `item`, not the file, because a path may name the patient.
        """
        if self.refuse or not is_refusal(error):
            raise error
        self.report["refused"].append({"item": item, "reason": error.reason})  # type: ignore[attr-defined]
