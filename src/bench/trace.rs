//! One training step as a chrome trace.

use std::path::Path;

use wgpu_profiler::GpuTimerQueryResult;
use wgpu_profiler::chrometrace::write_chrometrace;

use crate::error::{Error, Result};
use crate::files::write_atomic;

/// Writes what a step's dispatches took as a trace for chrome://tracing or Perfetto.
///
/// # Errors
/// [`Error::Io`]; an old file is then untouched.
pub fn write(path: &Path, dispatches: &[GpuTimerQueryResult]) -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir(), "create"))?;
    let draft = folder.path().join("trace.json");
    write_chrometrace(&draft, dispatches).map_err(Error::io(&draft, "write"))?;
    let bytes = std::fs::read(&draft).map_err(Error::io(&draft, "read"))?;
    write_atomic(path, |out| out.write_all(&bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn valid_json_with_one_event_a_dispatch() {
        let event = |i: usize| GpuTimerQueryResult {
            label: format!("relu layer{i}"),
            pid: 1,
            tid: std::thread::current().id(),
            time: Some(i as f64..i as f64 + 0.5),
            nested_queries: Vec::new(),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        for count in [0, 1, 3] {
            write(&path, &(0..count).map(event).collect::<Vec<_>>()).unwrap();
            let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let events = json["traceEvents"].as_array().unwrap();
            assert_eq!(events.len(), count);
            for (i, e) in events.iter().enumerate() {
                assert_eq!(
                    (e["name"].as_str(), e["ph"].as_str()),
                    (Some(format!("relu layer{i}").as_str()), Some("X"))
                );
                assert_eq!((e["ts"].as_f64(), e["dur"].as_f64()), (Some(1e6 * i as f64), Some(5e5)));
            }
        }
    }
}
