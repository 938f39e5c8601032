"""transformers' common tests over the processor."""

import unittest

import numpy as np
from closeness import assert_close
from heart_signal import make_heart
from input_files import make_patches
from tiny_models import tiny_tokenizer

from tgmm_hf import LEADS, EcgFeatureExtractor, EchoImageProcessor, TgmmProcessor

from ..test_processing_common import ProcessorTesterMixin

LABS = {"Creatinine": 1.4, "age": 71}
CLIP = make_patches()
ECG = {
    "signal": make_heart(2500, 250),
    "sampling_rate": 250,
    "lead_names": list(LEADS),
}
NO_OVERRIDES = unittest.skip(
    "excluded: a call takes labs, ecg and echo, not text, images and audio, and no keyword changes what the tokenizer "
    "and extractors do: padding, sizes and filters are those the model was trained with"
)


class TgmmProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = TgmmProcessor

    @classmethod
    def _setup_tokenizer(cls):
        return tiny_tokenizer()

    @classmethod
    def _setup_feature_extractor(cls):
        return EcgFeatureExtractor()

    @classmethod
    def _setup_image_processor(cls):
        return EchoImageProcessor(size=32, num_frames=4)

    def test_model_input_names(self):
        """adapted: a patient is given as labs, ecg and echo"""
        processor = self.get_processor()
        inputs = processor(labs=LABS, ecg=ECG, echo={"A4C": CLIP}, return_tensors="pt")
        self.assertEqual(set(inputs), set(processor.model_input_names))

    def test_processor_with_multiple_inputs(self):
        """adapted: a patient is given as labs, ecg and echo"""
        processor = self.get_processor()
        together = processor(labs=LABS, ecg=ECG, echo={"A4C": CLIP}, return_tensors="np")
        for given in ({"labs": LABS}, {"ecg": ECG}, {"echo": {"A4C": CLIP}}):
            for name, values in processor(**given, return_tensors="np").items():
                assert_close(values, together[name])
        with self.assertRaises(ValueError):
            processor()
        with self.assertRaises(TypeError):
            processor(text="lower newer")

    def test_subprocessor_defaults_1_images(self):
        """adapted: echo studies take the place of images"""
        processor = self.get_processor()
        alone = processor.image_processor(echo={"A4C": CLIP})
        together = processor(echo={"A4C": CLIP}, return_tensors="np")
        np.testing.assert_allclose(np.asarray(alone["pixel_values_videos"]), together["pixel_values_videos"], atol=1e-6)

    def test_subprocessor_defaults_3_audio(self):
        """adapted: ECGs take the place of audio"""
        processor = self.get_processor()
        alone, together = processor.feature_extractor(ECG), processor(ecg=ECG, return_tensors="np")
        np.testing.assert_allclose(np.asarray(alone["ecg_values"]), together["ecg_values"], atol=1e-6)

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
