//! Runs a plan through the kernels' f64 twins: the reference that the tests differentiate and hold the GPU against.

use super::plan::Plan;
use super::program::Vars;
use crate::kernels::{Access, Arg, Args, Data, Output};

/// A plan in memory.
pub struct CpuExecutor {
    /// The plan.
    pub plan: Plan,
    buffers: Vec<Output>,
}

impl CpuExecutor {
    /// Allocates all buffers.
    pub fn new(plan: Plan) -> Self {
        let new = |b: &super::plan::BufferSpec| match &b.contents {
            Some(words) => Data::from_bits(b.elem, words),
            None => Data::zeros(b.elem, b.words as usize),
        };
        let buffers = plan.buffers.iter().map(|b| Output::new(new(b), false)).collect();
        Self { plan, buffers }
    }

    /// A buffer's contents.
    pub fn data(&self, buffer: usize) -> &Data {
        &self.buffers[buffer].data
    }

    /// A buffer's contents, to change them.
    pub fn data_mut(&mut self, buffer: usize) -> &mut Data {
        &mut self.buffers[buffer].data
    }

    /// Writes words to the start of a buffer.
    pub fn write(&mut self, buffer: usize, words: &[u32]) {
        match &mut self.buffers[buffer].data {
            Data::F32(v) => v.iter_mut().zip(words).for_each(|(v, w)| *v = f32::from_bits(*w).into()),
            Data::U32(v) => v[..words.len()].copy_from_slice(words),
        }
    }

    /// One pass over a section.
    pub fn run(&mut self, section: usize, vars: &Vars) {
        for step in &self.plan.sections[section] {
            let params = (step.params)(vars);
            // Written buffers are taken out, so that read ones can be borrowed; a plan never binds a written buffer twice.
            let bindings = step.kernel.bindings();
            let mut taken: Vec<Option<Output>> = Vec::new();
            for (b, arg) in bindings.iter().zip(&step.args) {
                let empty = || Output::new(Data::zeros(b.elem, 0), false);
                taken.push((b.access != Access::Read).then(|| std::mem::replace(&mut self.buffers[*arg], empty())));
            }
            let args = taken.iter_mut().zip(&step.args).map(|(t, arg)| match t {
                Some(out) => Arg::Out(out),
                None => Arg::In(&self.buffers[*arg].data),
            });
            step.kernel.twin(&params, &mut Args(args.collect()));
            for (t, arg) in taken.into_iter().zip(&step.args) {
                if let Some(out) = t {
                    self.buffers[*arg] = out;
                }
            }
        }
    }
}
