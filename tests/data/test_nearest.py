"""The search among very many vectors: what it finds beside an exact search, and when it is used."""

from pathlib import Path

import numpy as np
import pytest
from tiny_more import tiny_more_of_files

from tgmm_hf.data import nearest, note_index
from tgmm_hf.data.nearest import make_graph, nearest_in_graph, nearest_of_all
from tgmm_hf.data.note_index import KINDS, make_index, read_index, search
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json, write_json

RECALL = 0.98
"""Share of the ten nearest vectors that a graph finds, on random vectors. docs/more.md states it."""
needs_graphs = pytest.mark.skipif(not nearest.can_make_graphs(), reason="usearch is not installed (extra search)")


def random_vectors(number: int, seed: int, width: int = 128) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((number, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_an_exact_search_puts_the_largest_cosine_first_and_the_earlier_of_equal_ones():
    vectors = np.array([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8], [1.0, 0.0]], np.float32)
    rows, cosines = nearest_of_all(vectors, np.array([1.0, 0.0], np.float32), 3)
    assert rows.tolist() == [1, 3, 2]
    np.testing.assert_allclose(cosines, [1, 1, 0.6], atol=1e-6)


@pytest.mark.parametrize("number", [0, 1, 7, 3000, 4000])
def test_an_exact_search_is_a_sort_of_all_also_where_many_are_equal(number):
    vectors = np.random.default_rng(0).integers(0, 9, (3000, 2)).astype(np.float32)
    query = np.array([1.0, 2.0], np.float32)
    rows, cosines = nearest_of_all(vectors, query, number)
    expected = sorted(range(3000), key=lambda row: -(vectors @ query)[row])[
        :number
    ]  # `sorted` keeps the order of equals
    assert rows.tolist() == expected
    assert cosines.tolist() == (vectors @ query)[expected].tolist()


@needs_graphs
def test_a_graph_finds_nearly_all_of_the_nearest_vectors_with_their_exact_cosines(tmp_path: Path):
    vectors, queries = random_vectors(3000, 0), random_vectors(50, 1)
    places = np.arange(3000) * 2 + 7
    make_graph(vectors, places, tmp_path / "graph")
    shares = []
    for query in queries:
        expected, _ = nearest_of_all(vectors, query, 10)
        found, cosines = nearest_in_graph(tmp_path / "graph", query, 10)
        shares.append(len(set(found) & set(places[expected])) / 10)
        np.testing.assert_allclose(cosines, vectors[(found - 7) // 2] @ query, atol=1e-5)
        assert (np.diff(cosines) <= 1e-6).all()
    assert np.mean(shares) >= RECALL


@needs_graphs
def test_equal_vectors_give_equal_graphs(tmp_path: Path):
    for name in "ab":
        make_graph(random_vectors(300, 0), np.arange(300), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    save_repository(*tiny_more_of_files(), folder / "model")
    lines = [
        "id,patient_id,split,xray,ecg,report",
        *(f"r{n},p{n},test,{n}.png,,note number {n * n}" for n in range(40)),
    ]
    (folder / "notes.csv").write_text("\n".join(lines))  # the X-rays are missing, and refused
    return folder


@needs_graphs
def test_a_large_index_is_searched_by_its_graphs_with_the_same_results(folder: Path, tmp_path: Path, monkeypatch):
    arguments = str(folder / "model"), folder / "notes.csv"
    exact = make_index(*arguments, tmp_path / "exact")
    assert exact["graphs"] == {} and exact["vectors"] == {"xray": 0, "ecg": 0, "text": 40}
    monkeypatch.setattr(note_index, "APPROXIMATE_ABOVE", 39)
    record = make_index(*arguments, tmp_path / "graphs")
    assert record["graphs"] == {"text": "graph-text.usearch"}
    parts = note_index.load_more(arguments[0])
    read = read_index(tmp_path / "graphs", parts[0])
    assert read.vectors is None and set(read.graphs) == {"text"}
    for query in ({"text": "note number 49"}, {"text": "another"}):
        found = search(*parts, read, query, KINDS, 5)
        expected = search(*parts, tmp_path / "exact", query, KINDS, 5)
        assert [match.id for match in found] == [match.id for match in expected] and len(found) == 5
        assert [match.similarity for match in found] == pytest.approx([m.similarity for m in expected], abs=1e-5)
    monkeypatch.setattr(note_index, "can_make_graphs", lambda: False)  # the package is not on another machine
    assert search(*parts, tmp_path / "graphs", {"text": "another"}, ["text"], 5) == search(
        *parts, tmp_path / "exact", {"text": "another"}, ["text"], 5
    )


def test_without_the_package_a_large_index_is_searched_exactly(folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(note_index, "APPROXIMATE_ABOVE", 39)
    monkeypatch.setattr(note_index, "can_make_graphs", lambda: False)
    record = make_index(str(folder / "model"), folder / "notes.csv", tmp_path / "index")
    assert record["graphs"] == {} and not list((tmp_path / "index").glob("graph*"))
    parts = note_index.load_more(str(folder / "model"))
    assert len(search(*parts, tmp_path / "index", {"text": "note"}, ["text"], 3)) == 3


def test_an_index_of_an_earlier_version_is_refused(folder: Path, tmp_path: Path):
    make_index(str(folder / "model"), folder / "notes.csv", tmp_path / "index")
    record = read_json(tmp_path / "index" / "index.json")
    write_json(tmp_path / "index" / "index.json", {k: v for k, v in record.items() if k != "format"})
    with pytest.raises(TgmmError, match="earlier version"):
        read_index(tmp_path / "index", note_index.load_more(str(folder / "model"))[0])
