"""A fit that was interrupted goes on from its checkpoint as if nothing had happened."""

import os
import pickle
import signal

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, KINDS, each_kind, few_search_steps
from processes import needs_sigkill, process_context
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from deepcluster_sk import (
    ClusterContrast,
    ContrastiveClustering,
    DeepRobustClustering,
    TwinContrastClustering,
    load,
)
from deepcluster_sk._runtime.file_format import read_file, write_file
from deepcluster_sk.exceptions import ResumeError, SavedModelError

# a handful of epochs is too few to fill every cluster
pytestmark = pytest.mark.filterwarnings("ignore:.*clusters are empty")


# neighbours are searched before the epochs 1 and 3, heads and centroids start before epoch 2: what
# the checkpoint of each epoch has to hold differs
PARAMETERS = {
    "max_epochs": 5,
    "batch_size": 20,
    "neighbor_start": 0.2,
    "random_state": 0,
    "device": "cpu",
}
STEPS = 3  # in an epoch of 60 samples


class Net(nn.Module):
    """A small encoder that sends its process a signal at one of its steps."""

    signal = None
    at_step = None

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.dropout = nn.Dropout(0.1)
        self.steps = 0

    def forward(self, x):
        is_step = self.training and torch.is_grad_enabled()  # and not a trial
        self.steps += is_step
        if is_step and self.steps == Net.at_step:
            signal.raise_signal(Net.signal)
        return self.dropout(self.layers(x.flatten(1)))


def images():
    return (load_digits().images[:60] * 15).astype(np.uint8)


def fit_until(estimator, parameters, number, epoch):
    """Fit, and get a signal in the middle of an epoch; runs in a process of its own."""
    Net.signal, Net.at_step = number, STEPS * epoch + 2
    torch.set_num_threads(1)
    with few_search_steps():
        estimator(3, encoder=Net, **parameters).fit(images())


def interrupted(estimator, parameters, number, epoch):
    """Exit code of a process that fits until it gets a signal."""
    return exit_code(fit_until, estimator, parameters, number, epoch)


def exit_code(function, *args):
    """Run a function in a process of its own."""
    process = process_context().Process(target=function, args=args)
    process.start()
    process.join(120)
    return process.exitcode


@pytest.fixture(autouse=True)
def one_thread():
    """As many threads as the processes have: sums in another order have other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def state(model):
    """All that a fit has made, as bytes and numbers."""
    tensors = model._objective.state_dict().items()
    return {
        "tensors": {name: tensor.numpy().tobytes() for name, tensor in tensors},
        "history": model.history_,
        "losses": model.loss_curve_,
        "labels": model.labels_.tolist(),
        "n_iter": model.n_iter_,
    }


@pytest.fixture(scope="module", params=ESTIMATORS)
def uninterrupted(request):
    """A class, and what its fit makes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with few_search_steps():
        model = request.param(3, encoder=Net, **PARAMETERS).fit(images())
    torch.set_num_threads(before)
    return request.param, state(model)


def assert_resumed(uninterrupted, name, epoch, path):
    """A fit that gets a signal in an epoch makes the same when it goes on."""
    estimator, expected = uninterrupted
    parameters = {**PARAMETERS, "checkpoint": path}
    number = signal.Signals[name]
    exitcode = interrupted(estimator, parameters, number, epoch)
    if name == "SIGKILL":
        assert exitcode == -signal.SIGKILL
    else:  # within the first epoch there is nothing to return
        assert exitcode == (1 if epoch == 0 else 0)
    written = n_epochs(path) if epoch else None
    assert written == (epoch or None)
    assert state(estimator(3, encoder=Net, **parameters).fit(images())) == expected


@needs_sigkill
def test_a_resumed_fit_equals_the_uninterrupted_one(uninterrupted, tmp_path):
    assert_resumed(uninterrupted, "SIGKILL", 2, tmp_path / "run")


