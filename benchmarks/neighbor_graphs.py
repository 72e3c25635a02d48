"""What bounds the clusters of rows: the neighbour graph, the search on it, or the choice.

    python benchmarks/neighbor_graphs.py --sets digits-rows wine cancer
    python benchmarks/neighbor_graphs.py --sets rows --data-folder DATA

For each set of rows, with the defaults of the estimators and without any training: the share of
edges inside the classes; the mutual information along the edges (nats) and the cut, of k-means, of
the best partition, and of the classes; NMI of k-means, of the partition that is chosen (mean and
worst of the seeds), and of the one of all candidates that fits the classes best; and NMI of the
classes after moving rows until the mutual information rises no further. Where the last one is
low, or the classes have less mutual information than what is found, no search on this graph and by
this criterion finds the classes.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from data_sets import IMAGES, SETS, load
from machine import describe
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from threadpoolctl import threadpool_limits

from deepcluster_sk._data.preprocessing import Layout, Preprocessor
from deepcluster_sk._networks.neighbors import NeighborGraph, NeighborSearch
from deepcluster_sk._networks.partition import cut, edge_shares, partitions, refined, value

ROWS = tuple(name for name in SETS if name not in IMAGES)


def scaled(X: np.ndarray) -> tuple[torch.Tensor, bool]:
    """Scale rows as ``scale="auto"`` does; tell whether they have one length."""
    X = X.astype(np.float32)
    preprocessor = Preprocessor.learn(X, Layout(X.shape[1:]))
    return preprocessor(torch.from_numpy(X)), preprocessor.rule == "unit"


def report(name: str, folder: Path | None, seeds: list[int]) -> list[str]:
    """One row of the table."""
    X, y = load(name, folder)
    classes = np.unique(y, return_inverse=True)[1]
    n_classes = int(classes.max()) + 1
    rows, by_direction = scaled(X)
    n_neighbors = min(15, max(3, len(X) // (2 * n_classes)))
    search = NeighborSearch(rows, n_neighbors, by_direction=by_direction)
    edges = NeighborGraph(search.graph()).edges
    found = [partitions(edges, search.rows, n_classes, seed) for seed in seeds]
    chosen, candidates = [some[0] for some in found], np.concatenate(found)
    kmeans = KMeans(n_classes, n_init=10, random_state=0).fit_predict(search.rows)
    nmi = normalized_mutual_info_score
    mutual = edges.copy()
    mutual.data = (mutual.data > 1).astype(float)

    def judged(labels: np.ndarray) -> str:
        agreement = value(edge_shares(edges, labels, n_classes), balance=1.0)
        return f"{agreement:.2f}, {cut(edge_shares(mutual, labels, n_classes)):.3f}"

    scores = [nmi(classes, labels) for labels in chosen]
    inside = [np.trace(edge_shares(graph, classes, n_classes)) for graph in (edges, mutual)]
    return [
        name,
        f"{inside[0]:.2f}, {inside[1]:.2f}",
        *(judged(labels) for labels in (kmeans, chosen[0], classes)),
        f"{nmi(classes, kmeans):.3f}",
        f"{np.mean(scores):.3f} ({min(scores):.3f})",
        f"{max(nmi(classes, labels) for labels in candidates):.3f}",
        f"{nmi(classes, refined(edges, classes, n_classes, 1.0, seed=0)):.3f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", default=["digits-rows", "wine", "cancer"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--data-folder", type=Path)
    args = parser.parse_args()
    print(describe() + "\n")
    print("| data | edges inside, mutual | judge: k-means | chosen | classes ", end="")
    print("| NMI: k-means | chosen | best candidate | classes, refined |")
    print("|" + " --- |" * 9, flush=True)
    for name in [n for given in args.sets for n in (ROWS if given == "rows" else (given,))]:
        with threadpool_limits(1):
            cells = report(name, args.data_folder, args.seeds)
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
