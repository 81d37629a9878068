//! TensorBoard's event files: a run's records as scalars and histograms.
//!
//! The file says what metrics.jsonl says. A run that goes on writes it anew from there, so no step is in it twice; a TensorBoard that
//! watches the folder is told by a start mark to forget what it had.
//!
//! An event is a record in TensorFlow's framing: its length (u64, little-endian), the length's checksum, the bytes of a protocol
//! buffer, their checksum.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use prost::Message;

use super::dynamics::Dynamics;
use super::folder;
use super::metrics::Record;
use crate::error::{Error, Result};

/// The part of TensorBoard's event.proto and summary.proto that is written here, with its field numbers.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Event {
        #[prost(double, tag = "1")]
        pub wall_time: f64,
        #[prost(int64, tag = "2")]
        pub step: i64,
        #[prost(oneof = "What", tags = "3, 5, 7")]
        pub what: Option<What>,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum What {
        #[prost(string, tag = "3")]
        FileVersion(String),
        #[prost(message, tag = "5")]
        Summary(Summary),
        #[prost(message, tag = "7")]
        SessionLog(SessionLog),
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct SessionLog {
        #[prost(int32, tag = "1")]
        pub status: i32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Summary {
        #[prost(message, repeated, tag = "1")]
        pub value: Vec<Tagged>,
    }
    /// Summary.Value there.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Tagged {
        #[prost(string, tag = "1")]
        pub tag: String,
        #[prost(oneof = "Value", tags = "2, 5")]
        pub value: Option<Value>,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Value {
        #[prost(float, tag = "2")]
        Scalar(f32),
        #[prost(message, tag = "5")]
        Histogram(Histogram),
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Histogram {
        #[prost(double, tag = "1")]
        pub min: f64,
        #[prost(double, tag = "2")]
        pub max: f64,
        #[prost(double, tag = "3")]
        pub num: f64,
        #[prost(double, tag = "4")]
        pub sum: f64,
        #[prost(double, tag = "5")]
        pub sum_squares: f64,
        #[prost(double, repeated, tag = "6")]
        pub bucket_limit: Vec<f64>,
        #[prost(double, repeated, tag = "7")]
        pub bucket: Vec<f64>,
    }
}
use proto::{Event, Histogram, SessionLog, Summary, Tagged, Value, What};

/// SessionLog.START: what came before with this step or a later one is void.
const START: i32 = 1;

/// An event file that records are appended to.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Puts an event file with these records in place of the one that the folder may hold.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(out: &Path, records: &[Record]) -> Result<Self> {
        for old in folder::event_files(out)? {
            std::fs::remove_file(&old).map_err(Error::io(&old, "remove"))?;
        }
        let path = out.join(folder::event_file());
        let file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(Error::io(&path, "create"))?;
        let mut events = Self { path, file };
        events.write(0, What::FileVersion("brain.Event:2".into()))?;
        events.write(0, What::SessionLog(SessionLog { status: START }))?;
        records.iter().try_for_each(|record| events.append(record))?;
        Ok(events)
    }

    /// Appends a record and hands it to the operating system. Its step is the number of steps done.
    ///
    /// # Errors
    /// [`Error::Io`], for a full disk say.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let steps = match record {
            Record::Dynamics(r) => r.steps,
            _ => record.step() + 1,
        };
        self.write(steps, What::Summary(Summary { value: values(record) }))
    }

    fn write(&mut self, step: u64, what: What) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let event = Event { wall_time: now.as_secs_f64(), step: step as i64, what: Some(what) };
        // In one call, so that a reader meets few halves of a record, which it would wait for.
        self.file.write_all(&framed(&event.encode_to_vec())).map_err(Error::io(&self.path, "append to"))
    }
}

/// TensorFlow's checksum: CRC-32C, turned and shifted so that the checksum of data that holds checksums is a good one too.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let sums = [&length[..], data].map(|bytes| masked(bytes).to_le_bytes());
    [&length[..], &sums[0], data, &sums[1]].concat()
}

fn scalar(tag: impl Into<String>, value: f64) -> Tagged {
    Tagged { tag: tag.into(), value: Some(Value::Scalar(value as f32)) }
}

