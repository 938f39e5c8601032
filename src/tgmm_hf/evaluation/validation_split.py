"""Find the validation patients. Thresholds, temperatures and risk groups are chosen on them."""

from pathlib import Path

from datasets import Dataset, DatasetDict

from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.data.shards import check_shards
from tgmm_hf.evaluation.unseen import TO_CHOOSE, check_unseen, patients_of, prepared_data_hash, read_if_present


def validation_rows(
    model: Path | None, data_dir: str | Path, prepared: DatasetDict, split: str, validation: str | Path | None
) -> tuple[Dataset | None, list[str]]:
    """Find patients to choose thresholds on. They must be neither scored nor trained on.

    Args:
        model: Directory of the saved model. None if there is no directory.
        data_dir: Directory of the prepared data to be scored.
        prepared: The splits of `data_dir`.
        split: Name of the split to be scored.
        validation: Prepared data whose validation split is used. None for `data_dir`.

    Returns:
        The prepared rows of the validation patients, None if there are none; and warnings if it cannot be ruled out
        that the model was trained on them.

    Raises:
        ValueError: If `validation` has no validation split, or if its patients are scored or were trained on.
    """
    source = data_dir if validation is None else validation
    rows = prepared if validation is None else load_prepared(validation)
    if "validation" not in rows:
        if validation is not None:
            raise ValueError(
                f"{validation} has the splits {list(rows)}, no validation split. Prepare a validation split, or "
                "name other data with --validation."
            )
        return None, []
    if split == "validation" and prepared_data_hash(source) == prepared_data_hash(data_dir):
        return None, []
    check_shards(source, ["validation"])
    if scored := set(patients_of(rows["validation"])) & set(patients_of(prepared[split])):
        raise ValueError(
            f"{len(scored)} validation patients of {source} are among the patients to be scored. A threshold that is "
            "chosen on them would make the model look better than it is. Name other data with --validation."
        )
    run = None if model is None else read_if_present(model / "run.json")
    if run is not None and run["data_hash"] == prepared_data_hash(source):
        # The model's own training took no gradient from its validation split. The training of its checkpoint may have.
        check_unseen(model, prepared_data_hash(source), rows["validation"], "validation")
        return rows["validation"], []
    doubts = check_unseen(model, prepared_data_hash(source), rows["validation"], "test", TO_CHOOSE)
    return rows["validation"], [f"Validation patients, for thresholds and risk groups: {doubt}" for doubt in doubts]
