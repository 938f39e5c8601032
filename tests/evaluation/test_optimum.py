"""The optimum of a synthetic cohort, beside the figures of a model."""

import pytest
from fake_model import optimum_table

from tgmm_hf.evaluation.optimum import read_optimum
from tgmm_hf.evaluation.predictions import FULL


def test_optimum_is_read_from_directory_or_file(tmp_path, cohort):
    for given in (tmp_path, tmp_path / "bayes.json"):
        with pytest.raises(FileNotFoundError, match="There is no .*bayes.json.*synthetic cohort.*tgmm synth"):
            read_optimum(given)
    (tmp_path / "bayes.json").write_text('{"seed": 1}')
    assert read_optimum(tmp_path)[0] is None
    optimum_table(cohort).to_parquet(tmp_path / "truth.parquet")
    truth, reference = read_optimum(tmp_path / "bayes.json")
    assert len(truth) == len(cohort) and reference == {"seed": 1}


def test_optimum_is_taken_on_the_same_patients_and_paired(metrics):
    single = metrics["hf_diagnosis"]["ecg"]  # one modality: the fake optimum ranks as the model does
    assert single["bayes_auc"] == pytest.approx(single["auc"], abs=1e-6)
    assert single["auc_minus_bayes"] == pytest.approx(0, abs=1e-6)
    assert single["auc_minus_bayes_ci"] is None and "all bootstrap resamples agree" in single["auc_minus_bayes_missing"]
    assert metrics["hf_diagnosis"][FULL]["bayes_auc_test_split"] == 0.9
    assert "bayes_auc_test_split" not in metrics["hf_diagnosis"]["labs"]
    assert metrics["retrieval"]["labs->ecg"]["bayes_lrap_3_population"] == 0.8
    assert "bayes_lrap_full_population" not in metrics["retrieval"]["labs->ecg"]
    assert metrics["hf_risk"][FULL]["bayes_c_index"] is not None
