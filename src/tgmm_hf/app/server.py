"""Start the page: who may reach it, with which password, and which services of Gradio are off.

`serve` is the same for `tgmm app` and for a Hugging Face Space.
"""

import hmac
import ipaddress
import os
import signal
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from tgmm_hf.app.answering import Question, answer_read_patient
from tgmm_hf.app.examples import synthetic_patients
from tgmm_hf.app.fence import Fence
from tgmm_hf.app.private_files import PrivateFiles, private_files
from tgmm_hf.app.similar import Searcher, load_searcher
from tgmm_hf.data.ecg_reports import load_report_pipeline
from tgmm_hf.data.prediction import load_pipeline
from tgmm_hf.families.shared.answering_pipeline import AnsweringPipeline
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline, code_revision
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.model_names import is_local_model, shown_model_name

LOCAL_HOST = "127.0.0.1"
"""Address that only this machine reaches."""
DEFAULT_PORT = 7860
PASSWORD_VARIABLE = "TGMM_APP_PASSWORD"  # noqa: S105 - the name of a variable
USER = "tgmm"
"""Name of the user at the login. There is one password, so the name does not matter much."""
MIN_PASSWORD = 12
"""Smallest number of characters of a password, because the login does not slow down after wrong ones."""
MAX_FILE_SIZE = "512mb"
SPACE_FRAMES = "'self' https://huggingface.co https://*.hf.space"
"""Pages that show a Space in a frame."""
CLOSED_VARIABLES = (
    *("GRADIO_SHARE", "GRADIO_ALLOWED_PATHS", "GRADIO_NUM_WORKERS", "GRADIO_MCP_SERVER", "GRADIO_RUN_HISTORY"),
    *("GRADIO_SSR_MODE", "GRADIO_DEBUG", "GRADIO_HOT_RELOAD", "GRADIO_WATCH_DIRS", "GRADIO_CACHE_EXAMPLES"),
)
"""Variables of the environment that would open a part of the page. They are removed before the start."""


NO_CARD = "This model has no model card."


def read_password(file: Path | None) -> str | None:
    """Read the password from a file, or from the environment (`PASSWORD_VARIABLE`); None without one.

    Raises:
        TgmmError: If other users may read the file, or the password is short.
    """
    if file is not None:
        if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise TgmmError(str(file), f"other users may read this password file: run `chmod 600 {file}`.")
        password = file.read_text(encoding="utf-8").splitlines()[0].strip() if file.stat().st_size else ""
    else:
        from_environment = os.environ.get(PASSWORD_VARIABLE)
        if from_environment is None:
            return None
        password = from_environment.strip()
    if len(password) < MIN_PASSWORD:
        raise TgmmError(
            "the password",
            f"it has {len(password)} characters, at least {MIN_PASSWORD} are needed: choose a longer one.",
        )
    return password


def check_host(host: str, password: str | None) -> None:
    """Refuse an address that other machines reach if there is no password.

    Raises:
        TgmmError: If `host` is not this machine's own address, and `password` is None.
    """
    if password is None and not is_own_address(host):
        raise TgmmError(
            host,
            "other machines reach this address, so the page needs a password. Name a file with --password-file, or set "
            f"{PASSWORD_VARIABLE}. Without --host only this machine reaches the page.",
        )


