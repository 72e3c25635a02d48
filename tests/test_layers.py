"""Imports go one way: from the command down to what knows nothing of this package."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import deepcluster_sk

PACKAGE = Path(deepcluster_sk.__file__).parent

# One rule per folder, and per module that has none: what it may import, beside what is in it.
MAY_IMPORT = {
    "_version": set(),
    "exceptions": set(),
    "losses": set(),
    "metrics": set(),
    "_runtime": {"exceptions", "_version"},
    "augmentations": {"exceptions", "_runtime"},
    "_pretrained": {"exceptions", "_runtime"},
    "encoders": {"exceptions", "_runtime", "_pretrained"},
    "_data": {"exceptions", "_runtime"},
    "datasets": {"exceptions", "_data"},
    "_training": {"exceptions", "_version", "_runtime", "_data", "augmentations"},
    "_networks": {"_runtime", "_data", "_training"},
    "_estimator": {
        *("exceptions", "_version", "_runtime", "_data", "_training"),
        *("augmentations", "encoders", "metrics", "_pretrained"),
    },
    "callbacks": {"_estimator", "_inspection", "_runtime"},
    "methods": {
        *("_runtime", "_data", "_networks", "_training", "_estimator"),
        *("augmentations", "losses"),
    },
    "_inspection": {"exceptions", "_version", "_runtime", "_data", "_networks", "metrics"},
    "inspection": {"_inspection"},
    "model_selection": {"_inspection", "_runtime", "metrics"},
    "display": {"_inspection", "model_selection", "metrics"},
    "_loading": {"exceptions", "_runtime", "_estimator", "methods"},
    "_cli": {
        *("_version", "_data", "_inspection", "_loading", "_runtime"),
        *("encoders", "methods", "metrics"),
    },
    "__main__": {"_cli"},
}
MOST_LEVELS = 11  # a method may build on another one


def module_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


FILES = {module_name(path): path for path in PACKAGE.rglob("*.py")}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
INSIDE = sorted(set(FILES) - {"__init__"})  # the public names come from everywhere


def nodes(tree, at_run_time):
    """All nodes of a tree; at run time, those for type checkers are left out."""
    for child in ast.iter_child_nodes(tree):
        if at_run_time and isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from nodes(child, at_run_time)


@cache
def imports(name, at_run_time=False):
    """Names of the package's modules that a file imports, at any depth of its code."""
    package = name.split(".")[:-1]
    found = set()
    for node in nodes(TREES[name], at_run_time):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("deepcluster_sk") for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("deepcluster_sk")
            if node.level:
                base = [*package[: len(package) - node.level + 1], *filter(None, [node.module])]
                for alias in node.names:
                    found.add(file_of([*base, alias.name]) or file_of(base) or "__init__")
    return found


def file_of(parts):
    name = ".".join(parts)
    return next((n for n in (name, f"{name}.__init__") if n in FILES), None)


def folder_of(name):
    return name.partition(".")[0]


def level(name, above=()):
    """Number of files on the longest way down from a file; fails on a way back to it."""
    assert name not in above, f"imports in a circle: {' > '.join([*above, name])}"
    below = imports(name, at_run_time=True)
    return 1 + max((level(target, (*above, name)) for target in below), default=0)


def test_every_folder_has_a_rule():
    assert set(MAY_IMPORT) == {folder_of(name) for name in INSIDE}


@pytest.mark.parametrize("name", INSIDE)
def test_imports_obey_the_rule_of_the_folder(name):
    others = {folder_of(target) for target in imports(name)} - {folder_of(name)}
    assert others <= MAY_IMPORT[folder_of(name)]


def test_rules_have_no_circle():
    done = set()
    while done != set(MAY_IMPORT):
        free = {name for name, below in MAY_IMPORT.items() if below <= done} - done
        assert free, f"rules in a circle among {set(MAY_IMPORT) - done}"
        done |= free


