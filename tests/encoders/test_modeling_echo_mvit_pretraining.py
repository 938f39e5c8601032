"""Masked modelling of clips: what masking promises, targets by hand, a training step, saving."""

import json

import pytest
import torch
from closeness import assert_close, is_close
from transformers import AutoModel, AutoModelForPreTraining

from tgmm_hf import EchoMvitConfig, EchoMvitForPreTraining, EchoMvitModel

SMALL = {
    "image_size": 64,
    "patch_kernel": (3, 12, 12),
    "patch_stride": (2, 8, 8),
    "patch_padding": (1, 2, 2),
    "stage_depths": (1, 1, 1),
    "stage_widths": (8, 16, 32),
    "stage_heads": (1, 2, 2),
    "kv_stride": 2,
    "hidden_size": 32,
    "drop_path_rate": 0.0,
}


def small_model(**overrides) -> EchoMvitForPreTraining:
    torch.manual_seed(0)
    return EchoMvitForPreTraining(EchoMvitConfig(**{**SMALL, **overrides}))


def clips(number: int) -> torch.Tensor:
    return torch.randn(number, 16, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_paper_size_can_be_built():
    with torch.device("meta"):
        model = EchoMvitForPreTraining(EchoMvitConfig())
    assert (model.rows, model.columns, model.last_grid) == (56, 56, (8, 7, 7))
    assert model.head.out_features == 64 * 24  # 8 x 8 patches a token; 2 frames x 3 colours x 4 quarters


def test_targets_are_the_mean_colours_of_quarters():
    model, clip = small_model(), clips(2)
    targets = model.targets(clip)
    assert targets.shape == (2, 8, 8, 8, 24)
    frame, channel, top, left = 7, 2, 8 * 3 + 4, 8 * 5  # lower left quarter of patch (3, 5), second frame of four
    expected = clip[1, frame, channel, top : top + 4, left : left + 4].mean()
    assert torch.allclose(targets[1, 3, 3, 5].unflatten(0, (2, 3, 2, 2))[1, channel, 1, 0], expected, atol=1e-6)


def test_predictions_stand_at_the_place_of_their_tokens():
    model = small_model()
    tokens = torch.arange(8 * 2 * 2).float()[None, :, None].expand(1, -1, 16 * 24)
    patches = model._patches_of(tokens)
    assert patches.shape == (1, 8, 8, 8, 24)
    assert (patches[0, 5, :4, 4:] == 5 * 4 + 1).all()
    assert (patches[0, 5, 4:, :4] == 5 * 4 + 2).all()


def test_hidden_patches_do_not_reach_the_prediction():
    model, clip = small_model().eval(), clips(1)
    noise = torch.zeros(1, 8, 8)
    noise[0, :5] = 1.0  # 40 rows' patches; 38 of them are hidden
    first = model(clip, noise=noise)
    assert first.mask.sum() == model.num_hidden == 38
    assert not first.mask[0, 5:].any()
    other = clip.clone()
    other[..., :24, :] = 0.0  # patches overlap by two pixels: far from every patch that is seen
    assert first.mask[0, :3].all()
    second = model(other, noise=noise)
    assert_close(first.logits, second.logits)
    assert not is_close(first.loss, second.loss)
    seen = clip.clone()
    seen[..., 48:, :] = 0.0
    assert not is_close(first.logits, model(seen, noise=noise).logits)


def test_the_loss_is_of_hidden_patches_alone():
    model, clip, noise = small_model().eval(), clips(2), torch.rand(2, 8, 8)
    output = model(clip, noise=noise)
    error = (output.logits - model.targets(clip)).square()
    by_hand = torch.cat([error[i, :, output.mask[i]].flatten() for i in range(2)]).mean()
    assert torch.allclose(output.loss, by_hand, atol=1e-6)


def test_training_moves_every_parameter_and_lowers_the_loss():
    model = small_model().train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = clips(4)[..., :1, :1].repeat(1, 1, 1, 64, 64)  # what is hidden can be told from what is seen
    losses = []
    for _ in range(15):
        loss = model(batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert not [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert losses[-1] < 0.9 * losses[0]


def test_saved_model_serves_the_encoder_too(tmp_path):
    model, clip, noise = small_model().eval(), clips(1), torch.rand(1, 8, 8)
    model.save_pretrained(tmp_path)
    auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert set(auto_map) == {"AutoConfig", "AutoModel", "AutoModelForPreTraining"}
    again = AutoModelForPreTraining.from_pretrained(tmp_path)
    assert_close(again(clip, noise=noise).logits, model(clip, noise=noise).logits)
    encoder = AutoModel.from_pretrained(tmp_path)
    assert isinstance(encoder, EchoMvitModel)
    assert_close(encoder(clip).pooler_output, model.echo_mvit(clip).pooler_output)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_ratio": 0.0}, "hides 0 of 64 patches"),
        ({"mask_ratio": 1.0}, "hides 64 of 64 patches"),
        ({"patch_stride": (2, 7, 7)}, "do not tile 64 pixels"),
    ],
)
def test_what_cannot_be_masked_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_model(**changes)


def test_states_of_the_encoder_are_returned_when_asked_for():
    model = small_model(attn_implementation="eager").eval()
    with torch.no_grad():
        output = model(clips(1), output_hidden_states=True, output_attentions=True)
        as_tuple = model(clips(1), return_dict=False)
    assert isinstance(as_tuple, tuple) and len(as_tuple) == 3
    assert [states.shape[-1] for states in output.hidden_states] == [8, 8, 16, 32]  # before and after each layer
    assert [weights.shape[1] for weights in output.attentions] == [1, 2, 2]
    assert model(clips(1)).hidden_states is None
