import random

import numpy as np
import pytest
import torch
from torch import nn

from deepcluster_sk._runtime.random import Seeds, draw_entropy


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


def test_a_foreign_constructor_may_seed_the_global_states():
    torch.manual_seed(7)
    expected = nn.Linear(2, 2).weight
    before = torch.get_rng_state()
    with Seeds(0).drawing("init", foreign=True):
        torch.manual_seed(7)
        weight = nn.Linear(2, 2).weight
    assert torch.equal(weight, expected)
    assert torch.equal(torch.get_rng_state(), before)