@needs_sigkill
@pytest.mark.parametrize("uninterrupted", KINDS, indirect=True)
@pytest.mark.parametrize("epoch", [0, 4], ids=["first", "last"])
def test_a_fit_resumes_in_the_first_and_the_last_epoch(uninterrupted, epoch, tmp_path):
    assert_resumed(uninterrupted, "SIGKILL", epoch, tmp_path / "run")


@pytest.mark.parametrize("epoch", [0, 2, 4], ids=["first", "middle", "last"])
@pytest.mark.parametrize("uninterrupted", ESTIMATORS[:1], indirect=True)
def test_a_fit_resumed_after_ctrl_c_equals_the_uninterrupted_one(uninterrupted, epoch, tmp_path):
    assert_resumed(uninterrupted, "SIGINT", epoch, tmp_path / "run")


def n_epochs(path):
    """Epochs that a checkpoint has seen."""
    return len(read_file(path)[0]["history"])


def interrupt_after(epochs, estimator, X, **parameters):
    """Fit in this process until Ctrl-C in the middle of an epoch."""
    Net.signal, Net.at_step = signal.SIGINT, STEPS * epochs + 2
    try:
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            return estimator(3, **{"encoder": Net, **PARAMETERS, **parameters}).fit(X)
    finally:
        Net.at_step = None


@each_kind
def test_ctrl_c_writes_the_last_finished_epoch_whatever_the_interval(estimator, tmp_path):
    path = tmp_path / "run"
    model = interrupt_after(4, estimator, images(), checkpoint=path, checkpoint_every=1000.0)
    assert model.n_iter_ == n_epochs(path) == 4
    whole = estimator(3, encoder=Net, **PARAMETERS).fit(images())
    assert model.loss_curve_ == whole.loss_curve_[:4]
    again = estimator(3, encoder=Net, checkpoint=path, **PARAMETERS).fit(images())
    assert state(again) == state(whole)


def assert_rows_resume(estimator, optimizer, path):
    X = make_blobs(60, n_features=64, centers=3, random_state=0)[0]
    parameters = {"neighbor_space": "inputs", "neighbor_start": 0.7, "optimizer": optimizer}
    whole = estimator(3, encoder=Net, **{**PARAMETERS, **parameters}).fit(X)
    parameters["checkpoint"] = path
    interrupt_after(2, estimator, X, **parameters)
    again = estimator(3, encoder=Net, **{**PARAMETERS, **parameters}).fit(X)
    assert state(again) == state(whole)


@each_kind
def test_rows_with_neighbours_among_the_inputs_resume(estimator, tmp_path):
    assert_rows_resume(estimator, "sgd", tmp_path / "run")


def test_the_state_of_another_optimizer_resumes(tmp_path):
    assert_rows_resume(ContrastiveClustering, "adamw", tmp_path / "run")


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        (TwinContrastClustering, {"queue_size": 0, "n_cluster_sets": 0}),
        (ClusterContrast, {"queue_size": 0, "centroid_update": "k-means"}),
        (DeepRobustClustering, {"n_fine_clusters": 0}),
        (ContrastiveClustering, {"n_heads": 1, "cluster_start": 0.0, "precision": "bfloat16"}),
    ],
)
def test_parts_that_are_left_out_are_no_hindrance(estimator, parameters, tmp_path):
    whole = estimator(3, encoder=Net, **PARAMETERS, **parameters).fit(images())
    parameters = {**parameters, "checkpoint": tmp_path / "run"}
    interrupt_after(3, estimator, images(), **parameters)
    again = estimator(3, encoder=Net, **PARAMETERS, **parameters).fit(images())
    assert state(again) == state(whole)


