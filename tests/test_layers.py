"""Imports go one way, and no file of the package exceeds its floor's knowledge."""

import ast
from pathlib import Path

import pytest

import deepcluster_sk

PACKAGE = Path(deepcluster_sk.__file__).parent
DISPLAYS = ["_cluster_number", "_embedding", "_gallery", "_loss_curve", "_match", "_sizes"]
FLOORS = [
    {"exceptions", "_random", "_device", "_file_format", "_warnings", "_distributed"},
    {"losses", "metrics", "encoders", "_modules", "_neighbors", "_cluster_heads", "_batch_norm"}
    | {"_preprocessing", "_data", "_streams", "_image_files", "datasets"}
    | {"_papers", "_assignments", "_pictures", "model_selection"}
    | {
        f"augmentations.{name}" for name in ("_base", "_images", "_tabular", "_recipes", "__init__")
    },
    {"_objective", "_state"},
    {"_callbacks", "_steps", "_shares", "_checkpoint", "_inference", "_frozen", "_trainer"},
    {"_validation", "_onnx", "_saving", "_sklearn_callbacks", "_fitting", "_base"},
    {
        "_contrastive_clustering",
        "_twin_contrast_clustering",
        "_deep_robust_clustering",
        "_cluster_contrast",
    }
    | {f"display.{name}" for name in ("__init__", *DISPLAYS, "_style")},
    {"_loading", "callbacks", "_report_parts", "_report"},
    {"_cli"},
    {"__init__", "__main__"},
]
# imports inside of one floor, from named files only
SAME_FLOOR = {
    "_device": {"exceptions"},
    "_random": {"_device"},
    "_distributed": {"_device", "exceptions"},
    "_file_format": {"exceptions"},
    "_cluster_heads": {"_neighbors"},
    "_preprocessing": {"_data"},
    "_image_files": {"_preprocessing"},
    "_streams": {"_data", "_image_files"},
    "datasets": {"_image_files"},
    "_pictures": {"_image_files"},
    "_frozen": {"_inference"},
    "_checkpoint": {"_steps"},
    "_trainer": {"_callbacks", "_checkpoint", "_inference", "_shares", "_steps"},
    "_saving": {"_onnx"},
    "_fitting": {"_validation", "_onnx", "_saving", "_sklearn_callbacks"},
    "_base": {"_validation", "_saving", "_fitting"},
    "model_selection": {"_assignments", "metrics"},
    "_report": {"_report_parts"},
    "display.__init__": {f"display.{name}" for name in DISPLAYS},
    **{f"display.{name}": {"display._style"} for name in DISPLAYS},
    "augmentations._images": {"augmentations._base"},
    "augmentations._tabular": {"augmentations._base"},
    "augmentations._recipes": {
        "augmentations._base",
        "augmentations._images",
        "augmentations._tabular",
    },
    "augmentations.__init__": {
        "augmentations._base",
        "augmentations._images",
        "augmentations._tabular",
        "augmentations._recipes",
    },
}


def module_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


FILES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def internal_imports(name):
    """Names of the package's modules that a file imports, at any depth of its code."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("deepcluster_sk") for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("deepcluster_sk")
            if node.level:
                base = package[: len(package) - node.level + 1]
                target = ".".join([*base, *filter(None, [node.module])])
                yield target if target in FILES else f"{target}.__init__"


def floor_of(name):
    return next(number for number, floor in enumerate(FLOORS) if name in floor)


def test_every_file_has_a_floor():
    assert set().union(*FLOORS) == set(FILES)


@pytest.mark.parametrize("name", sorted(set(FILES) - {"__init__"}))
def test_imports_go_down(name):
    for target in internal_imports(name):
        below = floor_of(target) < floor_of(name)
        assert below or target in SAME_FLOOR.get(name, set()), f"{name} imports {target}"


def test_only_the_device_file_names_an_accelerator():
    naming = {name for name, path in FILES.items() if '"cuda"' in path.read_text()}
    assert naming == {"_device"}


def test_only_the_validation_file_imports_private_parts_of_scikit_learn():
    importing = {name for name, path in FILES.items() if "sklearn.utils._" in path.read_text()}
    assert importing == {"_validation"}


def test_only_the_adapter_imports_the_callbacks_of_scikit_learn():
    importing = {
        name for name, path in FILES.items() if "from sklearn.callback" in path.read_text()
    }
    assert importing == {"_sklearn_callbacks"}


METHODS = sorted(name for name in FLOORS[5] if not name.startswith("display."))


@pytest.mark.parametrize("name", [*METHODS, "losses", "_modules"])
def test_nothing_inside_a_step_reads_from_the_device(name):
    in_step = {"forward", "after_step", "sample_noise", "assign"}
    reads = {"item", "tolist", "cpu", "numpy"}
    tree = ast.parse(FILES[name].read_text())
    steps = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    steps += [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in in_step]
    assert steps
    for step in steps:
        called = {n.attr for n in ast.walk(step) if isinstance(n, ast.Attribute)}
        assert not called & reads, f"{step.name} reads from the device"


def test_the_trainer_knows_no_method():
    code = ast.parse(FILES["_trainer"].read_text())
    names = {n.id for n in ast.walk(code) if isinstance(n, ast.Name)}
    names |= {n.attr for n in ast.walk(code) if isinstance(n, ast.Attribute)}
    assert not {"isinstance", "hasattr", "n_clusters", "assign"} & names
