"""Writes timm.json.gz: the state dicts of timm's models (names, shapes) and their logits.

    pip install torch torchvision timm
    python -m tests.reference.make_timm

Not a test: it needs PyTorch, and was run once with timm 1.0.31 and torch 2.14.1.
"""

import gzip
import json

import numpy as np

from tests import goldens

CASES = {"tf_efficientnet_b0": (97, 129), "tf_efficientnet_lite0": (96, 160),
         "tf_efficientnet_es": (96, 160)}


def main():
    import timm
    import torch
    cases = {}
    for name, size in CASES.items():
        model = timm.create_model(name).eval()
        shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
        model.load_state_dict({key: torch.tensor(goldens.timm_value(key, shape))
                               for key, shape in shapes.items()})
        pixels = (goldens.images(*size).astype("float32") - 127.5) / 127.5
        with torch.no_grad():
            logits = model(torch.tensor(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))))
        cases[name] = {"size": size, "state": shapes, "logits": logits.numpy().tolist()}
    path = goldens.REFERENCE / "timm.json.gz"
    path.write_bytes(gzip.compress(json.dumps(cases).encode(), mtime=0))


if __name__ == "__main__":
    main()
