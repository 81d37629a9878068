//! What a measurement found: as a table, as JSON, and beside an older one.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ceilings::Ceilings;
use super::workload::Named;
use crate::error::{Error, Result};

/// A distinct dispatch of the training step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Kernel.
    pub kernel: String,
    /// The first layer that it serves with these parameters.
    pub layer: String,
    /// Dispatches of it in the step.
    pub times: usize,
    /// Median seconds of one.
    pub seconds: f64,
    /// Operations of one; a multiply-add is two.
    pub flops: f64,
    /// The fewest bytes that one must read and write.
    pub bytes: f64,
    /// The least seconds that the adapter's ceilings allow for one.
    pub floor: f64,
    /// floor / seconds; above 1 where a cache is faster than the copy between large buffers.
    pub share: f64,
}

/// Everything that `s3gpu bench kernels` and `s3gpu bench step` measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Median seconds of a training step as training runs it, the upload of its batch included.
    pub seconds_per_step: f64,
    /// The fastest of them.
    pub seconds_fastest: f64,
    /// Median seconds of a forward pass in evaluation form.
    pub seconds_per_forward: f64,
    /// Images trained on a second.
    pub images_per_s: f64,
    /// Adapter.
    pub adapter: String,
    /// Its driver.
    pub driver: String,
    /// Commit, where the program was started by cargo in a git checkout, or `S3GPU_COMMIT` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Version of s3gpu.
    pub version: String,
    /// Model, width, shortcut, method, batch.
    #[serde(flatten)]
    pub workload: Named,
    /// Dispatches of a step.
    pub dispatches: usize,
    /// Seconds that the host takes to record and submit a step.
    pub host_seconds: f64,
    /// Operations of a step.
    pub flops: f64,
    /// The fewest bytes that the step's dispatches must read and write.
    pub bytes: f64,
    /// Sum of the dispatches' floors.
    pub floor: f64,
    /// floor / seconds_per_step.
    pub share: f64,
    /// Bytes of all buffers of the plan.
    pub memory_bytes: u64,
    /// Bytes that the device's allocator held after three steps and after the timed ones; 0 where the backend does not tell.
    #[serde(default)]
    pub allocated: [u64; 2],
    /// What the parts were timed with.
    pub clock: String,
    /// The adapter's ceilings.
    pub ceilings: Ceilings,
    /// Where the convolution rungs come from.
    #[serde(default)]
    pub rung_order: String,
    /// Convolution rungs, by `direction:layer`.
    pub rungs: BTreeMap<String, String>,
    /// The step's distinct dispatches.
    pub parts: Vec<Part>,
}

/// A line of the table: dispatches that belong together.
struct Row {
    name: String,
    layer: String,
    times: usize,
    seconds: f64,
    flops: f64,
    bytes: f64,
    floor: f64,
}

impl Report {
    /// The last line of a file that `--json` wrote, with or without the table before it.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Usage`] where that line is no report.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        let last = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or_default();
        serde_json::from_str(last).map_err(|e| {
            let what = format!("--compare {}: its last line is no report of `s3gpu bench`: {e}", path.display());
            Error::usage(what, "write one with `s3gpu bench step --json > FILE`")
        })
    }

    /// The step in whole.
    pub fn summary(&self) -> String {
        let mut s = String::new();
        let (gflop, mb) = (self.flops / 1e9, self.bytes / 1e6);
        let _ = writeln!(
            s,
            "step     {:.4} s (fastest {:.4}), {:.1} images/s\nforward  {:.4} s, {:.1} images/s",
            self.seconds_per_step,
            self.seconds_fastest,
            self.images_per_s,
            self.seconds_per_forward,
            f64::from(self.workload.batch) / self.seconds_per_forward
        );
        let _ = writeln!(
            s,
            "         {} dispatches, {:.2} ms on the host to record and submit them; {:.1} MB of buffers;\n         \
             {} bytes allocated after three steps, {} after the timed ones",
            self.dispatches,
            1e3 * self.host_seconds,
            self.memory_bytes as f64 / 1e6,
            self.allocated[0],
            self.allocated[1]
        );
        let _ = writeln!(
            s,
            "work     {gflop:.2} GFLOP and at least {mb:.1} MB: {:.1} GFLOP/s, {:.2} GB/s",
            gflop / self.seconds_per_step,
            mb / 1e3 / self.seconds_per_step
        );
        let _ = writeln!(
            s,
            "ceilings {:.1} GFLOP/s of multiply-adds, {:.2} GB/s of copying: floor {:.4} s, of which the step reaches {:.1} %",
            self.ceilings.flops_per_s / 1e9,
            self.ceilings.bytes_per_s / 1e9,
            self.floor,
            100.0 * self.share
        );
        let _ = writeln!(s, "parts by {}\n\nrungs: {}", self.clock, self.rung_order);
        s.push_str(&self.rungs_table());
        s
    }

    /// The rung of every convolution, layers with the same three on one line.
    fn rungs_table(&self) -> String {
        let mut layers: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for (key, rung) in &self.rungs {
            if let Some((direction, layer)) = key.split_once(':') {
                layers.entry(layer).or_default().insert(direction, rung);
            }
        }
        let mut alike: BTreeMap<Vec<(&str, &str)>, Vec<&str>> = BTreeMap::new();
        for (layer, rungs) in layers {
            alike.entry(rungs.into_iter().collect()).or_default().push(layer);
        }
        let mut s = String::new();
        for (rungs, layers) in alike {
            let rungs: Vec<_> = rungs.into_iter().map(|(direction, rung)| format!("{direction} {rung}")).collect();
            let _ = writeln!(s, "{}\n    {}", rungs.join(", "), layers.join(" "));
        }
        s
    }

    /// A line for each distinct dispatch, the most expensive first.
    pub fn parts_table(&self) -> String {
        let row = |p: &Part| Row {
            name: p.kernel.clone(),
            layer: p.layer.clone(),
            times: p.times,
            seconds: p.times as f64 * p.seconds,
            flops: p.times as f64 * p.flops,
            bytes: p.times as f64 * p.bytes,
            floor: p.times as f64 * p.floor,
        };
        table(self.parts.iter().map(row).collect())
    }

    /// A line for each kernel, the most expensive first.
    pub fn kernels_table(&self) -> String {
        let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
        for p in &self.parts {
            let n = p.times as f64;
            let row = rows.entry(&p.kernel).or_insert_with(|| Row {
                name: p.kernel.clone(),
                layer: String::new(),
                times: 0,
                seconds: 0.0,
                flops: 0.0,
                bytes: 0.0,
                floor: 0.0,
            });
            row.times += p.times;
            row.seconds += n * p.seconds;
            row.flops += n * p.flops;
            row.bytes += n * p.bytes;
            row.floor += n * p.floor;
        }
        table(rows.into_values().collect())
    }
}

