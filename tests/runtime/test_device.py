import os
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import process_context
from torch import nn

import deepcluster_sk._runtime.device as device_module
from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._data.preprocessing import Preprocessor
from deepcluster_sk._runtime.device import (
    autocast,
    available_memory,
    claim_device,
    inference_switches,
    is_out_of_memory,
    move_to,
    resolve_device,
    resolve_precision,
    to_device,
    training_switches,
)
from deepcluster_sk._runtime.process_group import together
from deepcluster_sk.exceptions import DeviceError


def test_explicit_cpu_is_the_cpu():
    assert resolve_device("cpu") == resolve_device(torch.device("cpu")) == torch.device("cpu")


def pretend_mps(monkeypatch):
    """Let torch say that there is an Apple GPU, which torch < 2.5 has no autocast for."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda name: True)


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    pretend_mps(monkeypatch)
    assert resolve_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert resolve_device("auto") == torch.device("cuda", 1)


def test_missing_device_is_an_error_and_no_fallback(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="device='cuda:1' was requested, but this machine has 1"):
        resolve_device("cuda:1")
    assert resolve_device("cuda:0") == torch.device("cuda", 0)


def test_unknown_device_name_is_refused():
    with pytest.raises(DeviceError, match=r"device='gpu0' is not a device name\. Pass 'auto'"):
        resolve_device("gpu0")


def test_processes_need_devices_that_exchange_tensors(monkeypatch):
    pretend_mps(monkeypatch)
    with pytest.raises(DeviceError, match="'mps' is 'mps' here, which cannot exchange tensors"):
        claim_device("mps", 1)
    assert claim_device("cpu", 1) == "gloo"


def test_each_process_needs_a_device_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    claimed = []
    monkeypatch.setattr(torch.cuda, "set_device", claimed.append)
    with pytest.raises(DeviceError, match=r"has 1 CUDA .* leaves no device for its process 1"):
        claim_device("auto", 1)
    assert claim_device("auto", 0) == claim_device("cuda:0", 1)
    assert claimed == [0, torch.device("cuda", 0)]


def test_a_group_without_a_backend_for_the_device_is_refused(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_backend_config", lambda: "cuda:nccl")
    with (
        pytest.raises(DeviceError, match="exchange tensors by 'cuda:nccl', which has no backend"),
        together("cpu"),
    ):
        pass


def test_nccl_is_used_where_it_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    for present, backend in [(True, "cpu:gloo,cuda:nccl"), (False, "gloo")]:
        monkeypatch.setattr(dist, "is_nccl_available", lambda present=present: present)
        assert claim_device("cuda:0", 0) == backend


def test_mps_needs_a_torch_whose_autocast_knows_it(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda name: False)
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(DeviceError, match=r"this machine has 0 device\(s\) of type 'mps'"):
        resolve_device("mps")


# ---- what a type of device lacks; those that lack it are pretended


@pytest.fixture
def lacking(monkeypatch):
    """A function that lets a type of device lack features."""

    def let(kind, *features):
        monkeypatch.setitem(device_module._LACKING, kind, frozenset(features))

    return let


def test_float64_becomes_float32_where_the_device_lacks_it(lacking):
    meta, network = torch.device("meta"), nn.BatchNorm1d(3).double()
    network.register_buffer("narrow", torch.ones(2, dtype=torch.float16))
    network.frozen = nn.Parameter(torch.ones(2, dtype=torch.float64), requires_grad=False)
    tensors = [torch.ones(2, dtype=d) for d in (torch.float64, torch.uint8, torch.bfloat16)]
    for x in tensors:
        assert move_to(x, meta).dtype == to_device(x, meta).dtype == x.dtype
    lacking("meta", "float64")
    expected = [torch.float32, torch.uint8, torch.bfloat16]
    assert [move_to(x, meta).dtype for x in tensors] == expected
    assert [to_device(x, meta).dtype for x in tensors] == expected
    assert move_to(network, meta) is network
    moved = {name: (x.dtype, x.device) for name, x in network.state_dict().items()}
    assert moved.pop("narrow") == (torch.float16, meta)
    assert moved.pop("num_batches_tracked") == (torch.int64, meta)
    assert set(moved.values()) == {(torch.float32, meta)}
    assert isinstance(network.frozen, nn.Parameter)
    assert not network.frozen.requires_grad
    assert network.weight.requires_grad


def test_a_fit_needs_no_float64(lacking, monkeypatch, few_images):
    lacking("cpu", *get_args(device_module.Feature))
    forward, seen = Preprocessor.forward, set()

    def spy(self, x):
        seen.update({x.dtype, self.offset.dtype, self.scale.dtype})
        return forward(self, x)

    monkeypatch.setattr(Preprocessor, "forward", spy)
    colors = np.repeat(few_images[..., None], 3, axis=3) / 255
    for X in (few_images / 255, colors, few_images.reshape(60, -1) / 255):
        ContrastiveClustering(2, max_epochs=1, random_state=0, device="cpu").fit(X)
    assert seen == {torch.float32}


def test_a_module_is_moved_as_torch_moves_it():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double()
    expected = {n: (x.dtype, x.shape) for n, x in network.state_dict().items()}
    moved = move_to(network, torch.device("meta"))
    assert {n: (x.dtype, x.shape) for n, x in moved.state_dict().items()} == expected
    assert next(moved.parameters()).device.type == "meta"


def missing(path, **_):
    raise FileNotFoundError(path)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_explicit_precision_is_taken(precision):
    assert resolve_precision(precision, torch.device("cpu"), (3, 32, 32)) == precision


@pytest.mark.parametrize(
    ("capability", "expected"), [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float32")]
)
def test_auto_precision_follows_the_gpu(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision("auto", torch.device("cuda", 0), (10,)) == expected


@pytest.mark.parametrize(
    ("flags", "sample_shape", "expected"),
    [
        ("fma avx512f avx512_bf16", (1, 16, 20), "bfloat16"),
        ("fma amx_bf16", (3, 96, 96), "bfloat16"),
        ("fma avx512f", (3, 96, 96), "float32"),
        ("fma avx512f avx512_bf16", (1, 28, 8), "float32"),
        ("fma avx512f avx512_bf16", (500,), "float32"),
    ],
)
def test_auto_precision_follows_the_cpu_and_the_samples(monkeypatch, flags, sample_shape, expected):
    monkeypatch.setattr(Path, "read_text", lambda path, **_: f"flags : {flags}")
    assert resolve_precision("auto", torch.device("cpu"), sample_shape) == expected


def test_auto_precision_is_float32_where_the_cpu_does_not_tell(monkeypatch):
    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert resolve_precision("auto", torch.device("cpu"), (3, 32, 32)) == "float32"


@pytest.mark.parametrize(("supported", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_precision_asks_torch_outside_of_linux(monkeypatch, supported, expected):
    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    assert resolve_precision("auto", torch.device("cpu"), (3, 32, 32)) == expected


def test_memory_is_asked_of_the_operating_system(monkeypatch):
    assert 2**20 < available_memory() < 2**50
    monkeypatch.setattr(Path, "read_text", lambda path, **_: "MemTotal: 9 kB\nMemAvailable: 3 kB")
    assert available_memory() == 3 * 1024
    monkeypatch.setattr(Path, "read_text", missing)
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__, raising=False)
    assert available_memory() == 4096 * 500
    monkeypatch.setattr(os, "sysconf", lambda name: -1)  # the system does not know
    assert available_memory() == 4 * 2**30
    monkeypatch.delattr(os, "sysconf")  # Windows
    assert available_memory() == 4 * 2**30


def test_memory_that_torch_keeps_for_itself_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 50)
    assert available_memory(torch.device("cuda", 0)) == 750


def test_autocast_lowers_products_to_the_precision():
    x = torch.ones(2, 2)
    for precision in ("float32", "bfloat16"):
        with autocast(torch.device("cpu"), precision):
            assert (x @ x).dtype == getattr(torch, precision)


def test_out_of_memory_is_recognised():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


# ---- torch's global switches

PRETENDED = torch.device("cuda", 0)  # the switches are there without a device
CHOICES = {  # of a user, in both generations of torch's switches
    "nothing": lambda: None,
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "matmul": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "no cudnn": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "tuned": lambda: setattr(torch.backends.cudnn, "benchmark", True),
}
if hasattr(torch.backends, "fp32_precision"):  # torch >= 2.9
    CHOICES |= {
        "new: all": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
        "new: matmul": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
        "new: conv": lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
    }


def switches():
    """All that can be read; torch refuses the older switches where the newer ones contradict."""
    backends = torch.backends
    values = {"benchmark": backends.cudnn.benchmark, "deterministic": backends.cudnn.deterministic}
    readers = {
        "matmul": torch.get_float32_matmul_precision,
        "cudnn": lambda: backends.cudnn.allow_tf32,
    }
    if hasattr(backends, "fp32_precision"):
        owners = [backends, backends.cuda.matmul, backends.cudnn, backends.mkldnn.matmul]
        owners += [backends.cudnn.conv, backends.cudnn.rnn]
        readers |= {str(n): partial(getattr, o, "fp32_precision") for n, o in enumerate(owners)}
    for name, read in readers.items():
        try:
            values[name] = read()
        except RuntimeError:
            values[name] = "refused"
    return values


def in_a_process_of_its_own(check, choice):
    """What the check returns after a user's choice, which no later code can take back."""
    with process_context().Pool(1) as pool:
        return pool.apply(check, (choice,))


