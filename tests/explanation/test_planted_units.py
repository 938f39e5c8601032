"""Where the planted evidence of a synthetic cohort lies."""

import pandas as pd
import pytest

from tgmm_hf.cohorts.synthetic.cohort import write_cohort
from tgmm_hf.explanation.planted_units import PlantedEvidence
from tgmm_hf.utils.errors import TgmmError


def test_patients_may_be_missing_from_the_prepared_data(tmp_path, processor):
    """`prepare` drops a patient whose inputs were all refused, so that the last patients seemed to be foreign."""
    write_cohort(tmp_path / "cohort", patients=4, workers=1, no_echo=True)
    names = [str(name) for name in pd.read_parquet(tmp_path / "cohort" / "truth.parquet")["id"]]
    evidence = PlantedEvidence(tmp_path / "cohort", names[1:], processor)
    assert [evidence.index_of[name] for name in names] == [0, 1, 2, 3]
    with pytest.raises(TgmmError, match="1 of 5"):
        PlantedEvidence(tmp_path / "cohort", [*names, "1"], processor)
