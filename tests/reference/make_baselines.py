"""Writes baselines.json.gz: names, shapes and logits of MobileNets and ResNet-50 of others.

    pip install torch torchvision timm
    python -m tests.reference.make_baselines

Not a test: it needs PyTorch, and was run once with timm 1.0.31, torchvision 0.28.0, torch 2.13.0.
"""

import gzip
import json

from tests.helpers import goldens

OF_TIMM = (
    "mobilenetv1_100",
    "mobilenetv2_100",
    "mobilenetv2_140",
    "mobilenetv3_large_100",
    "mobilenetv3_small_100",
    "resnet50",
    "tf_mobilenetv3_large_100",
    "tf_mobilenetv3_small_100",
)
OF_TORCHVISION = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "resnet50")
SIZES = ((64, 75), (65, 64))
KEPT = 20  # logits of each image


def case(torch, network):
    """What is kept of a network: its variables, and logits at each size with known values."""
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict(
        {name: torch.tensor(goldens.timm_value(name, shape)) for name, shape in shapes.items()}
    )
    logits = []
    for size in SIZES:
        pixels = (goldens.images(*size).astype("float32") - 127.5) / 127.5
        with torch.no_grad():
            found = network.eval()(torch.tensor(pixels.transpose(0, 3, 1, 2).copy()))
        logits.append(found.numpy()[:, :KEPT].tolist())
    return {"state": shapes, "sizes": SIZES, "logits": logits}


def main():
    import timm
    import torch
    import torchvision

    found = {f"timm/{name}": case(torch, timm.create_model(name)) for name in OF_TIMM}
    for name in OF_TORCHVISION:
        found[f"torchvision/{name}"] = case(torch, torchvision.models.get_model(name))
    path = goldens.REFERENCE / "baselines.json.gz"
    path.write_bytes(gzip.compress(json.dumps(found).encode(), mtime=0))


if __name__ == "__main__":
    main()
