// One invocation computes 4 pixels of a row, `stride` apart, times 16 input channels in registers, BLOCK taps of a row at once, whose
// dy columns they share. A workgroup works on one block of 16 channels and on pixels of one phase (iy mod stride, ix mod stride),
// which see the same taps; so a subgroup loads each of a tap's 16 weight vec4 once and hands them round. Where a row's tiles lie side
// by side in a subgroup (SHARE), neighbouring lanes also hand each other the columns that they have in common. Nobody leaves early.
const SUBGROUP: u32 = 8u;
const STRIDE: u32 = 1u;
const BLOCK: u32 = 3u; // kx at once, STRIDE apart; divides their number
const COLS: u32 = 6u;  // 3 + BLOCK
const FETCH: u32 = 8u; // lanes that fetch weights: min(SUBGROUP, 16)
const LOADS: u32 = 2u; // weights that each of them fetches: 16 / FETCH
const SHARE: u32 = 0u; // 1: 3x3, stride 1, padding 1, and whole rows in a subgroup

fn column(row: u32, inside: bool, ox: i32, co: u32) -> vec4<f32> {
    let last = i32(p.ow) - 1;
    let v = dy[(row + u32(clamp(ox, 0, last))) * p.cout4 + co];
    return select(vec4(0.0), v, inside && ox >= 0 && ox <= last);
}

// The g-th workgroup's part of dx. All 64 invocations must call.
fn convolve_back(g: u32, lane: u32, id: u32) {
    let rows = (p.h + STRIDE - 1u) / STRIDE; // of a phase
    let tiles = ((p.w + STRIDE - 1u) / STRIDE + 3u) / 4u;
    let blocks = (p.cin4 + 3u) / 4u;
    let ci = g % blocks * 4u;
    let py = g / blocks % STRIDE;
    let px = g / (blocks * STRIDE) % STRIDE;
    let i = g / (blocks * STRIDE * STRIDE) * 64u + lane;
    let ix = px + STRIDE * 4u * (i % tiles);
    let iy = py + STRIDE * (i / tiles % rows);
    let image = i / (tiles * rows);
    //#repeat c 4
    var a$c: array<vec4<f32>, 4>; // [pixel] of the block's vec4 $c
    //#end
    // One loop over (ky, kx, co): nested ones would carry the register block across every level, which some compilers copy each time.
    let ky0 = (py + p.pad) % STRIDE;
    let kx0 = (px + p.pad) % STRIDE;
    let kxs = (p.k + BLOCK * STRIDE - 1u - kx0) / (BLOCK * STRIDE);
    let rounds = (p.k + STRIDE - 1u - ky0) / STRIDE * kxs * p.cout4;
    var ky = ky0;
    var kx = kx0;
    var co = 0u;
    for (var r = 0u; r < rounds; r++) {
        let oy = (i32(iy + p.pad) - i32(ky)) / i32(STRIDE);
        let inside = image < p.n && iy + p.pad >= ky && oy < i32(p.oh);
        let row = (min(image, p.n - 1u) * p.oh + u32(clamp(oy, 0, i32(p.oh) - 1))) * p.ow;
        // Divides evenly, also where it is negative.
        let left = (i32(ix + p.pad) - i32(kx)) / i32(STRIDE) - i32(BLOCK - 1u);
        var col: array<vec4<f32>, COLS>;
        //#repeat j COLS
        if (SHARE == 0u || ($ju > 0u && $ju < 5u)) {
            col[$j] = column(row, inside, left + $j, co);
        }
        //#end
        if (SHARE == 1u) {
            let before = subgroupShuffle(col[4u % COLS], max(id, 1u) - 1u);
            let after = subgroupShuffle(col[1], min(id + 1u, SUBGROUP - 1u));
            col[0] = select(vec4(0.0), before, ix > 0u);
            col[COLS - 1u] = select(vec4(0.0), after, ix + 4u < p.w);
        }
        //#repeat t BLOCK
        {
            let wi = p.offset + ((ky * p.k + kx + $tu * STRIDE) * p.cout4 + co) * 4u * p.cin4;
            // Of the block's weights [4 co, 4 vec4], this lane fetches every FETCH-th.
            var mine: array<vec4<f32>, LOADS>;
            //#repeat m LOADS
            let at$m = id % FETCH + $mu * FETCH;
            mine[$m] = weight_t_at(wi + at$m / 4u * p.cin4 + min(ci + at$m % 4u, p.cin4 - 1u));
            //#end
            //#repeat c 4
            {
                let w0 = subgroupBroadcast(mine[$cu / FETCH], $cu % FETCH);
                let w1 = subgroupBroadcast(mine[(4u + $cu) / FETCH], (4u + $cu) % FETCH);
                let w2 = subgroupBroadcast(mine[(8u + $cu) / FETCH], (8u + $cu) % FETCH);
                let w3 = subgroupBroadcast(mine[(12u + $cu) / FETCH], (12u + $cu) % FETCH);
                //#repeat q 4
                {
                    let s = col[$qu + BLOCK - 1u - $tu];
                    a$c[$q] += s.x * w0;
                    a$c[$q] += s.y * w1;
                    a$c[$q] += s.z * w2;
                    a$c[$q] += s.w * w3;
                }
                //#end
            }
            //#end
        }
        //#end
        co += 1u;
        let next = co == p.cout4;
        co = select(co, 0u, next);
        kx += select(0u, BLOCK * STRIDE, next);
        let down = kx >= p.k;
        kx = select(kx, kx0, down);
        ky += select(0u, STRIDE, down);
    }
    if (image < p.n && iy < p.h) {
        let out = (image * p.h + iy) * p.w + ix;
        //#repeat q 4
        if (ix + $qu * STRIDE < p.w) {
            //#repeat c 4
            if (ci + $cu < p.cin4) {
                let at = (out + $qu * STRIDE) * p.cin4 + ci + $cu;
                dx[at] = epilogue(at, a$c[$q]);
            }
            //#end
        }
        //#end
    }
}
