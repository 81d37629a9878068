//! The CPU side of a dispatch: what a twin reads and writes.

use super::kernel::Elem;

/// A buffer's contents on the CPU. Floats are kept in f64, so that twins can be differentiated numerically.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Values of an f32 buffer.
    F32(Vec<f64>),
    /// Words of a u32 buffer.
    U32(Vec<u32>),
}

impl Data {
    /// `len` zeros.
    pub fn zeros(elem: Elem, len: usize) -> Self {
        match elem {
            Elem::F32 => Self::F32(vec![0.0; len]),
            Elem::U32 => Self::U32(vec![0; len]),
        }
    }
    /// From the words of a GPU buffer.
    pub fn from_bits(elem: Elem, bits: &[u32]) -> Self {
        match elem {
            Elem::F32 => Self::F32(bits.iter().map(|b| f64::from(f32::from_bits(*b))).collect()),
            Elem::U32 => Self::U32(bits.to_vec()),
        }
    }
    /// To the words of a GPU buffer, rounding to f32.
    pub fn to_bits(&self) -> Vec<u32> {
        match self {
            Self::F32(v) => v.iter().map(|x| (*x as f32).to_bits()).collect(),
            Self::U32(v) => v.clone(),
        }
    }
    /// Number of words.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::U32(v) => v.len(),
        }
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The floats of an f32 buffer.
    pub fn f32(&self) -> &[f64] {
        match self {
            Self::F32(v) => v,
            Self::U32(_) => panic!("a twin took a u32 buffer for an f32 one"),
        }
    }
    /// The words of a u32 buffer.
    pub fn u32(&self) -> &[u32] {
        match self {
            Self::U32(v) => v,
            Self::F32(_) => panic!("a twin took an f32 buffer for a u32 one"),
        }
    }
}

/// A buffer that a twin writes: values, and beside each the sum of the magnitudes that were added up to it.
#[derive(Clone, Debug)]
pub struct Output {
    /// The values.
    pub data: Data,
    /// Σ|terms| of each f32 value, the scale of its rounding error; empty where nobody asks.
    pub mag: Vec<f64>,
}

impl Output {
    /// An output that records magnitudes if `track`.
    pub fn new(data: Data, track: bool) -> Self {
        let mag = if track { vec![0.0; data.len()] } else { Vec::new() };
        Self { data, mag }
    }
}

/// An f32 output in a twin's hands.
pub struct Out<'a> {
    /// The values.
    pub v: &'a mut [f64],
    mag: &'a mut [f64],
}

impl Out<'_> {
    /// Stores a value and the sum of the magnitudes behind it.
    pub fn set(&mut self, i: usize, value: f64, mag: f64) {
        self.v[i] = value;
        if let Some(m) = self.mag.get_mut(i) {
            *m = mag;
        }
    }
    /// Stores an exact value.
    pub fn exact(&mut self, i: usize, value: f64) {
        self.set(i, value, value.abs());
    }
}

/// One argument of a dispatch.
pub enum Arg<'a> {
    /// Read only.
    In(&'a Data),
    /// Written or updated.
    Out(&'a mut Output),
    /// Handed out already.
    Taken,
}

/// A dispatch's bindings in order, for a twin.
pub struct Args<'a>(pub Vec<Arg<'a>>);

impl<'a> Args<'a> {
    /// The f32 values of a read binding.
    pub fn f(&self, i: usize) -> &'a [f64] {
        match &self.0[i] {
            Arg::In(d) => d.f32(),
            _ => panic!("binding {i} is not read-only"),
        }
    }
    /// The words of a read binding.
    pub fn u(&self, i: usize) -> &'a [u32] {
        match &self.0[i] {
            Arg::In(d) => d.u32(),
            _ => panic!("binding {i} is not read-only"),
        }
    }
    fn take(&mut self, i: usize) -> &'a mut Output {
        match std::mem::replace(&mut self.0[i], Arg::Taken) {
            Arg::Out(o) => o,
            _ => panic!("binding {i} is not writable, or taken twice"),
        }
    }
    /// A written or updated f32 binding.
    pub fn out(&mut self, i: usize) -> Out<'a> {
        let o = self.take(i);
        match &mut o.data {
            Data::F32(v) => Out { v, mag: &mut o.mag },
            Data::U32(_) => panic!("binding {i} holds u32"),
        }
    }
    /// A written or updated u32 binding.
    pub fn out_u32(&mut self, i: usize) -> &'a mut [u32] {
        match &mut self.take(i).data {
            Data::U32(v) => v,
            Data::F32(_) => panic!("binding {i} holds f32"),
        }
    }
}
