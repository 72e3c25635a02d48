"""The scripts with which shells complete the command."""

import shutil
import subprocess

import pytest
from command_line import code_and_message

from deepcluster_sk._cli import libraries, main

COMMANDS = {"fit", "predict", "report", "evaluate", "similar", "duplicates", "completion"}


def script(shell, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def run(shell, code, *options):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    done = subprocess.run(
        [shell, *options, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def completed_by_bash(words, capsys, folder):
    """What bash offers for the last of some words."""
    line = " ".join(f"'{word}'" for word in words)
    code = f"""
    cd '{folder}'
    {script("bash", capsys)}
    function_name=$(complete -p deepcluster-sk | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}
    COMP_LINE="${{COMP_WORDS[*]}}"; COMP_POINT=${{#COMP_LINE}}
    "$function_name" deepcluster-sk "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return set(run("bash", code, "--norc", "--noprofile"))


def test_bash_completes_commands(capsys, tmp_path):
    assert completed_by_bash(["deepcluster-sk", ""], capsys, tmp_path) >= COMMANDS
    assert completed_by_bash(["deepcluster-sk", "ev"], capsys, tmp_path) == {"evaluate"}


def test_bash_completes_options_and_their_values(capsys, tmp_path):
    words = ["deepcluster-sk", "fit", "photos", "--n"]
    assert completed_by_bash(words, capsys, tmp_path) == {"--n-clusters"}
    words = ["deepcluster-sk", "similar", "model", "photos", "--que"]
    assert completed_by_bash(words, capsys, tmp_path) == {"--query"}
    words = ["deepcluster-sk", "fit", "photos", "--method", "tw"]
    assert completed_by_bash(words, capsys, tmp_path) == {"twin-contrast"}
    words = ["deepcluster-sk", "completion", "z"]
    assert completed_by_bash(words, capsys, tmp_path) == {"zsh"}


def test_bash_completes_files(capsys, tmp_path):
    (tmp_path / "model.dcsk").write_text("", "utf-8")
    found = completed_by_bash(["deepcluster-sk", "predict", "mo"], capsys, tmp_path)
    assert found == {"model.dcsk"}


def test_zsh_reads_its_script(capsys, tmp_path):
    path = tmp_path / "_deepcluster-sk"
    path.write_text(script("zsh", capsys), "utf-8")
    code = "autoload -Uz compinit && compinit -u -D\n"
    code += f"eval \"$(cat '{path}')\"; echo $_comps[deepcluster-sk]"
    assert run("zsh", code, "-f") == ["_shtab_deepcluster_sk"]
    assert all(f"{command}:" in path.read_text("utf-8") for command in COMMANDS)


def test_fish_completes_commands_and_options(capsys, tmp_path):
    path = tmp_path / "deepcluster-sk.fish"
    path.write_text(script("fish", capsys), "utf-8")
    source = f"source '{path}'; complete -C"
    found = {line.split("\t")[0] for line in run("fish", f"{source} 'deepcluster-sk '", "-N")}
    assert found >= COMMANDS
    found = run("fish", f"{source} 'deepcluster-sk fit photos --n-c'", "-N")
    assert "--n-clusters" in found


def test_other_shells_and_a_missing_library_are_named(monkeypatch, capsys):
    code, text = code_and_message(["completion", "tcsh"], capsys)
    assert code == 2
    assert "SHELL: invalid choice: 'tcsh'. Expected one of bash, zsh, fish" in text
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    code, text = code_and_message(["completion", "bash"], capsys)
    assert code == 1
    assert 'which is not installed here. Install the extra: pip install "deepclu' in text
