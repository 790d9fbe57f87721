//! Products of matrices over slices: the one place that calls `gemm`.

mod panels;
mod turned;

pub(super) use panels::Panels;

/// A matrix in a slice: element (i, j) stands at `i × row_stride + j × column_stride`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one behind the other.
    pub(super) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix fills its slice");
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Rows that begin every `stride` values; the slice begins with the first.
    pub(super) fn strided(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        let matrix = Self { values, rows, columns, row_stride: stride, column_stride: 1 };
        assert!(matrix.extent() <= values.len(), "a matrix lies within its slice");
        matrix
    }

    /// The same values, rows and columns exchanged.
    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// One more than the largest index in use.
    fn extent(&self) -> usize {
        extent(self.rows, self.columns, self.row_stride, self.column_stride)
    }
}

fn extent(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> usize {
    if rows == 0 || columns == 0 {
        return 0;
    }
    (rows - 1) * row_stride + (columns - 1) * column_stride + 1
}

/// Who works on a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hands {
    /// The calling thread.
    One,
    /// All threads of the pool. Rows and columns are shared out, never a sum, so the result is the
    /// same.
    All,
}

/// `target = left × right`, or `target += left × right`; `target` has its rows one behind the other.
///
/// The order of additions depends on the sizes and the CPU alone.
pub(super) fn multiply(
    target: &mut [f32],
    left: Matrix<'_>,
    right: Matrix<'_>,
    add: bool,
    hands: Hands,
) {
    assert_eq!(target.len(), left.rows * right.columns, "the product fills its target");
    multiply_into(target, right.columns, left, right, 1.0, add, hands);
}

/// The same with rows of the target that begin every `stride` values, and the product scaled; what
/// lies between the rows stays as it is.
pub(super) fn multiply_into(
    target: &mut [f32],
    stride: usize,
    left: Matrix<'_>,
    right: Matrix<'_>,
    scale: f32,
    add: bool,
    hands: Hands,
) {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    assert_eq!(k, right.rows, "inner sizes agree");
    assert!(stride >= n && extent(m, n, stride, 1) <= target.len(), "rows within the target");
    assert!(left.extent() <= left.values.len() && right.extent() <= right.values.len());
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !add {
            target.chunks_mut(stride).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    let size = m.saturating_mul(n).saturating_mul(k);
    let into = (target, stride);
    match hands == Hands::All && size >= turned::WORTH && turned::aliases(&right) {
        true => turned::with(right, |right| call(into, left, right, scale, add, hands)),
        false => call(into, left, right, scale, add, hands),
    }
}

/// The call itself, of sizes that its caller has checked.
fn call(
    (target, stride): (&mut [f32], usize),
    left: Matrix<'_>,
    right: Matrix<'_>,
    scale: f32,
    add: bool,
    hands: Hands,
) {
    // No overflow: strides are below the length of a slice, which is below isize::MAX.
    let signed = |stride: usize| stride as isize;
    let parallelism = match hands {
        Hands::One => gemm::Parallelism::None,
        Hands::All => gemm::Parallelism::Rayon(0),
    };
    #[allow(unsafe_code)]
    // SAFETY: gemm reads (rows − 1, columns − 1) of both arguments at most, and writes the same of the
    // target, which its caller's assertions put within their slices; nobody else can hold the target. With
    // `read_dst` false the target is not read.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            target.as_mut_ptr(),
            1,
            signed(stride),
            add,
            left.values.as_ptr(),
            signed(left.column_stride),
            signed(left.row_stride),
            right.values.as_ptr(),
            signed(right.column_stride),
            signed(right.row_stride),
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{Hands, Matrix, Panels, multiply, multiply_into};

    #[test]
    fn panels_add_the_product_of_the_definition() {
        let value = |seed: usize, i: usize| ((i * 37 + seed * 11) % 23) as f32 / 8.0 - 1.0;
        let mut panels = Panels::default();
        // Columns that fill no panel, rows of every tile, and more depth than a block's.
        for (rows, depth, columns) in [(1, 3, 5), (7, 40, 33), (32, 300, 64), (11, 513, 100)] {
            let left: Vec<f32> = (0..rows * depth).map(|i| value(1, i)).collect();
            let right: Vec<f32> = (0..depth * columns).map(|i| value(2, i)).collect();
            let start: Vec<f32> = (0..rows * columns).map(|i| value(3, i)).collect();
            for turned in [false, true] {
                let matrix = match turned {
                    false => Matrix::new(&right, depth, columns),
                    true => Matrix::new(&right, columns, depth).transposed(),
                };
                panels.pack(matrix);
                let mut found = start.clone();
                panels.add_product(&mut found, &left);
                let mut wanted = start.clone();
                multiply(&mut wanted, Matrix::new(&left, rows, depth), matrix, true, Hands::One);
                // Eighths of small integers: sums of their products have no rounding.
                assert_eq!(found, wanted, "{rows} × {depth} × {columns}, turned: {turned}");
            }
        }
    }

    #[test]
    fn a_turned_argument_changes_no_bit() {
        let values = |len: usize| -> Vec<f32> { (0..len).map(|i| libm::sinf(i as f32)).collect() };
        // Columns that lie 4 KiB and 6 KiB apart, and fill no block.
        for (rows, depth, columns) in [(170, 1024, 130), (64, 1536, 201)] {
            let (left, right) = (values(rows * depth), values(depth * columns));
            let left = Matrix::new(&left, rows, depth);
            let right = Matrix::new(&right, columns, depth).transposed();
            assert!(
                super::turned::aliases(&right) && rows * depth * columns > super::turned::WORTH
            );
            let mut plain = vec![0.5; rows * columns];
            super::call((&mut plain, columns), left, right, 0.7, true, Hands::One);
            for hands in [Hands::One, Hands::All] {
                let mut found = vec![0.5; rows * columns];
                multiply_into(&mut found, columns, left, right, 0.7, true, hands);
                let same = found.iter().zip(&plain).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{rows} × {depth} × {columns}");
            }
        }
    }

    #[test]
    fn views_and_sums_are_those_of_the_definition() {
        let left: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let right: Vec<f32> = (0..6).map(|i| (i * i) as f32 - 3.0).collect();
        let (a, b) = (Matrix::new(&left, 2, 3), Matrix::new(&right, 2, 3));
        // a · bᵀ
        let mut product = vec![1.0; 4];
        multiply(&mut product, a, b.transposed(), true, Hands::One);
        let at =
            |i: usize, j: usize| (0..3).map(|k| left[i * 3 + k] * right[j * 3 + k]).sum::<f32>();
        assert_eq!(product, [1.0 + at(0, 0), 1.0 + at(0, 1), 1.0 + at(1, 0), 1.0 + at(1, 1)]);
        // aᵀ · b, the last two columns, doubled, into rows of three
        let mut product = vec![7.0; 8];
        let b = Matrix::strided(&right[1..], 2, 2, 3);
        multiply_into(&mut product, 3, a.transposed(), b, 2.0, false, Hands::One);
        let at = |i: usize, j: usize| 2.0 * (left[i] * right[j] + left[3 + i] * right[3 + j]);
        let rows = [at(0, 1), at(0, 2), 7.0, at(1, 1), at(1, 2), 7.0, at(2, 1), at(2, 2)];
        assert_eq!(product, rows);
    }
}
