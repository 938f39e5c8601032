"""`tgmm curate-lvef`: EchoNet-Dynamic and CAMUS with their published splits, and how their pictures are read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from lvef_files import beating_fan, write_avi, write_camus, write_echonet

from tgmm_hf.cli import main
from tgmm_hf.cohorts.lvef_benchmarks import LVEF_SETTINGS, TASK, curate_lvef
from tgmm_hf.data.manifest import CohortRow, read_cohort_table
from tgmm_hf.inputs.echo_reading import read_echo_clip
from tgmm_hf.inputs.image_processing_echo import CropBox, EchoImageProcessor
from tgmm_hf.utils.errors import TgmmError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ROWS = [("0X1A", "61.5", "TRAIN"), ("0X2B.avi", "34.0", "VAL"), ("0X3C", "55", " TEST "), ("0X4D", "50", "TEST")]


def rows_of(out: Path) -> list[CohortRow]:
    return read_cohort_table(out / "cohort.parquet", tasks={TASK: LVEF_SETTINGS}).rows


def test_echonet_keeps_its_splits_and_names_videos_that_are_not_there(tmp_path: Path) -> None:
    rows = [(name.removesuffix(".avi"), *rest) for name, *rest in ROWS]
    source = write_echonet(tmp_path / "echonet", rows, lost=["0X4D"])
    (source / "FileList.csv").write_text((source / "FileList.csv").read_text().replace("0X2B,", "0X2B.avi,"))
    summary = curate_lvef(source, tmp_path / "out")
    table = rows_of(tmp_path / "out")
    assert [(row.id, row.split, row.values[TASK]) for row in table] == [
        ("0X1A", "train", 61.5), ("0X2B", "validation", 34.0), ("0X3C", "test", 55.0),
    ]  # fmt: skip
    assert all((tmp_path / "out" / row.echo_paths[0]).is_file() and row.echo_views == ("A4C",) for row in table)
    assert summary["missing"] == {"train": 0, "validation": 0, "test": 1}
    assert pd.read_csv(tmp_path / "out" / "missing.csv").id.tolist() == ["0X4D"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [(("0X1A", "0.61", "TRAIN"), "percent"), (("0X1A", "", "TRAIN"), "percent"), (("0X1A", "61", "train2"), "split")],
)
def test_echonet_with_fractions_or_other_splits_is_refused(tmp_path: Path, row, reason: str) -> None:
    source = write_echonet(tmp_path / "echonet", [row])
    with pytest.raises(TgmmError, match=reason):
        curate_lvef(source, tmp_path / "out")
    with pytest.raises(TgmmError, match="A4C only"):
        curate_lvef(source, tmp_path / "out", view="both")


def test_a_masked_video_of_112_pixels_is_read_without_a_note_and_keeps_its_sector(tmp_path: Path) -> None:
    """The sector mask takes nothing from a picture that is masked already. The zoom cuts its edges, as it does all."""
    clip = beating_fan(36)
    write_avi(tmp_path / "clip.avi", clip)
    read = read_echo_clip(tmp_path / "clip.avi", 16, 2)
    assert read.frames.shape == (16, 112, 112, 3) and read.notes == []
    masked, plain = (
        EchoImageProcessor(size=112, mask_sector=mask).prepare_clip(tmp_path / "clip.avi").frames.astype(int)
        for mask in (True, False)
    )
    box = CropBox.of_centre(112, 112, 0.1)
    sector = (clip.max(axis=0) > 0)[box.top : box.top + box.side, box.left : box.left + box.side]
    assert box.side == 90 and masked.shape == (16, 112, 112, 3)
    lit = plain.max(axis=(0, 3)) > 40
    assert lit.mean() == pytest.approx(sector.mean(), abs=0.03)
    assert np.abs(masked - plain)[:, lit].max() == 0


def test_camus_becomes_square_grey_clips_with_the_published_splits(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    splits = {"training": ["patient0002"], "validation": ["patient0003"], "testing": ["patient0001"]}
    source = write_camus(tmp_path / "camus", splits)
    summary = curate_lvef(source, tmp_path / "out", view="both")
    assert summary["counts"] == {"train": 1, "validation": 1, "test": 1} and summary["source"] == "CAMUS"
    row = rows_of(tmp_path / "out")[0]
    assert (row.id, row.split, row.values[TASK], row.echo_views) == ("patient0001", "test", 56.0, ("A4C", "A2C"))
    clip = read_echo_clip(tmp_path / "out" / row.echo_paths[0], 16, 2)
    assert clip.total_frames == 18 and clip.colour_space == "MONOCHROME"
    written = beating_fan(18, 120, 0)[0, :, ::2]  # 60 columns of 0.3 mm: 120 square ones
    assert clip.frames.shape == (9, 120, 120, 3)
    assert np.corrcoef(clip.frames[0, :, ::2, 0].ravel(), written.ravel())[0, 1] > 0.97
    (source / "database_nifti" / "patient0003" / "Info_2CH.cfg").write_text("EF: 40\n")
    with pytest.raises(TgmmError, match="different ejection fractions"):
        curate_lvef(source, tmp_path / "out", view="both")
    (source / "database_split" / "subgroup_training.txt").write_text("patient0009\n")
    with pytest.raises(TgmmError, match="stands in no subgroup"):
        curate_lvef(source, tmp_path / "out")
    (source / "database_split" / "subgroup_testing.txt").unlink()
    with pytest.raises(FileNotFoundError, match="a split of your own"):
        curate_lvef(source, tmp_path / "out")


def test_grey_levels_of_camus_are_not_guessed(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    splits = {"training": ["patient0002"], "validation": [], "testing": []}
    source = write_camus(tmp_path / "camus", splits)
    path = source / "database_nifti" / "patient0002" / "patient0002_4CH_half_sequence.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).random((60, 120, 18)), np.eye(4)), path)
    with pytest.raises(TgmmError, match="whole grey levels from 0 to 255"):
        curate_lvef(source, tmp_path / "out")
    path.write_bytes(b"no NIfTI")
    with pytest.raises(TgmmError, match="no NIfTI file"):
        curate_lvef(source, tmp_path / "out")


def test_the_configuration_means_the_same_as_the_table(tmp_path: Path, capsys) -> None:
    settings = yaml.safe_load((CONFIGS / "lvef_benchmark.yaml").read_text())["tasks"][TASK]
    assert {name: settings.get(name, []) for name in LVEF_SETTINGS} == LVEF_SETTINGS
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as failed:
        main(["curate-lvef", str(tmp_path / "empty"), "--out", str(tmp_path / "out")])
    assert failed.value.code == 1 and "neither FileList.csv" in capsys.readouterr().err
