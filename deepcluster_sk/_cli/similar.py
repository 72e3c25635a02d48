"""``deepcluster-sk similar``: what is most like some images or rows."""

import argparse
import os
from typing import Any

import numpy as np

from . import errors
from .console import say
from .models import opened_model
from .sources import Source, open_sources
from .tables_out import write_table
from .targets import check_targets


def run(arguments: argparse.Namespace) -> None:
    """Write the answers to each query, the most similar first."""
    source = open_sources(arguments)
    queries = find_queries(source, arguments.query)
    check_targets(arguments, source)
    with opened_model(arguments) as model:
        rows, similarity = _answers(model, source, queries, arguments.n)
    known = (rows >= 0) & np.isfinite(similarity)
    asked = np.broadcast_to(np.arange(len(queries))[:, None], rows.shape)[known]
    columns = {
        "query": [arguments.query[i] for i in asked],
        source.kind: [source.names[row] for row in rows[known]],
        "similarity": similarity[known],
    }
    write_table(arguments.out, columns)
    if arguments.out:
        say(arguments, f"wrote {arguments.out}")


def find_queries(source: Source, queries: list[str]) -> list[int | str]:
    """Return a row number for each query that is among the samples, and paths of other images.

    Raises
    ------
    FileNotFoundError
        If an image does not exist.
    ValueError
        If there is no such row, or an id stands for several.
    """
    if source.paths is None:
        return [_row(source, query) for query in queries]
    places = {_place(path): row for row, path in enumerate(source.paths)}
    found: list[int | str] = []
    for query in queries:
        row = places.get(_place(query))
        if os.path.isdir(query):
            raise errors.query_is_folder(query)
        if row is None and not os.path.isfile(query):
            raise errors.no_query_file(query, source.paths)
        found.append(query if row is None else row)
    return found


def _place(path: str) -> str:
    return os.path.normcase(os.path.abspath(path))


def _row(source: Source, query: str) -> int:
    if source.kind == "row":
        if not (query.isascii() and query.isdecimal() and int(query) < len(source.names)):
            raise errors.no_query_row(query, source.kind, source.names)
        return int(query)
    rows = [row for row, name in enumerate(source.names) if name == query]
    if not rows:
        raise errors.no_query_row(query, source.kind, source.names)
    if len(rows) > 1:
        raise errors.ambiguous_query(query, rows)
    return rows[0]


def _answers(
    model: Any, source: Source, queries: list[int | str], n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return row numbers and similarities (n_queries, n); -1 where there are fewer."""
    from .._inspection.search import similar  # only now: what it needs takes its time

    rows = np.full((len(queries), n), -1)
    similarity = np.full((len(queries), n), np.nan, np.float32)
    inside = [i for i, query in enumerate(queries) if isinstance(query, int)]
    outside = [i for i, query in enumerate(queries) if isinstance(query, str)]
    if inside:
        numbers = np.array([queries[i] for i in inside])
        found = similar(model, source.X, numbers, n=min(n, max(1, len(source.names) - 1)))
        rows[inside, : found.rows.shape[1]] = found.rows
        similarity[inside, : found.rows.shape[1]] = found.similarity
    if outside:
        found = similar(model, source.X, [queries[i] for i in outside], n=min(n, len(source.names)))
        rows[outside, : found.rows.shape[1]] = found.rows
        similarity[outside, : found.rows.shape[1]] = found.similarity
    return rows, similarity
