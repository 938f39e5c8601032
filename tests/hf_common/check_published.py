"""transformers' common tests over the encoders whose weights others have published."""

import unittest

from tgmm_hf import (
    EcgFmConfig,
    EcgFmModel,
    EcgHubertConfig,
    EcgHubertModel,
    EchoJepaConfig,
    EchoJepaModel,
    PanEchoConfig,
    PanEchoModel,
)

from ..test_modeling_common import floats_tensor
from .check_encoders import EncoderTests


class EcgHubertTester:
    batch_size, is_training = 3, False
    hidden_size, num_hidden_layers, num_attention_heads = 32, 2, 2
    num_leads, samples = 3, 200
    seq_length = 9  # tokens

    def get_config(self):
        return EcgHubertConfig(
            num_leads=self.num_leads,
            seq_length=self.samples,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=37,
            conv_dim=[16] * 5,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
        )

    def prepare_config_and_inputs_for_common(self):
        values = floats_tensor([self.batch_size, self.num_leads, self.samples])
        return self.get_config(), {"ecg_values": values}


class EcgHubertModelTest(EncoderTests, unittest.TestCase):
    all_model_classes = (EcgHubertModel,)
    tester_class, config_class = EcgHubertTester, EcgHubertConfig
    sizes = {"hidden_size": 36}  # noqa: RUF012 - read once


class EcgFmTester(EcgHubertTester):
    samples, seq_length = 130, 8

    def get_config(self):
        return EcgFmConfig(
            num_leads=self.num_leads,
            seq_length=self.samples,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=37,
            conv_dim=[16] * 4,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
        )


class EcgFmModelTest(EncoderTests, unittest.TestCase):
    all_model_classes = (EcgFmModel,)
    tester_class, config_class = EcgFmTester, EcgFmConfig
    sizes = {"hidden_size": 36}  # noqa: RUF012 - read once


class EchoJepaTester:
    batch_size, is_training = 3, False
    hidden_size, num_hidden_layers, num_attention_heads = 32, 2, 2
    seq_length = 2 * 2 * 2
    image_size, num_frames = 32, 4

    def get_config(self):
        return EchoJepaConfig(
            crop_size=self.image_size,
            frames_per_clip=self.num_frames,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            mlp_ratio=2,
        )

    def prepare_config_and_inputs_for_common(self):
        shape = [self.batch_size, self.num_frames, 3, self.image_size, self.image_size]
        return self.get_config(), {"pixel_values_videos": floats_tensor(shape)}


class EchoJepaModelTest(EncoderTests, unittest.TestCase):
    all_model_classes = (EchoJepaModel,)
    tester_class, config_class = EchoJepaTester, EchoJepaConfig
    sizes = {"hidden_size": 36}  # noqa: RUF012 - read once


class PanEchoTester(EchoJepaTester):
    seq_length = 4

    def get_config(self):
        return PanEchoConfig(
            image_size=self.image_size,
            num_frames=self.num_frames,
            frame_depths=[1, 1, 1, 1],
            frame_widths=[8, 8, 16, self.hidden_size],
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=37,
        )


class PanEchoModelTest(EncoderTests, unittest.TestCase):
    all_model_classes = (PanEchoModel,)
    tester_class, config_class = PanEchoTester, PanEchoConfig
    sizes = {}  # noqa: RUF012 - read once
