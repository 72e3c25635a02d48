"""How much faster frozen encoders compute features in half precision, and how near they stay.

    python benchmarks/precision.py torchvision/resnet50 timm/vit_small_patch14_dinov2.lvd142m

A bare name of torchvision is an encoder with random weights, which takes as long. The precisions
take turns; seconds are medians. The difference is that of the features, relative to their length.
"""

import argparse
import time
from statistics import median

import torch
from machine import describe

from deepcluster_sk._pretrained import input_config, parsed_name
from deepcluster_sk._runtime.device import Precision
from deepcluster_sk._training.frozen import features_in
from deepcluster_sk.encoders import make_encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("encoders", nargs="+", help="such as torchvision/resnet50")
    parser.add_argument("--image-size", type=int, default=224, help="of encoders without a size")
    parser.add_argument("--n-images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print(describe())
    print("\n| encoder | float32, ms per image | bfloat16 | ratio | difference |")
    print("| --- | --- | --- | --- | --- |")
    for name in arguments.encoders:
        side = (arguments.image_size, arguments.image_size)
        named = parsed_name(name)
        height, width = side if named is None else input_config(named).image_size(None)
        images = torch.rand(arguments.n_images, 3, height, width, device=arguments.device)
        network, _ = make_encoder(name, tuple(images.shape[1:]), frozen=True)
        network = network.eval().to(arguments.device)
        print(f"| {name.partition(':')[0]} | {compared(network, images, arguments.rounds)} |")


def compared(network: torch.nn.Module, images: torch.Tensor, rounds: int) -> str:
    """Return the cells of a row of the table."""
    seconds: dict[Precision, list[float]] = {"float32": [], "bfloat16": []}
    features = {}
    with torch.inference_mode():
        for _ in range(1 + rounds):  # the first one warms up
            for precision, taken in seconds.items():
                start = time.perf_counter()
                # on the host: it is complete there
                features[precision] = features_in(precision, network, images).cpu()
                taken.append(time.perf_counter() - start)
    full, half = (1000 * median(taken[1:]) / len(images) for taken in seconds.values())
    away = (features["bfloat16"] - features["float32"]).norm(dim=1)
    relative = (away / features["float32"].norm(dim=1)).median()
    return f"{full:.1f} | {half:.1f} | {full / half:.1f} | {relative:.4f}"


if __name__ == "__main__":
    main()
