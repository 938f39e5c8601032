"""transformers' common tests over the encoder of lab cells."""

import unittest

import torch
from parameterized import parameterized

from tgmm_hf import LabCellsConfig, LabCellsModel

from ..test_configuration_common import ConfigTester
from ..test_modeling_common import (
    TEST_EAGER_MATCHES_SDPA_INFERENCE_PARAMETERIZATION,
    ModelTesterMixin,
    _test_eager_matches_sdpa_inference,
    ids_tensor,
)
from .mask_outputs import MaskOutputTests


class LabCellsTester:
    """Ten tokens of text are four cells, so that the encoder has five tokens: the summary, and the cells."""

    batch_size, is_training = 3, False
    hidden_size, num_hidden_layers, num_attention_heads = 32, 2, 4
    seq_length, num_tokens = 5, 10

    def get_config(self):
        return LabCellsConfig(
            vocab_size=40,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_columns=6,
        )

    def prepare_config_and_inputs_for_common(self):
        ids = torch.tensor([0, 1, 1, 2, 2, 3, 4, 4, 4, 0]).repeat(self.batch_size, 1)
        inputs = {
            "input_ids": ids_tensor([self.batch_size, self.num_tokens], 40),
            "cell_ids": ids,
            "cell_columns": ids,
            "cell_values": ids * 0.5 - 1,
            "cell_mask": (ids == 1) | (ids == 4),
        }
        return self.get_config(), inputs


class LabCellsModelTest(MaskOutputTests, ModelTesterMixin, unittest.TestCase):
    all_model_classes = (LabCellsModel,)
    test_resize_embeddings = False

    def setUp(self):
        self.model_tester = LabCellsTester()
        self.config_tester = ConfigTester(self, config_class=LabCellsConfig, hidden_size=36)

    def test_config(self):
        self.config_tester.run_common_tests()

    @parameterized.expand(TEST_EAGER_MATCHES_SDPA_INFERENCE_PARAMETERIZATION)
    def test_eager_matches_sdpa_inference(self, *arguments):
        """adapted: the common test gives the text alone, and the encoder refuses to read a text without cells"""
        with self.assertRaisesRegex(ValueError, "cell_ids"):
            _test_eager_matches_sdpa_inference(self, *arguments)
