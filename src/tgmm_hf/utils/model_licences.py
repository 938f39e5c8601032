"""Where a pretrained part of a model comes from, and under which licence, for the configuration and the card."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import ModelCard


def describe_sources(sources: Mapping[str, str | Path]) -> dict[str, dict[str, str | None]]:
    """List where the pretrained parts of a model come from, for its configuration.

    Args:
        sources: name of a part -> directory or Hub repository.

    Returns:
        name -> `source`, `license`, `license_name`, `license_link`. The source of a directory is only its last part,
        because a local path may name people.
    """
    return {name: {"source": source_name(source), **read_licence(source)} for name, source in sources.items()}


def source_name(source: str | Path) -> str:
    """Return the last part of a directory's path, or the name of a Hub repository as it is."""
    return Path(source).resolve().name if Path(source).is_dir() else str(source)


def read_licence(source: str | Path) -> dict[str, str | None]:
    """Read `license`, `license_name` and `license_link` from the README.md of a directory.

    A value is None if the file or the entry is missing. For a Hub repository all are None, because nothing is
    downloaded.
    """
    card = Path(source) / "README.md"
    metadata = ModelCard.load(card).data.to_dict() if card.is_file() else {}
    return {name: metadata.get(name) for name in ("license", "license_name", "license_link")}


__all__ = ["describe_sources", "read_licence", "source_name"]
