"""Use an installed deepcluster_sk from end to end: ``python smoke.py``.

It needs the package with its requirements and nothing else: neither a checkout nor pytest. It
refuses to test a checkout, so that what a wheel lacks cannot be found beside it by chance.
"""

import csv
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

# one epoch is too few to fill every cluster
QUIET = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}

LAZY = """
import sys
import deepcluster_sk
assert "torch" not in sys.modules, "importing deepcluster_sk imports torch"
for name in deepcluster_sk.__all__:
    getattr(deepcluster_sk, name)
for name in ("augmentations", "display", "metrics", "model_selection"):
    assert getattr(deepcluster_sk, name).__all__, name
"""


def run(*command):
    """Return what a command prints; fail with all of it if the command fails."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=QUIET)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def check_place():
    """The package comes from site-packages and is complete."""
    import deepcluster_sk

    package = Path(deepcluster_sk.__file__).parent
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    if package.parent.resolve() not in places:
        sys.exit(f"deepcluster_sk is in {package}, expected it in {' or '.join(map(str, places))}.")
    assert version("deepcluster_sk") == deepcluster_sk.__version__
    assert (package / "py.typed").is_file()
    templates = {path.suffix for path in (package / "_inspection" / "templates").iterdir()}
    assert {".html", ".css", ".js"} <= templates


def check_estimators(images):
    """Every method is fitted; one is looked at, saved, opened and pickled."""
    import deepcluster_sk
    from deepcluster_sk.methods import METHODS

    for name in METHODS:
        model = getattr(deepcluster_sk, name)(3, max_epochs=1, random_state=0).fit(images)
        assert (model.predict(images) == model.labels_).all(), name
    page = Path(deepcluster_sk.report(model, images, "report.html"))
    text = page.read_text("utf-8")
    assert "<style>" in text
    assert "<script" in text
    assert "data:image/webp" in text
    model.save("model.dcsk")
    for other in (deepcluster_sk.load("model.dcsk"), pickle.loads(pickle.dumps(model))):
        assert type(other) is type(model)
        assert (other.predict_proba(images) == model.predict_proba(images)).all()


def check_command(images):
    """The command and ``python -m`` cluster a file of images."""
    import numpy as np

    import deepcluster_sk

    np.save("images.npy", images)
    command = shutil.which("deepcluster-sk", path=sysconfig.get_path("scripts"))
    assert command, "there is no command deepcluster-sk beside this Python"
    options = ("--n-clusters", 3, "--max-epochs", 1, "--quiet")
    run(command, "fit", "images.npy", *options, "--save", "cli.dcsk", "--out", "fitted.csv")
    run(command, "predict", "cli.dcsk", "images.npy", "--quiet", "--out", "predicted.csv")
    with open("fitted.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(len(images)))
    assert {int(row["cluster"]) for row in rows} <= {0, 1, 2}
    assert Path("predicted.csv").read_bytes() == Path("fitted.csv").read_bytes()
    module = run(sys.executable, "-m", "deepcluster_sk", "--help")
    assert "predict" in module
    if "--version" in module:
        assert deepcluster_sk.__version__ in run(command, "--version")


def main():
    """Run all checks in an empty folder."""
    warnings.simplefilter("ignore")
    check_place()
    run(sys.executable, "-c", LAZY)
    from sklearn.datasets import load_digits

    images = load_digits().images[:100]
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            check_estimators(images)
            check_command(images)
        finally:
            os.chdir(before)  # Windows removes no folder that somebody is in
    print(f"deepcluster_sk {version('deepcluster_sk')} works with Python {sys.version.split()[0]}.")


if __name__ == "__main__":
    main()
