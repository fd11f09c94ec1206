//! The datatypes of KServe v2 (`mesh/doors/rest/tensors.py: TABLE`).

/// Which JSON values a datatype takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Bool,
    Int,
    Float,
    Bytes,
}

/// One datatype.
#[derive(Debug, PartialEq)]
pub struct Datatype {
    pub name: &'static str,
    pub family: Family,
    /// Bytes of an element; 0 if it varies.
    pub size: usize,
    /// Number of the field of `InferTensorContents`; 0 if it travels as raw bytes only.
    pub field: u32,
    /// Bounds of a whole number.
    pub low: i128,
    pub high: i128,
    /// The largest finite number, and with a sign the smallest.
    pub most: f64,
}

impl Datatype {
    /// Whether its integers have a sign.
    pub const fn signed(&self) -> bool {
        self.low < 0
    }
}

const fn kind(name: &'static str, family: Family, size: usize, field: u32) -> Datatype {
    Datatype { name, family, size, field, low: 0, high: 0, most: 0.0 }
}

const fn whole(name: &'static str, size: usize, field: u32, signed: bool) -> Datatype {
    let span = 1i128 << (8 * size);
    let (low, high) = if signed { (-span / 2, span / 2 - 1) } else { (0, span - 1) };
    Datatype { low, high, ..kind(name, Family::Int, size, field) }
}

const fn real(name: &'static str, size: usize, field: u32, most: f64) -> Datatype {
    Datatype { most, ..kind(name, Family::Float, size, field) }
}

/// The largest finite BF16: 0x1.fep127.
const MOST_BF16: f64 = f64::from_bits(0x47EF_E000_0000_0000);

static TABLE: [Datatype; 14] = [
    kind("BOOL", Family::Bool, 1, 1),
    whole("UINT8", 1, 4, false),
    whole("UINT16", 2, 4, false),
    whole("UINT32", 4, 4, false),
    whole("UINT64", 8, 5, false),
    whole("INT8", 1, 2, true),
    whole("INT16", 2, 2, true),
    whole("INT32", 4, 2, true),
    whole("INT64", 8, 3, true),
    real("FP16", 2, 0, 65504.0),
    real("BF16", 2, 0, MOST_BF16),
    real("FP32", 4, 6, f32::MAX as f64),
    real("FP64", 8, 7, f64::MAX),
    kind("BYTES", Family::Bytes, 0, 8),
];

/// The datatype of a name.
pub fn of(name: &str) -> Option<&'static Datatype> {
    TABLE.iter().find(|kind| kind.name == name)
}

/// The elements that a shape takes; None if that is more than can be counted.
pub fn count(shape: &[u64]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |product, size| product.checked_mul(usize::try_from(*size).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_bits() {
        let bounds = |name| of(name).map(|kind| (kind.low, kind.high));
        assert_eq!(bounds("INT8"), Some((-128, 127)));
        assert_eq!(bounds("UINT64"), Some((0, i128::from(u64::MAX))));
        assert_eq!(bounds("INT64"), Some((i64::MIN.into(), i64::MAX.into())));
        assert_eq!(of("BF16").map(|kind| kind.most), Some(f64::from(f32::from_bits(0x7F7F_0000))));
        assert_eq!(of("fp32"), None);
    }

    #[test]
    fn a_shape_with_a_zero_takes_nothing_however_large_its_other_dimensions() {
        assert_eq!(count(&[1 << 62, 1 << 62, 0]), Some(0));
        assert_eq!(count(&[1 << 62, 1 << 62]), None);
        assert_eq!((count(&[]), count(&[2, 3])), (Some(1), Some(6)));
    }
}
