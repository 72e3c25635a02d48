"""Compute the features of a set of images by a pretrained encoder, for benchmarks on embeddings.

    python benchmarks/features.py imagenette96_jpegs.npz X.npz --encoder NAME --image-size 96
    python benchmarks/features.py clothing X.npz --encoder NAME

The input is a folder with a folder of JPEG files per class, or a file that holds the bytes of JPEG
files one after another, their offsets, and labels. Images are prepared as the estimators prepare
files; the output is X (n, d), float16, and y.
"""

import argparse
import io
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image

from deepcluster_sk._data.image_files import Resizing, to_array
from deepcluster_sk._data.preprocessing import Layout
from deepcluster_sk._pretrained import input_config, parsed_name
from deepcluster_sk.encoders import make_encoder

_AT_ONCE = 64


def opened(source: Path) -> tuple[list[Path | IO[bytes]], np.ndarray]:
    """Return files, on the disk or in memory, and their classes (n,)."""
    if source.is_dir():
        paths = sorted(source.glob("*/*.jpg"))
        return list(paths), np.unique([path.parent.name for path in paths], return_inverse=True)[1]
    with np.load(source) as data:
        content, offsets, labels = data["bytes"].tobytes(), data["offsets"], data["labels"]
    return [io.BytesIO(content[start:stop]) for start, stop in pairwise(offsets)], labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--image-size", type=int)
    arguments = parser.parse_args()
    name, side = parsed_name(arguments.encoder), arguments.image_size
    if name is None:
        parser.error(f"--encoder {arguments.encoder}: expected timm/NAME or torchvision/NAME")
    config, seen = input_config(name), None if side is None else (side, side)
    height, width = config.image_size(seen)
    layout = Layout((height, width, 3), "last")
    resizing = Resizing(config.interpolation, config.keeps_aspect)
    encoder, _ = make_encoder(arguments.encoder, layout.sample_shape, frozen=True, image_size=seen)
    encoder.eval()

    def features(files: list[Path | IO[bytes]]) -> np.ndarray:
        images = []
        for file in files:
            with Image.open(file) as image:
                images.append(to_array(image, layout, resizing))
        x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            found: np.ndarray = encoder(x.contiguous(memory_format=torch.channels_last)).numpy()
        return found

    files, y = opened(arguments.source)
    starts = range(0, len(files), _AT_ONCE)
    X = np.concatenate([features(files[start : start + _AT_ONCE]) for start in starts])
    np.savez(arguments.target, X=X.astype(np.float16), y=y)


if __name__ == "__main__":
    main()
