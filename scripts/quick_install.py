"""Install packages with uv where pip's settings allow it, because pip unpacks several GB one file after the other.

    python scripts/quick_install.py [words of `uv pip install`]

The packages go into the environment of the Python that runs this script. uv itself and its cache go into a folder of
this environment. The exit status is 1 if uv cannot be had, if pip has a setting that has no counterpart here, or if uv
fails. Then pip should install. It should also run after success: it finds the packages there and checks them.
"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

UV = "uv==0.13.9"
"""The tried version."""
PYPI = "https://pypi.org/simple"
"""Index of pip and uv when no setting names another one."""
FOLDER = Path(sys.prefix) / ".uv"
VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "cert": "SSL_CERT_FILE",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}
"""Setting of pip -> environment variable of uv with the same meaning."""
WITHOUT_EFFECT = {
    *("cache-dir", "disable-pip-version-check", "no-cache-dir", "no-color", "no-input", "progress-bar", "quiet"),
    *("require-virtualenv", "retries", "root-user-action", "verbose"),
}
"""Settings of pip that do not change what is installed."""


def pip_settings(listing: str) -> dict[str, str]:
    """Read the output of `pip config list`: setting -> value. An environment variable replaces a file's value."""
    settings = {}
    lines = [line.partition("=") for line in listing.splitlines()]
    for name, equals, value in sorted(lines, key=lambda line: line[0].startswith(":env:")):
        if equals:
            settings[name.removeprefix(":env:.").rpartition(".")[2]] = str(ast.literal_eval(value))
    return settings


def uv_variables(settings: dict[str, str]) -> dict[str, str] | None:
    """Return the environment variables of uv for settings of pip, None if one has no counterpart."""
    if set(settings) - set(VARIABLES) - WITHOUT_EFFECT:
        return None
    variables = {VARIABLES[name]: " ".join(value.split()) for name, value in settings.items() if name in VARIABLES}
    if "UV_FIND_LINKS" in variables:
        variables["UV_FIND_LINKS"] = variables["UV_FIND_LINKS"].replace(" ", ",")
    if "UV_INDEX" in variables:
        # uv takes a version from the first index that has it. The main index has its wheel for every machine. An extra
        # index may have one wheel only: "any" of soundfile has no library, and transformers cannot be imported then.
        variables["UV_INDEX"] = f"{variables.get('UV_DEFAULT_INDEX', PYPI)} {variables['UV_INDEX']}"
    # As pip does: the best version of all indexes, and every package anew if the file system has no hard links.
    return variables | {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_NO_CONFIG": "1",
        "UV_CACHE_DIR": f"{FOLDER}/cache",
    }


def main(words: list[str]) -> int:
    """Install, and return the exit status."""
    pip = [sys.executable, "-m", "pip"]
    listing = subprocess.run([*pip, "config", "list"], capture_output=True, text=True)
    variables = uv_variables(pip_settings(listing.stdout)) if listing.returncode == 0 else None
    if variables is None:
        return 1
    program = FOLDER / "bin" / "uv"
    if not program.is_file():
        options = ["-qq", "--disable-pip-version-check", "--retries", "0", "--timeout", "10"]
        options += ["--no-deps", "--only-binary", ":all:", "--target", str(FOLDER)]
        subprocess.run([*pip, "install", *options, UV], stderr=subprocess.DEVNULL)
    if not program.is_file():
        return 1
    command = [str(program), "pip", "install", "--quiet", "--python", sys.executable, *words]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UV_")} | variables
    status = subprocess.run(command, env=environment).returncode
    shutil.rmtree(FOLDER / "cache", ignore_errors=True)  # the packages are hard links to it, or copies
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
