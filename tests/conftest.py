import numpy as np
import pytest
import torch
from estimators import few_search_steps
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits, make_blobs

from deepcluster_sk import ContrastiveClustering

collect_ignore = ["toy_method.py"]  # its example names a class that is not registered


@pytest.fixture(scope="session")
def digits():
    """The bundled digits as images (1797, 8, 8) in [0, 16], and their classes."""
    data = load_digits()
    return data.images, data.target


@pytest.fixture(scope="session")
def few_images():
    """60 grey uint8 images of 8x8 pixels."""
    return (load_digits().images[:60] * 15).astype(np.uint8)


@pytest.fixture(scope="session")
def blobs():
    """60 rows in three well separated groups, and their labels."""
    return make_blobs(60, n_features=5, centers=3, random_state=0)


@pytest.fixture(autouse=True)
def short_searches():
    """Let clusters be searched in few steps, which take most of a fit of few samples.

    Tests of how good clusters are take `full_searches`, and so do those that compare a fit with one
    of another process or of a fixture for many tests, which are not patched.
    """
    with few_search_steps() as patch:
        yield patch


@pytest.fixture
def full_searches(short_searches):
    """Let clusters be searched as they are for a user."""
    short_searches.undo()


# ---- of the command


@pytest.fixture
def photos(tmp_path):
    """60 digits as files in two folders, with equal names in both; and a file of text."""
    for i, image in enumerate(load_digits().images[:60]):
        folder = tmp_path / "photos" / ("even" if i % 2 == 0 else "odd")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(folder / f"{i // 2:02}.png")
    (tmp_path / "photos" / "notes.txt").write_text("no image", "utf-8")
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A file of random weights of a network of torchvision."""
    import torchvision  # only some tests need it

    path = tmp_path_factory.mktemp("weights") / "shufflenet.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(torchvision.models.shufflenet_v2_x0_5().state_dict(), path)
    return path


@pytest.fixture(scope="session")
def row_model(tmp_path_factory, blobs):
    """A file of a model of `blobs`."""
    path = tmp_path_factory.mktemp("model") / "rows.dcsk"
    ContrastiveClustering(3, max_epochs=2, random_state=0).fit(blobs[0]).save(path)
    return path


@pytest.fixture
def table(tmp_path, blobs):
    """A function that writes `blobs` with ids and classes to a file of a kind."""
    X, y = blobs
    names = [*(f"x{column}" for column in range(X.shape[1]))]

    def write(suffix):
        path = tmp_path / f"rows{suffix}"
        if suffix == ".parquet":
            pd = pytest.importorskip("pandas")
            pytest.importorskip("pyarrow")
            frame = pd.DataFrame(X, columns=names)
            frame.insert(0, "id", [f"sample {row}" for row in range(len(X))])
            frame["kind"] = [f"kind {label}" for label in y]
            frame.to_parquet(path, index=False)
            return path
        delimiter = "\t" if suffix == ".tsv" else ","
        lines = [delimiter.join(["id", *names, "kind"])]
        for row, (values, label) in enumerate(zip(X.tolist(), y, strict=True)):
            lines.append(delimiter.join([f"sample {row}", *map(repr, values), f"kind {label}"]))
        path.write_text("\n".join(lines), "utf-8")
        return path

    return write
