"""transformers' common tests over MEIT and its ECG encoder."""

import unittest
import warnings
from functools import wraps
from unittest.mock import patch

import torch
from closeness import assert_close
from heart_signal import make_heart
from parameterized import parameterized
from tiny_reporters import byte_tokenizer

from tgmm_hf import (
    LEADS,
    EcgResNetConfig,
    EcgResNetModel,
    EcgResNetModelWithProjection,
    MeitConfig,
    MeitFeatureExtractor,
    MeitForConditionalGeneration,
    MeitProcessor,
)

from ..test_configuration_common import ConfigTester
from ..test_modeling_common import (
    TEST_EAGER_MATCHES_SDPA_INFERENCE_PARAMETERIZATION,
    ModelTesterMixin,
    _test_eager_matches_sdpa_inference,
    floats_tensor,
    ids_tensor,
    random_attention_mask,
)
from ..test_processing_common import ProcessorTesterMixin

ECG_SIZES = {"embedding_size": 8, "stage_depths": (1, 1), "stage_widths": (8, 8), "seq_length": 64}
NO_ATTENTION = unittest.skip("excluded: a convolutional network has no attention")


class EcgResNetTester:
    batch_size, is_training = 3, False
    num_hidden_layers = 2

    def get_config(self):
        return EcgResNetConfig(num_leads=3, projection_dim=8, **ECG_SIZES)

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), {"input_values": floats_tensor([self.batch_size, 3, 64])}


class EcgResNetModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (EcgResNetModel, EcgResNetModelWithProjection)
    test_resize_embeddings, has_attentions = False, False

    def setUp(self):
        self.model_tester = EcgResNetTester()
        self.config_tester = ConfigTester(self, config_class=EcgResNetConfig, has_text_modality=False)

    def test_config(self):
        """adapted: the width follows from the stages, so that it cannot be set (as upstream's ResNet)"""
        self.config_tester.create_and_test_config_to_json_string()
        self.config_tester.create_and_test_config_to_json_file()
        self.config_tester.create_and_test_config_from_and_save_pretrained()
        self.config_tester.check_config_can_be_init_without_params()

    def test_hidden_states_output(self):
        """adapted: states of a convolutional network, one for the first convolution and one for each stage"""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            with torch.no_grad():
                states = model_class(config).eval()(**inputs, output_hidden_states=True).hidden_states
            self.assertEqual([tuple(state.shape) for state in states], [(3, 32, 8), (3, 32, 32), (3, 16, 32)])

    def test_model_get_set_embeddings(self):
        """adapted: the input embedding is a convolution, no nn.Embedding (as upstream's vision tests)"""
        for model_class in self.all_model_classes:
            model = model_class(self.model_tester.get_config())
            replacement = torch.nn.Identity()
            self.assertIsInstance(model.get_input_embeddings(), torch.nn.Module)
            model.set_input_embeddings(replacement)
            self.assertIs(model.get_input_embeddings(), replacement)

    @NO_ATTENTION
    def test_retain_grad_hidden_states_attentions(self):
        pass


class MeitTester:
    batch_size, is_training = 3, True
    seq_length, hidden_size, num_hidden_layers, num_attention_heads = 7, 32, 2, 4
    num_ecg_vectors, ecg_token_id = 2, 4
    encoder_seq_length = seq_length
    fusion = "prefix"

    @property
    def key_length(self):
        return self.seq_length + (self.num_ecg_vectors if self.fusion == "prefix" else 0)

    def get_config(self):
        text = {"model_type": "llama", "vocab_size": 99, "hidden_size": 32, "intermediate_size": 37}
        text |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 1}
        return MeitConfig(
            ecg_config=EcgResNetConfig(num_leads=3, **ECG_SIZES),
            text_config=text,
            num_ecg_vectors=self.num_ecg_vectors,
            ecg_token_id=self.ecg_token_id,
            fusion=self.fusion,
        )

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        input_ids = ids_tensor([self.batch_size, self.seq_length], 90) + 5
        if self.fusion == "tokens":
            input_ids[:, 1 : 1 + self.num_ecg_vectors] = self.ecg_token_id
        return config, {
            "input_ids": input_ids,
            "attention_mask": random_attention_mask([self.batch_size, self.seq_length]).fill_(1),
            "input_values": floats_tensor([self.batch_size, 3, 64]),
        }


