//! A program: calls of kernels on tensors and persistent buffers, before anyone has decided where tensors lie.

use crate::kernels::{AnyKernel, Elem, Kernel};

/// What changes from step to step; everything else is fixed when the plan is made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vars {
    /// Images in this batch, at most the plan's.
    pub n: u32,
    /// Images of the whole step, of which this batch is a part; 0: this batch is the step.
    pub total: u32,
    /// Which of the step's parts this is, from 0.
    pub part: u32,
    /// Epoch, for the augmentation's random numbers.
    pub epoch: u32,
    /// Slot of the metrics ring.
    pub slot: u32,
    /// Training steps done before this one.
    pub step: u32,
    /// Learning rate.
    pub rate: f32,
}

/// What a call is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ref {
    /// A tensor of the program: alive from its first to its last call.
    Tensor(usize),
    /// A persistent buffer of the plan: slabs, tables, the batch, the ring.
    Buffer(usize),
}

/// A tensor's size.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// For plans and errors.
    pub name: String,
    /// Words.
    pub words: u64,
    /// Element type.
    pub elem: Elem,
}

/// A call's parameters for a step, as the bytes of the kernel's parameter struct.
pub type ParamsOf = Box<dyn Fn(&Vars) -> Vec<u8> + Send + Sync>;

/// One dispatch.
pub struct Call {
    /// The kernel.
    pub kernel: &'static dyn AnyKernel,
    /// One for each binding.
    pub args: Vec<Ref>,
    /// Parameters for a step.
    pub params: ParamsOf,
    /// The layer that it serves.
    pub label: String,
}

impl Call {
    /// A call whose parameters depend on the step.
    pub fn new<K: Kernel>(
        kernel: &'static K,
        args: &[Ref],
        params: impl Fn(&Vars) -> K::Params + Send + Sync + 'static,
    ) -> Self {
        let params = Box::new(move |v: &Vars| bytemuck::bytes_of(&params(v)).to_vec());
        Self { kernel, args: args.to_vec(), params, label: String::new() }
    }
    /// A call whose parameters never change.
    pub fn fixed<K: Kernel>(kernel: &'static K, args: &[Ref], params: K::Params) -> Self {
        let bytes = bytemuck::bytes_of(&params).to_vec();
        Self { kernel, args: args.to_vec(), params: Box::new(move |_| bytes.clone()), label: String::new() }
    }
    /// With the name of the layer that it serves.
    pub fn label(mut self, label: &str) -> Self {
        self.label = label.into();
        self
    }
}

/// Calls in order, and the tensors between them.
#[derive(Default)]
pub struct Program {
    /// Tensors.
    pub tensors: Vec<TensorSpec>,
    /// Calls.
    pub calls: Vec<Call>,
}

impl Program {
    /// A new tensor.
    pub fn tensor(&mut self, name: impl Into<String>, words: u64, elem: Elem) -> Ref {
        self.tensors.push(TensorSpec { name: name.into(), words, elem });
        Ref::Tensor(self.tensors.len() - 1)
    }
    /// Appends a call.
    pub fn call(&mut self, call: Call) {
        debug_assert_eq!(call.args.len(), call.kernel.bindings().len(), "{}", call.kernel.name());
        self.calls.push(call);
    }
}
