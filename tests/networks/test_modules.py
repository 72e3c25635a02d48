import copy

import pytest
import torch
from torch import nn

from deepcluster_sk._networks.modules import FeatureQueue, MomentumCopy
from deepcluster_sk._training.frozen import FrozenEncoder


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_momentum_copy_starts_equal_and_apart():
    module = network()
    follower = MomentumCopy(module)
    x = torch.rand(6, 3)
    torch.testing.assert_close(follower(x), module(x))
    assert not {p.data_ptr() for p in module.parameters()} & {
        p.data_ptr() for p in follower.parameters()
    }


def test_momentum_copy_of_a_frozen_encoder_is_left_alone():
    frozen = FrozenEncoder(nn.Linear(3, 2), nn.Identity())
    copied = MomentumCopy(frozen)
    versions = [parameter._version for parameter in frozen.parameters()]
    copied.update(frozen, 0.9)
    assert copied.module is frozen
    assert [parameter._version for parameter in frozen.parameters()] == versions


def test_momentum_copy_gets_no_gradient():
    follower = MomentumCopy(network())
    x = torch.rand(6, 3, requires_grad=True)
    assert not follower(x).requires_grad
    assert not any(p.requires_grad for p in follower.parameters())


def test_momentum_copy_averages_weights_and_copies_statistics_in_place():
    module = network()
    follower = MomentumCopy(module)
    old = copy.deepcopy(dict(follower.module.named_parameters()))
    addresses = [p.data_ptr() for p in follower.parameters()]
    with torch.no_grad():
        for p in module.parameters():
            p.add_(1)
    module(torch.rand(6, 3))
    follower.update(module, 0.75)
    for name, p in follower.module.named_parameters():
        expected = 0.75 * old[name] + 0.25 * dict(module.named_parameters())[name]
        torch.testing.assert_close(p.data, expected.data)
    for own, source in zip(follower.module.buffers(), module.buffers(), strict=True):
        assert torch.equal(own, source)
    assert [p.data_ptr() for p in follower.parameters()] == addresses


@pytest.mark.parametrize("size", [1, 5, 7])
@pytest.mark.parametrize("pushes", [(2, 2), (3, 3, 3), (5, 5), (1, 6, 4)])
def test_queue_holds_the_last_vectors_whatever_the_batches(size, pushes):
    queue = FeatureQueue(size, 2)
    history = [row.tolist() for row in queue.features]
    for i, n in enumerate(pushes):
        batch = torch.arange(2 * n).view(n, 2) + 100.0 * (i + 1)
        queue.push(batch)
        history += batch.tolist()
    assert sorted(queue.features.tolist()) == sorted(history[-size:])


def test_queue_of_blocks_keeps_its_blocks_in_place():
    queue = FeatureQueue(6, 1)
    for step in range(5):
        queue.push(torch.tensor([[10.0 * step + k] for k in range(3)]))
    assert (queue.features[:, 0] % 10).tolist() == [0, 1, 2, 0, 1, 2]


def test_queue_starts_with_unit_vectors_and_may_be_empty():
    torch.testing.assert_close(FeatureQueue(4, 3).features.norm(dim=1), torch.ones(4))
    empty = FeatureQueue(0, 3)
    empty.push(torch.rand(2, 3))
    assert empty.features.shape == (0, 3)


def test_queue_is_state():
    queue, other = FeatureQueue(5, 2), FeatureQueue(5, 2)
    queue.push(torch.rand(3, 2))
    other.load_state_dict(queue.state_dict())
    vectors = torch.rand(4, 2)
    queue.push(vectors), other.push(vectors)
    assert torch.equal(queue.features, other.features)
