"""Heads of unit vectors and directions, several at once."""

import torch

from deepcluster_sk._networks.unit_heads import UnitHeads


def heads(n_heads=3):
    torch.manual_seed(0)
    return UnitHeads(5, 8, 4, 3, n_heads)


def rows(n=6):
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(0))


def test_logits_are_products_of_directions_and_at_most_the_lengths():
    module = heads()
    with torch.no_grad():
        module.lengths.fill_(2.0)
        logits = module(rows())
    assert logits.shape == (3, 6, 3)
    assert logits.abs().max() <= 2.0 + 1e-6


def test_selected_heads_return_what_they_did():
    module = heads()
    with torch.no_grad():
        before = module(rows())
        module.select(torch.tensor([2, 0]))
        torch.testing.assert_close(module(rows()), before[[2, 0]])
    assert all(p.requires_grad for p in module.parameters())


def test_the_last_layer_may_wait_while_the_values_stay():
    module = heads()
    torch.testing.assert_close(module(rows(), torch.zeros(())), module(rows()))
    module(rows(), torch.zeros(())).sum().backward()
    assert not module.directions.grad.any()
    assert not module.lengths.grad.any()
    assert module.second.grad.any()


def test_heads_imitate_labels_each_its_own():
    module = heads()
    x = torch.cat([rows(20) + 4, rows(20) - 4])
    labels = torch.arange(40) // 20
    of_heads = torch.stack([labels, 1 - labels, labels])
    module.imitate(x, of_heads, temperature=0.1)
    assert torch.equal(module(x).argmax(dim=2), of_heads)
