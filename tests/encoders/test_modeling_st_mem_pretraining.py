"""ST-MEM's masked autoencoder: what masking promises, a training step, saving. Parity is in tests/convert."""

import json

import pytest
import torch
from closeness import assert_close, is_close
from transformers import AutoModel, AutoModelForPreTraining

from tgmm_hf import StMemConfig, StMemForPreTraining, StMemModel


def small_model(**overrides) -> StMemForPreTraining:
    torch.manual_seed(0)
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "attention_head_size": 16}
    settings |= {"intermediate_size": 64, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1}
    settings |= {"decoder_num_attention_heads": 1, "decoder_intermediate_size": 32}
    return StMemForPreTraining(StMemConfig(**{**settings, **overrides}))


def test_published_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model = StMemForPreTraining(StMemConfig())
    assert sum(p.numel() for p in model.parameters()) == 88_534_753


def test_every_lead_keeps_seven_patches_of_its_own():
    output = small_model()(torch.randn(3, 12, 2250))
    kept = ~output.mask
    assert (kept.sum(2) == 7).all()  # int(30 * 0.25)
    assert len({tuple(lead.tolist()) for lead in kept.flatten(0, 1)}) > 1
    assert output.logits.shape == (3, 12, 30, 75)


def test_hidden_patches_do_not_reach_the_prediction():
    model = small_model().eval()
    ecg, noise = torch.randn(1, 12, 2250), torch.rand(1, 12, 30)
    noise[:, :, 0] = -1  # the first patch is kept in every lead
    first = model(ecg, noise=noise)
    other = torch.where(first.mask[..., None], torch.randn(1, 12, 30, 75), ecg.unflatten(2, (30, 75))).flatten(2)
    second = model(other, noise=noise)
    assert_close(first.logits, second.logits)
    assert not is_close(first.loss, second.loss)
    changed = ecg.clone()
    # only where the patch is kept; another order of samples, because the norm of a patch removes shift and scale
    changed[:, :, :75] = torch.where(first.mask[:, :, :1], changed[:, :, :75], changed[:, :, :75].flip(-1))
    assert not is_close(first.logits, model(changed, noise=noise).logits)


def test_unusable_leads_do_not_count():
    model = small_model().eval()
    ecg, noise, mask = torch.randn(2, 12, 2250), torch.rand(2, 12, 30), torch.ones(2, 12, dtype=torch.bool)
    mask[0, 3] = False
    other = ecg.clone()
    other[0, 3] = torch.nan
    first, second = (model(x, ecg_mask=mask, noise=noise) for x in (ecg, other))
    assert_close(first.loss, second.loss)
    error = (first.logits - ecg.masked_fill(~mask[..., None], 0).unflatten(2, (30, 75))).square().mean(-1)
    if model.config.norm_pix_loss is False:
        assert torch.allclose(first.loss, error[first.mask & mask[..., None]].mean())
    with pytest.raises(ValueError, match="No usable lead"):
        model(ecg, ecg_mask=torch.zeros_like(mask))


def test_a_training_step_moves_every_parameter_but_the_positions():
    model = small_model().train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"st_mem.embeddings.position_embeddings", "decoder.position_embeddings"}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ecg = torch.randn(4, 12, 2250).cumsum(-1) / 30
    losses = []
    for _ in range(30):
        output = model(ecg)
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(output.loss.item())
    assert {name for name, p in model.named_parameters() if torch.equal(p, before[name])} == frozen
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_reconstruction_shows_what_was_seen_and_predicts_the_rest():
    model = small_model().eval()
    ecg = torch.randn(2, 12, 2250)
    output = model(ecg)
    rebuilt = model.reconstruct(ecg, output)
    hidden = output.mask.repeat_interleave(75, dim=2)
    assert torch.equal(rebuilt[~hidden], ecg[~hidden])
    # a perfect prediction, in the units of the target, gives the ECG back
    patches = ecg.unflatten(2, (30, 75))
    output.logits = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    assert torch.allclose(model.reconstruct(ecg, output), ecg, atol=1e-5)


def test_saved_autoencoder_serves_the_encoder_too(tmp_path):
    model = small_model().eval()
    model.save_pretrained(tmp_path)
    auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert set(auto_map) == {"AutoConfig", "AutoModel", "AutoModelForPreTraining"}
    ecg, noise = torch.randn(1, 12, 2250), torch.rand(1, 12, 30)
    again = AutoModelForPreTraining.from_pretrained(tmp_path)
    assert_close(again(ecg, noise=noise).logits, model(ecg, noise=noise).logits)
    assert {n for n, p in again.named_parameters() if not p.requires_grad} == {
        "st_mem.embeddings.position_embeddings",
        "decoder.position_embeddings",
    }
    encoder = AutoModel.from_pretrained(tmp_path)
    assert isinstance(encoder, StMemModel)
    assert_close(encoder(ecg).pooler_output, model.st_mem(ecg).pooler_output)


@pytest.mark.parametrize(("ratio", "kept"), [(0.0, 30), (0.99, 0)])
def test_nothing_hidden_or_nothing_kept_is_refused(ratio, kept):
    with pytest.raises(ValueError, match=f"mask_ratio {ratio} keeps {kept} of 30"):
        small_model(mask_ratio=ratio)


def test_shorter_ecgs_are_refused():
    with pytest.raises(ValueError, match="2250 samples, got 750"):
        small_model()(torch.zeros(1, 12, 750))


def test_states_of_the_encoder_are_returned_when_asked_for_and_not_the_decoders():
    model = small_model(attn_implementation="eager").eval()
    with torch.no_grad():
        output = model(torch.randn(1, 12, 2250), output_hidden_states=True, output_attentions=True)
        as_tuple = model(torch.randn(1, 12, 2250), return_dict=False)
    assert isinstance(as_tuple, tuple) and len(as_tuple) == 3
    tokens = 12 * (7 + 2)  # seven patches of a lead are kept, between two separators
    assert [states.shape for states in output.hidden_states] == [(1, tokens, 32)] * 3
    assert [weights.shape for weights in output.attentions] == [(1, 2, tokens, tokens)] * 2
