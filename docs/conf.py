"""How Sphinx makes the documentation: sphinx-build -W docs OUT."""

import re
from typing import Any

import deltaprop

project = "deltaprop"
author = copyright = "The deltaprop authors"
release = deltaprop.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_click",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

smartquotes = False  # --option stays what it is
default_role = "code"  # as docstrings and Markdown have it
autodoc_typehints = "none"  # docstrings say shapes and dtypes, which types do not
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_ivar = True

html_theme = "pydata_sphinx_theme"
html_title = f"deltaprop {release}"
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["style.css"]
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def setup(app: Any) -> None:
    """What Sphinx calls. Before napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", escape, priority=400)


def escape(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """|x| is an absolute value here, and net_ a name: neither is a reference."""
    lines[:] = [re.sub(r"^(\w+)_$", r"\1\\_", line.replace("|", "\\|")) for line in lines]
