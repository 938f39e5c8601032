"""Text metrics of reports, of the whole corpus, by the libraries of the extra `text`.

Every figure is computed for all bootstrap resamples at once, from what the library gives for each report. BLEU is
computed from the summed n-gram counts. The other figures are means over the reports, as the libraries compute them. The
tests compare with the libraries' own figures of the corpus.

All metrics but BERTScore read the same tokens, so that a comma or a capital letter cannot move one of them. BERTScore
reads the texts as they are, with its own tokenizer. Java is not needed.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgmm_hf.evaluation.metrics import resampled_mean
from tgmm_hf.utils.digests import json_digest

TOKEN = re.compile(r"\d+(?:[.,]\d+)?|[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+", re.UNICODE)
TOKENISER = "lower case; words with inner hyphens and numbers are tokens; other signs are left out"
BLEU_ORDER = 4
SMALL, TINY = 1e-9, 1e-15
"""Constants of pycocoevalcap, which keep an empty corpus finite."""
MISSING = "{} is not installed: pip install 'tgmm-hf[text]'"
WORDNET_FILES = ("lexnames", "index.noun", "data.noun", "index.verb", "data.verb", "noun.exc")

Figure = Callable[[NDArray], NDArray]
"""Function from counts (R, n), how often each report was drawn, to the figures (R,) of the resamples."""


@dataclass
class TextFigures:
    """Text metrics of one system's reports.

    Attributes:
        figures: Name -> figure.
        implementations: Name -> {"package", "version", "settings"}.
        missing: Name -> why there is no figure.
    """

    figures: dict[str, Figure] = field(default_factory=dict)
    implementations: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, figures: Mapping[str, Figure], package: str, settings: str) -> None:
        """Add figures of one implementation."""
        for name, figure in figures.items():
            self.figures[name] = figure
            self.implementations[name] = {"package": package, "version": version(package), "settings": settings}


@dataclass(frozen=True)
class TextResources:
    """Local files that some metrics need.

    Attributes:
        bert_model: Directory of a text encoder for BERTScore. None leaves BERTScore out.
        wordnet: Directory of WordNet's dictionary files for METEOR. None looks where NLTK keeps its data.
    """

    bert_model: Path | None = None
    wordnet: Path | None = None


def tokenise(text: str) -> list[str]:
    """Split a text into tokens: lower case, words with inner hyphens and numbers. Other signs are left out."""
    return TOKEN.findall(text.lower())


def text_figures(references: Sequence[str], reports: Sequence[str], resources: TextResources) -> TextFigures:
    """Make the text metrics of reports.

    Args:
        references: True report of each ECG.
        reports: Report of the system for each ECG. An empty text counts as empty.
        resources: Local files.
    """
    scores = TextFigures()
    true_tokens, written_tokens = [tokenise(text) for text in references], [tokenise(text) for text in reports]
    for names, make in (
        (("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d"), _coco),
        (("rouge_1", "rouge_2"), _rouge),
    ):
        try:
            make(scores, true_tokens, written_tokens)
        except ImportError as error:
            scores.missing |= dict.fromkeys(names, MISSING.format(error.name))
    for name, reason in (
        ("meteor", _meteor(scores, true_tokens, written_tokens, resources.wordnet)),
        ("bertscore_f1", _bertscore(scores, references, reports, resources.bert_model)),
    ):
        if reason is not None:
            scores.missing[name] = reason
    return scores


def references_digest(references: Sequence[str]) -> str:
    """Return the digest of the true reports, so that two tables can be told to score the same texts."""
    return f"sha256:{json_digest(list(references))}"


def _coco(scores: TextFigures, references: Sequence[list[str]], reports: Sequence[list[str]]) -> None:
    """Add BLEU-1 to 4, ROUGE-L and CIDEr-D of pycocoevalcap.

    The document frequencies of CIDEr-D come from the references of the scored split.
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider_scorer import CiderScorer
    from pycocoevalcap.rouge.rouge import Rouge

    bleu, cider, rouge = BleuScorer(n=BLEU_ORDER), CiderScorer(), Rouge()
    lengths = []
    for reference, report in zip(references, reports, strict=True):
        pair = (" ".join(report), [" ".join(reference)])
        bleu += pair
        cider += pair
        lengths.append(rouge.calc_score([pair[0]], pair[1]))
    _, by_report = cider.compute_score()
    figures: dict[str, Figure] = {f"bleu_{n}": _bleu(bleu.ctest, n) for n in range(1, BLEU_ORDER + 1)}
    figures |= {"rouge_l": _mean(lengths), "cider_d": _mean(by_report)}
    scores.add(figures, "pycocoevalcap", TOKENISER)


