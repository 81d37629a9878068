//! Columns of text.

/// Lines with their cells in columns two blanks apart; columns whose title starts with `>` are aligned to the right.
pub(super) fn columns(titles: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let right: Vec<_> = titles.iter().map(|t| t.starts_with('>')).collect();
    let titles = titles.iter().map(|t| t.trim_start_matches('>').to_string()).collect::<Vec<_>>();
    let all: Vec<_> = std::iter::once(&titles).chain(rows).collect();
    let length = |s: &String| s.chars().count();
    let widths: Vec<_> =
        (0..titles.len()).map(|c| all.iter().map(|row| length(&row[c])).max().unwrap_or_default()).collect();
    let line = |row: &&Vec<String>| {
        let cells = row.iter().zip(&widths).zip(&right).map(|((cell, width), right)| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = [vec!["é".to_string(), "10".into()], vec!["long".into(), "1".into()]];
        assert_eq!(super::columns(&["a", ">n"], &rows), ["a      n", "é     10", "long   1"]);
    }
}
