"""Prepared rows -> batches: equality with the processor, masks, labels, crops."""

import json

import numpy as np
import pytest
import torch
from closeness import assert_close, is_close
from cohort_files import SIZE, cohort_rows
from fresh_process import run_fresh
from torch.utils.data import DataLoader

from tgmm_hf.configuration_tasks import DEFAULT_TASKS
from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prepare import load_prepared, prepare
from tgmm_hf.data.tokenizer import CHARACTERS, lab_texts, task_texts, train_tokenizer
from tgmm_hf.processing_tgmm import default_processor

INPUTS = ["input_ids", "attention_mask", "ecg_values", "ecg_mask", "pixel_values_videos", "view_mask"]


@pytest.fixture(scope="module")
def splits(cohort, processor, tmp_path_factory):
    out = tmp_path_factory.mktemp("collator") / "out"
    prepare(cohort / "cohort.csv", out, processor)
    return load_prepared(out)


@pytest.fixture(scope="module")
def train(splits):
    return splits["train"]


def test_batch_equals_the_output_of_the_processor(train, cohort, processor, config):
    batch = TgmmCollator(processor, config, training=False)(train.__getitems__(list(range(6))))
    rows = [row for row in cohort_rows(10) if row["split"] == "train"]
    direct = processor(
        labs=[
            {name[5:]: value for name, value in row.items() if name.startswith("labs.") and name != "labs.NT-proBNP"}
            | {"NTproBNP": (row["labs.NT-proBNP"], "pg/mL")}
            for row in rows
        ],
        ecg=[cohort / row["ecg_path"] if row["ecg_path"] else None for row in rows],
        echo=[[cohort / path for path in row["echo_paths"].split(";")] if row["echo_paths"] else None for row in rows],
        views={
            path.split("/")[1]: view
            for row in rows
            if row["echo_paths"]
            for path, view in zip(row["echo_paths"].split(";"), row["echo_views"].split(";"), strict=True)
        },
        return_tensors="pt",
    )
    assert sorted(direct) == sorted(INPUTS)
    for name in INPUTS:
        assert_close(batch[name], direct[name])
    assert batch["id"] == [row["id"] for row in rows]


def test_batch_equals_its_singles(train, processor, config):
    collator = TgmmCollator(processor, config, training=False)
    batch = collator(train.__getitems__([0, 1, 2, 3]))
    for index in range(4):
        single = collator([train[index]])
        for name in INPUTS:
            if name in single:
                length = single[name].shape[1]
                assert_close(batch[name][index][:length], single[name][0])
            elif "mask" in name:
                assert not batch[name][index].any()


def test_absent_modality_has_no_keys(train, processor, config):
    collator = TgmmCollator(processor, config, training=False)
    assert set(collator([train[0]])) == {*INPUTS[2:], "labels", "id"}  # a0 lacks labs
    assert set(collator([train[1]])) == {*INPUTS[:2], *INPUTS[4:], "labels", "id"}  # a1 lacks the ECG
    assert set(collator([train[2]])) == {*INPUTS[:4], "labels", "id"}  # a2 lacks the echo


def test_labels_and_their_masks(train, processor, config):
    batch = TgmmCollator(processor, config, training=True)(train.__getitems__([0, 1, 2]))
    assert "id" not in batch
    labels = batch["labels"]
    assert labels["retrieval"] == {}
    assert labels["hf_diagnosis"]["label"].tolist() == [0, 1, 0] and labels["hf_diagnosis"]["mask"].all()
    assert labels["hf_diagnosis"]["label"].dtype == labels["hf_risk"]["event"].dtype == torch.int64
    assert labels["hf_risk"]["time"].tolist() == [100.5, 0.0, 102.5]
    assert labels["hf_risk"]["event"].tolist() == [0, 0, 2]
    assert labels["hf_risk"]["mask"].tolist() == [True, False, True]


