// wrong[i] = what invocation i finds amiss, as bits: 1 the subgroup's size, 2 its own number in the subgroup, 4 a broadcast, 8 a shuffle.
// Right is: every SUBGROUP consecutive invocations of a workgroup are a subgroup in their order, and a broadcast from lane l brings
// what the l-th of them has, a shuffle what the lane has that each asks for.
struct Params {
    size: u32,    // SUBGROUP
    groups: u32,  // workgroups
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> wrong: array<u32>;  // [groups, 64]

const SUBGROUP: u32 = 8u;

@compute @workgroup_size(64)
fn subgroup_lanes(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32, @builtin(subgroup_size) size: u32, @builtin(subgroup_invocation_id) id: u32) {
    let number = lane % SUBGROUP;
    var bad = select(0u, 1u, size != p.size) | select(0u, 2u, id != number);
    //#repeat l SUBGROUP
    bad |= select(0u, 4u, subgroupBroadcast(lane, $lu) != lane - number + $lu);
    //#end
    let other = (number * 3u + 1u) % SUBGROUP;
    bad |= select(0u, 8u, subgroupShuffle(lane, other) != lane - number + other);
    let at = group_index(group, groups);
    if (at < p.groups) {
        wrong[at * 64u + lane] = bad;
    }
}