class MeitModelTests(ModelTesterMixin):
    """What the three fusions have in common."""

    all_model_classes = (MeitForConditionalGeneration,)
    _is_composite = True
    tester_class = MeitTester

    def setUp(self):
        self.model_tester = self.tester_class()
        self.config_tester = ConfigTester(self, config_class=MeitConfig, has_text_modality=False)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        """Add labels, because the common tests know them only for classes of transformers."""
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        return {**inputs, "labels": inputs["input_ids"].clone()} if return_labels else inputs

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_bc_cache_name_forward(self):
        """adapted: the test reads warnings, which scripts/test_hf.py switches off"""
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            super().test_bc_cache_name_forward()

    @parameterized.expand(TEST_EAGER_MATCHES_SDPA_INFERENCE_PARAMETERIZATION)
    def test_eager_matches_sdpa_inference(self, *arguments):
        """adapted: the common test gives the text alone, and the model refuses to answer without an ECG"""
        with patch.object(MeitForConditionalGeneration, "forward", always_with_an_ecg):
            _test_eager_matches_sdpa_inference(self, *arguments)

    @unittest.skip(
        "excluded: transformers' generation tests are not in its source distribution. tests/families/"
        "test_meit_generation.py holds tests of our own"
    )
    def test_generation_tester_mixin_inheritance(self):
        pass

    @unittest.skip("excluded: the language model is a part with a base model and a head of its own")
    def test_model_base_model_prefix(self):
        pass


FORWARD = MeitForConditionalGeneration.forward


@wraps(FORWARD)
def always_with_an_ecg(self, input_ids=None, input_values=None, **named):
    """Call the model, with the same ECGs in every call if the call gives none."""
    if input_values is None:
        shape = (len(input_ids), 3, 64)
        input_values = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(input_ids.device)
    if self.config.fusion == "tokens":
        input_ids = input_ids.masked_fill(input_ids == self.config.ecg_token_id, 5)
        input_ids[:, 1 : 1 + self.config.num_ecg_vectors] = self.config.ecg_token_id
    return FORWARD(self, input_ids, input_values, **named)


class MeitPrefixTest(MeitModelTests, unittest.TestCase):
    pass


class MeitTokensTester(MeitTester):
    fusion = "tokens"


class MeitTokensTest(MeitModelTests, unittest.TestCase):
    tester_class = MeitTokensTester

    @unittest.skip("excluded: the places of the ECG are found by the ids of the placeholder tokens")
    def test_inputs_embeds(self):
        pass


class MeitCrossAttentionTester(MeitTester):
    fusion = "cross_attention"


class MeitCrossAttentionTest(MeitModelTests, unittest.TestCase):
    tester_class = MeitCrossAttentionTester


ECG = {"signal": make_heart(5000, 500), "sampling_rate": 500, "lead_names": list(LEADS)}
NO_OVERRIDES = unittest.skip(
    "excluded: a call takes an ECG and an instruction, not text, images and audio, and no keyword changes what the "
    "tokenizer and the extractor do"
)


NO_OVERRIDES = unittest.skip(
    "excluded: a call takes an ECG and an instruction, not audio, and no keyword changes what the tokenizer and the "
    "extractor do: padding and scaling are those the model was trained with"
)


class MeitProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = MeitProcessor

    @classmethod
    def _setup_tokenizer(cls):
        return byte_tokenizer()

    @classmethod
    def _setup_feature_extractor(cls):
        return MeitFeatureExtractor()

    def test_model_input_names(self):
        """adapted: an ECG takes the place of images and audio"""
        processor = self.get_processor()
        self.assertEqual(set(processor(ecg=ECG, return_tensors="pt")), set(processor.model_input_names))

    def test_processor_with_multiple_inputs(self):
        """adapted: an ECG takes the place of images and audio"""
        processor = self.get_processor()
        self.assertEqual(processor(ecg=[ECG, ECG], text=["a", "b"])["input_values"].shape, (2, 12, 5000))
        with self.assertRaises(ValueError):
            processor()
        with self.assertRaises(TypeError):
            processor(images=ECG)

    def test_subprocessor_defaults_3_audio(self):
        """adapted: an ECG takes the place of audio"""
        processor = self.get_processor()
        assert_close(processor(ecg=ECG)["input_values"], processor.feature_extractor(ECG)["input_values"])

    def test_apply_chat_template_assistant_mask(self):
        """adapted: labels mark the assistant's tokens"""
        processor = self.get_processor()
        labels = processor(ecg=ECG, answer="sinus rhythm.", output_labels=True)["labels"][0]
        self.assertEqual(processor.tokenizer.decode(labels[labels != -100]), "sinus rhythm.</s>")

    @NO_OVERRIDES
    def test_flat_kwarg_applied_when_modality_dict_lacks_it(self):
        pass

    @NO_OVERRIDES
    def test_kwargs_overrides_default_subprocessor_kwargs_2_audio(self):
        pass

    @NO_OVERRIDES
    def test_overlapping_text_image_kwargs_handling_2_audio(self):
        pass

    @NO_OVERRIDES
    def test_structured_kwargs_nested_from_dict_2_audio(self):
        pass

    @NO_OVERRIDES
    def test_subprocessor_defaults_preserved_by_kwargs_2_audio(self):
        pass

    @NO_OVERRIDES
    def test_unstructured_kwargs_2_audio(self):
        pass

    @NO_OVERRIDES
    def test_unstructured_kwargs_batched_2_audio(self):
        pass
