"""The errors of the command: each function builds one of them.

A :class:`UsageError` ends the command with 2, an ``ArgumentTypeError`` as well; anything else is
about data and ends it with 1.
"""

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path


class UsageError(Exception):
    """The arguments do not go together; the message says what to change."""


# ---- values of options


def not_positive(text: str) -> argparse.ArgumentTypeError:
    """Return the error for what is no integer of at least 1."""
    return argparse.ArgumentTypeError(f"{text!r}, expected a positive integer, such as 10")


def no_number_of_clusters(text: str) -> argparse.ArgumentTypeError:
    """Return the error for what is neither an integer of at least 1 nor ``auto``."""
    return argparse.ArgumentTypeError(f"{text!r}, expected auto, or an integer from 1 on")


def no_size(text: str) -> argparse.ArgumentTypeError:
    """Return the error for what is no size of images."""
    return argparse.ArgumentTypeError(
        f"{text!r}, expected pixels such as 64, or height and width such as 48x64"
    )


def no_assignment(text: str) -> argparse.ArgumentTypeError:
    """Return the error for a --set without name or value."""
    return argparse.ArgumentTypeError(f"{text!r}, expected NAME=VALUE")


def no_distance(text: str) -> argparse.ArgumentTypeError:
    """Return the error for what is no cosine distance."""
    return argparse.ArgumentTypeError(
        f"{text!r}, expected auto, or a cosine distance from 0 to 2, such as 0.02"
    )


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


def empty_table(path: str, separator: str) -> ValueError:
    """Return the error for a table without rows."""
    return ValueError(f"{path!r} holds no rows; expected {separator}-separated numbers.")


def empty_frame(path: str) -> ValueError:
    """Return the error for a table of columns without rows."""
    return ValueError(f"{path!r} holds a table without rows; expected columns of numbers.")


def no_numbers(path: str, fault: str) -> ValueError:
    """Return the error for a table with something else than numbers."""
    return ValueError(
        f"{path!r} is not a table of numbers: {fault}. Leave out columns of text with --id-column "
        "or --drop-column, and write numbers as 1234.5."
    )


def text_column(path: str, column: str, dtype: object, value: str) -> ValueError:
    """Return the error for a column that holds no numbers."""
    return ValueError(
        f"{path!r}: column {column} is of type {dtype}, with values such as {value}; expected "
        "numbers. Leave it out with --id-column or --drop-column."
    )


def missing_value(path: str, place: str, column: str, cell: str) -> ValueError:
    """Return the error for a feature without a value."""
    what = f"it holds {cell!r}" if cell else "the cell is empty"
    return ValueError(
        f"{path!r}, {place}, column {column} is missing: {what}. Fill in a number, such as the "
        "column's median, or leave out the row, or the column with --drop-column."
    )


def missing_class(path: str, place: str, column: str) -> ValueError:
    """Return the error for a row without a class."""
    return ValueError(
        f"{path!r}, {place}: the class in column {column} is missing. Fill it in, or leave out the "
        "row."
    )


def other_number_of_names(path: str, n_names: int, n_columns: int) -> ValueError:
    """Return the error for a line of names that does not fit the rows below."""
    return ValueError(
        f"{path!r} has {n_names} names above {n_columns} columns, which leaves open what is named. "
        "Write one name per column."
    )


def no_column(
    path: str, option: str, name: str, names: Sequence[str] | None, n_columns: int
) -> ValueError:
    """Return the error for a column that does not exist."""
    known = "it has no names" if names is None else f"it has {_listed(names)}"
    return ValueError(
        f"{option} {name!r} is no column of {path!r}: {known}. Expected one of its names, or a "
        f"number from 1 to {n_columns}."
    )


def several_columns(path: str, option: str, name: str, places: Sequence[int]) -> ValueError:
    """Return the error for a name that several columns have."""
    numbers = " and ".join(map(str, places))
    return ValueError(
        f"{option} {name!r}: the columns {numbers} of {path!r} have this name. Pass the number of "
        "the one that is meant."
    )


