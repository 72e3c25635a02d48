"""Switches that users set around calls change no result, and stay as they are."""

import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import sklearn
import torch
from estimators import ESTIMATORS, KINDS, each, each_kind, few_search_steps
from sklearn.datasets import load_digits
from sklearn.utils.fixes import parse_version
from torch import nn

import deepcluster_sk
from deepcluster_sk._runtime.isolation import isolated


@contextmanager
def switched(switch, value, before):
    """A block with a switch that is no context manager."""
    switch(value)
    try:
        yield
    finally:
        switch(before)


@contextmanager
def strict_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextmanager
def detecting_anomalies():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Anomaly Detection has been enabled", UserWarning)
        manager = torch.autograd.set_detect_anomaly(True)
    with manager:
        yield


def default_dtype():
    return switched(torch.set_default_dtype, torch.float64, torch.float32)


def default_device():
    return switched(torch.set_default_device, "meta", None)


def deterministic_algorithms():
    return switched(torch.use_deterministic_algorithms, True, False)


OF_TORCH = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "set_grad_enabled": partial(torch.set_grad_enabled, False),
    "autocast": partial(torch.autocast, "cpu", dtype=torch.bfloat16),
    "default_dtype": default_dtype,
    "default_device": default_device,
    "device": partial(torch.device, "meta"),
    "deterministic_algorithms": deterministic_algorithms,
    "anomalies": detecting_anomalies,
}
OF_OTHERS = {
    "warnings": strict_warnings,
    "numpy_errors": partial(np.errstate, all="raise"),
    "scipy_errors": partial(scipy.special.errstate, all="raise"),
    "pandas": partial(sklearn.config_context, transform_output="pandas"),
}


def switches():
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "dtype": torch.get_default_dtype(),
        "device": torch.empty(0).device,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
        "threads": torch.get_num_threads(),
        "warnings": list(warnings.filters),
        "numpy": np.geterr(),
        "scipy": scipy.special.geterr(),
        "sklearn": sklearn.get_config(),
    }


