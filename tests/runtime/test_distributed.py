"""Several processes train and predict what one process does."""

import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections import OrderedDict
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from estimators import ESTIMATORS, KINDS, each_kind
from processes import needs_sigkill, process_context, run_ranks, values
from sklearn.datasets import load_digits, make_blobs
from sklearn.model_selection import GridSearchCV
from torch import nn

from deepcluster_sk import (
    TEMI,
    ClusterContrast,
    ContrastiveClustering,
    InformationMaximizationClustering,
    load,
    report,
)
from deepcluster_sk._networks import neighbor_stage
from deepcluster_sk._networks.cluster_heads import ClusterHeadsObjective
from deepcluster_sk._runtime import distributed, isolation, process_group
from deepcluster_sk._runtime.batch_norm import global_batch_norm
from deepcluster_sk._runtime.file_format import read_file
from deepcluster_sk._training import inference, trainer
from deepcluster_sk.augmentations import images as image_recipe
from deepcluster_sk.display import ClusterSizeDisplay
from deepcluster_sk.exceptions import ResumeError
from deepcluster_sk.losses import info_nce, nt_xent
from deepcluster_sk.model_selection import mean_confidence_scorer

# a handful of epochs is too few to fill every cluster
pytestmark = pytest.mark.filterwarnings("ignore:.*clusters are empty")

# heads, centroids and neighbours all start on the way
PARAMETERS = {
    "max_epochs": 3,
    "batch_size": 20,
    "cluster_start": 0.3,
    "neighbor_start": 0.3,
    "random_state": 0,
    "device": "cpu",
}
N_SAMPLES = 67  # the last batch is incomplete


def some_images():
    return (load_digits().images[:N_SAMPLES] * 15).astype(np.uint8)


def some_rows():
    return make_blobs(N_SAMPLES, n_features=6, centers=3, random_state=0)[0]


DATA = {"images": some_images, "rows": some_rows}


def has_heads(estimator):
    return issubclass(estimator._objective_class, ClusterHeadsObjective)


@contextmanager
def double_precision():
    """All computations in float64: what is left of a difference is no rounding."""
    single, dtype = torch.Tensor.float, torch.get_default_dtype()
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.object(isolation, "_float32_by_default", nullcontext):
            yield
    finally:
        torch.Tensor.float = single
        torch.set_default_dtype(dtype)


def large_clusters():
    """Take all clusters for large: the graph of the features judges them, and does not decide."""
    return mock.patch.object(neighbor_stage, "_SMALL", 0)


def state(model, X):
    """All that a fit has made, and what it says of some samples."""
    return {
        "weights": {k: v.numpy().copy() for k, v in model._objective.state_dict().items()},
        "labels": model.labels_,
        "history": {"total": model.loss_curve_, **model.history_},
        "assignments": model.predict_proba(X),
        "features": model.transform(X),
        "score": model.score(X),
    }


def assert_close(actual, expected, tolerance):
    """Labels are equal, weights up to a tolerance, and outputs up to ten times as much."""
    np.testing.assert_array_equal(actual["labels"], expected["labels"])
    for part in ("weights", "history"):
        assert actual[part].keys() == expected[part].keys()
        for name, value in expected[part].items():
            np.testing.assert_allclose(actual[part][name], value, 0, tolerance, err_msg=name)
    for part in ("assignments", "features", "score"):
        np.testing.assert_allclose(actual[part], expected[part], 0, 10 * tolerance, err_msg=part)


def assert_same(first, second):
    """Two ranks have the same bits."""
    np.testing.assert_equal(second, first)


def fitted_state(rank, estimator, data, parameters, wide):
    """Fit in one of the ranks, or alone."""
    X = DATA[data]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if wide:
            with double_precision():
                return state(estimator(3, **parameters).fit(X), X)
        with large_clusters():
            return state(estimator(3, **parameters).fit(X), X)


def fitted_states(rank, cases):
    return [fitted_state(rank, *case) for case in cases]


