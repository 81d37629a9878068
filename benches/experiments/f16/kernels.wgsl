// y = a x in three storage forms, and chains of multiply-adds in two. The host keeps the parts between the //# lines that it wants.
//# f32
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    y[id.x] = x[id.x] * 0.5;
}
//# packed
// Four values in two words: core WGSL, no feature needed.
@group(0) @binding(0) var<storage, read> x: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec2<u32>>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let v = vec4(unpack2x16float(x[id.x].x), unpack2x16float(x[id.x].y)) * 0.5;
    y[id.x] = vec2(pack2x16float(v.xy), pack2x16float(v.zw));
}
//# f16
@group(0) @binding(0) var<storage, read> x: array<vec4<f16>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f16>>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    y[id.x] = x[id.x] * 0.5h;
}
//# chain f32
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let v = x[id.x];
    var a = v;
    var b = v + 1.0;
    var c = v + 2.0;
    var d = v + 3.0;
    for (var i = 0u; i < 256u; i += 1u) {
        a = fma(a, v, v);
        b = fma(b, v, v);
        c = fma(c, v, v);
        d = fma(d, v, v);
    }
    y[id.x] = a + b + c + d;
}
//# chain f16
@group(0) @binding(0) var<storage, read> x: array<vec4<f16>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f16>>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let v = x[id.x];
    var a = v;
    var b = v + 1.0h;
    var c = v + 2.0h;
    var d = v + 3.0h;
    for (var i = 0u; i < 256u; i += 1u) {
        a = fma(a, v, v);
        b = fma(b, v, v);
        c = fma(c, v, v);
        d = fma(d, v, v);
    }
    y[id.x] = a + b + c + d;
}
//# cooperative
@group(0) @binding(0) var<storage, read_write> a: array<AB>;
@group(0) @binding(1) var<storage, read_write> c: array<f32>;
@compute @workgroup_size(32) fn main() {
    let left = coopLoad<TILE<AB, A>>(&a[0], SIZE);
    let right = coopLoad<TILE<AB, B>>(&a[0], SIZE);
    let sum = coopLoad<TILE<f32, C>>(&c[0], SIZE);
    coopStore(coopMultiplyAdd(left, right, sum), &c[0], SIZE);
}
