// dx[n, iy, ix, ci] = Σ_{ky, kx, co} dy[n, (iy + pad − ky)/stride, (ix + pad − kx)/stride, co] · weight_t[ky, kx, co, ci], then the epilogue
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
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;        // [n, oh, ow, cout4]
@group(0) @binding(2) var<storage, read> weight_t: array<vec4<f32>>;  // [k, k, cout, cin4] at offset
@group(0) @binding(3) var<storage, read> skip: array<vec4<f32>>;      // [n, h, w, cin4]; dy where there is none
@group(0) @binding(4) var<storage, read> gate: array<vec4<f32>>;      // [n, h, w, cin4]; dy where there is none
@group(0) @binding(5) var<storage, read_write> dx: array<vec4<f32>>;  // [n, h, w, cin4]

fn column(row: u32, inside: bool, ox: i32, co: u32) -> vec4<f32> {
    let last = i32(p.ow) - 1;
    let v = dy[(row + u32(clamp(ox, 0, last))) * p.cout4 + co];
    return select(vec4(0.0), v, inside && ox >= 0 && ox <= last);
}

@compute @workgroup_size(64)
fn conv_backward_input_subgroup(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32, @builtin(subgroup_invocation_id) id: u32) {
    let rows = (p.h + STRIDE - 1u) / STRIDE; // of a phase
    let tiles = ((p.w + STRIDE - 1u) / STRIDE + 3u) / 4u;
    let blocks = (p.cin4 + 3u) / 4u;
    let g = group_index(group, groups);
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
            mine[$m] = weight_t[wi + at$m / 4u * p.cin4 + min(ci + at$m % 4u, p.cin4 - 1u)];
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
