"""Pages from templates: one HTML file that needs nothing else, and no network least of all.

Jinja2 escapes every text that a user or a file gave (encoder SPECs, scenes, notes, paths, the command). Data for a page's script
stand in JSON blocks in which ``<`` is written as an escape.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "worker-src blob:"
)
"""Of every page: even a defect in a script could fetch nothing. Plotly's 3D charts compile their inner loops, hence eval."""


def render(template: str, *, title: str, about: str, version: str, data: Mapping[str, Any], **context: Any) -> str:
    """The page of `template`, a file of ``report/templates`` that extends ``base.html``.

    Args:
        template: such as ``probe.html``.
        title: the page's title. about: what stands behind it in the heading; empty for nothing.
        version: of Fathom, for the foot of the page.
        data: name -> JSON values that the page's script reads by ``document.getElementById(name)``.
        context: what the template shows; all of it is escaped, but for `Markup`.
    """
    from plotly.offline import get_plotlyjs

    return (
        environment()
        .get_template(template)
        .render(
            title=title,
            about=about,
            version=version,
            data=data,
            policy=POLICY,
            style=asset("page.css"),
            plotly=Markup(get_plotlyjs()),
            **context,
        )
    )


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Jinja2 with this package's templates: it escapes everywhere, and a name that does not exist is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("fathom.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["json"] = json_for_script
    made.globals["asset"] = asset
    return made


def asset(name: str) -> Markup:
    """A file of ``report/templates`` as it is: a style sheet or a script of this package."""
    return Markup((files("fathom.report") / "templates" / name).read_text(encoding="utf-8"))


def json_for_script(value: Any) -> Markup:
    """`value` as JSON that nothing can break out of: inside a script block only ``<`` can end it or open a comment."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))
