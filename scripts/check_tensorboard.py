"""Holds a run's event file against its log, as TensorBoard itself reads it: every scalar, every histogram's count.

    s3gpu train ... --tensorboard --out RUN
    python scripts/check_tensorboard.py RUN

Needs tensorboard.
"""

import collections
import json
import pathlib
import sys

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

RATES = {"wsvr", "wsvr_zero", "wlvr", "zero", "lowest", "through_zero"}


def expected(log):
    """{tag: [(step, value)]} of scalars, and {tag: [(step, count)]} of histograms."""
    scalars, histograms = collections.defaultdict(list), collections.defaultdict(list)
    for record in map(json.loads, log.read_text().splitlines()):
        kind = record["kind"]
        if kind == "dynamics":
            for layer in [{"name": "whole", **record["whole"]}, *record["layers"]]:
                rates = {key: layer.get(key) for key in RATES}
                rates |= {f"latent_{key}": (layer.get("latent") or {}).get(key) for key in ("wsvr", "wlvr")}
                for rate, value in rates.items():
                    if value is not None:
                        scalars[f"{rate}/{layer['name']}"].append((record["steps"], value))
                histograms[f"levels/{layer['name']}"].append((record["steps"], layer["count"]))
            continue
        if kind == "train":
            values = {"loss": record["loss"], "top1": 100 * record["correct"] / record["count"], "learning_rate": record["lr"]}
            values |= {key: record[key] for key in ("regularizer", "images_per_s")}
        else:
            values = {key: record[key] for key in ("loss", "top1", "top5")}
        group = {"train": "train", "eval": "test", "int": "integer"}[kind]
        for key, value in values.items():
            scalars[f"{group}/{key}"].append((record["step"] + 1, value))
    return scalars, histograms


def main():
    run = pathlib.Path(sys.argv[1])
    scalars, histograms = expected(run / "metrics.jsonl")
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "histograms": 0})
    events.Reload()
    tags = events.Tags()
    assert sorted(tags["scalars"]) == sorted(scalars), set(tags["scalars"]) ^ set(scalars)
    assert sorted(tags["histograms"]) == sorted(histograms), set(tags["histograms"]) ^ set(histograms)
    for tag, want in scalars.items():
        got = [(e.step, e.value) for e in events.Scalars(tag)]
        assert [s for s, _ in got] == [s for s, _ in want], (tag, got, want)
        assert np.allclose([v for _, v in got], [v for _, v in want], rtol=1e-6), (tag, got, want)
    for tag, want in histograms.items():
        got = [(e.step, e.histogram_value.num) for e in events.Histograms(tag)]
        assert got == want, (tag, got, want)
    print(f"{sum(map(len, scalars.values()))} scalars and {sum(map(len, histograms.values()))} histograms are those of the log")


main()
