"""What users import, and what importing costs."""

import inspect
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS
from numpydoc.docscrape import NumpyDocString
from sklearn.base import BaseEstimator

import deepcluster_sk

# one epoch is too short to fill every cluster
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_all_names_are_importable_and_nothing_else_is_public():
    assert set(deepcluster_sk.__all__) < set(dir(deepcluster_sk))
    for name in dir(deepcluster_sk):
        assert getattr(deepcluster_sk, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'KMeans'"):
        _ = deepcluster_sk.KMeans


def test_importing_does_not_import_torch():
    names = ("", ".metrics", ".display", ".inspection", ".model_selection", "._inspection.report")
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(f'deepcluster_sk{name}')\n"
        "    if 'torch' in sys.modules: sys.exit(f'{name} imports torch')\n"
    )
    command = [sys.executable, "-c", code, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_docstring_documents_every_parameter_with_its_default(estimator):
    documented = {p.name: p.type for p in NumpyDocString(estimator.__doc__)["Parameters"]}
    signature = inspect.signature(estimator.__init__).parameters
    names = [name for name in signature if name != "self"]
    assert list(documented) == names
    for name in names:
        assert f"default={signature[name].default!r}".replace("'", '"') in documented[name]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_parameter_has_a_constraint(estimator):
    assert set(estimator._parameter_constraints) == set(estimator().get_params())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_docstring_documents_every_fitted_attribute(estimator, few_images):
    documented = {p.name for p in NumpyDocString(estimator.__doc__)["Attributes"]}
    fitted = estimator(2, max_epochs=1, random_state=0).fit(few_images)
    present = {n for n in dir(fitted) if n.endswith("_") and not n.startswith("_")}
    assert documented == present | {"feature_names_in_"}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_constructor_only_stores(estimator):
    params = estimator().get_params(deep=False)
    assert isinstance(estimator(), BaseEstimator)
    assert vars(estimator()) == params


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_global_random_states_are_untouched_by_every_method(estimator, few_images):
    def states():
        numpy_state = np.random.get_state()
        return (
            torch.get_rng_state().tolist(),
            numpy_state[1].tolist(),
            numpy_state[2],
            random.getstate(),
        )

    before = states()
    for random_state in (0, None):
        model = estimator(2, max_epochs=1, random_state=random_state)
        model.fit(few_images)
        model.fit_predict(few_images)
        model.fit_transform(few_images)
        model.predict(few_images)
        model.predict_proba(few_images)
        model.transform(few_images)
        model.score(few_images)
        model.partial_fit(few_images)
    assert states() == before


def shared_parameters():
    """Parameters that more than one method has, with the methods."""
    names = {}
    for estimator in ESTIMATORS:
        for name in inspect.signature(estimator.__init__).parameters:
            names.setdefault(name, []).append(estimator)
    return {name: owners for name, owners in names.items() if len(owners) > 1 and name != "self"}


def test_methods_share_names_defaults_and_words_for_the_same_parameter():
    own = {  # what differs with reason: each method's own strengths
        *("hidden_dim", "projection_dim", "n_heads", "cluster_start", "cluster_weight"),
        *("instance_temperature", "cluster_temperature", "queue_size", "batch_negatives"),
        *("momentum", "entropy_weight"),
        # what methods on fixed features train on, for how long, and what neighbours are for
        *("encoder", "augmentation", "max_epochs", "batch_size", "optimizer", "weight_decay"),
        *("n_neighbors", "neighbor_space", "scale"),
    }
    for name, owners in shared_parameters().items():
        if name in own:
            continue
        defaults = {inspect.signature(o.__init__).parameters[name].default for o in owners}
        assert len(defaults) == 1, f"{name} has several defaults: {defaults}"
        texts = {
            tuple(p.desc)
            for o in owners
            for p in NumpyDocString(o.__doc__)["Parameters"]
            if p.name == name
        }
        assert len(texts) == 1, f"{name} is described in several ways: {texts}"


WITHOUT_DOCSTRINGS = """
from importlib.machinery import SourceFileLoader

def get_code(self, name):
    if not name.startswith(("deepcluster_sk", "sklearn")):
        return with_docstrings(self, name)
    path = self.get_filename(name)
    return compile(self.get_data(path), path, "exec", dont_inherit=True, optimize=2)

with_docstrings = SourceFileLoader.get_code
SourceFileLoader.get_code = get_code
import deepcluster_sk
from deepcluster_sk import methods
assert deepcluster_sk.__doc__ is None
[method.load_class()(3) for method in methods.METHODS.values()]
"""


def test_the_package_works_without_docstrings():
    """As under ``python -OO``, which would also compile all of torch."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DOCSTRINGS], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_signature_is_explicit_and_keyword_only_after_the_number_of_clusters(estimator):
    first, *others = inspect.signature(estimator).parameters.values()
    assert first.name == "n_clusters"
    assert first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert {p.kind for p in others} == {inspect.Parameter.KEYWORD_ONLY}
    with pytest.raises(TypeError, match=r"\.__init__\(\) got an unexpected keyword argument"):
        estimator(n_cluster=3)
    assert not hasattr(estimator, "n_clusters")  # defaults are those of instances alone
