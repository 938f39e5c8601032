"""The cohort's own WordPiece vocabulary."""

import pytest

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.training.tokenizer import train_tokenizer

TEXTS = [f"Creatinine of the patient is {value / 10}; age of the patient is {value}" for value in range(40, 90)]


def test_text_and_task_words_are_known_and_round_trip() -> None:
    config = TgmmConfig.tiny()
    tokenizer = train_tokenizer(TEXTS, config.tasks, 1024)
    ids = tokenizer(TEXTS[0])["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert (ids[0], ids[-1], tokenizer.pad_token_id) == (tokenizer.cls_token_id, tokenizer.sep_token_id, 0)
    assert tokenizer.tokenize("heart failure") == ["heart", "failure"]
    assert len(tokenizer) <= 1024
    config.tokenize_tasks(tokenizer)  # raises where a candidate has an unknown token


def test_same_text_gives_the_same_vocabulary() -> None:
    tasks = TgmmConfig.tiny().tasks
    assert train_tokenizer(TEXTS, tasks, 512).get_vocab() == train_tokenizer(TEXTS, tasks, 512).get_vocab()


def test_refusals() -> None:
    tasks = TgmmConfig.tiny().tasks
    with pytest.raises(ValueError, match="No training patient has lab text"):
        train_tokenizer(["", ""], tasks, 512)
    with pytest.raises(ValueError, match="vocab_size is 20"):
        train_tokenizer(TEXTS, tasks, 20)
