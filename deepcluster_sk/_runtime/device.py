"""Devices, precision and memory: the only file that names an accelerator."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import torch
import torch.distributed as dist
from torch import nn

from . import errors
from .locks import process_lock

Precision = Literal["float32", "bfloat16", "float16"]
Movable = TypeVar("Movable", bound=torch.Tensor | nn.Module)

Feature = Literal[
    "float64", "fused steps", "messages", "border padding", "uneven pooling", "antialiasing"
]
_LACKING: dict[str, frozenset[Feature]] = {  # by type of device, in some version of torch >= 2.4
    "mps": frozenset(get_args(Feature)),
}
_ASSUMED_MEMORY = 4 * 2**30  # bytes, where the operating system does not tell
_BFLOAT16_PIXELS = 16  # shortest side of images from which a CPU is faster in bfloat16


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn the ``device`` parameter into a device that exists.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes CUDA, then Apple's MPS, then the CPU. Anything else must exist: a missing
        device is an error and never a silent fallback.

    Raises
    ------
    DeviceError
        If the name is unknown or the device is not present.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if _has_mps() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise errors.unknown_device(device) from None
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(_has_mps())}
    present = counts.get(resolved.type, 0)
    if present <= (resolved.index or 0):
        raise errors.missing_device(device, present, resolved.type)
    return resolved


def _has_mps() -> bool:
    """Tell whether there is an Apple GPU, and torch >= 2.5, whose autocast knows it."""
    return torch.backends.mps.is_available() and torch.amp.is_autocast_available("mps")


def lacks(device: torch.device, feature: Feature) -> bool:
    """Tell what torch cannot do on a type of device.

    Parameters
    ----------
    device : torch.device
    feature : str
        ``"float64"``; ``"fused steps"`` of optimisers, and scalers of losses; ``"messages"``
        between processes; ``"border padding"`` in ``grid_sample``; ``"antialiasing"`` when images
        are resized; ``"uneven pooling"``: adaptive averages to a size that does not divide that of
        the input.
    """
    return feature in _LACKING.get(device.type, ())


def claim_device(device: str | torch.device, local_rank: int) -> str:
    """Make the device of this process, of several on a machine, the current one.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` and ``"cuda"`` are the CUDA device of the process's number.
    local_rank : int
        Number of the process on its machine.

    Returns
    -------
    backend : str
        Torch's backend for the messages between such processes.

    Raises
    ------
    DeviceError
        If there are fewer devices than processes, or the device cannot exchange tensors.
    """
    own = resolve_device(device)
    if lacks(own, "messages"):
        raise errors.device_without_messages(device, own.type)
    if own.type != "cuda":
        return "gloo"
    named = device != "auto" and own.index is not None
    if not named and local_rank >= torch.cuda.device_count():
        raise errors.too_few_devices(torch.cuda.device_count(), local_rank)
    torch.cuda.set_device(own if named else local_rank)
    # NCCL is for Linux only; gloo exchanges tensors of CUDA by way of the host
    return "cpu:gloo,cuda:nccl" if dist.is_nccl_available() else "gloo"


def resolve_precision(
    precision: Precision | Literal["auto"], device: torch.device, sample_shape: tuple[int, ...]
) -> Precision:
    """Turn the ``precision`` parameter into a number format.

    ``"auto"`` is bfloat16 where it pays: on CUDA devices that compute it natively (capability 8 or
    higher), and on CPUs that do (AVX512-BF16 or AMX) for images of 16 x 16 and more; float32
    elsewhere. On a CPU, rows gain less than a tenth by it, and clusters of tiny images get worse.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        is_large = len(sample_shape) == 3 and min(sample_shape[1:]) >= _BFLOAT16_PIXELS
        native = device.type == "cpu" and is_large and _cpu_computes_bfloat16()
    return "bfloat16" if native else "float32"


def _cpu_computes_bfloat16() -> bool:
    """Tell whether the CPU has instructions for products of bfloat16: AVX512-BF16 or AMX."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    except OSError:  # not Linux: newer versions of torch ask the CPU
        cpu: Any = torch.cpu
        tell = getattr(cpu, "_is_avx512_bf16_supported", None)
        return bool(tell and tell())
    return not words.isdisjoint({"avx512_bf16", "amx_bf16"})


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Return the autocast context of a training step."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


@contextmanager
def without_autocast() -> Iterator[None]:
    """Leave the autocast that surrounds a block, of any type of device."""
    with ExitStack() as stack:
        for kind in ("cpu", "cuda", "mps"):
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def training_switches(device: torch.device, precision: Precision) -> Iterator[None]:
    """Set torch's global switches for training steps, and restore them at the end.

    On CUDA devices, convolutions are tuned for the shapes, which are the same in every step, unless
    the user asked torch for deterministic ones. In half precision, the products that are left in
    float32 may be rounded to TF32, which is not coarser; in float32, the user's switches hold.
    """
    if device.type != "cuda":
        yield
        return
    deterministic = (
        torch.backends.cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
    )
    tuned = nullcontext() if deterministic else _TUNED.set(True)
    rounded = nullcontext() if precision == "float32" else _TENSOR_FLOAT32.set(True)
    with tuned, rounded:
        yield


@contextmanager
def inference_switches(device: torch.device) -> Iterator[None]:
    """Keep products of float32 exact, and restore the user's switches at the end.

    Results must not depend on the size of a batch, and a model is the same on CPU and GPU.
    """
    if device.type != "cuda":
        yield
        return
    with _TENSOR_FLOAT32.set(False):
        yield


class _Switch:
    """A switch of the whole process: the last thread that set it counts, and the end restores it.

    Parameters
    ----------
    read : callable
        Returns the state of the switch.
    write : callable
        Takes a bool, or a state.
    """

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self._read, self._write = read, write
        self._before: Any = None
        self._values: dict[object, bool] = {}  # of the blocks that have not ended, in their order

    @contextmanager
    def set(self, value: bool) -> Iterator[None]:
        """Set the switch for the length of a block."""
        block = object()
        with process_lock:
            if not self._values:
                self._before = self._read()
            self._values[block] = value
            self._write(value)
        try:
            yield
        finally:
            with process_lock:
                del self._values[block]
                last = [*self._values.values()][-1:]
                self._write(last[0] if last else self._before)


def _read_tuned() -> bool:
    return torch.backends.cudnn.benchmark


def _write_tuned(value: bool) -> None:
    torch.backends.cudnn.benchmark = value


class _TensorFloat32(NamedTuple):
    """The states of torch's two generations of switches for TF32."""

    older: tuple[str, bool] | None
    """None if torch refuses to read them, because the newer ones say something else."""
    newer: list[str]


def _newer_switches() -> list[Any]:
    backends: Any = torch.backends
    if not hasattr(backends, "fp32_precision"):  # torch < 2.9
        return []
    cudnn = backends.cudnn
    return [backends.cuda.matmul, cudnn.conv, cudnn.rnn, backends.mkldnn.matmul]


def _read_tensor_float32() -> _TensorFloat32:
    newer = [switch.fp32_precision for switch in _newer_switches()]
    try:
        older = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return _TensorFloat32(None, newer)
    return _TensorFloat32(older, newer)


def _write_tensor_float32(value: bool | _TensorFloat32) -> None:
    """Allow or forbid TF32, or restore a state.

    The older switches are set, unless the user has turned to the newer ones.
    """
    cudnn: Any = torch.backends.cudnn
    if isinstance(value, _TensorFloat32):
        if value.older is not None:
            torch.set_float32_matmul_precision(value.older[0])
            cudnn.allow_tf32 = value.older[1]
        for switch, before in zip(_newer_switches(), value.newer, strict=True):
            switch.fp32_precision = before
    elif _read_tensor_float32().older is not None:
        torch.set_float32_matmul_precision("high" if value else "highest")
        cudnn.allow_tf32 = value
    else:
        for switch in _newer_switches()[:3]:
            switch.fp32_precision = "tf32" if value else "ieee"


_TUNED = _Switch(_read_tuned, _write_tuned)
_TENSOR_FLOAT32 = _Switch(_read_tensor_float32, _write_tensor_float32)


_OUT_OF_MEMORY = ("can't allocate memory", "MPS backend out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that the device or the host ran out of memory."""
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)
    )


@contextmanager
def fork_torch(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's global generators of the CPU and of `device`, and restore both at the end.

    ``torch.manual_seed`` is avoided: it would seed every other device of the machine as well.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        current = torch.cuda.current_device()  # starts CUDA: it has no generators before
        index = current if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    elif device.type == "mps":
        generators.append(torch.mps._get_default_mps_generator())
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def to_device(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor of the host to a device, without waiting for CUDA; a view on the CPU.

    As in :func:`move_to`, float64 becomes float32 where the device has no float64.
    """
    if device.type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return move_to(x, device)


def move_to(x: Movable, device: torch.device) -> Movable:
    """Return a tensor on a device, or move a module there in place.

    Float64 becomes float32 where the device has no float64, also in the buffers of a module.
    """
    if isinstance(x, nn.Module):
        move: Any = x._apply  # what nn.Module.to calls for each tensor
        move(lambda tensor: move_to(tensor, device))
        return x
    is_too_wide = x.dtype == torch.float64 and lacks(device, "float64")
    moved: Any = x.to(device, dtype=torch.float32 if is_too_wide else x.dtype)
    return moved  # type: ignore[no-any-return]


def available_memory(device: torch.device | None = None) -> int:
    """Return the bytes that a device, or the host, can still give.

    Where the operating system tells no more than the size of the memory, half of it is assumed to
    be free; where it tells nothing, 4 GB.
    """
    if device is not None and device.type == "cuda":
        # what torch keeps of freed tensors is free to it
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return int(dict(line.split(":") for line in lines)["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _half_of_memory() or _ASSUMED_MEMORY


def _half_of_memory() -> int:
    """Return half of the host's memory in bytes; 0 where the operating system does not tell."""
    try:
        return max(0, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return 0
