"""HTML pages from the templates in `templates/`.

Every page extends `base.html`: it has no scripts, and its Content-Security-Policy forbids the browser to load anything.
All values are escaped. The only exception is `inline_svg`, for figures that this package has drawn.
"""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render_page(template: str, **values: Any) -> str:
    """Fill a template and return the HTML page.

    Args:
        template: File name in `templates/`.
        **values: The variables of the template. A variable that is missing is an error.
    """
    return _environment().get_template(template).render(**values)


def inline_svg(svg: str) -> Markup:
    """Mark an SVG figure as safe, without its XML prologue, which HTML does not allow inside a page.

    Args:
        svg: SVG text that this package has drawn. Text in it must be escaped already, as matplotlib does.
    """
    return Markup(svg[svg.index("<svg") :])


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("tgmm_hf.reports"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
