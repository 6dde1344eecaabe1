//! Inputs and outputs of graphs as tensors.

use ort::memory::AllocationDevice;
use ort::session::{SessionInputValue, SessionOutputs};
use ort::value::{PrimitiveTensorElementType, Tensor, TensorElementType, TensorValueType};

use crate::experts::backend::result::RunError;

/// Whole numbers as a tensor of the element type that the graph declares.
pub(crate) fn whole_numbers(
    kind: TensorElementType,
    shape: [usize; 2],
    values: &[i64],
) -> Result<SessionInputValue<'static>, RunError> {
    let made = match kind {
        TensorElementType::Int64 => Tensor::from_array((shape, values.to_vec())).map(SessionInputValue::from),
        TensorElementType::Int32 => {
            let values: Result<Vec<i32>, _> = values.iter().map(|&v| i32::try_from(v)).collect();
            let values = values.map_err(RunError::failed)?;
            Tensor::from_array((shape, values)).map(SessionInputValue::from)
        }
        TensorElementType::Float32 => {
            // This is exact, because ids stay far below 2^24.
            let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            Tensor::from_array((shape, values)).map(SessionInputValue::from)
        }
        other => {
            return Err(RunError::shape(format!("inputs of type {other} cannot be filled")));
        }
    };
    made.map_err(RunError::failed)
}

/// Reads an output of shape `[rows, width]`. Returns the numbers, row by row, and the width.
pub(crate) fn matrix<T: PrimitiveTensorElementType + Copy>(
    outputs: &SessionOutputs<'_>,
    name: &str,
    rows: usize,
) -> Result<(Vec<T>, usize), RunError> {
    let value = outputs.get(name).ok_or_else(|| RunError::shape(format!("no output {name}")))?;
    let (shape, numbers) =
        value.try_extract_tensor::<T>().map_err(|error| RunError::shape(error.to_string()))?;
    Ok((numbers.to_vec(), width(name, shape, rows)?))
}

/// Takes an output of shape `[rows, width]` on the device that holds it. Returns it with a copy of the numbers on the
/// host, row by row, and the width.
pub(crate) fn shared_matrix(
    outputs: &mut SessionOutputs<'_>,
    name: &str,
    rows: usize,
) -> Result<(Tensor<f32>, Vec<f32>, usize), RunError> {
    let value = outputs.remove(name).ok_or_else(|| RunError::shape(format!("no output {name}")))?;
    let shared =
        value.downcast::<TensorValueType<f32>>().map_err(|error| RunError::shape(error.to_string()))?;
    let width = width(name, shared.shape(), rows)?;
    let numbers = if shared.memory_info().is_cpu_accessible() {
        shared.extract_tensor().1.to_vec()
    } else {
        let host = shared.to(AllocationDevice::CPU, 0).map_err(RunError::failed)?;
        host.extract_tensor().1.to_vec()
    };
    Ok((shared, numbers, width))
}

/// The number of columns of an output that must have one row for each text.
fn width(name: &str, shape: &[i64], rows: usize) -> Result<usize, RunError> {
    let fits = match *shape {
        [n, width] if usize::try_from(n) == Ok(rows) => {
            usize::try_from(width).ok().filter(|width| *width > 0)
        }
        _ => None,
    };
    fits.ok_or_else(|| RunError::shape(format!("{name} has shape {shape:?} for {rows} texts")))
}
