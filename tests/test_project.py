"""What the files around the package say of each other."""

import re
import subprocess
import sys
import textwrap
import tomllib
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest

import deepcluster_sk

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*_*.yml"))
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]


def text(name):
    return (ROOT / name).read_text("utf-8")


def setup_cfg():
    config = ConfigParser()
    config.read_string(text("setup.cfg"))
    return config


def project():
    """The metadata of the package."""
    return tomllib.loads(text("pyproject.toml"))["project"]


def lowest_versions(requirements):
    """Return the bound of each requirement as numbers, without zeros at its end."""
    bounds = {}
    for requirement in requirements:
        name, bound = re.fullmatch(r"([\w-]+) *[>=]= *([\d.]+)", requirement.strip()).groups()
        bounds[name] = numbers(bound)
    return bounds


def numbers(version):
    parts = [int(part) for part in version.split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def test_ruff_has_one_version():
    (pinned,) = re.findall(r"ruff == ([\d.]+)", text("pyproject.toml"))
    hooks = re.findall(r"ruff-pre-commit\n +rev: v([\d.]+)", text(".pre-commit-config.yaml"))
    assert hooks == [pinned]


def test_the_version_is_the_same_everywhere():
    version = deepcluster_sk.__version__
    assert re.findall(r"^version: (.+)$", text("CITATION.cff"), re.M) == [version]
    sections = re.findall(r"^## \[?([\w.]+)", text("CHANGELOG.md"), re.M)
    assert sections[0] in ("Unreleased", version)
    released = [name for name in sections if name != "Unreleased"]
    assert released[:1] in ([], [version])


def test_contributing_names_the_targets_of_make():
    (targets,) = re.findall(r"^\.PHONY: (.+)$", text("Makefile"), re.M)
    named = re.findall(r"`make ([a-z]\w*)", text("CONTRIBUTING.md"))
    assert set(named) == set(targets.split())
    defined = re.findall(r"^(\w+):", text("Makefile"), re.M)
    assert set(defined) == set(targets.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_contributing_is_found():
    assert "(CONTRIBUTING.md)" in text("README.md")
    assert "(SECURITY.md)" in text("CONTRIBUTING.md")


def test_lowest_versions_are_those_of_the_metadata():
    pins = dict(re.findall(r"^([\w-]+)==([\d.]+)$", text("constraints/lowest.txt"), re.M))
    required = lowest_versions(project()["dependencies"])
    wanted = lowest_versions(project()["optional-dependencies"]["test"])
    tools = {"mypy", "ruff"}  # of lint
    needs_newer_torch = {name for name in wanted if name.startswith("onnx")}
    expected = required | {k: v for k, v in wanted.items() if k not in tools | needs_newer_torch}
    # what old releases need of others is not in the metadata
    found = {name: numbers(pin) for name, pin in pins.items() if name != "pyparsing"}
    assert found == expected


def test_tested_versions_are_those_of_all_requirements_and_allowed():
    pins = dict(re.findall(r"^([\w-]+)==([\d.]+)$", text("constraints/tested.txt"), re.M))
    required = lowest_versions(
        [*project()["dependencies"], *project()["optional-dependencies"]["test"]]
    )
    assert pins.keys() == required.keys()
    assert [name for name, bound in required.items() if numbers(pins[name]) < bound] == []
    assert f"# The versions with which {deepcluster_sk.__version__} passed" in text(
        "constraints/tested.txt"
    )


def test_supported_versions_of_python_are_those_that_are_tested():
    classifiers = project()["classifiers"]
    declared = [line.split(" :: ")[-1] for line in classifiers if re.search(r":: 3\.\d+$", line)]
    (matrix,) = re.findall(r"python: \[(.+)\]", text(".github/workflows/tests.yml"))
    assert re.findall(r"[\d.]+", matrix) == declared
    assert project()["requires-python"] == f">={declared[0]}"


def test_every_extra_that_is_installed_exists():
    extras = set(project()["optional-dependencies"])
    places = [ROOT / "Makefile", ROOT / "docs" / "install.md", *PAGES, *WORKFLOWS]
    named = [
        extra
        for place in places
        for group in re.findall(r'"\.\[([\w,]+)\]"', place.read_text("utf-8"))
        for extra in group.split(",")
    ]
    assert {"plot", "test", "docs", "coverage"} <= set(named) <= extras


def test_package_data_exists():
    package = Path(deepcluster_sk.__file__).parent
    patterns = setup_cfg()["options.package_data"]["deepcluster_sk"].split()
    assert len(patterns) >= 2
    for pattern in patterns:
        assert list(package.glob(pattern)), pattern


@pytest.mark.parametrize(
    "folder", [".github", "benchmarks", "constraints", "docs", "examples", "tests"]
)
def test_sources_hold_every_file_of(folder):
    manifest = text("MANIFEST.in")
    pruned = [ROOT / path for path in re.findall(r"^prune (.+)$", manifest, re.M)]
    (patterns,) = re.findall(rf"^recursive-include {re.escape(folder)} (.+)$", manifest, re.M)
    for path in (ROOT / folder).rglob("*"):
        generated = {"__pycache__", ".ipynb_checkpoints"} & set(path.parts) or any(
            path.is_relative_to(other) for other in pruned
        )
        if path.is_file() and not generated and path.name != "sg_execution_times.rst":
            assert any(fnmatch(path.name, pattern) for pattern in patterns.split()), path


def test_there_are_workflows_and_forms():
    names = {path.stem for path in WORKFLOWS}
    assert names == {"lint", "tests", "nightly", "docs", "wheel"}
    assert {path.stem for path in FORMS} == {"bug_report", "feature_request"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_ends(path):
    workflow = path.read_text("utf-8")
    assert "\npermissions:\n  contents: read\n" in workflow
    assert workflow.count("permissions:") == 1
    assert "\nconcurrency:\n" in workflow
    jobs = workflow.count("    runs-on:")
    assert jobs == workflow.count("    timeout-minutes:") >= 1
    actions = re.findall(r"uses: (\S+)", workflow)
    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+", action)] == []


@pytest.mark.parametrize("path", [*WORKFLOWS, *FORMS], ids=lambda path: path.stem)
def test_workflows_and_forms_are_valid_yaml(path):
    yaml = pytest.importorskip("yaml", reason="needs: pip install pyyaml")
    content = yaml.safe_load(path.read_text("utf-8"))
    if path in WORKFLOWS:
        assert {"name", True, "permissions", "concurrency", "jobs"} == set(content)  # on: True
        for job in content["jobs"].values():
            assert all("run" in step or "uses" in step for step in job["steps"])
    else:
        assert {"name", "description", "labels", "body"} == set(content)
        fields = [field for field in content["body"] if field["type"] != "markdown"]
        assert len({field["id"] for field in fields}) == len(fields)
        assert any(field.get("validations", {}).get("required") for field in fields)


def test_the_form_for_bugs_prints_versions():
    form = (GITHUB / "ISSUE_TEMPLATE" / "bug_report.yml").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", form, re.S)
    command = [sys.executable, "-c", textwrap.dedent(code)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"deepcluster_sk {deepcluster_sk.__version__}\ntorch " in printed
    assert "scikit-learn" in printed or "sklearn" in printed
