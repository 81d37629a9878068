#!/usr/bin/env python3
"""Inference in one run: `s3gpu bench inference` on an integer network, PyTorch and onnxruntime as floats on the CPU, and s3gpu again;
writes the table to benches/results. Needs nothing but Python; see README.md beside this file."""

import argparse
import datetime
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True
import run as peers  # noqa: E402

peers.PACKAGES["inference"] = ["torch==2.15.0", "onnxruntime==1.32.0", "numpy==2.4.6"]


def last_line(command, timeout):
    out = peers.run([str(word) for word in command], timeout, {"PYTHONDONTWRITEBYTECODE": "1"})
    return json.loads(out.splitlines()[-1])


def table(report):
    lines = [
        f"# {report['date']}: inference beside other systems",
        "",
        f"{report['network']}, {report['machine']}. s3gpu: {report['adapter']}, commit {report['commit']}. Milliseconds; the ways of a",
        "program take turns. A pass of s3gpu runs from pixels on the device to logits there. `benches/peers/inference.py`.",
        "",
        f"| | multiplies | batch {report['batch']}: median | fastest | images/s | one image: median | p90 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        multiplies = {True: "yes", False: "no"}.get(row.get("multiplies"), "")
        ms = [1e3 * row[key] for key in ("batch_seconds", "batch_fastest", "image_seconds", "image_p90")]
        rate = report["batch"] / row["batch_seconds"]
        lines.append(f"| {row['name']} | {multiplies} | {ms[0]:.1f} | {ms[1]:.1f} | {rate:.0f} | {ms[2]:.2f} | {ms[3]:.2f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="integer network, as `s3gpu export` writes it")
    parser.add_argument("onnx", type=Path, help="the same as floats, as `s3gpu export --format onnx` writes it")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=11)
    parser.add_argument("--machine", default="lavapipe", help="the machine's kind in the results' name")
    parser.add_argument("--out", type=Path, default=peers.ROOT / "benches" / "results", help="folder of the results")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for each program, and for each installation")
    args = parser.parse_args()
    peers.CACHE.mkdir(parents=True, exist_ok=True)
    python = peers.install("inference", args.timeout)
    size = ["--steps", args.steps]
    ours = ["cargo", "run", "--release", "--quiet", "--", "bench", "inference", args.model.resolve(), "--json"]
    ours += [*size, "--batch-size", args.batch_size]
    first = last_line(ours, args.timeout)
    theirs = [python, peers.HERE / "inference" / "peer.py", args.onnx.resolve(), *size, "--batch", args.batch_size]
    others = last_line(theirs, args.timeout)
    again = last_line(ours, args.timeout)
    report = {
        "date": datetime.date.today().isoformat(), "machine": peers.machine(), "commit": peers.commit(), "adapter": first["adapter"],
        "network": first["network"], "batch": first["batch"], "convolutions": first["convolutions"],
        "rows": [*first["ways"], *others["rows"], *({**way, "name": way["name"] + ", again"} for way in again["ways"])],
    }
    name = f"{report['date']}-inference-{args.machine}"
    peers.write(args.out / f"{name}.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    peers.write(args.out / f"{name}.md", table(report))
    print(f"{table(report)}\nwritten to {args.out / name}.md and .json")


if __name__ == "__main__":
    main()
