"""Hostile saved models: damaged configurations, weights, processors and tokenizers; and wrong arguments."""

import json
import os
import shutil
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cohort_files import FRAMES, SIZE, small_processor
from ecg_files import STEPS, heart_steps
from kinds_echo import clip_of
from safetensors.torch import load_file, save_file
from tiny_models import smallest_config
from trials import Answer, Trial, damaged, kind, no_oracle

from tgmm_hf.data.prediction import load_pipeline
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.utils.names import LEADS


@cache
def saved_model() -> Path:
    """A tiny model with its processor, saved once in this process."""
    path = Path(tempfile.mkdtemp(prefix="tgmm-model-")) / "model"
    config = smallest_config(labs_config={"vocab_size": 512, "hidden_size": 32, "intermediate_size": 64})
    assert (config.echo_config.image_size, config.echo_config.num_frames) == (SIZE, FRAMES)
    processor = small_processor(config)
    config.tokenize_tasks(processor.tokenizer)
    torch.manual_seed(0)
    model = TgmmModel(config)
    model.initialise_texts()
    model.eval().save_pretrained(path)
    processor.save_pretrained(path)
    return path


def copy_model(folder: Path) -> Path:
    """Copy the model; its files are links until one is replaced."""
    shutil.copytree(saved_model(), folder / "model", copy_function=os.link)
    return folder / "model"


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def patient() -> dict[str, Any]:
    ecg = {"signal": heart_steps(0) / STEPS, "sampling_rate": 500, "lead_names": list(LEADS)}
    return {"labs": {"Creatinine": 1.4, "medical history": "diabetes"}, "ecg": ecg, "echo": {"A4C": clip_of(0)}}


def predict(path: Path) -> Answer:
    """Load a model as `tgmm predict` does, and answer one patient."""
    prediction = load_pipeline(str(path))(patient())
    numbers = [*prediction["hf_diagnosis"]["probabilities"].values(), prediction["hf_risk"]["risk"]]
    marks = [f"{check['code']} {check['text']}" for check in prediction["checks"]] + prediction["notes"]
    marks += [entry["reason"] for entry in prediction["refused"]]
    return Answer({"answers": np.array(numbers, dtype=np.float64)}, marks)


@cache
def right() -> Answer:
    return predict(saved_model())


def same_answers(answer: Answer) -> str:
    """Demand the same probabilities, or a mark."""
    if set(answer.marks) - set(right().marks):
        return ""
    off = float(np.abs(answer.inputs["answers"] - right().inputs["answers"]).max())
    return "" if off < 1e-5 else f"the answers are off by {off:.3g}"


ODD: tuple[Any, ...] = (None, [], {}, "x", -1, 0, 1.5, 10**9, True, [1], {"a": 1}, "../x", "nan", 3, 64, [[]])


def changed(random: np.random.Generator, content: Any) -> tuple[str, Any]:
    """Replace one value somewhere in nested JSON, or remove it."""
    here, path = content, ""
    while True:
        key = list(here)[random.integers(len(here))]
        path += f".{key}"
        if isinstance(here[key], dict) and here[key] and random.random() < 0.8:
            here = here[key]
            continue
        if random.random() < 0.2:
            del here[key]
            return f"{path} missing", content
        here[key] = ODD[random.integers(len(ODD))]
        return f"{path} = {here[key]}", content


@kind("model_config")
def model_config(random, folder):
    path = copy_model(folder)
    file = path / "config.json"
    content = json.loads(file.read_text())
    way = random.random()
    if way < 0.75:
        what, content = changed(random, content)
        text = json.dumps(content).encode()
    elif way < 0.85:
        what, text = (
            "another text",
            [b"[]", b"", b"null", b"{", b"[" * 100_000, b"\xff\xfe", b'{"model_type": "bert"}', b"{}"][
                random.integers(8)
            ],
        )
    else:
        what, text = damaged(random, file.read_bytes())
    replace(file, text)
    return Trial(what, partial(predict, path), same_answers)