/// What TensorBoard shows of a record. It groups tags by what stands before the slash.
fn values(record: &Record) -> Vec<Tagged> {
    match record {
        Record::Train(r) => vec![
            scalar("train/loss", r.loss),
            scalar("train/top1", 100.0 * r.correct as f64 / r.count.max(1) as f64),
            scalar("train/regularizer", r.regularizer),
            scalar("train/learning_rate", r.lr),
            scalar("train/images_per_s", r.images_per_s),
        ],
        Record::Eval(r) => vec![scalar("test/loss", r.loss), scalar("test/top1", r.top1), scalar("test/top5", r.top5)],
        Record::Int(r) => {
            vec![scalar("integer/loss", r.loss), scalar("integer/top1", r.top1), scalar("integer/top5", r.top5)]
        }
        Record::Dynamics(r) => {
            let layers = r.layers.iter().map(|l| (&l.name[..], &l.dynamics));
            [("whole", &r.whole)].into_iter().chain(layers).flat_map(|(name, d)| movement(name, d)).collect()
        }
    }
}

fn movement(layer: &str, d: &Dynamics) -> Vec<Tagged> {
    let latent = d.latent.as_ref();
    let shares = [
        ("wsvr", d.wsvr),
        ("wsvr_zero", d.wsvr_zero),
        ("wlvr", Some(d.wlvr)),
        ("zero", Some(d.zero)),
        ("lowest", d.lowest),
        ("through_zero", d.through_zero),
        ("latent_wsvr", latent.and_then(|l| l.wsvr)),
        ("latent_wlvr", latent.map(|l| l.wlvr)),
    ];
    let scalars = shares.into_iter().filter_map(|(kind, share)| Some(scalar(format!("{kind}/{layer}"), share?)));
    let levels = Tagged { tag: format!("levels/{layer}"), value: Some(Value::Histogram(histogram(&d.levels))) };
    scalars.chain([levels]).collect()
}

