//! Tables with lines around their cells.

/// A table with titles, each column as wide as its widest cell.
pub(crate) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(at, title)| {
            let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.chain([title.chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let lines: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", lines.join(middle))
    };
    let mut out = rule("┌", "┬", "┐");
    out.push_str(&row(&widths, titles.iter().copied(), true));
    out.push_str(&rule("├", "┼", "┤"));
    for cells in rows {
        out.push_str(&row(&widths, cells.iter().map(String::as_str), false));
    }
    out.push_str(&rule("└", "┴", "┘"));
    out
}

fn row<'a>(widths: &[usize], cells: impl Iterator<Item = &'a str>, centred: bool) -> String {
    let mut out = String::from("│");
    for (width, cell) in widths.iter().zip(cells) {
        let space = width.saturating_sub(cell.chars().count());
        let left = match centred {
            true => space / 2,
            // Numbers stand on the right.
            false if !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit()) => space,
            false => 0,
        };
        out.push_str(&format!(" {}{cell}{} │", " ".repeat(left), " ".repeat(space - left)));
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let rows =
            [vec!["127.0.0.1:2379".to_owned(), "7".to_owned()], vec!["a".to_owned(), "123456".to_owned()]];
        assert_eq!(
            table(&["ENDPOINT", "HASH"], &rows),
            "\
┌────────────────┬────────┐
│    ENDPOINT    │  HASH  │
├────────────────┼────────┤
│ 127.0.0.1:2379 │      7 │
│ a              │ 123456 │
└────────────────┴────────┘
"
        );
    }
}
