#!/usr/bin/env python3
"""Runs s3gpu, every peer, and s3gpu again, one at a time, and writes the table of their times to benches/results.

Needs nothing but Python; virtual environments and builds are kept in target/peers. See README.md beside this file.
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / "target" / "peers"
PACKAGES = {
    "pytorch": ["torch==2.15.0", "numpy==2.4.6"],
    # dawn-python brings WebGPU; ziglang brings the clang that tinygrad's CPU device calls.
    "tinygrad": ["tinygrad==0.14.0", "numpy==2.4.6", "dawn-python==0.3.0", "ziglang==0.15.2"],
}
CRATES = ["burn", "candle", "meganeura"]


class Failed(Exception):
    """A peer that gave no figures; says how."""


def run(command, timeout, env=None, cwd=ROOT):
    """Runs a command in a process group of its own and returns its standard output. Raises Failed on anything but success."""
    try:
        child = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **(env or {})}, text=True, errors="replace", stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )
    except OSError as error:
        raise Failed(f"{command[0]}: {error.strerror}") from None
    try:
        out, err = child.communicate(timeout=timeout)
    except BaseException as why:
        os.killpg(child.pid, signal.SIGKILL)
        _, err = child.communicate()
        if not isinstance(why, subprocess.TimeoutExpired):
            raise
        raise Failed(f"stopped after {timeout:.0f} s{said(err)}") from None
    if child.returncode < 0:
        raise Failed(f"ended by {signal.Signals(-child.returncode).name}{said(err)}")
    if child.returncode:
        raise Failed(f"exit code {child.returncode}{said(err or out)}")
    return out


def said(text):
    """What a program's last words say about its error, in one line."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return ", without a message"
    panics = [i for i, line in enumerate(lines) if "panicked at" in line]
    errors = [i for i, line in enumerate(lines) if re.search(r"error|exception|fail", line, re.IGNORECASE)]
    if panics:
        words = " ".join(lines[panics[0] : panics[0] + 2])
    else:
        words = lines[errors[-1] if errors else -1]
    for path in (str(ROOT), str(Path.home())):
        words = words.replace(path, "…")
    return ": " + (words if len(words) <= 240 else words[:240] + " …")


def install(peer, timeout):
    """Creates the virtual environment of a Python peer where its pinned packages are not there yet; returns its interpreter."""
    folder = CACHE / peer
    python, done = folder / "bin" / "python", folder / "installed.json"
    if done.exists() and json.loads(done.read_text()) == PACKAGES[peer]:
        return python
    print(f"  installing {' '.join(PACKAGES[peer])}", flush=True)
    run([sys.executable, "-m", "venv", folder], timeout)
    run([python, "-m", "pip", "install", "--quiet", *PACKAGES[peer]], timeout)
    if peer == "tinygrad":
        clang = folder / "bin" / "clang"
        clang.write_text(f'#!/bin/sh\nexec "{library(folder, "ziglang/zig")}" clang "$@"\n')
        clang.chmod(0o755)
    done.write_text(json.dumps(PACKAGES[peer]))
    return python


def library(folder, pattern):
    return next(iter(folder.glob(f"lib/python*/site-packages/{pattern}")), "")


def build(peer, timeout):
    """Builds a Rust peer; returns its program."""
    env = {"CARGO_TARGET_DIR": str(CACHE / peer)}
    print("  cargo build", flush=True)
    run(["cargo", "build", "--release", "--locked", "--quiet"], timeout, env, HERE / peer)
    return CACHE / peer / "release" / f"peer-{peer}"


