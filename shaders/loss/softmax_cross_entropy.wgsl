// With q = softmax(logits), t = (1 − s)·onehot(label) + s/classes:  loss[n] = −Σ t·ln q,  dlogits = (q − t)/total,
// rank[n] = how many classes come before the label (higher logit, or equal and earlier). One invocation an image.
struct Params {
    n: u32,
    total: u32,  // images of the step that the batch is a part of
    classes: u32,
    smoothing: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;         // [n, classes]
@group(0) @binding(2) var<storage, read> batch: array<u32>;          // labels first
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;     // [n]
@group(0) @binding(4) var<storage, read_write> rank: array<u32>;     // [n]
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;  // [n, classes]

@compute @workgroup_size(64)
fn softmax_cross_entropy(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * 64u + lane;
    if (i >= p.n) {
        return;
    }
    let row = i * p.classes;
    let label = batch[i];
    let target_logit = logits[row + label];
    var top = logits[row];
    var before = 0u;
    for (var k = 0u; k < p.classes; k++) {
        let v = logits[row + k];
        top = max(top, v);
        before += u32(v > target_logit || (v == target_logit && k < label));
    }
    var total = 0.0;
    var mean_gap = 0.0; // mean of top − logit
    for (var k = 0u; k < p.classes; k++) {
        let d = logits[row + k] - top;
        total += exp_neg(d);
        mean_gap -= d;
    }
    mean_gap /= f32(p.classes);
    loss[i] = ln_pos(total) + (1.0 - p.smoothing) * (top - target_logit) + p.smoothing * mean_gap;
    rank[i] = before;
    for (var k = 0u; k < p.classes; k++) {
        let q = exp_neg(logits[row + k] - top) / total;
        let t = (1.0 - p.smoothing) * f32(k == label) + p.smoothing / f32(p.classes);
        dlogits[row + k] = (q - t) / f32(p.total);
    }
}
