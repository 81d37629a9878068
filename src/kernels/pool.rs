//! The parameter-free shortcut, max pool and global average pool.

use super::{Case, Fill, Tolerance, groups_for, read, read_u32, write, write_u32};

crate::params! {
    /// The option-A shortcut: every second pixel, zero channels around.
    pub struct PadShortcutParams {
        /// Images.
        n: u32,
        /// Input height.
        h: u32,
        /// Input width.
        w: u32,
        /// Input channels, padded to a multiple of 4.
        cin: u32,
        /// Output height.
        oh: u32,
        /// Output width.
        ow: u32,
        /// Output channels, padded to a multiple of 4.
        cout: u32,
        /// Input channels that exist.
        channels: u32,
        /// Zero channels in front: (Cout − Cin)/2.
        shift: u32,
        /// Distance of the pixels that are kept.
        stride: u32,
    }
}

impl PadShortcutParams {
    /// From `n` images [h, w, cin] to `cout` channels, every `stride`-th pixel.
    pub fn new(n: u32, [h, w, channels]: [u32; 3], cout: u32, stride: u32) -> Self {
        let pad4 = |c: u32| c.next_multiple_of(4);
        let (oh, ow) = (h.div_ceil(stride), w.div_ceil(stride));
        Self { n, h, w, cin: pad4(channels), oh, ow, cout: pad4(cout), channels, shift: (cout - channels) / 2, stride }
    }
    fn input(&self) -> u32 {
        self.n * self.h * self.w * self.cin
    }
    fn output(&self) -> u32 {
        self.n * self.oh * self.ow * self.cout
    }
    /// Calls `f(input index, output index)` for every element that the shortcut carries over.
    fn kept(&self, mut f: impl FnMut(usize, usize)) {
        for o in 0..self.output() {
            let c = (o % self.cout).wrapping_sub(self.shift);
            let (x, y) = (o / self.cout % self.ow * self.stride, o / (self.cout * self.ow) % self.oh * self.stride);
            let image = o / (self.cout * self.ow * self.oh);
            if c < self.channels {
                f((((image * self.h + y) * self.w + x) * self.cin + c) as usize, o as usize);
            }
        }
    }
}

fn pad_cases(fills: &[Fill]) -> Vec<Case<PadShortcutParams>> {
    [(2, [8, 8, 16], 32, 2), (1, [7, 9, 10], 20, 2), (3, [4, 4, 3], 5, 1), (1, [1, 1, 4], 8, 2), (1, [5, 4, 6], 14, 2)]
        .map(|(n, input, cout, stride)| {
            let name = format!("{n}x{input:?} to {cout}, stride {stride}");
            Case::new(name, PadShortcutParams::new(n, input, cout, stride), fills.to_vec())
        })
        .to_vec()
}

crate::kernel! {
    /// y[i, j, c] = x[stride·i, stride·j, c − shift].
    pub PadShortcut(p: PadShortcutParams) {
        source: crate::wgsl!("pool/pad_shortcut"; "grid"),
        bindings: [read("x"), write("y")],
        consts: [("ALIGNED", p.shift.is_multiple_of(4).into()), ("STRIDE", p.stride), ("OH", p.oh), ("OW", p.ow), ("C4", p.cout / 4)],
        groups: groups_for(u64::from(p.output() / 4)),
        lens: [p.input(), p.output()],
        tolerance: Tolerance::Exact,
        cost: (0, p.n * p.oh * p.ow * p.channels + p.output()),
        cases: pad_cases(&[Fill::Normal(1.0), Fill::Out]),
        twin(a): {
            let (x, mut y) = (a.f(0), a.out(1));
            (0..p.output() as usize).for_each(|o| y.exact(o, 0.0));
            p.kept(|i, o| y.exact(o, x[i]));
        }
    }
}

crate::kernel! {
    /// Gradient of [`PadShortcut`].
    pub PadShortcutBackward(p: PadShortcutParams) {
        source: crate::wgsl!("pool/pad_shortcut_backward"; "grid"),
        bindings: [read("dy"), write("dx")],
        consts: [("ALIGNED", p.shift.is_multiple_of(4).into()), ("STRIDE", p.stride), ("H", p.h), ("W", p.w), ("C4", p.cin / 4)],
        groups: groups_for(u64::from(p.input() / 4)),
        lens: [p.output(), p.input()],
        tolerance: Tolerance::Exact,
        cost: (0, p.n * p.oh * p.ow * p.channels + p.input()),
        cases: pad_cases(&[Fill::Normal(1.0), Fill::Out]),
        twin(a): {
            let (dy, mut dx) = (a.f(0), a.out(1));
            (0..p.input() as usize).for_each(|i| dx.exact(i, 0.0));
            p.kept(|i, o| dx.exact(i, dy[o]));
        }
    }
}

