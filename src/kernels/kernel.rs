//! What a kernel is: one WGSL file, its bindings and parameters, a CPU twin, cases and a cost.
//!
//! [`Kernel`] is what a kernel's author implements, with no default to fall back on. [`AnyKernel`] is the same thing with the
//! parameter type erased, which is what the registry, the planner, the tests and the benches hold.

use super::check::{Case, Fill, Tolerance};
use super::twin::Args;

/// Element type of a storage binding; always one 4-byte word an element, whatever vector the shader reads it as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elem {
    /// IEEE single precision.
    F32,
    /// 32-bit words: labels, indices, packed bytes, tables.
    U32,
}

/// How a kernel uses a storage binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Written without regard to what was there; elements that the twin leaves alone must stay as they were.
    Write,
    /// Read and updated in place.
    Update,
}

/// One storage binding, `@group(0) @binding(i + 1)` for the i-th; binding 0 is the uniform `Params`.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The WGSL variable's name.
    pub name: &'static str,
    /// Element type.
    pub elem: Elem,
    /// Read, write or update.
    pub access: Access,
}

/// A read-only f32 binding.
pub const fn read(name: &'static str) -> Binding {
    Binding { name, elem: Elem::F32, access: Access::Read }
}
/// A read-only u32 binding.
pub const fn read_u32(name: &'static str) -> Binding {
    Binding { name, elem: Elem::U32, access: Access::Read }
}
/// A written f32 binding.
pub const fn write(name: &'static str) -> Binding {
    Binding { name, elem: Elem::F32, access: Access::Write }
}
/// A written u32 binding.
pub const fn write_u32(name: &'static str) -> Binding {
    Binding { name, elem: Elem::U32, access: Access::Write }
}
/// An f32 binding updated in place.
pub const fn update(name: &'static str) -> Binding {
    Binding { name, elem: Elem::F32, access: Access::Update }
}
/// A u32 binding updated in place.
pub const fn update_u32(name: &'static str) -> Binding {
    Binding { name, elem: Elem::U32, access: Access::Update }
}

/// One field of a parameter struct, held against the shader's through naga's reflection.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The field's name, the same in WGSL.
    pub name: &'static str,
    /// Its WGSL type.
    pub ty: &'static str,
    /// Byte offset.
    pub offset: usize,
}

/// A kernel's uniform parameters; made by [`crate::params!`].
pub trait Params: bytemuck::Pod + std::fmt::Debug {
    /// Name, type and offset of each field in order.
    const FIELDS: &'static [Field];
}

/// The WGSL type of a parameter field's Rust type.
pub trait WgslType {
    /// As written in the shader.
    const NAME: &'static str;
}
impl WgslType for u32 {
    const NAME: &'static str = "u32";
}
impl WgslType for f32 {
    const NAME: &'static str = "f32";
}
impl WgslType for [f32; 4] {
    const NAME: &'static str = "vec4<f32>";
}

/// Declares a `#[repr(C)]` parameter struct together with its field list.
#[macro_export]
macro_rules! params {
    ($(#[$m:meta])* pub struct $name:ident { $($(#[$fm:meta])* $f:ident: $t:ty,)* }) => {
        $(#[$m])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$fm])* pub $f: $t,)* }
        impl $crate::kernels::Params for $name {
            const FIELDS: &'static [$crate::kernels::Field] = &[$($crate::kernels::Field {
                name: stringify!($f),
                ty: <$t as $crate::kernels::WgslType>::NAME,
                offset: std::mem::offset_of!($name, $f),
            },)*];
        }
    };
}

/// A kernel's WGSL text and the shared files that it leans on.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Path below `shaders/`, without the ending; its stem is the entry point.
    pub path: &'static str,
    /// The file's text.
    pub text: &'static str,
    /// Shared files, joined in front.
    pub common: &'static [&'static str],
}

