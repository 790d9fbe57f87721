//! Candle's storages as slices of f32.

use candle_core::{CpuStorage, Layout, Result, Shape, Storage, Tensor, bail};

/// The values of an argument of a forward pass; it must be contiguous.
pub(super) fn argument<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a kernel got a tensor that is not contiguous")
    };
    match storage.as_slice::<f32>()?.get(start..end) {
        Some(values) => Ok(values),
        None => bail!("a kernel got a layout beyond its storage"),
    }
}

/// The values of a locked tensor; it must be contiguous and on the CPU.
pub(crate) fn floats<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => argument(storage, layout),
        _ => bail!("the kernels run on the CPU alone"),
    }
}

/// The result of a forward pass.
pub(super) fn result(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

/// A gradient with the shape of what it is the gradient of.
pub(super) fn gradient(values: Vec<f32>, of: &Tensor) -> Result<Option<Tensor>> {
    Tensor::from_vec(values, of.shape(), of.device()).map(Some)
}
