"""Give a model one more task, and start the tasks' own weights from the text encoder's word embeddings."""

from typing import Any

import torch
from torch import nn

from ..configuration_tasks import TgmmTask, check_task
from .response import ResponseDecoder


@torch.no_grad()
def initialise_texts(model: Any) -> None:
    """Set the tasks' learned tokens and the answer embeddings to word embeddings, in place (paper, 4.2.3).

    Learned tokens start as the word embeddings of the task's `learnable_phrase`. An answer embedding starts as the word
    embedding of its token.

    Args:
        model: a `TgmmModel` whose text encoder already has its trained weights.
    """
    words = model.get_input_embeddings().weight
    learned_contents = model.guidance.learned if hasattr(model, "guidance") else {}
    for name, learned in learned_contents.items():
        _start_learned_content(learned, model.config.tasks[name]["phrase_ids"], words)
    if model.config.response == "decoder" and hasattr(model, "response"):
        _start_answers(model, 0, words)


@torch.no_grad()
def add_task(model: Any, name: str, settings: dict[str, Any], tokenizer: Any) -> None:
    """Add a task to a model in place; everything that the model has learned is kept.

    Args:
        model: a `TgmmModel`.
        name: name of the new task.
        settings: settings of the task, see `DEFAULT_TASKS`.
        tokenizer: the tokenizer of the model's processor. It turns question and answers into token ids.

    Raises:
        ValueError: if the model has a task of this name, the settings are wrong, or the model has no response module.
    """
    config = model.config
    if name in config.tasks:
        raise ValueError(f"The model already has a task {name!r}. Choose another name.")
    task = TgmmTask(settings)
    check_task(name, task)
    if task["kind"] != "retrieval" and not hasattr(model, "response"):
        raise ValueError("This model has no response module, because it was built for retrieval tasks only.")
    vocabulary_size = len(config.answer_token_ids)
    _tokenize_with(config, name, task, tokenizer)
    words = model.get_input_embeddings().weight
    if config.guidance == "human+learned" and task["num_learnable_tokens"]:
        learned = nn.Parameter(words.new_zeros(task["num_learnable_tokens"], words.shape[1]))
        model.guidance.learned[name] = learned
        _start_learned_content(learned, task["phrase_ids"], words)
    if task["kind"] == "retrieval":
        if not hasattr(model, "embedding"):
            model.embedding = nn.Linear(config.hidden_size, config.embedding_dim, bias=False).to(words)
    elif config.response == "linear":
        model.response[name] = nn.Linear(config.hidden_size, len(task["candidates"])).to(words)
    else:
        model.response.grow(len(config.answer_token_ids) - vocabulary_size)
        _start_answers(model, vocabulary_size, words)


def _tokenize_with(config: Any, name: str, task: TgmmTask, tokenizer: Any) -> None:
    """Add `task` to the tasks of `config` under `name`, and write its token ids, in place.

    If the tokenizer refuses a text with a ValueError, the configuration keeps its old tasks and the error is raised.
    """
    tasks_before = config.tasks
    config.tasks = {**tasks_before, name: task}
    try:
        config.tokenize_tasks(tokenizer)
    except ValueError:
        config.tasks = tasks_before
        raise


def _start_learned_content(learned: nn.Parameter, phrase: list[int], words: torch.Tensor) -> None:
    """Copy the word embeddings of a phrase into the learned tokens of a task, in place.

    Args:
        learned: (number of learned tokens, text width).
        phrase: token ids. They are repeated until the learned tokens are full.
        words: (vocabulary, text width) word embeddings of the text encoder.
    """
    repeated = [phrase[i % len(phrase)] for i in range(len(learned))]
    learned.copy_(words[torch.tensor(repeated, device=words.device)])


def _start_answers(model: Any, first: int, words: torch.Tensor) -> None:
    """Copy word embeddings into the decoder's embeddings of answer tokens, in place.

    Nothing is copied if the text encoder has another width than the model and there is no guidance to project words.

    Args:
        model: a `TgmmModel` with a response decoder.
        first: index in `config.answer_token_ids` of the first token to set. Tokens before it keep their embeddings.
        words: (vocabulary, text width) word embeddings of the text encoder.
    """
    ids = torch.tensor(model.config.answer_token_ids[first:], dtype=torch.long, device=words.device)
    rows = words[ids].to(model.response.embedding.weight.dtype)
    if rows.shape[1] != model.config.hidden_size:
        if model.config.guidance == "none":
            return  # nothing projects text to the model's width, so the random start stays
        rows = model.guidance.project_text(rows)
    model.response.embedding.weight[ResponseDecoder.OFFSET + first :].copy_(rows)
