"""The frame of a page: templates, styles and scripts put together into one file."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from .._version import __version__

_SCRIPTS = (
    *("base", "names", "viewer", "canvas", "map", "selection"),
    *("gallery", "samples", "start"),
)


def template(name: str, **values: str) -> str:
    """Return a file of the templates, with its places filled."""
    return Template(source(name)).substitute(values)


def source(name: str) -> str:
    """Return a file of the templates as it is."""
    return (files(__package__) / "templates" / name).read_text("utf-8")


def page(
    title: str,
    sections: Sequence[str],
    *,
    data: str,
    sprites: str = "",
    nav: Sequence[tuple[str, str]] = (),
    scripts: Sequence[str] = _SCRIPTS,
) -> str:
    """Put a page together.

    Parameters
    ----------
    title : str
    sections : sequence of str
        HTML.
    data : str
        What the script reads.
    sprites : str, default=""
        Styles of the pictures.
    nav : sequence of (str, str), default=()
        Identifier and title of sections; those that the page lacks are left out.
    scripts : sequence of str, default=all
        Which files of the templates, in this order.
    """
    body = "\n".join(filter(None, sections))
    links = [
        f'<a href="#{name}">{escape(text)}</a>' for name, text in nav if f'id="{name}"' in body
    ]
    return template(
        "report.html",
        version=__version__,
        title=escape(title),
        css=source("report.css"),
        sprites=sprites,
        nav="\n".join(links),
        sections=body,
        data=data,
        js="\n".join(source(f"{name}.js") for name in scripts),
    )
