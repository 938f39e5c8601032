"""Give a model one more task, and start the tasks' own weights from the text encoder's word embeddings."""

from typing import Any

import torch
from torch import nn

from ..configuration_tasks import TgmmTask, check_task
from .response import ResponseDecoder


@torch.no_grad()
def initialise_texts(model: Any) -> None:
    """Start the learned task contents and the answer embeddings from word embeddings (paper, 4.2.3).

    Args:
        model: a `TgmmModel` whose text encoder has its weights.
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
        settings: see `DEFAULT_TASKS`.
        tokenizer: the processor's tokenizer.

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
    """Add a task to a configuration and write its token ids; leave the configuration as it was after an error."""
    tasks_before = config.tasks
    config.tasks = {**tasks_before, name: task}
    try:
        config.tokenize_tasks(tokenizer)
    except ValueError:
        config.tasks = tasks_before
        raise


def _start_learned_content(learned: nn.Parameter, phrase: list[int], words: torch.Tensor) -> None:
    """Copy the word embeddings of a task's phrase, repeated, into its learned content (tokens, text width)."""
    repeated = [phrase[i % len(phrase)] for i in range(len(learned))]
    learned.copy_(words[torch.tensor(repeated, device=words.device)])


def _start_answers(model: Any, first: int, words: torch.Tensor) -> None:
    """Start the answer embeddings from vocabulary entry `first` on."""
    ids = torch.tensor(model.config.answer_token_ids[first:], dtype=torch.long, device=words.device)
    rows = words[ids].to(model.response.embedding.weight.dtype)
    if rows.shape[1] != model.config.hidden_size:
        if model.config.guidance == "none":
            return  # nothing projects text to the model's width, so the random start stays
        rows = model.guidance.project_text(rows)
    model.response.embedding.weight[ResponseDecoder.OFFSET + first :].copy_(rows)