def switched(choice):
    """Switches before, within and after each of the contexts, also when an exception ends it."""
    CHOICES[choice]()
    seen = [switches()]
    for context in (
        partial(training_switches, PRETENDED, "bfloat16"),
        partial(training_switches, PRETENDED, "float32"),
        partial(inference_switches, PRETENDED),
        partial(training_switches, torch.device("cpu"), "bfloat16"),
        partial(inference_switches, torch.device("cpu")),
    ):
        with context():
            seen.append((torch.backends.cudnn.benchmark, rounding()))
        seen.append(switches())
        with pytest.raises(KeyError), context():
            raise KeyError
        seen.append(switches())
    return seen


def rounding():
    """Whether products and convolutions are rounded."""
    backends = torch.backends
    if not hasattr(backends, "fp32_precision"):
        return backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
    owners = backends.cuda.matmul, backends.cudnn.conv
    return tuple(owner.fp32_precision == "tf32" for owner in owners)


@pytest.mark.parametrize("choice", CHOICES)
def test_switches_are_set_inside_and_restored(choice):
    before, *seen = in_a_process_of_its_own(switched, choice)
    inside, after = seen[::3], seen[1::3] + seen[2::3]
    assert after == [before] * 10
    users = {
        "high": (True, True),
        "medium": (True, True),
        "matmul": (True, True),
        "no cudnn": (False, False),
        "new: all": (True, True),
        "new: matmul": (True, True),
        "new: conv": (False, False),
    }.get(choice, (False, True))
    tuned = choice == "tuned"
    assert inside == [
        (True, (True, True)),  # half precision
        (True, users),  # float32: as the user has it
        (tuned, (False, False)),  # inference is exact
        (tuned, users),  # nothing is touched on the CPU
        (tuned, users),
    ]


def test_deterministic_convolutions_are_not_tuned(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    with training_switches(PRETENDED, "float32"):
        assert not torch.backends.cudnn.benchmark


def test_a_tensor_for_the_cpu_is_not_copied():
    x = torch.ones(3)
    assert to_device(x, torch.device("cpu")) is x


def test_switches_that_threads_set_at_the_same_time_are_restored():
    """Blocks of threads end in any order: neither may restore what the other one has set."""
    before = torch.get_float32_matmul_precision()
    training = training_switches(PRETENDED, "bfloat16")
    predicting = inference_switches(PRETENDED)
    training.__enter__()
    predicting.__enter__()
    assert torch.get_float32_matmul_precision() == "highest"
    training.__exit__(None, None, None)
    assert torch.get_float32_matmul_precision() == "highest"
    predicting.__exit__(None, None, None)
    assert torch.get_float32_matmul_precision() == before


def test_the_switches_of_a_thread_hold_again_after_those_of_another():
    training = training_switches(PRETENDED, "bfloat16")
    with training:
        with inference_switches(PRETENDED):
            pass
        assert torch.get_float32_matmul_precision() == "high"