/// Embeds `shaders/PATH.wgsl` and, behind the semicolon, the files of `shaders/common` that it uses.
#[macro_export]
macro_rules! wgsl {
    ($path:literal $(; $($c:literal),*)?) => {
        $crate::kernels::Source {
            path: $path,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $path, ".wgsl")),
            common: &[$($(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/common/", $c, ".wgsl"))),*)?],
        }
    };
}

/// A constant that the joiner sets in the shader's `const NAME: u32 = …;` line.
pub type Const = (&'static str, u32);

/// Arithmetic and memory traffic of one dispatch, the fewest that the task needs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point (or integer) operations; a multiply-add is two.
    pub flops: f64,
    /// Bytes read and written at least once.
    pub bytes: f64,
}

/// Invocations in a workgroup, for every kernel.
pub const GROUP: u32 = 64;

/// The workgroups that `items` invocations fill.
pub fn groups_for(items: u64) -> u64 {
    items.div_ceil(u64::from(GROUP))
}

/// One kernel: a WGSL file and this.
pub trait Kernel: Sync + 'static {
    /// The uniform parameters, equal to the shader's `struct Params`.
    type Params: Params;
    /// The shader.
    fn source(&self) -> Source;
    /// Storage bindings in order.
    fn bindings(&self) -> &'static [Binding];
    /// Constants compiled into the shader; must not depend on what changes between steps.
    fn consts(&self, p: &Self::Params) -> Vec<Const>;
    /// Workgroups of [`GROUP`] invocations.
    fn groups(&self, p: &Self::Params) -> u64;
    /// Words that each binding must hold at least.
    fn lens(&self, p: &Self::Params) -> Vec<usize>;
    /// The same arithmetic on the CPU, in f64 or in integers.
    fn twin(&self, p: &Self::Params, a: &mut Args);
    /// How far the shader may stray from the twin, and why.
    fn tolerance(&self, p: &Self::Params) -> Tolerance;
    /// Cases that the shader must pass before anyone trusts or times it.
    fn cases(&self) -> Vec<Case<Self::Params>>;
    /// Operations and bytes of one dispatch. A multiple of a tensor's words may be more than a u32 holds: count in f64.
    fn cost(&self, p: &Self::Params) -> Cost;
    /// The subgroup size that the shader with these parameters is compiled for; `None` runs anywhere.
    fn subgroup(&self, p: &Self::Params) -> Option<u32>;
}

/// A case with its parameters as bytes.
pub struct AnyCase {
    /// What the case is about.
    pub name: String,
    /// The uniform's bytes.
    pub params: Vec<u8>,
    /// How each binding is filled.
    pub fills: Vec<Fill>,
}

/// [`Kernel`] with erased parameters. Every `params` is the bytes of the kernel's own parameter struct.
pub trait AnyKernel: Sync {
    /// File stem, entry point and label.
    fn name(&self) -> &'static str;
    /// The shader.
    fn source(&self) -> Source;
    /// Storage bindings in order.
    fn bindings(&self) -> &'static [Binding];
    /// Parameter fields.
    fn fields(&self) -> &'static [Field];
    /// Size of the parameter struct in bytes.
    fn params_size(&self) -> usize;
    /// See [`Kernel::consts`].
    fn consts(&self, params: &[u8]) -> Vec<Const>;
    /// See [`Kernel::groups`].
    fn groups(&self, params: &[u8]) -> u64;
    /// See [`Kernel::lens`].
    fn lens(&self, params: &[u8]) -> Vec<usize>;
    /// See [`Kernel::twin`].
    fn twin(&self, params: &[u8], a: &mut Args);
    /// See [`Kernel::tolerance`].
    fn tolerance(&self, params: &[u8]) -> Tolerance;
    /// See [`Kernel::cases`].
    fn cases(&self) -> Vec<AnyCase>;
    /// See [`Kernel::cost`].
    fn cost(&self, params: &[u8]) -> Cost;
    /// See [`Kernel::subgroup`].
    fn subgroup(&self, params: &[u8]) -> Option<u32>;
    /// Whether every one of its cases needs subgroups: such a kernel stays native.
    fn needs_subgroups(&self) -> bool {
        self.cases().iter().all(|c| self.subgroup(&c.params).is_some())
    }
    /// The parameters for a person to read.
    fn describe(&self, params: &[u8]) -> String;
}

