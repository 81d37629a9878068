// Counter-based random words: a PCG permutation (RXS-M-XS, 32 bits) applied over the counters in turn.
fn pcg(v: u32) -> u32 {
    let state = v * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

fn random_word(seed: u32, epoch: u32, sample: u32, stream: u32) -> u32 {
    return pcg(stream ^ pcg(sample ^ pcg(epoch ^ pcg(seed))));
}
