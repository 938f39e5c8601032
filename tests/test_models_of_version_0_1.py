"""Models that version 0.1 saved still load: same names of weights, and its names of settings are read."""

import json
import re
import shutil
from pathlib import Path

import torch
from closeness import assert_close
from safetensors.torch import load_file, save_file
from tiny_models import random_batch, smallest_model, tiny_tokenizer

from tgmm_hf import TgmmModel, TgmmProcessor
from tgmm_hf.processing_tgmm import default_processor

NAMES_OF_0_1 = """
ecg_encoder.embeddings.{lead_embeddings,patch_norm,patch_projection,position_embeddings,projection_norm}
ecg_encoder.embeddings.{separator_embedding}
ecg_encoder.{layernorm}
ecg_encoder.layers.N.{attention.output,attention.qkv,layernorm_after,layernorm_before,mlp.fc1,mlp.fc2}
echo_encoder.embeddings.{class_token,patch_embedding}
echo_encoder.{layernorm}
echo_encoder.layers.N.attention.{output,pool,pool.layernorm_bias,pool.layernorm_weight,positions.table,qkv}
echo_encoder.layers.N.{fc1,fc2,layernorm_after,layernorm_before,widen}
labs_encoder.embeddings.{LayerNorm,position_embeddings,token_type_embeddings,word_embeddings}
labs_encoder.encoder.layer.N.attention.output.{LayerNorm,dense}
labs_encoder.encoder.layer.N.attention.self.{key,query,value}
labs_encoder.encoder.layer.N.{intermediate.dense,output.LayerNorm,output.dense}
labs_pool.{attention.key,attention.output,attention.query,attention.value,memory_norm,queries}
labs_pool.standardise.{mean,steps,variance}
ecg_pool.{attention.key,attention.output,attention.query,attention.value,memory_norm,queries}
ecg_pool.standardise.{mean,steps,variance}
echo_pool.{attention.key,attention.output,attention.query,attention.value,memory_norm,queries}
echo_pool.standardise.{mean,steps,variance}
fusion.gates.{ecg+echo,labs+ecg,labs+ecg+echo,labs+echo}
fusion.projection.{key,output,project_key,project_query,project_value,query,value}
guidance.block.{mlp.fc1,mlp.fc2,mlp_norm,self_norm}
guidance.block.self_attention.{key,output,query,value}
guidance.{gate,norm,positions,text_norm}
guidance.learned.{hf_diagnosis,hf_risk,retrieval}
guidance.projection.{key,output,project_key,project_query,project_value,query,value}
response.block.cross_attention.{key,output,query,value}
response.block.self_attention.{key,output,query,value}
response.block.{cross_norm,mlp.fc1,mlp.fc2,mlp_norm,self_norm}
response.{embedding,norm,positions}
{embedding,response,view_embeddings}
"""
"""Weights of a tiny model of version 0.1, without `.weight` and `.bias`; N is the number of a layer. Read from a model
that commit 6a937d0 had trained."""


def names_of_0_1() -> set[str]:
    """Expand the table."""
    names = set()
    for line in NAMES_OF_0_1.split():
        prefix, inner = line.removesuffix("}").split("{")
        names |= {prefix + name for name in inner.split(",")}
    return names


def module_names(weights: dict[str, torch.Tensor]) -> set[str]:
    """Names of weights as in the table."""
    names = {re.sub(r"\.\d+\.", ".N.", name) for name in weights}
    return {re.sub(r"\.(weight|bias)$", "", name) for name in names}


def as_version_0_1(directory: Path) -> None:
    """Write a saved model as version 0.1 did: its names of settings, and nothing of today's code."""
    config = json.loads((directory / "config.json").read_text())
    for task in config["tasks"].values():
        if "baseline_hazards" in task:
            task["baselines"] = task.pop("baseline_hazards")
    (directory / "config.json").write_text(json.dumps(config))
    for file in directory.glob("*.py"):
        file.unlink()


def test_a_model_of_version_0_1_gives_the_same_answers(tmp_path):
    model = smallest_model(seed=5).eval()
    hazard = {"days": [1.0, 2.0], "risk_range": [-1.0, 1.0]}
    model.config.tasks["hf_risk"]["baseline_hazards"] = {"labs": hazard}
    model.save_pretrained(tmp_path)
    default_processor(model.config, tiny_tokenizer()).save_pretrained(tmp_path)
    as_version_0_1(tmp_path)
    loaded = TgmmModel.from_pretrained(tmp_path).eval()
    batch = random_batch(model.config, batch_size=3, seed=5)
    with torch.no_grad():
        for task in ("hf_diagnosis", "hf_risk"):
            assert_close(loaded(**batch, task=task).logits, model(**batch, task=task).logits)
    assert loaded.config.tasks["hf_risk"]["baseline_hazards"] == {"labs": hazard}
    assert TgmmProcessor.from_pretrained(tmp_path).labs_text({"Sodium": 140}).used == ["Sodium"]


def test_weights_have_the_names_of_version_0_1(tmp_path):
    smallest_model(seed=5).save_pretrained(tmp_path)
    names = module_names(load_file(tmp_path / "model.safetensors"))
    # The smallest model of the tests may leave out a part (a stage that widens), but it has no name of its own.
    assert names <= names_of_0_1()
    assert len(names) >= 0.9 * len(names_of_0_1())


def test_a_weight_under_an_unknown_name_is_noticed(tmp_path):
    smallest_model(seed=5).save_pretrained(tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "renamed")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["labs_branch.queries"] = weights.pop("labs_pool.queries")
    save_file(weights, tmp_path / "renamed" / "model.safetensors", metadata={"format": "pt"})
    _, loading = TgmmModel.from_pretrained(tmp_path / "renamed", output_loading_info=True)
    assert list(loading["missing_keys"]) == ["labs_pool.queries"]