def no_features(path: str) -> ValueError:
    """Return the error for a table of which nothing is left to cluster."""
    return ValueError(
        f"{path!r} has no column left to cluster. Name fewer columns in --id-column, "
        "--label-column and --drop-column."
    )


def columns_of_no_table(options: Sequence[str], source: str) -> UsageError:
    """Return the error for options about columns where there are none."""
    return UsageError(
        f"{' and '.join(options)}: {source!r} is no table with columns; expected a .csv, .tsv or "
        ".parquet file."
    )


def unknown_kind(path: str, suffixes: Sequence[str], images: Iterable[str]) -> ValueError:
    """Return the error for a file that is neither an image nor a known kind of table."""
    return ValueError(
        f"{path!r} is no image, and no file of rows that is known by its suffix. Rows are read "
        f"from {', '.join(suffixes)}; images from {', '.join(images)}. Save the rows as .csv."
    )


# ---- classes


def no_class_folders(folder: str) -> ValueError:
    """Return the error for a folder whose subfolders cannot be classes."""
    return ValueError(
        f"{folder!r} has no subfolders with images; expected one subfolder per class."
    )


def no_folder_of_classes(sources: Sequence[str]) -> UsageError:
    """Return the error for --class-folders with anything but one folder."""
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    return UsageError(
        f"--class-folders needs one folder whose subfolders are the classes, and got "
        f"{sources[0]!r}{more}. The classes of a table are named by --label-column."
    )


def no_class_folder(source: str) -> UsageError:
    """Return the error for classes that are not there."""
    return UsageError(
        f"{source!r} tells no classes; expected a folder whose subfolders are the classes, or a "
        ".csv, .tsv or .parquet file with --label-column NAME."
    )


def nothing_to_compare() -> ValueError:
    """Return the error for an evaluation without any assigned sample."""
    return ValueError("no sample has a cluster, so there is nothing to compare with the classes.")


# ---- queries


def no_query_file(query: str, paths: Sequence[str]) -> FileNotFoundError:
    """Return the error for a query that is no file; `paths` are those of the source."""
    named = [path for path in paths if os.path.basename(path) == os.path.basename(query)]
    advice = f" Did you mean {named[0]!r}?" if named else ""
    return FileNotFoundError(f"--query {query!r}: there is no such image file.{advice}")


def query_is_folder(query: str) -> IsADirectoryError:
    """Return the error for a query that is a folder."""
    return IsADirectoryError(
        f"--query {query!r} is a folder, expected image files. Name the files in it, one or many."
    )


def no_query_row(query: str, kind: str, names: Sequence[str]) -> ValueError:
    """Return the error for a query that is no row."""
    if kind == "id":
        return ValueError(f"--query {query!r} is no id of the table; it has {_listed(names)}.")
    return ValueError(
        f"--query {query!r} is no row; expected a number from 0 to {len(names) - 1}, or values of "
        "--id-column."
    )


def ambiguous_query(query: str, rows: Sequence[int]) -> ValueError:
    """Return the error for an id that several rows have."""
    return ValueError(
        f"--query {query!r} is the id of {len(rows)} rows, such as {rows[0]} and {rows[1]} "
        "(counted from 0). Name an id that only one row has."
    )


# ---- libraries


def missing_library(what: str, modules: Sequence[str], extra: str) -> ImportError:
    """Return the error for an optional library that is not installed."""
    are = "are" if len(modules) > 1 else "is"
    return ImportError(
        f"{what} needs {' and '.join(modules)}, which {are} not installed here. Install the extra: "
        f'pip install "deepcluster_sk[{extra}]".'
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
    return UsageError(f"{str(target)!r}: its folder does not exist. Create the folder first.")


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


def unknown_table(option: str, target: Path, suffixes: Sequence[str]) -> UsageError:
    """Return the error for a table of a kind that is not written."""
    return UsageError(
        f"{option} {str(target)!r} ends in {target.suffix!r}, which is no kind of table that can "
        f"be written; expected {', '.join(suffixes)}."
    )


def _listed(names: Sequence[str]) -> str:
    """Name the first of many."""
    shown = ", ".join(map(repr, names[:10]))
    return f"{shown} and {len(names) - 10:,} more" if len(names) > 10 else shown
