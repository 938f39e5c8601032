"""Text metrics: the libraries' own figures of the corpus, and metrics that are left out with a reason."""

import math
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from transformers import BertConfig, BertModel, BertTokenizer

from tgmm_hf.evaluation import text_metrics
from tgmm_hf.evaluation.text_metrics import TextResources, references_digest, text_figures, tokenise

REFERENCES = [
    "Sinus rhythm. Normal ECG.",
    "atrial fibrillation with rapid ventricular response. st depression in v4",
    "sinus rhythm, left axis deviation, old inferior infarct",
    "sinus rhythm. rate 71.5 bpm",
]
REPORTS = ["sinus rhythm. normal ecg", "atrial fibrillation. st elevation in v4", "", "sinus rhythm. rate 72 bpm"]
ALL = np.ones((1, 4))
DRAWN = np.array([[2.0, 1, 1, 0]])


def figures(references=REFERENCES, reports=REPORTS, **resources) -> dict:
    return text_figures(references, reports, TextResources(**resources)).figures


def corpora(rows: list[int]) -> tuple[dict, dict]:
    pairs = enumerate(rows)
    texts = [(number, " ".join(tokenise(REFERENCES[row])), " ".join(tokenise(REPORTS[row]))) for number, row in pairs]
    return {number: [wanted] for number, wanted, _ in texts}, {number: [given] for number, _, given in texts}


def test_tokens():
    assert tokenise("Sinus-Rhythmus, Größe 1.5 mV; T-wave (V4)!") == (
        ["sinus-rhythmus", "größe", "1.5", "mv", "t-wave", "v", "4"]
    )


@pytest.mark.parametrize(("counts", "rows"), [(ALL, [0, 1, 2, 3]), (DRAWN, [0, 0, 1, 2])], ids=["corpus", "resample"])
def test_figures_are_those_of_the_libraries_on_the_same_reports(counts, rows):
    computed = {name: figure(counts)[0] for name, figure in figures().items()}
    wanted, given = corpora(rows)
    bleu, _ = Bleu(4).compute_score(wanted, given, verbose=0)
    assert [computed[f"bleu_{n}"] for n in range(1, 5)] == pytest.approx(bleu)
    assert computed["rouge_l"] == pytest.approx(Rouge().compute_score(wanted, given)[0])
    lines = [given[i][0] for i in given], [[wanted[i][0] for i in wanted]]
    own = sacrebleu.corpus_bleu(*lines, tokenize="none", smooth_method="none", force=True).score
    assert 100 * computed["bleu_4"] == pytest.approx(own, abs=1e-5)
    if counts is ALL:  # in a resample, CIDEr-D keeps the document frequencies of the corpus
        assert computed["cider_d"] == pytest.approx(Cider().compute_score(wanted, given)[0])


def test_figures_by_hand():
    computed = {n: f(np.ones((1, 2)))[0] for n, f in figures(["a b c d", "a b"], ["a b c e", ""]).items()}
    brevity = math.exp(1 - 6 / 4)  # 4 tokens written, 6 wanted
    assert computed["bleu_1"] == pytest.approx(brevity * 3 / 4)
    assert computed["bleu_2"] == pytest.approx(brevity * math.sqrt(3 / 4 * 2 / 3))
    assert computed["rouge_1"] == pytest.approx((3 / 4 + 0) / 2) and computed["rouge_2"] == pytest.approx(2 / 3 / 2)


def test_equal_reports_have_the_highest_figures_and_punctuation_does_not_count():
    changed = [text.upper().replace(",", " ;") for text in REFERENCES]
    same = {name: figure(ALL)[0] for name, figure in figures(REFERENCES, changed).items()}
    assert 5 < same.pop("cider_d") <= 10 + 1e-9
    assert same == pytest.approx(dict.fromkeys(same, 1.0), abs=1e-4)


class NoSynonyms:
    @staticmethod
    def synsets(word):
        return []


def test_meteor_and_bertscore_are_left_out_with_a_reason_or_named(tmp_path: Path, monkeypatch):
    scores = text_figures(REFERENCES, REPORTS, TextResources())
    assert "--wordnet" in scores.missing["meteor"] and "--bert-model" in scores.missing["bertscore_f1"]
    scores = text_figures(REFERENCES, REPORTS, TextResources(wordnet=tmp_path))
    assert "lacks lexnames" in scores.missing["meteor"]
    monkeypatch.setattr(text_metrics, "open_wordnet", lambda directory: NoSynonyms())
    words = sorted({word for text in (*REFERENCES, *REPORTS) for word in tokenise(text)})
    tokenizer = BertTokenizer(
        vocab={w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    )
    tokenizer.save_pretrained(tmp_path / "bert")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path / "bert")
    scores = text_figures(REFERENCES, REPORTS, TextResources(bert_model=tmp_path / "bert"))
    assert scores.missing == {}
    # "sinus rhythm normal ecg": four of four tokens in one chunk
    first = scores.figures["meteor"](np.array([[1.0, 0, 0, 0]]))[0]
    assert first == pytest.approx(1 - 0.5 * (1 / 4) ** 3)
    assert scores.figures["bertscore_f1"](np.array([[1.0, 0, 0, 0]]))[0] > 0.9
    assert scores.figures["bertscore_f1"](np.array([[0, 0, 1.0, 0]]))[0] == 0  # an empty report
    assert scores.implementations["bertscore_f1"]["settings"].startswith("bert, last layer (1)")
    assert scores.implementations["meteor"]["package"] == "nltk"


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rouge_score.rouge_scorer", None)
    scores = text_figures(REFERENCES, REPORTS, TextResources())
    assert "tgmm-hf[text]" in scores.missing["rouge_1"] and "bleu_1" in scores.figures


def test_the_digest_depends_on_every_reference():
    assert references_digest(REFERENCES) == references_digest(list(REFERENCES))
    assert references_digest(REFERENCES) != references_digest(REFERENCES[::-1])
