// NHWC, vec4 over channels. One invocation computes 4 neighbouring pixels of a row times 16 output channels in registers, BLOCK taps
// of a row at once, whose x columns they share. A workgroup works on one block of 16 channels, so a subgroup loads each of a tap's 16
// weight vec4 once and hands them round. Where a row's tiles lie side by side in a subgroup (SHARE), neighbouring lanes also hand each
// other the columns that they have in common. Nobody leaves early: all lanes take part in every exchange.
const SUBGROUP: u32 = 8u;
const STRIDE: u32 = 1u;
const BLOCK: u32 = 3u; // kx at once; divides k
const COLS: u32 = 6u;  // 3 · STRIDE + BLOCK
const FETCH: u32 = 8u; // lanes that fetch weights: min(SUBGROUP, 16)
const LOADS: u32 = 2u; // weights that each of them fetches: 16 / FETCH
const SHARE: u32 = 0u; // 1: 3x3, stride 1, padding 1, and whole rows in a subgroup

fn column(row: u32, inside: bool, ix: i32, ci: u32) -> vec4<f32> {
    let last = i32(p.w) - 1;
    let v = x[(row + u32(clamp(ix, 0, last))) * p.cin4 + ci];
    return select(vec4(0.0), v, inside && ix >= 0 && ix <= last);
}

// The g-th workgroup's part of y. All 64 invocations must call.
fn convolve(g: u32, lane: u32, id: u32) {
    let tiles = (p.ow + 3u) / 4u;
    let blocks = (p.cout4 + 3u) / 4u;
    let co = g % blocks * 4u;
    let i = g / blocks * 64u + lane;
    let ox = i % tiles * 4u;
    let oy = i / tiles % p.oh;
    let image = i / (tiles * p.oh);
    let left = i32(ox * STRIDE) - i32(p.pad);
    //#repeat c 4
    var a$c: array<vec4<f32>, 4>; // [pixel] of the block's vec4 $c
    //#end
    // One loop over (ky, kx, ci): nested ones would carry the register block across every level, which some compilers copy each time.
    var ky = 0u;
    var kx = 0u;
    var ci = 0u;
    for (var r = 0u; r < p.k * (p.k / BLOCK) * p.cin4; r++) {
        let iy = i32(oy * STRIDE + ky) - i32(p.pad);
        let inside = image < p.n && iy >= 0 && iy < i32(p.h);
        let row = (min(image, p.n - 1u) * p.h + u32(clamp(iy, 0, i32(p.h) - 1))) * p.w;
        var col: array<vec4<f32>, COLS>;
        //#repeat j COLS
        if (SHARE == 0u || ($ju > 0u && $ju < 5u)) {
            col[$j] = column(row, inside, left + i32(kx) + $j, ci);
        }
        //#end
        if (SHARE == 1u) {
            let before = subgroupShuffle(col[4u % COLS], max(id, 1u) - 1u);
            let after = subgroupShuffle(col[1], min(id + 1u, SUBGROUP - 1u));
            col[0] = select(vec4(0.0), before, ox > 0u);
            col[COLS - 1u] = select(vec4(0.0), after, ox + 4u < p.ow);
        }
        //#repeat t BLOCK
        {
            let wi = p.offset + ((ky * p.k + kx + $tu) * p.cin4 + ci) * 4u * p.cout4;
            // Of the block's weights [4 ci, 4 vec4], this lane fetches every FETCH-th.
            var mine: array<vec4<f32>, LOADS>;
            //#repeat m LOADS
            let at$m = id % FETCH + $mu * FETCH;
            mine[$m] = weight_at(wi + at$m / 4u * p.cout4 + min(co + at$m % 4u, p.cout4 - 1u));
            //#end
            //#repeat c 4
            {
                let w0 = subgroupBroadcast(mine[$cu / FETCH], $cu % FETCH);
                let w1 = subgroupBroadcast(mine[(4u + $cu) / FETCH], (4u + $cu) % FETCH);
                let w2 = subgroupBroadcast(mine[(8u + $cu) / FETCH], (8u + $cu) % FETCH);
                let w3 = subgroupBroadcast(mine[(12u + $cu) / FETCH], (12u + $cu) % FETCH);
                //#repeat q 4
                {
                    let s = col[$qu * STRIDE + $tu];
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
        ci += 1u;
        let next = ci == p.cin4;
        ci = select(ci, 0u, next);
        kx += select(0u, BLOCK, next);
        let down = kx == p.k;
        kx = select(kx, 0u, down);
        ky += select(0u, 1u, down);
    }
    if (image < p.n) {
        let out = ((image * p.oh + oy) * p.ow + ox) * p.cout4 + co;
        //#repeat q 4
        if (ox + $qu < p.ow) {
            //#repeat c 4
            if (co + $cu < p.cout4) {
                y[out + $qu * p.cout4 + $cu] = a$c[$q];
            }
            //#end
        }
        //#end
    }
}
