"""transformers' common tests over MoRE."""

import unittest

from closeness import assert_close
from heart_signal import make_heart
from tiny_reporters import byte_tokenizer
from xray_files import draw_chest

from tgmm_hf import (
    LEADS,
    MoreConfig,
    MoreFeatureExtractor,
    MoreForClassification,
    MoreImageProcessor,
    MoreModel,
    MoreProcessor,
)

from ..test_configuration_common import ConfigTester
from ..test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor, random_attention_mask
from ..test_processing_common import ProcessorTesterMixin

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


ECG = {"signal": make_heart(5000, 500), "sampling_rate": 500, "lead_names": list(LEADS)}
NO_OVERRIDES = unittest.skip(
    "excluded: a call takes an X-ray, an ECG and a text, and no keyword changes what the parts do: sizes, scaling and "
    "padding are those the model was trained with"
)


class MoreProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = MoreProcessor

    @classmethod
    def _setup_tokenizer(cls):
        return byte_tokenizer()

    @classmethod
    def _setup_feature_extractor(cls):
        return MoreFeatureExtractor()

    @classmethod
    def _setup_image_processor(cls):
        return MoreImageProcessor()

    def test_model_input_names(self):
        """adapted: a chest X-ray and an ECG take the place of images and audio"""
        processor = self.get_processor()
        batch = processor(xray=draw_chest(), ecg=ECG, text="a", return_tensors="pt")
        self.assertEqual(set(batch), set(processor.model_input_names))

    def test_processor_with_multiple_inputs(self):
        """adapted: a chest X-ray and an ECG take the place of images and audio"""
        processor = self.get_processor()
        batch = processor(xray=[draw_chest(), draw_chest()], text=["a", "b"])
        self.assertEqual(batch["pixel_values"].shape, (2, 3, 224, 224))
        with self.assertRaises(ValueError):
            processor()
        with self.assertRaises(TypeError):
            processor(images=draw_chest())

    def test_subprocessor_defaults_1_images(self):
        """adapted: chest X-rays take the place of images"""
        processor = self.get_processor()
        alone, together = processor.image_processor(draw_chest()), processor(xray=draw_chest())
        assert_close(together["pixel_values"], alone["pixel_values"])

    def test_subprocessor_defaults_3_audio(self):
        """adapted: ECGs take the place of audio"""
        processor = self.get_processor()
        assert_close(processor(ecg=ECG)["input_values"], processor.feature_extractor(ECG)["input_values"])

    @NO_OVERRIDES
    def test_flat_kwarg_applied_when_modality_dict_lacks_it(self):
        pass

    @NO_OVERRIDES
    def test_doubly_passed_kwargs_0_images(self):
        pass

    @NO_OVERRIDES
    def test_kwargs_overrides_default_subprocessor_kwargs_0_images(self):
        pass

    @NO_OVERRIDES
    def test_kwargs_overrides_default_subprocessor_kwargs_2_audio(self):
        pass

    @NO_OVERRIDES
    def test_overlapping_text_image_kwargs_handling_0_images(self):
        pass

    @NO_OVERRIDES
    def test_overlapping_text_image_kwargs_handling_2_audio(self):
        pass

    @NO_OVERRIDES
    def test_structured_kwargs_nested_from_dict_0_images(self):
        pass

    @NO_OVERRIDES
    def test_structured_kwargs_nested_from_dict_2_audio(self):
        pass

    @NO_OVERRIDES
    def test_subprocessor_defaults_preserved_by_kwargs_0_images(self):
        pass

    @NO_OVERRIDES
    def test_subprocessor_defaults_preserved_by_kwargs_2_audio(self):
        pass

    @NO_OVERRIDES
    def test_unstructured_kwargs_0_images(self):
        pass

    @NO_OVERRIDES
    def test_unstructured_kwargs_2_audio(self):
        pass

    @NO_OVERRIDES
    def test_unstructured_kwargs_batched_0_images(self):
        pass

    @NO_OVERRIDES
    def test_unstructured_kwargs_batched_2_audio(self):
        pass