/// Levels as buckets: ±2^k fills the values from there to ±2^(k + 1), and zero half the way to the nearest other level.
fn histogram(levels: &[(f64, u64)]) -> Histogram {
    let nearest = levels.iter().map(|(l, _)| l.abs()).filter(|l| *l > 0.0).fold(f64::INFINITY, f64::min);
    let around = if nearest.is_finite() { nearest / 2.0 } else { 0.5 };
    let ends = |level: f64| match level {
        0.0 => (-around, around),
        l if l < 0.0 => (2.0 * l, l),
        l => (l, 2.0 * l),
    };
    let mut h = Histogram::default();
    for (level, count) in levels {
        let ((low, high), count) = (ends(*level), *count as f64);
        match h.bucket_limit.last() {
            None => h.min = low,
            // What lies between two levels is empty.
            Some(limit) if *limit < low => {
                h.bucket_limit.push(low);
                h.bucket.push(0.0);
            }
            Some(_) => (),
        }
        h.bucket_limit.push(high);
        h.bucket.push(count);
        (h.max, h.num) = (high, h.num + count);
        (h.sum, h.sum_squares) = (h.sum + count * level, h.sum_squares + count * level * level);
    }
    h
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::train::dynamics::{DynamicsRecord, LayerDynamics};
    use crate::train::metrics::{EvalRecord, TrainRecord};

    fn records() -> Vec<Record> {
        let levels = vec![(-4.0, 1), (-1.0, 2), (0.0, 3), (1.0, 4)];
        let whole = Dynamics { count: 10, wlvr: 0.3, zero: 0.3, levels, ..Default::default() };
        let layers =
            vec![LayerDynamics { name: "conv1".into(), dynamics: Dynamics { wsvr: Some(0.25), ..whole.clone() } }];
        let train = TrainRecord {
            epoch: 0,
            step: 4,
            loss: 2.5,
            regularizer: 0.0,
            correct: 1,
            count: 4,
            lr: 0.1,
            images_per_s: 9.0,
            data_wait: 0.0,
        };
        let eval = EvalRecord { epoch: 0, step: 4, loss: 1.5, correct: 1, count: 2, top1: 50.0, top5: 100.0 };
        vec![
            Record::Dynamics(Box::new(DynamicsRecord { epoch: 0, steps: 0, distance: 0, whole, layers })),
            Record::Train(train),
            Record::Eval(eval.clone()),
            Record::Int(eval),
        ]
    }

    /// Takes a file apart, checking every length and checksum.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).unwrap();
        let (mut rest, mut events) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(12);
            let length = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
            assert_eq!(head[8..], masked(&head[..8]).to_le_bytes());
            let (data, tail) = tail.split_at(length);
            assert_eq!(tail[..4], masked(data).to_le_bytes());
            events.push(Event::decode(data).unwrap());
            rest = &tail[4..];
        }
        events
    }

    fn scalars(event: &Event) -> Vec<(String, f32)> {
        let Some(What::Summary(summary)) = &event.what else { panic!("{event:?}") };
        let of = |t: &Tagged| match t.value {
            Some(Value::Scalar(v)) => Some((t.tag.clone(), v)),
            _ => None,
        };
        summary.value.iter().filter_map(of).collect()
    }

    #[test]
    fn the_file_says_what_the_records_say() {
        let folder = tempfile::tempdir().unwrap();
        let records = records();
        let mut file = EventFile::create(folder.path(), &records[..1]).unwrap();
        records[1..].iter().for_each(|record| file.append(record).unwrap());
        let events = read(&file.path);
        assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".into())));
        assert_eq!(events[1].what, Some(What::SessionLog(SessionLog { status: START })));
        assert_eq!(events.iter().map(|e| e.step).collect::<Vec<_>>(), [0, 0, 0, 5, 5, 5]);
        assert!(events.iter().all(|e| e.wall_time > 1e9));
        let moved =
            [("wlvr/whole", 0.3), ("zero/whole", 0.3), ("wsvr/conv1", 0.25), ("wlvr/conv1", 0.3), ("zero/conv1", 0.3)];
        assert_eq!(scalars(&events[2]), moved.map(|(tag, v)| (tag.to_string(), v)));
        assert!(scalars(&events[3]).contains(&("train/loss".into(), 2.5)));
        assert!(scalars(&events[3]).contains(&("train/top1".into(), 25.0)));
        assert!(scalars(&events[4]).contains(&("test/top5".into(), 100.0)));
        assert!(scalars(&events[5]).contains(&("integer/top1".into(), 50.0)));
    }

    #[test]
    fn levels_become_buckets_without_gaps() {
        let h = histogram(&[(-4.0, 1), (-1.0, 2), (0.0, 3), (1.0, 4)]);
        assert_eq!((h.min, h.max, h.num, h.sum, h.sum_squares), (-8.0, 2.0, 10.0, -2.0, 22.0));
        assert_eq!(h.bucket_limit, [-4.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0]);
        assert_eq!(h.bucket, [1.0, 0.0, 2.0, 0.0, 3.0, 0.0, 4.0]);
        assert_eq!(histogram(&[(0.0, 7)]).bucket_limit, [0.5]);
        assert_eq!(histogram(&[]), Histogram::default());
    }

    /// Records that tensorboard 2.21's own RecordWriter wrote of the same events.
    #[test]
    fn bytes_are_tensorboards() {
        let histogram = Histogram {
            min: -1.0,
            max: 2.0,
            num: 3.0,
            sum: 0.0,
            sum_squares: 2.0,
            bucket_limit: vec![-0.5, 0.5, 2.0],
            bucket: vec![1.0; 3],
        };
        let levels = Tagged { tag: "levels/whole".into(), value: Some(Value::Histogram(histogram)) };
        let summary = Summary { value: vec![scalar("train/loss", 2.25), levels] };
        let wanted = [
            (
                0.0,
                0,
                What::FileVersion("brain.Event:2".into()),
                "0f000000000000006d532b091a0d627261696e2e4576656e743a32fc985129",
            ),
            (0.0, 0, What::SessionLog(SessionLog { status: START }), "0400000000000000424552043a0208010329c31b"),
            (
                1.5,
                7,
                What::Summary(summary),
                "8a00000000000000adbb775709000000000000f83f10072a7d0a110a0a747261696e2f6c6f7373150000104\
                 00a680a0c6c6576656c732f77686f6c652a5809000000000000f0bf110000000000000040190000000000000840290000000000000040\
                 3218000000000000e0bf000000000000e03f00000000000000403a18000000000000f03f000000000000f03f000000000000f03f\
                 b2e67543",
            ),
        ];
        for (wall_time, step, what, hex) in wanted {
            let bytes = framed(&Event { wall_time, step, what: Some(what) }.encode_to_vec());
            assert_eq!(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>(), hex);
        }
    }

    #[test]
    fn an_old_file_makes_room_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("events.out.tfevents.123.host");
        std::fs::write(&other, b"another program's").unwrap();
        let first = EventFile::create(folder.path(), &records()).unwrap();
        drop(first);
        let second = EventFile::create(folder.path(), &records()[..2]).unwrap();
        assert_eq!(folder::event_files(folder.path()).unwrap(), std::slice::from_ref(&second.path));
        assert_eq!(read(&second.path).len(), 4);
        assert!(other.exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let path = PathBuf::from("/dev/full");
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        let message = EventFile { path, file }.append(&records()[1]).unwrap_err().to_string();
        assert!(message.contains("disk is full"), "{message}");
    }
}
