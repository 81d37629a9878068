//! Networks in other people's forms: C99, NumPy's npz, memory words for hardware, and ONNX of the float network.

pub mod c;
pub mod hex;
pub mod npz;
pub mod onnx;