def subjects(slow):
    """(name, peer, arguments, environment, seconds allowed) in the order of running."""
    step = ["bench", "step", "--model", "resnet20", "--batch-size", "128", "--steps", "5"]
    ours = [
        ("s3gpu fp32", "s3gpu", [*step, "--method", "fp32", "--json"], {}, 60),
        ("s3gpu S3 3-bit", "s3gpu", [*step, "--method", "s3", "--bits", "3", "--json"], {}, 60),
    ]
    yield from ours
    torch = [
        ("eager, channels-last", [], 40),
        ("eager, NCHW", ["--layout", "nchw"], 40),
        ("torch.compile, channels-last", ["--compile"], 100),
    ]
    for name, flags, seconds in torch:
        yield f"PyTorch CPU, {name}", "pytorch", [*flags, "--steps", "5", "--forwards", "5"], {}, seconds
    if shutil.which("nvidia-smi"):
        for tf32 in ([], ["--tf32"]):
            for name, flags, seconds in [*torch, ("torch.compile, CUDA graphs", ["--compile", "--graphs"], 100)]:
                label = f"PyTorch CUDA, {name}, TF32 {'on' if tf32 else 'off'}"
                flags = ["--device", "cuda", *tf32, *flags, "--steps", "20", "--forwards", "20"]
                yield label, "pytorch", flags, {}, seconds
                # Larger work, each beside the same in s3gpu.
                for model, batch in (("resnet20", 512), ("resnet18", 64)):
                    more = ["--model", model, "--batch", str(batch)]
                    yield f"{label}, {model}, batch {batch}", "pytorch", [*flags, *more], {}, seconds
        for model, batch, more in (("resnet20", 512, []), ("resnet18", 64, ["--image-size", "224", "--classes", "1000"])):
            work = ["bench", "step", "--model", model, "--batch-size", str(batch), *more, "--steps", "20", "--method", "fp32", "--json"]
            yield f"s3gpu fp32, {model}, batch {batch}", "s3gpu", work, {}, 120
    yield "burn, Flex (CPU)", "burn", ["--backend", "flex", "--steps", "4", "--forwards", "3"], {}, 40
    if slow:
        yield "burn, ndarray (CPU)", "burn", ["--backend", "ndarray", "--steps", "1", "--forwards", "1"], {}, 120
    yield "burn, Vulkan", "burn", ["--backend", "vulkan", "--steps", "1", "--forwards", "1"], {}, 60
    yield "candle, CPU", "candle", ["--steps", "2", "--forwards", "2"], {}, 60
    yield "meganeura, Vulkan", "meganeura", ["--steps", "1", "--forwards", "1"], {}, 120
    yield "tinygrad, CPU (clang)", "tinygrad", ["--steps", "2", "--forwards", "2"], {"DEV": "CPU"}, 90
    yield "tinygrad, WebGPU", "tinygrad", ["--steps", "1", "--forwards", "1"], {"DEV": "WEBGPU"}, 110
    yield from [(f"{name}, again", *rest) for name, *rest in ours]


def measure(peer, flags, env, seconds, install_seconds):
    """Installs or builds, runs, and returns the figures that the program printed last."""
    if peer == "s3gpu":
        run(["cargo", "build", "--release", "--quiet"], install_seconds)
        command = ["cargo", "run", "--release", "--quiet", "--", *flags]
    elif peer in CRATES:
        command = [build(peer, install_seconds), *flags]
    else:
        command = [install(peer, install_seconds), HERE / peer / "peer.py", *flags]
        env = {**env, "PYTHONDONTWRITEBYTECODE": "1"}
    if peer == "tinygrad":
        folder = CACHE / peer
        dawn = library(folder, f"pydawn/lib/libwebgpu_dawn_{platform.machine()}.so")
        env |= {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "WEBGPU_PATH": str(dawn)}
    out = run([str(word) for word in command], seconds, env)
    try:
        figures = json.loads(out.splitlines()[-1])
        float(figures["seconds_per_step"])
        if peer == "s3gpu":
            # Its report holds every kernel; the table wants the whole.
            keep = ["seconds_per_step", "seconds_per_forward", "adapter", "driver", "version", "dispatches"]
            fastest = {"fastest": figures["seconds_fastest"], "steps": 5} if "seconds_fastest" in figures else {}
            figures = {"peer": peer, **{k: figures[k] for k in keep if k in figures}, **fastest}
        return figures
    except (IndexError, ValueError, KeyError, TypeError):
        raise Failed(f"printed no figures{said(out)}") from None


def machine():
    """The processor in words."""
    try:
        model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"


