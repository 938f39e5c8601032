"""Prepared data fits a model only if it was prepared by the model's extractors with the model's settings."""

import json

import pytest
from tiny_models import smallest_config, tiny_tokenizer

from tgmm_hf import EcgFeatureExtractor, EchoImageProcessor, TgmmProcessor
from tgmm_hf.data.prepare import processor_settings
from tgmm_hf.data.prepared_fit import check_prepared
from tgmm_hf.utils.errors import TgmmError


def processor(ecg=None, echo=None):
    return TgmmProcessor(
        feature_extractor=EcgFeatureExtractor(**(ecg or {})),
        image_processor=EchoImageProcessor(**(echo or {})),
        tokenizer=tiny_tokenizer(),
    )


def prepared_by(processor):
    return {"processor": json.loads(json.dumps(processor_settings(processor)))}


CHANGES = {
    "sampling_rate": {"ecg": {"sampling_rate": 125}},
    "highpass": {"ecg": {"highpass": 0.5}},
    "max_gap_seconds": {"ecg": {"max_gap_seconds": 0.3}},
    "min_leads": {"ecg": {"min_leads": 3}},
    "frame_stride": {"echo": {"frame_stride": 4}},
    "mask_sector": {"echo": {"mask_sector": False}},
    "image_std": {"echo": {"image_std": [50.0, 50.0, 50.0]}},
    "views": {"echo": {"views": ["A4C", "PLAX"]}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_setting_of_the_same_extractor_is_refused(name):
    config, ours, other = smallest_config(), processor(), processor(**CHANGES[name])
    with pytest.raises(TgmmError, match=f"{name} of the data is .*, and the model needs .*tgmm prepare"):
        check_prepared(config, ours, prepared_by(other))
    check_prepared(config, other, prepared_by(other))


def test_data_of_an_earlier_version_lacks_settings_and_is_accepted():
    data = prepared_by(processor())
    for part in ("feature_extractor", "image_processor"):
        data["processor"][part] = {
            key: value
            for key, value in data["processor"][part].items()
            if key not in ("max_gap_seconds", "mask_sector")
        }
    check_prepared(smallest_config(), processor(), data)
    check_prepared(smallest_config(), processor(), {})


@pytest.mark.parametrize("setting", ["default_strictness"])
def test_a_setting_that_shapes_no_input_is_not_compared(setting):
    ours = processor()
    data = prepared_by(ours)
    data["processor"]["feature_extractor"][setting] = "another"
    check_prepared(smallest_config(), ours, data)
