//! Tables without borders, and keys with their values.

use comfy_table::{Table, TableStyle};

use super::phrases::one_line;

/// A table; `header` is in upper case. Columns are two spaces apart, and no line ends in spaces.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    with(header, rows, &[])
}

/// A column after the others, with a cell for each row.
pub(crate) struct Column {
    pub(crate) header: &'static str,
    pub(crate) cells: Vec<String>,
}

/// A [`table`] with more columns.
pub(crate) fn with<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    extras: &[Column],
) -> String {
    let mut table = plain();
    table.set_header(header.into_iter().chain(extras.iter().map(|column| column.header)));
    for (at, row) in rows.into_iter().enumerate() {
        let more = extras.iter().map(|column| column.cells.get(at).map_or("", String::as_str));
        let cells: Vec<_> = row.iter().map(String::as_str).chain(more).map(cell_of).collect();
        table.add_row(cells);
    }
    written(table)
}

/// Keys with their values; a key with several values is shown once.
pub(crate) fn keys(rows: &[(&str, Vec<String>)]) -> String {
    let mut table = plain();
    for (key, values) in rows {
        let none = [String::new()];
        let values = if values.is_empty() { &none[..] } else { values };
        for (nth, value) in values.iter().enumerate() {
            let key = if nth == 0 { key } else { "" };
            table.add_row([key.to_owned(), cell_of(value)]);
        }
    }
    written(table)
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table
}

fn written(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// An empty text becomes `-`, so that scripts can count the columns.
fn cell_of(text: &str) -> String {
    if text.is_empty() { "-".into() } else { one_line(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cells_are_one_line() {
        let rows = [["a".into(), String::new()], ["long\u{1b}[31m".into(), "x y".into()]];
        assert_eq!(
            table(["NAME", "VIA"], rows),
            "NAME       VIA\n\
             a          -\n\
             long [31m  x y\n"
        );
    }

    #[test]
    fn an_empty_table_is_its_header() {
        assert_eq!(table(["NAME", "VIA"], []), "NAME  VIA\n");
    }

    #[test]
    fn a_key_of_several_values_is_shown_once() {
        let rows = [("name", vec!["a".into()]), ("hops", vec!["x".into(), "y".into()]), ("laggards", vec![])];
        assert_eq!(
            keys(&rows),
            "name      a\n\
             hops      x\n          \
                       y\n\
             laggards  -\n"
        );
    }
}
