"""Devices, precision and memory: the only file that names an accelerator."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch

from . import errors

Precision = Literal["float32", "bfloat16", "float16"]

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
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise errors.unknown_device(device) from None
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    present = counts.get(resolved.type, 0)
    if present <= (resolved.index or 0):
        raise errors.missing_device(device, present, resolved.type)
    return resolved


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
    if own.type == "mps":
        raise errors.device_without_messages(device, own.type)
    if own.type != "cuda":
        return "gloo"
    named = device != "auto" and own.index is not None
    if not named and local_rank >= torch.cuda.device_count():
        raise errors.too_few_devices(torch.cuda.device_count(), local_rank)
    torch.cuda.set_device(own if named else local_rank)
    return "cpu:gloo,cuda:nccl"


def resolve_precision(
    precision: Precision | Literal["auto"], device: torch.device, sample_shape: tuple[int, ...]
) -> Precision:
    """Turn the ``precision`` parameter into a number format.

    ``"auto"`` is bfloat16 where it pays: on CUDA devices that compute it natively (capability 8 or
    higher), and on CPUs that do (AVX512-BF16 or AMX) for images of 16 x 16 and more; float32
    elsewhere. Networks on rows and tiny images gain less than a tenth by it on a CPU.
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
    """Tell whether the CPU has instructions for products of bfloat16, as far as Linux tells."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return not words.isdisjoint({"avx512_bf16", "amx_bf16"})


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Return the autocast context of a training step."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


@contextmanager
def training_switches(device: torch.device, precision: Precision) -> Iterator[None]:
    """Set torch's global switches for training steps, and restore them at the end.

    On CUDA devices, convolutions are tuned for the shapes, which are the same in every step, unless
    the user asked torch for deterministic ones. In half precision, the products that are left in
    float32 may be rounded to TF32, which is no coarser; in float32, the user's switches hold.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    tuned = cudnn.benchmark
    rounded = nullcontext() if precision == "float32" else _tensor_float32(allowed=True)
    deterministic = cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
    try:
        cudnn.benchmark = tuned or not deterministic
        with rounded:
            yield
    finally:
        cudnn.benchmark = tuned


@contextmanager
def inference_switches(device: torch.device) -> Iterator[None]:
    """Keep products of float32 exact, and restore the user's switches at the end.

    Results must not depend on the size of a batch, and a model is the same on CPU and GPU.
    """
    if device.type != "cuda":
        yield
        return
    with _tensor_float32(allowed=False):
        yield


@contextmanager
def _tensor_float32(*, allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32; restore what was before.

    Torch has two generations of switches, and refuses to read the older ones once the newer ones
    say something else. So the older ones are set, unless the user has turned to the newer ones.
    """
    backends: Any = torch.backends
    cudnn = backends.cudnn
    newer: list[Any] = []
    if hasattr(backends, "fp32_precision"):  # torch >= 2.9
        newer = [backends.cuda.matmul, cudnn.conv, cudnn.rnn, backends.mkldnn.matmul]
    before = [switch.fp32_precision for switch in newer]
    try:
        older = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    except RuntimeError:
        older = None
    try:
        if older is not None:
            torch.set_float32_matmul_precision("high" if allowed else "highest")
            cudnn.allow_tf32 = allowed
        else:
            for switch in newer[:3]:
                switch.fp32_precision = "tf32" if allowed else "ieee"
        yield
    finally:
        if older is not None:
            torch.set_float32_matmul_precision(older[0])
            cudnn.allow_tf32 = older[1]
        for switch, value in zip(newer, before, strict=True):
            switch.fp32_precision = value


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that the device or the host ran out of memory."""
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
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
    """Copy a tensor of the host to a device, without waiting for it; a view on the CPU."""
    if device.type == "cuda":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


def available_memory(device: torch.device | None = None) -> int:
    """Return the bytes that a device, or the host, can still give.

    Where the operating system does not tell, 4 GB are assumed.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 4 * 2**30
