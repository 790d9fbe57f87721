//! A site that lacks a class.

use std::path::Path;

use crate::site::write_some;

/// Takes all rows of a class out of a site's files; how many are left.
pub(crate) fn leave_out(root: &Path, i: usize, prefix: &str, class: u8) -> usize {
    let dir = root.join(format!("site-{i}"));
    let read = |name: &str| std::fs::read(dir.join(format!("{prefix}{name}.idx"))).expect("read");
    let (images, labels) = (read("images"), read("labels"));
    let (pixels, labels) = (&images[16..], &labels[8..]);
    let rows: Vec<usize> = (0..labels.len()).filter(|&r| labels[r] != class).collect();
    assert!(rows.len() < labels.len(), "there were some");
    write_some(&dir, prefix, (pixels, labels), &rows);
    rows.len()
}
