//! The plan: which buffer each argument is, with tensors coloured into a few slots, all sizes known before anything is allocated.

use super::lower::Lowered;
use super::program::{ParamsOf, Program, Ref, TensorSpec, Vars};
use crate::error::{Error, Result};
use crate::kernels::{Access, AnyKernel, Elem};

/// A buffer of the plan.
#[derive(Clone, Debug)]
pub struct BufferSpec {
    /// For plans and errors; a slot carries the name of its largest tensor.
    pub name: String,
    /// Words.
    pub words: u64,
    /// Element type.
    pub elem: Elem,
    /// What it holds from the start, if not zeros.
    pub contents: Option<Vec<u32>>,
}

/// One dispatch with its buffers.
pub struct Step {
    /// The kernel.
    pub kernel: &'static dyn AnyKernel,
    /// Its parameters for a step.
    pub params: ParamsOf,
    /// Buffers, one a binding.
    pub args: Vec<usize>,
    /// The layer that it serves.
    pub label: String,
}

/// Buffers, and programs over them.
pub struct Plan {
    /// Persistent buffers first, then slots.
    pub buffers: Vec<BufferSpec>,
    /// Persistent buffers.
    pub persistent: usize,
    /// One a program, in the order given.
    pub sections: Vec<Vec<Step>>,
    /// For each program the buffer of each of its tensors.
    pub tensors: Vec<Vec<usize>>,
}

impl Lowered {
    /// Moves the programs and persistent buffers into a plan of five sections: a training step or a part of it, the composition
    /// before an evaluation or a step of parts, an evaluation batch, the end of a step of parts, an observation of the weights.
    pub fn plan(&mut self) -> Plan {
        let programs = [&mut self.train, &mut self.compose, &mut self.eval, &mut self.update, &mut self.dynamics];
        let programs = programs.map(std::mem::take);
        Plan::new(std::mem::take(&mut self.buffers), programs.into())
    }
}

impl Plan {
    /// Colours the programs' tensors into slots that they share, since programs never run at the same time.
    pub fn new(persistent: Vec<BufferSpec>, programs: Vec<Program>) -> Self {
        let mut plan =
            Self { persistent: persistent.len(), buffers: persistent, sections: Vec::new(), tensors: Vec::new() };
        for program in programs {
            plan.add(program);
        }
        plan
    }

    fn add(&mut self, program: Program) {
        let Program { tensors, calls } = program;
        let mut last = vec![0; tensors.len()];
        for (i, call) in calls.iter().enumerate() {
            tensor_args(&call.args).for_each(|t| last[t] = i);
        }
        let mut home: Vec<Option<usize>> = vec![None; tensors.len()];
        // A slot is busy until the call that last touches its tensor is over, so no dispatch reads and writes the same one.
        let mut busy = vec![false; self.buffers.len() - self.persistent];
        let mut steps = Vec::new();
        for (i, call) in calls.into_iter().enumerate() {
            for t in tensor_args(&call.args) {
                if home[t].is_none() {
                    home[t] = Some(self.place(&tensors[t], &mut busy));
                }
            }
            let buffer = |r: &Ref| match r {
                Ref::Buffer(b) => *b,
                Ref::Tensor(t) => home[*t].expect("placed above"),
            };
            let args: Vec<usize> = call.args.iter().map(buffer).collect();
            debug_assert!(no_overlap(call.kernel, &args), "{} {}", call.kernel.name(), call.label);
            for t in tensor_args(&call.args).filter(|t| last[*t] == i) {
                busy[buffer(&Ref::Tensor(t)) - self.persistent] = false;
            }
            steps.push(Step { kernel: call.kernel, params: call.params, args, label: call.label });
        }
        self.sections.push(steps);
        self.tensors.push(home.into_iter().map(|h| h.unwrap_or(usize::MAX)).collect());
    }

    /// A free slot for a tensor: the smallest that holds it, else the largest, grown, else a new one.
    fn place(&mut self, t: &TensorSpec, busy: &mut Vec<bool>) -> usize {
        let first = self.persistent;
        let free = || (first..self.buffers.len()).filter(|b| !busy[b - first] && self.buffers[*b].elem == t.elem);
        let fitting = free().filter(|b| self.buffers[*b].words >= t.words).min_by_key(|b| self.buffers[*b].words);
        let slot = match fitting.or_else(|| free().max_by_key(|b| self.buffers[*b].words)) {
            Some(slot) => slot,
            None => {
                self.buffers.push(BufferSpec { name: String::new(), words: 0, elem: t.elem, contents: None });
                busy.push(false);
                self.buffers.len() - 1
            }
        };
        let spec = &mut self.buffers[slot];
        if spec.words < t.words {
            (spec.name, spec.words) = (t.name.clone(), t.words);
        }
        busy[slot - first] = true;
        slot
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.buffers.iter().map(|b| 4 * b.words.max(4)).sum()
    }

    /// Bytes of the slots alone: what grows with the batch.
    pub fn slot_bytes(&self) -> u64 {
        self.buffers[self.persistent..].iter().map(|b| 4 * b.words).sum()
    }

    /// Floating-point operations of one pass over a section.
    pub fn flops(&self, section: usize, vars: &Vars) -> f64 {
        self.sections[section].iter().map(|s| s.kernel.cost(&(s.params)(vars)).flops).sum()
    }

