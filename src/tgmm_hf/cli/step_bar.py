"""A progress bar of named steps, for an explanation that takes minutes."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer


@contextmanager
def step_bar(title: str) -> Iterator[Callable[[str, float], None]]:
    """Draw a bar on the error output. Yields a function that takes the name of a step and the share that is done.

    Where the error output is no terminal, such as a log file, each step is a line.

    Args:
        title: stands before the bar.
    """
    if not sys.stderr.isatty():
        steps: list[str] = []

        def name_once(step: str, _: float) -> None:
            if step not in steps[-1:]:
                steps.append(step)
                typer.echo(f"  {step} ...", err=True)

        yield name_once
        return
    from tqdm.auto import tqdm

    with tqdm(total=100, desc=title, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}") as bar:

        def tell(step: str, share: float) -> None:
            bar.n = round(100 * share)
            bar.set_postfix_str(step)

        yield tell
        bar.n = bar.total
        bar.set_postfix_str("done")
