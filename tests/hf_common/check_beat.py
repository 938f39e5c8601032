"""transformers' common tests over Beat, the ECG tokenizer."""

import unittest

import torch

from tgmm_hf import BeatConfig, BeatModel

from ..test_configuration_common import ConfigTester
from ..test_modeling_common import ModelTesterMixin, floats_tensor


class BeatTester:
    batch_size, is_training = 3, False
    hidden_size, num_hidden_layers, num_attention_heads = 32, 2, 2
    num_leads, num_patches, num_queries = 3, 8, 4
    seq_length = num_patches + num_queries  # the query tokens stand after the patches

    def get_config(self):
        return BeatConfig(
            num_leads=self.num_leads,
            seq_length=10 * self.num_patches,
            prediction_length=20,
            patch_size=10,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            attention_head_size=16,
            intermediate_size=37,
            codebook_size=16,
        )

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        return config, {"input_values": floats_tensor([self.batch_size, self.num_leads, config.seq_length])}


class BeatModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (BeatModel,)
    test_resize_embeddings = False

    def setUp(self):
        self.model_tester = BeatTester()
        self.config_tester = ConfigTester(self, config_class=BeatConfig, has_text_modality=False, hidden_size=36)

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_model_get_set_embeddings(self):
        """adapted: the input embedding is a projection of patches, no nn.Embedding (as upstream's vision tests)"""
        model = BeatModel(self.model_tester.get_config())
        replacement = torch.nn.Identity()
        self.assertIsInstance(model.get_input_embeddings(), torch.nn.Module)
        model.set_input_embeddings(replacement)
        self.assertIs(model.get_input_embeddings(), replacement)

    def test_init_weights_can_init_buffers(self):
        """adapted: codebooks start at random, and the common test wants equal buffers of two new models"""
        config = self.model_tester.get_config()
        with torch.device("meta"):
            model = BeatModel(config)
        model.to_empty(device="cpu")
        for buffer in model.buffers():
            buffer.fill_(torch.nan)
        model.init_weights()
        for codebook in model.quantizer.codebooks:
            self.assertTrue(0 < codebook.vectors.abs().max() <= 1 / config.codebook_size)
            self.assertFalse(codebook.counts.any() or codebook.sums.any())
