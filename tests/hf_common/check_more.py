"""transformers' common tests over MoRE."""

import unittest

from tgmm_hf import MoreConfig, MoreForClassification, MoreModel

from ..test_configuration_common import ConfigTester
from ..test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor, random_attention_mask

BLOCKS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
IN_PARTS = unittest.skip("excluded: the encoders keep their states, and the get_*_features tests look at them")


class MoreTester:
    batch_size, is_training = 3, False
    hidden_size, num_hidden_layers, num_attention_heads, seq_length = 32, 2, 4, 7

    def get_config(self):
        text = {**BLOCKS, "model_type": "roberta", "vocab_size": 99, "max_position_embeddings": 40}
        return MoreConfig.tiny(
            xray_config={**BLOCKS, "image_size": 32, "patch_size": 16},
            ecg_config={**BLOCKS, "seq_length": 60, "stem_size": 8},
            text_config=text,
        )

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), {
            "pixel_values": floats_tensor([self.batch_size, 3, 32, 32]),
            "input_values": floats_tensor([self.batch_size, 12, 60]),
            "input_ids": ids_tensor([self.batch_size, self.seq_length], 90) + 5,
            "attention_mask": random_attention_mask([self.batch_size, self.seq_length]).fill_(1),
        }


class MoreModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (MoreModel,)
    _is_composite = True
    has_attentions = False

    def setUp(self):
        self.model_tester = MoreTester()
        self.config_tester = ConfigTester(self, config_class=MoreConfig, has_text_modality=False, common_properties=[])

    def test_config(self):
        self.config_tester.run_common_tests()

    @IN_PARTS
    def test_hidden_states_output(self):
        pass

    @IN_PARTS
    def test_retain_grad_hidden_states_attentions(self):
        pass


class MoreClassificationTest(MoreModelTest):
    all_model_classes = (MoreForClassification,)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        """Leave the texts out, which the classifier does not read."""
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        return {name: value for name, value in inputs.items() if name in ("pixel_values", "input_values")}
