//! metrics.jsonl: one JSON object a line, appended as training goes.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use super::dynamics::DynamicsRecord;
use crate::error::{Error, Result};
use crate::files::write_atomic;

/// One line of the log; its `kind` says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// An interval of training steps.
    Train(TrainRecord),
    /// A pass over the test set.
    Eval(EvalRecord),
    /// A pass over the test set of the network as integers.
    Int(EvalRecord),
    /// How the weights moved.
    Dynamics(Box<DynamicsRecord>),
}

/// What an interval of training steps gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// Epoch of the last step, from 0.
    pub epoch: u64,
    /// The interval's last step, from 0.
    pub step: u64,
    /// Mean cross-entropy over the interval's images, without the regularizer.
    #[serde(serialize_with = "finite")]
    pub loss: f64,
    /// Mean over the interval's steps of the regularizer, before it is scaled.
    #[serde(serialize_with = "finite")]
    pub regularizer: f64,
    /// Images classified right over the interval.
    pub correct: u64,
    /// Images seen over the interval.
    pub count: u64,
    /// Learning rate of the last step.
    #[serde(serialize_with = "finite")]
    pub lr: f64,
    /// Images trained on per second of wall-clock time.
    #[serde(serialize_with = "finite")]
    pub images_per_s: f64,
    /// Share of the wall-clock time in which the training loop waited for images to be decoded, 0 … 1.
    #[serde(default, serialize_with = "finite")]
    pub data_wait: f64,
}

/// What a pass over the test set gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// Epoch that was just trained, from 0.
    pub epoch: u64,
    /// Last step trained before the pass, from 0.
    pub step: u64,
    /// Mean cross-entropy over the set.
    #[serde(serialize_with = "finite")]
    pub loss: f64,
    /// Images whose class came first.
    pub correct: u64,
    /// Images in the set.
    pub count: u64,
    /// Images whose class came first, in percent.
    #[serde(serialize_with = "finite")]
    pub top1: f64,
    /// Images whose class came among the first five, in percent.
    #[serde(serialize_with = "finite")]
    pub top5: f64,
}

impl Record {
    /// The last step that the record covers, from 0.
    pub fn step(&self) -> u64 {
        match self {
            Self::Train(record) => record.step,
            Self::Eval(record) | Self::Int(record) => record.step,
            Self::Dynamics(record) => record.steps.saturating_sub(1),
        }
    }
}

/// JSON has no NaN and no infinity, and `null` in their place would hide that training diverged.
fn finite<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        serializer.serialize_f64(*value)
    } else {
        Err(serde::ser::Error::custom(format_args!("{value} is not a finite number")))
    }
}

/// A log that records are appended to.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Starts an empty log; what `path` held is gone.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let file = File::create(&path).map_err(Error::io(&path, "create"))?;
        Ok(Self { path, file })
    }

    /// Continues a log from a checkpoint, keeping the records that `keep` wants.
    ///
    /// The others are cut off, for they will be written again, and so is a last line that kill -9 left torn. The lines kept
    /// stay as they are, byte for byte. A log that is missing starts empty.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] for a damaged line before the last.
    pub fn resume(path: impl AsRef<Path>, keep: impl Fn(&Record) -> bool) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            outcome => outcome.map_err(Error::io(&path, "read"))?,
        };
        let lines = parse(&path, &bytes)?;
        write_atomic(&path, |out| {
            for (line, _) in lines.iter().filter(|(_, record)| keep(record)) {
                out.write_all(line)?;
                out.write_all(b"\n")?;
            }
            Ok(())
        })?;
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::io(&path, "append to"))?;
        Ok(Self { path, file })
    }

    /// Appends one line and hands it to the operating system, so that it outlives the process.
    ///
    /// # Errors
    /// [`Error::Io`], for a full disk say; [`Error::Checkpoint`] for a record with a number that is not finite, of which
    /// nothing is written.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|error| {
            let what = format!("the record of step {} cannot be logged: {error}", record.step());
            Error::checkpoint(&self.path, what, "training diverged: lower --lr and resume from the last checkpoint")
        })?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(Error::io(&self.path, "append to"))
    }
}

/// Reads a log. A torn last line is left out: the run was killed there, or is writing it now.
///
/// # Errors
/// [`Error::Io`]; [`Error::Checkpoint`] for a damaged line before the last.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<Record>> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(Error::io(path, "read"))?;
    Ok(parse(path, &bytes)?.into_iter().map(|(_, record)| record).collect())
}

