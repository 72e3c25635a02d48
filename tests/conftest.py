import numpy as np
import pytest
from sklearn.datasets import load_digits, make_blobs

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