crate::params! {
    /// A max pool over square windows; padding never wins.
    pub struct MaxPoolParams {
        /// Images.
        n: u32,
        /// Input height.
        h: u32,
        /// Input width.
        w: u32,
        /// Channels / 4, rounded up.
        c4: u32,
        /// Output height.
        oh: u32,
        /// Output width.
        ow: u32,
        /// Window.
        k: u32,
        /// Stride.
        stride: u32,
        /// Padding.
        pad: u32,
        /// 1: the input is a ReLU's output, whose gate the gradient passes.
        relu: u32,
    }
}

impl MaxPoolParams {
    /// From `n` images [h, w, c].
    pub fn new(n: u32, [h, w, c]: [u32; 3], [k, stride, pad]: [u32; 3]) -> Self {
        let out = |size: u32| (size + 2 * pad - k) / stride + 1;
        Self { n, h, w, c4: c.div_ceil(4), oh: out(h), ow: out(w), k, stride, pad, relu: 0 }
    }
    fn input(&self) -> u32 {
        4 * self.n * self.h * self.w * self.c4
    }
    fn output(&self) -> u32 {
        4 * self.n * self.oh * self.ow * self.c4
    }
    /// (input index, tap) of the window of output word `o`, in the order in which ties are decided.
    fn window(&self, o: u32) -> impl Iterator<Item = (usize, u32)> + use<> {
        let p = *self;
        let c = 4 * p.c4;
        let (channel, ox, oy, image) = (o % c, o / c % p.ow, o / (c * p.ow) % p.oh, o / (c * p.ow * p.oh));
        (0..p.k * p.k).filter_map(move |tap| {
            let iy = (oy * p.stride + tap / p.k).checked_sub(p.pad).filter(|y| *y < p.h)?;
            let ix = (ox * p.stride + tap % p.k).checked_sub(p.pad).filter(|x| *x < p.w)?;
            Some(((((image * p.h + iy) * p.w + ix) * c + channel) as usize, tap))
        })
    }
}

fn pool_cases(fills: &[Fill]) -> Vec<Case<MaxPoolParams>> {
    [(2, [8, 8, 8], [3, 2, 1]), (1, [7, 9, 5], [3, 2, 1]), (1, [6, 6, 4], [2, 2, 0]), (1, [5, 5, 4], [3, 1, 1])]
        .map(|(n, input, pool)| {
            Case::new(format!("{n}x{input:?}, {pool:?}"), MaxPoolParams::new(n, input, pool), fills.to_vec())
        })
        .to_vec()
}

crate::kernel! {
    /// Largest value of each window and the tap that holds it.
    pub MaxPool(p: MaxPoolParams) {
        source: crate::wgsl!("pool/max_pool"; "grid"),
        bindings: [read("x"), write("y"), write_u32("tap")],
        consts: [],
        groups: groups_for(u64::from(p.output() / 4)),
        lens: [p.input(), p.output(), p.output()],
        tolerance: Tolerance::Exact,
        cost: (p.output() * p.k * p.k, p.input() + 2 * p.output()),
        cases: {
            let mut all = pool_cases(&[Fill::Normal(1.0), Fill::Out, Fill::Out]);
            // Negative values show padding that wins; equal ones show which tap does.
            all.extend(pool_cases(&[Fill::Uniform(-2.0, -1.0), Fill::Out, Fill::Out]));
            all.extend(pool_cases(&[Fill::Uniform(-1.0, -1.0), Fill::Out, Fill::Out]));
            all
        },
        twin(a): {
            let (x, mut y, tap) = (a.f(0), a.out(1), a.out_u32(2));
            for o in 0..p.output() {
                let first = p.window(o).reduce(|best, new| if x[new.0] > x[best.0] { new } else { best });
                let (i, t) = first.expect("a window meets the image");
                y.exact(o as usize, x[i]);
                tap[o as usize] = t;
            }
        }
    }
}

