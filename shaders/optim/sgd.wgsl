// PyTorch's SGD on a whole slab: g ← grad + decay·w;  v ← momentum·v + g;  d = g + momentum·v (Nesterov) or v;  w ← w − rate·d.
// Words from `latents` on take rate · latent_rate. One invocation a vec4.
struct Params {
    len4: u32,
    latents: u32,      // first vec4 of the latents
    nesterov: u32,     // 0 or 1
    rate: f32,
    latent_rate: f32,  // factor
    momentum: f32,
    decay: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> grads: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> params: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> velocity: array<vec4<f32>>;

@compute @workgroup_size(64)
fn sgd(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.len4) {
        return;
    }
    let w = params[i];
    let g = fma(vec4(p.decay), w, grads[i]);
    let v = fma(vec4(p.momentum), velocity[i], g);
    let d = select(v, fma(vec4(p.momentum), v, g), p.nesterov == 1u);
    velocity[i] = v;
    params[i] = fma(vec4(-p.rate * select(1.0, p.latent_rate, i >= p.latents)), d, w);
}
