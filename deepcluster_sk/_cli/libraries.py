"""Optional libraries, looked for before any work is done."""

from importlib.util import find_spec

from . import errors

_EXTRAS = {"pandas": "tables", "pyarrow": "tables", "shtab": "completion"}


def require(what: str, *modules: str) -> None:
    """Check that libraries are installed, without importing them.

    Raises
    ------
    ImportError
        If one is not; the message names the extra that installs it.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise errors.missing_library(what, missing, _EXTRAS[missing[0]])
