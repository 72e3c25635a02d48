"""Primitives that the objectives share: pure functions of tensors."""

import math
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "at_least_float32",
    "info_nce",
    "inner_products",
    "negative_entropy",
    "nt_xent",
    "sinkhorn",
    "swapped_prediction",
    "symmetric_info_nce",
]


def at_least_float32(x: Tensor) -> Tensor:
    """Leave half precision behind: losses are computed in float32, or float64 if they come so.

    Parameters
    ----------
    x : Tensor, float
        Of any shape.

    Returns
    -------
    x : Tensor, float32 or float64
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def inner_products(a: Tensor, b: Tensor) -> Tensor:
    """Multiply all rows of two matrices, ``a b^T``, in full precision also within autocast.

    Parameters
    ----------
    a, b : Tensor of shape (..., n, d) and (..., m, d), float
        Leading axes are independent problems, and are broadcast.

    Returns
    -------
    products : Tensor of shape (..., n, m), float32 or float64
        ``<a_i, b_j>``.
    """
    dtype = torch.promote_types(a.dtype, b.dtype)
    with torch.autocast(a.device.type, enabled=False):
        return at_least_float32(a.to(dtype)) @ at_least_float32(b.to(dtype)).mT


def nt_xent(a: Tensor, b: Tensor, *, temperature: float) -> Tensor:
    """Normalised-temperature cross-entropy between two paired sets of vectors.

    Every one of the ``2n`` vectors has to recognise its partner among the other ``2n - 1``::

        S = [a; b] [a; b]^T / temperature
        loss = mean over i of  -S[i, p(i)] + log sum over j != i of exp S[i, j]

    Parameters
    ----------
    a, b : Tensor of shape (..., n, d), float
        Paired vectors. Rows of unit length make `S` a cosine similarity; nothing is normalised
        in here. Leading axes are independent problems.
    temperature : float
        Divides the similarities; positive.

    Returns
    -------
    loss : Tensor of shape (...), float32
        Mean over the ``2n`` vectors. ``log(2n - 1)`` when all vectors are identical. Its first
        derivatives are right, second ones are not.

    References
    ----------
    Chen et al., "A simple framework for contrastive learning of visual representations", ICML
    2020, Eq. (1).
    """
    with torch.autocast(a.device.type, enabled=False):
        z = at_least_float32(torch.cat([a, b], dim=-2))
        loss: Tensor = _NTXent.apply(z, temperature)
        return loss


class _NTXent(torch.autograd.Function):
    """The loss of :func:`nt_xent` for ``z = [a; b]``.

    The matrix of similarities is symmetric. With the softmax P of its rows, the gradient is
    ``((P + P^T) z - 2 z_p) / (2n temperature)``: one product in place of the two that would follow
    from differentiating step by step, and no pass over the matrix for each step.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float) -> Tensor:
        scaled = z / temperature
        similarity = scaled @ z.mT
        # not diagonal(): torch's compiler warns of its own way of compiling that
        similarity.flatten(-2)[..., :: z.shape[-2] + 1].fill_(float("-inf"))
        softmax, logsumexp = _softmax_(similarity)
        ctx.save_for_backward(z, softmax)
        ctx.temperature = temperature
        partner = (scaled * _partners(z)).sum(dim=-1)
        return (logsumexp - partner).mean(dim=-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        z, softmax = ctx.saved_tensors
        gradient = (softmax + softmax.mT) @ z - 2 * _partners(z)
        return gradient * (grads[0][..., None, None] / (z.shape[-2] * ctx.temperature)), None


def _softmax_(x: Tensor) -> tuple[Tensor, Tensor]:
    """Turn rows (..., m) into their softmax, in place; return it, and their logsumexp (...)."""
    largest = x.amax(dim=-1, keepdim=True)
    exponentials = x.sub_(largest).exp_()
    total = exponentials.sum(dim=-1, keepdim=True)
    return exponentials.div_(total), (total.log() + largest).squeeze(-1)


def _partners(z: Tensor) -> Tensor:
    """Return the partner of each row of ``[a; b]``."""
    return torch.cat(z.chunk(2, dim=-2)[::-1], dim=-2)


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float,
    extra_keys: Tensor | None = None,
    excluded: Tensor | None = None,
    batch_negatives: bool = True,
) -> Tensor:
    """Cross-entropy of recognising the key of each query among other keys.

    With ``s(q, k) = q . k / temperature``, the mean over i of::

        -s(q_i, k_i) + log( exp s(q_i, k_i) + sum over negatives n of exp s(q_i, n) )

    Parameters
    ----------
    queries, keys : Tensor of shape (..., n, d), float
        Row i of both belongs together. Nothing is normalised in here. Leading axes are
        independent problems.
    temperature : float
        Divides the similarities; positive.
    extra_keys : Tensor of shape (..., m, d) or None, default=None
        Further negatives of every query, such as a queue of past keys.
    excluded : bool Tensor of shape (n, m) or None, default=None
        Extra keys that are not negatives of a query.
    batch_negatives : bool, default=True
        Whether the keys of the other queries are negatives.

    Returns
    -------
    loss : Tensor of shape (...), float32
        Mean over the n queries; ``log(number of negatives + 1)`` when all vectors are identical,
        0 without negatives.

    References
    ----------
    van den Oord, Li and Vinyals, "Representation learning with contrastive predictive coding",
    2018, Eq. (4); with a queue: He et al., "Momentum contrast for unsupervised visual
    representation learning", CVPR 2020, Eq. (1).
    """
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = at_least_float32(queries) / temperature, at_least_float32(keys)
        positive = (queries * keys).sum(dim=-1, keepdim=True)
        similarity = queries @ keys.mT if batch_negatives else positive
        if extra_keys is not None:
            extra = queries @ extra_keys.to(queries.dtype).mT
            if excluded is not None:
                extra = extra.masked_fill(excluded, float("-inf"))
            similarity = torch.cat([similarity, extra], dim=-1)
        return _logsumexp(similarity, dim=-1).mean(dim=-1) - positive.mean(dim=(-2, -1))


