// What a residual connection adds to the input gradient at vec4 i: nothing, the gradient that came along it, or that gradient where the
// ReLU at its end was open.
const SKIP: u32 = 0u; // 0: none, 1: plain, 2: gated

fn skip_at(i: u32) -> vec4<f32> {
    if (SKIP == 0u) {
        return vec4(0.0);
    }
    let v = skip[i];
    if (SKIP == 1u) {
        return v;
    }
    return select(vec4(0.0), v, gate[i] > vec4(0.0));
}
