"""What is at a path, where reading may wait forever and writing destroy; names of any bytes."""

import codecs
import os
import stat

ANY_NAME = "deepcluster_sk.any_name"
"""Handler of errors for text files that hold names of files: it writes every name."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def special_kind(path: str | os.PathLike[str]) -> str | None:
    """Say what is at a path that is no regular file, nor a link to one; None for a regular file.

    Raises
    ------
    OSError
        If there is nothing, or nothing that may be looked at.
    """
    mode = os.stat(path).st_mode
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no regular file")


def special_target(path: str | os.PathLike[str]) -> str | None:
    """Say what would be lost if a file took its place; None for a regular file or a new one."""
    try:
        return special_kind(path)
    except OSError:
        return None


def _any_name(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode what an encoding lacks: bytes of a file name as they were, characters escaped."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error(ANY_NAME, _any_name)