class Net(nn.Module):
    """An encoder of the user, which draws."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.2))

    def forward(self, x):
        return self.layers(x)


def noisy(x):
    """An augmentation of the user, which draws."""
    return x + 0.1 * torch.randn(x.shape)


@cache
def user_net():
    torch.manual_seed(0)
    return Net()


PARTS = {
    "our parts": dict,
    "module": lambda: {"encoder": user_net()},
    "callable": lambda: {"encoder": Net, "augmentation": noisy},
}


def images():
    return load_digits().images[:60]


def trained(estimator):
    """What a training leaves."""
    model = estimator(3, max_epochs=2, batch_size=20, random_state=0).fit(images())
    return {"labels": model.labels_, "predict_proba": model.predict_proba(images())}


def outcome(estimator, parts, folder):
    """All that an estimator returns and writes, with a second training after the first."""
    X, params = images(), {"outlier_fraction": 0.1, **PARTS[parts]()}
    model = estimator(3, max_epochs=2, batch_size=20, random_state=0, **params)
    found = {}
    for step, train in enumerate([model.fit, model.partial_fit]):
        train(X)
        model.save(Path(folder, "model.dcsk"))
        opened = deepcluster_sk.load(Path(folder, "model.dcsk"), encoder=params.get("encoder"))
        for name, fitted in [("fitted", model), ("opened", opened)]:
            found |= {
                (step, name, "labels"): fitted.labels_,
                (step, name, "predict"): fitted.predict(X),
                (step, name, "predict_proba"): fitted.predict_proba(X),
                (step, name, "transform"): np.asarray(fitted.transform(X)),
                (step, name, "score"): np.array(fitted.score(X)),
            }
        found[step, "file"] = np.frombuffer(Path(folder, "model.dcsk").read_bytes(), np.uint8)
    page = deepcluster_sk.report(model, X, Path(folder, "report.html"))
    found["report"] = np.frombuffer(page.read_bytes(), np.uint8)
    return found


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """The outcome with no switch set, and with one thread."""
    return cache(partial(outcome, folder=tmp_path_factory.mktemp("usual")))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def assert_same(found, expected):
    assert list(found) == list(expected)
    differing = [name for name in found if found[name].tobytes() != expected[name].tobytes()]
    assert differing == []


def check_under(switch, estimator, parts, expected, folder):
    with switch():
        before = switches()
        found = outcome(estimator, parts, folder)
        assert switches() == before
    assert_same(found, expected)


@contextmanager
def all_at_once():
    with ExitStack() as stack:
        for switch in (OF_TORCH | OF_OTHERS).values():
            stack.enter_context(switch())
        yield


@pytest.mark.parametrize("switch", [*OF_TORCH, *OF_OTHERS])
def test_switches_of_the_user_change_no_result_and_stay(switch, usual, two_threads, tmp_path):
    estimator, check = ESTIMATORS[0], (OF_TORCH | OF_OTHERS)[switch]
    check_under(check, estimator, "our parts", usual(estimator, "our parts"), tmp_path)


@each
def test_switches_of_the_user_change_no_training_of_any_method(estimator):
    expected = trained(estimator)
    with all_at_once():
        before = switches()
        found = trained(estimator)
        assert switches() == before
    assert_same(found, expected)


@pytest.mark.parametrize("parts", ["module", "callable"])
@pytest.mark.parametrize("switch", OF_TORCH)
def test_switches_of_the_user_change_nothing_for_parts_of_the_user(
    switch, parts, usual, two_threads, tmp_path
):
    estimator = ESTIMATORS[0]
    expected = usual(estimator, parts)
    check_under(OF_TORCH[switch], estimator, parts, expected, tmp_path)


@each_kind
def test_users_get_what_they_ask_transformers_for(estimator, usual):
    model = estimator(3, max_epochs=1, batch_size=20, random_state=0).fit(images())
    with sklearn.config_context(transform_output="pandas"):
        frame = model.transform(images())
    np.testing.assert_array_equal(frame.to_numpy(), model.transform(images()))
    assert list(frame.columns) == list(model.get_feature_names_out())


@few_search_steps()
def check_array_api_dispatch(folder):
    """SciPy takes part only in a process that was started for it."""
    switch = partial(sklearn.config_context, array_api_dispatch=True)
    with switch(), isolated():
        assert not sklearn.get_config()["array_api_dispatch"]
    expected = outcome(ESTIMATORS[0], "our parts", folder)
    check_under(switch, ESTIMATORS[0], "our parts", expected, folder)
    for estimator in KINDS[1:]:
        expected = trained(estimator)
        with switch():
            assert_same(trained(estimator), expected)


@pytest.mark.slow
def test_dispatch_by_the_array_api_changes_no_result(tmp_path):
    if find_spec("sklearn.externals.array_api_compat") is None:
        pytest.importorskip("array_api_compat")
    if parse_version(scipy.__version__) < parse_version("1.14"):
        pytest.skip("scikit-learn dispatches with SciPy 1.14 or newer only")
    code = "import sys, test_isolation; test_isolation.check_array_api_dispatch(sys.argv[1])"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


HIDDEN = set(OF_TORCH | OF_OTHERS) - {
    "deterministic_algorithms",
    "anomalies",
    "warnings",
    "scipy_errors",
}


@pytest.mark.parametrize("switch", sorted(HIDDEN))
def test_switches_are_hidden_inside(switch):
    usual = switches()
    with (OF_TORCH | OF_OTHERS)[switch]():
        assert switches() != usual
        with isolated():
            assert switches() == usual


@pytest.mark.parametrize("switch", OF_TORCH | OF_OTHERS)
def test_switches_stay_as_they_are_after_an_error(switch):
    with (OF_TORCH | OF_OTHERS)[switch]():
        before = switches()
        with suppress(ZeroDivisionError), isolated():
            raise ZeroDivisionError
        assert switches() == before


def test_the_default_dtype_is_that_of_the_user_once_the_last_thread_is_done():
    with default_dtype(), ThreadPoolExecutor(1) as pool:
        first = ExitStack()
        first.enter_context(isolated())
        begun, end = threading.Event(), threading.Event()
        second = pool.submit(_isolated_until, begun, end)
        begun.wait()
        first.close()
        still = torch.get_default_dtype()
        end.set()
        assert second.result() == still == torch.float32
        assert torch.get_default_dtype() == torch.float64


def _isolated_until(begun, end):
    with isolated():
        begun.set()
        end.wait()
        return torch.get_default_dtype()
