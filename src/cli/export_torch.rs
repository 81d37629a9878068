//! `s3gpu export --format torch`: composed weights as a plain PyTorch state dict.

use std::path::Path;
use std::process::ExitCode;

use crate::error::Result;
use crate::files::tensors::{self, TensorFile};
use crate::train::network::Network;

/// W as plain fp32 weights, the batch norms with PyTorch's batch counters. The metadata makes it a file that `s3gpu eval` takes.
pub(super) fn torch(network: &Network, file: &TensorFile, out: &Path) -> Result<ExitCode> {
    let tensors = network.plain();
    let mut meta = file.meta.clone();
    ["progress", "scale", "first_last"].iter().for_each(|key| _ = meta.remove(*key));
    let plain =
        [("method", "fp32".to_string()), ("bits", "0".into()), ("composed_from", network.identity.method.title())];
    meta.extend(plain.map(|(k, v)| (k.to_string(), v)));
    // As PyTorch counts them: batches that the running values have seen.
    let steps = meta.get("step").and_then(|s| s.parse().ok()).unwrap_or(0);
    let norms = tensors.keys().filter_map(|name| name.strip_suffix("running_mean"));
    let counters = norms.map(|norm| (format!("{norm}num_batches_tracked"), steps)).collect();
    let plain = TensorFile { tensors, meta };
    tensors::write_counted(out, &plain, &counters)?;
    let weights: usize = plain.tensors.values().map(|t| t.data.len()).sum();
    say!("{}: {} tensors, {weights} values; in PyTorch:", out.display(), plain.tensors.len() + counters.len())?;
    say!("  model.load_state_dict(safetensors.torch.load_file(\"{}\"))", out.display())?;
    Ok(ExitCode::SUCCESS)
}