def test_tasks_without_a_column_are_masked(train, processor):
    tasks = {
        "rhythm": {"kind": "diagnosis", "question": "?", "learnable_phrase": "x", "candidates": ["a", "b"]},
        "hf_diagnosis": {"kind": "diagnosis", "question": "?", "learnable_phrase": "x", "candidates": ["a", "b"]},
    }
    config = TgmmConfig.tiny(tasks=tasks, echo_config={"image_size": SIZE, "num_frames": 4})
    labels = TgmmCollator(processor, config, training=True)([train[0]])["labels"]
    assert set(labels) == {"rhythm", "hf_diagnosis"}
    assert not labels["rhythm"]["mask"].any() and labels["rhythm"]["label"].tolist() == [0]


def test_crops_are_random_in_training_and_central_in_evaluation(train, processor, config):
    rows = [train[0]]

    def draw(training, seed):
        collator = TgmmCollator(processor, config, training=training, seed=seed)
        return [collator(rows)["ecg_values"] for _ in range(3)]

    first, again, other, central = draw(True, 1), draw(True, 1), draw(True, 2), draw(False, 1)
    for a, b in zip(first, again, strict=True):
        assert_close(a, b)
    assert not is_close(first[0], first[1]) and not is_close(first[0], other[0])
    assert_close(central[0], central[1])


def test_max_views_samples_views_anew(train, processor, config):
    rows = [row for row in (train[i] for i in range(len(train))) if len(row["clip_views"]) > 1]
    few = TgmmCollator(processor, config, training=True, max_views=1)
    seen = [few(rows)["view_mask"] for _ in range(20)]
    available = TgmmCollator(processor, config, training=True)(rows)["view_mask"]
    assert all((mask.sum(1) == 1).all() and (mask & ~available).sum() == 0 for mask in seen)
    assert (torch.stack(seen).any(0) == available).all()
    whole = TgmmCollator(processor, config, training=False, max_views=1)(rows)
    assert torch.equal(whole["view_mask"], available)
    with pytest.raises(ValueError, match="got 0"):
        TgmmCollator(processor, config, training=True, max_views=0)


def test_cell_dropout_hides_cells_anew(train, processor, config):
    rows = [row for row in (train[i] for i in range(len(train))) if row["labs"]]

    def lengths(training, chance):
        collator = TgmmCollator(processor, config, training=training, cell_dropout=chance)
        return torch.stack([collator(rows)["attention_mask"].sum(1) for _ in range(12)])

    whole, some, nearly_none = lengths(True, 0.0)[0], lengths(True, 0.5), lengths(True, 0.99)
    assert (some <= whole).all() and (some < whole).any() and (some != some[0]).any()
    assert (nearly_none > 2).all()  # more than the two special tokens: one cell stays
    assert (lengths(False, 0.5) == whole).all()


def test_part_dropout_hides_parts_of_ecg_and_clips_in_training_only(train, processor, config):
    """Hidden parts are zero, the rest is as before, and the masks stay."""
    rows = [train[i] for i in range(len(train)) if len(train[i]["clip_views"])]

    def batch(training, share):
        return TgmmCollator(processor, config, training=training, part_dropout=share)(rows)

    whole, some, evaluated = batch(True, 0.0), batch(True, 0.9), batch(False, 0.9)
    assert torch.equal(evaluated["pixel_values_videos"], batch(False, 0.0)["pixel_values_videos"])
    present = whole["view_mask"]
    clips, usual = some["pixel_values_videos"][present], whole["pixel_values_videos"][present]
    assert 0.1 < (clips == 0).float().mean() - (usual == 0).float().mean() < 0.9
    assert torch.equal(clips[clips != 0], usual[clips != 0])
    assert (some["ecg_values"] == 0).float().mean() > (whole["ecg_values"] == 0).float().mean() + 0.1
    assert torch.equal(some["ecg_mask"], whole["ecg_mask"]) and torch.equal(some["view_mask"], whole["view_mask"])