@kind("model_weights")
def model_weights(random, folder):
    path = copy_model(folder)
    file = path / "model.safetensors"
    way = str(
        random.choice(
            [
                "bytes",
                "header",
                "cut",
                "missing",
                "transposed",
                "nan",
                "zero",
                "dtype",
                "shape",
                "renamed",
                "extra",
                "gone",
                "exchanged",
                "pickle",
            ]
        )
    )
    content = file.read_bytes()
    what = way
    if way in ("bytes", "header", "cut"):
        length = int.from_bytes(content[:8], "little")
        if way == "cut":
            changed_bytes = content[: int(random.integers(len(content)))]
        elif way == "header":
            what, head = damaged(random, content[: 8 + length])
            changed_bytes = head + content[8 + length :]
        else:
            data = bytearray(content)
            data[8 + length + int(random.integers((len(content) - length - 8) // 4)) * 4 + 3] ^= 0x40  # an exponent
            changed_bytes = bytes(data)
        replace(file, changed_bytes)
    elif way in ("gone", "pickle"):
        file.unlink()
        if way == "pickle":
            (path / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n.")
    else:
        tensors = load_file(file)
        square = [name for name, tensor in tensors.items() if tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1]]
        name = str(random.choice(square if way in ("transposed", "exchanged") else list(tensors)))
        if way == "transposed":
            tensors[name] = tensors[name].T.contiguous()
        elif way == "exchanged":
            other = next((one for one in square if one != name and tensors[one].shape == tensors[name].shape), name)
            tensors[name], tensors[other] = tensors[other].clone(), tensors[name].clone()
        elif way == "nan":
            tensors[name] = torch.full_like(tensors[name].float(), float("nan"))
        elif way == "zero":
            tensors[name] = torch.zeros_like(tensors[name])
        elif way == "dtype":
            tensors[name] = tensors[name].to(torch.float16)
        elif way == "shape":
            tensors[name] = tensors[name].reshape(-1)[:-1].clone() if tensors[name].numel() > 1 else torch.zeros(2)
        else:
            tensor = tensors[name].clone()
            if way != "extra":
                del tensors[name]
            if way != "missing":
                tensors["encoder.unknown"] = tensor
        what = f"{way} {name}"
        file.unlink()
        save_file(tensors, file, metadata={"format": "pt"})
    return Trial(what, partial(predict, path), same_answers)


@kind("model_processor")
def model_processor(random, folder):
    """Settings of the saved processor that are changed, and files of the tokenizer that are damaged or missing."""
    path = copy_model(folder)
    files = [
        file
        for file in sorted(path.iterdir())
        if file.suffix == ".json" and file.name != "config.json" and file.name != "generation_config.json"
    ]
    file = files[random.integers(len(files))]
    way = random.random()
    if way < 0.6:
        what, content = changed(random, json.loads(file.read_text()))
        text = json.dumps(content).encode()
    elif way < 0.8:
        what, text = damaged(random, file.read_bytes())
    elif way < 0.9:
        what, text = "another text", [b"[]", b"", b"{}", b"null"][random.integers(4)]
    else:
        what, text = "gone", None
    if text is None:
        file.unlink()
    else:
        replace(file, text)
    return Trial(f"{file.name} {what}", partial(predict, path), same_answers)


@cache
def pipe() -> Any:
    return load_pipeline(str(saved_model()))


CALLS: tuple[Any, ...] = (
    None, 5, "x", b"x", [], [None], [5], [[]], {}, {"x": 1}, {"labs": None}, {"labs": 5}, {"labs": "x"}, {"labs": []}, {"labs": {}}, {"ecg": 5}, {"ecg": {}}, {"ecg": ""}, {"ecg": []}, {"ecg": object()},
    {"echo": 5}, {"echo": ""}, {"echo": []}, {"echo": {}}, {"echo": {"A4C": 5}}, {"echo": ["nothing.dcm"]}, {"views": {"a": "A4C"}}, {"labs": {"Sodium": 140}, "views": 5}, {"echo": ["a"], "views": ["A4C"]},
    {"labs": {"Sodium": 140}, "id": object()}, {"labs": {"Sodium": 140}, "ecg": np.zeros((12, 5000))}, {1: 2}, {"labs": [{"Sodium": 140}]}, {"ecg": Path("/")}, {"ecg": "/dev/zero"}, {"echo": "/dev"}, {"ecg": "\0"}, {"echo": "\0"},
)  # fmt: skip
OPTIONS: tuple[dict[str, Any], ...] = (
    {}, {}, {}, {"tasks": []}, {"tasks": "x"}, {"tasks": ["hf_risk", "x"]}, {"tasks": 5}, {"crop": "left"}, {"crop": None}, {"batch_size": 0}, {"batch_size": -1}, {"batch_size": "8"}, {"view_classifier": 5}, {"x": 1},
)  # fmt: skip


@kind("pipeline_arguments")
def pipeline_arguments(random, folder):
    call, options = CALLS[random.integers(len(CALLS))], OPTIONS[random.integers(len(OPTIONS))]

    def read() -> Answer:
        result = pipe()(call, **options)
        predictions = result if isinstance(result, list) else [result]
        marks = [str(part) for one in predictions for key in ("refused", "notes", "checks") for part in one[key]]
        return Answer(value=predictions, marks=marks)

    return Trial(f"{str(call)[:60]} {options}", read, no_oracle)


LABELS: tuple[Any, ...] = (
    5, [], "x", {}, {"x": {}}, {"hf_diagnosis": 5}, {"hf_diagnosis": {"label": 1}}, {"hf_diagnosis": {"label": torch.tensor([5])}}, {"hf_diagnosis": {"label": torch.tensor([-1])}}, {"hf_diagnosis": {}},
    {"hf_diagnosis": {"label": torch.tensor([0, 1])}}, {"hf_diagnosis": {"label": torch.tensor([0.5])}}, {"hf_diagnosis": {"label": torch.tensor([float("nan")])}}, torch.tensor([1]),
    {"hf_risk": {"time": torch.tensor([float("nan")]), "event": torch.tensor([1])}}, {"hf_risk": {"time": torch.tensor([-5.0]), "event": torch.tensor([1])}}, {"hf_risk": {"time": torch.tensor([5.0])}},
    {"hf_risk": {"time": torch.tensor([5.0]), "event": torch.tensor([7])}}, {"hf_risk": {"time": torch.tensor([float("inf")]), "event": torch.tensor([0])}}, {"unknown": {"label": torch.tensor([1])}},
)  # fmt: skip


@kind("training_labels")
def training_labels(random, folder):
    """Labels that are wrong. A loss has to be a finite number."""
    labels = LABELS[random.integers(len(LABELS))]

    def read() -> Answer:
        from kinds_labs import processor

        features = processor()(labs={"Creatinine": 1.4}, return_tensors="pt")
        loss = pipe().model(**features, labels=labels).loss
        return Answer({"loss": loss.detach().numpy()} if loss is not None else {})

    return Trial(str(labels)[:80], read, no_oracle)
