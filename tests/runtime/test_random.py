import random
from functools import partial

import numpy as np
import pytest
import torch
from drawing import Drawing
from torch import nn

from deepcluster_sk._runtime.random import Seeds, draw_entropy, may_draw
from deepcluster_sk.encoders import build_encoder


def test_one_address_names_one_stream_of_draws():
    first = torch.rand(5, generator=Seeds(3).generator("order", 2))
    again = torch.rand(5, generator=Seeds(3).generator("order", 2))
    assert torch.equal(first, again)


def test_streams_epochs_and_entropies_are_independent():
    addresses = [(3, "order", 2), (3, "order", 1), (3, "augment", 2), (4, "order", 2)]
    seeds = {Seeds(entropy).seed(stream, epoch) for entropy, stream, epoch in addresses}
    assert len(seeds) == len(addresses)


def test_forked_global_states_are_seeded_and_restored():
    def draw():
        return torch.rand(1).item(), np.random.rand(), random.random()

    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = draw()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    inside = []
    for _ in range(2):
        with Seeds(1).fork_global("init"):
            inside.append(draw())
    assert draw() == expected
    assert inside[0] == inside[1] != expected


def test_forked_global_states_are_restored_after_an_error():
    def fail():
        with Seeds(1).fork_global("init"):
            torch.rand(3)
            raise RuntimeError("boom")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert torch.equal(torch.get_rng_state(), before)


def test_entropy_follows_the_random_state():
    assert draw_entropy(5) == draw_entropy(5) != draw_entropy(6)
    assert draw_entropy(np.random.RandomState(5)) == draw_entropy(5)
    assert draw_entropy(None) != draw_entropy(None)


def networks():
    return nn.Sequential(
        nn.Linear(6, 4), nn.Conv2d(2, 3, 3), nn.LSTM(3, 4), nn.MultiheadAttention(8, 2)
    ).state_dict()


def test_networks_are_drawn_beside_a_thread_that_draws():
    seeds = Seeds(3)
    with seeds.fork_global("init"):
        expected = networks()
    with Drawing() as drawing:
        for _ in range(20):
            with seeds.drawing("init", foreign=False):
                found = networks()
            assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert drawing.has_drawn_what_it_draws_alone()


def test_operations_without_a_generator_leave_no_trace():
    draws = [
        lambda: torch.rand_like(torch.ones(3)),
        lambda: torch.randperm(9),
        lambda: torch.randint(2, 9, (4,)),
        lambda: torch.nn.functional.dropout(torch.ones(20)),
        lambda: torch.normal(torch.zeros(3), 1.0),
    ]
    before = torch.get_rng_state()
    for draw in draws:
        twice = []
        for _ in range(2):
            with Seeds(0).drawing("init", foreign=False):
                twice.append(draw())
        assert torch.equal(*twice)
    assert torch.equal(torch.get_rng_state(), before)


class Own(nn.Linear):
    pass


def with_a_hook():
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda module, inputs, output: None)
    return module


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (partial(build_encoder, "mlp", (8,)), False),
        (partial(build_encoder, "cnn", (1, 8, 8)), False),
        (partial(build_encoder, "resnet18", (3, 32, 32)), False),
        (partial(build_encoder, "efficientnet_b0", (3, 32, 32)), True),
        (partial(nn.Dropout, 0.1), True),
        (partial(nn.MultiheadAttention, 8, 2), False),
        (partial(nn.MultiheadAttention, 8, 2, dropout=0.1), True),
        (partial(nn.LSTM, 3, 4, num_layers=2, dropout=0.1), True),
        (partial(Own, 2, 2), True),
        (with_a_hook, True),
    ],
)
def test_modules_that_may_draw_are_told_from_others(build, expected):
    assert may_draw(nn.Sequential(build())) is expected


def test_a_foreign_constructor_may_seed_the_global_states():
    torch.manual_seed(7)
    expected = nn.Linear(2, 2).weight
    before = torch.get_rng_state()
    with Seeds(0).drawing("init", foreign=True):
        torch.manual_seed(7)
        weight = nn.Linear(2, 2).weight
    assert torch.equal(weight, expected)
    assert torch.equal(torch.get_rng_state(), before)
