//! Names with a `*`: what data sets call their files by.

/// Whether a name is `pattern`, in which one `*` may stand for any characters.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
        None => name == pattern,
    }
}

/// Whether a path is one of a pattern's: equal in the number of parts, each of which [`matches`] its own.
pub(super) fn matches_path(pattern: &str, path: &str) -> bool {
    let (patterns, parts) = (pattern.split('/'), path.split('/'));
    patterns.clone().count() == parts.clone().count() && patterns.zip(parts).all(|(p, s)| matches(p, s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_part_by_part() {
        for (pattern, path, wanted) in [
            ("a/b.bin", "a/b.bin", true),
            ("a/b.bin", "b.bin", false),
            ("a/data_*.bin", "a/data_1.bin", true),
            ("a/data_*.bin", "a/data_1.bin.part", false),
            ("a/data_*.bin", "a/data_x/1.bin", false),
            ("*/*.png", "cat/1.png", true),
            ("*/*.png", "1.png", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches_path(pattern, path), wanted, "{pattern} {path}");
        }
    }
}