def _bleu(comparisons: Sequence[Mapping[str, Any]], order: int) -> Figure:
    """Return corpus BLEU of an order from pycocoevalcap's n-gram counts of every report."""
    correct = np.array([comparison["correct"][:order] for comparison in comparisons], dtype=np.float64)
    guess = np.array([comparison["guess"][:order] for comparison in comparisons], dtype=np.float64)
    lengths = np.array(
        [[comparison["testlen"], comparison["reflen"][0]] for comparison in comparisons], dtype=np.float64
    )

    def figure(counts: NDArray) -> NDArray:
        precision = (counts @ correct + TINY) / (counts @ guess + SMALL)  # (R, order)
        length, reference_length = (counts @ lengths).T
        brevity = np.minimum(1 - (reference_length + SMALL) / (length + TINY), 0)
        return np.exp(np.log(precision).mean(axis=1) + brevity)

    return figure


def _rouge(scores: TextFigures, references: Sequence[list[str]], reports: Sequence[list[str]]) -> None:
    """Add ROUGE-1 and ROUGE-2 (F1) of rouge-score."""
    from rouge_score.rouge_scorer import RougeScorer

    class Words:
        def tokenize(self, text: str) -> list[str]:
            return text.split()

    scorer = RougeScorer(["rouge1", "rouge2"], tokenizer=Words())
    pairs = zip(references, reports, strict=True)
    results = [scorer.score(" ".join(reference), " ".join(report)) for reference, report in pairs]
    figures = {f"rouge_{n}": _mean([result[f"rouge{n}"].fmeasure for result in results]) for n in (1, 2)}
    scores.add(figures, "rouge-score", f"F1, no stemmer; {TOKENISER}")


def _meteor(
    scores: TextFigures, references: Sequence[list[str]], reports: Sequence[list[str]], directory: Path | None
) -> str | None:
    """Add METEOR of NLTK if WordNet is there. Return why it was left out, or None."""
    try:
        from nltk.translate.meteor_score import single_meteor_score

        wordnet = open_wordnet(directory)
    except ImportError as error:
        return MISSING.format(error.name)
    except LookupError as error:
        return str(error)
    pairs = zip(references, reports, strict=True)
    values = [single_meteor_score(reference, report, wordnet=wordnet) for reference, report in pairs]
    scores.add({"meteor": _mean(values)}, "nltk", f"METEOR of NLTK, Porter stemmer, WordNet; {TOKENISER}")
    return None


def open_wordnet(directory: Path | None) -> Any:
    """Open WordNet for METEOR.

    Args:
        directory: Directory of the dictionary files; None looks where NLTK keeps its data.

    Raises:
        LookupError: If WordNet is not there. The message says what to do.
    """
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    remedy = "Give the directory of its dictionary files with --wordnet. Nothing is downloaded."
    if directory is None:
        try:
            directory = Path(nltk.data.find("corpora/wordnet"))
        except LookupError:
            raise LookupError(f"WordNet is not among the data of NLTK. {remedy}") from None
    if absent := [name for name in WORDNET_FILES if not (directory / name).is_file()]:
        raise LookupError(f"{directory} lacks {', '.join(absent)} of WordNet. {remedy}")
    if (named := str(directory.resolve())) not in nltk.data.path:
        nltk.data.path.append(named)  # NLTK reads files of the directories on this list only

    class EnglishWordNet(WordNetCorpusReader):
        def map_wn(self, version: str = "wordnet") -> None:
            """Make no map to another version, because only other languages need it."""

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The multilingual functions")
        return EnglishWordNet(named, None)


def _bertscore(
    scores: TextFigures, references: Sequence[str], reports: Sequence[str], directory: Path | None
) -> str | None:
    """Add BERTScore with a local text encoder. Return why it was left out, or None."""
    if directory is None:
        return "no text encoder was given (--bert-model). Nothing is downloaded."
    try:
        from bert_score import BERTScorer
    except ImportError as error:
        return MISSING.format(error.name)
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(directory)
    layers = config.num_hidden_layers
    scorer = BERTScorer(model_type=str(directory), num_layers=layers, rescale_with_baseline=False, device="cpu")
    tokenizer = scorer._tokenizer  # a tokenizer that states no length would make the library fail
    tokenizer.model_max_length = min(tokenizer.model_max_length, config.max_position_embeddings)
    # An empty report has the scores 0, as the library says, but the library cannot compute them under transformers 5.
    written = np.array([bool(report.strip()) for report in reports])
    values = np.zeros((3, len(reports)))
    if written.any():
        pairs = [(report, reference) for report, reference in zip(reports, references, strict=True) if report.strip()]
        values[:, written] = np.stack(scorer.score(*map(list, zip(*pairs, strict=True))))
    settings = f"{directory.name}, last layer ({layers}), no rescaling with a baseline"
    figures = {f"bertscore_{name}": _mean(row) for name, row in zip(("precision", "recall", "f1"), values, strict=True)}
    scores.add(figures, "bert-score", settings)
    return None


def _mean(values: Sequence[float] | NDArray) -> Figure:
    """Return the figure that is the mean of one value for each report."""
    array = np.asarray(values, dtype=np.float64)
    return lambda counts: resampled_mean(array, counts)
