// PyTorch's Adam and RAdam on a whole slab: g ← grad + decay·w;  m ← β1·m + (1 − β1)·g;  v ← β2·v + (1 − β2)·g²;
// w ← w − rate · m / (sqrt(v) + eps), or w − rate · m while RAdam's variance is not to be trusted. The host has put the bias corrections
// into rate and eps. Words from `latents` on take rate · latent_rate. One invocation a vec4.
struct Params {
    len4: u32,
    latents: u32,      // first vec4 of the latents
    adaptive: u32,     // 0: without the second moment
    rate: f32,
    latent_rate: f32,  // factor
    decay: f32,
    beta1: f32,
    rest1: f32,        // 1 − β1
    beta2: f32,
    rest2: f32,        // 1 − β2
    eps: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> grads: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> params: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> first: array<vec4<f32>>;   // m
@group(0) @binding(4) var<storage, read_write> second: array<vec4<f32>>;  // v

@compute @workgroup_size(64)
fn adam(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.len4) {
        return;
    }
    let w = params[i];
    let g = fma(vec4(p.decay), w, grads[i]);
    let m = fma(vec4(p.beta1), first[i], p.rest1 * g);
    let v = fma(vec4(p.beta2), second[i], p.rest2 * g * g);
    first[i] = m;
    second[i] = v;
    let d = select(m, m / (sqrt(v) + vec4(p.eps)), p.adaptive == 1u);
    params[i] = fma(vec4(-p.rate * select(1.0, p.latent_rate, i >= p.latents)), d, w);
}
