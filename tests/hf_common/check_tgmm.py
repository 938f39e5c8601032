"""transformers' common tests over the model and its classification head."""

import copy
import unittest

import torch
from tiny_models import random_batch, smallest_config

from tgmm_hf import TgmmConfig, TgmmForSequenceClassification, TgmmModel
from tgmm_hf.configuration_tasks import DEFAULT_TASKS

from ..test_configuration_common import ConfigTester
from ..test_modeling_common import ModelTesterMixin


class TgmmTester:
    batch_size, is_training = 3, True
    # of the part that is the model's own: the guidance's attention among the tokens of the seven slots
    hidden_size, num_hidden_layers, num_attention_heads = 32, 1, 1
    seq_length = 7 * 4

    def get_config(self):
        return smallest_config(
            tasks={"hf_diagnosis": DEFAULT_TASKS["hf_diagnosis"]},
            ecg_config={
                "seq_length": 300,
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 37,
            },
            num_views=3,
            drop_path=0.0,
            feature_dropout=0.0,
            modality_dropout=0.0,
        )

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        batch = random_batch(config, self.batch_size)
        batch["ecg_values"] = batch["ecg_values"][..., : config.ecg_config.seq_length]
        return config, batch


class TgmmTests(ModelTesterMixin):
    _is_composite = True

    def setUp(self):
        self.model_tester = TgmmTester()
        self.config_tester = ConfigTester(
            self, config_class=TgmmConfig, has_text_modality=False, common_properties=["hidden_size"]
        )

    def test_config(self):
        self.config_tester.run_common_tests()


class TgmmModelTest(TgmmTests, unittest.TestCase):
    all_model_classes = (TgmmModel,)

    def setUp(self):
        super().setUp()
        self.model_tester.num_hidden_states_types = 2  # its own and the encoders'

    def test_model_outputs_equivalence(self):
        """adapted: the output holds masks (bool), which the message of the common test subtracts"""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        model = TgmmModel._from_config(config, attn_implementation="eager").eval()
        for asked in ({}, {"output_hidden_states": True}, {"output_hidden_states": True, "output_attentions": True}):
            for return_labels in (False, True):
                inputs = self._prepare_for_class(inputs, TgmmModel, return_labels=return_labels)
                with torch.no_grad():
                    as_tuple = model(**inputs, **asked, return_dict=False)
                    as_dict = model(**inputs, **asked, return_dict=True)
                self.assertIsInstance(as_tuple, tuple)
                torch.testing.assert_close(as_tuple, as_dict.to_tuple())

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs_dict = copy.deepcopy(inputs_dict)
        if return_labels:
            inputs_dict["labels"] = {"hf_diagnosis": {"label": torch.tensor([0, 1, 0])}}
        return inputs_dict


class TgmmForSequenceClassificationTest(TgmmTests, unittest.TestCase):
    all_model_classes = (TgmmForSequenceClassification,)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs_dict = copy.deepcopy(inputs_dict)
        if return_labels:
            inputs_dict["labels"] = torch.tensor([0, 1, 0])
        return inputs_dict
