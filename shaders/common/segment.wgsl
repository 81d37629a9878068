// Which layer a workgroup works on, for dispatches that cover all layers of a method at once.
// `table` holds, for each workgroup, the index of its segment; behind these words the segments, ten words each.
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
}

fn segment_of(group: u32, groups: u32) -> Segment {
    let s = groups + 10u * table[group];
    return Segment(table[s], table[s + 1u], table[s + 2u], table[s + 3u], table[s + 4u], table[s + 5u],
        table[s + 6u], table[s + 7u], table[s + 8u], table[s + 9u]);
}

// The workgroup's weights in its layer: at most 256.
fn first_weight(s: Segment, group: u32) -> u32 {
    return (group - s.group) * 256u;
}

fn end_weight(s: Segment, group: u32) -> u32 {
    return min(first_weight(s, group) + 256u, s.count);
}

// Latents are ordered [kh, kw, Cin, Cout] without padding; where weight i stands in the padded W [kh, kw, Cin, Cout] …
fn weight_index(s: Segment, i: u32) -> u32 {
    let t = i / s.cout;
    return s.w + ((t / s.cin) * s.cin_pad + t % s.cin) * s.cout_pad + i % s.cout;
}

// … and in the transposed [kh, kw, Cout, Cin] that the input gradient reads.
fn transposed_index(s: Segment, i: u32) -> u32 {
    let t = i / s.cout;
    return s.w + ((t / s.cin) * s.cout_pad + i % s.cout) * s.cin_pad + t % s.cin;
}
