//! The network as words for Verilog's `$readmemh`: one hexadecimal word a line, a file an array.

use super::super::model::{Model, Op, Weight};
use super::super::packing::pack;

/// Files by name. `graph.json` says what each node does with which of them.
///
/// `NAME.weight.hex` holds bit planes (32 bits a word) or int8 weights; `multiplier`, `bias` and `shift` one word a channel,
/// in two's complement of 16, 32 and 8 bits; `input.lut.hex` 256 int8 a channel.
pub fn write(model: &Model) -> Vec<(String, String)> {
    fn lines<T: std::fmt::LowerHex>(values: &[T], digits: usize) -> String {
        values.iter().map(|v| format!("{v:0digits$x}\n")).collect()
    }
    let mut files = Vec::new();
    for node in &model.nodes {
        let mut add = |what: &str, text: String| files.push((format!("{}.{what}.hex", node.name), text));
        match &node.op {
            Op::Input(input) => add("lut", lines(&input.lut, 2)),
            Op::Conv(conv) => {
                add(
                    "weight",
                    match &conv.weight {
                        Weight::Int8 { values } => lines(values, 2),
                        Weight::Shift { bits, codes, .. } => lines(&pack(codes, *bits), 8),
                    },
                );
                let multiplier: Vec<i16> = conv.multiplier.iter().map(|m| *m as i16).collect();
                let shift: Vec<u8> = conv.shift.iter().map(|n| *n as u8).collect();
                add("multiplier", lines(&multiplier, 4));
                add("bias", lines(&conv.bias, 8));
                add("shift", lines(&shift, 2));
            }
            Op::Linear(linear) => {
                add("weight", lines(&linear.weight, 2));
                add("bias", lines(&linear.bias, 8));
            }
            _ => (),
        }
    }
    let graph = serde_json::to_string_pretty(&model.nodes).expect("names and finite numbers are always JSON");
    files.push(("graph.json".into(), graph + "\n"));
    files
}

#[cfg(test)]
mod tests {
    #[test]
    fn negative_words_are_in_twos_complement() {
        assert_eq!((format!("{:02x}", -1i8), format!("{:04x}", -255i16)), ("ff".into(), "ff01".into()));
    }
}
