//! Columns that a person can read, and `column` and `awk` too. Pure.

/// The rows below their header, each column as wide as its widest cell. No cell is empty, so that
/// every line has as many words as the header has, unless a cell itself has several.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let header = header.map(str::to_owned);
    let lines = || std::iter::once(&header).chain(rows);
    let width = |column: usize| lines().map(|line| line[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let line = |cells: &[String; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| {
            let cell = if cell.is_empty() { "-" } else { cell };
            format!("{cell:width$}")
        });
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_no_cell_is_empty() {
        let rows = [["10.0.0.10", "", "x"], ["::1", "eth0", ""]].map(|row| row.map(str::to_owned));
        let expected = "\
ADDRESS    IF    NOTE
10.0.0.10  -     x
::1        eth0  -
";
        assert_eq!(table(["ADDRESS", "IF", "NOTE"], &rows), expected);
        assert_eq!(table(["A", "B"], &[]), "A  B\n");
    }
}
