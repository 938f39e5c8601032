"""Checkpoint file -> directory: loading without running code, licence, card, atomicity, and that the result loads."""

import argparse
import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
from closeness import assert_close
from command_line import run
from fresh_process import run_without_package
from official_layouts import randomise, st_mem_encoder, st_mem_full
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel, AutoModelForImageClassification

from tgmm_hf import EchoMvitModel, EchoMvitModelWithProjection, StMemForPreTraining, StMemModel
from tgmm_hf.hub.convert import SOURCES, convert
from tgmm_hf.hub.convert.loading import load_weights
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import VIEWS

pytestmark = pytest.mark.usefixtures("forked_reading")

ECG = torch.randn(2, 12, 2250, generator=torch.Generator().manual_seed(0))

CLEAN_PROCESS = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import torch
from transformers import AutoModel, AutoFeatureExtractor
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
AutoFeatureExtractor.from_pretrained(sys.argv[1], trust_remote_code=True)
torch.save(model(torch.load(sys.argv[2])).pooler_output.detach(), sys.argv[3])
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file as ST-MEM's authors save them: the weights are one entry of several."""
    content = {"epoch": 3, "model": st_mem_encoder(), "optimizer": {"state": {}}, "scaler": None, "config": None}
    torch.save(content, tmp_path / "st_mem_vit_base_encoder.pth")
    return tmp_path / "st_mem_vit_base_encoder.pth"


def small_convnext() -> torch.nn.Module:
    convnext = pytest.importorskip("torchvision.models.convnext", reason="torchvision is the oracle (dev extra)")
    widths = (8, 16, 24, 32)
    stages = [convnext.CNBlockConfig(a, b, 2) for a, b in zip(widths, [*widths[1:], None], strict=True)]
    return randomise(convnext.ConvNeXt(stages, num_classes=len(VIEWS)))


# ---- the command


def test_command_writes_a_directory_that_loads(checkpoint, tmp_path, capsys):
    out = tmp_path / "encoders" / "ecg"
    assert run("convert", "st-mem", checkpoint, out, "--accept-license") == 0
    assert "StMemModel" in capsys.readouterr().out
    model = AutoModel.from_pretrained(out)
    assert isinstance(model, StMemModel) and model.config.hidden_size == 48
    assert AutoFeatureExtractor.from_pretrained(out).num_samples == 2250
    assert [path.name for path in out.parent.iterdir()] == ["ecg"]  # nothing temporary is left
    expected = convert("st-mem", checkpoint, tmp_path / "again", accept_license=True).model
    with torch.no_grad():
        assert_close(model(ECG).pooler_output, expected(ECG).pooler_output)


@pytest.mark.slow
def test_directory_works_without_the_package(checkpoint, tmp_path):
    model = convert("st-mem", checkpoint, tmp_path / "ecg", accept_license=True).model
    torch.save(ECG, tmp_path / "ecg.pt")
    words = [tmp_path / "ecg", tmp_path / "ecg.pt", tmp_path / "clean.pt"]
    run_without_package(CLEAN_PROCESS, *words, work=tmp_path)
    with torch.no_grad():
        assert_close(torch.load(tmp_path / "clean.pt"), model(ECG).pooler_output)


@pytest.mark.parametrize("kind", list(SOURCES))
def test_terms_have_to_be_acknowledged(kind, checkpoint, tmp_path, capsys):
    assert run("convert", kind, checkpoint, tmp_path / "out") == 2  # no terminal to ask on
    output = capsys.readouterr()
    assert SOURCES[kind].license_link in output.out and "--accept-license" in output.err
    with pytest.raises(ValueError, match="accept_license=True"):
        convert(kind, checkpoint, tmp_path / "out", accept_license=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_terms_are_asked_for_on_a_terminal(answer, code, checkpoint, tmp_path, monkeypatch, capsys):
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self, *_: int) -> str:
            return f"{answer}\n"

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: answer)
    assert run("convert", "st-mem", checkpoint, tmp_path / "out") == code
    assert (tmp_path / "out").exists() == (code == 0)


