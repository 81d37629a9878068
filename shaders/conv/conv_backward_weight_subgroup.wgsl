// part[c, ky, kx, ci, co] = Σ_{n in chunk c} Σ_{oy, ox} x[n, oy·stride + ky − pad, ox·stride + kx − pad, ci] · dy[n, oy, ox, co]
// One invocation keeps BLOCK kx times 8 ci times 4 co in registers. LANES lanes of a subgroup that differ in co share columns of x: for
// TILE pixels of a row at a time each of them loads its part and hands it round. Where co has fewer vec4 than a subgroup has lanes, the
// subgroup works on several 8 ci at once. With CARRY a tile loads its own pixels' columns only: the one on its left is still there from
// the tile before, and so is that tile's last dy, for which the one on its right was missing.
const SUBGROUP: u32 = 8u;
const LANES: u32 = 8u;  // vec4 of co rounded up to a power of two, at most SUBGROUP
const STRIDE: u32 = 1u;
const BLOCK: u32 = 3u;  // kx of one invocation: min(k, 3)
const TILE: u32 = 8u;   // pixels at a time: min(SUBGROUP, 8)
const COLS: u32 = 10u;  // x columns that they see: (TILE − 1) · STRIDE + BLOCK
const CARRY: u32 = 1u;  // 1: 3x3, stride 1, padding 1
const FRESH: u32 = 8u;  // columns that a tile loads: TILE with CARRY, else COLS
const LOADS: u32 = 1u;  // of them a lane fetches: ⌈FRESH / LANES⌉
const ROWS: u32 = 12u;  // 4 · BLOCK
struct Params {
    n: u32,       // images
    h: u32,       // input
    w: u32,
    cin4: u32,    // input channels / 4, rounded up
    oh: u32,      // output
    ow: u32,
    cout4: u32,   // output channels / 4, rounded up
    k: u32,       // kernel size
    stride: u32,
    pad: u32,
    offset: u32,  // of the layer in the weight slab, in vec4
    chunk: u32,   // images in one partial sum of the weight gradient
    subgroup: u32, // lanes of a subgroup, 0 where the adapter has none of a fixed size
    epilogue: u32, // what becomes of the input gradient on its way out: see common/epilogue.wgsl
    packed: u32,   // 1: each weight is 0 or ± 2^k, and the slab is there as bytes too
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;           // [n, h, w, cin4]
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;          // [n, oh, ow, cout4]
@group(0) @binding(3) var<storage, read_write> part: array<vec4<f32>>;  // [⌈n / chunk⌉, k, k, cin, cout4]

fn column(row: u32, inside: bool, ix: i32, ci: u32) -> vec4<f32> {
    let last = i32(p.w) - 1;
    let v = x[(row + u32(clamp(ix, 0, last))) * p.cin4 + ci];
    return select(vec4(0.0), v, inside && ix >= 0 && ix <= last);
}

@compute @workgroup_size(64)
fn conv_backward_weight_subgroup(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32, @builtin(subgroup_invocation_id) id: u32) {
    let kxs = (p.k + BLOCK - 1u) / BLOCK;
    let chunks = (p.n + p.chunk - 1u) / p.chunk;
    let blocks = (p.cout4 + LANES - 1u) / LANES;
    let pairs = (p.cin4 + 1u) / 2u;
    let teams = (pairs + SUBGROUP / LANES - 1u) / (SUBGROUP / LANES);
    let i = (group_index(group, groups) * 64u + lane) / SUBGROUP;
    let place = id % LANES;
    let team = id - place;
    let co_here = i % blocks * LANES + place;
    let ky = i / blocks % p.k;
    let pair_here = i / (blocks * p.k) % teams * (SUBGROUP / LANES) + id / LANES;
    let kx = i / (blocks * p.k * teams) % kxs * BLOCK;
    let chunk = i / (blocks * p.k * teams * kxs);
    // Lanes beyond the channels work on the last ones and write nothing.
    let co = min(co_here, p.cout4 - 1u);
    let ci = min(pair_here, pairs - 1u) * 2u;
    let ci_next = min(ci + 1u, p.cin4 - 1u);
    let left = i32(kx + CARRY) - i32(p.pad); // of the first column that is loaded
    var a: array<vec4<f32>, ROWS>;
    var b: array<vec4<f32>, ROWS>;
    var a_before = vec4(0.0);
    var b_before = vec4(0.0);
    var g_before = vec4(0.0);
    let first = min(chunk * p.chunk, p.n);
    var image = first;
    var oy = 0u;
    var ox = 0u;
    // One loop over (image, row, tile): nested ones would carry the registers across every level, which some compilers copy each time.
    let tiles = (p.ow + TILE - 1u) / TILE;
    for (var step = (min(first + p.chunk, p.n) - first) * p.oh * tiles; step > 0u; step--) {
        let iy = i32(oy * STRIDE + ky) - i32(p.pad);
        let inside = iy >= 0 && iy < i32(p.h);
        let row = (image * p.h + u32(clamp(iy, 0, i32(p.h) - 1))) * p.w;
        let row_out = (image * p.oh + oy) * p.ow;
        var mine_a: array<vec4<f32>, LOADS>;
        var mine_b: array<vec4<f32>, LOADS>;
        //#repeat m LOADS
        mine_a[$m] = column(row, inside, left + i32(ox * STRIDE + $mu * LANES + place), ci);
        mine_b[$m] = column(row, inside, left + i32(ox * STRIDE + $mu * LANES + place), ci_next);
        //#end
        var ca: array<vec4<f32>, COLS>;
        var cb: array<vec4<f32>, COLS>;
        //#repeat c FRESH
        ca[$cu + CARRY] = subgroupShuffle(mine_a[$cu / LANES], team + $cu % LANES);
        cb[$cu + CARRY] = subgroupShuffle(mine_b[$cu / LANES], team + $cu % LANES);
        //#end
        if (CARRY == 1u) {
            let start = ox == 0u;
            ca[0] = select(a_before, vec4(0.0), start);
            cb[0] = select(b_before, vec4(0.0), start);
            let g = select(g_before, vec4(0.0), start);
            a[ROWS - 4u] += ca[1].x * g;
            a[ROWS - 3u] += ca[1].y * g;
            a[ROWS - 2u] += ca[1].z * g;
            a[ROWS - 1u] += ca[1].w * g;
            b[ROWS - 4u] += cb[1].x * g;
            b[ROWS - 3u] += cb[1].y * g;
            b[ROWS - 2u] += cb[1].z * g;
            b[ROWS - 1u] += cb[1].w * g;
            a_before = ca[TILE % COLS];
            b_before = cb[TILE % COLS];
        }
        //#repeat q TILE
        {
            let at = ox + $qu;
            let g = select(vec4(0.0), dy[(row_out + min(at, p.ow - 1u)) * p.cout4 + co], at < p.ow);
            //#repeat j BLOCK
            if (CARRY == 0u || $qu * STRIDE + $ju <= TILE) {
                a[4 * $j] += ca[$qu * STRIDE + $ju].x * g;
                a[4 * $j + 1] += ca[$qu * STRIDE + $ju].y * g;
                a[4 * $j + 2] += ca[$qu * STRIDE + $ju].z * g;
                a[4 * $j + 3] += ca[$qu * STRIDE + $ju].w * g;
                b[4 * $j] += cb[$qu * STRIDE + $ju].x * g;
                b[4 * $j + 1] += cb[$qu * STRIDE + $ju].y * g;
                b[4 * $j + 2] += cb[$qu * STRIDE + $ju].z * g;
                b[4 * $j + 3] += cb[$qu * STRIDE + $ju].w * g;
            }
            //#end
            g_before = g;
        }
        //#end
        ox += TILE;
        let next = ox >= p.ow;
        ox = select(ox, 0u, next);
        oy += select(0u, 1u, next);
        let over = oy == p.oh;
        oy = select(oy, 0u, over);
        image += select(0u, 1u, over);
    }
    if (chunk >= chunks || co_here >= p.cout4 || pair_here >= pairs) {
        return;
    }
    //#repeat j BLOCK
    if (kx + $ju < p.k) {
        let out = (((chunk * p.k + ky) * p.k + kx + $ju) * p.cin4 + ci) * 4u * p.cout4 + co;
        part[out] = a[4 * $j];
        part[out + p.cout4] = a[4 * $j + 1];
        part[out + 2u * p.cout4] = a[4 * $j + 2];
        part[out + 3u * p.cout4] = a[4 * $j + 3];
        if (ci_next > ci) {
            part[out + 4u * p.cout4] = b[4 * $j];
            part[out + 5u * p.cout4] = b[4 * $j + 1];
            part[out + 6u * p.cout4] = b[4 * $j + 2];
            part[out + 7u * p.cout4] = b[4 * $j + 3];
        }
    }
    //#end
}
