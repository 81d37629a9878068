// Integer convolution, two sums in a word, shifted by the digits of the weights, which a subgroup hands round: no multiplication. NHWC,
// four channels a word; inputs count as uint8 (an int8 with its sign bit turned over is x + 128; `channels` starts the sums at −128·Σw
// then). x0 + (x1 << 16) of two neighbouring pixels, shifted, adds to both sums at once; every `flush` rounds the halves are taken apart:
// it was proven from the weights that they fit 16 bits there. −t is (t ^ −1) + 1: the ones are counted apart, once for all pixels. One
// invocation computes 8 neighbouring pixels of a row times 16 output channels, BLOCK taps of a row at once, whose x columns they share.
// A workgroup works on one block of 16 channels; a subgroup loads and decodes each of a tap's weights once. Nobody leaves early.
const SUBGROUP: u32 = 8u;
const STRIDE: u32 = 1u;
const BLOCK: u32 = 3u;  // kx at once; divides k
const COLS: u32 = 10u;  // 7 · STRIDE + BLOCK
const PLANES: u32 = 1u; // digits of a weight
const FETCH: u32 = 8u;  // lanes that fetch weights: min(SUBGROUP, 16)
const LOADS: u32 = 2u;  // words of weights that each of them fetches: 16 / FETCH
struct Params {
    n: u32,        // images
    h: u32,        // input
    w: u32,
    cin4: u32,     // input channels / 4, rounded up
    oh: u32,       // output
    ow: u32,
    cout4: u32,    // output channels / 4, rounded up
    k: u32,        // kernel size
    stride: u32,
    pad: u32,
    planes: u32,   // digits of a weight, or channels in a word
    flush: u32,    // steps whose products a 16-bit sum holds
    preshift: u32,
    terms: u32,    // digits of M, at most 5
    signed_x: u32, // 1: int8, 0: uint8
    signed_y: u32,
    subgroup: u32, // lanes of a subgroup, 0 where the adapter has none of a fixed size
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;               // [n, h, w, cin4]
@group(0) @binding(2) var<storage, read> weight: array<u32>;          // digits [k, k, cin4, cout / 16, PLANES, 16 co]: bytes input channels
@group(0) @binding(3) var<storage, read> channels: array<vec4<u32>>;  // [cout4, 5]: see common/requantize.wgsl
@group(0) @binding(4) var<storage, read_write> y: array<u32>;         // [n, oh, ow, cout4]

fn column(row: u32, inside: bool, ix: i32, ci: u32) -> u32 {
    let last = i32(p.w) - 1;
    let word = x[(row + u32(clamp(ix, 0, last))) * p.cin4 + ci];
    return select(0u, word, inside && ix >= 0 && ix <= last) ^ (p.signed_x * 0x80808080u);
}

@compute @workgroup_size(64)
fn int_conv_subgroup_shift(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32, @builtin(subgroup_invocation_id) id: u32) {
    let tiles = (p.ow + 7u) / 8u;
    let blocks = (p.cout4 + 3u) / 4u;
    let g = group_index(group, groups);
    let co = g % blocks * 4u;
    let i = g / blocks * 64u + lane;
    let ox = i % tiles * 8u;
    let oy = i / tiles % p.oh;
    let image = i / (tiles * p.oh);
    let left = i32(ox * STRIDE) - i32(p.pad);
    var total: array<vec4<i32>, 32>; // [vec4][pixel]
    let rounds = p.k * (p.k / BLOCK) * p.cin4;
    var ky = 0u;
    var kx = 0u;
    var ci = 0u;
    for (var first = 0u; first < rounds; first += p.flush) {
        //#repeat v 4
        var a$v: array<vec4<i32>, 4>; // [pair of pixels]
        var ones$v = vec4(0);         // minus how many negative weights there were
        //#end
        let end = min(first + p.flush, rounds);
        for (var r = first; r < end; r++) {
            let iy = i32(oy * STRIDE + ky) - i32(p.pad);
            let inside = image < p.n && iy >= 0 && iy < i32(p.h);
            let row = (min(image, p.n - 1u) * p.h + u32(clamp(iy, 0, i32(p.h) - 1))) * p.w;
            var col: array<u32, COLS>;
            //#repeat j COLS
            col[$j] = column(row, inside, left + i32(kx) + $j, ci);
            //#end
            //#repeat t BLOCK
            //#repeat d PLANES
            {
                let wi = ((((ky * p.k + kx + $tu) * p.cin4 + ci) * blocks + co / 4u) * PLANES + $du) * 16u;
                // Of the block's 16 words, this lane fetches every FETCH-th.
                var mine: array<u32, LOADS>;
                //#repeat m LOADS
                mine[$m] = weight[wi + id % FETCH + $mu * FETCH];
                //#end
                //#repeat c 4
                {
                    var shift: array<u32, LOADS>;
                    var sign: array<i32, LOADS>; // 0, or all bits
                    var keep: array<i32, LOADS>; // all bits, or 0 for a weight without this digit
                    //#repeat m LOADS
                    let code$m = bitcast<i32>(mine[$m] << (24u - 8u * $cu)); // the sign is the top bit now, the mark the next
                    shift[$m] = (u32(code$m) >> 24u) & 31u;
                    sign[$m] = code$m >> 31u;
                    keep[$m] = (code$m << 1u) >> 31u;
                    //#end
                    //#repeat q 4
                    let z$q = vec4(i32(((col[2u * $qu * STRIDE + $tu] >> (8u * $cu)) & 255u)
                        | (((col[(2u * $qu + 1u) * STRIDE + $tu] >> (8u * $cu)) & 255u) << 16u)));
                    //#end
                    //#repeat v 4
                    {
                        let s = vec4(
                            //#repeat l 4
                            subgroupBroadcast(shift[(4u * $vu + $lu) / FETCH], (4u * $vu + $lu) % FETCH),
                            //#end
                        );
                        let n = vec4(
                            //#repeat l 4
                            subgroupBroadcast(sign[(4u * $vu + $lu) / FETCH], (4u * $vu + $lu) % FETCH),
                            //#end
                        );
                        let k = vec4(
                            //#repeat l 4
                            subgroupBroadcast(keep[(4u * $vu + $lu) / FETCH], (4u * $vu + $lu) % FETCH),
                            //#end
                        );
                        ones$v += n;
                        //#repeat q 4
                        a$v[$q] += ((z$q << s) & k) ^ n;
                        //#end
                    }
                    //#end
                }
                //#end
            }
            //#end
            //#end
            ci += 1u;
            let next = ci == p.cin4;
            ci = select(ci, 0u, next);
            kx += select(0u, BLOCK, next);
            let down = kx == p.k;
            kx = select(kx, 0u, down);
            ky += select(0u, 1u, down);
        }
        //#repeat v 4
        //#repeat q 4
        {
            let both = a$v[$q] - ones$v;
            let low = (both << vec4(16u)) >> vec4(16u);
            total[8u * $vu + 2u * $qu] += low;
            total[8u * $vu + 2u * $qu + 1u] += (both - low) >> vec4(16u);
        }
        //#end
        //#end
    }
    if (image < p.n) {
        let out = ((image * p.oh + oy) * p.ow + ox) * p.cout4 + co;
        //#repeat v 4
        if (co + $vu < p.cout4) {
            let after = channels_of(co + $vu);
            let start = start_of(co + $vu);
            //#repeat q 8
            if (ox + $qu < p.ow) {
                y[out + $qu * p.cout4 + $vu] = requantize(total[8u * $vu + $qu] + start, after);
            }
            //#end
        }
        //#end
    }
}
