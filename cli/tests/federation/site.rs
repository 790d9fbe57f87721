//! A site's files: a share of real digits as IDX, one of them compressed, and its client's file.

use std::path::{Path, PathBuf};

/// Digits of the UCI set, every one of them once: 64 pixels of 0 to 16, and a label.
fn digits() -> (Vec<u8>, Vec<u8>) {
    let set = smartcore::dataset::digits::load_dataset();
    let pixels = set.data.iter().map(|&v| (v * 15.0).round() as u8).collect();
    (pixels, set.target.iter().map(|&v| v as u8).collect())
}

fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    for size in sizes {
        file.extend_from_slice(&size.to_be_bytes());
    }
    file.extend_from_slice(bytes);
    file
}

/// Writes the rows `start, start + step, …` of the digits; at most `count` of them.
fn write_rows(dir: &Path, prefix: &str, start: usize, step: usize, count: usize) {
    let (pixels, labels) = digits();
    let rows: Vec<usize> = (start..labels.len()).step_by(step).take(count).collect();
    write_some(dir, prefix, (&pixels, &labels), &rows);
}

fn write_some(dir: &Path, prefix: &str, (pixels, labels): (&[u8], &[u8]), rows: &[usize]) {
    let images: Vec<u8> =
        rows.iter().flat_map(|&r| pixels[r * 64..(r + 1) * 64].iter().copied()).collect();
    let labels: Vec<u8> = rows.iter().map(|&r| labels[r]).collect();
    let count = rows.len() as u32;
    std::fs::write(dir.join(format!("{prefix}images.idx")), idx(&[count, 8, 8], &images))
        .expect("written");
    std::fs::write(dir.join(format!("{prefix}labels.idx")), idx(&[count], &labels))
        .expect("written");
}

/// The folder of site `i` of `sites`, with its client's file; site 0 only evaluates.
pub(crate) fn write(root: &Path, i: usize, sites: usize, coordinator: &str) -> PathBuf {
    let dir = root.join(format!("site-{i}"));
    std::fs::create_dir_all(&dir).expect("a folder");
    let files = if i == 0 {
        write_rows(&dir, "held-out-", 0, 5, 200);
        "evaluate_images = \"held-out-images.idx\"\nevaluate_labels = \"held-out-labels.idx\"\n"
    } else {
        write_rows(&dir, "", i, sites + 2, 240);
        "images = \"images.idx\"\nlabels = \"labels.idx\"\n"
    };
    let text = format!(
        "coordinator = \"{coordinator}\"\nname = \"site-{i}\"\nstate_dir = \"state\"\nthreads = 1\n\
         [data]\nname = \"digits\"\nformat = \"idx\"\nclasses = 10\n{files}"
    );
    let path = dir.join("client.toml");
    std::fs::write(&path, text).expect("written");
    path
}
