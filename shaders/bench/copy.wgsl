// y = x: the fastest that memory can be read and written by a shader. x, y: [len4] vec4. An invocation copies 4 vec4, 64 apart,
// so that a workgroup's loads are consecutive and four are under way at once.
struct Params {
    len4: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn copy(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 256u + lane;
    if (i + 192u < p.len4) {
        //#repeat k 4
        let v$k = x[i + 64u * $ku];
        //#end
        //#repeat k 4
        y[i + 64u * $ku] = v$k;
        //#end
    } else {
        for (var j = i; j < p.len4; j += 64u) {
            y[j] = x[j];
        }
    }
}
