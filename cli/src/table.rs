//! Tables for people: aligned columns, numbers to the right, no borders.

/// How a column is aligned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under headings.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Peers' words are in some cells: what could move the cursor is shown, not done.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| shown(cell)).collect());
    }

    /// The table as text, one line a row, without a newline at the end.
    pub(crate) fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| {
                let cells = self.rows.iter().filter_map(|row| row.get(i)).map(|c| width(c));
                cells.chain([width(self.columns[i].0)]).max().unwrap_or(0)
            })
            .collect();
        let headings = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let lines = std::iter::once(&headings).chain(&self.rows);
        let lines: Vec<String> = lines.map(|cells| self.line(cells, &widths)).collect();
        lines.join("\n")
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, &wide), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
            let pad = " ".repeat(wide.saturating_sub(width(cell)));
            if !line.is_empty() {
                line.push_str("  ");
            }
            match align {
                Align::Left => line.push_str(&format!("{cell}{pad}")),
                Align::Right => line.push_str(&format!("{pad}{cell}")),
            }
        }
        line.trim_end().to_owned()
    }
}

/// A text that a terminal only shows.
pub(crate) fn shown(text: &str) -> String {
    let show = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(show).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Bytes as a person reads them.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// Seconds from milliseconds.
pub(crate) fn seconds(ms: u64) -> String {
    format!("{:.2}", ms as f64 / 1000.0)
}

/// A ratio with four digits, or a dash.
pub(crate) fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"))
}

/// A digest short enough for a table.
pub(crate) fn short(digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::{Align, Table, bytes};

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[("job", Align::Left), ("rounds", Align::Right)]);
        table.row(vec!["a".to_owned(), "10".to_owned()]);
        table.row(vec!["longer".to_owned(), "9".to_owned()]);
        assert_eq!(table.render(), "job     rounds\na           10\nlonger       9");
        assert_eq!((bytes(999), bytes(1 << 20)), ("999 B".to_owned(), "1.0 MiB".to_owned()));
    }

    #[test]
    fn a_peer_s_escapes_are_shown_and_not_done() {
        let mut table = Table::new(&[("REASON", Align::Left)]);
        table.row(vec!["\u{1b}[2Jall is well\r\0".to_owned()]);
        let text = table.render();
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(text.contains("\\u{1b}[2Jall is well\\r"), "{text:?}");
    }
}
