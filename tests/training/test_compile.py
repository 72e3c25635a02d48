"""Loss and augmentation under torch.compile, with a backend that only collects the graphs.

``fullgraph=True`` turns every graph break into an error. The backend runs the operations that were
traced as they are, so that results have to agree bit for bit.
"""

import gc
import weakref

import numpy as np
import pytest
import torch
from estimators import each, each_in_time
from sklearn.datasets import load_digits
from torch import nn

from deepcluster_sk import (
    TEMI,
    ContrastiveClustering,
    CrossInstanceClustering,
    TwinContrastClustering,
)
from deepcluster_sk._training.epochs import Epochs
from deepcluster_sk._training.steps import compile_whole
from deepcluster_sk.augmentations import digits, images, rows
from deepcluster_sk.encoders import resnet

pytest.importorskip("torch._dynamo")

# a handful of epochs is too few to fill every cluster
pytestmark = pytest.mark.filterwarnings("ignore:.*clusters are empty")


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that torch.compile makes."""
    collected = []
    compile_with = torch.compile

    def backend(graph, inputs):
        collected.append(graph)
        return graph.forward

    def collecting(function, **options):
        return compile_with(function, backend=backend, **options)

    monkeypatch.setattr(torch, "compile", collecting)
    yield collected
    torch.compiler.reset()


def fitted(estimator, X, **parameters):
    model = estimator(3, max_epochs=3, batch_size=20, random_state=0, device="cpu", **parameters)
    return model.fit(X)


def small_network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1)
    )


@pytest.fixture
def numbers_of_views(monkeypatch):
    """The numbers of views that epochs show."""
    collected = set()
    batches = Epochs._batches

    def collecting(epochs, plan, number):
        collected.add(plan.shape[1])
        return batches(epochs, plan, number)

    monkeypatch.setattr(Epochs, "_batches", collecting)
    return collected


@each_in_time
def test_a_fit_is_two_graphs_and_has_the_same_bits(estimator, few_images, graphs, numbers_of_views):
    expected = fitted(estimator, few_images, encoder=small_network)
    assert not graphs
    # heads, centroids and neighbours start on the way
    model = fitted(estimator, few_images, encoder=small_network, compile=True)
    # two more where neighbours are not shown in place of a view, but beside them
    assert len(graphs) == 2 * len(numbers_of_views)
    assert model.history_ == expected.history_
    np.testing.assert_array_equal(
        model.predict_proba(few_images), expected.predict_proba(few_images)
    )


def test_another_loss_is_another_graph(few_images, graphs):
    parameters = {"encoder": small_network, "fine_tune_start": 0.5}
    expected = fitted(CrossInstanceClustering, few_images, **parameters)
    model = fitted(CrossInstanceClustering, few_images, compile=True, **parameters)
    assert len(graphs) == 3
    assert model.history_ == expected.history_


def test_labels_of_their_own_are_learned_in_two_more_graphs(few_images, graphs):
    parameters = {"encoder": small_network, "self_labeling": 0.4, "n_neighbors": 0}
    expected = fitted(TEMI, few_images, augmentation="digits", **parameters)
    model = fitted(TEMI, few_images, augmentation="digits", compile=True, **parameters)
    assert len(graphs) == 4  # the loss, and the augmentation of one view in place of two
    assert model.history_ == expected.history_
    assert model.history_["self_labeling"][2] > 0


def test_half_precision_compiles(few_images, graphs):
    parameters = {"encoder": small_network, "precision": "bfloat16"}
    expected = fitted(TwinContrastClustering, few_images, **parameters)
    model = fitted(TwinContrastClustering, few_images, compile=True, **parameters)
    assert model.history_ == expected.history_
    assert len(graphs) == 2


@pytest.mark.parametrize(
    ("augment", "shape"),
    [
        (images(blur=True), (3, 12, 12)),
        (images(size=(8, 9)), (4, 12, 12)),
        (digits(), (1, 8, 8)),
        (digits(size=(10, 10)), (1, 8, 8)),
        (rows(), (6,)),
    ],
)
def test_every_recipe_is_one_graph(augment, shape, graphs):
    x = torch.rand(5, *shape)
    draw = augment.sample(x.shape, torch.Generator().manual_seed(0))
    compiled = compile_whole(augment.transform)
    assert torch.equal(compiled(x, draw), augment.transform(x, draw))
    assert len(graphs) == 1


def test_the_encoder_of_the_papers_is_one_graph(graphs):
    network = resnet("resnet18", 3, small_stem=True).eval()
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(compile_whole(network.forward)(x), network(x))
    assert len(graphs) == 1


def test_a_mere_callable_is_left_as_it_is(few_images, graphs):
    def augment(x):
        return x + float(np.random.rand())

    ContrastiveClustering(
        2, max_epochs=1, augmentation=augment, compile=True, random_state=0, device="cpu"
    ).fit(few_images)
    assert len(graphs) == 1


def test_an_encoder_that_breaks_the_graph_is_an_error(few_images, graphs):
    class Reading(nn.Module):
        def forward(self, x):
            torch._dynamo.graph_break()
            return x.flatten(1)

    with pytest.raises(torch._dynamo.exc.Unsupported):
        fitted(ContrastiveClustering, few_images, encoder=Reading, compile=True)


class Shift:
    def __init__(self, value):
        self.value = value

    def shift(self, x):
        return x + self.value


def test_any_number_of_fits_may_compile(graphs):
    shifts = [compile_whole(Shift(value).shift) for value in range(12)]
    for value, shift in enumerate(shifts):
        assert shift(torch.zeros(value + 1)).tolist() == [value] * (value + 1)
    assert len(graphs) == 12


def test_compiled_code_goes_with_its_owner(graphs):
    owner = Shift(1)
    compiled = compile_whole(owner.shift)
    compiled(torch.zeros(2))
    alive = weakref.ref(owner)
    del owner, compiled
    graphs.clear()
    gc.collect()
    assert alive() is None


@pytest.mark.slow
@each
def test_a_fit_with_the_compiler_of_torch_equals_the_eager_one(estimator):
    # neighbours and k-means in between would amplify differences of rounding
    early = {"neighbor_start": 0.9, "cluster_start": 0.0}
    early = {name: value for name, value in early.items() if name in estimator().get_params()}
    X = (load_digits().images[:60] * 15).astype(np.uint8)
    curves = [
        fitted(estimator, X, compile=compiled, **early).loss_curve_ for compiled in (False, True)
    ]
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-3)
