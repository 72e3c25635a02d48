"""The adapter to scikit-learn's callbacks, which are an experiment there, new in version 1.9.

The only file that imports them. Under older versions estimators have no ``set_callbacks``, and
everything here does nothing.
"""

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

import sklearn
from sklearn.base import BaseEstimator

from .._training.callbacks import Callback
from .._training.state import Trained, TrainState
from . import errors

try:
    from sklearn.callback import CallbackSupportMixin, ScoringMonitorLog
    from sklearn.callback import with_callbacks as _with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands for scikit-learn's: there is nothing to support."""

        def _init_callback_context(self, max_subtasks: int) -> "_NoContext":
            return _NoContext()

    ScoringMonitorLog = None

    def _with_callbacks(method: Any) -> Any:
        return method


__all__ = ["CallbackSupportMixin", "FitTasks", "check_support", "log_record", "run_logs"]
__all__ += ["with_callbacks"]

_OF_A_TASK = ("estimator_name", "task_name", "task_id", "sequential_subtasks")

Method = TypeVar("Method", bound=Callable[..., Any])


def with_callbacks(method: Method) -> Method:
    """Open and close the callbacks around a method; without scikit-learn's, leave it as it is."""
    wrapped: Method = _with_callbacks(method)
    return wrapped


def check_support(name: str) -> None:
    """Refuse to make a callback that no estimator could take.

    Raises
    ------
    ImportError
        Under scikit-learn < 1.9.
    """
    if ScoringMonitorLog is None:
        raise errors.callbacks_missing(name, sklearn.__version__)


def log_record(context: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Describe a task and what was measured at its end; JSON holds it."""
    path = [context]
    while path[0].parent is not None:
        path.insert(0, path[0].parent)
    return {
        "run_id": context.root_uuid.hex,
        "estimator_name": path[0].estimator_name,
        "timestamp": path[0].init_time.strftime("UTC%Y-%m-%d-%H:%M:%S.%f"),
        "task_id_path": [task.task_id for task in path],
        "task": {name: getattr(context, name) for name in _OF_A_TASK},
        "values": values,
    }


def run_logs(records: list[dict[str, Any]]) -> list[Any]:
    """Return records as scikit-learn's logs, one for each outermost fit, the latest one last."""
    logs: dict[str, Any] = {}
    for record in sorted(records, key=lambda r: (len(r["task_id_path"]), r["task_id_path"])):
        run = record["run_id"]
        if run not in logs:
            logs[run] = ScoringMonitorLog(
                UUID(run), record["estimator_name"], record["timestamp"], data=[]
            )
        path = tuple(record["task_id_path"])
        ids = {"task_id_path": path, "parent_task_id_path": path[:-1]}
        logs[run].data.append({**ids, **record["task"], **record["values"]})
    return sorted(logs.values(), key=lambda log: (log.timestamp, log.estimator_name))


class _NoContext:
    """Stands for a context without callbacks."""

    def subcontext(self, task_name: str) -> "_NoContext":
        return self

    def call_on_fit_task_begin(self, **what: Any) -> None:
        pass

    def call_on_fit_task_end(self, **what: Any) -> bool:
        return False


class FitTasks(Callback):
    """Tell scikit-learn's callbacks about a fit and its epochs.

    Parameters
    ----------
    estimator : estimator
        The one that is fitted.
    X, y : object
        As the user passed them.
    attributes : callable
        Maps what a training leaves and the state of the run to the fitted attributes.
    """

    def __init__(
        self,
        estimator: BaseEstimator,
        X: Any,
        y: Any,
        attributes: Callable[[Trained, TrainState], dict[str, Any]],
    ) -> None:
        self._data = {"estimator": estimator, "X": X, "y": y}
        self._estimator = estimator
        self._attributes = attributes

    def on_fit_begin(self, state: TrainState) -> None:
        """Open the task of the fit."""
        self._fit = self._estimator._init_callback_context(max_subtasks=state.max_epochs)
        self._fit.call_on_fit_task_begin(**self._data)

    def on_epoch_begin(self, state: TrainState) -> None:
        """Open the task of an epoch."""
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._data)

    def on_epoch_end(self, state: TrainState, finished: Callable[[], Trained]) -> bool:
        """Close the task of an epoch; stop if a callback says so."""
        stops: bool = self._epoch.call_on_fit_task_end(
            **self._data, reconstruction_attributes=lambda: self._attributes(finished(), state)
        )
        return stops

    def on_success(self, attributes: dict[str, Any]) -> None:
        """Close the task of the fit, when the estimator is fitted."""
        self._fit.call_on_fit_task_end(**self._data, reconstruction_attributes=attributes)
