"""ECG files -> codes of Beat, as a table with one row for each window. The command line uses this.

    OUT/codes.parquet       id, split, window, start (seconds), codes ([query token][level])
    OUT/refused.csv         id, reason
    OUT/tokenize.json       what made the codes: model, settings, counts, share of each codebook that is used
    OUT/settings.json       what the codes depend on, to compare it with a later run
    OUT/parts               finished parts of a run that was stopped

The windows of each ECG are encoded by themselves. So the codes of an ECG do not depend on the ECGs beside it.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from tgmm_hf.data.confinement import confined_ecg
from tgmm_hf.data.ecg_reports import saved_kind
from tgmm_hf.data.file_reading import file_state
from tgmm_hf.data.instructions import SUFFIXES, read_instructions
from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.data.saved_models import damaged_files_in_one_line, load_whole_model
from tgmm_hf.data.shards import write_shared_text
from tgmm_hf.families.heartcare.configuration_beat import BeatConfig
from tgmm_hf.families.heartcare.modeling_beat import BeatModel
from tgmm_hf.inputs.feature_extraction_beat import BeatFeatureExtractor
from tgmm_hf.pipeline_binding import BindingCheck
from tgmm_hf.utils.csv_files import csv_text
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.errors import InputRefusedError, TgmmError, is_refusal
from tgmm_hf.utils.files import claim_directory, read_json, whole_file, write_json
from tgmm_hf.utils.output_lock import one_run_at_a_time
from tgmm_hf.utils.versions import package_versions

PART = 200
"""Number of ECGs in a part. A stopped run goes on after the last finished part."""
CODES, REFUSED, RECORD, PARTS = "codes.parquet", "refused.csv", "tokenize.json", "parts"
SETTINGS = "settings.json"
"""File that tells a later run whether it may go on in the same directory."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("window", pa.int16()),
        ("start", pa.float32()),
        ("codes", pa.list_(pa.list_(pa.int16()))),
    ]
)


@dataclass(frozen=True)
class EcgFile:
    """One ECG to be tokenized: its name, its split, and the path of its file or the reason why it may not be read."""

    id: str
    split: str
    path: Path | InputRefusedError


def load_beat(model: str) -> tuple[BeatModel, BeatFeatureExtractor]:
    """Load a saved Beat model with its feature extractor, in evaluation mode.

    Args:
        model: Directory or Hub repository.

    Raises:
        TgmmError: If the saved model is of another kind, damaged or incomplete, or takes other windows than its
            extractor cuts.
    """
    kind = saved_kind(model)
    if kind != BeatConfig.model_type:
        raise TgmmError(
            model, f"it is a {kind or 'nameless'} model, and only a {BeatConfig.model_type} model has codes."
        )
    with damaged_files_in_one_line(model):
        extractor = BeatFeatureExtractor.from_pretrained(model)
    network = load_whole_model(BeatModel, model).eval()
    if extractor.num_samples != network.config.seq_length:
        raise TgmmError(
            model,
            f"its extractor cuts windows of {extractor.num_samples} samples, and the model takes "
            f"{network.config.seq_length}. Save the extractor with num_samples={network.config.seq_length}.",
        )
    BindingCheck()(network, extractor).refuse()
    return network, extractor


def ecgs_of(table: str | Path, root: Path | None = None, allow_outside: bool = False) -> list[EcgFile]:
    """List the ECGs of an instruction file, or of a cohort table.

    Args:
        table: Instruction file of `tgmm make-instructions`, or cohort table (.parquet or .csv).
        root: Directory that the paths of a cohort table start from. None takes that of the table.
        allow_outside: Whether files outside that directory are read.

    Raises:
        TgmmError: If the table is wrong, or names no ECG.
    """
    table = Path(table)
    if is_instruction_file(table):
        rows = list(read_instructions(table))
        first = {row.ecg: row for row in reversed(rows)}  # a recording of several rows counts once
        listed = [EcgFile(row.id, row.split, Path(row.ecg)) for row in rows if first[row.ecg] is row]
    else:
        cohort = read_cohort_table(table, root=root, for_prediction=True, allow_outside=allow_outside)
        listed = [
            EcgFile(row.id, row.split, confined_ecg(row.ecg_path, cohort.root, allow_outside))
            for row in cohort.rows
            if row.ecg_path is not None
        ]
    if not listed:
        raise TgmmError(str(table), "names no ECG.")
    return listed


