"""transformers' common tests over the two encoders."""

import unittest

import torch

from tgmm_hf import EchoMvitConfig, EchoMvitModel, StMemConfig, StMemModel

from ..test_configuration_common import ConfigTester
from ..test_modeling_common import ModelTesterMixin, floats_tensor


class EncoderTests(ModelTesterMixin):
    """What both encoders have in common: no vocabulary, signals in place of tokens."""

    test_resize_embeddings = False
    config_class: type
    sizes: dict

    def setUp(self):
        self.model_tester = self.tester_class()
        self.config_tester = ConfigTester(self, config_class=self.config_class, has_text_modality=False, **self.sizes)

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_model_get_set_embeddings(self):
        """adapted: the input embedding is a projection of patches, no nn.Embedding (as upstream's vision tests)"""
        model = self.all_model_classes[0](self.model_tester.get_config())
        replacement = torch.nn.Identity()
        self.assertIsInstance(model.get_input_embeddings(), torch.nn.Module)
        model.set_input_embeddings(replacement)
        self.assertIs(model.get_input_embeddings(), replacement)


class StMemTester:
    batch_size, is_training = 3, False
    hidden_size, num_hidden_layers, num_attention_heads = 32, 2, 2
    num_leads, num_patches = 3, 4
    seq_length = num_leads * (num_patches + 2)

    def get_config(self):
        return StMemConfig(
            num_leads=self.num_leads,
            seq_length=75 * self.num_patches,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            attention_head_size=16,
            intermediate_size=37,
        )

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        ecg_mask = torch.ones(self.batch_size, self.num_leads, dtype=torch.bool)
        ecg_mask[0, 1] = False
        values = floats_tensor([self.batch_size, self.num_leads, config.seq_length])
        return config, {"ecg_values": values, "ecg_mask": ecg_mask}


class StMemModelTest(EncoderTests, unittest.TestCase):
    all_model_classes = (StMemModel,)
    tester_class, config_class = StMemTester, StMemConfig
    sizes = {"hidden_size": 36}  # noqa: RUF012 - read once


class EchoMvitTester:
    batch_size, is_training = 3, False
    # the sizes of the first of its two stages: the common tests look at the first hidden states and attentions
    hidden_size, num_hidden_layers, num_attention_heads = 16, 2, 1
    seq_length, key_length = 1 + 2 * 4 * 4, 1 + 2 * 2 * 2
    image_size, num_frames = 32, 4

    def get_config(self):
        return EchoMvitConfig(
            image_size=self.image_size,
            num_frames=self.num_frames,
            patch_kernel=(3, 12, 12),
            patch_stride=(2, 8, 8),
            patch_padding=(1, 2, 2),
            stage_depths=(1, 1),
            stage_widths=(self.hidden_size, 32),
            stage_heads=(self.num_attention_heads, 2),
            kv_stride=2,
            hidden_size=32,
        )

    def prepare_config_and_inputs_for_common(self):
        shape = [self.batch_size, self.num_frames, 3, self.image_size, self.image_size]
        return self.get_config(), {"pixel_values_videos": floats_tensor(shape)}


class EchoMvitModelTest(EncoderTests, unittest.TestCase):
    all_model_classes = (EchoMvitModel,)
    tester_class, config_class = EchoMvitTester, EchoMvitConfig
    sizes = {}  # noqa: RUF012 - read once
