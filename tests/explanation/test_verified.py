"""A method counts as verified only by a check of the same weights and task."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.explanation.explain import METHODS, chosen_methods
from tgmm_hf.explanation.summary import effect_ratios, summarise, table_text
from tgmm_hf.explanation.verified import FALSE, TRUE, UNKNOWN, best_method, is_shown, marked, stored_check


def entry(beats: bool, gain: float, depends: bool = True) -> dict:
    return {
        "beats_random": beats,
        "depends_on_weights": depends,
        "deletion_gain": {"mean": gain, "ci": [gain - 1, gain + 1], "n": 5},
    }


CHECK = {
    "settings": {"task": "hf_diagnosis", "weights": "sha256:a"},
    "modalities": {
        "ecg": {
            "occlusion": entry(True, 2.0),
            "grad_cam_plus_plus": entry(False, 0.1),
            "integrated_gradients": entry(True, 3.0, depends=False),
        },
        "echo": {"occlusion": entry(False, 5.0)},
    },
}


def attribution(modality: str, method: str, task: str = "hf_diagnosis") -> Attribution:
    about = {"task": task, "target": "heart failure", "unit": "relative", "baseline": "none", "output": 0.0}
    return Attribution(modality, method, values=np.zeros(2), axes=(Axis("part"),), **about)


@pytest.mark.parametrize(
    ("one", "note"),
    [
        (attribution("ecg", "occlusion"), TRUE),
        (attribution("ecg", "grad_cam_plus_plus"), FALSE),
        (attribution("ecg", "integrated_gradients"), FALSE),
        (attribution("ecg", "guided_grad_cam"), UNKNOWN),
        (attribution("ecg", "occlusion", task="hf_risk"), UNKNOWN),
    ],
)
def test_an_attribution_says_whether_its_method_was_verified(one, note):
    assert marked(one, CHECK).notes == (note,)
    assert is_shown(marked(one, CHECK)) is (note != FALSE)


def test_shapley_values_of_modalities_need_no_check():
    assert marked(attribution("modalities", "shapley"), CHECK).notes == ()


def test_the_best_proven_method_is_the_default():
    assert best_method(CHECK, "hf_diagnosis", "ecg") == "occlusion"
    assert best_method(CHECK, "hf_diagnosis", "echo") is None
    chosen = chosen_methods(None, CHECK, "hf_diagnosis")
    assert chosen == {"labs": METHODS["labs"][:1], "ecg": ("occlusion",), "echo": METHODS["echo"][:1]}


def test_a_check_of_other_weights_does_not_count(tmp_path):
    (tmp_path / "explanation_check.json").write_text(json.dumps(CHECK))
    for weights, counts in (("sha256:a", True), ("sha256:b", False)):
        config = SimpleNamespace(weights_fingerprint={"id": weights})
        model = SimpleNamespace(name_or_path=str(tmp_path), config=config)
        assert (stored_check(model) is not None) is counts
    assert stored_check(SimpleNamespace(name_or_path=str(tmp_path / "none"), config=None)) is None


def figures(deletion: float) -> dict:
    return {"deletion": deletion, "insertion": 1.0, "comprehensiveness": 1.0, "sufficiency": 0.0}


def test_differences_from_random_orders_are_paired():
    """Every patient gains exactly 0.5, although patients differ by much more. So the interval has no width."""
    patients = [
        {
            "ecg": {
                "figures": {"occlusion": figures(level), "random": figures(level + 0.5)},
                "maps": {"occlusion": [3.0, -1.0]},
                "planted": [5.0, 1.0],
            }
        }
        for level in (-10.0, 0.0, 30.0)
    ]
    summary = summarise(patients, seed=0, bootstrap=200)
    gain = summary["ecg"]["occlusion"]["deletion_gain"]
    assert gain["mean"] == pytest.approx(0.5) and gain["ci"] == pytest.approx([0.5, 0.5]) and gain["n"] == 3
    assert summary["ecg"]["occlusion"]["pointing"]["mean"] == 1 and summary["ecg"]["occlusion"]["depends_on_weights"]
    assert summary["ecg"]["occlusion"]["mass"]["mean"] == 0.75
    assert summary["ecg"]["occlusion"]["beats_random"] and "random" not in summary["ecg"]
    assert "occlusion" in table_text({"modalities": summary})


def test_a_map_that_shuffled_weights_leave_as_it_is_does_not_depend_on_them():
    figure = {"figures": {"occlusion": figures(0.0) | {"correlation all": 0.7}, "random": figures(1.0)}}
    patients = [{"ecg": figure | {"maps": {"occlusion": [1.0]}, "planted": [1.0]}}] * 2
    assert summarise(patients, seed=0, bootstrap=100)["ecg"]["occlusion"]["depends_on_weights"] is False


def test_the_ratio_of_effects_is_that_of_the_means():
    effects = [{"evidence": 3.0, "other_units": 1.0}, {"evidence": 1.0, "other_units": 1.0}, {}]
    ratios = effect_ratios([{"echo": {"effect": each}} for each in effects], seed=0, bootstrap=200)
    assert ratios["echo"]["ratio"] == 2 and ratios["echo"]["n"] == 2 and ratios["echo"]["ci"] == [1.0, 3.0]
    assert "| echo | 2.00 (1.00 to 3.00) |" in table_text({"modalities": {}, "evidence_effect": ratios})
