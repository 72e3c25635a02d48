"""Bars of progress, in a terminal and in a notebook."""

import sys
from importlib import import_module
from typing import Any


def progress_bar(**options: Any) -> Any:
    """Return a tqdm bar.

    What a notebook shows of a widget is lost when it is saved without the state of its widgets:
    the bar would be at 0 % for ever. So a bar that is closed becomes a line of text.
    """
    from tqdm.auto import tqdm

    notebook = sys.modules.get("tqdm.notebook")  # tqdm.auto imports it where it takes it
    if notebook is None or not issubclass(tqdm, notebook.tqdm_notebook):
        return tqdm(**options)
    return _notebook_bar(tqdm, options)


def _notebook_bar(base: type, options: dict[str, Any]) -> Any:
    """Return a bar of tqdm's class for notebooks that turns to text at its end."""
    display = import_module("IPython.display").display

    class Bar(base):
        output: Any = None  # where the bar is displayed

        def close(self) -> None:
            """Leave the last line in place of the bar, or nothing if it is not to be left."""
            output, self.output = self.output, None
            line = str(self) if self.leave else ""
            super().close()
            if output is not None:
                output.update({"text/plain": line}, raw=True)
                self.container.close()

    bar = Bar(**options, display=False)
    bar.output = display(bar.container, display_id=True)
    return bar
