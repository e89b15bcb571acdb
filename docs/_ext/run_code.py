"""Sphinx: every Python block of a page is run when the page is read; what it prints or draws stands below it.

``sphinx-build -D run_code=0`` leaves that out: minutes less, for a look at the text.
"""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import matplotlib
from docutils import nodes
from session import Session, Shown
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect."""
    app.add_config_value("run_code", True, "env", bool)
    app.connect("doctree-read", run_page)
    return {"parallel_read_safe": True}


def run_page(app: Sphinx, page: nodes.document) -> None:
    """Run the blocks of a page in their order."""
    if not app.config.run_code:
        return
    name = app.env.docname
    session = Session(name)
    for block in list(page.findall(nodes.literal_block)):
        language = block.get("language")
        if language in ("python", "console"):
            try:
                shown = session.run(language, block.astext())
            except Exception as error:
                code = block.astext()
                raise ExtensionError(f"{name}: {type(error).__name__}: {error}\nin the block\n\n{code}", error) from error
            block.parent[block.parent.index(block) + 1 : block.parent.index(block) + 1] = made_of(shown)


def made_of(shown: Shown) -> list[nodes.Node]:
    """What was shown, as nodes."""
    made: list[nodes.Node] = []
    if shown.text.strip():
        made.append(nodes.literal_block(shown.text, shown.text, language="text", classes=["output"]))
    if shown.figure is not None:
        about = html.escape(shown.about, quote=True)
        image = f'<figure class="picture"><img src="{picture(shown.figure)}" alt="{about}">'
        made.append(nodes.raw("", f"{image}<figcaption>{about}</figcaption></figure>", format="html"))
    return made


def picture(figure: Any) -> str:
    """An SVG within the page."""
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "timecell"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()
