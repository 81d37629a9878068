//! The page that runs an integer network in a browser: the files of `web/`, and beside them the network, its plan for
//! WebGPU and test pictures.
//!
//! ```text
//! model ─▶ plan (shaders, buffers, dispatches) ─┐
//! model, data set ─▶ samples (pixels, logits)  ─┼▶ site ─▶ a folder | one HTML file | a server on this machine
//! web/*.js, index.html, style.css              ─┘
//! ```

pub mod plan;
pub mod samples;
pub mod serve;
mod single;

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::int::Model;
use samples::Samples;

/// Embeds a file of `web/`.
macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/web/", $name)))),*]
    };
}

const INDEX: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/web/index.html"));
const STYLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/web/style.css"));
/// The modules, each behind those that it imports.
static MODULES: [(&str, &str); 14] = embedded![
    "sums.js",
    "digits.js",
    "check.js",
    "schema.js",
    "file.js",
    "reference.js",
    "plan.js",
    "gpu.js",
    "picture.js",
    "view.js",
    "layers.js",
    "engines.js",
    "input.js",
    "page.js",
];

/// One file of the page.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name, without a folder.
    pub name: &'static str,
    /// Its MIME type.
    pub mime: &'static str,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// A network's page.
#[derive(Clone, Debug)]
pub struct Site {
    /// Network, plan and samples: what differs from one page to another.
    data: Vec<File>,
}

fn text(name: &'static str, content: &str) -> File {
    let mime = match Path::new(name).extension().and_then(|e| e.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => "text/javascript; charset=utf-8",
    };
    File { name, mime, bytes: content.into() }
}

impl Site {
    /// The page of a checked network; `shift_only` keeps kernels that multiply out of its plan.
    ///
    /// # Errors
    /// [`crate::Error::AdapterTooSmall`] for a network that the limits of every browser do not hold.
    pub fn new(model: &Model, samples: &Samples, shift_only: bool) -> Result<Self> {
        // Written anew, so that it has a sum that the plan can name.
        let file = model.to_file();
        let crc32 = file.meta.get("crc32").expect("every file that is written has one");
        let plan = plan::plan(model, crc32, shift_only)?;
        let (json, bytes) = ("application/json", "application/octet-stream");
        let data = [
            ("model.safetensors", bytes, file.to_bytes()),
            ("plan.json", json, plan.json),
            ("plan.bin", bytes, plan.constants),
            ("samples.json", json, samples.json(model)),
            ("samples.bin", bytes, samples.pixels.clone()),
        ];
        Ok(Self { data: data.map(|(name, mime, bytes)| File { name, mime, bytes }).into() })
    }

    /// All files, the page itself last.
    pub fn files(&self) -> Vec<File> {
        let page = MODULES.iter().map(|(name, content)| text(name, content));
        let page = page.chain([text("style.css", STYLE), text("index.html", INDEX)]);
        self.data.iter().cloned().chain(page).collect()
    }

    /// Writes them into a folder, each whole or not at all, the page itself last.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        self.files().iter().try_for_each(|f| write_atomic(folder.join(f.name), |out| out.write_all(&f.bytes)))
    }

    /// Everything in one HTML file, which opens from disk.
    pub fn single_file(&self) -> String {
        let data: Vec<_> = self.data.iter().map(|f| (f.name, BASE64_STANDARD.encode(&f.bytes))).collect();
        single::join(INDEX, STYLE, &MODULES, &data)
    }
}

/// The page's Content-Security-Policy, as its head has it.
pub fn policy() -> &'static str {
    single::policy(INDEX)
}
