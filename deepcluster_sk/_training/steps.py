"""Batches and optimiser steps of one run."""

import math
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._runtime.device import lacks
from .._runtime.distributed import average_gradients
from . import errors
from .companion import WeightGradients
from .objective import Batch, LossOutput, Objective
from .state import TrainConfig

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
}


class StepsState(NamedTuple):
    """What the next step needs to know of those before it."""

    tensors: dict[str, Tensor]
    """The optimiser's, by number of the parameter and name: ``"3.exp_avg"``."""
    values: dict[str, Any]
    """Steps done, and the state of the loss scaler; JSON can hold it."""

    def cpu(self) -> "StepsState":
        """Return the state with its tensors on the CPU."""
        return self._replace(tensors={name: tensor.cpu() for name, tensor in self.tensors.items()})


class Steps:
    """Cut epochs into batches, and take one optimiser step for each."""

    def __init__(self, config: TrainConfig, objective: Objective, n_samples: int) -> None:
        self.config = config
        self.batch_size = min(config.batch_size, n_samples)
        self.loss: Callable[[Batch], LossOutput] = objective
        if config.compile:
            self.loss = compile_whole(objective.forward)
        # an incomplete last batch is dropped: its rows come first in another epoch's order
        self._per_epoch = n_samples // self.batch_size
        self._done = 0
        self._parameters = [p for p in objective.parameters() if p.requires_grad]
        device = self._parameters[0].device
        self._optimizer = _OPTIMIZERS[config.optimizer](
            self._parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=not lacks(device, "fused steps"),  # one kernel for all parameters
        )
        scaled = config.precision == "float16" and not lacks(device, "fused steps")
        self._scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        self.spread_over(config.max_epochs)

    @property
    def progress(self) -> float:
        """Share of the run's steps that are done, in (0, 1]."""
        return min(self._done / self._total, 1.0)

    @property
    def n_epochs(self) -> int:
        """Number of epochs that are done."""
        return self._done // self._per_epoch

    def spread_over(self, n_epochs: int) -> None:
        """Spread the schedule of the learning rate over so many epochs, the past ones included."""
        self._total = n_epochs * self._per_epoch
        self._set_learning_rate()

    def plan(self, n_samples: int, generator: torch.Generator) -> Tensor:
        """Draw an epoch's order and cut it into full batches: (steps, batch_size)."""
        order = torch.randperm(n_samples, generator=generator)
        return order[: self._per_epoch * self.batch_size].view(self._per_epoch, self.batch_size)

    def descend(self, loss: Tensor, gradients: WeightGradients | None = None) -> None:
        """Take one optimiser step.

        Parameters
        ----------
        loss : Tensor of shape ()
        gradients : WeightGradients or None, default=None
            Where the loss left the gradients of weights.
        """
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self._scaler.scale(loss))
        if gradients is not None:
            gradients.collect()
        average_gradients(self._parameters)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._done += 1
        self._set_learning_rate()

    def state(self) -> StepsState:
        """Return a copy of the state, where its tensors lie."""
        tensors = {
            f"{number}.{name}": value.clone()
            for number, entry in self._optimizer.state_dict()["state"].items()
            for name, value in entry.items()
            if value is not None
        }
        return StepsState(tensors, {"done": self._done, "scaler": self._scaler.state_dict()})

    def load(self, state: StepsState) -> None:
        """Go on from a state.

        Raises
        ------
        ValueError
            If a tensor has not the shape of its parameter.
        """
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        entries: dict[int, dict[str, Tensor]] = {}
        for key, value in state.tensors.items():
            number, _, name = key.partition(".")
            parameter = parameters[int(number)]
            if value.ndim and value.shape != parameter.shape:
                raise errors.other_optimizer_shape(key, tuple(value.shape), tuple(parameter.shape))
            # a fused step wants the memory format of the parameter
            own = torch.empty_like(parameter if value.ndim else value, dtype=value.dtype)
            entries.setdefault(int(number), {})[name] = own.copy_(value)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": entries, "param_groups": groups})
        if self._scaler.is_enabled() and state.values["scaler"]:  # empty of another precision
            self._scaler.load_state_dict(state.values["scaler"])
        self._done = state.values["done"]
        self._set_learning_rate()

    def _set_learning_rate(self) -> None:
        factor = learning_rate_factor(
            self._done,
            n_steps=self._total,
            schedule=self.config.schedule,
            warmup=self.config.warmup,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor


def compile_whole(method: Any) -> Callable[..., Any]:
    """Compile a bound method for the one shape of its batches; a graph break is an error.

    Torch keeps compilations with the code of a function, for all instances of its class, and
    refuses a ninth one. So each fit compiles a copy of the code, which is freed with it.
    """
    shared = method.__func__
    own = FunctionType(
        shared.__code__.replace(),
        shared.__globals__,
        shared.__name__,
        shared.__defaults__,
        shared.__closure__,
    )
    return torch.compile(MethodType(own, method.__self__), fullgraph=True, dynamic=False)


def learning_rate_factor(step: int, *, n_steps: int, schedule: str, warmup: float) -> float:
    """Return the learning rate at a step, relative to its maximum.

    Parameters
    ----------
    step : int
        Number of steps done.
    n_steps : int
        Number of steps of the run.
    schedule : {"constant", "cosine"}
        Constant, or half a cosine from 1 to 0 after the warm-up.
    warmup : float
        Share of the steps over which the rate rises linearly from 0; in [0, 1).
    """
    n_warmup = warmup * n_steps
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(n_steps - n_warmup, 1)))
