// y = max(x, 0), elementwise. One invocation a vec4.
struct Params {
    len4: u32, // vec4
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn relu(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i < p.len4) {
        y[i] = select(x[i], vec4(0.0), x[i] <= vec4(0.0)); // unlike max, lets NaN through to the loss
    }
}
