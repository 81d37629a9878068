//! Joins a kernel's WGSL: the shared files, the kernel's constants, and the one construct that unrolls.
//!
//! `const NAME: u32 = 3u;` gets its value from the rung. Lines between `//#repeat i COUNT` and `//#end` stand COUNT times, with `$iu`
//! for the number with WGSL's `u` suffix and `$i` for the plain number; COUNT is a number or such a constant. Nothing else.

use crate::kernels::{Const, Source};

/// The text that the adapter compiles.
///
/// # Panics
/// Where a constant has no line or a repeat does not close; the tests join every kernel in every variant.
pub fn expand(source: &Source, consts: &[Const]) -> String {
    let mut known: Vec<(String, u32)> = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    for line in source.common.iter().chain([&source.text]).flat_map(|t| t.lines()) {
        match parse_const(line) {
            Some((name, default)) => {
                let value = consts.iter().find(|(n, _)| *n == name).map_or(default, |(_, v)| *v);
                let tail = line.split_once(';').map_or("", |(_, tail)| tail);
                lines.push(format!("const {name}: u32 = {value}u;{tail}"));
                known.push((name.to_string(), value));
            }
            None => lines.push(line.to_string()),
        }
    }
    for (name, _) in consts {
        assert!(known.iter().any(|(n, _)| n == name), "{}: no line `const {name}: u32 = …;`", source.path);
    }
    let mut out = String::new();
    repeat(&lines, &known, source.path, &mut out);
    out
}

fn parse_const(line: &str) -> Option<(&str, u32)> {
    let (name, rest) = line.strip_prefix("const ")?.split_once(": u32 = ")?;
    let (value, _) = rest.split_once("u;")?;
    Some((name, value.parse().ok()?))
}

fn repeat(lines: &[String], known: &[(String, u32)], path: &str, out: &mut String) {
    let mut i = 0;
    while i < lines.len() {
        let Some(head) = lines[i].trim_start().strip_prefix("//#repeat ") else {
            out.push_str(&lines[i]);
            out.push('\n');
            i += 1;
            continue;
        };
        let (var, count) = head.trim().split_once(' ').unwrap_or_else(|| panic!("{path}: `{head}` is not `i COUNT`"));
        let count = known.iter().find(|(n, _)| n == count).map(|(_, v)| *v).or_else(|| count.parse().ok());
        let count = count.unwrap_or_else(|| panic!("{path}: unknown count in `{head}`"));
        let end = closing(&lines[i + 1..]).unwrap_or_else(|| panic!("{path}: `{head}` does not close")) + i + 1;
        let (unsigned, plain) = (format!("${var}u"), format!("${var}"));
        for k in 0..count {
            let body = lines[i + 1..end]
                .iter()
                .map(|l| l.replace(&unsigned, &format!("{k}u")).replace(&plain, &k.to_string()));
            repeat(&body.collect::<Vec<_>>(), known, path, out);
        }
        i = end + 1;
    }
}

/// Index of the `//#end` that closes the block which the lines are in.
fn closing(lines: &[String]) -> Option<usize> {
    let mut depth = 1;
    lines.iter().position(|l| {
        let l = l.trim_start();
        depth += i32::from(l.starts_with("//#repeat ")) - i32::from(l.starts_with("//#end"));
        depth == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "const N: u32 = 2u; // set\n//#repeat a N\n//#repeat b 2\nx[$a] = $bu;\n//#end\n//#end\nend";

    #[test]
    fn constants_and_nested_repeats() {
        let source = Source { path: "t", text: TEXT, common: &["// shared"] };
        let lines = "x[0] = 0u;\nx[0] = 1u;\nx[1] = 0u;\nx[1] = 1u;\n";
        assert_eq!(expand(&source, &[]), format!("// shared\nconst N: u32 = 2u; // set\n{lines}end\n"));
        assert_eq!(expand(&source, &[("N", 0)]), "// shared\nconst N: u32 = 0u; // set\nend\n");
    }

    #[test]
    #[should_panic(expected = "no line `const M")]
    fn an_unknown_constant_is_an_error() {
        expand(&Source { path: "t", text: TEXT, common: &[] }, &[("M", 1)]);
    }
}
