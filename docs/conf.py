"""Settings of the documentation, which ``make docs`` builds into docs/_build/html.

A build needs no internet access. Links into the documentation of Python, numpy, scikit-learn and
torch need the inventories of these sites, which are fetched only where DOCS_ONLINE=1 or on Read the
Docs; elsewhere such names are shown without a link.
"""

import os
import re
import warnings

from torch import nn

from deepcluster_sk import __version__
from deepcluster_sk._estimator.base import DOCUMENTATION_URL

warnings.filterwarnings("error", module="deepcluster_sk")  # also those of the gallery's scripts

project = "deepcluster_sk"
author = "the deepcluster_sk developers"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas need no internet access either
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "templates"]
templates_path = ["templates"]
suppress_warnings = ["config.cache"]  # the gallery's settings hold a class

myst_heading_anchors = 3
myst_html_meta = {
    "description": "Contrastive deep clustering behind the scikit-learn interface",
    "keywords": "contrastive clustering, deep clustering, image clustering, unsupervised learning, "
    "embeddings, scikit-learn, PyTorch, CC, TCC, DRC, CueCo, GCC, C3, IMC-SwAV, TEMI, TURTLE",
}
myst_enable_extensions = ["dollarmath"]
myst_dmath_allow_space = False  # a dollar sign in a sentence is none of a formula

autodoc_typehints = "none"  # the docstrings name types, and shapes with them
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
# methods that belong to torch and to scikit-learn's machinery, not to this package
_hidden = set(dir(nn.Module)) - {"forward"}
_hidden |= {"get_metadata_routing", "get_params", "set_params", "set_output"}
_hidden |= {"count", "index"}  # of named tuples
autosummary_context = {"hidden": sorted(_hidden)}

_online = os.environ.get("READTHEDOCS") == "True" or os.environ.get("DOCS_ONLINE") == "1"
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "sklearn": ("https://scikit-learn.org/stable", None),
    "torch": ("https://docs.pytorch.org/docs/stable", None),
}
if not _online:
    intersphinx_mapping = {}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_",),  # diagrams of estimators, but no <Display object at 0x...>
}

html_theme = "pydata_sphinx_theme"
html_baseurl = DOCUMENTATION_URL + "/"
html_title = "deepcluster_sk"
html_static_path = ["static"]
html_favicon = "static/favicon.svg"
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "deepcluster_sk"},
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": [], "install": [], "quick_start": [], "benchmarks": [], "changelog": []}


def escape_shapes(app, what, name, obj, options, lines):
    """Keep shapes such as (n_samples, *input_shape_) from being read as links and emphasis."""
    for number, line in enumerate(lines):
        if " : " in line:
            lines[number] = re.sub(r"(?<=[ (])(\*?)(\w+)_(?=[,)])", r"\\\1\2\_", line)


def setup(app):
    """Connect to autodoc."""
    app.connect("autodoc-process-docstring", escape_shapes, priority=400)  # before numpydoc's