def test_imports_are_few_levels_deep_and_have_no_circle():
    levels = {name: level(name) for name in FILES}
    deepest = max(levels, key=levels.get)
    assert levels[deepest] <= MOST_LEVELS, f"{deepest} is on level {levels[deepest]}"


def files_with(text):
    return {name for name, path in FILES.items() if text in path.read_text("utf-8")}


@pytest.mark.parametrize("name", ['"cuda"', '"mps"', "torch.cuda", "torch.mps", "backends."])
def test_only_the_device_file_names_an_accelerator(name):
    assert files_with(name) == {"_runtime.device"}


def test_nothing_calls_what_apples_gpus_lack():
    assert files_with(".index_copy") == set()


def test_only_the_kinds_of_parameters_import_private_parts_of_scikit_learn():
    assert files_with("sklearn.utils._") == {"_estimator.kinds"}


# what belongs to single methods: the trainer asks an objective for it by hooks. The contract of an
# objective alone says that it maps features to clusters, and so how many there are
PARTS_OF_METHODS = {"neighbors", "cluster_heads", "queue", "prototypes", "centroids", "n_clusters"}


@pytest.mark.parametrize("name", sorted(n for n in FILES if n.startswith("_training.")))
def test_the_training_knows_no_method(name):
    found = {n.id for n in ast.walk(TREES[name]) if isinstance(n, ast.Name)}
    found |= {n.attr for n in ast.walk(TREES[name]) if isinstance(n, ast.Attribute)}
    allowed = {"n_clusters"} if name == "_training.objective" else set()
    assert PARTS_OF_METHODS & found <= allowed


@pytest.mark.parametrize("name", ["_training.trainer", "_training.epochs", "_training.steps"])
def test_the_loop_asks_for_no_types(name):
    found = {n.id for n in ast.walk(TREES[name]) if isinstance(n, ast.Name)}
    assert not {"isinstance", "hasattr"} & found


def test_only_the_adapter_imports_the_callbacks_of_scikit_learn():
    assert files_with("from sklearn.callback") == {"_estimator.sklearn_callbacks"}


METHOD_FILES = sorted(name for name in FILES if name.startswith("methods.") and "__" not in name)


@pytest.mark.parametrize("name", METHOD_FILES)
def test_a_method_is_read_in_one_sitting(name):
    lines = FILES[name].read_text("utf-8").splitlines()
    assert len(lines) < 350
    objective = next(n for n, line in enumerate(lines) if re.match(r"class \w+Objective\(", line))
    assert objective < 150  # losses and objective are on the first screens


@pytest.mark.parametrize("name", [*METHOD_FILES, "losses", "_networks.modules"])
def test_nothing_inside_a_step_reads_from_the_device(name):
    in_step = {"forward", "after_step", "sample_noise", "assign"}
    reads = {"item", "tolist", "cpu", "numpy"}
    steps = [n for n in TREES[name].body if isinstance(n, ast.FunctionDef)]
    steps += [
        n for n in ast.walk(TREES[name]) if isinstance(n, ast.FunctionDef) and n.name in in_step
    ]
    assert steps
    for step in steps:
        called = {n.attr for n in ast.walk(step) if isinstance(n, ast.Attribute)}
        assert not called & reads, f"{step.name} reads from the device"


PAGE = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")


def test_the_page_on_the_architecture_has_a_row_for_every_folder():
    rows = re.findall(r"^\| (`.+?) \| ", PAGE.split("## Where to find what")[0], re.M)
    named = {name.strip("/") for row in rows for name in re.findall(r"`(\w+/?)`", row)}
    assert named == set(MAY_IMPORT) - {"_version"} | {"__init__"}


def test_files_that_the_page_on_the_architecture_names_exist():
    named = set(re.findall(r"`([\w/]+\.(?:py|html))`", PAGE))
    assert len(named) > 30
    roots = (PACKAGE, PACKAGE.parent, PACKAGE / "methods", PACKAGE / "_estimator")
    roots += (PACKAGE / "display",)
    assert [name for name in sorted(named) if not any((r / name).exists() for r in roots)] == []
