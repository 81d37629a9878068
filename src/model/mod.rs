//! Networks, and a network's values: fresh, from a file, to a file.

pub mod resnet;
pub mod values;

pub use resnet::{Arch, FirstLast, Shortcut};
pub use values::Values;
