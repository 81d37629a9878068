"""Holds exports against programs that share nothing with s3gpu: the integer network in NumPy, the float one in onnxruntime.

    s3gpu export RUN --out m.safetensors --json         # prints the logits' hash
    s3gpu export RUN --format npz --out m.npz
    s3gpu export RUN --format onnx --out m.onnx
    python scripts/check_exports.py DIR --npz m.npz --onnx m.onnx [--images N]

DIR holds CIFAR-10's test_batch.bin. Needs numpy, and onnxruntime for --onnx.
"""

import argparse
import json
import pathlib

import numpy as np


def round_shift(x, n):
    return (x + (1 << (n - 1)) if n else x) >> n


def windows(x, k, stride, pad):
    """[N, C, H, W] to [N, C, oh, ow, k, k]; the padding is 0."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    return np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::stride, ::stride]


def integer_logits(npz, pixels):
    """int32 logits [N, classes] of u8 pixels [N, C, H, W], as shared integer semantics define them."""
    outputs, nodes = [], json.loads(bytes(npz["graph"]))
    for node in nodes:
        name, op = node["name"], node["op"]
        inputs = [outputs[i] for i in node["inputs"]]
        exponents = [nodes[i]["exponent"] for i in node["inputs"]]
        low, high = {"i8": (-128, 127), "u8": (0, 255), "i32": (None, None)}[node["kind"]]
        kind, p = next(iter(op.items())) if isinstance(op, dict) else (op, {})
        if kind == "input":
            lut = npz[name + ".lut"].astype(np.int64)
            y = np.stack([lut[c][pixels[:, c]] for c in range(pixels.shape[1])], axis=1)
        elif kind == "conv":
            x = windows(inputs[0], p["kernel"], p["stride"], p["pad"]).astype(np.float64)
            # Exact: all sums are below 2^53.
            w = npz[name + ".weight"].astype(np.float64)
            acc = np.einsum("ncyxij,oijc->noyx", x, w, optimize=True).astype(np.int64)
            acc = round_shift(acc, p["preshift"])
            m, b, n = (npz[f"{name}.{k}"].astype(np.int64)[:, None, None] for k in ("multiplier", "bias", "shift"))
            y = np.clip((acc * m + b + (1 << (n - 1))) >> n, low, high)
        elif kind == "add":
            base = min(*exponents, node["exponent"])
            total = sum(x << (e - base) for x, e in zip(inputs, exponents))
            y = np.clip(round_shift(total, node["exponent"] - base), low, high)
        elif kind == "pad_shortcut":
            x = inputs[0][:, :, :: p["stride"], :: p["stride"]]
            front = (node["shape"]["c"] - x.shape[1]) // 2
            y = np.pad(x, ((0, 0), (front, front), (0, 0), (0, 0)))
        elif kind == "max_pool":
            y = windows(inputs[0], p["kernel"], p["stride"], p["pad"]).max(axis=(4, 5))
        elif kind == "global_sum":
            y = round_shift(inputs[0].sum(axis=(2, 3)), p["preshift"])
        elif kind == "linear":
            y = inputs[0] @ npz[name + ".weight"].astype(np.int64).T + npz[name + ".bias"]
        outputs.append(y)
    assert np.abs(outputs[-1]).max() < 2**31
    return outputs[-1].astype("<i4")


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & (2**64 - 1)
    return h


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--npz")
    parser.add_argument("--onnx")
    parser.add_argument("--images", type=int)
    args = parser.parse_args()
    records = np.fromfile(args.folder / "test_batch.bin", np.uint8).reshape(-1, 3073)[: args.images]
    labels, pixels = records[:, 0], records[:, 1:].reshape(-1, 3, 32, 32)
    batches = [slice(i, i + 100) for i in range(0, len(labels), 100)]

    def report(what, logits):
        top1 = 100 * np.mean(logits.argmax(axis=1) == labels)
        print(f"{what}: top-1 {top1:.2f} % of {len(labels)} images")

    if args.npz:
        npz = np.load(args.npz)
        logits = np.concatenate([integer_logits(npz, pixels[b]) for b in batches])
        report("numpy, integers", logits)
        print(f"logits hash {fnv1a(logits.tobytes()):016x}")
    if args.onnx:
        import onnxruntime

        session = onnxruntime.InferenceSession(args.onnx, providers=["CPUExecutionProvider"])
        report("onnxruntime", np.concatenate([session.run(None, {"pixels": pixels[b]})[0] for b in batches]))


main()
