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


def test_report_writes_the_page_of_a_saved_model(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "photos", *FAST, "--save", "model", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["report", "model", "photos"]) == 0
    assert capsys.readouterr() == ("", "deepcluster-sk: wrote report.html\n")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "even/00.png" in page.replace("\\", "/")
    assert 'href="#match"' not in page
    assert main(["report", "model", "photos", "--class-folders", "--out", "x.html"]) == 0
    page = (tmp_path / "x.html").read_text("utf-8")
    assert 'href="#match"' in page
    assert "<th>even" in page or ">even<" in page


def test_report_of_a_table_has_ids_and_classes(table, row_model, tmp_path):
    arguments = ["report", str(row_model), str(table(".csv")), "--id-column", "id", "--quiet"]
    arguments += ["--label-column", "kind", "--out", str(tmp_path / "x.html")]
    assert main(arguments) == 0
    page = (tmp_path / "x.html").read_text("utf-8")
    assert "sample 7" in page
    assert "kind 2" in page


def test_report_refuses_what_cannot_be_written_or_read(photos, row_model, tmp_path, capsys):
    report = ["report", row_model, photos]
    for target, message in (
        (tmp_path / "no" / "x.html", "its folder does not exist"),
        (photos / "odd" / "00.png", "is an input as well"),
        (row_model, "is an input as well"),
    ):
        code, text = code_and_message([*report, "--out", target], capsys)
        assert code == 2
        assert message in text
    code, text = code_and_message([*report, photos / "odd", "--class-folders"], capsys)
    assert code == 2
    assert "--class-folders needs one folder whose subfolders are the classes, and got" in text
    rows = row_model.with_name("rows.csv")
    code, text = code_and_message(["report", row_model, rows, "--class-folders"], capsys)
    assert code == 2
    assert "The classes of a table are named by --label-column" in text
    code, text = code_and_message([*report, "--out", tmp_path / "x.html"], capsys)
    assert code == 1  # images for a model of rows
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize("command", ["predict", "report", "evaluate", "duplicates", "similar"])
def test_a_damaged_or_absent_model_ends_every_command_with_1(command, photos, tmp_path, capsys):
    (tmp_path / "damaged").write_bytes(b"nothing")
    for name in ("damaged", "absent"):
        arguments = [command, tmp_path / name, photos]
        arguments += ["--out", tmp_path / ("x.html" if command == "report" else "x.csv")]
        if command == "similar":
            arguments += ["--query", photos / "odd" / "00.png"]
        code, text = code_and_message(arguments, capsys)
        assert code == 1
        assert name in text
