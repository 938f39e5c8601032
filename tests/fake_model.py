"""A model whose right answers are known, and a cohort for it: for the tests of evaluation and reports."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from tgmm_hf.evaluation.predictions import FULL, collect_predictions
from tgmm_hf.evaluation.summary import compute_metrics
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.utils.names import MODALITIES, SUBSET_NAMES

TASKS = {
    "hf_diagnosis": {"kind": "diagnosis"},
    "hf_risk": {"kind": "prognosis", "report_days": [365.0]},
    "retrieval": {"kind": "retrieval"},
}


class FakeEncoded:
    def __init__(self, evidence, present):
        self.evidence, self.present = evidence, present

    def keep(self, modalities):
        kept = {m: mask if m in modalities else torch.zeros_like(mask) for m, mask in self.present.items()}
        return FakeEncoded(self.evidence, kept)


class FakeModel(torch.nn.Module):
    """Answers with the sum of the present modalities' evidence; counts how often it encodes."""

    answer_subsets = TgmmModel.answer_subsets

    def __init__(self, diverged=False):
        super().__init__()
        self.config = SimpleNamespace(tasks=TASKS)
        self.device = torch.device("cpu")
        self.diverged = diverged
        self.encoded = 0

    def _settings_of(self, task):
        return TASKS[task]

    def encode(self, evidence, present):
        assert not self.training and not torch.is_grad_enabled()
        self.encoded += 1
        return FakeEncoded(evidence, {m: present[:, k] for k, m in enumerate(MODALITIES)})

    def answer(self, encoded, task, labels=None):
        masks = torch.stack([encoded.present[m] for m in MODALITIES], dim=1)
        if task == "retrieval":
            embeds = {
                m: torch.nn.functional.normalize(encoded.evidence[:, k], dim=-1) for k, m in enumerate(MODALITIES)
            }
            return SimpleNamespace(embeds=embeds, embeds_mask=encoded.present)
        score = (encoded.evidence[:, :, 0] * masks).sum(dim=1)
        score = torch.where(masks.any(dim=1), score, torch.nan) * (torch.nan if self.diverged else 1)
        return SimpleNamespace(
            probabilities=torch.stack([1 - score.sigmoid(), score.sigmoid()], dim=1),
            risk=score if task == "hf_risk" else None,
        )


class FakeDataset(list):
    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def fake_cohort(n=160, seed=0, missing=0.2):
    """Rows with evidence (3, 4) per patient and a latent state behind it; every tenth patient has two rows."""
    generator = np.random.default_rng(seed)
    rows = FakeDataset()
    for i in range(n):
        state = generator.normal(size=4)
        present = generator.random(3) > missing
        present[generator.integers(3)] = True
        day = generator.exponential(600 * np.exp(-state[0]))
        rows.append(
            {
                "id": f"admission-{i}",
                "patient_id": f"patient-{i - 1 if i % 10 == 9 else i}",
                "evidence": state + generator.normal(size=(3, 4)),
                "present": present,
                "label": int(state[0] + 0.5 * generator.normal() > 0) if i % 7 else None,
                "time": min(day, 700.0),
                "event": int(day < 700) * (2 if i % 11 == 0 else 1),
            }
        )
    return rows


def fake_collator(rows):
    known = torch.tensor([row["label"] is not None for row in rows])
    return {
        "evidence": torch.tensor(np.stack([row["evidence"] for row in rows]), dtype=torch.float32),
        "present": torch.tensor(np.stack([row["present"] for row in rows])),
        "labels": {
            "hf_diagnosis": {"label": torch.tensor([row["label"] or 0 for row in rows]), "mask": known},
            "hf_risk": {
                "time": torch.tensor([row["time"] for row in rows]),
                "event": torch.tensor([row["event"] for row in rows]),
                "mask": torch.ones(len(rows), dtype=torch.bool),
            },
            "retrieval": {},
        },
        "id": [row["id"] for row in rows],
    }


def optimum_table(dataset, seed=1):
    """A stand-in for truth.parquet: less noisy than the model under every subset."""
    frame = pd.DataFrame({"id": dataset["id"]})
    evidence = np.stack(dataset["evidence"])[:, :, 0]
    for subset in SUBSET_NAMES:
        columns = [MODALITIES.index(m) for m in subset.split("+")]
        frame[f"risk.{subset}"] = evidence[:, columns].mean(axis=1)
        frame[f"posterior.{subset}"] = 1 / (1 + np.exp(-frame[f"risk.{subset}"]))
    return frame.sample(frac=1, random_state=seed)  # another order than the dataset's


@pytest.fixture(scope="module")
def cohort():
    return fake_cohort()


@pytest.fixture(scope="module")
def predictions(cohort):
    return collect_predictions(FakeModel(), cohort, fake_collator, batch_size=32, progress=False)


@pytest.fixture(scope="module")
def validation():
    """Other patients of the same kind."""
    return collect_predictions(FakeModel(), fake_cohort(seed=1), fake_collator, batch_size=64, progress=False)


@pytest.fixture(scope="module")
def groups(cohort):
    generator = np.random.default_rng(2)
    present = np.stack(cohort["present"])
    own = ["+".join(m for m, there in zip(MODALITIES, row, strict=True) if there) for row in present]
    described = {name: ["one"] * len(cohort) for name in ("age", "ethnicity", "natriuretic", "cells", "views")}
    return pd.DataFrame(described | {"sex": generator.choice(["female", "male"], len(cohort)), "modalities": own})


@pytest.fixture(scope="module")
def metrics(predictions, cohort, validation, groups):
    reference = {
        "seed": 4,
        "hf_diagnosis": {FULL: {"auc": 0.9, "n": 5}, "labs": {"auc": None, "n": 0}},
        "population": {"retrieval": {"labs->ecg": {"lrap_3": 0.8, "lrap_full": 0.1, "n": 1000}}},
    }
    truth = optimum_table(cohort)
    return compute_metrics(
        predictions, TASKS, validation=validation, groups=groups, truth=truth, reference=reference, replicates=200
    )
