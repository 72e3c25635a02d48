"""Images and weights for the tests of the command."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits


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
    path = tmp_path_factory.mktemp("weights") / "shufflenet.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(torchvision.models.shufflenet_v2_x0_5().state_dict(), path)
    return path