crate::kernel! {
    /// Gradient of [`MaxPool`].
    pub MaxPoolBackward(p: MaxPoolParams) {
        source: crate::wgsl!("pool/max_pool_backward"; "grid"),
        bindings: [read("dy"), read_u32("tap"), read("gate"), write("dx")],
        consts: [("RELU", p.relu)],
        groups: groups_for(u64::from(p.input() / 4)),
        lens: [p.output(), p.output(), p.relu * p.input(), p.input()],
        tolerance: Tolerance::Budget { c: 1.0, terms: u64::from(p.k * p.k) },
        cost: (p.output(), 2 * p.output() + (1 + p.relu) * p.input()),
        cases: {
            let all = |relu, gate| {
                let all = pool_cases(&[Fill::Normal(1.0), Fill::Below(9), gate, Fill::Out]).into_iter();
                all.map(move |c| Case { name: format!("{}, ReLU {relu}", c.name), params: MaxPoolParams { relu, ..c.params }, ..c })
            };
            all(0, Fill::Normal(1.0)).chain(all(1, Fill::Rectified(1.0))).collect()
        },
        twin(a): {
            let (dy, tap, gate, mut dx) = (a.f(0), a.u(1), a.f(2), a.out(3));
            let mut sums = vec![[0.0; 2]; p.input() as usize];
            for o in 0..p.output() {
                if let Some((i, _)) = p.window(o).find(|(_, t)| *t == tap[o as usize]) {
                    let g = dy[o as usize];
                    sums[i] = [sums[i][0] + g, sums[i][1] + g.abs()];
                }
            }
            let open = |i: usize| p.relu == 0 || gate[i] > 0.0;
            sums.iter().enumerate().for_each(|(i, s)| dx.set(i, if open(i) { s[0] } else { 0.0 }, s[1]));
        }
    }
}

crate::params! {
    /// A mean over all pixels.
    pub struct GlobalAvgPoolParams {
        /// Images.
        n: u32,
        /// Pixels of an image.
        hw: u32,
        /// Channels / 4, rounded up.
        c4: u32,
        /// 1: the input is a ReLU's output, whose gate the gradient passes.
        relu: u32,
    }
}

fn gap_cases(relu: u32, fills: &[Fill]) -> Vec<Case<GlobalAvgPoolParams>> {
    [(1, 1, 1), (3, 49, 2), (65, 64, 16)]
        .map(|(n, hw, c4)| {
            let p = GlobalAvgPoolParams { n, hw, c4, relu };
            Case::new(format!("{n} images, {hw} pixels, {c4} vec4, ReLU {relu}"), p, fills.to_vec())
        })
        .to_vec()
}

crate::kernel! {
    /// Mean over an image's pixels.
    pub GlobalAvgPool(p: GlobalAvgPoolParams) {
        source: crate::wgsl!("pool/global_avg_pool"; "grid"),
        bindings: [read("x"), write("y")],
        consts: [],
        groups: groups_for(u64::from(p.n * p.c4)),
        lens: [4 * p.n * p.hw * p.c4, 4 * p.n * p.c4],
        tolerance: Tolerance::Budget { c: 4.0, terms: p.hw.into() },
        cost: (4 * p.n * p.hw * p.c4, 4 * p.n * p.hw * p.c4),
        cases: gap_cases(0, &[Fill::Normal(1.0), Fill::Out]),
        twin(a): {
            let (x, mut y) = (a.f(0), a.out(1));
            let (c, hw) = (4 * p.c4 as usize, p.hw as usize);
            for i in 0..p.n as usize * c {
                let values = || x[i / c * hw * c + i % c..].iter().step_by(c).take(hw);
                let scale = 1.0 / hw as f64;
                y.set(i, values().sum::<f64>() * scale, values().map(|v| v.abs()).sum::<f64>() * scale);
            }
        }
    }
}

crate::kernel! {
    /// Gradient of [`GlobalAvgPool`].
    pub GlobalAvgPoolBackward(p: GlobalAvgPoolParams) {
        source: crate::wgsl!("pool/global_avg_pool_backward"; "grid"),
        bindings: [read("dy"), read("gate"), write("dx")],
        consts: [("RELU", p.relu)],
        groups: groups_for(u64::from(p.n * p.hw * p.c4)),
        lens: [4 * p.n * p.c4, 4 * p.relu * p.n * p.hw * p.c4, 4 * p.n * p.hw * p.c4],
        tolerance: Tolerance::Budget { c: 3.0, terms: 0 }, // a division is good to 2.5 ulps
        cost: (4 * p.n * p.hw * p.c4, 4 * (1 + p.relu) * p.n * p.hw * p.c4),
        cases: {
            let with = |relu, gate| gap_cases(relu, &[Fill::Normal(1.0), gate, Fill::Out]);
            [with(0, Fill::Normal(1.0)), with(1, Fill::Rectified(1.0))].concat()
        },
        twin(a): {
            let (dy, gate, mut dx) = (a.f(0), a.f(1), a.out(2));
            let (c, hw) = (4 * p.c4 as usize, p.hw as usize);
            for i in 0..p.n as usize * hw * c {
                let v = dy[i / (hw * c) * c + i % c] / hw as f64;
                dx.exact(i, if p.relu == 0 || gate[i] > 0.0 { v } else { 0.0 });
            }
        }
    }
}
