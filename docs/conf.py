"""How the documentation is built: ``make docs``, offline, into docs/_build. See _ext/ for what is computed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import timecell

project = "timecell"
author = "the authors of timecell"
copyright = "the authors of timecell, Apache-2.0"
version = release = timecell.__version__
extensions = ["myst_parser", "run_code", "computed"]
exclude_patterns = ["_build", "_ext", "reference/speed"]
myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
nitpicky = False
add_module_names = False
python_maximum_signature_line_length = 90
highlight_language = "text"

suppress_warnings = []

html_theme = "pydata_sphinx_theme"
html_title = "timecell"
html_static_path = ["_static"]
html_css_files = ["timecell.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "timecell"},
    "navbar_align": "left",
    "show_prev_next": True,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "friendly",
    "pygments_dark_style": "monokai",
}
html_sidebars = {"index": [], "tutorial": []}
