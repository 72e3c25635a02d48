"""Bars of progress, in a terminal and in a notebook."""

import sys
from types import ModuleType

import pytest
from tqdm import tqdm

from deepcluster_sk._runtime.progress import progress_bar


def test_terminals_get_a_bar_of_tqdm(capsys):
    with progress_bar(total=3, desc="Reading") as bar:
        bar.update(3)
    assert isinstance(bar, tqdm)
    assert "Reading: 100%" in capsys.readouterr().err


class Container:
    closed = False

    def close(self):
        self.closed = True


class Output:
    """Where a notebook displays something."""

    shown = None

    def update(self, data, raw):
        assert raw
        self.shown = data


class NotebookBar(tqdm):
    """Stand-in for tqdm's bar of a notebook."""

    def __init__(self, *args, display=True, **options):
        assert not display
        self.container = Container()
        super().__init__(*args, file=sys.stdout, **options)


@pytest.fixture
def notebook(monkeypatch):
    """A session that looks like a notebook; what it displays, with where."""
    displayed = []

    def display(thing, display_id):
        assert display_id is True
        displayed.append((thing, Output()))
        return displayed[-1][1]

    modules = {"tqdm.notebook": {"tqdm_notebook": NotebookBar}, "tqdm.auto": {"tqdm": NotebookBar}}
    modules["IPython.display"] = {"display": display}
    for name, contents in modules.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    return displayed


def test_bar_of_a_notebook_becomes_its_last_line(notebook):
    bar = progress_bar(total=4, desc="Training")
    bar.update(3)
    bar.close()
    bar.close()  # a second time does nothing
    ((container, output),) = notebook
    assert container is bar.container
    assert container.closed
    assert output.shown["text/plain"].startswith("Training:  75%|")
    assert "3/4" in output.shown["text/plain"]


def test_bar_of_a_notebook_that_is_not_left_leaves_nothing(notebook):
    with progress_bar(total=4, leave=False) as bar:
        bar.update(4)
    assert notebook[0][1].shown == {"text/plain": ""}


def test_saved_notebook_has_the_last_line():
    nbformat = pytest.importorskip("nbformat", reason="needs: pip install nbformat")
    nbclient = pytest.importorskip("nbclient", reason="needs: pip install nbclient")
    for name in ("ipykernel", "ipywidgets"):
        pytest.importorskip(name, reason=f"needs: pip install {name}")
    code = (
        "from deepcluster_sk._runtime.progress import progress_bar\n"
        "with progress_bar(total=2, desc='Training') as bar:\n    bar.update(2)"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    (output,) = book.cells[0].outputs
    assert output.data["text/plain"].startswith("Training: 100%|")
    assert list(output.data) == ["text/plain"]
