"""Clustering by the command, called in this process."""

import os
import signal
import sys
import threading
import warnings

import numpy as np
import pytest
from command_line import FAST, PRETRAINED, code_and_message, files_below, rows_of

import deepcluster_sk
from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._cli import main
from deepcluster_sk._pretrained import PretrainedEncoder
from deepcluster_sk._training.epochs import Epochs

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_fit_writes_clusters_report_model_and_copies(photos, tmp_path, capsys):
    before = files_below(photos)
    targets = {name: tmp_path / name for name in ("clusters.csv", "report.html", "model.dcsk")}
    arguments = ["fit", str(photos), *FAST, "--copy-to", str(tmp_path / "sorted")]
    for option, target in zip(("--out", "--report", "--save"), targets.values(), strict=True):
        arguments += [option, str(target)]
    assert main(arguments) == 0

    model = deepcluster_sk.load(targets["model.dcsk"])
    rows = rows_of(targets["clusters.csv"])
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert {os.path.relpath(row["path"], photos) for row in rows} == set(before) - {"notes.txt"}
    np.testing.assert_array_equal([int(row["cluster"]) for row in rows], model.labels_)
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    assert "even/00.png" in targets["report.html"].read_text("utf-8")

    copies = files_below(tmp_path / "sorted")
    for row in rows:
        name = os.path.relpath(row["path"], photos)
        assert copies.pop(os.path.join(f"cluster_{row['cluster']}", name)) == before[name]
    assert not copies
    assert files_below(photos) == before

    output = capsys.readouterr()
    assert output.out == ""
    assert "60 images" in output.err
    assert "100%" in output.err  # the progress bar
    for target in targets.values():
        assert f"wrote {target}" in output.err


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("contrastive", "ContrastiveClustering"),
        ("twin-contrast", "TwinContrastClustering"),
        ("deep-robust", "DeepRobustClustering"),
        ("cluster-contrast", "ClusterContrast"),
    ],
)
def test_every_method_and_parameter_can_be_chosen(method, name, tmp_path, few_images, capsys):
    np.save(tmp_path / "images.npy", few_images)
    arguments = ["fit", str(tmp_path / "images.npy"), *FAST, "--method", method, "--quiet"]
    arguments += ["--set", "batch_size=30", "--set", "optimizer=sgd", "--random-state", "3"]
    assert main([*arguments, "--save", str(tmp_path / "model")]) == 0
    model = deepcluster_sk.load(tmp_path / "model")
    assert type(model).__name__ == name
    assert (model.batch_size, model.optimizer, model.random_state) == (30, "sgd", 3)
    assert capsys.readouterr().out.startswith("row,cluster,confidence\n0,")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_files_of_rows_are_clustered(suffix, blobs, tmp_path, capsys):
    X, _ = blobs
    path = tmp_path / f"rows{suffix}"
    if suffix == ".npy":
        np.save(path, X)
    elif suffix == ".npz":
        np.savez(path, X=X, y=np.zeros(len(X)))
    else:
        np.savetxt(path, X, delimiter=",", header="a,b,c,d,e", comments="", fmt="%.18e")
    assert main(["fit", str(path), *FAST, "--quiet"]) == 0
    labels = [int(line.split(",")[1]) for line in capsys.readouterr().out.splitlines()[1:]]
    expected = ContrastiveClustering(3, max_epochs=2, random_state=0).fit(X).labels_
    np.testing.assert_array_equal(labels, expected)


