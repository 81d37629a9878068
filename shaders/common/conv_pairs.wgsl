// Integer convolution, two sums in a word: x0 + (x1 << 16) times a weight adds to the sums of two neighbouring pixels at once.
// Inputs count as uint8 (an int8 with its sign bit turned over is x + 128; `channels` starts the sums at −128·Σw then). Every `flush`
// vec4 of weights the halves are taken apart: it was proven from the weights that they fit 16 bits there. What happens in between does
// not matter, since all is modulo 2^32. One invocation computes 8 neighbouring pixels of a row times 4·BLOCKS output channels.
// The kernel says what a weight is: `Factor`, `factor_of` the c-th bytes of four words, and `product`; and how sums become outputs: `finish`.
const BLOCKS: u32 = 2u;
const PLANES: u32 = 1u; // parts of a weight, each a factor

fn column(row: u32, inside: bool, ix: i32, ci: u32) -> u32 {
    let last = i32(p.w) - 1;
    let word = x[(row + u32(clamp(ix, 0, last))) * p.cin4 + ci];
    return select(0u, word, inside && ix >= 0 && ix <= last) ^ (p.signed_x * 0x80808080u);
}

fn conv_pairs(i: u32) {
    let tiles = (p.ow + 7u) / 8u;
    let blocks = (p.cout4 + BLOCKS - 1u) / BLOCKS;
    if (i >= p.n * p.oh * tiles * blocks) {
        return;
    }
    let co = (i % blocks) * BLOCKS;
    let ox = i / blocks % tiles * 8u;
    let oy = i / (blocks * tiles) % p.oh;
    let image = i / (blocks * tiles * p.oh);
    let left = i32(ox * p.stride) - i32(p.pad);
    var total: array<vec4<i32>, 8u * BLOCKS>;
    let steps = p.k * p.k * p.cin4;
    var ky = 0u;
    var kx = 0u;
    var ci = 0u;
    for (var first = 0u; first < steps; first += p.flush) {
        // Written out: without a value it is zeroed once, not in every round, in Chromium 156 on SwiftShader.
        var sums = array<vec4<i32>, 4u * BLOCKS>();
        let end = min(first + p.flush, steps);
        for (var step = first; step < end; step++) {
            let iy = i32(oy * p.stride + ky) - i32(p.pad);
            let inside = iy >= 0 && iy < i32(p.h);
            let row = (image * p.h + u32(clamp(iy, 0, i32(p.h) - 1))) * p.w;
            //#repeat b BLOCKS
            let at$b = (step * p.cout4 + min(co + $bu, p.cout4 - 1u)) * PLANES; // behind the last channels: those again
            //#repeat d PLANES
            let w$b_$d = weight[at$b + $du];
            //#end
            //#end
            //#repeat q 4
            let s$q = column(row, inside, left + i32(kx + 2u * $qu * p.stride), ci);
            let t$q = column(row, inside, left + i32(kx + (2u * $qu + 1u) * p.stride), ci);
            // Channels 0 and 2 of each pixel, then 1 and 3, 16 bits apart; then both pixels' by channel.
            let se$q = s$q & 0x00ff00ffu;
            let te$q = t$q & 0x00ff00ffu;
            let so$q = (s$q >> 8u) & 0x00ff00ffu;
            let to$q = (t$q >> 8u) & 0x00ff00ffu;
            let z0_$q = vec4(i32((se$q & 0xffffu) | (te$q << 16u)));
            let z1_$q = vec4(i32((so$q & 0xffffu) | (to$q << 16u)));
            let z2_$q = vec4(i32((se$q >> 16u) | (te$q & 0xffff0000u)));
            let z3_$q = vec4(i32((so$q >> 16u) | (to$q & 0xffff0000u)));
            //#end
            //#repeat b BLOCKS
            //#repeat d PLANES
            //#repeat c 4
            {
                let f = factor_of(w$b_$d, $cu);
                //#repeat q 4
                sums[$qu * BLOCKS + $bu] += product(z$c_$q, f);
                //#end
            }
            //#end
            //#end
            //#end
            ci += 1u;
            let next = ci == p.cin4;
            ci = select(ci, 0u, next);
            kx += select(0u, 1u, next);
            let down = kx == p.k;
            kx = select(kx, 0u, down);
            ky += select(0u, 1u, down);
        }
        //#repeat q 4
        //#repeat b BLOCKS
        {
            let both = sums[$qu * BLOCKS + $bu];
            let low = (both << vec4(16u)) >> vec4(16u);
            total[2u * $qu * BLOCKS + $bu] += low;
            total[(2u * $qu + 1u) * BLOCKS + $bu] += (both - low) >> vec4(16u);
        }
        //#end
        //#end
    }
    let out = ((image * p.oh + oy) * p.ow + ox) * p.cout4 + co;
    //#repeat b BLOCKS
    if (co + $bu < p.cout4) {
        let after = channels_of(co + $bu);
        let m = multiplier(after);
        let start = start_of(co + $bu);
        //#repeat q 8
        if (ox + $qu < p.ow) {
            y[out + $qu * p.cout4 + $bu] = finish(total[$qu * BLOCKS + $bu] + start, m, after);
        }
        //#end
    }
    //#end
}