def test_an_error_writes_the_last_finished_epoch(tmp_path):
    class Failing(Net):
        fails = True

        def forward(self, x):
            if Failing.fails and self.training and self.steps == 2 * STEPS + 1:
                raise RuntimeError("the machine is on fire")
            return super().forward(x)

    whole = ContrastiveClustering(3, encoder=Net, **PARAMETERS).fit(images())
    parameters = {"encoder": Failing, "checkpoint": tmp_path / "run", "checkpoint_every": 1e9}
    with pytest.raises(RuntimeError, match="on fire"):
        ContrastiveClustering(3, **PARAMETERS, **parameters).fit(images())
    assert n_epochs(tmp_path / "run") == 2
    Failing.fails = False
    model = ContrastiveClustering(3, **PARAMETERS, **parameters).fit(images())
    assert state(model) == state(whole)


def test_a_fit_without_random_state_resumes(tmp_path, monkeypatch):
    path = tmp_path / "run"
    parameters = {"random_state": None, "checkpoint": path}
    interrupt_after(2, ContrastiveClustering, images(), **parameters)
    entropy = read_file(path)[0]["identity"]["entropy"]
    model = ContrastiveClustering(3, encoder=Net, **{**PARAMETERS, **parameters}).fit(images())
    monkeypatch.setattr("deepcluster_sk._estimator.plan.draw_entropy", lambda random_state: entropy)
    parameters = {"random_state": None}
    whole = ContrastiveClustering(3, encoder=Net, **{**PARAMETERS, **parameters}).fit(images())
    assert state(model) == state(whole)


def test_a_fit_may_be_interrupted_again_and_again(tmp_path):
    expected = state(ContrastiveClustering(3, encoder=Net, **PARAMETERS).fit(images()))
    for done in (1, 1, 2):
        model = interrupt_after(done, ContrastiveClustering, images(), checkpoint=tmp_path / "run")
    assert model.n_iter_ == 4
    parameters = {**PARAMETERS, "checkpoint": tmp_path / "run"}
    assert state(ContrastiveClustering(3, encoder=Net, **parameters).fit(images())) == expected


@each_kind
def test_a_finished_fit_returns_without_training(estimator, tmp_path):
    parameters = {**PARAMETERS, "checkpoint": tmp_path / "run"}
    first = estimator(3, encoder=Net, **parameters).fit(images())
    Net.signal, Net.at_step = signal.SIGTERM, 1  # a step would be the end of the tests
    try:
        again = estimator(3, encoder=Net, **parameters).fit(images())
    finally:
        Net.at_step = None
    assert state(again) == state(first)
    assert again.n_iter_ == 5


@each_kind
def test_a_checkpoint_does_not_change_the_fit(estimator, tmp_path):
    plain = estimator(3, encoder=Net, **PARAMETERS).fit(images())
    parameters = {**PARAMETERS, "checkpoint": str(tmp_path / "run"), "checkpoint_every": 2}
    assert state(estimator(3, encoder=Net, **parameters).fit(images())) == state(plain)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def written_epochs(monkeypatch, tmp_path, **parameters):
    """After which epochs a fit writes its checkpoint."""
    from deepcluster_sk._training import checkpoint as _checkpoint

    written = []

    def write(path, header, tensors):
        written.append(len(header["history"]))
        return write_file(path, header, tensors)

    write_file = _checkpoint.write_file
    monkeypatch.setattr(_checkpoint, "write_file", write)
    parameters = {**PARAMETERS, "checkpoint": tmp_path / "run", **parameters}
    ContrastiveClustering(3, encoder=Net, **parameters).fit(images())
    return written


@pytest.mark.parametrize(
    ("every", "expected"),
    [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5]), (1e-9, [1, 2, 3, 4, 5]), (1e9, [5])],
)
def test_the_interval_is_in_epochs_or_seconds(monkeypatch, tmp_path, every, expected):
    assert written_epochs(monkeypatch, tmp_path, checkpoint_every=every) == expected


@needs_sigkill
def test_a_process_killed_while_writing_leaves_the_checkpoint_before(tmp_path):
    parameters = {**PARAMETERS, "checkpoint": tmp_path / "run"}
    assert exit_code(die_writing, parameters, 3) == -signal.SIGKILL
    assert n_epochs(tmp_path / "run") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"run", "run.part"}
    expected = state(ContrastiveClustering(3, encoder=Net, **PARAMETERS).fit(images()))
    assert state(ContrastiveClustering(3, encoder=Net, **parameters).fit(images())) == expected
    assert {path.name for path in tmp_path.iterdir()} == {"run"}  # the next run cleans up


