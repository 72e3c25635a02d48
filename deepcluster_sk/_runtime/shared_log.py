"""A list that grows in several processes, without threads and open connections."""

import json
import os
import shutil
import tempfile
import uuid
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

_LOADED = uuid.uuid4().hex  # a process that ended may have had the same number


def _this_process() -> str:
    return f"{os.getpid()} {_LOADED}"


class SharedLog:
    """Records of JSON, in memory; copies that were pickled into other processes send theirs.

    They write them to a folder for temporary files, which is made when a log is pickled, and
    removed with the log. A copy within the process, and one that outlives the log, is on its own.
    """

    def __init__(self) -> None:
        self._records: list[Any] = []
        self._home = _this_process()
        self._folder: str | None = None

    def append(self, record: Any) -> None:
        """Add a record, where the log was made."""
        if self._folder is not None and self._home != _this_process():
            with suppress(FileNotFoundError):  # the log is gone, and nobody waits for the record
                _write(Path(self._folder), record)
                return
        self._records.append(record)

    def records(self) -> list[Any]:
        """Return all records that arrived, in no particular order."""
        if self._folder is None or self._home != _this_process():
            return list(self._records)
        sent = Path(self._folder).glob("*.json")
        return [*self._records, *(json.loads(path.read_text("utf-8")) for path in sent)]

    def __getstate__(self) -> dict[str, Any]:
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="deepcluster_sk_")
            weakref.finalize(self, _remove, self._folder, self._home)
        return {**vars(self), "_records": self.records()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._home == _this_process() or not os.path.isdir(str(self._folder)):
            self._home, self._folder = _this_process(), None


def _write(folder: Path, record: Any) -> None:
    """Write a file at once, of a name that no other one has."""
    path = folder / uuid.uuid4().hex
    path.write_text(json.dumps(record), "utf-8")
    path.rename(path.with_suffix(".json"))


def _remove(folder: str, home: str) -> None:
    if home == _this_process():  # not a fork of it, which ends before
        shutil.rmtree(folder, ignore_errors=True)