def symmetric_info_nce(a: Tensor, b: Tensor, *, temperature: float) -> Tensor:
    """Mean of :func:`info_nce` from a to b and from b to a, out of one matrix of similarities.

    Parameters
    ----------
    a, b : Tensor of shape (..., n, d), float
        Row i of both belongs together. Leading axes are independent problems.
    temperature : float
        Divides the similarities; positive.

    Returns
    -------
    loss : Tensor of shape (...), float32
        Mean over the 2n rows; ``log n`` when all vectors are identical.
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = at_least_float32(a) / temperature, at_least_float32(b)
        similarity = a @ b.mT
        positive = (a * b).sum(dim=-1)
        both = (_logsumexp(similarity, dim=-1) + _logsumexp(similarity, dim=-2)) / 2
        return (both - positive).mean(dim=-1)


def _logsumexp(x: Tensor, *, dim: int) -> Tensor:
    """Keep the exponentials for the gradient, where torch's function computes them again."""
    largest = x.detach().amax(dim, keepdim=True)
    return (x - largest).exp().sum(dim).log() + largest.squeeze(dim)


def negative_entropy(assignments: Tensor) -> Tensor:
    """Distance of the mean assignment from the uniform one, in nats.

    ``log K + sum over k of p_k log p_k`` with ``p_k`` the share of cluster k: 0 when the clusters
    share the batch equally, ``log K`` when one cluster takes all.

    Parameters
    ----------
    assignments : Tensor of shape (..., n, K), float
        Soft assignments, rows summing to one. Leading axes are independent problems.

    Returns
    -------
    loss : Tensor of shape (...), float32
        In ``[0, log K]``. Value and gradient stay finite when a cluster is empty.
    """
    mass = at_least_float32(assignments).sum(dim=-2)
    share = mass / mass.sum(dim=-1, keepdim=True)
    log_share = share.clamp_min(torch.finfo(share.dtype).tiny).log()
    return (share * log_share).sum(dim=-1) + math.log(share.shape[-1])


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, n_iterations: int = 3) -> Tensor:
    """Assign samples to prototypes in equal shares, by the Sinkhorn-Knopp algorithm.

    The matrix ``exp(scores / epsilon)`` is scaled in turns: its columns, so that every prototype
    gets the same mass, and its rows, so that every sample has a mass of one. The limit is the
    assignment of this kind with the largest sum of scores plus `epsilon` times its entropy.

    Parameters
    ----------
    scores : Tensor of shape (..., n, K), float
        Similarity of samples and prototypes. Leading axes are independent problems.
    epsilon : float, default=0.05
        Weight of the entropy, positive: larger values give softer codes.
    n_iterations : int, default=3
        Number of times that columns and rows are scaled.

    Returns
    -------
    codes : Tensor of shape (..., n, K), float32
        Rows sum to one, and columns nearly to ``n / K``. No gradient passes through.

    References
    ----------
    Cuturi, "Sinkhorn distances: lightspeed computation of optimal transport", NeurIPS 2013; for
    codes: Caron et al., "Unsupervised learning of visual features by contrasting cluster
    assignments", NeurIPS 2020, Eq. (3)-(5).

    Examples
    --------
    Both samples prefer the first prototype, and one of them gets the second one:

    >>> import torch
    >>> from deepcluster_sk.losses import sinkhorn
    >>> sinkhorn(torch.tensor([[0.9, 0.1], [0.9, 0.5]])).argmax(dim=1)
    tensor([0, 1])
    """
    with torch.autocast(scores.device.type, enabled=False):
        log_codes = at_least_float32(scores) / epsilon
        for _ in range(n_iterations):
            log_codes = log_codes - _logsumexp(log_codes, dim=-2)[..., None, :]
            log_codes = log_codes - _logsumexp(log_codes, dim=-1)[..., None]
        return log_codes.exp()