fn typed<P: Params>(bytes: &[u8]) -> P {
    bytemuck::pod_read_unaligned(bytes)
}

impl<K: Kernel> AnyKernel for K {
    fn name(&self) -> &'static str {
        let path = Kernel::source(self).path;
        path.rsplit('/').next().unwrap_or(path)
    }
    fn source(&self) -> Source {
        Kernel::source(self)
    }
    fn bindings(&self) -> &'static [Binding] {
        Kernel::bindings(self)
    }
    fn fields(&self) -> &'static [Field] {
        K::Params::FIELDS
    }
    fn params_size(&self) -> usize {
        size_of::<K::Params>()
    }
    fn consts(&self, params: &[u8]) -> Vec<Const> {
        Kernel::consts(self, &typed(params))
    }
    fn groups(&self, params: &[u8]) -> u64 {
        Kernel::groups(self, &typed(params))
    }
    fn lens(&self, params: &[u8]) -> Vec<usize> {
        Kernel::lens(self, &typed(params))
    }
    fn twin(&self, params: &[u8], a: &mut Args) {
        Kernel::twin(self, &typed(params), a)
    }
    fn tolerance(&self, params: &[u8]) -> Tolerance {
        Kernel::tolerance(self, &typed(params))
    }
    fn cases(&self) -> Vec<AnyCase> {
        let erase = |c: Case<K::Params>| AnyCase {
            name: c.name,
            params: bytemuck::bytes_of(&c.params).to_vec(),
            fills: c.fills,
        };
        Kernel::cases(self).into_iter().map(erase).collect()
    }
    fn cost(&self, params: &[u8]) -> Cost {
        Kernel::cost(self, &typed(params))
    }
    fn subgroup(&self, params: &[u8]) -> Option<u32> {
        Kernel::subgroup(self, &typed(params))
    }
    fn describe(&self, params: &[u8]) -> String {
        format!("{:?}", typed::<K::Params>(params))
    }
}

/// Implements [`Kernel`] for a unit struct; every part must be given.
#[macro_export]
macro_rules! kernel {
    ($(#[$m:meta])* pub $name:ident($p:ident: $params:ty) {
        source: $source:expr, bindings: [$($binding:expr),* $(,)?], consts: [$($const:expr),* $(,)?], groups: $groups:expr,
        lens: [$($len:expr),* $(,)?], tolerance: $tolerance:expr, cost: ($flops:expr, $bytes:expr), cases: $cases:expr,
        twin($a:ident): $twin:block
    }) => {
        $(#[$m])*
        pub struct $name;
        impl $crate::kernels::Kernel for $name {
            type Params = $params;
            fn source(&self) -> $crate::kernels::Source { $source }
            fn bindings(&self) -> &'static [$crate::kernels::Binding] { const { &[$($binding),*] } }
            #[allow(unused_variables)] // most kernels have no constants
            fn consts(&self, $p: &$params) -> Vec<$crate::kernels::Const> { vec![$($const),*] }
            #[allow(unused_variables)] // one works in a single group whatever its parameters
            fn groups(&self, $p: &$params) -> u64 { $groups }
            fn lens(&self, $p: &$params) -> Vec<usize> { vec![$($len as usize),*] }
            #[allow(unused_variables)] // exact kernels need no sizes here
            fn tolerance(&self, $p: &$params) -> $crate::kernels::Tolerance { $tolerance }
            fn cost(&self, $p: &$params) -> $crate::kernels::Cost {
                $crate::kernels::Cost { flops: $flops as f64, bytes: 4.0 * $bytes as f64 }
            }
            fn cases(&self) -> Vec<$crate::kernels::Case<$params>> { $cases }
            fn subgroup(&self, _: &$params) -> Option<u32> { None }
            fn twin(&self, $p: &$params, $a: &mut $crate::kernels::Args) $twin
        }
    };
}