/// A table with its sum.
fn table(mut rows: Vec<Row>) -> String {
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let total: f64 = rows.iter().map(|r| r.seconds).sum();
    let floor: f64 = rows.iter().map(|r| r.floor).sum();
    let mut s = format!(
        "{:30} {:20} {:>4} {:>9} {:>8} {:>8} {:>9} {:>6} {:>6}\n",
        "kernel", "first layer", "n", "ms in all", "GFLOP/s", "GB/s", "floor ms", "reach", "share"
    );
    for r in &rows {
        let _ = writeln!(
            s,
            "{:30} {:20} {:>4} {:>9.3} {:>8.1} {:>8.2} {:>9.3} {:>5.0}% {:>5.1}%",
            r.name,
            r.layer,
            r.times,
            1e3 * r.seconds,
            r.flops / r.seconds / 1e9,
            r.bytes / r.seconds / 1e9,
            1e3 * r.floor,
            100.0 * r.floor / r.seconds,
            100.0 * r.seconds / total
        );
    }
    let _ = writeln!(s, "sum of all dispatches: {total:.4} s, floor {floor:.4} s");
    s.push_str("reach: the floor's part of the time; above 100 % where a cache beats the copy between large buffers\n");
    s
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::model::Shortcut;

    pub fn part(kernel: &str, layer: &str, times: usize, seconds: f64) -> Part {
        let (kernel, layer) = (kernel.into(), layer.into());
        Part { kernel, layer, times, seconds, flops: 1e6, bytes: 1e5, floor: seconds / 4.0, share: 0.25 }
    }

    pub fn report(seconds: f64, parts: Vec<Part>) -> Report {
        let workload = Named {
            model: "resnet8".into(),
            width: 1,
            shortcut: Shortcut::Pad,
            method: "s3 3-bit".into(),
            batch: 8,
            image: 32,
        };
        Report {
            seconds_per_step: seconds,
            seconds_fastest: seconds,
            seconds_per_forward: seconds / 3.0,
            images_per_s: 8.0 / seconds,
            adapter: "a card".into(),
            driver: "its driver".into(),
            commit: None,
            version: "0.1.0".into(),
            workload,
            dispatches: 100,
            host_seconds: 1e-3,
            flops: 1e9,
            bytes: 1e8,
            floor: seconds / 4.0,
            share: 0.25,
            memory_bytes: 1 << 20,
            allocated: [1 << 20; 2],
            clock: "wall time".into(),
            ceilings: Ceilings { bytes_per_s: 1e10, flops_per_s: 1e11 },
            rung_order: "built-in order".into(),
            rungs: [("forward:conv1".into(), "conv_forward_direct".into())].into(),
            parts,
        }
    }

    #[test]
    fn json_round_trip_from_the_last_line_of_a_file() {
        let mut wanted = report(0.123_456_789, vec![part("relu", "relu", 3, 1.5e-5)]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.json");
        for commit in [None, Some("abc1234".to_string())] {
            wanted.commit = commit;
            let json = serde_json::to_string(&wanted).unwrap();
            for text in [json.clone(), format!("a table\nof lines\n{json}\n\n")] {
                std::fs::write(&path, text).unwrap();
                assert_eq!(Report::read(&path).unwrap(), wanted);
            }
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            for key in ["seconds_per_step", "adapter", "model", "batch", "method", "ceilings", "rungs", "parts"] {
                assert!(value.get(key).is_some(), "{key} in {json}");
            }
        }
        for text in ["", "no json", "{\"seconds_per_step\": 1}"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(Report::read(&path), Err(Error::Usage { .. })));
        }
        assert!(matches!(Report::read(&folder.path().join("none")), Err(Error::Io { .. })));
    }

    #[test]
    fn tables_add_up() {
        let parts = vec![part("relu", "a", 3, 0.5), part("relu", "b", 1, 1.0), part("add", "c", 2, 4.0)];
        let report = report(12.0, parts);
        let kernels = report.kernels_table();
        let lines: Vec<_> = kernels.lines().collect();
        assert!(lines[1].starts_with("add ") && lines[1].contains("8000.000"), "{kernels}");
        assert!(lines[2].starts_with("relu ") && lines[2].contains("2500.000"), "{kernels}");
        assert!(lines[3].contains("10.5000 s, floor 2.6250 s"), "{kernels}");
        assert_eq!(report.parts_table().lines().count(), 6);
        assert!(
            report.summary().contains("rungs: built-in order\nforward conv_forward_direct\n    conv1"),
            "{}",
            report.summary()
        );
    }
}
