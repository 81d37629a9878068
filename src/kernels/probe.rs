//! The probe of an adapter's subgroups: do lanes and invocations go together as the subgroup kernels take for granted?

use super::kernel::write_u32;
use super::{Args, Binding, Case, Const, Cost, Fill, GROUP, Kernel, Source, Tolerance};

/// Sizes that kernels are compiled for.
pub const SUBGROUP_SIZES: [u32; 5] = [4, 8, 16, 32, 64];

crate::params! {
    /// Parameters of [`SubgroupLanes`].
    pub struct SubgroupLanesParams {
        /// Lanes of a subgroup.
        size: u32,
        /// Workgroups.
        groups: u32,
    }
}

/// Each invocation writes what it finds amiss with its subgroup: nothing, says the twin.
pub struct SubgroupLanes;

impl Kernel for SubgroupLanes {
    type Params = SubgroupLanesParams;
    fn source(&self) -> Source {
        crate::wgsl!("probe/subgroup_lanes"; "grid")
    }
    fn bindings(&self) -> &'static [Binding] {
        const { &[write_u32("wrong")] }
    }
    fn consts(&self, p: &SubgroupLanesParams) -> Vec<Const> {
        vec![("SUBGROUP", p.size)]
    }
    fn groups(&self, p: &SubgroupLanesParams) -> u64 {
        p.groups.into()
    }
    fn lens(&self, p: &SubgroupLanesParams) -> Vec<usize> {
        vec![(GROUP * p.groups) as usize]
    }
    fn twin(&self, _: &SubgroupLanesParams, a: &mut Args) {
        a.out_u32(0).fill(0);
    }
    fn tolerance(&self, _: &SubgroupLanesParams) -> Tolerance {
        Tolerance::Exact
    }
    fn cases(&self) -> Vec<Case<SubgroupLanesParams>> {
        let case = |size, groups| {
            let name = format!("subgroups of {size}, {groups} workgroups");
            Case::new(name, SubgroupLanesParams { size, groups }, vec![Fill::Out])
        };
        SUBGROUP_SIZES.iter().flat_map(|size| [1, 3, 100].map(|groups| case(*size, groups))).collect()
    }
    fn cost(&self, p: &SubgroupLanesParams) -> Cost {
        Cost { flops: 0.0, bytes: 4.0 * f64::from(GROUP * p.groups) }
    }
    fn subgroup(&self, p: &SubgroupLanesParams) -> Option<u32> {
        Some(p.size)
    }
}
