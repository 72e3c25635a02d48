import pytest
import torch

from deepcluster_sk._device import autocast, is_out_of_memory, resolve_device, resolve_precision
from deepcluster_sk.exceptions import DeviceError


def test_explicit_cpu_is_the_cpu():
    assert resolve_device("cpu") == resolve_device(torch.device("cpu")) == torch.device("cpu")


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
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


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_explicit_precision_is_taken(precision):
    assert resolve_precision(precision, torch.device("cpu")) == precision


@pytest.mark.parametrize(
    ("capability", "expected"), [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float32")]
)
def test_auto_precision_follows_the_gpu(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision("auto", torch.device("cuda", 0)) == expected


def test_auto_precision_on_the_cpu_is_float32():
    assert resolve_precision("auto", torch.device("cpu")) == "float32"


def test_autocast_lowers_products_to_the_precision():
    x = torch.ones(2, 2)
    for precision in ("float32", "bfloat16"):
        with autocast(torch.device("cpu"), precision):
            assert (x @ x).dtype == getattr(torch, precision)


def test_out_of_memory_is_recognised():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
