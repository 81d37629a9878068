"""Forward passes of CIFAR's ResNet-20 as floats on the CPU: PyTorch's own, and onnxruntime on a network that `s3gpu export --format onnx`
wrote. The ways take turns. Prints one JSON line."""

import argparse
import json
import os
import sys
import time

import numpy as np
import onnxruntime
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "pytorch"))
from peer import ResNet20  # noqa: E402

SINGLES = 4  # single images in a round, as in `s3gpu bench inference`


def pytorch(layout, batch):
    memory = torch.channels_last if layout == "channels-last" else torch.contiguous_format
    model = ResNet20()
    model.fill()
    model = model.eval().to(memory_format=memory)
    x = torch.rand(batch, 3, 32, 32).to(memory_format=memory)

    def forward(n):
        with torch.inference_mode():
            model(x[:n])

    return forward


def onnx(path, batch):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    # The file takes pixels, as s3gpu does.
    x = np.random.default_rng(1).integers(0, 256, (batch, *entry.shape[1:]), dtype=np.uint8)
    return lambda n: session.run(None, {entry.name: x[:n]})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("onnx")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=11)
    args = parser.parse_args()
    ways = {f"PyTorch {torch.__version__} CPU, fp32, {layout}": pytorch(layout, args.batch) for layout in ("channels-last", "nchw")}
    ways[f"onnxruntime {onnxruntime.__version__} CPU, fp32"] = onnx(args.onnx, args.batch)
    times = {name: ([], []) for name in ways}
    for forward in ways.values():
        forward(args.batch)
        forward(1)
    for _ in range(args.steps):
        for name, forward in ways.items():
            for n, all_times in ((args.batch, times[name][0]), *[(1, times[name][1])] * SINGLES):
                started = time.perf_counter()
                forward(n)
                all_times.append(time.perf_counter() - started)
    rows = [
        {
            "name": name, "batch_seconds": float(np.median(batch)), "batch_fastest": min(batch),
            "image_seconds": float(np.median(image)), "image_p90": float(np.quantile(image, 0.9)),
        }
        for name, (batch, image) in times.items()
    ]
    print(json.dumps({"threads": torch.get_num_threads(), "rows": rows}))


if __name__ == "__main__":
    main()
