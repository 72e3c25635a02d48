"""Using saved models by the command."""

import pytest
from command_line import FAST, PRETRAINED, code_and_message, rows_of

import deepcluster_sk
from deepcluster_sk._cli import main

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_predict_assigns_as_the_model_does_and_writes_to_standard_output(photos, tmp_path, capsys):
    model = tmp_path / "model.dcsk"
    assert main(["fit", str(photos), *FAST, "--save", str(model), "--quiet"]) == 0
    fitted = capsys.readouterr()
    assert fitted.err == ""
    assert main(["predict", str(model), str(photos)]) == 0
    predicted = capsys.readouterr()
    assert predicted.out == fitted.out
    assert predicted.out.startswith("path,cluster,confidence\n")
    assert "members" in predicted.err
    some = [str(photos / "odd" / "03.png"), str(photos / "even" / "01.png")]
    assert main(["predict", str(model), *some, some[0]]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines == [line for path in some for line in fitted.out.splitlines() if path in line]


def test_file_that_is_no_model_ends_with_1(photos, tmp_path, capsys):
    (tmp_path / "model.dcsk").write_bytes(b"nothing")
    code, text = code_and_message(["predict", tmp_path / "model.dcsk", photos], capsys)
    assert code == 1
    assert "model.dcsk" in text
    assert code_and_message(["predict", tmp_path / "absent", photos], capsys)[0] == 1


def test_a_pretrained_encoder_is_named_in_fit_and_opens_by_itself(photos, weights, tmp_path):
    arguments = ["--encoder", f"{PRETRAINED}:{weights}", "--image-size", "32", "--seed", "1"]
    assert (
        main(["fit", str(photos), *FAST, *arguments, "--save", str(tmp_path / "m"), "--quiet"]) == 0
    )
    out = tmp_path / "again.csv"
    assert main(["predict", str(tmp_path / "m"), str(photos), "--out", str(out)]) == 0
    model = deepcluster_sk.load(tmp_path / "m")
    assert [int(row["cluster"]) for row in rows_of(out)] == model.labels_.tolist()
    assert (model.random_state, model.encoder_.size) == (1, (32, 32))
    assert model.input_shape_[:2] == (37, 37)  # with the margin of torchvision: .875 of it is seen


def test_an_encoder_of_a_module_is_passed_to_fit_and_predict(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "from torch import nn\n\n\ndef make():\n    return nn.Flatten()\n"
    (tmp_path / "own_encoders.py").write_text(code, "utf-8")
    arguments = ["--encoder", "own_encoders:make", "--set", "freeze_encoder=True", "--quiet"]
    assert main(["fit", str(photos), *FAST, *arguments, "--save", "model"]) == 0
    assert main(["predict", "model", str(photos), "--encoder", "own_encoders:make"]) == 0
    capsys.readouterr()
    assert main(["predict", "model", str(photos)]) == 1
    assert "returns it, as --encoder" in capsys.readouterr().err


def test_predict_refuses_a_name_for_the_encoder(tmp_path, photos, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["predict", str(tmp_path / "m"), str(photos), "--encoder", PRETRAINED])
    assert "opens by itself" in capsys.readouterr().err
