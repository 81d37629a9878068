// What becomes of v, the input gradient at vec4 i, on its way out: the gradient that came along a residual connection is added, and
// where the input is a ReLU's output, only what reaches it with the gate open goes on.
const EPILOGUE: u32 = 0u; // bits: 1 add `skip`, 2 apply `gate`

fn epilogue(i: u32, v: vec4<f32>) -> vec4<f32> {
    var sum = v;
    if ((EPILOGUE & 1u) != 0u) {
        sum += skip[i];
    }
    if ((EPILOGUE & 2u) != 0u) {
        sum = select(vec4(0.0), sum, gate[i] > vec4(0.0));
    }
    return sum;
}