/// Lines with their records, without a torn last line.
fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(&'a [u8], Record)>> {
    let mut records = Vec::new();
    let mut lines = bytes.split(|&byte| byte == b'\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(record) => records.push((line, record)),
            // A whole line ends in a line feed, which leaves an empty piece behind it.
            Err(_) if lines.peek().is_none() => {}
            Err(error) => {
                let what = format!("line {} is damaged: {error}", index + 1);
                return Err(Error::checkpoint(path, what, "delete that line and try again"));
            }
        }
    }
    Ok(records)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn train(step: u64) -> Record {
        let loss = 2.3 / (step + 1) as f64;
        let (regularizer, lr, images_per_s) = (0.0, 0.1, 900.0);
        Record::Train(TrainRecord {
            epoch: 0,
            step,
            loss,
            regularizer,
            correct: 7,
            count: 64,
            lr,
            images_per_s,
            data_wait: 0.0,
        })
    }

    fn eval(step: u64) -> Record {
        Record::Eval(EvalRecord { epoch: 0, step, loss: 0.5, correct: 8103, count: 10_000, top1: 81.03, top5: 99.0 })
    }

    fn int(step: u64) -> Record {
        let Record::Eval(record) = eval(step) else { unreachable!() };
        Record::Int(record)
    }

    fn log_of(records: &[Record]) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::create(&path).unwrap();
        records.iter().for_each(|record| log.append(record).unwrap());
        (folder, path)
    }

    #[test]
    fn lines_have_the_documented_form() {
        let (_folder, path) = log_of(&[train(0), eval(390), int(390)]);
        let expected = concat!(
            r#"{"kind":"train","epoch":0,"step":0,"loss":2.3,"regularizer":0.0,"correct":7,"count":64,"lr":0.1,"images_per_s":900.0,"data_wait":0.0}"#,
            "\n",
            r#"{"kind":"eval","epoch":0,"step":390,"loss":0.5,"correct":8103,"count":10000,"top1":81.03,"top5":99.0}"#,
            "\n",
            r#"{"kind":"int","epoch":0,"step":390,"loss":0.5,"correct":8103,"count":10000,"top1":81.03,"top5":99.0}"#,
            "\n"
        );
        assert_eq!(fs::read_to_string(path).unwrap(), expected);
    }

    #[test]
    fn numbers_come_back_bit_for_bit() {
        let mut state = 1u64;
        let odd = [f64::MIN_POSITIVE / 3.0, f64::MAX, -0.0, 0.1 + 0.2, 5e-324, 1e22, 123456789012345680.0];
        let random = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from_bits(state)
        });
        let values: Vec<f64> = odd.into_iter().chain(random.filter(|value| value.is_finite()).take(2000)).collect();
        let records = values.iter().map(|&loss| match train(3) {
            Record::Train(record) => Record::Train(TrainRecord { loss, ..record }),
            other => unreachable!("{other:?}"),
        });
        let (_folder, path) = log_of(&records.collect::<Vec<_>>());
        for (record, value) in read(path).unwrap().iter().zip(&values) {
            let Record::Train(TrainRecord { loss, .. }) = record else { panic!("{record:?}") };
            assert_eq!(loss.to_bits(), value.to_bits(), "{value:e}");
        }
    }

    #[test]
    fn resume_cuts_back_and_goes_on() {
        let (_folder, path) = log_of(&[train(0), train(1), eval(1), train(2), eval(2), train(3)]);
        let mut log = MetricsLog::resume(&path, |r| r.step() < 2).unwrap();
        log.append(&train(2)).unwrap();
        assert_eq!(read(&path).unwrap(), [train(0), train(1), eval(1), train(2)]);
        MetricsLog::resume(&path, |_| false).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_torn_last_line_is_dropped_wherever_it_was_torn() {
        let (_folder, path) = log_of(&[train(0), train(1)]);
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for length in first..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            // Only the line feed may be missing from a line that counts.
            let kept = if length + 1 >= whole.len() { vec![train(0), train(1)] } else { vec![train(0)] };
            assert_eq!(read(&path).unwrap(), kept, "{length} bytes");
            MetricsLog::resume(&path, |r| r.step() < 9).unwrap().append(&train(9)).unwrap();
            assert_eq!(read(&path).unwrap(), [kept, vec![train(9)]].concat(), "{length} bytes");
        }
    }

    #[test]
    fn lines_kept_are_not_rewritten() {
        let (_folder, path) = log_of(&[]);
        let line =
            r#"{"kind":"eval", "step":4,"epoch":0,"loss":1.50,"correct":1,"count":2,"top1":50,"top5":1e2,"new":1}"#;
        fs::write(&path, format!("{line}\n")).unwrap();
        MetricsLog::resume(&path, |r| r.step() < 5).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{line}\n"));
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_named_and_kept() {
        let (_folder, path) = log_of(&[train(0)]);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(b"{\"kind\":\"tr\n{\"kind\":\"train\"}\n");
        fs::write(&path, &bytes).unwrap();
        for error in [read(&path).unwrap_err(), MetricsLog::resume(&path, |r| r.step() < 1).unwrap_err()] {
            assert!(error.to_string().contains("line 2 is damaged"), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn a_missing_log_starts_empty_but_cannot_be_read() {
        let (_folder, path) = log_of(&[]);
        fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path), Err(Error::Io { action: "read", .. })));
        MetricsLog::resume(&path, |r| r.step() < 7).unwrap().append(&train(7)).unwrap();
        assert_eq!(read(&path).unwrap(), [train(7)]);
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused() {
        let (_folder, path) = log_of(&[]);
        let mut log = MetricsLog::create(&path).unwrap();
        let (Record::Train(t), Record::Eval(e)) = (train(5), eval(5)) else { unreachable!() };
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let records = [
                Record::Train(TrainRecord { loss: value, ..t.clone() }),
                Record::Train(TrainRecord { regularizer: value, ..t.clone() }),
                Record::Train(TrainRecord { lr: value, ..t.clone() }),
                Record::Train(TrainRecord { images_per_s: value, ..t.clone() }),
                Record::Eval(EvalRecord { loss: value, ..e.clone() }),
                Record::Eval(EvalRecord { top1: value, ..e.clone() }),
                Record::Eval(EvalRecord { top5: value, ..e.clone() }),
            ];
            for record in records {
                let message = log.append(&record).unwrap_err().to_string();
                assert!(message.contains("step 5") && message.contains(&value.to_string()), "{message}");
            }
        }
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let mut log = MetricsLog::create("/dev/full").unwrap();
        let message = log.append(&train(0)).unwrap_err().to_string();
        assert!(message.contains("disk is full"), "{message}");
    }
}
