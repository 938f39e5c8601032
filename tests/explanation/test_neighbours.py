"""Nearest patients of a gallery: by hand, from files, and in the report."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import run
from tiny_models import smallest_model, tiny_tokenizer

from tgmm_hf import default_processor
from tgmm_hf.data.prediction import load_pipeline, predict
from tgmm_hf.explanation.neighbours import Gallery, nearest, read_gallery
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import MODALITIES

VECTORS = np.array([[1, 0], [0.6, 0.8], [0, 1], [-1, 0], [1, 0]], dtype=np.float32)
EVERYWHERE = np.ones(5, bool)


def gallery(**changes: Any) -> Gallery:
    """Five admissions; the last two are one patient's."""
    parts: dict[str, Any] = {
        "embeds": dict.fromkeys(MODALITIES, VECTORS),
        "masks": dict.fromkeys(MODALITIES, EVERYWHERE),
        "ids": np.array(["a", "b", "c", "d1", "d2"]),
        "patient_ids": np.array(["A", "B", "C", "D", "D"]),
        "outcomes": ({"hf": "yes"}, {}, {}, {}, {}),
    }
    return Gallery(**parts | changes)


def test_the_nearest_patients_come_first_each_once() -> None:
    result = nearest(gallery(), {"labs": [0.8, 0.6]}, number=3)
    assert [each["id"] for each in result] == ["b", "a", "d2"]
    assert [each["similarity"] for each in result] == pytest.approx([0.96, 0.8, 0.8])
    assert result[1]["outcomes"] == {"hf": "yes"} and not any(each["same"] for each in result)


def test_similarity_is_the_mean_over_modalities_and_needs_all_of_them() -> None:
    masks = dict.fromkeys(MODALITIES, EVERYWHERE) | {"ecg": np.array([True, False, True, True, False])}
    result = nearest(gallery(masks=masks), {"labs": [1.0, 0.0], "ecg": [0.0, 1.0]})
    assert [each["id"] for each in result] == ["a", "c", "d1"]
    assert [each["similarity"] for each in result] == pytest.approx([0.5, 0.5, -0.5])


@pytest.mark.parametrize("name", ["d2", "D"])
def test_the_patient_is_no_neighbour_of_itself(name: str) -> None:
    ids = [each["id"] for each in nearest(gallery(), {"labs": [1.0, 0.0]}, identifier=name)]
    assert ids == ["a", "b", "c"]
    assert nearest(gallery(), {"labs": [1.0, 0.0]})[0]["same"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a lab row, and a gallery whose admission "near" has the embedding of the row."""
    root = tmp_path_factory.mktemp("neighbours")
    model = smallest_model()
    model.save_pretrained(root / "model")
    default_processor(model.config, tiny_tokenizer()).save_pretrained(root / "model")
    row = {"age": 71, "Creatinine": [1.4, "mg/dL"]}
    (root / "row.json").write_text(json.dumps(row))
    pipe = load_pipeline(root / "model")
    (prediction,) = predict(pipe, [{"labs": row}], ["retrieval"])
    vector = np.array(prediction["retrieval"]["embeds"]["labs"], dtype=np.float32)
    write_gallery(root / "gallery", vector, prediction["model_fingerprint"])
    return root


def write_gallery(directory: Path, vector: np.ndarray, fingerprint: str) -> None:
    directory.mkdir()
    vectors = np.stack([-vector, vector])
    arrays = {f"{name}_embeds": vectors for name in MODALITIES}
    arrays |= {f"{name}_mask": np.ones(2, bool) for name in MODALITIES}
    np.savez(directory / "embeddings.npz", allow_pickle=False, id=np.array(["far", "near"]), **arrays)
    rows = [
        {"id": name, "patient_id": f"patient {name}", "task": task, "subset": subset, "label": label, "time": time}
        for name, label in (("far", 0.0), ("near", 1.0))
        for task, label, time in (("hf_diagnosis", label, np.nan), ("hf_risk", np.nan, 90.0))
        for subset in ("labs", "ecg")
    ]
    pd.DataFrame(rows).assign(event=1.0).to_parquet(directory / "predictions.parquet")
    (directory / "metrics.json").write_text(json.dumps({"model_fingerprint": fingerprint}))


def test_the_report_shows_neighbours_without_their_names(root: Path) -> None:
    words = ["explain", str(root / "model"), "--labs", str(root / "row.json"), "--no-contributions"]
    words += ["--gallery", str(root / "gallery")]
    assert run(*words, "--out", str(root / "report.json")) == 0
    first, second = json.loads((root / "report.json").read_text())["neighbours"]
    assert first["similarity"] == pytest.approx(1) and first["same"] and second["similarity"] == pytest.approx(-1)
    assert first["outcomes"] == {"hf_diagnosis": "heart failure", "hf_risk": "event up to day 90"}
    assert "id" not in first
    assert run(*words, "--out", str(root / "report.html"), "--show-id") == 0
    page = (root / "report.html").read_text()
    assert "near" in page and "event up to day 90" in page and "probably the same recording" in page


def test_a_gallery_of_other_weights_or_without_embeddings_is_refused(root: Path, tmp_path: Path) -> None:
    model: Any = SimpleNamespace(config=SimpleNamespace(weights_fingerprint={"id": "other"}, tasks={}))
    with pytest.raises(TgmmError, match="other"):
        read_gallery(root / "gallery", model)
    with pytest.raises(TgmmError, match="no gallery"):
        read_gallery(tmp_path, model)
