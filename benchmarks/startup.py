"""Seconds before there is something to see: import, and a first good clustering of the digits.

    python benchmarks/startup.py --parts import
    python benchmarks/startup.py --parts first --peers UMAP+KMeans ClustPy-DEC

``import``: a fresh process that imports this package beside one that imports scikit-learn only.
``first``: seconds until the digits images are clustered with an ARI of .7 or more, for the fewest
epochs (of the tried ones) that get there with every seed. "cold" counts the whole process with its
imports, "warm" the fit alone. Peers run with their own defaults; their ARI stands beside. UMAP and
ClustPy come with ``pip install -e ".[bench]"``.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from machine import describe

from deepcluster_sk.methods import METHODS as REGISTRY

GOAL = 0.7
METHODS = tuple(method.short_name for method in REGISTRY.values())  # torch is not imported here
PEERS = ("UMAP+KMeans", "ClustPy-DEC", "ClustPy-IDEC", "ClustPy-DCN", "ClustPy-VaDE", "KMeans raw")

# one process per measurement: nothing is warm that a new user's process does not have warm
FIT = """
import sys, time, json
sys.path.insert(0, sys.argv[1])
import quality
from sklearn.metrics import adjusted_rand_score
name, seed, epochs = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
X, y = quality.load("digits")
start = time.perf_counter()
if name in quality.OURS:
    model = quality.OURS[name](n_clusters=10, random_state=seed, max_epochs=epochs)
    labels = model.fit_predict(X)
else:
    run, how = quality.BASELINES[name]
    labels = run(quality.scaled(X, how), 10, seed)[name.removesuffix(" raw")]
warm = time.perf_counter() - start
print(json.dumps({"warm": warm, "ARI": adjusted_rand_score(y, labels)}))
"""


def seconds_of(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def fit(name: str, seed: int, epochs: int) -> dict[str, float]:
    """Fit in a fresh process."""
    folder = str(Path(__file__).parent)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIT, folder, name, str(seed), str(epochs)],
        check=True,
        capture_output=True,
        text=True,
    )
    cold = time.perf_counter() - start
    return json.loads(done.stdout.splitlines()[-1]) | {"cold": cold}


def import_rows(rounds: int) -> list[str]:
    pairs = np.array(
        [
            [seconds_of("import sklearn"), seconds_of("import sklearn, deepcluster_sk")]
            for _ in range(rounds + 1)
        ]
    )[1:]  # the first round fills the file cache
    plain, ours = np.median(pairs, axis=0)
    extra = np.median(pairs[:, 1] - pairs[:, 0])
    return [f"| `import sklearn` {plain:.2f} s, with this package {ours:.2f} s: {extra:+.3f} s |"]


def first_rows(methods: list[str], peers: list[str], seeds: list[int], tried: list[int]) -> None:
    print("| method | epochs | ARI mean (worst) | seconds cold | warm |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for name in methods:
        for epochs in tried:
            runs = [fit(name, seed, epochs) for seed in seeds]
            if min(run["ARI"] for run in runs) >= GOAL:
                break
        print(row(name, str(epochs), runs), flush=True)
    for name in peers:
        try:
            runs = [fit(name, seed, 0) for seed in seeds]
        except subprocess.CalledProcessError as error:
            print(f"| {name} | failed: {error.stderr.splitlines()[-1]} |", flush=True)
            continue
        print(row(name, "default", runs), flush=True)


def row(name: str, epochs: str, runs: list[dict[str, float]]) -> str:
    ari = [run["ARI"] for run in runs]
    cold, warm = (np.median([run[key] for run in runs]) for key in ("cold", "warm"))
    return f"| {name} | {epochs} | {np.mean(ari):.3f} ({min(ari):.3f}) | {cold:.1f} | {warm:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", default=["import", "first"])
    parser.add_argument("--methods", nargs="*", default=[*METHODS], choices=METHODS)
    parser.add_argument("--peers", nargs="*", default=[*PEERS], choices=PEERS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", nargs="+", type=int, default=[4, 6, 8, 12, 16, 24])
    parser.add_argument("--rounds", type=int, default=9, help="of the import")
    args = parser.parse_args()

    print(describe() + "\n")
    if "import" in args.parts:
        print("\n".join(import_rows(args.rounds)) + "\n", flush=True)
    if "first" in args.parts:
        first_rows(args.methods, args.peers, args.seeds, args.epochs)


if __name__ == "__main__":
    main()
