"""Compute the features of a set of images by a pretrained encoder, for benchmarks on embeddings.

    python benchmarks/features.py imagenette96_jpegs.npz X.npz --encoder NAME --image-size 96

The input holds the bytes of JPEG files one after another, their offsets, and labels; the output X
(n, d), float16, and y.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deepcluster_sk.encoders import make_encoder

_AT_ONCE = 64


def images(data: dict[str, np.ndarray], rows: slice, side: int) -> torch.Tensor:
    """Decode some of the files: (m, 3, side, side), float32 in [0, 1]."""
    content, offsets = data["bytes"], data["offsets"]
    decoded = []
    for start, stop in zip(offsets[:-1][rows], offsets[1:][rows], strict=True):
        with Image.open(io.BytesIO(content[start:stop].tobytes())) as image:
            resized = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        decoded.append(np.asarray(resized))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).float() / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--image-size", type=int, required=True)
    arguments = parser.parse_args()
    with np.load(arguments.source) as file:
        data = {name: file[name] for name in ("bytes", "offsets", "labels")}
    side = arguments.image_size
    encoder, _ = make_encoder(
        arguments.encoder, (3, side, side), frozen=True, image_size=(side, side)
    )
    encoder.eval()
    features = []
    for start in range(0, len(data["labels"]), _AT_ONCE):
        with torch.inference_mode():
            x = images(data, slice(start, start + _AT_ONCE), side)
            features.append(encoder(x.contiguous(memory_format=torch.channels_last)).numpy())
    np.savez(arguments.target, X=np.concatenate(features).astype(np.float16), y=data["labels"])


if __name__ == "__main__":
    main()
