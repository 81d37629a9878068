// One workgroup's tile of a matrix product C = A·B: TM x TN = 64 invocations, each with ROWS rows x 8 columns of C in registers, in
// steps of 8 along K. The next step's part of A and B is fetched into registers (A_LOADS and B_LOADS vec4 an invocation) while the
// present one is multiplied. Neighbouring invocations touch neighbouring vec4 of workgroup memory, so that no two meet in a bank.
const TM: u32 = 8u;
const TN: u32 = 8u;
const ROWS: u32 = 8u;
const A_LOADS: u32 = 2u; // 2 · ROWS · TM / 64
const B_LOADS: u32 = 2u; // 16 · TN / 64, rounded up

var<workgroup> tile_a: array<array<vec4<f32>, TM>, 2u * ROWS>;
var<workgroup> tile_b: array<array<vec4<f32>, 2u * TN>, 8>; // [k, vec4 of columns]

alias Sums = array<vec4<f32>, 2u * ROWS>;
alias FetchedA = array<vec4<f32>, A_LOADS>;
alias FetchedB = array<vec4<f32>, B_LOADS>;

// Of tile_b's [8, 2 · TN], where an invocation's j-th fetch stands: k and vec4 of columns. With TN = 2, half of them have k ≥ 8.
fn b_place(lane: u32, j: u32) -> vec2<u32> {
    let at = lane + 64u * j;
    return vec2(at / (2u * TN), at % (2u * TN));
}

fn b_store(lane: u32, b: FetchedB) {
    //#repeat j B_LOADS
    {
        let place = b_place(lane, $ju);
        if (place.x < 8u) {
            tile_b[place.x][place.y] = b[$j];
        }
    }
    //#end
}

// Row m of A, k from 4 · v, stands in tile_a[v · ROWS + m / TM][(m mod TM) ^ 4 · v]: row m belongs to invocation m mod TM, and the
// two halves of a row, which neighbours store at the same time, lie in different banks.
fn a_store(lane: u32, a: FetchedA) {
    let v = lane % 2u;
    //#repeat j A_LOADS
    {
        let m = lane / 2u + 32u * $ju;
        tile_a[v * ROWS + m / TM][(m % TM) ^ (4u * v)] = a[$j];
    }
    //#end
}

// One step: sums[2q + c] += row q · TM + tm times vec4 of columns c · TN + tn. Unrolled here, since naga guards every loop with a counter
// that keeps drivers from unrolling it.
fn multiply(sums: ptr<function, Sums>, tm: u32, tn: u32) {
    //#repeat v 2
    {
        //#repeat k 4
        let u$k = tile_b[4u * $vu + $ku][tn];
        let w$k = tile_b[4u * $vu + $ku][TN + tn];
        //#end
        //#repeat q ROWS
        {
            let s = tile_a[ROWS * $vu + $qu][tm ^ (4u * $vu)];
            (*sums)[2 * $q] += s.x * u0;
            (*sums)[2 * $q] += s.y * u1;
            (*sums)[2 * $q] += s.z * u2;
            (*sums)[2 * $q] += s.w * u3;
            (*sums)[2 * $q + 1] += s.x * w0;
            (*sums)[2 * $q + 1] += s.y * w1;
            (*sums)[2 * $q + 1] += s.z * w2;
            (*sums)[2 * $q + 1] += s.w * w3;
        }
        //#end
    }
    //#end
}
