"""Randomness that is addressed, not consumed.

One integer and a path such as ``("augment", epoch)`` name a generator. An epoch can be replayed
alone, and a new random step in one stream never shifts the draws of another.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.random import RandomState, SeedSequence
from sklearn.utils import check_random_state
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from .device import fork_torch
from .locks import process_lock

Stream = Literal["init", "order", "augment", "noise", "global", "partition"]
_STREAMS: tuple[Stream, ...] = ("init", "order", "augment", "noise", "global", "partition")


def draw_entropy(random_state: int | RandomState | None) -> int:
    """Turn any accepted ``random_state`` into one integer.

    ``None`` takes entropy from the operating system and not from numpy's global state, which
    stays untouched.
    """
    if random_state is None:
        return int(SeedSequence().generate_state(1)[0])
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


class Seeds:
    """All random generators of one fit, by address.

    Parameters
    ----------
    entropy : int
        The one integer that everything follows from.
    """

    def __init__(self, entropy: int) -> None:
        self.entropy = entropy

    def seed(self, stream: Stream, *path: int) -> int:
        """Return the 63-bit seed at an address."""
        key = (_STREAMS.index(stream), *path)
        word = SeedSequence(self.entropy, spawn_key=key).generate_state(1, np.uint64)[0]
        return int(word >> np.uint64(1))

    def generator(
        self, stream: Stream, *path: int, device: torch.device | str = "cpu"
    ) -> torch.Generator:
        """Return a new torch generator on `device`, seeded by its address."""
        return torch.Generator(device=device).manual_seed(self.seed(stream, *path))

    @contextmanager
    def drawing(
        self,
        stream: Stream,
        *path: int,
        foreign: bool,
        device: torch.device | str = "cpu",
    ) -> Iterator[None]:
        """Let modules be built with weights drawn by address, whatever other threads draw.

        Parameters
        ----------
        stream, *path : str, int
            The address.
        foreign : bool
            Whether the code in the block is not ours. It may draw from numpy and `random`, seed the
            global states, or call what no mode of torch knows: see :meth:`fork_global`.
        device : torch.device or str, default="cpu"
            Where foreign code may draw as well.
        """
        own = _OwnDraws(self.generator(stream, *path))
        with self.fork_global(stream, *path, device=device) if foreign else own:
            yield

    @contextmanager
    def fork_global(
        self, stream: Stream, *path: int, device: torch.device | str = "cpu"
    ) -> Iterator[None]:
        """Seed the global states of torch, numpy and `random` by address, and restore them.

        For code that takes no generator: dropout, foreign augmentations and constructors. One
        thread at a time; a thread that is not ours shares the draws.
        """
        seed = self.seed(stream, *path)
        with (
            process_lock,
            fork_torch(torch.device(device), seed),
            _fork_numpy_and_python(seed),
        ):
            yield


@contextmanager
def _fork_numpy_and_python(seed: int) -> Iterator[None]:
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global state is the point
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


class _OwnDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Let torch draw from a generator where none is named, in this thread alone.

    The numbers are those of the global generator with the same seed.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = generator

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags and not _is_elsewhere(args, kwargs):
            func = _with_generator(func)
            if not _takes_generator(func):
                return self._alone(func, args, kwargs)
            kwargs["generator"] = kwargs.get("generator") or self._generator
        return func(*args, **kwargs)

    def _alone(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an operation that knows the global generator only, such as some of torch 2.4."""
        seed = int(torch.randint(2**62, (), generator=self._generator))
        with process_lock, fork_torch(torch.device("cpu"), seed):
            return operation(*args, **kwargs)


def _is_elsewhere(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether an operation is not for the CPU: on the meta device, nothing is drawn."""
    tensors = [x for x in args if isinstance(x, torch.Tensor)]
    devices = [x.device for x in tensors] or [torch.device(kwargs.get("device") or "cpu")]
    return any(device.type != "cpu" for device in devices)


def _with_generator(operation: Any) -> Any:
    """Return the overload of an operation that takes a generator, such as that of ``rand``."""
    if _takes_generator(operation):
        return operation
    packet, overload = operation.overloadpacket, operation._overloadname
    name = "generator" if overload == "default" else f"{overload}_generator"
    return getattr(packet, name) if name in packet.overloads() else operation


def _takes_generator(operation: Any) -> bool:
    return any(argument.name == "generator" for argument in operation._schema.arguments)


_KNOWN = (
    "torch.nn.",
    "torchvision.models.resnet",
    "torchvision.ops.misc",
    "deepcluster_sk.",
)
_DRAW = (
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
)


def may_draw(module: nn.Module) -> bool:
    """Tell whether the training of a module may draw from global random states.

    Those of torch and of this package are known; any other module may, and so may any other hook.
    """
    return is_foreign(module) or any(map(_draws_itself, module.modules()))


def _draws_itself(module: nn.Module) -> bool:
    dropout = getattr(module, "dropout", 0.0)  # of attention and recurrent networks
    return isinstance(module, _DRAW) or (isinstance(dropout, float) and dropout > 0)


def is_foreign(module: nn.Module) -> bool:
    """Tell whether there is code in a module that is neither torch's nor of this package."""
    return any(map(_is_foreign_itself, module.modules()))


def _is_foreign_itself(module: nn.Module) -> bool:
    known = type(module).__module__.startswith(_KNOWN)
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return not known or any(not str(hook.__module__).startswith(_KNOWN) for hook in hooks)
