"""transformers' common tests over the two encoders, with and without a head."""

import unittest

import torch

from tgmm_hf import (
    EchoMvitConfig,
    EchoMvitForPreTraining,
    EchoMvitModel,
    EchoMvitModelWithProjection,
    StMemConfig,
    StMemForPreTraining,
    StMemModel,
)

from ..test_configuration_common import ConfigTester
from ..test_modeling_common import ModelTesterMixin, floats_tensor
from .mask_outputs import MaskOutputTests


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
    all_model_classes = (EchoMvitModel, EchoMvitModelWithProjection)
    tester_class, config_class = EchoMvitTester, EchoMvitConfig
    sizes = {}  # noqa: RUF012 - read once


class MaskedModellingTests(MaskOutputTests, EncoderTests):
    """Models that hide patches at random: the same patches in every call, because the common tests compare calls."""

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        """Add the noise that decides which patches are hidden, with the same values for every row of the batch."""
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        rows = len(inputs[model_class.main_input_name])
        noise = torch.rand(self.model_tester.noise_shape, generator=torch.Generator().manual_seed(0))
        return {**inputs, "noise": noise.expand(rows, *noise.shape)}


class EchoMvitPreTrainingTester(EchoMvitTester):
    patch_size = 8  # the common tests make noise of the square of 32 / 8 patches; ours replaces it
    noise_shape = (4, 4)


class EchoMvitForPreTrainingTest(MaskedModellingTests, unittest.TestCase):
    all_model_classes = (EchoMvitForPreTraining,)
    tester_class, config_class = EchoMvitPreTrainingTester, EchoMvitConfig
    sizes = {}  # noqa: RUF012 - read once


class StMemPreTrainingTester(StMemTester):
    """The encoder sees one patch of four and two separators of each lead."""

    seq_length = StMemTester.num_leads * (1 + 2)
    image_size, patch_size = 300, 75  # read by the common tests to make noise, which ours replaces
    noise_shape = (StMemTester.num_leads, StMemTester.num_patches)

    def get_config(self):
        config = super().get_config()
        config.decoder_hidden_size, config.decoder_intermediate_size = 32, 37
        config.decoder_num_hidden_layers, config.decoder_num_attention_heads = 1, 2
        return config


class StMemForPreTrainingTest(MaskedModellingTests, unittest.TestCase):
    all_model_classes = (StMemForPreTraining,)
    tester_class, config_class = StMemPreTrainingTester, StMemConfig
    sizes = {"hidden_size": 36}  # noqa: RUF012 - read once
