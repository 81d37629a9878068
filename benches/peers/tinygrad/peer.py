"""ResNet-20's training step and forward pass in tinygrad, each captured by its TinyJit. Prints one JSON line.

The environment picks the device, as it always does in tinygrad: DEV=CPU, DEV=CPU:LLVM, DEV=WEBGPU and so on.
"""

import argparse
import json
import os
import statistics
import sys
import time
from importlib.metadata import version

from tinygrad import Context, Device, Tensor, TinyJit, nn

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from values import CLASSES, SIDE, images, labels, layers


class Block:
    """Two 3x3 convolutions beside the identity; a stride takes every second pixel and centres the channels among zeros."""

    def __init__(self, cin, cout, stride):
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.stride, self.channels = stride, (cout - cin) // 2

    def __call__(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y))
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride].pad((None, (self.channels, self.channels), None, None))
        return (y + x).relu()


class ResNet20:
    def __init__(self):
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        shapes = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
        self.blocks = [Block(*s) for s in shapes]
        self.fc = nn.Linear(64, CLASSES)

    def __call__(self, x):
        x = self.bn1(self.conv1(x)).relu().sequential(self.blocks)
        return self.fc(x.mean((2, 3)))

    def fill(self):
        """Sets the weights that every peer starts from."""
        convolutions = [self.conv1] + [c for b in self.blocks for c in (b.conv1, b.conv2)]
        for layer, (shape, values) in zip([*convolutions, self.fc], layers(), strict=True):
            layer.weight.assign(Tensor(values.reshape(shape))).realize()
        self.fc.bias.assign(Tensor.zeros(CLASSES)).realize()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--forwards", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    args = parser.parse_args()

    model = ResNet20()
    model.fill()
    x = Tensor(images(args.batch).reshape(args.batch, 3, SIDE, SIDE)).realize()
    y = Tensor(labels(args.batch).astype("int32")).realize()
    optimizer = nn.optim.SGD(nn.state.get_parameters(model), lr=0.1, momentum=0.9, weight_decay=1e-4, classic=True)

    @TinyJit
    def step():
        optimizer.zero_grad()
        loss = model(x).sparse_categorical_crossentropy(y).backward()
        return loss.realize(*optimizer.schedule_step())

    @TinyJit
    def forward():
        return model(x).realize()

    def timed(work):
        started = time.perf_counter()
        result = work().numpy()
        return time.perf_counter() - started, result

    # The first run compiles, the second captures; the third is the first one that replays.
    with Context(TRAINING=1):
        losses = [float(timed(step)[1]) for _ in range(2)]
        times = []
        for _ in range(args.steps):
            seconds, loss = timed(step)
            times.append(seconds)
            losses.append(float(loss))
    for _ in range(2):
        timed(forward)
    forwards = [timed(forward)[0] for _ in range(args.forwards)]

    renderer = type(Device[Device.DEFAULT].renderer).__name__
    print(json.dumps({
        "peer": "tinygrad", "version": version("tinygrad"), "backend": f"{Device.DEFAULT}, {renderer}",
        "device": Device.DEFAULT, "seconds_per_step": statistics.median(times), "fastest": min(times), "steps": len(times),
        "seconds_per_forward": statistics.median(forwards), "loss": losses[-1], "losses": losses[:3],
    }))


if __name__ == "__main__":
    main()
