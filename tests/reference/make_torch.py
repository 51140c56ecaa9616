"""Writes torch_zip.pth, torch_legacy.pth and torch_files.npz: tensors of each kind, by PyTorch.

    pip install torch
    python tests/reference/make_torch.py

Not a test: it needs PyTorch, and was run once with torch 2.13.0.
"""

import argparse
import pathlib
from collections import OrderedDict

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
KINDS = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool"


def tensors():
    """{name: tensor} of each type, shape and kind of view."""
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) - 7.5
    found = OrderedDict(
        (kind, torch.arange(6).reshape(2, 3).to(getattr(torch, kind))) for kind in KINDS.split()
    )
    found["whole"] = base
    found["part"] = base[1, 1:, ::2]  # these share their storage
    found["turned"] = base.permute(2, 0, 1)
    found["repeated"] = base[0, 0, :1].expand(3, 1)
    found["number"] = torch.tensor(3.25)
    found["empty"] = torch.zeros(0, 3)
    found["parameter"] = torch.nn.Parameter(torch.linspace(-1, 1, 5).half())
    found["channels_last"] = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    found["named"] = torch.ones(2)
    found["named"].note = "an attribute"
    return found


def main():
    torch.manual_seed(0)
    state = tensors()
    layer = torch.nn.BatchNorm2d(3)
    saved = {
        "epoch": 7,
        "arch": "tf_efficientnet_b0",
        "args": argparse.Namespace(model="tf_efficientnet_b0", lr=0.1, size=(3, 224, 224)),
        "state_dict": state,
        "layer": layer.state_dict(),
        "optimizer": torch.optim.Adam(layer.parameters()).state_dict(),
        "metric": np.float64(71.5),
        "size": state["whole"].size(),
        "type": torch.float16,
    }
    torch.save(saved, HERE / "torch_zip.pth")
    torch.save(saved, HERE / "torch_legacy.pth", _use_new_zipfile_serialization=False)
    arrays = {
        name: (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
        for name, value in state.items()
    }
    np.savez_compressed(HERE / "torch_files.npz", **arrays)


if __name__ == "__main__":
    main()
