"""Give a model one more task, and start the tasks' own weights from the text encoder's word embeddings."""

from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..configuration_measured_tasks import MEASURED_KINDS, num_head_outputs
from ..configuration_tasks import CANDIDATE_KINDS, TgmmTask, check_task
from ..configuration_tgmm import TgmmConfig
from .answering import AnswersTasks
from .response import ResponseDecoder


@torch.no_grad()
def initialise_texts(model: AnswersTasks) -> None:
    """Set the tasks' learned tokens and the answer embeddings to word embeddings, in place (paper, 4.2.3).

    Learned tokens start as the word embeddings of the task's `learnable_phrase`. An answer embedding starts as the word
    embedding of its token.

    Args:
        model: a `TgmmModel` whose text encoder already has its trained weights.
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
        settings: settings of the task, see `DEFAULT_TASKS`.
        tokenizer: the tokenizer of the model's processor. It turns question and answers into token ids.

    Raises:
        ValueError: if the model has a task of this name, the settings are wrong, or the model has no response module.
    """
    config = model.config
    if name in config.tasks:
        raise ValueError(f"The model already has a task {name!r}. Choose another name.")
    task: TgmmTask = dict(settings)
    check_task(name, task)
    if task["kind"] in CANDIDATE_KINDS and not hasattr(model, "response"):
        raise ValueError("This model has no response module, because it was built without a diagnosis or prognosis.")
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
    elif task["kind"] in MEASURED_KINDS:
        if not hasattr(model, "heads"):
            model.heads = nn.ModuleDict()
        model.heads[name] = new_head(config, name).to(words)
    elif config.response == "linear":
        cast(nn.ModuleDict, model.response)[name] = nn.Linear(config.hidden_size, len(task["candidates"])).to(words)
    else:
        cast(ResponseDecoder, model.response).grow(len(config.answer_token_ids) - vocabulary_size)
        _start_answers(model, vocabulary_size, words)


def new_head(config: TgmmConfig, name: str) -> nn.Linear:
    """Make the head of a regression or multilabel, with random weights."""
    return nn.Linear(config.hidden_size, num_head_outputs(config.tasks[name]))


def _word_embeddings(model: AnswersTasks) -> torch.Tensor:
    """Return the text encoder's word embeddings (vocabulary, text width)."""
    return cast(nn.Embedding, model.get_input_embeddings()).weight


def _tokenize_with(config: TgmmConfig, name: str, task: TgmmTask, tokenizer: PreTrainedTokenizerBase) -> None:
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


def _start_answers(model: AnswersTasks, first: int, words: torch.Tensor) -> None:
    """Copy word embeddings into the decoder's embeddings of answer tokens, in place.

    Nothing is copied if the text encoder has another width than the model and there is no guidance to project words.

    Args:
        model: a `TgmmModel` with a response decoder.
        first: index in `config.answer_token_ids` of the first token to set. Tokens before it keep their embeddings.
        words: (vocabulary, text width) word embeddings of the text encoder.
    """
    ids = torch.tensor(model.config.answer_token_ids[first:], dtype=torch.long, device=words.device)
    answers = cast(ResponseDecoder, model.response).embedding.weight
    rows = words[ids].to(answers.dtype)
    if rows.shape[1] != model.config.hidden_size:
        if model.config.guidance == "none":
            return  # nothing projects text to the model's width, so the random start stays
        rows = model.guidance.project_text(rows)
    answers[ResponseDecoder.OFFSET + first :].copy_(rows)
