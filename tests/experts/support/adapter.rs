//! Files of LoRA adapters, as ONNX Runtime reads them: a flatbuffer of named tensors.

/// ONNX's number of the element type float32.
const FLOAT: i32 = 1;

/// Writes a flatbuffer from front to back. Offsets are written before the position of what they point to is known.
#[derive(Default)]
struct Flatbuffer(Vec<u8>);

impl Flatbuffer {
    fn align(&mut self, to: usize, offset: usize) {
        while !(self.0.len() + offset).is_multiple_of(to) {
            self.0.push(0);
        }
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        self.0.extend_from_slice(bytes);
        self.0.len() - bytes.len()
    }

    /// Makes the offset at `place` point to the end.
    fn point(&mut self, place: usize) {
        let offset = u32::try_from(self.0.len() - place).unwrap();
        self.0[place..place + 4].copy_from_slice(&offset.to_le_bytes());
    }

    /// Writes a table of fields of four bytes behind its list of offsets. `place` points to it. Returns its position.
    fn table(&mut self, place: usize, fields: u16) -> usize {
        self.align(4, usize::from(fields) * 2 % 4);
        let start = self.0.len();
        let size = 4 + 4 * fields;
        let offsets = (0..fields).flat_map(|field| (4 + 4 * field).to_le_bytes());
        let header: Vec<u8> =
            [4 + 2 * fields, size].iter().flat_map(|n| n.to_le_bytes()).chain(offsets).collect();
        self.put(&header);
        self.point(place);
        let back = i32::try_from(self.0.len() - start).unwrap();
        let table = self.put(&back.to_le_bytes());
        self.put(&vec![0; usize::from(fields) * 4]);
        table
    }

    fn number(&mut self, table: usize, field: usize, value: i32) {
        let place = table + 4 + 4 * field;
        self.0[place..place + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Writes a vector to which a field points. Its elements begin at a multiple of eight bytes.
    fn vector(&mut self, table: usize, field: usize, length: usize, bytes: &[u8]) -> usize {
        self.align(8, 4);
        self.point(table + 4 + 4 * field);
        self.put(&u32::try_from(length).unwrap().to_le_bytes());
        self.put(bytes)
    }
}

/// Returns the bytes of an adapter with these tensors: name, shape, numbers.
pub fn adapter(tensors: &[(&str, &[i64], &[f32])]) -> Vec<u8> {
    let mut file = Flatbuffer::default();
    let root = file.put(&[0; 4]);
    file.put(b"TORT");
    let table = file.table(root, 4);
    (0..3).for_each(|field| file.number(table, field, 1));
    let list = file.vector(table, 3, tensors.len(), &vec![0; 4 * tensors.len()]);
    for (index, (name, shape, numbers)) in tensors.iter().enumerate() {
        let tensor = file.table(list + 4 * index, 4);
        file.vector(tensor, 0, name.len(), &[name.as_bytes(), &[0]].concat());
        let sizes: Vec<u8> = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
        file.vector(tensor, 1, shape.len(), &sizes);
        file.number(tensor, 2, FLOAT);
        let raw: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        file.vector(tensor, 3, raw.len(), &raw);
    }
    file.align(8, 0);
    file.0
}
