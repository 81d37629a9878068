#!/usr/bin/env python3
"""Top-1 of trained networks before and after they became integers, as a table in benches/results.

    benches/accuracy.py RUN...                       # runs that there are
    benches/accuracy.py --train --data-dir D         # trains ResNet-8 with S3 at 2, 3 and 4 bits on CIFAR-10 first, below runs/

Each run is exported with every K of --terms, and so measured on the whole test set. Needs nothing but Python and the binary
(`cargo build --release`); what was written before under the same name is replaced.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BITS = [2, 3, 4]
RECIPE = "--dataset cifar10 --model resnet8 --method s3 --latent-lr 30 --batch-size 128 --seed 1".split()


def run(*command):
    """Standard output of a command; its errors are shown, and end this."""
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}")
    return done.stdout


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


def train(s3gpu, args):
    """The runs' folders; those that are finished are left as they are, the others go on."""
    folders = []
    for bits in BITS:
        out = args.runs / f"cifar10-resnet8-s3-{bits}bit"
        data = ["--data-dir", args.data_dir] if args.data_dir else []
        new = [*RECIPE, "--bits", bits, "--epochs", args.epochs, "--out", out, *data]
        run(s3gpu, "train", *(["--resume", out] if (out / "last.safetensors").exists() else new))
        folders.append(out)
    return folders


def measure(s3gpu, source, terms, data_dir):
    """The export's report for each K, after the summary of the run."""
    info = last_json(run(s3gpu, "info", source, "--json"))
    # Where things lie on this machine is nobody's business.
    config = {key: v for key, v in info["config"].items() if key not in ("data-dir", "init")}
    summary = {key: v for key, v in info["summary"].items() if key != "path"}
    found = []
    for k in terms:
        with tempfile.TemporaryDirectory() as folder:
            data = ["--data-dir", data_dir] if data_dir else []
            out = run(s3gpu, "export", source, "--terms", k, "--out", Path(folder) / "m.safetensors", "--json", *data)
        report = last_json(out)
        found.append({"terms": k, **{key: report[key] for key in ("accuracy", "logits_hash", "bytes", "all")}})
        print(f"{source}, K = {k}: {report['accuracy']}", file=sys.stderr)
    return {"summary": summary, "config": config, "exports": found}


def title(run):
    """Network, method, data set and epochs of a run."""
    done = "" if run["epochs_done"] == run["epochs"] else f"{run['epochs_done']:g} of "
    return f"{run['model']} {run['method']} on {run['dataset']}, {done}{run['epochs']} epochs"


def table(measured):
    yield "| network | K | float top-1 | integer top-1 | difference | same class | weights as integers (fp32) | logits hash |"
    yield "|---|---|---|---|---|---|---|---|"
    for source in measured:
        for e in source["exports"]:
            a, size = e["accuracy"], [f"{e['all'][key] / 1024:.0f} KiB" for key in ("packed_bytes", "float_bytes")]
            change = a["int_top1"] - a["float_top1"]
            yield (
                f"| {title(source['summary'])} | {e['terms']} | {a['float_top1']:.2f} % | {a['int_top1']:.2f} % | {change:+.2f} "
                f"| {a['agreement']:.2f} % | {size[0]} ({size[1]}) | {e['logits_hash']} |"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--train", action="store_true", help="train the three networks first, or go on with them")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="where --train puts its runs")
    parser.add_argument("--data-dir", type=Path, help="where the data set is, if not where the run says")
    parser.add_argument("--terms", default="1,2,3", help="values of K, by commas")
    parser.add_argument("--s3gpu", type=Path, default=ROOT / "target" / "release" / "s3gpu")
    parser.add_argument("--out", type=Path, help="without its .md and .json [default: benches/results/DATE-integers]")
    args = parser.parse_args()
    sources = (train(args.s3gpu, args) if args.train else []) + args.sources
    if not sources:
        parser.error("name runs, or let --train make them")
    measured = [measure(args.s3gpu, s, [int(k) for k in args.terms.split(",")], args.data_dir) for s in sources]
    commit = run("git", "-C", ROOT, "rev-parse", "--short", "HEAD").strip()
    dirty = " with changes" if run("git", "-C", ROOT, "status", "--porcelain", "src", "shaders").strip() else ""
    adapter = run(args.s3gpu, "devices").splitlines()[0]
    date = datetime.date.today().isoformat()
    out = args.out or ROOT / "benches" / "results" / f"{date}-integers"
    lines = [
        f"# {date}: accuracy as integers",
        "",
        "8-bit activations, exponents calibrated on the first 1,024 training images; all test images. The float network ran on",
        f"{adapter}, the integers on the CPU. Commit {commit}{dirty}.",
        "",
        *table(measured),
        "",
        "The difference is in percentage points. K is the number of shifts and additions that a change of scale may take.",
        f"Made by `benches/accuracy.py --terms {args.terms}` of runs of `s3gpu train {' '.join(RECIPE)} --bits B --epochs {args.epochs}`"
        if args.train
        else f"Made by `benches/accuracy.py --terms {args.terms}` of runs whose settings are in the .json beside this.",
    ]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    data = {"date": date, "commit": commit + dirty, "adapter": adapter, "measured": measured}
    out.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
