"""Sphinx: Markdown pages (MyST) beside this file, API pages from the docstrings."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from numpydoc.xref import DEFAULT_LINKS
from sphinx.util.nodes import make_refnode

import replica
from docs.module_picture import draw

project = "replica-solver"
author = "The replica-solver developers"
version = release = replica.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx.ext.viewcode",
    "sphinxcontrib.bibtex",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery/*.ipynb"]
default_role = "py:obj"  # numpydoc docstrings write `name` for a link to a name

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the types are in the docstrings, as their authors meant them
numpydoc_show_class_members = False  # autodoc lists them
numpydoc_xref_param_type = True  # types are links, those of this package only:
DEFAULT_LINKS.clear()  # these would need the inventories of Python and NumPy from the network
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {
    name: f":obj:`{name}`"
    for module in ("", ".batch_norm", ".dynamics", ".gaussian", ".simulation", ".sweeps")
    for name in import_module(f"replica{module}").__all__
    if name == "GLM" or (name[0].isupper() and not name.isupper())
}

bibtex_bibfiles = ["references.bib"]

numfig = True  # equations are numbered by page, (2.7), which the paper's are not
math_number_all = False
math_eqref_format = "({number})"

# The lecture is a notebook, executed afresh; its kernel finds the package of this checkout.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (sys.path[0], os.getenv("PYTHONPATH"))))
nb_execution_mode = "force"
nb_execution_raise_on_error = True
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",  # generated
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "min_reported_time": float("inf"),
    "write_computation_times": False,
    "download_all_examples": False,
    "show_signature": False,
    "image_srcset": ["2x"],
}

html_theme = "furo"
html_title = f"replica-solver {release}"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_show_copyright = False


def keep_bars(app, what, name, obj, options, lines):
    """Escape the bars of |w| and the star of (*shape, n): docstrings are written to be read."""
    in_example = False
    for index, line in enumerate(lines):
        in_example = line.lstrip().startswith((">>>", "...")) or (in_example and line.strip())
        if not in_example:
            pieces = re.split(r"(`[^`]*`)", line)
            pieces[::2] = [re.sub(r"(?<!\\)\||(?<=\()\*(?=\w)", r"\\\g<0>", p) for p in pieces[::2]]
            lines[index] = "".join(pieces)


def find_by_last_name(app, env, node, contnode):
    """Resolve `name` from any module, if only one object of the site has that name."""
    target = "." + node.get("reftarget", "")
    found = {
        (entry.docname, entry.node_id)
        for name, entry in env.get_domain("py").objects.items()
        if node.get("refdomain") == "py" and name.endswith(target) and not entry.aliased
    }
    if len(found) != 1:
        return None
    docname, anchor = found.pop()
    return make_refnode(app.builder, node["refdoc"], docname, anchor, contnode)


def adapt_summary(app, path, parent, text):
    """Let the table of verdicts, which is included, link to the pictures below it; name colors."""
    if path.name == "summary.md":
        text[0] = re.sub(r"\[\w+\]\((\w+)\.png\)", r"[figure](#\1)", text[0])
        for mark, color in {"🟢": "green", "🟠": "amber", "🔴": "red"}.items():
            named = f'<b class="{color}">{color}</b>'
            text[0] = re.sub(f"{mark}( {color})?", named, text[0])


def draw_modules(app):
    """Draw the picture of architecture.md from the imports of today."""
    draw(Path(app.srcdir) / "modules.svg")


def setup(app):
    app.connect("builder-inited", draw_modules)
    app.connect("include-read", adapt_summary)
    app.connect("missing-reference", find_by_last_name)
    app.connect("autodoc-process-docstring", keep_bars, priority=400)  # before numpydoc at 500
