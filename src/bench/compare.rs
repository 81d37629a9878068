//! What moved since an older report.

use std::fmt::Write;

use super::report::Report;

/// Parts that moved less than this are counted, not listed.
const STILL: f64 = 0.05;

/// `before`, `after`, and how many times faster or slower.
fn moved(before: f64, after: f64) -> String {
    let ratio = after / before;
    let word = if ratio < 1.0 { "faster" } else { "slower" };
    format!(
        "{:>10.4} -> {:>10.4} ms  x {ratio:.3} ({:.2} times {word})",
        1e3 * before,
        1e3 * after,
        ratio.max(1.0 / ratio)
    )
}

/// The ratio new / old of the whole step and of every part, in lines; the largest change of a step's time comes first.
pub fn compare(old: &Report, new: &Report) -> String {
    let mut s = String::new();
    let commit = |r: &Report| r.commit.clone().unwrap_or_else(|| format!("version {}", r.version));
    let _ = writeln!(s, "compared with {} on {}", commit(old), old.adapter);
    for (what, a, b) in [
        ("workload", old.workload.to_string(), new.workload.to_string()),
        ("adapter", old.adapter.clone(), new.adapter.clone()),
        ("driver", old.driver.clone(), new.driver.clone()),
    ] {
        if a != b {
            let _ = writeln!(s, "  note: another {what}: {a} before, {b} now");
        }
    }
    for (what, a, b) in [
        ("step", old.seconds_per_step, new.seconds_per_step),
        ("forward", old.seconds_per_forward, new.seconds_per_forward),
        ("host", old.host_seconds, new.host_seconds),
    ] {
        let _ = writeln!(s, "  {what:8} {}", moved(a, b));
    }
    if old.dispatches != new.dispatches {
        let _ = writeln!(s, "  dispatches {} -> {}", old.dispatches, new.dispatches);
    }
    let mut lines = Vec::new();
    let mut still = 0;
    for b in &new.parts {
        let after = b.times as f64 * b.seconds;
        let name = format!("{} {}", b.kernel, b.layer);
        match old.parts.iter().find(|a| a.kernel == b.kernel && a.layer == b.layer) {
            None => lines.push((after, format!("  + {name}: new, {:.4} ms in all", 1e3 * after))),
            Some(a) => {
                let before = a.times as f64 * a.seconds;
                if (after / before).max(before / after) < 1.0 + STILL {
                    still += 1;
                } else {
                    lines.push(((after - before).abs(), format!("  {name}: {}", moved(before, after))));
                }
            }
        }
    }
    for a in old.parts.iter().filter(|a| !new.parts.iter().any(|b| a.kernel == b.kernel && a.layer == b.layer)) {
        let before = a.times as f64 * a.seconds;
        lines.push((before, format!("  - {} {}: gone, it took {:.4} ms in all", a.kernel, a.layer, 1e3 * before)));
    }
    lines.sort_by(|a, b| b.0.total_cmp(&a.0));
    lines.iter().for_each(|(_, line)| s.push_str(&format!("{line}\n")));
    let _ = writeln!(s, "  {still} parts within {:.0} % of before", 100.0 * STILL);
    s
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{part, report};
    use super::*;

    #[test]
    fn whole_and_parts_by_ratio() {
        let old = report(2.0, vec![part("conv", "a", 2, 1e-3), part("relu", "a", 1, 1e-4), part("add", "b", 1, 5e-3)]);
        let mut new =
            report(1.0, vec![part("conv", "a", 2, 2e-3), part("relu", "a", 1, 1.01e-4), part("fused", "b", 1, 3e-3)]);
        new.dispatches = 90;
        let text = compare(&old, &new);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("step") && lines[1].contains("x 0.500 (2.00 times faster)"), "{text}");
        assert!(lines[4].contains("dispatches 100 -> 90"), "{text}");
        // In the order of what they mean for the step.
        assert!(lines[5].contains("- add b: gone, it took 5.0000 ms"), "{text}");
        assert!(lines[6].contains("+ fused b: new, 3.0000 ms"), "{text}");
        assert!(lines[7].contains("conv a") && lines[7].contains("x 2.000 (2.00 times slower)"), "{text}");
        assert!(lines[8].contains("1 parts within 5 %"), "{text}");
        assert!(!text.contains("note:"), "{text}");
    }

    #[test]
    fn another_adapter_is_said() {
        let old = report(2.0, Vec::new());
        let mut new = old.clone();
        new.adapter = "another card".into();
        new.workload.batch = 16;
        let text = compare(&old, &new);
        assert!(text.contains("another adapter: a card before, another card now"), "{text}");
        assert!(text.contains("another workload") && text.contains("batch 16"), "{text}");
    }
}
