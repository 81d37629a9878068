// PyTorch's SGD on one word of a shader's `params` and `velocity`, with its `p.decay`, `p.momentum` and `p.nesterov`.
fn advance(at: u32, gradient: f32, rate: f32) {
    let w = params[at];
    let g = fma(p.decay, w, gradient);
    let v = fma(p.momentum, velocity[at], g);
    let d = select(v, fma(p.momentum, v, g), p.nesterov == 1u);
    velocity[at] = v;
    params[at] = fma(-rate, d, w);
}