def test_csv_without_names_keeps_its_first_row(tmp_path, capsys):
    np.savetxt(tmp_path / "rows.csv", np.random.default_rng(0).normal(size=(20, 3)), delimiter=",")
    assert main(["fit", str(tmp_path / "rows.csv"), *FAST, "--quiet"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 21


def test_a_command_in_a_thread_ends_as_in_the_main_one(photos, tmp_path):
    codes = []
    arguments = ["fit", str(photos), *FAST, "--quiet", "--out", str(tmp_path / "x.csv")]
    thread = threading.Thread(target=lambda: codes.append(main(arguments)))
    thread.start()
    thread.join()
    assert codes == [0]
    assert len(rows_of(tmp_path / "x.csv")) == 60


def test_interruption_outside_of_training_ends_with_130(photos, tmp_path, monkeypatch, capsys):
    fit = ContrastiveClustering.fit

    def fit_and_interrupt(self, X):
        fit(self, X)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ContrastiveClustering, "fit", fit_and_interrupt)
    code, text = code_and_message(["fit", photos, *FAST, "--out", tmp_path / "x.csv"], capsys)
    assert code == 130
    assert text.endswith("deepcluster-sk: interrupted\n")
    assert not (tmp_path / "x.csv").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupted_training_ends_with_130_and_writes_its_last_epoch(
    photos, tmp_path, monkeypatch, capsys
):
    warnings.filterwarnings("default", "Training was interrupted")
    epochs = []

    def interrupt(self, *args, **kwargs):
        epochs.append(1)
        if len(epochs) == 3:
            signal.raise_signal(signal.SIGINT)
        return run(self, *args, **kwargs)

    run = Epochs.run
    monkeypatch.setattr(Epochs, "run", interrupt)
    arguments = ["fit", photos, "--n-clusters", "3", "--max-epochs", "9", "--save"]
    code, text = code_and_message([*arguments, tmp_path / "model", "--out", tmp_path / "x"], capsys)
    assert code == 130
    assert "interrupted: the estimator is that of epoch 2 of 9" in text
    assert deepcluster_sk.load(tmp_path / "model").n_iter_ == 2
    assert len(rows_of(tmp_path / "x")) == 60


@pytest.mark.filterwarnings("default:Ctrl-C came after:UserWarning")
def test_ctrl_c_after_the_last_epoch_lets_the_command_complete(
    photos, tmp_path, monkeypatch, capsys
):
    finish = Epochs.finish

    def interrupt_and_finish(self, objective):
        signal.raise_signal(signal.SIGINT)
        return finish(self, objective)

    monkeypatch.setattr(Epochs, "finish", interrupt_and_finish)
    code, text = code_and_message(["fit", photos, *FAST, "--out", tmp_path / "x"], capsys)
    assert code == 0
    assert "warning: Ctrl-C came after the last epoch" in text
    assert len(rows_of(tmp_path / "x")) == 60
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_features_are_computed_once_for_training_table_and_report(
    photos, weights, tmp_path, monkeypatch
):
    seen = []
    forward = PretrainedEncoder.forward
    monkeypatch.setattr(
        PretrainedEncoder, "forward", lambda self, x: (seen.append(len(x)), forward(self, x))[1]
    )
    arguments = ["fit", str(photos), *FAST, "--encoder", f"{PRETRAINED}:{weights}", "--quiet"]
    arguments += ["--image-size", "32", "--report", str(tmp_path / "report.html")]
    for _ in range(2):
        seen.clear()
        assert main([*arguments, "--cache", str(tmp_path / "cache")]) == 0
    assert sum(seen) < 20  # the second time, a few samples that try the encoder out
    seen.clear()
    assert main(arguments) == 0
    assert 60 <= sum(seen) < 80


def test_the_number_of_clusters_that_was_found_is_told(photos, monkeypatch, capsys):
    fit = ContrastiveClustering.fit

    def choose(self, X, y=None):
        assert self.n_clusters == "auto"
        self.n_clusters = 4
        fit(self, X, y)
        self.n_clusters_ = 4
        return self

    monkeypatch.setattr(ContrastiveClustering, "fit", choose)
    assert main(["fit", str(photos), "--n-clusters", "auto", "--max-epochs", "1"]) == 0
    assert "deepcluster-sk: found 4 clusters\n" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--encoder", "--set"])
def test_a_large_network_without_weights_is_told(option, photos, monkeypatch, capsys):
    monkeypatch.setattr(ContrastiveClustering, "fit", lambda *_: sys.exit(0))  # it takes long
    name = "resnet18" if option == "--encoder" else "encoder=resnet18"
    with pytest.raises(SystemExit):
        main(["fit", str(photos), "--n-clusters", "3", option, name])
    text = capsys.readouterr().err
    assert "resnet18 has no trained weights; training it takes hours without a GPU" in text
    assert "torchvision/resnet18 has some" in text


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_tables_keep_their_ids(suffix, table, blobs, tmp_path, capsys):
    arguments = ["fit", str(table(suffix)), *FAST, "--quiet", "--id-column", "id"]
    assert main([*arguments, "--drop-column", "kind"]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = ContrastiveClustering(3, max_epochs=2, random_state=0).fit(blobs[0]).labels_
    assert lines[0] == "id,cluster,confidence"
    assert [line.split(",")[:2] for line in lines[1:]] == [
        [f"sample {row}", str(label)] for row, label in enumerate(expected)
    ]
