// part[c, ky, kx, ci, co] = Σ_{n in chunk c} Σ_{oy, ox} x[n, oy·stride + ky − pad, ox·stride + kx − pad, ci] · dy[n, oy, ox, co]
// One invocation keeps BLOCK kx times 8 ci times 4 co in registers. A subgroup's lanes differ in (ky, co) and share a row of x: for
// TILE pixels at a time each lane loads its part of the columns and hands it round. Where its lanes have more than one ky (MIXED),
// they share x's row and each reads the dy row that its ky connects to it; otherwise they walk along dy's rows.
const SUBGROUP: u32 = 8u;
const STRIDE: u32 = 1u;
const MIXED: u32 = 0u;
const BLOCK: u32 = 3u;  // kx of one invocation: min(k, 3)
const TILE: u32 = 8u;   // pixels at a time: min(SUBGROUP, 8)
const COLS: u32 = 10u;  // x columns that they see: (TILE − 1) · STRIDE + BLOCK
const LOADS: u32 = 2u;  // of them a lane fetches: ⌈COLS / TILE⌉
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
    skip: u32,    // what is added to the input gradient: see common/skip.wgsl
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
    let members = p.k * p.cout4;
    let blocks = (members + SUBGROUP - 1u) / SUBGROUP;
    let pairs = (p.cin4 + 1u) / 2u;
    let i = (group_index(group, groups) * 64u + lane) / SUBGROUP;
    let member = i % blocks * SUBGROUP + id;
    let ky = min(member / p.cout4, p.k - 1u);
    let co = member % p.cout4;
    let ci = i / blocks % pairs * 2u;
    let kx = i / (blocks * pairs) % kxs * BLOCK;
    let chunk = i / (blocks * pairs * kxs);
    let pair = min(ci + 1u, p.cin4 - 1u);
    let left = i32(kx) - i32(p.pad);
    var a: array<vec4<f32>, ROWS>;
    var b: array<vec4<f32>, ROWS>;
    let rows = select(p.oh, p.h, MIXED == 1u);
    let first = min(chunk * p.chunk, p.n);
    var image = first;
    var r = 0u;
    var ox = 0u;
    // One loop over (image, row, tile): nested ones would carry the registers across every level, which some compilers copy each time.
    let tiles = (p.ow + TILE - 1u) / TILE;
    for (var step = (min(first + p.chunk, p.n) - first) * rows * tiles; step > 0u; step--) {
        var iy = i32(r);
        var oy = i32(r);
        var hit = true;
        if (MIXED == 1u) {
            let sy = i32(r + p.pad) - i32(ky);
            oy = sy / i32(STRIDE);
            hit = sy >= 0 && sy % i32(STRIDE) == 0 && oy < i32(p.oh);
        } else {
            iy = i32(r * STRIDE + ky) - i32(p.pad);
        }
        let inside = iy >= 0 && iy < i32(p.h);
        let row = (image * p.h + u32(clamp(iy, 0, i32(p.h) - 1))) * p.w;
        let row_out = (image * p.oh + u32(clamp(oy, 0, i32(p.oh) - 1))) * p.ow;
        var ca: array<vec4<f32>, COLS>;
        var cb: array<vec4<f32>, COLS>;
        //#repeat m LOADS
        let ma$m = column(row, inside, left + i32(ox * STRIDE + $mu * TILE + id % TILE), ci);
        let mb$m = column(row, inside, left + i32(ox * STRIDE + $mu * TILE + id % TILE), pair);
        //#repeat t TILE
        if ($mu * TILE + $tu < COLS) {
            ca[($mu * TILE + $tu) % COLS] = subgroupBroadcast(ma$m, $tu);
            cb[($mu * TILE + $tu) % COLS] = subgroupBroadcast(mb$m, $tu);
        }
        //#end
        //#end
        //#repeat q TILE
        {
            let at = ox + $qu;
            let g = select(vec4(0.0), dy[(row_out + min(at, p.ow - 1u)) * p.cout4 + co], hit && at < p.ow);
            //#repeat j BLOCK
            a[4 * $j] += ca[$qu * STRIDE + $ju].x * g;
            a[4 * $j + 1] += ca[$qu * STRIDE + $ju].y * g;
            a[4 * $j + 2] += ca[$qu * STRIDE + $ju].z * g;
            a[4 * $j + 3] += ca[$qu * STRIDE + $ju].w * g;
            b[4 * $j] += cb[$qu * STRIDE + $ju].x * g;
            b[4 * $j + 1] += cb[$qu * STRIDE + $ju].y * g;
            b[4 * $j + 2] += cb[$qu * STRIDE + $ju].z * g;
            b[4 * $j + 3] += cb[$qu * STRIDE + $ju].w * g;
            //#end
        }
        //#end
        ox += TILE;
        let next = ox >= p.ow;
        ox = select(ox, 0u, next);
        r += select(0u, 1u, next);
        let over = r == rows;
        r = select(r, 0u, over);
        image += select(0u, 1u, over);
    }
    if (chunk >= chunks || member >= members) {
        return;
    }
    //#repeat j BLOCK
    if (kx + $ju < p.k) {
        let out = (((chunk * p.k + ky) * p.k + kx + $ju) * p.cin4 + ci) * 4u * p.cout4 + co;
        part[out] = a[4 * $j];
        part[out + p.cout4] = a[4 * $j + 1];
        part[out + 2u * p.cout4] = a[4 * $j + 2];
        part[out + 3u * p.cout4] = a[4 * $j + 3];
        if (pair > ci) {
            part[out + 4u * p.cout4] = b[4 * $j];
            part[out + 5u * p.cout4] = b[4 * $j + 1];
            part[out + 6u * p.cout4] = b[4 * $j + 2];
            part[out + 7u * p.cout4] = b[4 * $j + 3];
        }
    }
    //#end
}
