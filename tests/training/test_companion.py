"""What a second thread computes beside the steps is what torch computes, to the bit."""

import threading

import pytest
import torch
import torch.nn.functional as F
from estimators import each
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.utils import parametrizations

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._training import epochs
from deepcluster_sk._training.companion import Companion, WeightGradients, companion
from deepcluster_sk._training.work import is_small


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def second(request):
    """A companion with and without a thread of its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    with companion() as opened:
        torch.set_num_threads(1)
        yield opened
    torch.set_num_threads(before)


class Twice(nn.Module):
    """Uses a weight in two layers, and once more in the loss."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        return self.layer(self.layer(x).relu()) + self.layer.weight.sum()


def hooked():
    layer = nn.Linear(6, 3)
    layer.weight.register_hook(lambda grad: 2 * grad)
    return layer


def hooked_afterwards():
    layer = nn.Linear(6, 3)

    def double(weight):
        weight.grad.mul_(2)

    layer.weight.register_post_accumulate_grad_hook(double)
    return layer


def partly_frozen():
    layers = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))
    layers[1].weight.requires_grad_(False)
    return layers


NETWORKS = {
    "bias": lambda: nn.Linear(6, 3),
    "no bias": lambda: nn.Linear(6, 3, bias=False),
    "several": lambda: nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    ),
    "used twice": Twice,
    "hooked": hooked,
    "hooked afterwards": hooked_afterwards,
    "partly frozen": partly_frozen,
    "parametrized": lambda: parametrizations.weight_norm(nn.Linear(6, 3)),
}


def gradients(network, x, second=None):
    network.zero_grad(set_to_none=True)
    if second is None:
        network(x).square().sum().backward()
    else:
        later = WeightGradients(second)
        with later:
            loss = network(x).square().sum()
        loss.backward()
        later.collect()
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


@pytest.mark.parametrize("kind", NETWORKS)
def test_gradients_have_the_bits_of_torch(kind, second):
    torch.manual_seed(0)
    network, x = NETWORKS[kind](), torch.randn(20, 6)
    expected = gradients(network, x)
    for ours, theirs in zip(gradients(network, x, second), expected, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)


def test_gradients_of_more_axes_and_of_the_input_have_the_bits_of_torch(second):
    layer = nn.Linear(6, 3)
    x = torch.randn(4, 5, 6, requires_grad=True)
    expected = [*gradients(layer, x), x.grad.clone()]
    x.grad = None
    for ours, theirs in zip([*gradients(layer, x, second), x.grad], expected, strict=True):
        assert torch.equal(ours, theirs)


def test_only_plain_weights_are_left_to_the_companion(second):
    def n_later(network, **options):
        later = WeightGradients(second)
        with later, torch.autocast("cpu", **{"enabled": False, **options}):
            network(torch.randn(20, 6)).sum().backward()
        n = len(later._coming)
        later.collect()
        return n

    assert n_later(nn.Linear(6, 3)) == 1
    assert n_later(hooked()) == 0
    assert n_later(hooked_afterwards()) == 0
    assert n_later(parametrizations.weight_norm(nn.Linear(6, 3))) == 0
    assert n_later(nn.Linear(6, 3), enabled=True) == 0


def test_items_come_in_order_and_one_ahead(second):
    made = []

    def items():
        for item in range(5):
            made.append((item, threading.current_thread()))
            yield item

    assert list(second.one_ahead(items())) == list(range(5))
    assert [item for item, _ in made] == list(range(5))
    has_thread = second._pool is not None
    assert all((thread is not threading.current_thread()) == has_thread for _, thread in made)


def test_the_thread_computes_in_one_thread_of_torch():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with companion() as second:
            assert second.submit(torch.get_num_threads).result() == 1
    finally:
        torch.set_num_threads(before)


def test_an_error_in_the_thread_is_raised_where_the_item_is_asked_for(second):
    def items():
        yield 0
        raise KeyError("one")

    batches = second.one_ahead(items())
    assert next(batches) == 0
    with pytest.raises(KeyError, match="one"):
        next(batches)


@pytest.mark.parametrize("fails", [False, True])
def test_no_thread_is_left(fails):
    before = threading.active_count()
    try:
        with companion() as second:
            second.submit(F.relu, torch.ones(3)).result()
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert threading.active_count() == before


@each
def test_small_networks_train_with_a_companion(estimator, monkeypatch):
    opened = []

    class Seen(Companion):
        def one_ahead(self, items):
            opened.append(self)
            return super().one_ahead(items)

    monkeypatch.setattr("deepcluster_sk._training.companion.Companion", Seen)
    estimator(3, max_epochs=2, batch_size=20, random_state=0, device="cpu").fit(
        load_digits().images[:60]
    )
    assert len(opened) == 2


@pytest.mark.parametrize(
    "parameters",
    [{"augmentation": lambda x: x + 0.1}, {"encoder": lambda: nn.Sequential(nn.Flatten(), Own())}],
    ids=["augmentation", "encoder"],
)
def test_what_is_not_ours_trains_in_the_thread_of_the_caller(parameters, monkeypatch):
    monkeypatch.setattr(epochs, "companion", None)  # fails if it is called
    X = load_digits().images[:60]
    ContrastiveClustering(3, max_epochs=2, batch_size=20, random_state=0, **parameters).fit(X)


class Own(nn.Linear):
    def __init__(self):
        super().__init__(64, 8)


def test_small_is_a_rule_of_the_network():
    X = load_digits().images[:60]
    model = ContrastiveClustering(3, max_epochs=1, batch_size=20, random_state=0).fit(X)
    assert is_small(model._objective, (1, 8, 8))
    model._objective.multiply_adds = None
    assert not is_small(model._objective, (1, 64, 64))
    model._objective.multiply_adds = 2**20
    assert is_small(model._objective, (500,))
    assert not is_small(model._objective, (1, 20, 20))
