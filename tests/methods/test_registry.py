"""Adding a method is one file and one line of the registry."""

import inspect

import numpy as np
import pytest
from numpydoc.docscrape import NumpyDocString
from sklearn.base import clone
from torch import nn

import deepcluster_sk
from deepcluster_sk import _cli
from deepcluster_sk._estimator import kinds
from deepcluster_sk._estimator.parameters import with_parameters
from deepcluster_sk.exceptions import DivergenceError
from deepcluster_sk.methods import METHODS, Method

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def toy(monkeypatch):
    """The class of a method that a line of the registry has added."""
    line = Method("ToyClustering", "toy_method", "Toy", "toy", "toy_clustering")
    monkeypatch.setitem(METHODS, line.name, line)
    return line.load_class()


def test_a_registered_method_has_a_public_name(toy):
    assert deepcluster_sk.ToyClustering is toy


def test_a_registered_method_fits_and_predicts_like_any_other(toy, blobs):
    X, _ = blobs
    model = clone(toy(3, softness=0.5, max_epochs=3, random_state=0)).fit(X)
    assert len(model.history_["pull"]) == 3
    assert (np.diff(model.cluster_sizes_) <= 0).all()
    np.testing.assert_array_equal(model.predict(X), model.labels_)
    again = toy(3, softness=0.5, max_epochs=3, random_state=0).fit(X)
    np.testing.assert_array_equal(model.predict_proba(X), again.predict_proba(X))
    model.partial_fit(X)
    assert model.n_iter_ == 4


def test_a_registered_method_goes_on_from_a_checkpoint(toy, blobs, tmp_path):
    X, _ = blobs
    parameters = {"max_epochs": 3, "random_state": 0, "checkpoint": tmp_path / "run"}
    first = toy(3, **parameters).fit(X)
    second = toy(3, **parameters).fit(X)  # from the end of the first one
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


def test_load_opens_a_registered_method(toy, blobs, tmp_path):
    X, _ = blobs
    model = toy(3, max_epochs=2, random_state=0).fit(X)
    model.save(tmp_path / "toy.dcsk")
    other = deepcluster_sk.load(tmp_path / "toy.dcsk")
    assert type(other) is toy
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))


def test_the_command_offers_a_registered_method(toy, blobs, tmp_path, capsys):
    X, _ = blobs
    np.save(tmp_path / "rows.npy", X)
    code = _cli.main(
        [
            *("fit", str(tmp_path / "rows.npy"), "--method", "toy", "--n-clusters", "3"),
            *("--max-epochs", "1", "--set", "softness=0.5", "--quiet"),
        ]
    )
    assert code == 0
    assert len(capsys.readouterr().out.splitlines()) == len(X) + 1


def test_the_shared_documentation_joins_that_of_the_method(toy):
    documented = NumpyDocString(toy.__doc__)
    names = [p.name for p in documented["Parameters"]]
    assert names == list(inspect.signature(toy).parameters)
    assert names[:2] == ["n_clusters", "softness"]
    attributes = {p.name: p.desc for p in documented["Attributes"]}
    assert attributes["history_"][0].startswith('Mean of ``"pull"``')
    assert "labels_" in attributes
    assert any("ToyClustering(n_clusters=10" in line for line in documented["Examples"])


def test_a_parameter_out_of_range_is_named(toy, blobs):
    with pytest.raises(ValueError, match="'softness' parameter of ToyClustering must be a float"):
        toy(3, softness=0).fit(blobs[0])


def test_a_method_may_derive_from_another_one(toy):
    @with_parameters
    class Child(toy):
        """Softer.

        Parameters
        ----------
        hardness : float, default=2.0
            The opposite of `softness`.

        Warnings
        --------
        Untested.
        """

        softness: kinds.PositiveFloat = 3.0
        hardness: kinds.PositiveFloat = 2.0

    model = Child(4, hardness=1.0)
    assert (model.n_clusters, model.softness, model.hardness) == (4, 3.0, 1.0)
    documented = NumpyDocString(Child.__doc__)
    assert [p.name for p in documented["Parameters"]] == list(inspect.signature(Child).parameters)
    assert documented["Warnings"] == ["Untested."]
    assert Child._parameter_constraints["softness"] == toy._parameter_constraints["softness"]
    assert toy().softness == 1.0


def test_shared_parameters_are_documented_with_the_default_of_the_class(toy):
    @with_parameters
    class Child(toy):
        """With other defaults."""

        batch_size: kinds.PositiveInt = 77
        encoder: kinds.Encoder = "identity"

    def defaults(cls):
        entries = NumpyDocString(cls.__doc__)["Parameters"]
        return {p.name: p.type.partition("default=")[2] for p in entries}

    changed = defaults(toy) | {"batch_size": "77", "encoder": '"identity"'}
    assert defaults(Child) == changed != defaults(toy)


def test_a_field_without_kind_default_or_description_is_refused(toy):
    class Plain(toy):
        """Without a kind."""

        width: int = 1

    class Open(toy):
        """Without a default."""

        width: kinds.PositiveInt

    class Silent(toy):
        """Without a description."""

        width: kinds.PositiveInt = 1

    with pytest.raises(TypeError, match="of Plain has no kind, expected one of _estimator/kinds"):
        with_parameters(Plain)
    with pytest.raises(TypeError, match="has no default, but estimators are built without"):
        with_parameters(Open)
    with pytest.raises(TypeError, match=r"does not describe the parameter 'width'\. Add an entry"):
        with_parameters(Silent)


class NotInEvaluation(nn.Module):
    """Finite in training, and for the few samples that an encoder is tried with."""

    def forward(self, x):
        return x if self.training or len(x) <= 3 else x * float("nan")


def test_features_that_are_not_numbers_are_an_error(toy, blobs):
    with pytest.raises(DivergenceError, match=r"Features became NaN or infinite after epoch 1"):
        toy(3, encoder=NotInEvaluation, max_epochs=1).fit(blobs[0])


def test_assignments_that_are_not_numbers_are_an_error(toy, blobs, monkeypatch):
    monkeypatch.setattr(toy._objective_class, "calibrated", lambda _, values: values * float("nan"))
    with pytest.raises(DivergenceError, match=r"Assignments became NaN or infinite. Lower"):
        toy(3, max_epochs=1).fit(blobs[0])


def test_names_in_the_registry_are_unique():
    for field in ("name", "module", "short_name", "command_name", "page"):
        values = [getattr(method, field) for method in METHODS.values()]
        assert len(set(values)) == len(METHODS), field
    assert all(name == method.name for name, method in METHODS.items())
