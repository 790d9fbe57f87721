//! Values in memory and on disk are the same values, and no file is left of them.

use std::path::Path;

use super::{BLOCK_BYTES, BLOCKS_KEPT, Builder, Number, Room, Store};
use crate::DataError;

fn room(folder: &Path, memory_bytes: usize) -> Room {
    Room { memory_bytes, scratch_dir: Some(folder.to_owned()), ..Room::default() }
}

fn built<T: Number>(room: &Room, values: &[T], at_once: usize) -> Store<T> {
    let mut builder = Builder::new(room);
    values.chunks(at_once).for_each(|some| builder.push(some).expect("room"));
    assert_eq!(builder.len(), values.len());
    builder.finish().expect("written")
}

#[test]
fn a_value_is_the_same_in_memory_and_on_disk() {
    let folder = tempfile::tempdir().expect("folder");
    let values: Vec<f32> = (0..700_000).map(|at| at as f32 * 0.37 - 9.0).collect();
    let memory = built(&room(folder.path(), 4 * 700_000), &values, 1000);
    assert!(matches!(memory, Store::Memory(_)), "the budget is met exactly");
    let disk = built(&room(folder.path(), 4 * 700_000 - 4), &values, 1000);
    assert!(matches!(disk, Store::Disk(..)));
    assert_eq!(disk.len(), memory.len());
    // Within a block, over its end, and the last values.
    let border = BLOCK_BYTES / 4;
    for range in [0..10, border - 3..border + 5, 699_990..700_000, 5..600_000] {
        let read = disk.slice(range.clone()).expect("read");
        assert_eq!(read, memory.slice(range.clone()).expect("read"));
        assert_eq!(*read, values[range]);
    }
    assert_eq!((disk.block_of(border - 1), disk.block_of(border)), (Some(0), Some(1)));
    assert_eq!(memory.block_of(border), None);
    let bytes: Vec<u8> = (0..3 * BLOCK_BYTES + 7).map(|at| (at % 251) as u8).collect();
    // All at once, and more than a block.
    let disk = built(&room(folder.path(), 0), &bytes, usize::MAX);
    assert_eq!(*disk.slice(0..bytes.len()).expect("read"), bytes);
    let left = std::fs::read_dir(folder.path()).expect("folder").count();
    assert_eq!(left, 0, "a scratch file has no name");
}

#[test]
fn few_blocks_are_kept_in_memory() {
    let folder = tempfile::tempdir().expect("folder");
    let blocks = BLOCKS_KEPT + 3;
    let bytes: Vec<u8> = (0..blocks).flat_map(|at| vec![at as u8; BLOCK_BYTES]).collect();
    let disk = built(&room(folder.path(), 0), &bytes, BLOCK_BYTES);
    for at in (0..blocks).chain([0, 1, blocks - 1]) {
        let value = disk.slice(at * BLOCK_BYTES + 5..at * BLOCK_BYTES + 6).expect("read");
        assert_eq!(*value, [at as u8]);
    }
    let Store::Disk(disk, _) = disk else { panic!("on disk") };
    assert_eq!(disk.kept.lock().expect("kept").blocks.len(), BLOCKS_KEPT);
}

#[test]
fn a_disk_without_room_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let small = Room { scratch_bytes: 2 << 20, ..room(folder.path(), 0) };
    let mut builder = Builder::new(&small);
    builder.push(&[0_u8; 2 << 20]).expect("as much as may be");
    let pushed = builder.push(&[0_u8; 1 << 20]).expect_err("too much");
    assert!(matches!(pushed, DataError::Full { most_mb: 2 }), "{pushed}");
    assert!(pushed.to_string().contains("raise `scratch_mb`"), "{pushed}");

    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("write");
    let none = Builder::<u8>::new(&room(&file, 0)).push(&[1]).expect_err("no folder").to_string();
    assert!(none.contains("file") && none.contains("`scratch_dir`"), "{none}");
}