def test_workers_draw_their_own_crops_anew_each_epoch(train, processor, config):
    class SameRow(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return train[0]

    collator = TgmmCollator(processor, config, training=True, seed=0)

    def epochs(seed):
        generator = torch.Generator().manual_seed(seed)
        loader = DataLoader(SameRow(), batch_size=1, num_workers=2, collate_fn=collator, generator=generator)
        return [batch["ecg_values"] for _ in range(2) for batch in loader]

    values = epochs(0)
    assert len({value.numpy().tobytes() for value in values}) == 4
    for a, b in zip(values, epochs(0), strict=True):
        assert_close(a, b)


def test_other_geometry_and_labels_are_refused(train, config):
    other = TgmmConfig.tiny()
    tokenizer = train_tokenizer(task_texts(config.tasks))
    with pytest.raises(ValueError, match=r"\(4, 32, 96\).*\(16, 64, 192\)"):
        TgmmCollator(default_processor(other, tokenizer), other, training=False)([train[0]])
    collator = TgmmCollator(default_processor(config, tokenizer), config, training=False)
    with pytest.raises(ValueError, match="2 candidate answers but a label is 5"):
        collator([{**train[0], "label_hf_diagnosis": 5}])


def test_padding_frames_stay_zero(train, processor, config):
    row = {**train[0]}
    row["clip_frames"] = np.array([1, 2], np.int32)
    pixels = TgmmCollator(processor, config, training=False)([row])["pixel_values_videos"][0]
    views = row["clip_views"]
    assert pixels[views[0], 0].any() and not pixels[views[0], 1:].any()
    assert pixels[views[1], 1].any() and not pixels[views[1], 2:].any()


# ----------------------------------------------------------------------------------------------------------- tokenizer


def test_tokenizer_is_reproducible_and_splits_numbers_into_digits(train, processor, config, tmp_path):
    texts = [*lab_texts(train, processor), *task_texts(config.tasks)]
    tokenizer = train_tokenizer(texts, vocab_size=1024)
    again = train_tokenizer(texts, vocab_size=1024)
    assert tokenizer.get_vocab() == again.get_vocab()
    assert len(tokenizer) <= 1024
    assert tokenizer.tokenize("NTproBNP is 5210.5") == ["NTproBNP", "is", "5", "##2", "##1", "##0", ".", "5"]
    assert tokenizer.unk_token_id not in tokenizer("Heart ZOLEDRONATE 17 µg/dL (>2.8) ≤").input_ids
    assert tokenizer.tokenize("heart failure") == ["heart", "failure"]
    assert (
        tokenizer.cls_token_id == tokenizer("x").input_ids[0] and tokenizer.sep_token_id == tokenizer("x").input_ids[-1]
    )
    tokenizer.save_pretrained(tmp_path)
    loaded = type(tokenizer).from_pretrained(tmp_path)
    assert loaded(texts).input_ids == tokenizer(texts).input_ids


def test_trained_tokenizer_keeps_to_its_size(config):
    small = train_tokenizer(task_texts(config.tasks), vocab_size=260)
    assert len(small) == 260
    with pytest.raises(ValueError, match="got 100"):
        train_tokenizer([], vocab_size=100)
    assert len(CHARACTERS) == len(set(CHARACTERS))


def test_vocabulary_is_the_same_in_every_process():
    """The library's own trainer breaks ties by hash order; ours must not."""
    script = (
        "import json, sys\n"
        "assert hash('a') != int(sys.argv[1])\n"
        "from tgmm_hf.configuration_tgmm import DEFAULT_TASKS\n"
        "from tgmm_hf.data.tokenizer import task_texts, train_tokenizer\n"
        "print(json.dumps(train_tokenizer(task_texts(DEFAULT_TASKS) * 2, vocab_size=400).get_vocab()))\n"
    )
    run = run_fresh(script, hash("a"))
    assert run.returncode == 0, run.stderr[-3000:]
    assert json.loads(run.stdout) == train_tokenizer(task_texts(DEFAULT_TASKS) * 2, vocab_size=400).get_vocab()
