"""Upload the web page of a model as a Hugging Face Space.

The Space holds the package itself, because a Space builds its environment from the internet and the package need not be
published there. It holds no model: the page loads the model from the Hub when it starts.
"""

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi

import tgmm_hf
from tgmm_hf.hub.push import check_repo_id, commit_files
from tgmm_hf.utils.errors import TgmmError

PACKAGE = Path(tgmm_hf.__file__).parent
PACKAGE_FILES = (".py", ".sql", ".html", ".txt", ".json", ".typed")
"""Suffixes of the files of the package."""
EXTRAS = ("app", "explain")
"""Extras that a Space needs."""
APP = '''"""The page of {model} as a Hugging Face Space. `tgmm push-space` wrote this file."""

from tgmm_hf.app.space import serve_space

if __name__ == "__main__":  # worker processes import this file too
    serve_space("{model}")
'''
CARD = """---
title: TGMM
emoji: 🫀
colorFrom: blue
colorTo: gray
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
models:
- {model}
pinned: false
license: apache-2.0
---

# {model} as a web page

Research software, not a medical device. Do not base a decision about a patient on it.

The page asks for a password. Set the secret `TGMM_APP_PASSWORD` in the settings of this Space. The name of the user is
`tgmm`. Without the secret the page does not start. For a private model set the secret `HF_TOKEN` too.

A Space is a computer of somebody else. Do not send data of patients to it unless you are allowed to.
"""


def push_space(
    model: str,
    repo_id: str,
    *,
    public: bool = False,
    dry_run: bool = False,
    api: HfApi | None = None,
) -> CommitInfo | Mapping[str, int]:
    """Upload the web page of a model as a Space, in one commit.

    Args:
        model: "owner/name" of the model on the Hub.
        repo_id: "owner/name" of the Space. It is created if it does not exist.
        public: Make a new Space public. By default it is private.
        dry_run: Upload nothing.
        api: Client of the Hub. None makes one with the endpoint and the token of the environment.

    Returns:
        The commit, or file -> size in bytes of a dry run.

    Raises:
        TgmmError: If a name is no name of a repository, the package is not installed with its metadata, or the Hub
            takes no files.
    """
    for name in (model, repo_id):
        check_repo_id(name)
    files = space_files(model)
    if dry_run:
        return {name: len(content) for name, content in files.items()}
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    return commit_files(api or HfApi(), repo_id, "space", operations, private=not public, space_sdk="gradio")


def space_files(model: str) -> dict[str, bytes]:
    """Return the files of a Space: name -> content. Only files of this package are among them."""
    requirements, gradio = space_requirements()
    texts = {
        "app.py": APP.format(model=model),
        "requirements.txt": "\n".join(requirements) + "\n",
        "README.md": CARD.format(model=model, gradio=gradio),
    }
    files = {name: text.encode() for name, text in texts.items()}
    for path in sorted(PACKAGE.rglob("*")):
        if path.is_file() and path.suffix in PACKAGE_FILES and "__pycache__" not in path.parts:
            files[f"tgmm_hf/{path.relative_to(PACKAGE).as_posix()}"] = path.read_bytes()
    return files


def space_requirements() -> tuple[list[str], str]:
    """Return the requirements of the package with the extras of a Space, and the version of Gradio.

    Gradio is left out of the list, because the Space installs the version that its card names.
    """
    try:
        declared = requires("tgmm-hf") or []
        gradio = version("gradio")
    except PackageNotFoundError as error:
        raise TgmmError(str(error.name), "it is not installed: pip install 'tgmm-hf[app]'.") from error
    chosen = []
    for line in declared:
        requirement, _, condition = (part.strip() for part in line.partition(";"))
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", condition)
        is_wanted = extra is None or extra[1] in EXTRAS
        if is_wanted and not requirement.startswith(("gradio", "tgmm-hf")):
            chosen.append(requirement)
    return list(dict.fromkeys(chosen)), gradio