def is_own_address(host: str) -> bool:
    """Tell whether only this machine reaches an address. A name other than "localhost" counts as reachable."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def serve(  # noqa: PLR0913 - one argument per option of the command
    model: str,
    *,
    host: str = LOCAL_HOST,
    port: int = DEFAULT_PORT,
    password: str | None = None,
    examples: Path | None = None,
    report_model: str | None = None,
    search: tuple[str, Path] | None = None,
    view_classifier: str | None = None,
    strictness: str = "note",
) -> None:
    """Serve the page until the process is interrupted.

    Args:
        model: Directory or Hub repository of a saved model.
        host: Address to listen on.
        port: Port to listen on.
        password: Password of the page. None lets everybody in who reaches the address.
        examples: Directory of the synthetic patients, which is made if it does not exist. None shows none.
        report_model: Directory or Hub repository of a MEIT or Heartcare model. None leaves out the tab for reports
            about ECGs.
        search: Directory or Hub repository of a MoRE model, and directory of its index. None leaves out the tab that
            finds similar records. If the model is `model` itself, the page has no other tab for patients.
        view_classifier: As in `load_pipeline`.
        strictness: As in `load_pipeline`.

    Raises:
        TgmmError: If the address needs a password, or the model cannot be loaded.
        OSError: If the port is taken.
    """
    check_host(host, password)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the directories are removed
    is_searched_only = search is not None and search[0] == model
    if is_searched_only and report_model is not None:
        raise TgmmError(
            model, "it is no TGMM model, which the tab for reports about ECGs needs: leave --report-model out."
        )
    pipe = None if is_searched_only else load_pipeline(model, view_classifier, strictness=strictness)
    reporter = None if report_model is None else load_report_pipeline(report_model, strictness)
    searcher = None if search is None else load_searcher(*search, strictness)
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "password": password,
        "examples": examples,
        "reporter": reporter,
        "searcher": searcher,
    }
    with private_files() as files, running_page(pipe, files, **options) as page:
        if pipe is not None:
            answer_read_patient(pipe, {}, Question())  # starts the process that reads files, which takes seconds
        page.block_thread()


@contextmanager
def running_page(  # noqa: PLR0913 - those of `serve`
    pipe: TgmmCardiacPipeline | None,
    files: PrivateFiles,
    *,
    host: str = LOCAL_HOST,
    port: int = DEFAULT_PORT,
    password: str | None = None,
    examples: Path | None = None,
    reporter: AnsweringPipeline | None = None,
    searcher: Searcher | None = None,
) -> Iterator[Any]:
    """Run the page in threads of this process while the block runs.

    Args:
        pipe: The model. None makes a page that only finds similar records.
        files: Directories of the uploads and requests.
        host: As in [`serve`], like `port`, `password` and `examples`.
        port: Port.
        password: Password.
        examples: Directory.
        reporter: Model for the tab that writes reports about ECGs. None leaves out the tab.
        searcher: Model and index for the tab that finds similar records. None leaves out the tab.

    Yields:
        The page, a `gradio.Blocks` with `local_url`.
    """
    check_host(host, password)
    _close_environment(files)
    # Gradio reads the environment when it is imported, so these imports come after it is closed.
    from starlette.middleware import Middleware

    from tgmm_hf.app.own_messages import print_no_values
    from tgmm_hf.app.page import build_page, page_look
    from tgmm_hf.app.parts import PageContent

    print_no_values()
    patients = {} if examples is None or pipe is None else synthetic_patients(examples)
    facts = model_facts(pipe) if pipe is not None else search_facts(cast(Searcher, searcher))
    model = (pipe or cast(Searcher, searcher)).model
    content = PageContent(pipe, files, model_card(str(model.name_or_path)), facts, patients, reporter, searcher)
    page = build_page(content)
    frames = SPACE_FRAMES if os.environ.get("SPACE_ID") else "'self'"
    page.launch(
        server_name=host,
        server_port=port,
        auth=None if password is None else _login(password),
        app_kwargs={
            "middleware": [Middleware(Fence, files=files, framed_by=frames)],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
        max_file_size=MAX_FILE_SIZE,
        prevent_thread_lock=True,
        quiet=True,
        **page_look(),
        **OFF,
    )
    try:
        yield page
    finally:
        page.close(verbose=False)


OFF: dict[str, Any] = {
    "share": False,
    "show_error": False,  # a message of an error that is not of this package may quote a patient
    "inbrowser": False,
    "run_history": False,  # would keep every answer in the browser
    "enable_monitoring": False,
    "mcp_server": False,
    "ssr_mode": False,
    "num_workers": 0,  # further processes would serve the cache past the fence
    "pwa": False,
    "footer_links": [],
}
"""Services of Gradio that are switched off."""


def model_card(model: str) -> str:
    """Return the text of the model card without its metadata, or a sentence if the model has none."""
    if not model:  # a model that was never saved
        return NO_CARD
    try:
        path = Path(model) / "README.md" if is_local_model(model) else Path(hf_hub_download(model, "README.md"))
        text = path.read_text(encoding="utf-8")
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ValueError):
        return NO_CARD
    if text.startswith("---\n"):
        text = text.partition("\n---\n")[2]
    return text.strip() or "This model has an empty model card."


def model_facts(pipe: TgmmCardiacPipeline) -> Mapping[str, str]:
    """Return what identifies a model: name, revision, digest of the code, fingerprints."""
    binding = pipe.binding_check(pipe.model, pipe.processor)
    commit = getattr(pipe.model.config, "_commit_hash", None)
    facts = {"model": shown_model_name(str(pipe.model.name_or_path)), "revision": commit or "a directory, no revision"}
    facts |= {"code": code_revision(pipe.model, pipe.processor), "weights": str(binding.model)}
    return facts | {"processor": str(binding.processor)}


def search_facts(searcher: Searcher) -> Mapping[str, str]:
    """Return what identifies the model of a search."""
    fingerprint = searcher.model.config.weights_fingerprint or {}
    return {
        "model": shown_model_name(str(searcher.model.name_or_path)),
        "code": code_revision(searcher.model, searcher.processor),
        "weights": str(fingerprint.get("id")),
    }


def _close_environment(files: PrivateFiles) -> None:
    """Set the variables that Gradio reads. Remove `CLOSED_VARIABLES`, because each would open a part of the page."""
    for name in CLOSED_VARIABLES:
        os.environ.pop(name, None)
    os.environ["GRADIO_TEMP_DIR"] = str(files.cache)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def _login(password: str) -> Any:
    """Make the function that checks name and password. The time that it takes does not tell how much was right."""

    def check(user: str, given: str) -> bool:
        return hmac.compare_digest(user.encode(), USER.encode()) & hmac.compare_digest(
            given.encode(), password.encode()
        )

    return check
