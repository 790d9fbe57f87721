//! The order of examples in an epoch.

use tributary_core::prg::Prg;

use super::{Dataset, Values};
use crate::store::WINDOW_BLOCKS;

impl Dataset {
    /// Puts the examples in a new order for an epoch. `order` has each of them once, in the order of
    /// the epoch before.
    ///
    /// In memory it is shuffled as a whole. Of rows in a scratch file, the blocks are shuffled, and
    /// then the rows of 32 blocks at a time among each other, so that an epoch reads
    /// each block once; that order depends on the draw and on the rows alone.
    pub fn shuffle(&self, order: &mut Vec<usize>, prg: &mut Prg) {
        let block_of = |row: u32| self.block_of(row as usize);
        if self.rows.first().is_none_or(|&row| block_of(row).is_none()) {
            prg.shuffle(order);
            return;
        }
        let mut all: Vec<usize> = (0..self.len()).collect();
        // Stable, so rows of one block stay in the set's own order.
        all.sort_by_key(|&index| block_of(self.rows[index]));
        let same = |a: &usize, b: &usize| block_of(self.rows[*a]) == block_of(self.rows[*b]);
        let mut blocks: Vec<&[usize]> = all.chunk_by(same).collect();
        prg.shuffle(&mut blocks);
        order.clear();
        for window in blocks.chunks(WINDOW_BLOCKS) {
            let from = order.len();
            window.iter().for_each(|block| order.extend_from_slice(block));
            prg.shuffle(&mut order[from..]);
        }
    }

    /// The block of the scratch file that a row begins in; none in memory.
    fn block_of(&self, row: usize) -> Option<usize> {
        let size = || self.shape.iter().product::<usize>();
        match &self.values {
            Values::U8(all, _) => all.block_of(row * size()),
            Values::F32(all) => all.block_of(row * size()),
            Values::Tokens(texts) => texts.block_of(row),
        }
    }
}
