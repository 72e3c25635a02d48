"""The errors of the command: each function builds one of them.

A :class:`UsageError` ends the command with 2, an ``ArgumentTypeError`` as well; anything else is
about data and ends it with 1.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path


class UsageError(Exception):
    """The arguments do not go together; the message says what to change."""


# ---- values of options


def not_positive(text: str) -> argparse.ArgumentTypeError:
    """Return the error for what is no integer of at least 1."""
    return argparse.ArgumentTypeError(f"{text!r}, expected an integer of at least 1")


def no_size(text: str) -> argparse.ArgumentTypeError:
    """Return the error for what is no size of images."""
    return argparse.ArgumentTypeError(
        f"{text!r}, expected pixels such as 64, or height and width such as 48x64"
    )


def no_assignment(text: str) -> argparse.ArgumentTypeError:
    """Return the error for a --set without name or value."""
    return argparse.ArgumentTypeError(f"{text!r}, expected NAME=VALUE")


def unknown_parameter(method: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a --set of what the method does not have."""
    return UsageError(f"{method} has no parameter {name!r}. It has: {', '.join(known)}.")


# ---- encoders


def encoder_by_name(name: str) -> UsageError:
    """Return the error for an encoder that a saved model does not need."""
    return UsageError(
        f"--encoder {name}: a model with an encoder by name opens by itself. Leave the option "
        "out, or name a function as PACKAGE.MODULE:FUNCTION."
    )


def module_of_encoder(text: str, module: str, error: Exception) -> UsageError:
    """Return the error for a module that cannot be imported."""
    return UsageError(f"--encoder {text}: the module {module!r} cannot be imported: {error}.")


def function_of_encoder(text: str, module: str, function: str) -> UsageError:
    """Return the error for a module that lacks the function."""
    return UsageError(
        f"--encoder {text}: {module!r} has no function {function!r}. Name one that returns a "
        "torch.nn.Module."
    )


# ---- sources


def several_sources(n_sources: int, suffixes: Sequence[str]) -> UsageError:
    """Return the error for a file of rows that is not the only source."""
    return UsageError(
        f"{n_sources} sources with a {', '.join(suffixes)} among them; expected one such file, or "
        "folders and image files."
    )


def missing_sources(paths: Sequence[str]) -> FileNotFoundError:
    """Return the error for files and folders that do not exist."""
    more = f", nor {len(paths) - 1} more" if len(paths) > 1 else ""
    return FileNotFoundError(f"there is no file or folder {paths[0]!r}{more}")


def special_file(path: str, kind: str) -> ValueError:
    """Return the error for rows in what is no regular file."""
    return ValueError(f"{path!r} is {kind}. Pass a regular file with the rows or images.")


def unreadable_array(path: str, error: Exception) -> ValueError:
    """Return the error for a damaged file."""
    why = " ".join(str(error).split()) or type(error).__name__
    return ValueError(f"{path!r} cannot be read: {why}")


def no_real_array(path: str, shape: tuple[int, ...], dtype: object) -> ValueError:
    """Return the error for an array of anything but real numbers."""
    return ValueError(
        f"{path!r} holds an array of shape {shape} and dtype {dtype}, expected rows or images of "
        "real numbers."
    )


def several_arrays(names: Sequence[str]) -> ValueError:
    """Return the error for an archive in which nothing says which array is meant."""
    return ValueError(
        f"it holds {len(names)} arrays ({', '.join(names)}); expected one, or one named 'X'."
    )


def no_text(path: str, error: UnicodeDecodeError) -> ValueError:
    """Return the error for a table in another encoding."""
    return ValueError(
        f"{path!r} is not text in UTF-8: {error.reason} at byte {error.start}. Save it as CSV in "
        "UTF-8."
    )


def empty_table(path: str) -> ValueError:
    """Return the error for a table without rows."""
    return ValueError(f"{path!r} holds no rows; expected comma-separated numbers.")


def no_numbers(path: str, fault: str) -> ValueError:
    """Return the error for a table with something else than numbers."""
    return ValueError(
        f"{path!r} is not a table of numbers: {fault}. Leave out columns of text, and write "
        "numbers as 1234.5."
    )


# ---- files that are written


def rows_to_copy() -> UsageError:
    """Return the error for --copy-to with rows."""
    return UsageError("--copy-to copies image files, but the source is a file of numbers.")


def folder_in_use(folder: Path) -> UsageError:
    """Return the error for a folder of copies that exists and is not empty."""
    return UsageError(
        f"--copy-to {str(folder)!r} is not an empty folder, and nothing is ever overwritten. "
        "Name a new one."
    )


def folder_inside(folder: Path, source: str) -> UsageError:
    """Return the error for a folder of copies below what is clustered."""
    return UsageError(
        f"--copy-to {str(folder)!r} is inside of {source!r}: the copies would be clustered the "
        "next time. Name a folder elsewhere."
    )


def missing_folder(target: Path) -> UsageError:
    """Return the error for a file in a folder that does not exist."""
    return UsageError(f"{str(target)!r}: its folder does not exist. Create it first.")


def special_target(option: str, target: Path, kind: str) -> UsageError:
    """Return the error for a file that would take the place of something else."""
    return UsageError(f"{option} {str(target)!r} is {kind}, expected the name of a file.")


def named_twice(option: str, target: Path, other: str) -> UsageError:
    """Return the error for a file that is written over another one."""
    return UsageError(
        f"{option} {str(target)!r} is {other} as well, which would be overwritten. Name another "
        "file."
    )


def unwritable(option: str, target: Path, error: OSError) -> UsageError:
    """Return the error for a file that may not be written."""
    return UsageError(
        f"{option} {str(target)!r} cannot be written: {error.strerror}. Name a file that you may "
        "write to, and that no other program keeps open."
    )
