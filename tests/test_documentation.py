"""The documentation says what the package has, its code runs, and it builds."""

import ast
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS
from numpydoc.validate import validate
from PIL import Image
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

import deepcluster_sk
from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._cli import main
from deepcluster_sk._estimator import plan
from deepcluster_sk._estimator.base import DOCUMENTATION_URL, BaseDeepClusterer

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def public_names():
    """Return the name of everything public, by its module, such as "deepcluster_sk.load"."""
    found = pkgutil.iter_modules(deepcluster_sk.__path__, "deepcluster_sk.")
    modules = [m.name for m in found if not m.name.split(".")[1].startswith("_")]
    return {
        f"{module}.{name}"
        for module in ["deepcluster_sk", *modules]
        for name in importlib.import_module(module).__all__
        if f"{module}.{name}" not in modules
    }


def find(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_api_page_lists_every_public_name_and_no_other():
    listed = re.findall(
        r"^ *(?:\.\. data:: |~)(deepcluster_sk[\w.]+)$", (DOCS / "api.rst").read_text("utf-8"), re.M
    )
    assert len(listed) == len(set(listed))
    assert set(listed) == public_names()


# codes of numpydoc that do not hold here: sections that not everything needs, "name : type" in
# Returns, descriptions that begin with a symbol of the paper
NOT_CHECKED = {"ES01", "EX01", "SA01", "RT02", "RT03", "PR08"}
# one line says what the hooks of an augmentation or encoder do; the bases take no parameters
IS_HOOK = re.compile(r"deepcluster_sk\.(augmentations|encoders)\.[A-Z]\w+\.\w+$")
ABSTRACT = {
    f"deepcluster_sk.augmentations.{name}"
    for name in ("Augmentation", "ColorStep", "DisplacementStep", "GeometricStep")
}


def documented_objects():
    for name in sorted(public_names() - {"deepcluster_sk.__version__"}):
        thing = find(name)
        if inspect.isclass(thing):
            yield name
            for method in vars(thing):
                if not method.startswith("_") and inspect.isroutine(getattr(thing, method)):
                    yield f"{name}.{method}"
        elif inspect.isfunction(thing):
            yield name
    for name, method in inspect.getmembers(BaseDeepClusterer, inspect.isroutine):
        if not name.startswith("_") and method.__module__.startswith("deepcluster_sk"):
            yield f"deepcluster_sk.ContrastiveClustering.{name}"


@pytest.mark.parametrize("name", list(documented_objects()))
def test_public_docstrings_are_valid_numpydoc(name):
    skipped = set(NOT_CHECKED)
    if IS_HOOK.match(name) or name in ABSTRACT:
        skipped |= {"PR01", "RT01"}
    errors = [error for error in validate(name)["errors"] if error[0] not in skipped]
    assert errors == []


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_html_representation_links_to_the_api_page(estimator):
    link = f"{DOCUMENTATION_URL}/api/deepcluster_sk.{estimator.__name__}.html"
    assert estimator()._get_doc_link() == link
    assert link in estimator()._repr_html_()
    assert f"~deepcluster_sk.{estimator.__name__}\n" in (DOCS / "api.rst").read_text("utf-8")


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_html_representation_explains_every_parameter(estimator):
    common = pytest.importorskip("sklearn.utils._repr_html.common", reason="scikit-learn >= 1.8")
    if not hasattr(common, "get_docstring"):
        pytest.skip("scikit-learn < 1.8 shows no tooltips")
    with config_context(display="diagram"):
        page = estimator()._repr_html_()
    for name in estimator().get_params():
        assert f"{name}: " in page.split(f"--doc-link-{name};")[2], name
    assert "Number of clusters K" in page
    assert f"{estimator.__name__}.html#:~:text=n_clusters,-int" in page


def test_subclass_of_a_user_has_no_link():
    class Own(ContrastiveClustering):
        pass

    assert Own()._get_doc_link() == ""


def code_blocks(page):
    """Return the Python blocks of a page that are not marked as not run."""
    blocks = re.findall(
        r"(<!-- not run: .+ -->\n)?```python\n(.*?)```", page.read_text("utf-8"), re.S
    )
    return [code for mark, code in blocks if not mark]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("path", [*filter(code_blocks, PAGES)], ids=lambda path: path.stem)
def test_code_on_the_page_runs(path, tmp_path, monkeypatch, capsys):
    """All blocks in one namespace, on few digits and photos of noise.

    Where the page leaves the number of epochs to "auto", it is one.
    """
    pyplot = pytest.importorskip("matplotlib.pyplot")
    blocks = code_blocks(path)
    for module, reason in [
        ("sklearn.callback", "scikit-learn < 1.9"),
        ("onnxruntime", "extra onnx"),
    ]:
        if any(module in code for code in blocks):
            pytest.importorskip(module, reason=reason)
    if any("to_onnx" in code for code in blocks) and torch.__version__ < "2.8":
        pytest.skip("the extra onnx needs torch >= 2.8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "default_epochs", lambda n_samples, batch_size, least: 1)
    monkeypatch.setattr("sklearn.datasets.load_digits", few_digits)
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (40, 20, 24, 3))):
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / f"{number:02}.jpg")
    namespace = {}
    for code in blocks:
        exec(compile(code, path.name, "exec"), namespace)
    pyplot.close("all")


