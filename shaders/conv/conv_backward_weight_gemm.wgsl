// part[c, ky, kx, ci, co] = Σ_{n in chunk c} Σ_{oy, ox} x[n, oy·stride + ky − pad, ox·stride + kx − pad, ci] · dy[n, oy, ox, co]
// An implicit matrix product through workgroup memory, for real GPUs: a workgroup computes 8 · TM rows (ky, kx, ci) times 8 · TN
// output channels, an invocation 8 times 8 of them. K runs over the pixels of the chunk's images. Nobody leaves early.
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

// Of the next 64 pixels' patches: the corner (iy, ix) and its place in x; wraps where that is outside, as does all that follows.
var<workgroup> corners: array<vec3<u32>, 64>;

fn corner(pixel: u32, end: u32) -> vec3<u32> {
    let image = pixel / (p.oh * p.ow);
    let at = vec2(pixel / p.ow % p.oh, pixel % p.ow) * p.stride - p.pad;
    // Behind the chunk's last pixel every tap is outside.
    return vec3(select(vec2(p.h, p.w), at, pixel < end), ((image * p.h + at.x) * p.w + at.y) * p.cin4);
}

// One step, tile_a as [k, 2, TM] with vec4 of rows: sums[8r + 2i + c] += row 4 · (r · TM + tm) + i times vec4 of columns c · TN + tn.
fn multiply_outer(sums: ptr<function, Sums>, tm: u32, tn: u32) {
    //#repeat k 8
    {
        let u = tile_b[$k][tn];
        let w = tile_b[$k][TN + tn];
        //#repeat r 2
        {
            let s = tile_a[2 * $k + $r][tm];
            (*sums)[8 * $r] += s.x * u;
            (*sums)[8 * $r + 1] += s.x * w;
            (*sums)[8 * $r + 2] += s.y * u;
            (*sums)[8 * $r + 3] += s.y * w;
            (*sums)[8 * $r + 4] += s.z * u;
            (*sums)[8 * $r + 5] += s.z * w;
            (*sums)[8 * $r + 6] += s.w * u;
            (*sums)[8 * $r + 7] += s.w * w;
        }
        //#end
    }
    //#end
}

@compute @workgroup_size(64)
fn conv_backward_weight_gemm(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let rows = p.k * p.k * p.cin4; // in vec4
    let chunks = (p.n + p.chunk - 1u) / p.chunk;
    let blocks = (p.cout4 + 2u * TN - 1u) / (2u * TN);
    let bands = (rows + 2u * TM - 1u) / (2u * TM);
    let g = group_index(group, groups);
    let co = g % blocks * 2u * TN;
    let first_row = g / blocks % bands * 2u * TM;
    let chunk = g / (blocks * bands);
    let end = min((chunk + 1u) * p.chunk, p.n) * p.oh * p.ow;
    let first = min(chunk * p.chunk * p.oh * p.ow, end);
    let steps = (end - first + 7u) / 8u;
    // This invocation fetches one row, of A_LOADS pixels that are TN / 2 apart.
    let slot = lane % (2u * TM);
    let row = first_row + slot;
    let tap = vec2(row / p.cin4 / p.k, row / p.cin4 % p.k);
    let offset = (tap.x * p.w + tap.y) * p.cin4 + row % p.cin4;
    var sums: Sums;
    for (var s = 0u; ; s++) {
        if (s % 8u == 0u) {
            corners[lane] = corner(first + 8u * s + lane, end);
            workgroupBarrier();
        }
        var a: FetchedA;
        var b: FetchedB;
        if (s < steps) {
            //#repeat j A_LOADS
            {
                let at = corners[s % 8u * 8u + lane / (2u * TM) + $ju * TN / 2u];
                let inside = all(vec3(at.xy + tap, row) < vec3(p.h, p.w, rows));
                a[$j] = select(vec4(0.0), x[select(0u, at.z + offset, inside)], inside);
            }
            //#end
            //#repeat j B_LOADS
            {
                let place = b_place(lane, $ju);
                let pixel = first + 8u * s + place.x;
                let inside = all(vec3(place.x, pixel, co + place.y) < vec3(8u, end, p.cout4));
                b[$j] = select(vec4(0.0), dy[select(0u, pixel * p.cout4 + co + place.y, inside)], inside);
            }
            //#end
        }
        if (s > 0u) {
            multiply_outer(&sums, lane / TN, lane % TN);
        }
        if (s == steps) {
            break;
        }
        workgroupBarrier();
        //#repeat j A_LOADS
        tile_a[2u * (lane / (2u * TM) + $ju * TN / 2u) + slot / TM][slot % TM] = a[$j];
        //#end
        b_store(lane, b);
        workgroupBarrier();
    }
    let column = co + lane % TN;
    //#repeat q ROWS
    {
        let r = first_row + $qu / 4u * TM + lane / TN;
        if (chunk < chunks && r < rows) {
            let out = (4u * (chunk * rows + r) + $qu % 4u) * p.cout4 + column;
            if (column < p.cout4) {
                part[out] = sums[2 * $q];
            }
            if (column + TN < p.cout4) {
                part[out + TN] = sums[2 * $q + 1];
            }
        }
    }
    //#end
}