def die_writing(parameters, number):
    """Fit until a checkpoint is complete but not in its place."""
    replace, calls = os.replace, []

    def dying(*paths):
        calls.append(paths)
        if len(calls) == number:
            signal.raise_signal(signal.SIGKILL)
        replace(*paths)

    os.replace = dying
    torch.set_num_threads(1)
    ContrastiveClustering(3, encoder=Net, **parameters).fit(images())


# ---- what is refused


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The checkpoint of a short fit."""
    path = tmp_path_factory.mktemp("run") / "run"
    ContrastiveClustering(3, encoder=Net, checkpoint=path, **PARAMETERS).fit(images())
    return path.read_bytes()


@pytest.fixture
def path(written, tmp_path):
    path = tmp_path / "run"
    path.write_bytes(written)
    return path


def resume(path, X=None, estimator=ContrastiveClustering, **parameters):
    parameters = {"n_clusters": 3, "encoder": Net, **PARAMETERS, **parameters}
    return estimator(checkpoint=path, **parameters).fit(images() if X is None else X)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": 4}, "n_clusters=3, this fit has n_clusters=4"),
        ({"learning_rate": 0.1}, r"learning_rate=0\.003, this fit has learning_rate=0\.1"),
        ({"max_epochs": 6}, "max_epochs=5, this fit has max_epochs=6"),
        ({"random_state": 1}, "random_state=0, this fit has random_state=1"),
        ({"random_state": None}, "random_state=0, this fit has random_state=None"),
        ({"encoder": "mlp"}, "encoder='Net', this fit has encoder='mlp'"),
        ({"augmentation": "images"}, "augmentation='auto', this fit has augmentation='images'"),
        ({"image_shape": (8, 8)}, r"image_shape=None, this fit has image_shape=\[8, 8\]"),
        ({"X": images()[:59]}, r"X\.n_samples=60, this fit has X\.n_samples=59"),
        ({"X": images()[::-1]}, r"X\.content='\w+', this fit has X\.content='\w+'"),
        ({"X": images() / 255}, r"X\.dtype='torch.uint8', this fit has X\.dtype='torch.float64'"),
        ({"X": images().repeat(4, 1)[:, :, ::4]}, "X"),
        ({"estimator": ClusterContrast}, "class='ContrastiveClustering', this fit has class='Clu"),
    ],
)
def test_another_fit_is_refused_with_the_difference_named(path, parameters, message):
    with pytest.raises(ResumeError, match=f"Cannot resume from '.*run': it was .* {message}"):
        resume(path, **parameters)


def test_other_weights_of_an_encoder_are_refused(tmp_path):
    torch.manual_seed(0)
    resume(tmp_path / "run", encoder=Net())
    with pytest.raises(ResumeError, match=r"written with initial weights='\w+', this fit has"):
        resume(tmp_path / "run", encoder=Net())


def test_settings_of_an_augmentation_are_compared(tmp_path):
    from deepcluster_sk.augmentations import images as recipe

    resume(tmp_path / "run", augmentation=recipe(strength=0.5))
    with pytest.raises(ResumeError, match="augmentation='"):
        resume(tmp_path / "run", augmentation=recipe(strength=1.0))


def test_another_version_of_the_package_is_refused(path, monkeypatch):
    monkeypatch.setattr("deepcluster_sk._estimator.identity.__version__", "9.0")
    with pytest.raises(ResumeError, match=r"deepcluster_sk='[\d.]+', this fit has .*='9\.0'"):
        resume(path)


def test_another_version_of_torch_is_named_in_a_warning(path, monkeypatch):
    monkeypatch.setattr("deepcluster_sk._training.checkpoint._TORCH", "9.9")
    with pytest.warns(RuntimeWarning, match=r"under torch .*, this is 9\.9"):
        resume(path)


def test_what_has_no_effect_on_the_result_may_change(path, capfd):
    resume(path, checkpoint_every=5.0, verbose=1, device="auto" if no_accelerator() else "cpu")
    assert "5/5 epochs" in capfd.readouterr().err


def no_accelerator():
    return not (torch.cuda.is_available() or torch.backends.mps.is_available())


@pytest.mark.parametrize("kind", ["empty", "text", "pickle", "truncated", "header"])
def test_a_damaged_or_foreign_file_is_refused(written, tmp_path, kind):
    path = tmp_path / "run"
    path.write_bytes(
        {
            "empty": b"",
            "text": b"epoch,loss\n" * 20,
            "pickle": pickle.dumps([1, 2]),
            "truncated": written[: len(written) // 2],
            "header": written[:30],
        }[kind]
    )
    before = path.read_bytes()
    with pytest.raises(ResumeError, match=r"run': it is damaged, or not a checkpoint .*Delete"):
        resume(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["objective.encoder.layers.0.weight", "neighbors.n_searches"])
def test_a_checkpoint_with_a_tensor_missing_is_refused(path, name):
    header, tensors = read_file(path)
    del tensors[name]
    write_file(path, header, tensors)
    with pytest.raises(ResumeError, match="is damaged"):
        resume(path)


def test_a_checkpoint_with_a_tensor_of_another_shape_is_refused(path):
    header, tensors = read_file(path)
    write_file(path, header, {**tensors, "steps.0.exp_avg": torch.zeros(3)})
    with pytest.raises(ResumeError, match=r"0.exp_avg of the optimiser has shape \(3,\), expected"):
        resume(path)


def test_a_saved_estimator_is_no_checkpoint_and_the_other_way_round(path, tmp_path):
    ContrastiveClustering(3, encoder=Net, **PARAMETERS).fit(images()).save(tmp_path / "model")
    with pytest.raises(ResumeError, match="is damaged, or not a checkpoint"):
        resume(tmp_path / "model")
    with pytest.raises(SavedModelError, match="is a checkpoint"):
        load(path)


def test_a_path_that_cannot_be_written_is_found_before_the_training(tmp_path):
    Net.signal, Net.at_step = signal.SIGTERM, 1  # a step would be the end of the tests
    try:
        with pytest.raises(OSError, match=r"checkpoint='.*no/run' cannot be written \(No such"):
            resume(tmp_path / "no" / "run")
        with pytest.raises(IsADirectoryError, match="is a folder, which a checkpoint never repl"):
            resume(tmp_path)
        if hasattr(os, "mkfifo"):
            (tmp_path / "device").symlink_to(os.devnull)
            with pytest.raises(FileExistsError, match=r"a character device, .* name of a new file"):
                resume(tmp_path / "device")
            os.mkfifo(tmp_path / "pipe")
            with pytest.raises(FileExistsError, match=r"pipe' is a named pipe, which a checkpoint"):
                resume(tmp_path / "pipe")
    finally:
        Net.at_step = None


def test_a_disk_that_fills_up_does_not_end_the_training(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("No space left on device")

    expected = state(ContrastiveClustering(3, encoder=Net, **PARAMETERS).fit(images()))
    monkeypatch.setattr("os.fsync", full)
    with pytest.warns(RuntimeWarning, match=r"not be written after epoch \d: No space"):
        model = resume(tmp_path / "run")
    assert state(model) == expected
    assert list(tmp_path.iterdir()) == []


def test_a_refused_fit_leaves_the_estimator_as_it_was(path):
    model = ContrastiveClustering(3, encoder=Net, **PARAMETERS).fit(images())
    before = state(model)
    with pytest.raises(ResumeError):
        model.set_params(checkpoint=path, learning_rate=0.1).fit(images())
    assert state(model) == before
