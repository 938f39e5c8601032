"""`torch.compile` takes the ECG and echo trunks as one graph each, without a break, and gives the same answers."""

import pytest
import torch
from tiny_models import smallest_config

from tgmm_hf.encoders.modeling_echo_mvit import EchoMvitModel
from tgmm_hf.encoders.modeling_st_mem import StMemModel


@pytest.fixture(scope="module")
def config():
    return smallest_config()


@pytest.fixture(params=["ecg", "echo"])
def trunk(request, config):
    """An encoder, and its inputs."""
    torch.manual_seed(0)
    if request.param == "ecg":
        mask = torch.ones(2, 12, dtype=torch.bool)
        mask[1, 3:] = False
        return StMemModel(config.ecg_config), {"ecg_values": torch.randn(2, 12, 2250), "ecg_mask": mask}
    echo = config.echo_config
    return EchoMvitModel(echo), {"pixel_values_videos": torch.randn(2, echo.num_frames, 3, 32, 32)}


@pytest.fixture
def compiled(trunk):
    """The trunk as one graph: `fullgraph` raises at the first break. "eager" needs no compiler of C++."""
    torch._dynamo.reset()
    yield torch.compile(trunk[0], fullgraph=True, backend="eager")
    torch._dynamo.reset()


def test_a_forward_pass_is_one_graph(trunk, compiled):
    model, inputs = trunk
    model.eval()
    with torch.no_grad():
        expected, found = model(**inputs), compiled(**inputs)
    torch.testing.assert_close(found.pooler_output, expected.pooler_output)
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state)


def test_a_training_step_is_one_graph(trunk, compiled):
    model, inputs = trunk
    model.train()
    model(**inputs).pooler_output.square().sum().backward()
    expected = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    compiled(**inputs).pooler_output.square().sum().backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is None) == (expected[name] is None)
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, expected[name], rtol=1e-4, atol=1e-5)
