"""An attribution keeps its values and says what they are values of."""

import json

import numpy as np
import pytest

from tgmm_hf.explanation.attribution import Attribution, Axis


def attribution(values, *axes):
    about = {"modality": "ecg", "method": "integrated_gradients", "task": "hf_diagnosis", "target": "heart failure"}
    scale = {"unit": "log-odds", "baseline": "a flat line", "output": 1.5, "baseline_output": 0.5}
    return Attribution(values=np.array(values), axes=axes, completeness_error=0.01, notes=("a note",), **about, **scale)


def test_it_comes_back_from_json_with_its_gaps():
    original = attribution(
        [[0.25, np.nan], [-0.5, 0.0]], Axis("lead", ("I", "II")), Axis("sample", None, 0.004, 1.0, "s")
    )
    again = Attribution.from_dict(json.loads(json.dumps(original.to_dict(), allow_nan=False)))
    np.testing.assert_array_equal(again.values, original.values)
    assert again.axes == original.axes
    assert again.to_dict() == original.to_dict()


def test_the_strongest_parts_are_named_and_gaps_left_out():
    one = attribution([[0.25, np.nan], [-0.5, 0.0]], Axis("lead", ("I", "II")), Axis("sample"))
    assert one.strongest(2) == [(("II", 0), -0.5), (("I", 0), 0.25)]
    assert len(one.strongest(10)) == 3


@pytest.mark.parametrize(
    "axes",
    [(Axis("lead", ("I", "II")),), (Axis("lead", ("I",)), Axis("sample"))],
    ids=["too few axes", "too few labels"],
)
def test_axes_that_do_not_fit_the_values_are_refused(axes):
    with pytest.raises(ValueError, match=r"axes|labels"):
        attribution([[0.0, 1.0], [2.0, 3.0]], *axes)