def few_digits(*, return_X_y=False):
    """The first of the bundled digits."""
    data, target = load_digits(return_X_y=True)
    few = Bunch(data=data[:120], images=data[:120].reshape(-1, 8, 8), target=target[:120])
    return (few.data, few.target) if return_X_y else few


def long_lines(path):
    """Return the long lines of a page, without tables and code."""
    text = re.sub(r"^(`{3,}).*?^\1", "", path.read_text("utf-8"), flags=re.M | re.S)
    return [line for line in text.splitlines() if len(line) > 60 and not line.startswith("|")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_formulas_are_closed_and_no_line_of_a_page_stands_there_twice(path):
    assert path.read_text("utf-8").splitlines().count("$$") % 2 == 0
    lines = long_lines(path)
    assert sorted(set(lines)) == sorted(lines)


def test_pages_have_code_that_is_run():
    assert len(code_blocks(ROOT / "README.md")) >= 3
    assert sum(len(code_blocks(path)) for path in PAGES) > 30


COMMANDS = ["fit", "predict", "report", "evaluate", "similar", "duplicates"]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_line_page_names_every_option(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out)) - {"--help"}
    assert len(options) >= 6
    page = (DOCS / "command_line.md").read_text("utf-8")
    assert [option for option in options if f"| `{option}" not in page] == []
    assert f"| `deepcluster-sk {command} " in page


def needs(*modules):
    missing = [module for module in modules if find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: extra docs")


def environment():
    """One thread, no network, and no window."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "DOCS_ONLINE": "0", "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
@needs("sphinx", "myst_parser", "pydata_sphinx_theme", "sphinx_gallery")
def test_documentation_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    result = subprocess.run(
        [*command, "-d", tmp_path / "doctrees", DOCS, tmp_path / "html"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert result.returncode == 0, result.stderr
    for estimator in ESTIMATORS:
        page = tmp_path / "html" / "api" / f"deepcluster_sk.{estimator.__name__}.html"
        assert "n_clusters" in page.read_text("utf-8")
    assert list((tmp_path / "html" / "_images").glob("sphx_glr_plot_digits_*.png"))


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_without_outputs(path):
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def shows_its_last_value(source):
    """Tell whether a cell ends with an expression, which a semicolon would hide."""
    return isinstance(ast.parse(source).body[-1], ast.Expr) and not source.endswith(";")


@pytest.mark.slow
@needs("nbclient", "nbformat", "ipykernel", "matplotlib")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel has its own
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": tmp_path}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            types = [mime for output in cell.outputs for mime in output.get("data", {})]
            assert types.count("image/png") == cell.source.count("Display.from_"), cell.source
            assert not shows_its_last_value(cell.source) or "text/plain" in types, cell.source
