"""Give a model one more task, and start the tasks' own weights from the text encoder's word embeddings."""

from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..configuration_tasks import TgmmTask, check_task
from ..configuration_tgmm import TgmmConfig
from .answering import AnswersTasks
from .response import ResponseDecoder


@torch.no_grad()
def initialise_texts(model: AnswersTasks) -> None:
    """Start the learned task contents and the answer embeddings from word embeddings (paper, 4.2.3).

    Args:
        model: a `TgmmModel` whose text encoder has its weights.
    """
    words = _word_embeddings(model)
    if hasattr(model, "guidance"):
        for name, learned in model.guidance.learned.items():
            _start_learned_content(learned, model.config.tasks[name]["phrase_ids"], words)
    if model.config.response == "decoder" and hasattr(model, "response"):
        _start_answers(model, 0, words)


@torch.no_grad()
def add_task(model: AnswersTasks, name: str, settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
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
    words = _word_embeddings(model)
    if config.guidance == "human+learned" and task["num_learnable_tokens"]:
        learned = nn.Parameter(words.new_zeros(task["num_learnable_tokens"], words.shape[1]))
        model.guidance.learned[name] = learned
        _start_learned_content(learned, task["phrase_ids"], words)
    if task["kind"] == "retrieval":
        if not hasattr(model, "embedding"):
            model.embedding = nn.Linear(config.hidden_size, config.embedding_dim, bias=False).to(words)
    elif config.response == "linear":
        cast(nn.ModuleDict, model.response)[name] = nn.Linear(config.hidden_size, len(task["candidates"])).to(words)
    else:
        cast(ResponseDecoder, model.response).grow(len(config.answer_token_ids) - vocabulary_size)
        _start_answers(model, vocabulary_size, words)


def _word_embeddings(model: AnswersTasks) -> torch.Tensor:
    """Return the text encoder's word embeddings (vocabulary, text width)."""
    return cast(nn.Embedding, model.get_input_embeddings()).weight


def _tokenize_with(config: TgmmConfig, name: str, task: TgmmTask, tokenizer: PreTrainedTokenizerBase) -> None:
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


def _start_answers(model: AnswersTasks, first: int, words: torch.Tensor) -> None:
    """Start the answer embeddings from vocabulary entry `first` on."""
    ids = torch.tensor(model.config.answer_token_ids[first:], dtype=torch.long, device=words.device)
    answers = cast(ResponseDecoder, model.response).embedding.weight
    rows = words[ids].to(answers.dtype)
    if rows.shape[1] != model.config.hidden_size:
        if model.config.guidance == "none":
            return  # nothing projects text to the model's width, so the random start stays
        rows = model.guidance.project_text(rows)
    answers[ResponseDecoder.OFFSET + first :].copy_(rows)
