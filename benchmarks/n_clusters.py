"""How many clusters the curves of ``n_clusters_curve`` prefer on real data sets, without classes.

    python benchmarks/n_clusters.py digits-rows wine --data-folder DATA

CC is fitted twice for each number. The numbers are the classes times a half to two: a range that
somebody who knows the data would try. Rows are printed as they come.
"""

import argparse
from pathlib import Path

import numpy as np
from data_sets import SETS, load
from machine import describe

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.model_selection import n_clusters_curve

_SHARES = (0.5, 0.65, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
_SCORES = ("silhouette", "mean confidence", "stability")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", nargs="+", choices=SETS)
    parser.add_argument("--data-folder", type=Path)
    parser.add_argument("--max-epochs", type=int, help="the default of the estimator if left out")
    arguments = parser.parse_args()
    print(describe())
    print(f"\n| data | classes | tried | {' | '.join(_SCORES)} |")
    print("| --- " * (3 + len(_SCORES)) + "|")
    fixed = {} if arguments.max_epochs is None else {"max_epochs": arguments.max_epochs}
    for name in arguments.sets:
        X, y = load(name, arguments.data_folder)
        n_classes = len(np.unique(y))
        tried = sorted({max(2, round(share * n_classes)) for share in _SHARES})
        curve = n_clusters_curve(ContrastiveClustering(**fixed), X, n_clusters=tried)
        best = [str(tried[curve[score].mean(axis=1).argmax()]) for score in _SCORES]
        cells = [name, str(n_classes), ", ".join(map(str, tried)), *best]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