def commit():
    try:
        head = run(["git", "rev-parse", "--short", "HEAD"], 10).strip()
        return head + (" with changes" if run(["git", "status", "--porcelain", "--untracked-files=no"], 10).strip() else "")
    except Failed:
        return "unknown"


def table(report):
    """The report as Markdown."""
    lines = [
        f"# {report['date']}: one training step of ResNet-20 beside other systems",
        "",
        "Batch 128, 3 x 32 x 32, fp32 but for the rows that say S3: forward in training mode, softmax cross-entropy, backward, SGD",
        f"with momentum and weight decay; the forward pass alone in evaluation mode. One system after the other on {report['machine']}.",
        f"s3gpu: {report['adapter']}, commit {report['commit']}. `benches/peers/run.py`, {report['seconds']:.0f} s in all.",
        "",
        "| system | version | s a step, median (fastest, steps) | s a forward pass | losses of the first steps | device |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        f = row.get("figures")
        if not f:
            lines.append(f"| {row['name']} | | no figure: {row['failed'].replace('|', '/')} | | | |")
            continue
        step = f"{f['seconds_per_step']:.3f}"
        if "fastest" in f:
            step += f" ({f['fastest']:.3f}, {f.get('steps', '?')})"
        forward = f"{f['seconds_per_forward']:.3f}" if f.get("seconds_per_forward") is not None else ""
        losses = ", ".join(f"{loss:.3f}" for loss in f.get("losses", []))
        device = f.get("device") or f.get("adapter") or ""
        lines.append(f"| {row['name']} | {f.get('version', '')} | {step} | {forward} | {losses} | {device} |")
    notes = {row["figures"]["peer"]: row["figures"]["note"] for row in report["rows"] if row.get("figures", {}).get("note")}
    lines += ["", "The peers start from the same weights and see the same images: equal losses show equal work."]
    lines += [f"{peer}: {note}." for peer, note in notes.items()]
    return "\n".join(lines) + "\n"


def write(path, text):
    """To a temporary name, synced, renamed."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="a regular expression that the names of the rows to run match")
    parser.add_argument("--slow", action="store_true", help="also burn's older CPU backend, which takes half a minute a step")
    parser.add_argument("--prepare", action="store_true", help="install and build, measure nothing")
    parser.add_argument("--machine", help="the machine's kind in the results' name; default: from the adapter")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="folder of the results")
    parser.add_argument("--install-timeout", type=float, default=3600, help="seconds for each installation or build")
    args = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)

    if args.prepare:
        for peer in [*PACKAGES, *CRATES]:
            try:
                print(peer, flush=True)
                (install if peer in PACKAGES else build)(peer, args.install_timeout)
            except Failed as failed:
                print(f"  {failed}")
        return

    rows, measured = [], 0.0
    for name, peer, flags, env, seconds in subjects(args.slow):
        if args.only and not re.search(args.only, name):
            continue
        print(name, flush=True)
        row, started = {"name": name}, time.monotonic()
        try:
            row["figures"] = measure(peer, flags, env, seconds, args.install_timeout)
            print(f"  {row['figures']['seconds_per_step']:.3f} s a step", flush=True)
        except Failed as failed:
            row["failed"] = str(failed)
            print(f"  {failed}", flush=True)
        row["wall_seconds"] = round(time.monotonic() - started, 1)
        measured += row["wall_seconds"]
        rows.append(row)

    ours = [row["figures"] for row in rows if row["name"].startswith("s3gpu") and "figures" in row]
    adapter = ", ".join(ours[0][k] for k in ("adapter", "driver") if k in ours[0]) if ours else "not measured"
    kind = args.machine or ("lavapipe" if "llvmpipe" in adapter else re.sub(r"[^a-z0-9]+", "-", adapter.lower()).strip("-"))
    report = {
        "date": datetime.date.today().isoformat(), "machine": machine(), "adapter": adapter, "commit": commit(),
        "seconds": measured, "rows": rows,
    }
    name = f"{report['date']}-peers-{kind[:40]}"
    write(args.out / f"{name}.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write(args.out / f"{name}.md", table(report))
    print(f"\n{table(report)}\nwritten to {args.out / name}.md and .json")


if __name__ == "__main__":
    main()
