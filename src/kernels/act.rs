//! Elementwise kernels.

use super::{Case, Fill, Tolerance, groups_for, read, write};

crate::params! {
    /// Length of an elementwise pass.
    pub struct ElementwiseParams {
        /// vec4 to process.
        len4: u32,
    }
}

fn cases(fills: &[Fill]) -> Vec<Case<ElementwiseParams>> {
    let case = |len4: u32| Case::new(format!("{len4} vec4"), ElementwiseParams { len4 }, fills.to_vec());
    [0, 1, 63, 64, 65, 1000].map(case).to_vec()
}

crate::kernel! {
    /// y = max(x, 0), and NaN where x is.
    pub Relu(p: ElementwiseParams) {
        source: crate::wgsl!("act/relu"; "grid"),
        bindings: [read("x"), write("y")],
        consts: [],
        groups: groups_for(p.len4.into()),
        lens: [4 * p.len4, 4 * p.len4],
        tolerance: Tolerance::Exact,
        cost: (4 * p.len4, 8 * p.len4),
        // One case beyond 65,535 workgroups, for the grid that all kernels share.
        cases: cases(&[Fill::Normal(1.0), Fill::Out]).into_iter().chain([Case::new(
            "beyond 65,535 workgroups",
            ElementwiseParams { len4: 65_536 * 64 + 1 },
            vec![Fill::Uniform(-1.0, 1.0), Fill::Out],
        ), Case::new("NaN", ElementwiseParams { len4: 65 }, vec![Fill::Nans, Fill::Out])]).collect(),
        twin(a): {
            let (x, mut y) = (a.f(0), a.out(1));
            for i in 0..4 * p.len4 as usize {
                // As the shader does, and unlike f64::max, lets NaN through.
                y.exact(i, if x[i] <= 0.0 { 0.0 } else { x[i] });
            }
        }
    }
}

crate::kernel! {
    /// dx = dy where y > 0.
    pub ReluBackward(p: ElementwiseParams) {
        source: crate::wgsl!("act/relu_backward"; "grid"),
        bindings: [read("y"), read("dy"), write("dx")],
        consts: [],
        groups: groups_for(p.len4.into()),
        lens: [4 * p.len4, 4 * p.len4, 4 * p.len4],
        tolerance: Tolerance::Exact,
        cost: (4 * p.len4, 12 * p.len4),
        cases: {
            let zeros = ElementwiseParams { len4: 2 };
            let y = vec![0.0, -0.0, 1.0, f32::MIN_POSITIVE, 0.0, 2.0, 0.0, 3.0];
            let mut all = cases(&[Fill::Rectified(1.0), Fill::Normal(1.0), Fill::Out]);
            all.push(Case::new("zeros of both signs", zeros, vec![Fill::Floats(y), Fill::Normal(1.0), Fill::Out]));
            let nan = vec![Fill::Nans, Fill::Normal(1.0), Fill::Out];
            all.push(Case::new("NaN", ElementwiseParams { len4: 65 }, nan));
            all
        },
        twin(a): {
            let (y, dy, mut dx) = (a.f(0), a.f(1), a.out(2));
            for i in 0..4 * p.len4 as usize {
                dx.exact(i, if y[i] > 0.0 { dy[i] } else { 0.0 });
            }
        }
    }
}

crate::kernel! {
    /// y = a + b.
    pub Add(p: ElementwiseParams) {
        source: crate::wgsl!("act/add"; "grid"),
        bindings: [read("a"), read("b"), write("y")],
        consts: [],
        groups: groups_for(p.len4.into()),
        lens: [4 * p.len4, 4 * p.len4, 4 * p.len4],
        tolerance: Tolerance::Budget { c: 1.0, terms: 0 },
        cost: (4 * p.len4, 12 * p.len4),
        cases: cases(&[Fill::Normal(1.0), Fill::Normal(1.0), Fill::Out]),
        twin(args): {
            let (a, b, mut y) = (args.f(0), args.f(1), args.out(2));
            for i in 0..4 * p.len4 as usize {
                y.set(i, a[i] + b[i], a[i].abs() + b[i].abs());
            }
        }
    }
}
