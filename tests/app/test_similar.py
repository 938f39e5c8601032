"""Uploads -> the nearest records of an index: one input at a time, refusals, and nothing that stays."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from heart_signal import make_heart
from input_files import write_wfdb
from running_page import NAME, kept_files
from tiny_more import tiny_more_of_files
from xray_files import draw_chest, write_picture, write_xray

from tgmm_hf import LEADS
from tgmm_hf.app.private_files import PrivateFiles, private_files
from tgmm_hf.app.similar import LARGEST_NUMBER, Searcher, SearchRequest, load_searcher, search_uploads
from tgmm_hf.data.note_index import make_index
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import InputRefusedError, TgmmError


def write_index(folder: Path) -> tuple[str, Path]:
    """A saved model, and the index of three patients."""
    save_repository(*tiny_more_of_files(), folder / "model")
    lines = ["id,patient_id,split,xray,ecg,report"]
    for number in range(3):
        write_picture(folder / f"{number}.png", draw_chest(160, 120, number))
        (folder / str(number)).mkdir()
        write_wfdb(folder / str(number), make_heart(5000, 500, number), list(LEADS))
        lines.append(f"r{number},{NAME}-{number},test,{number}.png,{number}/record,note {number}")
    (folder / "notes.csv").write_text("\n".join(lines))
    make_index(str(folder / "model"), folder / "notes.csv", folder / "index")
    return str(folder / "model"), folder / "index"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    write_index(folder)
    return folder


@pytest.fixture(scope="module")
def searcher(folder: Path) -> Searcher:
    return load_searcher(str(folder / "model"), folder / "index")


@pytest.fixture
def files() -> Iterator[PrivateFiles]:
    with private_files() as files:
        yield files


def send(files: PrivateFiles, *paths: Path) -> list[str]:
    """Put files into the cache as the browser does, under the name of a patient."""
    sent = []
    for path in paths:
        target = files.cache / f"{NAME}{path.suffix}"
        target.write_bytes(path.read_bytes())
        sent.append(str(target))
    return sent


def find(searcher: Searcher, files: PrivateFiles, request: SearchRequest) -> str:
    with files.request() as place:
        return search_uploads(searcher, request, place, lambda share, text: None)


def test_an_uploaded_xray_finds_itself_and_nothing_is_kept(searcher: Searcher, files: PrivateFiles, folder: Path):
    page = find(searcher, files, SearchRequest(xray=send(files, folder / "1.png"), kinds=["xray"], number=2))
    assert page.index("cosine 1.000, row r1") < page.index("2. cosine") and page.count("data:image/jpeg") == 3
    assert NAME not in page and not kept_files(files)


def test_an_uploaded_recording_finds_itself(searcher: Searcher, files: PrivateFiles, folder: Path):
    header, signal = folder / "2" / "record.hea", folder / "2" / "record.dat"
    sent = send(files, header, signal)
    Path(sent[0]).write_text(header.read_text().replace("record", NAME))
    page = find(searcher, files, SearchRequest(ecg=sent, kinds=["ecg"], number=99))
    assert "1. cosine 1.000, row r2" in page and NAME not in page and not kept_files(files)
    assert page.count('<svg xmlns="http://www.w3.org/2000/svg" class="ecg"') == 4  # the query and three records
    assert LARGEST_NUMBER < 99


def test_words_find_their_note(searcher: Searcher, files: PrivateFiles):
    page = find(searcher, files, SearchRequest(text=" note 1 ", kinds=["text"], number=1))
    assert "cosine 1.000, row r1" in page


def test_what_cannot_be_searched_with_is_refused_with_a_reason(
    searcher: Searcher, files: PrivateFiles, folder: Path, tmp_path: Path
):
    hand = write_xray(tmp_path / "hand.dcm", BodyPartExamined="HAND")
    wrong = [
        (lambda: SearchRequest(), "0 of words"),
        (lambda: SearchRequest(text="a", xray=send(files, folder / "0.png")), "2 of words"),
        (lambda: SearchRequest(xray=send(files, hand)), "HAND"),
        (lambda: SearchRequest(ecg=[str(folder / "2" / "record.hea")]), "no longer here"),  # no upload
        (lambda: SearchRequest(ecg=send(files, hand)), "."),
    ]
    for request, words in wrong:
        with pytest.raises(InputRefusedError, match=words) as error:
            find(searcher, files, request())
        assert NAME not in error.value.reason and not kept_files(files)


def test_a_strict_page_refuses_words_that_are_in_doubt(folder: Path, searcher: Searcher, files: PrivateFiles):
    assert "12345" in find(searcher, files, SearchRequest(text="12345"))
    strict = load_searcher(str(folder / "model"), folder / "index", "refuse")
    with pytest.raises(InputRefusedError, match="strictness is 'refuse'"):
        find(strict, files, SearchRequest(text="12345"))


def test_an_index_of_another_model_is_refused_before_the_page_starts(folder: Path, tmp_path: Path):
    model, processor = tiny_more_of_files()
    model.logit_scale.data += 1
    save_repository(model, processor, tmp_path / "other")
    with pytest.raises(TgmmError, match="other weights"):
        load_searcher(str(tmp_path / "other"), folder / "index")


@pytest.mark.slow
def test_the_page_has_the_tab(pipe, searcher: Searcher):
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("gradio")
    from running_page import page_of

    def tabs(page: SimpleNamespace) -> list[str]:
        components = httpx.get(page.url + "config").json()["components"]
        return [each["props"]["label"] for each in components if each["type"] == "tabitem"]

    with page_of(pipe, searcher=searcher) as page:
        assert "Find similar" in tabs(page)
    with page_of(pipe) as page:
        assert "Find similar" not in tabs(page)
    with page_of(None, searcher=searcher) as page:  # a page of a MoRE model alone
        assert tabs(page) == ["Find similar", "Model"]
