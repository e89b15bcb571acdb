"""Sphinx: every Python block of a page is run when the page is read; what it prints or draws stands below it.

``sphinx-build -D run_code=0`` leaves that out: minutes less, for a look at the text. A page that needs
a package that is not installed is not run either, and says so.
"""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import matplotlib
from docutils import nodes
from session import Session, Shown, absent
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
    blocks = [b for b in page.findall(nodes.literal_block) if b.get("language") in ("python", "console")]
    missing = absent((block["language"], block.astext()) for block in blocks)
    if missing:
        page[0].insert(
            1, nodes.note("", nodes.paragraph(text=f"Built without {', '.join(missing)}: not run this time."))
        )
        return
    with Session(name) as session:
        for block in blocks:
            try:
                shown = session.run(block["language"], block.astext())
            except Exception as error:
                about = f"{name}: {type(error).__name__}: {error}\nin the block\n\n{block.astext()}"
                raise ExtensionError(about, error) from error
            behind = block.parent.index(block) + 1
            block.parent[behind:behind] = made_of(shown)


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
