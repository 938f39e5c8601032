"""Tests of models whose outputs hold masks."""

import torch


class MaskOutputTests:
    """Take the place of common tests that subtract outputs, which masks (bool) do not allow."""

    def test_model_outputs_equivalence(self):
        """adapted: the output holds masks (bool), which the message of the common test subtracts"""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        model_class = self.all_model_classes[0]
        model = model_class._from_config(config, attn_implementation="eager").eval()
        inputs = self._prepare_for_class(inputs, model_class)
        for asked in ({}, {"output_hidden_states": True}, {"output_hidden_states": True, "output_attentions": True}):
            with torch.no_grad():
                as_tuple = model(**inputs, **asked, return_dict=False)
                as_dict = model(**inputs, **asked, return_dict=True)
            self.assertIsInstance(as_tuple, tuple)
            torch.testing.assert_close(as_tuple, as_dict.to_tuple())
