"""A fitted estimator as a graph that runs without Python: ONNX."""

import os
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from .._data.preprocessing import Preprocessor
from .._runtime.file_format import replacing
from .._training.frozen import features_of, seen_by_heads
from .._training.objective import Objective
from . import errors

Dtype = Literal["float32", "float64", "uint8"]

_OLDEST_TORCH = "2.8"  # the first one that exports a graph for any number of samples


class PredictProba(nn.Module):
    """From samples as users pass them to soft assignments.

    Parameters
    ----------
    objective : Objective
        In evaluation mode.
    preprocessor : Preprocessor
    """

    def __init__(self, objective: Objective, preprocessor: Preprocessor) -> None:
        super().__init__()
        self.objective = objective
        self.preprocessor = preprocessor

    def forward(self, X: Tensor) -> Tensor:
        """Map samples (n, ...) to assignments (n, n_clusters), float32."""
        # in float32 whatever a frozen encoder was trained with: half precision cuts batches
        features = features_of(self.objective, self.preprocessor(X.flatten(1)), "float32")
        return self.objective.probabilities(seen_by_heads(self.objective, features)).float()


def write_onnx(
    path: str | os.PathLike[str],
    module: PredictProba,
    *,
    sample_shape: tuple[int, ...],
    dtype: Dtype,
    metadata: dict[str, str],
) -> None:
    """Write the graph of a module for batches of any size.

    Parameters
    ----------
    path : path-like
    module : PredictProba
        On the CPU.
    sample_shape : tuple of int
        Shape of one sample that the graph takes.
    dtype : {"float32", "float64", "uint8"}
        Type of the samples.
    metadata : dict of str to str
        Written into the file.

    Raises
    ------
    ImportError
        If packages are missing.
    OnnxExportError
        If the graph cannot be captured, or has no counterpart in ONNX.
    OSError
        If the file cannot be written.
    """
    check_packages()
    # two samples: a batch of one would be taken for a constant
    example = torch.zeros(2, *sample_shape, dtype=getattr(torch, dtype))
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                _captured(module, example),
                input_names=["X"],
                output_names=["predict_proba"],
                dynamic_shapes=_any_number(),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        raise errors.not_exportable(error) from error
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # lines of code, and the paths of this machine
    program.model.metadata_props.update(metadata)
    with replacing(path) as temporary:
        program.save(temporary, external_data=False)


def check_packages() -> None:
    """Refuse to start without what the exporter needs."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise errors.onnx_packages_missing() from error
    if torch.__version__ < _OLDEST_TORCH:
        raise errors.torch_too_old_for_onnx(_OLDEST_TORCH, torch.__version__)


def _any_number() -> tuple[dict[int, Dim]]:
    """Return that the first axis of the samples has any length; SymPy is imported only for this."""
    return ({0: Dim("batch")},)


def _captured(module: nn.Module, example: Tensor) -> ExportedProgram:
    """Capture the graph for any number of samples."""
    export = partial(torch.export.export, module, (example,), dynamic_shapes=_any_number())
    try:
        return export(strict=False)
    except Exception:  # strict mode also understands numbers of samples such as len(x)
        return export(strict=True)