def swapped_prediction(scores: Tensor, codes: Tensor, *, temperature: float) -> Tensor:
    """Predict the codes of some views from the scores of the others.

    With ``p_v`` the softmax of ``scores_v / temperature``, the mean over all pairs of a view c with
    codes and another view v of::

        - mean over i of sum over k of codes_c[i, k] log p_v[i, k]

    Parameters
    ----------
    scores : Tensor of shape (..., V, n, K), float
        Similarity of the samples and K prototypes in V views, at least two. Leading axes are
        independent problems.
    codes : Tensor of shape (..., C, n, K), float
        Assignments of the first C views, rows summing to one, such as those of :func:`sinkhorn`.
    temperature : float
        Divides the scores; positive.

    Returns
    -------
    loss : Tensor of shape (...), float32
        ``log K`` when all scores are equal.

    References
    ----------
    Caron et al., "Unsupervised learning of visual features by contrasting cluster assignments",
    NeurIPS 2020, Eq. (1)-(2).

    Examples
    --------
    >>> import torch
    >>> from deepcluster_sk.losses import sinkhorn, swapped_prediction
    >>> scores = torch.eye(3).repeat(2, 1, 1)  # two views of three samples
    >>> swapped_prediction(scores, sinkhorn(scores), temperature=0.1).item() < 1e-3
    True
    """
    with torch.autocast(scores.device.type, enabled=False):
        log_p = (at_least_float32(scores) / temperature).log_softmax(dim=-1)
        n_views, n_coded = scores.shape[-3], codes.shape[-3]
        # the mean over samples and the sum over prototypes are one product of long rows
        pairs = codes.to(log_p.dtype).flatten(-2) @ log_p.flatten(-2).mT / scores.shape[-2]
        others = ~torch.eye(n_coded, n_views, dtype=torch.bool, device=scores.device)
        return -(pairs * others).sum(dim=(-2, -1)) / (n_coded * (n_views - 1))