def test_card_names_source_terms_and_citation(checkpoint, tmp_path):
    convert("st-mem", checkpoint, tmp_path / "ecg", accept_license=True)
    card = (tmp_path / "ecg" / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-nc-4.0\nlibrary_name: transformers")
    for words in ("st_mem_vit_base_encoder.pth", "SHA-256", "Na, Yeongyeon", "redistributable", "bakqui/ST-MEM"):
        assert words in card
    torch.save(small_convnext().state_dict(), tmp_path / "view_classifier.pt")
    convert("echoprime-views", tmp_path / "view_classifier.pt", tmp_path / "views", accept_license=True)
    card = (tmp_path / "views" / "README.md").read_text()
    assert "license: other\nlicense_name: cedars-sinai-academic-software-license\n" in card
    assert "No onward transfer" in card


# ---- the kinds


def test_full_autoencoder_and_ddp_prefix(tmp_path):
    torch.save({f"module.{name}": value for name, value in st_mem_full().items()}, tmp_path / "full.pth")
    converted = convert("st-mem", tmp_path / "full.pth", tmp_path / "mae", accept_license=True)
    assert isinstance(converted.model, StMemForPreTraining)
    assert len(converted.dropped) == 6 and "to_patch_embedding" in (tmp_path / "mae" / "README.md").read_text()
    encoder = AutoModel.from_pretrained(tmp_path / "mae")
    with torch.no_grad():
        assert_close(encoder(ECG).pooler_output, converted.model.st_mem(ECG).pooler_output)


@pytest.mark.parametrize(
    ("config", "expected"),
    [({"model": {"norm_pix_loss": False, "mask_ratio": 0.6}}, (False, 0.6)), (None, (True, 0.75))],
)
def test_settings_of_the_masked_autoencoder_are_those_of_the_file(config, expected, tmp_path):
    torch.save({"model": st_mem_full(), "config": config}, tmp_path / "full.pth")
    convert("st-mem", tmp_path / "full.pth", tmp_path / "mae", accept_license=True)
    loaded = StMemForPreTraining.from_pretrained(tmp_path / "mae").config
    assert (loaded.norm_pix_loss, loaded.mask_ratio) == expected
    assert ("assumed" in (tmp_path / "mae" / "README.md").read_text()) == (config is None)


def test_weights_are_not_given_the_licence_of_another_model(tmp_path):
    for kind, width in (("kinetics-mvit", 512), ("echoprime", 400)):
        torch.save({"head.1.weight": torch.zeros(width, 4)}, tmp_path / "file.pt")
        with pytest.raises(TgmmError, match=f"{width} outputs"):
            convert(kind, tmp_path / "file.pt", tmp_path / "out", accept_license=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_echo_encoder_with_and_without_its_head(tmp_path):
    video = pytest.importorskip("torchvision.models.video", reason="torchvision is the oracle (dev extra)")
    torch.save(randomise(video.mvit_v2_s(num_classes=512)).state_dict(), tmp_path / "echo.pt")
    convert("echoprime", tmp_path / "echo.pt", tmp_path / "trunk", accept_license=True)
    convert("echoprime", tmp_path / "echo.pt", tmp_path / "head", accept_license=True, keep_head=True)
    state = torch.load(tmp_path / "echo.pt")
    state |= {"head.1.weight": state["head.1.weight"][:400].clone(), "head.1.bias": state["head.1.bias"][:400].clone()}
    torch.save(state, tmp_path / "kinetics.pt")
    convert("kinetics-mvit", tmp_path / "kinetics.pt", tmp_path / "kinetics", accept_license=True)
    trunk, same_trunk = AutoModel.from_pretrained(tmp_path / "trunk"), AutoModel.from_pretrained(tmp_path / "head")
    assert isinstance(trunk, EchoMvitModel) and isinstance(same_trunk, EchoMvitModel)
    head = EchoMvitModelWithProjection.from_pretrained(tmp_path / "head")
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(tensor, same_trunk.state_dict()[name]), name
        assert torch.equal(tensor, head.state_dict()[f"echo_mvit.{name}"]), name
    assert head.projection.weight.shape == (512, 768)
    assert "EchoMvitModelWithProjection.from_pretrained" in (tmp_path / "head" / "README.md").read_text()
    assert (tmp_path / "head" / "modeling_echo_mvit.py").is_file()
    processor = AutoImageProcessor.from_pretrained(tmp_path / "trunk")
    assert (processor.size, processor.num_frames, processor.image_mean[0]) == (224, 16, 29.110628)
    assert AutoImageProcessor.from_pretrained(tmp_path / "kinetics").image_mean == [114.75] * 3
    assert run("convert", "st-mem", tmp_path / "echo.pt", tmp_path / "x", "--accept-license", "--keep-head") == 1


def test_view_classifier_is_transformers_own(tmp_path):
    reference = small_convnext()
    torch.save(reference.state_dict(), tmp_path / "view_classifier.pt")
    convert("echoprime-views", tmp_path / "view_classifier.pt", tmp_path / "views", accept_license=True)
    assert not list((tmp_path / "views").glob("*.py"))  # loads anywhere, without remote code
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "views")
    assert model.config.label2id == {view: index for index, view in enumerate(VIEWS)}
    frame = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8).numpy()
    values = AutoImageProcessor.from_pretrained(tmp_path / "views")(frame, return_tensors="pt")["pixel_values"]
    mean, std = torch.tensor([29.110628, 28.076836, 29.096405]), torch.tensor([47.989223, 46.456997, 47.20083])
    expected = ((torch.tensor(frame).float() - mean) / std).permute(2, 0, 1)[None]
    assert torch.allclose(values, expected, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(model(values).logits, reference(expected), atol=1e-4)


# ---- files that are refused


def test_pickled_objects_are_refused_unless_allowed(checkpoint, tmp_path, capsys):
    content = torch.load(checkpoint) | {"config": argparse.Namespace(lr=1e-3)}
    torch.save(content, checkpoint)
    assert run("convert", "st-mem", checkpoint, tmp_path / "out", "--accept-license") == 1
    error = capsys.readouterr().err
    assert "argparse.Namespace" in error and "--allow-pickle" in error and "runs code" in error
    assert not (tmp_path / "out").exists()
    assert run("convert", "st-mem", checkpoint, tmp_path / "out", "--accept-license", "--allow-pickle") == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>Google Drive</html>", "is a web page"),
        (b"", "is empty"),
        (b"PK\x03\x04 cut short", "cannot be read as a PyTorch checkpoint"),
        (b"just some text", "cannot be read as a PyTorch checkpoint"),
        (pickle.dumps(argparse.Namespace(lr=1e-3)), "or is no checkpoint at all"),
    ],
)
def test_what_is_no_checkpoint_says_so(content, message, tmp_path):
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_weights(tmp_path / "file.pt")


