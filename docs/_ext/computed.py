"""Sphinx: what is computed from the code. ``{computed} neurons`` is a table of listings.py, ``{api} timecell.cell`` a reference."""

from __future__ import annotations

from typing import Any, ClassVar

import api
import listings
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class _Made(SphinxDirective):
    required_arguments = 1

    def markdown(self) -> str:
        """What stands here."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """As if it were written on the page."""
        return self.parse_text_to_nodes(self.markdown(), allow_section_headings=True)


class Table(_Made):
    """A table, or what else listings.py makes under this name."""

    def markdown(self) -> str:
        """By its name."""
        return getattr(listings, self.arguments[0])()


class Api(_Made):
    """The public names of a module."""

    option_spec: ClassVar[dict[str, Any]] = {}

    def markdown(self) -> str:
        """By its name."""
        return api.page(self.arguments[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect."""
    app.add_directive("computed", Table)
    app.add_directive("api", Api)
    return {"parallel_read_safe": True}