    /// Whether a buffer grows with the batch size: slots, and the batch itself.
    fn grows(&self, buffer: usize) -> bool {
        buffer >= self.persistent || self.buffers[buffer].name == "batch"
    }

    /// The error of a device that gave `held` bytes and then refused the next buffer of this plan for a `batch`.
    pub fn out_of_memory(&self, batch: u32, held: u64) -> Error {
        let bytes = |grows: bool| {
            let counted = (0..self.buffers.len()).filter(|i| self.grows(*i) == grows);
            counted.map(|i| 4 * self.buffers[i].words.max(4)).sum::<u64>()
        };
        let per_image = (bytes(true) / u64::from(batch.max(1))).max(1);
        let others = "a smaller model (--model, --width), another --adapter, or close what else uses this one";
        // The driver wants memory for itself: an eighth is left to it.
        let room = (held - held / 8).saturating_sub(bytes(false));
        let hint = match (room / per_image).min(u64::from(batch).saturating_sub(1)) {
            _ if batch <= 1 => format!("use {others}"),
            0 => format!("use a smaller --batch-size, {others}"),
            fits => format!("--batch-size {fits} is likely to fit, or a larger --accumulate; or use {others}"),
        };
        let largest = self.buffers.iter().max_by_key(|b| b.words);
        let (tensor, largest) = largest.map_or(("nothing".into(), 0), |b| (b.name.clone(), 4 * b.words));
        Error::OutOfMemory { need: self.bytes(), tensor, largest, held, hint }
    }

    /// Refuses a plan that the adapter cannot hold.
    ///
    /// # Errors
    /// [`Error::AdapterTooSmall`] naming the buffer, the limit, and the largest batch that fits where the batch is what is too large.
    pub fn check(&self, limits: &wgpu::Limits, batch: u32) -> Result<()> {
        let binding = (limits.max_storage_buffer_binding_size, "maxStorageBufferBindingSize");
        let limit = [binding, (limits.max_buffer_size, "maxBufferSize")];
        let (limit, limit_name) = limit.into_iter().min_by_key(|l| l.0).expect("two limits");
        // Where a buffer that does not grow with the batch is too large, a smaller batch does not help.
        let grows = |i: usize| self.grows(i);
        let too_large = self.buffers.iter().enumerate().filter(|(_, b)| 4 * b.words > limit);
        let Some((i, worst)) = too_large.max_by_key(|(i, b)| (!grows(*i), b.words)) else { return Ok(()) };
        let need = 4 * worst.words;
        let hint = if grows(i) {
            match u64::from(batch) * limit / need {
                0 => "not even one image fits: choose a smaller model or another --adapter".into(),
                fits => {
                    format!("the largest batch that fits is {fits}: use --batch-size {fits}, or a larger --accumulate")
                }
            }
        } else {
            "choose a smaller model (--model, --width) or another --adapter".into()
        };
        Err(Error::AdapterTooSmall { tensor: worst.name.clone(), need, limit_name, limit, hint })
    }
}

fn tensor_args(args: &[Ref]) -> impl Iterator<Item = usize> {
    args.iter().filter_map(|r| match r {
        Ref::Tensor(t) => Some(*t),
        Ref::Buffer(_) => None,
    })
}

/// A buffer that a dispatch writes may not be bound to it a second time.
fn no_overlap(kernel: &dyn AnyKernel, args: &[usize]) -> bool {
    let written = kernel.bindings().iter().zip(args).filter(|(b, _)| b.access != Access::Read);
    written.into_iter().all(|(_, w)| args.iter().filter(|a| *a == w).count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 16 KiB of parameters, 16 KiB of batch, and two slots of 32 and 64 KiB.
    fn plan() -> Plan {
        let buffer = |(name, kib): (&str, u64)| BufferSpec {
            name: name.into(),
            words: 256 * kib,
            elem: Elem::F32,
            contents: None,
        };
        let buffers = [("parameters", 16), ("batch", 16), ("conv1", 32), ("relu", 64)].map(buffer).to_vec();
        Plan { buffers, persistent: 2, sections: Vec::new(), tensors: Vec::new() }
    }

    fn says(batch: u32, held: u64, words: &[&str]) {
        let text = plan().out_of_memory(batch, held).to_string();
        assert!(words.iter().all(|w| text.contains(w)), "{words:?} in {text}");
    }

    #[test]
    fn a_full_memory_names_total_largest_and_a_batch() {
        let total = ["needs 131072 bytes", "65536 bytes for relu", "full after 65536", "--adapter"];
        says(16, 64 << 10, &total);
        // 7 KiB an image above the 16 KiB that do not grow: an eighth less than 64 KiB hold five.
        says(16, 64 << 10, &["--batch-size 5 is likely to fit"]);
        says(16, 20 << 10, &["smaller --batch-size"]);
        says(16, 0, &["smaller --batch-size", "--model", "--width"]);
    }

    #[test]
    fn the_batch_it_names_is_always_smaller() {
        // A driver that refuses one buffer though it gave as much before.
        says(2, 1 << 30, &["--batch-size 1 is likely"]);
        let text = plan().out_of_memory(1, 1 << 30).to_string();
        assert!(!text.contains("--batch-size") && text.contains("smaller model"), "{text}");
    }
}
