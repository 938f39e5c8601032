"""Refuse an option that is given twice with two values, because the parser takes the last without a word."""

from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperCommand


class SingleOptionsCommand(TyperCommand):
    """Command whose options have one value each, unless they may be repeated (`--task`, `--set`)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line, after a look for options with two values.

        Args:
            ctx: Context of the command.
            args: The words.
        """
        values: dict[str, set[str]] = {}
        for parameter, value in _values(self.get_params(ctx), args):
            name = max(parameter.opts, key=len)
            values.setdefault(name, set()).add(value)
            if len(values[name]) > 1:
                ctx.fail(f"{name} is given twice with two values, and only one can be used. Leave one of them out.")
        return super().parse_args(ctx, args)


def _values(parameters: Sequence[Any], args: Sequence[str]) -> Iterator[tuple[Any, str]]:
    """List the options that take one value, each with the value that a command line gives."""
    options = {
        name: parameter for parameter in parameters if parameter.param_type_name == "option" for name in parameter.opts
    }
    words = iter(args)
    for word in words:
        if word == "--":
            return
        name, has_value, value = word.partition("=")
        parameter = options.get(name)
        if parameter is None or parameter.is_flag or parameter.count:
            continue
        given = value if has_value else next(words, "")
        if not parameter.multiple:
            yield parameter, given


__all__ = ["SingleOptionsCommand"]
