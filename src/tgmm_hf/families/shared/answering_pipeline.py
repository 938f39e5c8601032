"""The pipeline of a model that answers in words: an ECG -> an answer and what it rests on, as JSON-able Python.

preprocess     ECGs -> model inputs and one report a ECG (conversation_processor.py)
_forward       inputs -> tokens
postprocess    tokens -> one dict an ECG
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ...pipeline_streaming import StreamingPipeline
from ...utils.code_revision import code_revision, without_adapter

MAX_NEW_TOKENS = 128
"""Longest report, in tokens. The published code allows 128 for prompt and report together."""
STATEMENT = (
    "Research software, not a medical device. A language model wrote this text. It can be wrong in every word, and it "
    "can be fluent where it is wrong."
)
NOT_MEASURED = "this model stores no evaluation, so nothing is known of how often its reports are right"


class AnsweringPipeline(StreamingPipeline):
    """The shared part of the pipelines of families with a language model. A subclass names the keys.

    Attributes:
        input_keys: keys that an input may have.
        question_key: the input key of the question.
        answer_key: key of the answer in the result.
        processor_options: parameters of a call that go to the processor, beside "strictness".
    """

    input_keys: tuple[str, ...]
    question_key: str
    answer_key: str
    processor_options: tuple[str, ...] = ()

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Sort the parameters of a call by step, as transformers asks for it."""
        options = ("strictness", *self.processor_options)
        if unknown := set(kwargs) - {*options, "generate_kwargs"}:
            raise ValueError(
                f"Unknown pipeline parameters {sorted(unknown)}; the pipeline takes {', '.join(options)} and "
                "generate_kwargs."
            )
        preprocess = {name: kwargs[name] for name in options if name in kwargs}
        forward = {"generate_kwargs": kwargs["generate_kwargs"]} if "generate_kwargs" in kwargs else {}
        return preprocess, forward, {}

    def preprocess(
        self, inputs: Sequence[Mapping[str, Any]], strictness: str | None = None, **options: Any
    ) -> dict[str, Any]:
        """Turn ECGs into model inputs.

        Args:
            inputs: as the class describes them.
            strictness: as the class describes it.
            options: values of `processor_options`.

        Returns:
            {"ids": value of "id" or None, "instructions": texts, "inputs": the processor's tensors on the model's
            device, empty if every ECG is refused, "reports": one report per ECG, see `MeitProcessor.__call__`}.
        """
        processor: Any = self.processor
        for item in inputs:
            if not isinstance(item, Mapping):
                raise TypeError(f"{self.one_input}, got {type(item).__name__}.")
            if unknown := set(item) - set(self.input_keys):
                raise ValueError(f"Unknown keys {sorted(unknown)} of an input; known are {list(self.input_keys)}.")
            if all(item.get(key) is None for key in self.input_keys if key not in ("id", self.question_key)):
                raise ValueError(f"{self.one_input}, got none: there is nothing to report on.")
        instructions = [item.get(self.question_key) or processor.instruction for item in inputs]
        features, reports = processor(
            **self.sources_of(inputs),
            text=instructions,
            strictness=strictness,
            on_refusal="report",
            return_report=True,
            return_tensors="pt",
            **options,
        )
        ids = [item.get("id") for item in inputs]
        return {"ids": ids, "instructions": instructions, "inputs": features.to(self.device), "reports": reports}

    def sources_of(self, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what the processor reads beside the text: argument -> one value for each input."""
        return {"ecg": [item["ecg"] for item in inputs]}

    def _forward(self, batch: dict[str, Any], generate_kwargs: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write the reports of a batch.

        Args:
            batch: what `preprocess` returns.
            generate_kwargs: as the class describes it.

        Returns:
            The batch with two more keys: "tokens", the written tokens of every row, and "generation", the settings.
        """
        model: Any = self.model
        tokenizer: Any = self.processor.tokenizer  # type: ignore[union-attr]
        model.eval()
        stored = model.generation_config
        end = tokenizer.eos_token_id if stored.eos_token_id is None else stored.eos_token_id
        padding = tokenizer.pad_token_id if stored.pad_token_id is None else stored.pad_token_id
        defaults = {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False, "eos_token_id": end}
        defaults["pad_token_id"] = padding if padding is not None else end if isinstance(end, int) else end[0]
        settings = {**defaults, **(generate_kwargs or {})}
        tokens: list[list[int]] = []
        if batch["inputs"]:
            if settings.get("num_return_sequences", 1) != 1:
                raise ValueError("The pipeline writes one report for each ECG: leave out num_return_sequences.")
            sequences = model.generate(**batch["inputs"], **settings)
            tokens = sequences[:, batch["inputs"]["input_ids"].shape[1] :].tolist()
        return {**batch, "tokens": tokens, "generation": settings}

    def postprocess(self, batch: dict[str, Any], **_: Any) -> list[dict[str, Any]]:
        """Turn what `_forward` returns into a list of one JSON-able dict per ECG. The class lists the keys."""
        model: Any = self.model
        base = without_adapter(model)
        binding = self.binding_check(model, self.processor)
        common = {"statement": STATEMENT, "generation": batch["generation"]}
        common["fusion"] = getattr(base.config, "fusion", "tokens")  # Heartcare knows placeholder tokens only
        common |= {"sources": base.config.encoder_sources or {}, "model": base.name_or_path}
        common |= {"model_fingerprint": binding.model, "processor_fingerprint": binding.processor}
        common["code_revision"] = code_revision(model, self.processor)
        results = []
        for identifier, instruction, report in zip(batch["ids"], batch["instructions"], batch["reports"], strict=True):
            result: dict[str, Any] = {"id": identifier, self.answer_key: None, "complete": False}
            result[self.question_key] = instruction
            notes = list(report["notes"])
            if report["row"] is None:
                notes.append(f"the ECG cannot be used: no {self.answer_key}")
            else:
                written, is_whole = self._read(batch["tokens"][report["row"]], batch["generation"])
                result |= {self.answer_key: written, "complete": is_whole}
                notes += [NOT_MEASURED] if is_whole else [NOT_MEASURED, f"the {self.answer_key} was cut, it has no end"]
            result |= {key: report[key] for key in ("used", "refused")}
            result |= {"checks": [*report["checks"], *binding.checks], "notes": [*notes, *binding.notes], **common}
            results.append(result)
        return results

    def _read(self, tokens: list[int], generation: Mapping[str, Any]) -> tuple[str, bool]:
        """Return the text of written tokens, and whether an end token is among them."""
        end = generation["eos_token_id"]
        ends = {end} if isinstance(end, int) else set(end or ())
        place = next((index for index, token in enumerate(tokens) if token in ends), None)
        tokenizer: Any = self.processor.tokenizer  # type: ignore[union-attr]
        return tokenizer.decode(tokens[:place], skip_special_tokens=True).strip(), place is not None


__all__ = ["STATEMENT", "AnsweringPipeline"]
