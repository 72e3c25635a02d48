"""Weight-normalised layers that give soft labels."""

import torch
from torch import nn

from deepcluster_sk._networks.task_encoder import TaskEncoder


def rows(n=6):
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(0))


def test_a_new_layer_is_a_linear_layer_as_torch_makes_it():
    torch.manual_seed(0)
    task = TaskEncoder(5, 2, 3)
    torch.testing.assert_close(task.lengths, task.directions.norm(dim=0))
    assert task.directions.abs().max() <= 5**-0.5
    for head in range(2):
        logits = nn.functional.linear(rows(), task.directions[:, head].mT, task.bias[head])
        torch.testing.assert_close(task(rows())[:, head], logits.softmax(dim=1))


def test_only_the_direction_of_the_weights_counts():
    task = TaskEncoder(5, 1, 3)
    before = task(rows())
    with torch.no_grad():
        task.directions.mul_(7.0)
    torch.testing.assert_close(task(rows()), before)


def test_selected_tasks_return_what_they_did():
    task = TaskEncoder(5, 3, 4)
    before = task(rows())
    task.select(torch.tensor([2]))
    torch.testing.assert_close(task(rows()), before[:, [2]])


def test_a_task_imitates_labels_and_leaves_the_others():
    task = TaskEncoder(5, 2, 3)
    x = torch.cat([rows(20) + 4, rows(20) - 4])
    labels = torch.arange(40) // 20
    before = task(x)[:, 1]
    with torch.no_grad():
        task.imitate(0, x, labels)
    assert torch.equal(task(x)[:, 0].argmax(dim=1), labels)
    torch.testing.assert_close(task(x)[:, 1], before)