@pytest.mark.slow
def test_damaged_and_misplaced_files(checkpoint, tmp_path, capsys):
    assert run("convert", "st-mem", tmp_path / "none.pth", tmp_path / "out", "--accept-license") == 1
    assert "There is no checkpoint" in capsys.readouterr().err
    weights = st_mem_encoder()
    weights["norm.bias"][3] = torch.nan
    torch.save(weights, tmp_path / "nan.pth")
    with pytest.raises(ValueError, match=r"NaN or infinite numbers in norm\.bias"):
        load_weights(tmp_path / "nan.pth")
    torch.save({"model": {"a": 1}}, tmp_path / "numbers.pth")
    with pytest.raises(ValueError, match="a are not tensors"):
        load_weights(tmp_path / "numbers.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds list, not a state dict"):
        load_weights(tmp_path / "list.pth")


def test_an_unfit_checkpoint_leaves_nothing_and_nothing_is_overwritten(checkpoint, tmp_path, monkeypatch):
    weights = st_mem_encoder() | {"surprise": torch.zeros(1)}
    torch.save(weights, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match="unexpected: surprise"):
        convert("st-mem", tmp_path / "odd.pth", tmp_path / "out", accept_license=True)
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="exists already"):
        convert("st-mem", checkpoint, tmp_path / "full", accept_license=True)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(FileExistsError, match="would be replaced as a whole"):
        convert("st-mem", checkpoint, ".", accept_license=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").rmdir()
    with pytest.raises(ValueError, match=r"Unknown kind of checkpoint 'bert'"):
        convert("bert", checkpoint, tmp_path / "out", accept_license=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "full", "odd.pth", "st_mem_vit_base_encoder.pth",
    ]  # fmt: skip


def test_model_configuration_is_written_whole(checkpoint, tmp_path):
    convert("st-mem", checkpoint, tmp_path / "ecg", accept_license=True)
    config = json.loads((tmp_path / "ecg" / "config.json").read_text())
    assert config["model_type"] == "st_mem" and config["auto_map"]["AutoModel"] == "modeling_st_mem.StMemModel"
