//! Which nodes share a pass: a batch norm takes the addition and the ReLU behind it along, where nobody else reads what lies between.

use super::super::builder::{Graph, NodeId, Op};

/// A batch norm with what its pass does beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// The batch norm.
    pub norm: NodeId,
    /// What is added behind the normalization.
    pub residual: Option<NodeId>,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// A node's part in the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Computed by its own operation.
    Alone,
    /// Inside a unit that ends later: never in memory.
    Inside,
    /// The output of a unit.
    Ends(Unit),
}

/// The role of every node.
pub(super) fn roles(graph: &Graph) -> Vec<Role> {
    let mut roles = vec![Role::Alone; graph.nodes.len()];
    // The only reader of a node, if there is exactly one.
    let reader = |id: NodeId| {
        let mut readers = graph.nodes.iter().enumerate().flat_map(|(r, n)| n.inputs.iter().map(move |i| (*i, r)));
        let mut of = readers.by_ref().filter(|(i, _)| *i == id).map(|(_, r)| r);
        of.next().filter(|_| of.next().is_none())
    };
    for norm in 0..graph.nodes.len() {
        let Op::BatchNorm { .. } = graph.nodes[norm].op else { continue };
        let (mut end, mut unit) = (norm, Unit { norm, residual: None, relu: false });
        // Of two batch norms that meet in an addition the first takes it.
        if let Some(sum) = reader(end).filter(|r| graph.nodes[*r].op == Op::Add && roles[*r] == Role::Alone) {
            unit.residual = graph.nodes[sum].inputs.iter().copied().find(|i| *i != end);
            (roles[end], end) = (Role::Inside, sum);
        }
        if let Some(relu) = reader(end).filter(|r| graph.nodes[*r].op == Op::Relu) {
            unit.relu = true;
            (roles[end], end) = (Role::Inside, relu);
        }
        roles[end] = Role::Ends(unit);
    }
    roles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Shape;
    use crate::methods::MethodSpec;

    #[test]
    fn a_block_with_a_convolution_as_shortcut() {
        let mut g = Graph::new(Shape { h: 4, w: 4, c: 4 });
        let conv = |g: &mut Graph, name: &str, x| g.conv(name, x, 4, [3, 1, 1], MethodSpec::FP32).unwrap();
        let c1 = conv(&mut g, "c1", 0);
        let b1 = g.batch_norm("b1", c1).unwrap();
        let r1 = g.relu("r1", b1);
        let c2 = conv(&mut g, "c2", r1);
        let b2 = g.batch_norm("b2", c2).unwrap();
        let c3 = conv(&mut g, "c3", 0);
        let b3 = g.batch_norm("b3", c3).unwrap();
        let sum = g.add("sum", b2, b3).unwrap();
        let r2 = g.relu("r2", sum);
        let roles = roles(&g);
        assert_eq!(roles[r1], Role::Ends(Unit { norm: b1, residual: None, relu: true }));
        assert_eq!(roles[r2], Role::Ends(Unit { norm: b2, residual: Some(b3), relu: true }));
        assert_eq!(roles[b3], Role::Ends(Unit { norm: b3, residual: None, relu: false }));
        assert_eq!([b1, b2, sum].map(|n| roles[n]), [Role::Inside; 3]);
        assert_eq!([0, c1, c2, c3].map(|n| roles[n]), [Role::Alone; 4]);
    }

    #[test]
    fn what_others_read_stays_in_memory() {
        let mut g = Graph::new(Shape { h: 4, w: 4, c: 4 });
        let b = g.batch_norm("b", 0).unwrap();
        let r = g.relu("r", b);
        let sum = g.add("sum", b, r).unwrap();
        let twice = g.batch_norm("twice", sum).unwrap();
        let double = g.add("double", twice, twice).unwrap();
        let roles = roles(&g);
        for norm in [b, twice] {
            assert_eq!(roles[norm], Role::Ends(Unit { norm, residual: None, relu: false }));
        }
        assert_eq!([r, sum, double].map(|n| roles[n]), [Role::Alone; 3]);
    }
}
