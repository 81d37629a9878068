// Work along one dimension, folded over x and y because a dimension holds at most 65,535 workgroups.
fn group_index(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}
