"""The MLP: parts of the tokens at once give the values of all tokens at once."""

import pytest
import torch

from tgmm_hf.layers.feed_forward import TOKENS_AT_ONCE, Mlp


@pytest.mark.parametrize("shape", [(3, 7, 8), (2, TOKENS_AT_ONCE, 8), (1, TOKENS_AT_ONCE + 1, 8), (0, 5, 8)])
def test_an_mlp_gives_the_same_with_and_without_gradients(shape: tuple[int, ...]):
    torch.manual_seed(0)
    mlp = Mlp(8, 32).eval()
    tokens = torch.randn(shape)
    with torch.no_grad():
        in_parts = mlp(tokens)
    assert in_parts.shape == tokens.shape
    torch.testing.assert_close(in_parts, mlp(tokens), rtol=1e-6, atol=1e-6)


def test_the_inner_values_of_many_tokens_are_never_held_at_once():
    sizes = []
    mlp = Mlp(8, 32).eval()
    mlp.fc2.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[:-1].numel()))
    with torch.no_grad():
        mlp(torch.randn(4, TOKENS_AT_ONCE, 8))
    assert sizes == [TOKENS_AT_ONCE] * 4
