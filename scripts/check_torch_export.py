#!/usr/bin/env python3
"""Holds `s3gpu export --format torch` against PyTorch: the exported network must be right on as many CIFAR test images there as here.

    python3 -m venv target/torch && target/torch/bin/pip install torch safetensors numpy
    target/torch/bin/python scripts/check_torch_export.py RUN --data-dir DIR [--dataset cifar10]

RUN is a run's folder or a checkpoint of a CIFAR network, DIR holds the data set's binary files. Exit code 1 where the two differ.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn


class Block(nn.Module):
    """torchvision's basic block; without a downsampling convolution, zero channels before and after the strided input."""

    def __init__(self, cin, cout, stride, conv_shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.stride, self.pad = stride, (cout - cin) // 2
        self.downsample = None
        if conv_shortcut and (stride != 1 or cin != cout):
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.downsample is not None:
            x = self.downsample(x)
        elif self.pad or self.stride != 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """ResNet-(6n+2) under torchvision's names."""

    def __init__(self, depth, width, classes, conv_shortcut):
        super().__init__()
        n, base = (depth - 2) // 6, 16 * width
        self.conv1 = nn.Conv2d(3, base, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(base)
        cin = base
        for stage in range(3):
            cout = base << stage
            blocks = []
            for i in range(n):
                blocks.append(Block(cin, cout, 2 if i == 0 and stage > 0 else 1, conv_shortcut))
                cin = cout
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(cin, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def load(path):
    """The network of an exported file, its metadata, and the names of its tensors."""
    with safe_open(path, "pt") as file:
        meta = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}
    if not meta["model"].startswith("resnet") or int(meta["model"][6:]) in (18, 34, 50):
        sys.exit(f"{meta['model']} is not one of CIFAR's networks")
    depth = int(meta["model"].removeprefix("resnet"))
    model = CifarResNet(depth, int(meta["width"]), int(meta["classes"]), meta["shortcut"] == "conv")
    model.load_state_dict(state, strict=True)
    return model.eval(), meta


def images(folder, dataset):
    """CIFAR's test images as (labels, N x 3 x 32 x 32 bytes)."""
    name, labels = {"cifar10": ("test_batch.bin", 1), "cifar100": ("test.bin", 2)}[dataset]
    path = next(iter(sorted(Path(folder).rglob(name))), None) or sys.exit(f"no {name} below {folder}")
    records = np.fromfile(path, np.uint8).reshape(-1, labels + 3072)
    return records[:, labels - 1].astype(np.int64), records[:, labels:].reshape(-1, 3, 32, 32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--dataset", choices=["cifar10", "cifar100"], default="cifar10")
    parser.add_argument("--s3gpu", default="target/release/s3gpu")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "torch.safetensors")
        subprocess.run([args.s3gpu, "export", "--format", "torch", args.run, "--out", out], check=True)
        model, meta = load(out)
    flags = ["--weights", args.run, "--dataset", args.dataset, "--data-dir", args.data_dir, "--json"]
    said = subprocess.run([args.s3gpu, "eval", *flags], check=True, stdout=subprocess.PIPE, text=True).stdout
    ours = json.loads(said.splitlines()[-1])

    labels, pixels = images(args.data_dir, args.dataset)
    mean, std = (torch.tensor([float(v) for v in meta[key].split(",")]).view(3, 1, 1) for key in ("mean", "std"))
    correct, loss = 0, 0.0
    with torch.no_grad():
        for start in range(0, len(labels), 500):
            x = (torch.from_numpy(pixels[start : start + 500]).float() / 255 - mean) / std
            target = torch.from_numpy(labels[start : start + 500])
            logits = model(x)
            correct += (logits.argmax(1) == target).sum().item()
            loss += F.cross_entropy(logits, target, reduction="sum").item()
    loss /= len(labels)
    print(f"s3gpu:   {ours['correct']} of {ours['count']} right, loss {ours['loss']:.6f}")
    print(f"PyTorch: {correct} of {len(labels)} right, loss {loss:.6f}")
    same = correct == ours["correct"] and len(labels) == ours["count"] and abs(loss - ours["loss"]) < 1e-4 * (1 + loss)
    print("equal" if same else "DIFFERENT")
    sys.exit(not same)


if __name__ == "__main__":
    main()
