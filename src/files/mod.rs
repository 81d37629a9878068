//! Files that matter: written whole or not at all, read with every claim checked.

mod atomic;
pub mod cache;
mod png;
pub mod raw;
pub mod tensors;
mod text;

pub use atomic::{Staged, sync_folder, write_atomic};
pub use png::png;
pub use text::read_text;
