// The two vec4 of columns of an invocation.
struct Columns {
    a: vec4<f32>,
    b: vec4<f32>,
}
var<workgroup> columns: array<Columns, 64>;

// Σ over the TM invocations that have the same columns, pairwise. All 64 invocations must call.
fn column_sums(mine: Columns, lane: u32) -> Columns {
    columns[lane] = mine;
    for (var half = 32u; half >= TN; half >>= 1u) {
        workgroupBarrier();
        if (lane < half) {
            columns[lane].a += columns[lane + half].a;
            columns[lane].b += columns[lane + half].b;
        }
    }
    workgroupBarrier();
    let total = columns[lane % TN];
    workgroupBarrier();
    return total;
}
