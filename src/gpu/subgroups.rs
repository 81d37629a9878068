//! What an adapter's subgroups are, and whether kernels may lean on them.

use std::fmt;

use super::{Gpu, Pipelines};
use crate::error::{Error, Result};
use crate::kernels::probe::{SUBGROUP_SIZES, SubgroupLanes, SubgroupLanesParams};
use crate::kernels::{AnyCase, Fill, doctor};

/// An adapter's subgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subgroups {
    /// It has none.
    Absent,
    /// Their size may differ from one dispatch to the next.
    Varied {
        /// Smallest.
        min: u32,
        /// Largest.
        max: u32,
    },
    /// One size, for which there are no kernels.
    Unserved(u32),
    /// One size, but lanes do not go with invocations, or broadcasts go astray.
    Wrong {
        /// The size.
        size: u32,
        /// What the probe found.
        what: String,
    },
    /// One size, and the probe passed: subgroup kernels run.
    Fixed(u32),
}

impl Subgroups {
    /// The size that kernels may be compiled for.
    pub fn size(&self) -> Option<u32> {
        match self {
            Self::Fixed(size) => Some(*size),
            _ => None,
        }
    }

    /// What the adapter claims.
    fn claimed(has: bool, min: u32, max: u32) -> Self {
        match (has, min) {
            (false, _) => Self::Absent,
            _ if min != max => Self::Varied { min, max },
            (_, size) if !SUBGROUP_SIZES.contains(&size) => Self::Unserved(size),
            (_, size) => Self::Fixed(size),
        }
    }

    /// What the adapter claims, held against a kernel that looks.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] where the probe takes the device with it.
    pub(super) fn probe(gpu: &Gpu) -> Result<Self> {
        let has = gpu.device.features().contains(wgpu::Features::SUBGROUP);
        let claimed = Self::claimed(has, gpu.info.subgroup_min_size, gpu.info.subgroup_max_size);
        let Self::Fixed(size) = claimed else { return Ok(claimed) };
        let params = bytemuck::bytes_of(&SubgroupLanesParams { size, groups: 4 }).to_vec();
        let case = AnyCase { name: "start".into(), params, fills: vec![Fill::Out] };
        let what = match doctor::run_case(gpu, &mut Pipelines::default(), &SubgroupLanes, &case) {
            Ok((bad, _)) if bad.is_empty() => return Ok(claimed),
            Ok((bad, _)) => {
                let bits = bad.iter().fold(0, |all, m| all | m.got as u32);
                let name = |(bit, name): (u32, &'static str)| (bits & bit != 0).then_some(name);
                let names =
                    [(1, "another size"), (2, "lanes out of order"), (4, "broadcasts astray"), (8, "shuffles astray")];
                names.into_iter().filter_map(name).collect::<Vec<_>>().join(", ")
            }
            Err(Error::Gpu { what }) => what,
            Err(other) => return Err(other),
        };
        Ok(Self::Wrong { size, what })
    }
}

impl fmt::Display for Subgroups {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let off = "subgroup kernels stay off";
        match self {
            Self::Absent => write!(f, "none"),
            Self::Varied { min, max } => write!(f, "of {min} to {max}, not of one size: {off}"),
            Self::Unserved(size) => write!(f, "of {size}, for which there are no kernels: {off}"),
            Self::Wrong { size, what } => write!(f, "of {size}, probe failed ({what}): {off}"),
            Self::Fixed(size) => write!(f, "of {size}, probe passed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_size_that_has_kernels_counts() {
        for size in SUBGROUP_SIZES {
            assert_eq!(Subgroups::claimed(true, size, size).size(), Some(size));
        }
        for (has, min, max) in [(false, 8, 8), (true, 32, 64), (true, 1, 1), (true, 128, 128), (true, 0, 0)] {
            let claimed = Subgroups::claimed(has, min, max);
            assert_eq!(claimed.size(), None, "{claimed}");
        }
        let wrong = Subgroups::Wrong { size: 8, what: "lanes out of order".into() };
        assert_eq!(wrong.size(), None);
        assert!(wrong.to_string().contains("lanes out of order"));
    }
}
