"""Importing the package is cheap, and makes transformers load saved models with the package's own classes."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from fresh_process import run_fresh
from tiny_models import smallest_model, tiny_tokenizer

import tgmm_hf
from tgmm_hf.training.saving import save_repository

LOAD = """
import json, sys
from transformers import (
    AutoConfig, AutoFeatureExtractor, AutoImageProcessor, AutoModel, AutoModelForPreTraining,
    AutoModelForSequenceClassification, AutoProcessor, pipeline,
)

directory = sys.argv[1]
model = AutoModel.from_pretrained(directory)
processor = AutoProcessor.from_pretrained(directory)
loaded = [
    AutoConfig.from_pretrained(directory),
    model,
    AutoModelForSequenceClassification.from_pretrained(directory),
    processor,
    AutoFeatureExtractor.from_pretrained(directory),
    AutoImageProcessor.from_pretrained(directory),
    AutoModel.from_config(AutoConfig.for_model("st_mem", hidden_size=32, num_hidden_layers=1)),
    AutoModelForPreTraining.from_config(AutoConfig.for_model("st_mem", hidden_size=32, num_hidden_layers=1)),
    pipeline("cardiac-analysis", model=model, processor=processor, device="cpu"),
]
assert loaded[-1]({"labs": {"age": 71}})["used"]["labs"] == ["age"]
print(json.dumps([f"{type(each).__module__}.{type(each).__name__}" for each in loaded]))
"""
CLASSES = [
    "tgmm_hf.configuration_tgmm.TgmmConfig",
    "tgmm_hf.modeling_tgmm.TgmmModel",
    "tgmm_hf.modeling_tgmm.TgmmForSequenceClassification",
    "tgmm_hf.processing_tgmm.TgmmProcessor",
    "tgmm_hf.inputs.feature_extraction_ecg.EcgFeatureExtractor",
    "tgmm_hf.inputs.image_processing_echo.EchoImageProcessor",
    "tgmm_hf.encoders.modeling_st_mem.StMemModel",
    "tgmm_hf.encoders.modeling_st_mem_pretraining.StMemForPreTraining",
    "tgmm_hf.pipeline_tgmm.TgmmCardiacPipeline",
]


def run(code: str, *words: str) -> str:
    """Run code in a new interpreter; its last line of output."""
    return last_line(subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True))


def last_line(completed: subprocess.CompletedProcess[str]) -> str:
    assert completed.returncode == 0, completed.stderr[-3000:]
    return completed.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("package") / "model"
    model = smallest_model()
    save_repository(model, tgmm_hf.default_processor(model.config, tiny_tokenizer()), directory)
    return directory


@pytest.mark.parametrize(
    "first_import",
    [
        "import tgmm_hf",
        pytest.param("import transformers, tgmm_hf", marks=pytest.mark.slow),
        "import tgmm_hf.configuration_tgmm",  # is half imported when transformers is imported
        "import tgmm_hf.inputs.feature_extraction_ecg",
    ],
)
def test_saved_models_load_without_trust_in_every_order_of_imports(saved: Path, first_import: str) -> None:
    assert json.loads(last_line(run_fresh(first_import + "\n" + LOAD, saved))) == CLASSES


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = "import sys, tgmm_hf; print([n for n in ('torch', 'transformers', 'numpy', 'pandas') if n in sys.modules])"
    assert run(code) == "[]"


def test_every_public_name_is_there() -> None:
    assert set(tgmm_hf.__all__) == set(tgmm_hf._MODULE_OF)
    assert {*tgmm_hf.__all__, "__version__"} <= set(dir(tgmm_hf))
    for name in tgmm_hf.__all__:
        value = getattr(tgmm_hf, name)
        assert getattr(value, "__name__", name) == name
    assert tgmm_hf.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="no attribute 'TgmmNothing'"):
        tgmm_hf.TgmmNothing  # noqa: B018


def test_an_old_name_works_and_says_the_new_one() -> None:
    vars(tgmm_hf).pop("RecordRefusedError", None)
    with pytest.warns(UserWarning, match="is now tgmm_hf.InputRefusedError"):
        assert tgmm_hf.RecordRefusedError is tgmm_hf.InputRefusedError
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tgmm_hf.RecordRefusedError is tgmm_hf.InputRefusedError
