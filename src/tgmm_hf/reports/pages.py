"""HTML pages from the templates in `templates/`.

Every page extends `base.html`: it has no scripts, and its Content-Security-Policy forbids the browser to load anything.
All values are escaped. The only exception are figures that this package has drawn, see `inline_svg`.
"""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render_page(template: str, **values: Any) -> str:
    """Fill a template and return the HTML page.

    Args:
        template: File name in `templates/`.
        **values: The variables of the template. A variable that is missing is an error.
    """
    return _environment().get_template(template).render(**values)


def inline_svg(svg: str) -> str:
    """Cut the XML prologue off an SVG figure, because HTML does not allow it inside a page.

    The templates insert the result without escaping (`|safe`).

    Args:
        svg: SVG text that this package has drawn. Text in it must be escaped already, as matplotlib does.
    """
    return svg[svg.index("<svg") :]


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("tgmm_hf.reports"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
