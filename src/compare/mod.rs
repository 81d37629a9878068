//! Sweeps: methods × bits × networks × seeds × ways to start, each cell an ordinary run in a folder of its own.
//!
//! | file | what it holds |
//! |---|---|
//! | [`sweep`] | the sweep's file, and the cells that it stands for, checked before anything is trained |
//! | [`cells`] | where each cell stands, by its folder |
//! | [`figures`] | what a finished cell came to |
//! | [`results`] | means and deviations over seeds, as Markdown, CSV and JSON |
//! | [`pace`] | how long the rest will take |

pub mod cells;
pub mod figures;
pub mod pace;
pub mod results;
pub mod sweep;

pub use cells::State;
pub use results::Results;
pub use sweep::Sweep;
