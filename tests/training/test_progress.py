"""One readable line for every line of figures of a training."""

from types import SimpleNamespace

import pytest

from tgmm_hf.training.progress import ReadableProgress, log_line

TRAINING = {"loss": 6.7467, "grad_norm": 15.5, "learning_rate": 0.000998, "seconds": 9.5, "epoch": 0.526}
TRAINING |= {f"gate/labs+ecg+echo/{name}": 0.5 for name in ("labs", "ecg", "echo")}
VALIDATION = {"eval_hf_diagnosis_auc": 0.8588, "eval_hf_risk_c_index": 0.6866, "eval_retrieval_lrap_3": 0.607}
VALIDATION |= {"eval_hf_risk_score": 0.6, "eval_score": 0.708, "eval_loss": 3.457, "seconds": 45.0, "epoch": 1.0}


@pytest.mark.parametrize(
    ("logs", "inside", "outside"),
    [
        (TRAINING, ("step 10 of 114", "6.7467", "0.001", "10 s"), ("gate", "{", "'")),
        (
            VALIDATION,
            ("validation", "3.4570", "hf_diagnosis AUC 0.859", "hf_risk C-index 0.687", "0.708"),
            ("eval_", "{"),
        ),
        ({"eval_loss": 0.5, "eval_auroc": 0.7941, "eval_auroc_edema": 0.7}, ("0.5000", "AUROC 0.794"), ("edema",)),
    ],
)
def test_a_line_names_what_a_person_reads(logs: dict, inside: tuple[str, ...], outside: tuple[str, ...]) -> None:
    line = log_line(logs, 10, 114)
    assert all(text in line for text in inside) and not any(text in line for text in outside)
    assert "\n" not in line and len(line) < 200


def test_the_totals_of_the_trainer_are_not_printed() -> None:
    written: list[str] = []
    progress = ReadableProgress()
    progress.training_bar = SimpleNamespace(write=written.append)
    state = SimpleNamespace(is_world_process_zero=True, global_step=10, max_steps=114)
    for logs in (TRAINING, VALIDATION, {"train_runtime": 298.15, "total_flos": 2.1e12}):
        progress.on_log(None, state, None, logs)
    assert len(written) == 2
