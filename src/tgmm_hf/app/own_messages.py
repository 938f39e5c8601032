"""What a user and the log may see of an error: messages of this package, and nothing that holds text of a patient."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import ParamSpec, TypeVar

import gradio.queueing
import gradio.route_utils
import gradio.routes
from gradio import Error

from tgmm_hf.utils.errors import TgmmError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def own_messages_only(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make a function of the page raise errors that Gradio shows to the user and does not print.

    A `TgmmError` is shown with its reason. Of any other error only the type is shown, because its message may quote a
    file.
    """

    @wraps(function)
    def guarded(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        try:
            return function(*arguments, **options)
        except Error:
            raise
        except Exception as error:
            text = shown(error) if isinstance(error, TgmmError) else unexpected(error)
            raise Error(text, print_exception=False, duration=None) from None

    return guarded


def shown(error: TgmmError) -> str:
    """Write the message for an error that a user can mend, without the path of a file in the directory of a request."""
    return error.reason if os.sep in error.item else str(error)


def unexpected(error: BaseException) -> str:
    """Write the message for an error that nobody foresaw."""
    return f"unexpected: {type(error).__name__}. No answer was made, and the files were deleted. Please report it."


def print_no_values() -> None:
    """Make Gradio print the type of an error in place of its traceback.

    A traceback holds the message of the error, and a message such as "could not convert string to float: 'Doe'" holds
    what the patient's file or form says. Gradio has no setting for errors before or after the page's own functions.
    """
    for module in (gradio.queueing, gradio.routes, gradio.route_utils):
        module.traceback = SimpleNamespace(print_exc=_print_type)


def _print_type() -> None:
    """Print the type of the present error."""
    kind = sys.exc_info()[0]
    sys.stderr.write(f"tgmm app: {kind.__name__ if kind else 'error'} in a request\n")