@pytest.mark.parametrize("n", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("data", DATA)
def test_ranks_fit_what_one_process_fits(data, n):
    estimators = ESTIMATORS if data == "images" else KINDS  # their losses are the same for rows
    cases = [(estimator, data, PARAMETERS, True) for estimator in estimators]
    first, *others = values(run_ranks(fitted_states, cases, n=n, timeout=60 * len(cases)))
    for number, case in enumerate(cases):
        # the heads of IMC-SwAV do not shape the features, on which the regression that sets the
        # last one to the partition of the graph is ill-conditioned: all else agrees to 1e-12
        magnifies = case[0] is InformationMaximizationClustering and data == "images"
        tolerance = 1e-6 if magnifies else 1e-8
        assert_close(first[number], fitted_state(0, *case), tolerance)
        for other in others:
            assert_same(first[number], other[number])


def test_ranks_learn_the_same_labels_of_their_own():
    parameters = {**PARAMETERS, "self_labeling": 0.4, "n_neighbors": 0}
    cases = [(estimator, "images", parameters, True) for estimator in (ContrastiveClustering, TEMI)]
    first, second = values(run_ranks(fitted_states, cases, timeout=180))
    for number, case in enumerate(cases):
        assert first[number]["history"]["self_labeling"][2] > 0
        assert_close(first[number], fitted_state(0, *case), 1e-8)
        assert_same(first[number], second[number])


@pytest.mark.slow
def test_ranks_fit_what_one_process_fits_in_single_precision():
    # One method of each kind: that all of them compute the same is seen above. What magnifies
    # rounding is left out, here and in one process: Adam turns gradients of nearly zero into steps
    # of full length, in the training and where projections gather around clusters of the graph;
    # long steps; late heads start from a partition of a graph, by a logistic regression that is
    # stopped early; and CC with torch 2.4 depends on the kernels of the convolutions as well.
    parameters = {**PARAMETERS, "optimizer": "sgd", "learning_rate": 0.003}
    parameters["neighbor_space"] = "features"
    one_head = {**parameters, "n_heads": 1, "cluster_start": 0.0}
    sensitive = (ContrastiveClustering,) if torch.__version__ < "2.5" else ()
    cases = [
        (estimator, data, one_head if has_heads(estimator) else parameters, False)
        for estimator in KINDS
        for data in DATA
        if data != "images" or estimator not in sensitive
    ]
    first, second = values(run_ranks(fitted_states, cases, timeout=60 * len(cases)))
    for number, case in enumerate(cases):
        assert_close(first[number], fitted_state(0, *case), 1e-5)
        assert_same(first[number], second[number])


def fitted_on_wide_rows(rank, batch_size):
    """Fit with neighbours among the principal components of inputs, in batches of a size."""
    X = make_blobs(150, n_features=80, centers=3, cluster_std=5.0, random_state=0)[0]
    before, inference.BATCH_SIZE = inference.BATCH_SIZE, batch_size
    try:
        with double_precision(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return state(ContrastiveClustering(3, **PARAMETERS).fit(X), X)
    finally:
        inference.BATCH_SIZE = before


@pytest.mark.parametrize("batch_size", [64, 1024])  # three batches and one, for two ranks
def test_ranks_find_the_neighbors_of_wide_rows_that_one_process_finds(batch_size):
    first, second = values(run_ranks(fitted_on_wide_rows, batch_size))
    assert_same(first, second)
    assert_close(first, fitted_on_wide_rows(0, 1024), 1e-8)


# ---- the parts


def both_losses(rank, a, b):
    """A loss of all rows on every rank, and one of a rank's rows with the keys of all."""
    found = []
    for whole in (True, False):
        x, y = (distributed.own_part(t).clone().requires_grad_() for t in (a, b))
        if whole:
            loss = nt_xent(distributed.gather(x), distributed.gather(y), temperature=0.5)
        else:
            keys = distributed.gather(y)
            own = torch.arange(len(x)) + rank * len(x)
            loss = F.cross_entropy(x @ keys.mT / 0.5, own)
        loss.backward()
        n = distributed.world_size()
        value = distributed.all_sum(loss) / n
        grads = [distributed.gather(t.grad) / n for t in (x, y)]
        found.append((value.item(), *(g.numpy() for g in grads)))
    return found


def in_block(rank, function, *args):
    with process_group.together("cpu"):
        return function(rank, *args)


def test_gradients_through_gather_are_those_of_one_process():
    a, b = torch.randn(2, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = []
    for loss_of in (nt_xent, info_nce):
        x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
        loss = loss_of(x, y, temperature=0.5)
        loss.backward()
        expected.append((loss.item(), x.grad.numpy(), y.grad.numpy()))
    for found in values(run_ranks(in_block, both_losses, a, b)):
        for ours, theirs in zip(found, expected, strict=True):
            for value, right in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(value, right, atol=1e-12)


def test_gather_joins_along_any_dimension():
    for found in values(run_ranks(in_block, gathered_columns)):
        np.testing.assert_array_equal(found, [[[0.0, 1.0], [10.0, 11.0]]] * 3)


def gathered_columns(rank):
    x = torch.tensor([[10.0 * rank, 10.0 * rank + 1]]).expand(3, 1, 2)
    return distributed.gather(x, dim=1).numpy()


def test_alone_nothing_is_copied():
    x = torch.ones(3)
    assert distributed.gather(x) is x
    assert distributed.own_part(x) is x
    assert distributed.all_sum(x) is x
    assert distributed.on_first(lambda: x) is x
    assert distributed.dealt(values := [1, 2]) is values


NORMS = {
    "rows": (lambda: nn.BatchNorm1d(4), (8, 4)),
    "images": (lambda: nn.BatchNorm2d(4, momentum=None), (8, 4, 3, 2)),
    "sequences": (lambda: nn.BatchNorm1d(4, affine=False), (8, 4, 3)),
    "no running statistics": (lambda: nn.BatchNorm2d(4, track_running_stats=False), (8, 4, 3, 2)),
    "evaluation": (lambda: nn.BatchNorm1d(4).eval(), (8, 4)),
}


def normalized(rank, kind, dtype):
    """Output, gradients and statistics of two batches, far from zero, for the whole of them."""
    make, shape = NORMS[kind]
    norm = make()
    if dtype == torch.float64:
        norm = norm.double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.linspace(0.5, 2, 4))
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        whole = (torch.randn(shape, generator=generator) + 100).to(dtype)
        weight = torch.randn(shape, generator=generator).to(dtype)
        x = distributed.own_part(whole).clone().requires_grad_()
        norm.zero_grad()
        with global_batch_norm():
            y = norm(x)
        (distributed.own_part(weight) * y).sum().backward()
    tensors = {
        "output": distributed.gather(y.detach()),
        "gradient": distributed.gather(x.grad),
        **{f"gradient of {k}": distributed.all_sum(p.grad) for k, p in norm.named_parameters()},
        **dict(norm.named_buffers()),
    }
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


@pytest.mark.parametrize("kind", NORMS)
def test_batch_norm_sees_the_batches_of_all_ranks(kind):
    expected = normalized(0, kind, torch.float64)
    for found in values(run_ranks(in_block, normalized, kind, torch.float64)):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, 1e-6, 1e-6, err_msg=name)


def test_batch_norm_of_half_precision_has_wide_statistics():
    expected = normalized(0, "images", torch.bfloat16)
    for found in values(run_ranks(in_block, normalized, "images", torch.bfloat16)):
        np.testing.assert_allclose(found["running_mean"], expected["running_mean"], 1e-6)
        np.testing.assert_allclose(found["output"], expected["output"], 1e-2, 1e-2)


class OwnNorm(nn.Module):
    """An encoder with a batch norm that is no module of torch's."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 8, bias=False)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))

    def forward(self, x):
        return F.batch_norm(self.linear(x), self.mean, self.var, training=self.training).relu()


def test_any_batch_norm_is_global():
    case = (ContrastiveClustering, "rows", {**PARAMETERS, "encoder": OwnNorm}, True)
    for found in values(run_ranks(fitted_state, *case)):
        assert_close(found, fitted_state(0, *case), 1e-8)


def test_networks_stay_as_they_are():
    for kinds in values(run_ranks(kinds_of_modules)):
        assert kinds == kinds_of_modules(0)


def kinds_of_modules(rank):
    model = ContrastiveClustering(3, **{**PARAMETERS, "max_epochs": 1}).fit(some_images())
    return [type(module).__name__ for module in model.encoder_.modules()]


# ---- what a fit can be asked for


def varied(x):
    """An augmentation that draws from torch's global state, for the batch as a whole."""
    return x + 0.1 * torch.randn_like(x) * x.std(dim=0)


CASES = {
    "no late start": {"cluster_start": 0.0, "n_neighbors": 0},
    "a callable augmentation": {"augmentation": varied},
    "an augmentation of parts": {"augmentation": image_recipe(blur=True)},
    "an early end": {"tol": 1.0, "n_iter_no_change": 2, "max_epochs": 6},
}


@pytest.mark.parametrize("name", CASES)
def test_parameters_mean_the_same_for_many(name):
    case = (ContrastiveClustering, "images", {**PARAMETERS, **CASES[name]}, True)
    first, second = values(run_ranks(fitted_state, *case))
    assert_same(first, second)
    assert_close(first, fitted_state(0, *case), 1e-8)
    if name == "an early end":
        assert len(first["history"]["total"]) < 6


def test_half_precision_trains_in_ranks():
    case = (ClusterContrast, "images", {**PARAMETERS, "precision": "bfloat16"}, False)
    first, second = values(run_ranks(fitted_state, *case))
    assert_same(first, second)
    expected = fitted_state(0, *case)["history"]["total"]
    np.testing.assert_allclose(first["history"]["total"], expected, 0.02)


def fitted_in_channels_last(rank):
    """Train in the memory format of GPUs."""
    trainer.convolution_format = lambda *device: torch.channels_last
    return fitted_state(rank, ClusterContrast, "images", PARAMETERS, True)


def test_the_memory_format_of_gpus_is_no_hindrance():
    first, second = values(run_ranks(fitted_in_channels_last))
    assert_same(first, second)
    assert_close(first, fitted_state(0, ClusterContrast, "images", PARAMETERS, True), 1e-8)


def going_on(rank, estimator):
    """A fit, another one from its weights, passes over other samples, and a file in between."""
    X = some_images()
    with double_precision(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Adam turns gradients of nearly zero into steps of full length, which magnifies rounding
        few = {**PARAMETERS, "max_epochs": 2, "batch_size": 10, "optimizer": "sgd"}
        model = estimator(3, **few)
        model.fit(X).set_params(warm_start=True).fit(X)
        for start in (0, 30):
            model.partial_fit(X[start : start + 30])
        new = estimator(3, **few).partial_fit(X).partial_fit(X)
        return state(model, X), state(new, X)


@each_kind
def test_a_training_goes_on_in_ranks(estimator):
    first, second = values(run_ranks(going_on, estimator))
    for ours, theirs, alone in zip(first, second, going_on(0, estimator), strict=True):
        assert_same(ours, theirs)
        assert_close(ours, alone, 1e-8)


class Pretrained(nn.Module):
    """An encoder that has other weights in every process."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(64, 5, generator=generator))

    def forward(self, x):
        return x.flatten(1).to(self.weight.dtype) @ self.weight


@pytest.mark.usefixtures("full_searches")  # a regression that ends early magnifies rounding
@pytest.mark.parametrize("augmentation", ["auto", "digits"])
@pytest.mark.parametrize("freeze", [False, True])
def test_all_ranks_have_the_encoder_of_the_first(freeze, augmentation):
    ranks = run_ranks(fit_pretrained, freeze, augmentation, searches=nullcontext)
    first, second = values(ranks)
    assert_same(first, second)
    assert_close(first, fit_pretrained(0, freeze, augmentation), 1e-8)


def fit_pretrained(rank, freeze, augmentation):
    with double_precision():
        parameters = {
            **PARAMETERS,
            "encoder": Pretrained(rank),
            "freeze_encoder": freeze,
            "augmentation": augmentation,
        }
        return fitted_state(rank, ContrastiveClustering, "images", parameters, True)


def test_without_a_random_state_all_ranks_draw_the_same():
    parameters = {**PARAMETERS, "random_state": None}
    first, second = values(
        run_ranks(fitted_state, ContrastiveClustering, "rows", parameters, False)
    )
    assert_same(first, second)


# ---- predictions


def write_all(model, X, folder):
    """Write every file that can be made of a fitted estimator."""
    model.save(folder / "model")
    if torch.__version__ >= "2.8" and find_spec("onnxscript"):
        model.to_onnx(folder / "model.onnx")
    report(model, X, path=folder / "report.html")


def outputs_of(model, X):
    """All that is computed of a fitted estimator for some samples."""
    return {
        "labels": model.predict(X),
        "assignments": model.predict_proba(X),
        "features": model.transform(X),
        "score": model.score(X),
        "confidence": mean_confidence_scorer(model, X),
        "sizes": ClusterSizeDisplay.from_estimator(model, X).sizes,
    }


def predicted_by_the_first(rank, folder):
    """Fit together; then rank 0 predicts, while the other one has nothing more to do."""
    found = []
    for estimator in KINDS:
        model = estimator(3, **{**PARAMETERS, "max_epochs": 1}).fit(some_rows())
        found.append((model, some_rows()))
    if rank == 0:
        write_all(*found[0], folder)
        return [(pickle.dumps(model), outputs_of(model, X)) for model, X in found]
    return None


@pytest.mark.filterwarnings("ignore")
def test_one_rank_alone_predicts_after_the_others_have_left(tmp_path):
    timeout = 60 * len(KINDS)
    first, second = values(run_ranks(predicted_by_the_first, tmp_path, timeout=timeout))
    assert second is None
    assert len(first) == len(KINDS)
    for dump, found in first:
        np.testing.assert_equal(found, outputs_of(pickle.loads(dump), some_rows()))
    assert (tmp_path / "report.html").exists()


def predicted_parts(rank):
    """Call the function on the page about many machines."""
    X = some_rows()
    model = ClusterContrast(3, **{**PARAMETERS, "max_epochs": 1, "batch_size": 18}).fit(X)
    page = Path(__file__).parents[2] / "docs" / "many_machines.md"
    (block,) = [b for b in page.read_text("utf-8").split("```python\n") if "in_parts" in b]
    namespace = {}
    exec(block.partition("```")[0], namespace)
    return namespace["predict_proba_in_parts"](model, X), model.predict_proba(X)


def test_rows_are_shared_out_as_the_page_says():
    for parts, whole in values(run_ranks(predicted_parts, n=3)):
        np.testing.assert_array_equal(parts, whole)


def watching(rank):
    """Predict in rank 0 in the middle of a fit, for other rows than those of the fit."""
    seen = []

    class Watch(Stop):
        def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
            seen.append(fitted_estimator.predict_proba(X[:5]).shape)
            return False

    ContrastiveClustering(3, **PARAMETERS).set_callbacks(Watch()).fit(some_rows())
    return seen


def test_callbacks_predict_in_rank_0_alone():
    pytest.importorskip("sklearn.callback")
    assert values(run_ranks(watching)) == [[(5, 3)] * 4, []]


# ---- decisions


def clocks(rank):
    """Epochs of a fit for a second, where the clock of rank 1 is ten times as fast."""
    if rank:
        monotonic = time.monotonic
        time.monotonic = lambda: 10 * monotonic()
    parameters = {**PARAMETERS, "max_epochs": 400, "max_time": 1.5, "n_neighbors": 0}
    return ContrastiveClustering(3, **parameters).fit(some_rows()).n_iter_


@pytest.mark.filterwarnings("ignore")
def test_rank_0_has_the_clock():
    first, second = values(run_ranks(clocks))
    assert first == second < 400


class Stop:
    """A callback of scikit-learn that predicts, and stops after two epochs."""

    def __init__(self):
        self.rows = []

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.rows.append(len(np.unique(fitted_estimator.predict(X))))
        return len(self.rows) == 2


def watched(rank):
    callback = Stop()
    model = ContrastiveClustering(3, **PARAMETERS).set_callbacks(callback).fit(some_rows())
    return model.n_iter_, len(callback.rows)


def test_callbacks_watch_rank_0_and_decide_for_all():
    pytest.importorskip("sklearn.callback")
    assert values(run_ranks(watched)) == [(2, 3), (2, 0)]


class Failing(Stop):
    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        raise KeyError("the callback")


def watched_and_failing(rank):
    ContrastiveClustering(3, **PARAMETERS).set_callbacks(Failing()).fit(some_rows())


def test_an_error_of_a_callback_is_one_of_all_ranks():
    pytest.importorskip("sklearn.callback")
    for outcome in run_ranks(watched_and_failing):
        assert isinstance(outcome, KeyError)


class Signalling(nn.Module):
    """An encoder that sends rank 1 a signal in the third epoch."""

    number = None

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU())
        self.layers(torch.zeros(1, 6))
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        if self.steps == 8 and torch.distributed.get_rank() == 1:
            signal.raise_signal(Signalling.number)
        return self.layers(x)


def signalled(rank, number, path, max_epochs=5):
    Signalling.number = number
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parameters = {**PARAMETERS, "encoder": Signalling, "checkpoint": path}
        parameters["max_epochs"] = max_epochs
        model = ContrastiveClustering(3, **parameters).fit(some_rows())
    messages = [str(w.message) for w in caught]
    return state(model, some_rows()), [m for m in messages if "interr" in m or "Ctrl-C" in m]


def test_ctrl_c_in_one_rank_ends_the_epoch_in_all(tmp_path):
    outcomes = values(run_ranks(signalled, signal.SIGINT, tmp_path / "run"))
    (first, told), (second, told_again) = outcomes
    assert_same(first, second)
    assert len(first["history"]["total"]) == 3
    assert len(told) == 1
    assert not told_again
    assert len(read_file(tmp_path / "run")[0]["history"]) == 3


def test_ctrl_c_in_the_last_epoch_of_one_rank_is_told(tmp_path):
    outcomes = values(run_ranks(signalled, signal.SIGINT, tmp_path / "run", 3))
    (first, told), (second, told_again) = outcomes
    assert_same(first, second)
    assert len(first["history"]["total"]) == 3
    assert [message.partition(":")[0] for message in told] == ["Ctrl-C came after the last epoch"]
    assert not told_again


@needs_sigkill
def test_a_killed_rank_is_an_error_of_the_others(tmp_path):
    first, second = run_ranks(signalled, signal.SIGKILL, tmp_path / "run")
    assert second == -signal.SIGKILL
    assert isinstance(first, RuntimeError)
    assert len(read_file(tmp_path / "run")[0]["history"]) == 2


# ---- files and messages


class Breaking(nn.Module):
    """An encoder that raises in the third epoch, in all ranks."""

    breaks = True

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 8)
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        if Breaking.breaks and self.steps == 8:
            raise ValueError("broken")
        return self.linear(x).relu()


def broken(rank, path, breaks):
    Breaking.breaks = breaks
    # a folder that rank 1 cannot see, as on another machine
    parameters = {**PARAMETERS, "encoder": Breaking}
    checkpoint = path if rank == 0 else path.parent / "nowhere" / path.name
    with double_precision():
        model = ContrastiveClustering(3, **parameters, checkpoint=checkpoint).fit(some_rows())
        return state(model, some_rows())


def test_a_fit_resumes_with_another_number_of_ranks(tmp_path):
    path = tmp_path / "run"
    for outcome in run_ranks(broken, path, True):
        assert str(outcome) == "broken"
    assert os.listdir(tmp_path) == ["run"]
    expected = broken(0, tmp_path / "other", False)
    (tmp_path / "copy").write_bytes(path.read_bytes())
    assert_close(broken(0, tmp_path / "copy", False), expected, 1e-8)
    for found in values(run_ranks(broken, path, False)):
        assert_close(found, expected, 1e-8)


def refused(rank, path):
    ContrastiveClustering(3, **PARAMETERS, checkpoint=path).fit(some_rows())


def test_all_ranks_refuse_a_damaged_checkpoint(tmp_path):
    (tmp_path / "run").write_text("no checkpoint", "utf-8")
    for outcome in run_ranks(refused, tmp_path / "run"):
        assert isinstance(outcome, ResumeError)


def saved(rank, folder):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # more clusters than samples can fill
        model = ContrastiveClustering(40, **{**PARAMETERS, "max_epochs": 1}).fit(some_rows())
    model.save(folder / f"model{rank}")
    return model.labels_, sum("clusters are empty" in str(w.message) for w in caught)


def test_rank_0_alone_writes_and_warns(tmp_path):
    (labels, warned), (_, warned_again) = values(run_ranks(saved, tmp_path))
    assert os.listdir(tmp_path) == ["model0"]
    assert (warned, warned_again) == (1, 0)
    np.testing.assert_array_equal(load(tmp_path / "model0").labels_, labels)


# ---- what is refused


def fit_with(rank, per_rank):
    """Fit with parameters and a number of samples of this rank's own."""
    parameters, n_samples = per_rank[rank]
    ContrastiveClustering(3, **{**PARAMETERS, **parameters}).fit(some_rows()[:n_samples])


@pytest.mark.parametrize(
    ("per_rank", "message"),
    [
        ([({}, 60), ({}, 50)], "X.n_samples=60 in rank 0, X.n_samples=50 in rank 1"),
        ([({"max_epochs": 2}, 60), ({}, 60)], "max_epochs=2 in rank 0, max_epochs=3 in rank 1"),
        ([({"batch_size": 15}, 60)] * 2, "15 samples cannot be cut .* Pass batch_size=14"),
        ([({"batch_size": 1}, 60)] * 2, "batch_size=1 should be >= 2"),
        ([({"batch_size": 64}, 61)] * 2, "61 samples cannot be cut .* Pass batch_size=60"),
        ([({"compile": True}, 60)] * 2, "compile=True was passed in a job of 2 processes"),
    ],
)
def test_what_cannot_work_is_refused_by_all(per_rank, message):
    for outcome in run_ranks(fit_with, per_rank):
        assert isinstance(outcome, ValueError)
        with pytest.raises(ValueError, match=message):
            raise outcome


def test_workers_of_a_rank_are_no_ranks():
    worker = process_context().Process(target=fit_as_a_worker)
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0


def fit_as_a_worker():
    """Fit where the environment is that of a job, but torchrun did not start the process."""
    os.environ.update({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"})
    model = ContrastiveClustering(3, **{**PARAMETERS, "max_epochs": 1}).fit(some_rows())
    assert len(model.predict(some_rows())) == N_SAMPLES


def test_workers_of_joblib_are_no_ranks(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    model = ContrastiveClustering(3, **{**PARAMETERS, "max_epochs": 1})
    grid = {"learning_rate": [1e-3, 1e-2]}
    search = GridSearchCV(model, grid, cv=2, n_jobs=2, refit=False).fit(some_rows())
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def references_before_and_after_a_fit(rank):
    before = sys.getrefcount(dist.group.WORLD)
    model = ContrastiveClustering(3, **{**PARAMETERS, "max_epochs": 1}).fit(some_rows())
    model.predict(some_rows())
    return before, sys.getrefcount(dist.group.WORLD)


@pytest.mark.skipif(
    torch.__version__ < "2.6", reason="torch < 2.6 keeps a reference from the first exchange on"
)
def test_a_fit_keeps_no_reference_to_the_group():
    """Otherwise its threads outlive it, and abort the process when Python ends."""
    for before, after in values(run_ranks(references_before_and_after_a_fit)):
        assert after == before


# ---- jobs of torchrun

JOB = """
import os, sys, warnings
import numpy as np
warnings.simplefilter("error")
import torch
from torch import nn
from deepcluster_sk import TwinContrastClustering
torch.set_num_threads(1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 8)
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        if (sys.argv[2], os.environ["RANK"], self.steps) == ("raise", "1", 9):
            raise RuntimeError("rank 1 is on fire")
        return self.linear(x).relu()

X = np.random.default_rng(0).normal(size=(60, 6)) + 4 * np.arange(60)[:, None] % 3
parameters = {"max_epochs": 4, "batch_size": 20, "random_state": 0, "verbose": 1}
model = TwinContrastClustering(3, encoder=Net, **parameters)
model.fit(X)
model.save(sys.argv[1] + "/model")
if os.environ["RANK"] == "0":
    np.save(sys.argv[1] + "/assignments", model.predict_proba(X))
np.save(sys.argv[1] + "/labels" + os.environ["RANK"], model.labels_)
"""


def torchrun(folder, what):
    """Run the job in two processes; returns how it ended."""
    script = folder / "job.py"
    script.write_text(JOB, "utf-8")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, *command, script, folder, what],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_script_needs_no_change_for_torchrun(tmp_path):
    job = torchrun(tmp_path, "finish")
    assert job.returncode == 0, job.stderr
    labels = [np.load(tmp_path / f"labels{rank}.npy") for rank in range(2)]
    np.testing.assert_array_equal(*labels)
    encoder = nn.Sequential(OrderedDict(linear=nn.Linear(6, 8), relu=nn.ReLU()))
    model = load(tmp_path / "model", encoder=encoder)
    np.testing.assert_array_equal(model.labels_, labels[0])
    assert job.stderr.count(" 0/4 epochs") == 1
    assert job.stdout == ""


@pytest.mark.slow
def test_a_job_ends_with_a_rank_that_raises(tmp_path):
    job = torchrun(tmp_path, "raise")
    assert job.returncode != 0
    assert "rank 1 is on fire" in job.stderr
    assert not list(tmp_path.glob("labels*"))
