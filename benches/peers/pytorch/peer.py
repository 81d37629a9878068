"""A ResNet's training step and forward pass in PyTorch: CIFAR's ResNet-20, or ResNet-18 at 224 x 224. Prints one JSON line."""

import argparse
import json
import os
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from values import CLASSES, SIDE, images, labels, layers


class Block(nn.Module):
    """Two 3x3 convolutions beside the identity; a stride takes every second pixel and centres the channels among zeros."""

    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.stride, self.pad = stride, (cout - cin) // 2

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride != 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        shapes = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
        self.blocks = nn.Sequential(*(Block(*s) for s in shapes))
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x):
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.fc(x.mean((2, 3)))

    @torch.no_grad()
    def fill(self):
        """Sets the weights that every peer starts from."""
        modules = [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        for module, (shape, values) in zip(modules, layers(), strict=True):
            module.weight.copy_(torch.from_numpy(np.asarray(values).reshape(shape)))
        self.fc.bias.zero_()


class Bottom(nn.Module):
    """ResNet-18's block: as Block, but a stride or a change of channels puts a 1x1 convolution and a batch norm on the shortcut."""

    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.downsample = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """With PyTorch's own starting weights: its losses are not to be compared."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        shapes = [(64, 64, 1)] * 2
        for c in (64, 128, 256):
            shapes += [(c, 2 * c, 2), (2 * c, 2 * c, 1)]
        self.blocks = nn.Sequential(*(Bottom(*s) for s in shapes))
        self.fc = nn.Linear(512, 1000)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.fc(self.blocks(x).mean((2, 3)))


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=["resnet20", "resnet18"], default="resnet20")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--layout", choices=["nchw", "channels-last"], default="channels-last")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--graphs", action="store_true", help="CUDA graphs, through torch.compile's mode")
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--forwards", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128)
    return parser.parse_args()


def main():
    args = arguments()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch.cuda.is_available() is False")
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    torch.backends.cudnn.benchmark = True
    memory = torch.channels_last if args.layout == "channels-last" else torch.contiguous_format

    if args.model == "resnet20":
        model = ResNet20()
        model.fill()
        x = torch.from_numpy(images(args.batch)).reshape(args.batch, 3, SIDE, SIDE)
    else:
        model = ResNet18()
        x = torch.rand(args.batch, 3, 224, 224)
    model = model.to(device, memory_format=memory)
    x = x.to(device, memory_format=memory)
    y = torch.from_numpy(labels(args.batch)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    network = torch.compile(model, mode="reduce-overhead" if args.graphs else None) if args.compile else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()  # waits for the device

    def forward():
        with torch.inference_mode():
            return network(x)[0, 0].item()

    def timed(work):
        started = time.perf_counter()
        result = work()
        return time.perf_counter() - started, result

    # CUDA graphs are recorded in the second and third run.
    model.train()
    losses = [step() for _ in range(3 if args.compile else 1)]
    times = []
    for _ in range(args.steps):
        seconds, loss = timed(step)
        times.append(seconds)
        losses.append(loss)
    model.eval()
    for _ in range(3 if args.compile else 1):
        forward()
    forwards = [timed(forward)[0] for _ in range(args.forwards)]

    parts = [args.layout, "compile" if args.compile else "eager"]
    parts += ["CUDA graphs"] * args.graphs + (["TF32" if args.tf32 else "TF32 off"] if args.device == "cuda" else [])
    name = torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(json.dumps({
        "peer": "pytorch", "version": torch.__version__, "backend": f"{args.device}, {', '.join(parts)}", "device": name,
        "seconds_per_step": float(np.median(times)), "fastest": min(times), "steps": len(times),
        "seconds_per_forward": float(np.median(forwards)), "loss": losses[-1], "losses": losses[:3] if args.model == "resnet20" else [],
    }))


if __name__ == "__main__":
    main()
