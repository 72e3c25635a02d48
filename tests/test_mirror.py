"""The tests mirror the package: a module is tested in the file of its name, or where a table says.

The test file of ``_training/steps.py`` would be ``tests/training/test_steps.py``.
"""

from pathlib import Path

import pytest

import deepcluster_sk

PACKAGE = Path(deepcluster_sk.__file__).parent
TESTS = Path(__file__).parent

# modules without a test file of their name: where they are tested
TESTED_IN = {
    "__main__": "cli/test_parser",
    "_loading": "estimator/test_saving",
    "_version": "test_public_surface",
    "datasets": "data/test_image_files",
    "exceptions": "test_errors",
    "inspection": "inspection/test_search",
    "augmentations/_base": "test_augmentations",
    "augmentations/_checks": "test_augmentations",
    "augmentations/_errors": "test_errors",
    "augmentations/_foreign": "test_augmentations",
    "augmentations/_images": "test_augmentations",
    "augmentations/_recipes": "test_augmentations",
    "augmentations/_tabular": "test_augmentations",
    "display/_cluster_number": "test_display",
    "display/_embedding": "test_display",
    "display/_errors": "test_errors",
    "display/_gallery": "test_display",
    "display/_loss_curve": "test_display",
    "display/_map": "inspection/test_map_page",
    "display/_match": "test_display",
    "display/_sizes": "test_display",
    "display/_style": "test_display",
    "display/_tree": "test_display",
    "_cli/argument_types": "cli/test_parser",
    "_cli/array_files": "cli/test_sources",
    "_cli/errors": "test_errors",
    "_cli/columns": "cli/test_csv_files",
    "_cli/duplicates": "cli/test_similar",
    "_cli/libraries": "cli/test_parquet_files",
    "_cli/models": "cli/test_predict",
    "_cli/report": "cli/test_predict",
    "_cli/tables_out": "cli/test_output",
    "_cli/wording": "cli/test_parser",
    "_data/errors": "test_errors",
    "_data/pillow": "data/test_image_files",
    "_data/preprocessing": "estimator/test_validation",
    "_data/protocols": "data/test_readers",
    "_data/sources": "data/test_readers",
    "_estimator/documentation": "methods/test_registry",
    "_estimator/errors": "test_errors",
    "_estimator/finiteness": "estimator/test_validation",
    "_estimator/fitted": "estimator/test_base",
    "_estimator/fitting": "estimator/test_base",
    "_estimator/identity": "training/test_checkpoint",
    "_estimator/kinds": "estimator/test_common",
    "_estimator/layout": "estimator/test_validation",
    "_estimator/networks": "training/test_cuda",
    "_estimator/opening": "estimator/test_validation",
    "_estimator/papers": "methods/test_contrastive_clustering",
    "_estimator/parameters": "methods/test_registry",
    "_estimator/plan": "estimator/test_long_runs",
    "_estimator/prediction": "training/test_inference",
    "_estimator/samples": "data/test_image_files",
    "_estimator/sklearn_callbacks": "test_callbacks",
    "_inspection/clustering": "inspection/test_report",
    "_inspection/equality": "inspection/test_duplicates",
    "_inspection/errors": "test_errors",
    "_inspection/html": "inspection/test_report",
    "_inspection/names": "test_portability",
    "_inspection/pictures": "test_display",
    "_inspection/report_parts": "inspection/test_report",
    "_inspection/report_samples": "inspection/test_report",
    "_inspection/report_training": "inspection/test_report",
    "_inspection/report_tree": "inspection/test_report",
    "_inspection/report_unusual": "inspection/test_report",
    "_inspection/sprites": "inspection/test_report",
    "_inspection/summaries": "test_display",
    "_networks/centroid_objective": "methods/test_twin_contrast_clustering",
    "_networks/neighbor_objective": "networks/test_neighbors",
    "_networks/neighbor_stage": "networks/test_neighbors",
    "_runtime/batch_norm": "runtime/test_distributed",
    "_runtime/errors": "test_errors",
    "_runtime/file_format": "estimator/test_saving",
    "_runtime/locks": "runtime/test_threads",
    "_runtime/process_group": "runtime/test_distributed",
    "_runtime/warnings": "estimator/test_base",
    "_training/callbacks": "training/test_trainer",
    "_training/epochs": "training/test_trainer",
    "_training/errors": "test_errors",
    "_training/interrupts": "training/test_trainer",
    "_training/objective": "training/test_trainer",
    "_training/row_map": "training/test_trainer",
    "_training/state": "training/test_trainer",
    "_training/steps": "training/test_trainer",
    "_training/views": "runtime/test_distributed",
    "_training/work": "training/test_companion",
}
# what concerns no single module
ACROSS = {
    "test_documentation": "pages, docstrings and notebooks",
    "test_errors": "one place per folder for errors, and a test for each",
    "test_layers": "who imports whom",
    "test_mirror": "this file",
    "test_portability": "Windows, macOS and what is not installed",
    "test_project": "files beside the package",
    "test_public_surface": "public names and what importing costs",
    "test_benchmarks": "the scripts of benchmarks/",
    "test_augmentations": "augmentations/",
    "test_display": "display/",
    "estimator/test_concurrency": "fits and predictions in several threads",
    "estimator/test_common": "scikit-learn's checks of estimators",
    "estimator/test_handing_over": "estimators in other tools and files",
    "estimator/test_long_runs": "budgets, early ends, partial_fit",
    "methods/test_registry": "adding a method",
    "training/test_compile": "torch.compile, of objectives and augmentations",
    "training/test_cuda": "steps that never wait for a device",
}
MODULES = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix()
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
)


def own_test(module):
    """The test file that mirrors a module, without suffix."""
    folder, _, name = module.rpartition("/")
    return "/".join(filter(None, [folder.strip("_"), f"test_{name.strip('_')}"]))


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_test_file(module):
    tested_in = TESTED_IN.get(module, own_test(module))
    assert (TESTS / f"{tested_in}.py").exists()


def test_the_table_has_no_row_too_many():
    assert set(TESTED_IN) <= set(MODULES)
    assert [m for m in TESTED_IN if (TESTS / f"{own_test(m)}.py").exists()] == []


def test_every_test_file_mirrors_a_module_or_says_what_it_is_about():
    files = {p.relative_to(TESTS).with_suffix("").as_posix() for p in TESTS.rglob("test_*.py")}
    assert files - {own_test(module) for module in MODULES} == set(ACROSS)
