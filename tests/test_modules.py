import numpy as np
import pytest
import torch

from deepcluster_sk._modules import ParallelHeads, projection_head


def test_one_parallel_head_is_a_projection_head():
    torch.manual_seed(0)
    alone = projection_head(6, 5, 3)
    torch.manual_seed(0)
    parallel = ParallelHeads(6, 5, 3, n_heads=1)
    x = torch.rand(4, 6)
    torch.testing.assert_close(parallel(x)[0], alone(x))


def test_heads_are_computed_side_by_side():
    heads = ParallelHeads(6, 5, 3, n_heads=4)
    x = torch.rand(7, 6)
    outputs = heads(x)
    assert outputs.shape == (4, 7, 3)
    hidden = heads.hidden(x)
    for head in range(4):
        rows = slice(3 * head, 3 * head + 3)
        expected = hidden @ heads.output.weight[rows].T + heads.output.bias[rows]
        torch.testing.assert_close(outputs[head], expected)


def test_selected_outputs_become_the_only_head_in_their_order():
    heads = ParallelHeads(6, 5, 3, n_heads=2)
    x = torch.rand(7, 6)
    before = heads(x)
    heads.select(torch.tensor([5, 3, 4]))
    torch.testing.assert_close(heads(x), before[1:, :, [2, 0, 1]])


@pytest.mark.parametrize("present", [(0, 1, 2), (0, 2), (1, 2)])
def test_imitating_head_reproduces_the_labels_and_leaves_the_others(present):
    rng = np.random.default_rng(0)
    labels = rng.choice(present, size=90)
    centers = 4 * rng.normal(size=(3, 6))
    x = torch.from_numpy(centers[labels] + 0.1 * rng.normal(size=(90, 6))).float()
    heads = ParallelHeads(6, 16, 3, n_heads=2)
    before = heads(x).detach()
    with torch.no_grad():
        heads.imitate(1, x, torch.from_numpy(labels))
    after = heads(x)
    torch.testing.assert_close(after[0], before[0])
    np.testing.assert_array_equal(after[1].argmax(dim=1), labels)
