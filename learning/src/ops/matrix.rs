//! Products of matrices over slices: the one place that calls `gemm`.

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

    /// The columns of a range.
    pub(super) fn columns(self, range: std::ops::Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.columns, "columns within the matrix");
        let start = (range.start * self.column_stride).min(self.values.len());
        Self { values: &self.values[start..], columns: range.len(), ..self }
    }

    /// One more than the largest index in use.
    fn extent(&self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
    }
}

/// `target = left × right`, or `target += left × right`; `target` has its rows one behind the other.
///
/// Runs on the calling thread. The order of additions depends on the sizes and the CPU alone.
pub(super) fn multiply(target: &mut [f32], left: Matrix<'_>, right: Matrix<'_>, add: bool) {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    assert_eq!(k, right.rows, "inner sizes agree");
    assert_eq!(target.len(), m * n, "the product fills its target");
    assert!(left.extent() <= left.values.len() && right.extent() <= right.values.len());
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !add {
            target.fill(0.0);
        }
        return;
    }
    // No overflow: strides are below the length of a slice, which is below isize::MAX.
    let stride = |stride: usize| stride as isize;
    #[allow(unsafe_code)]
    // SAFETY: gemm reads (rows − 1, columns − 1) of both arguments at most, which the assertions put
    // within their slices, and writes m × n contiguous values, the length of `target`, which nobody
    // else can hold. With `read_dst` false the target is not read.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target.as_mut_ptr(),
            1,
            stride(n),
            add,
            left.values.as_ptr(),
            stride(left.column_stride),
            stride(left.row_stride),
            right.values.as_ptr(),
            stride(right.column_stride),
            stride(right.row_stride),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{Matrix, multiply};

    #[test]
    fn views_and_sums_are_those_of_the_definition() {
        let left: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let right: Vec<f32> = (0..6).map(|i| (i * i) as f32 - 3.0).collect();
        let (a, b) = (Matrix::new(&left, 2, 3), Matrix::new(&right, 2, 3));
        // a · bᵀ
        let mut product = vec![1.0; 4];
        multiply(&mut product, a, b.transposed(), true);
        let at =
            |i: usize, j: usize| (0..3).map(|k| left[i * 3 + k] * right[j * 3 + k]).sum::<f32>();
        assert_eq!(product, [1.0 + at(0, 0), 1.0 + at(0, 1), 1.0 + at(1, 0), 1.0 + at(1, 1)]);
        // aᵀ · b, columns 1 and 2
        let mut product = vec![f32::NAN; 6];
        multiply(&mut product, a.transposed(), b.columns(1..3), false);
        let at = |i: usize, j: usize| left[i] * right[j] + left[3 + i] * right[3 + j];
        assert_eq!(product, [at(0, 1), at(0, 2), at(1, 1), at(1, 2), at(2, 1), at(2, 2)]);
    }
}