@one_run_at_a_time("out")
def tokenize_ecgs(
    model: str, table: str | Path, out: str | Path, *, root: Path | None = None, allow_outside: bool = False
) -> dict[str, Any]:
    """Write the codes of all ECGs of a table. The same call goes on where a stopped one was.

    Args:
        model: Directory or Hub repository of a saved Beat model.
        table: Instruction file or cohort table, see `ecgs_of`.
        out: Directory to write.
        root: See `ecgs_of`.
        allow_outside: See `ecgs_of`.

    Returns:
        The content of tokenize.json.

    Raises:
        FileExistsError: If `out` holds files that this function does not write.
        TgmmError: If model or table cannot be used, or `out` holds codes of another model or table.
    """
    out = Path(out)
    network, extractor = load_beat(model)
    ecgs = ecgs_of(table, root, allow_outside)
    settings = {
        "weights": (network.config.weights_fingerprint or {}).get("id"),
        "extractor": extractor.to_dict(),
        "ecgs": json_digest([[ecg.id, ecg.split, str(ecg.path), _state_of(ecg.path)] for ecg in ecgs]),
    }
    if record := _claim(out, settings):
        return record
    for start in tqdm(range(0, len(ecgs), PART), desc="tokenize-ecg", unit="part", disable=None):
        path = out / PARTS / f"{start // PART:06d}.json"
        if not path.is_file():
            write_json(path, [_tokenized(ecg, network, extractor) for ecg in ecgs[start : start + PART]])
    return _finish(out, settings, model, network)


def is_instruction_file(path: Path) -> bool:
    """Tell whether a table is an instruction file. A Parquet file is one if it has a column of messages."""
    if path.suffix == ".parquet" and path.is_file():
        return "messages" in pq.read_schema(path).names
    return path.suffix in SUFFIXES and path.suffix != ".parquet"


def _state_of(path: Path | InputRefusedError) -> Any:
    """Return what tells whether a recording was changed: path, size and time of change of its files."""
    if isinstance(path, InputRefusedError):
        return None
    return [file_state(path.with_name(f"{path.name}{suffix}")) for suffix in ("", ".hea", ".dat", ".mat")]


def _claim(out: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Write the settings of a run into `out`. Return the record of a finished run with these settings.

    Raises:
        TgmmError: If `out` holds codes with other settings.
    """
    claim_directory(out, [CODES, REFUSED, RECORD, SETTINGS, f"{PARTS}/"])
    if (out / SETTINGS).is_file() and (before := read_json(out / SETTINGS)) != settings:
        changed = ", ".join(name for name in settings if before.get(name) != settings[name])
        raise TgmmError(str(out), f"it holds codes of another run (changed: {changed}). Name another directory.")
    write_json(out / SETTINGS, settings)
    return dict(read_json(out / RECORD)) if (out / RECORD).is_file() and (out / CODES).is_file() else None


def _tokenized(ecg: EcgFile, network: BeatModel, extractor: BeatFeatureExtractor) -> dict[str, Any]:
    """Return the codes of one ECG, or the reason why it has none."""
    entry: dict[str, Any] = {"id": ecg.id, "split": ecg.split}
    try:
        if isinstance(ecg.path, InputRefusedError):
            raise ecg.path
        prepared = extractor.prepare(ecg.path)
    except ValueError as error:
        if not is_refusal(error):
            raise
        return entry | {"reason": error.reason}  # type: ignore[attr-defined]
    codes = network.encode(torch.from_numpy(prepared.values).to(network.device))
    return entry | {"starts": prepared.starts, "codes": codes.tolist()}


def _finish(out: Path, settings: Mapping[str, Any], model: str, network: BeatModel) -> dict[str, Any]:
    """Join the parts to the table of codes, write what made it, and remove the parts."""
    entries = [entry for part in sorted((out / PARTS).glob("*.json")) for entry in read_json(part)]
    rows = [
        {"id": entry["id"], "split": entry["split"], "window": number, "start": start, "codes": codes}
        for entry in entries
        if "codes" in entry
        for number, (start, codes) in enumerate(zip(entry["starts"], entry["codes"], strict=True))
    ]
    refused = [entry for entry in entries if "codes" not in entry]
    with whole_file(out / CODES) as building:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), building)
    write_shared_text(out / REFUSED, csv_text(["id", "reason"], refused))
    record = {
        "model": model,
        "settings": settings,
        "ecgs": len(entries) - len(refused),
        "windows": len(rows),
        "refused": len(refused),
        "codebook_size": network.config.codebook_size,
        "codes_used": network.code_usage(torch.tensor([row["codes"] for row in rows])).tolist() if rows else [],
        "versions": package_versions(),
    }
    write_json(out / RECORD, record)
    shutil.rmtree(out / PARTS)
    return record
