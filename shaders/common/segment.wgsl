// Which layer a workgroup works on, for dispatches that cover all layers at once: those of a method, and those that stay plain.
// `table` holds, for each workgroup, the index of its segment; behind these words the segments, twelve words each.
struct Segment {
    base: u32,    // first latent in the parameter slab
    stride: u32,  // words from one latent tensor to the next
    count: u32,   // weights in the layer
    cin: u32,
    cout: u32,
    cin_pad: u32, // both rounded up to a multiple of 4
    cout_pad: u32,
    w: u32,       // first word in the weight slabs
    group: u32,   // first workgroup
    taps: u32,    // kh · kw
    plain: u32,   // 1: its one latent is the weight
    aux: u32,     // first word of what else the method keeps for the layer: scales, flags
}

fn segment_of(group: u32, groups: u32) -> Segment {
    let s = groups + 12u * table[group];
    return segment_at(s);
}

// The segment that begins at this word.
fn segment_at(s: u32) -> Segment {
    return Segment(table[s], table[s + 1u], table[s + 2u], table[s + 3u], table[s + 4u], table[s + 5u],
        table[s + 6u], table[s + 7u], table[s + 8u], table[s + 9u], table[s + 10u], table[s + 11u]);
}

// A weight of a layer. Latents are ordered [kh, kw, Cin, Cout] without padding.
struct Weight {
    i: u32,   // in that order
    tap: u32,
    ci: u32,
    co: u32,
}

// The first of the weights that an invocation works on, up to end_weight: a workgroup has 256 of its layer, an invocation four in a row,
// so that it divides once for all of them.
fn first_weight(s: Segment, group: u32, lane: u32) -> Weight {
    let i = (group - s.group) * 256u + 4u * lane;
    let t = i / s.cout;
    let tap = t / s.cin;
    return Weight(i, tap, t - tap * s.cin, i - t * s.cout);
}

fn end_weight(s: Segment, first: Weight) -> u32 {
    return min(first.i + 4u, s.count);
}

fn next_weight(s: Segment, at: Weight) -> Weight {
    var next = Weight(at.i + 1u, at.tap, at.ci, at.co + 1u);
    if (next.co == s.cout) {
        next.co = 0u;
        next.ci += 1u;
    }
    if (next.ci == s.cin) {
        next.ci = 0u;
        next.tap += 1u;
    }
    return next;
}

// Where a weight stands in the padded W [kh, kw, Cin, Cout] …
fn weight_index(s: Segment, at: Weight) -> u32 {
    return s.w + (at.tap * s.cin_pad + at.ci) * s.cout_pad + at.co;
}

// … and in the transposed [kh, kw, Cout, Cin] that the input gradient reads.
fn transposed_index(s: Segment, at: Weight) -> u32 {
    return s.w + (at.tap * s.cout_pad + at.co) * s.cin_pad + at.ci;
}
