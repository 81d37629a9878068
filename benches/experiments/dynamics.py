"""Each epoch's weight dynamics of some runs as one CSV, from their metrics.jsonl: `python dynamics.py RUN... > dynamics.csv`."""

import csv
import json
import pathlib
import sys

KEYS = ["wsvr", "wsvr_zero", "through_zero", "wlvr", "zero", "lowest"]
out = csv.writer(sys.stdout, lineterminator="\n")
out.writerow(["run", "epoch", *KEYS, "latent_wsvr"])
for run in map(pathlib.Path, sys.argv[1:]):
    for record in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        if record["kind"] == "dynamics" and record["steps"] > 0:
            whole = record["whole"]
            shares = [*(whole.get(key) for key in KEYS), (whole.get("latent") or {}).get("wsvr")]
            out.writerow([run.name, record["epoch"] + 1, *("" if v is None else f"{v:.5f}" for v in shares)])
