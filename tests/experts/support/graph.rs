//! A builder of ONNX graphs, which writes their protobuf itself.

/// An encoder for protobuf, with the fields of ONNX messages by number.
mod proto {
    pub fn varint(mut n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while n > 0x7f {
            out.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out
    }

    pub fn int(field: u64, n: u64) -> Vec<u8> {
        [varint(field << 3), varint(n)].concat()
    }

    pub fn bytes(field: u64, data: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(data.len() as u64), data.to_vec()].concat()
    }

    pub fn text(field: u64, data: &str) -> Vec<u8> {
        bytes(field, data.as_bytes())
    }
}

use proto::{bytes, int, text};

pub const FLOAT: u64 = 1;
pub const UINT8: u64 = 2;
pub const INT8: u64 = 3;
pub const INT16: u64 = 5;
pub const INT64: u64 = 7;
pub const INT32: u64 = 6;
pub const STRING: u64 = 8;
pub const BOOL: u64 = 9;
pub const FLOAT16: u64 = 10;

/// A builder of a graph.
#[derive(Default)]
pub struct Graph {
    parts: Vec<Vec<u8>>,
}

impl Graph {
    pub fn input(mut self, name: &str, kind: u64, shape: &[i64]) -> Self {
        self.parts.push(bytes(11, &value_info(name, kind, shape)));
        self
    }

    pub fn output(mut self, name: &str, kind: u64, shape: &[i64]) -> Self {
        self.parts.push(bytes(12, &value_info(name, kind, shape)));
        self
    }

    fn constant(mut self, name: &str, kind: u64, shape: &[i64], raw: &[u8]) -> Self {
        let mut tensor: Vec<u8> = shape.iter().flat_map(|&n| int(1, n as u64)).collect();
        tensor.extend([int(2, kind), text(8, name), bytes(9, raw)].concat());
        self.parts.push(bytes(5, &tensor));
        self
    }

    pub fn floats(self, name: &str, shape: &[i64], values: &[f32]) -> Self {
        self.constant(name, FLOAT, shape, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Adds floats that are stored in a file of their own.
    pub fn outside(mut self, name: &str, shape: &[i64], location: &str) -> Self {
        self.parts.push(bytes(5, &external(name, shape, location)));
        self
    }

    /// Adds the same as the attribute of a node.
    pub fn outside_constant(mut self, shape: &[i64], location: &str, output: &str) -> Self {
        let tensor = external("value", shape, location);
        let attribute = [text(1, "value"), bytes(5, &tensor), int(20, 4)].concat();
        let node = [text(2, output), text(3, output), text(4, "Constant"), bytes(5, &attribute)].concat();
        self.parts.push(bytes(1, &node));
        self
    }

    /// Adds a number `nothing` with the value 0, whose computation takes `size` bytes.
    pub fn weighty(self, size: i64) -> Self {
        self.ints("size", &[1], &[size / 4]).node("ConstantOfShape", &["size"], "weight").node_with(
            "ReduceMax",
            &["weight"],
            "nothing",
            &[("keepdims", 0)],
        )
    }

    pub fn ints(self, name: &str, shape: &[i64], values: &[i64]) -> Self {
        self.constant(name, INT64, shape, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    pub fn unsigned_bytes(self, name: &str, shape: &[i64], values: &[u8]) -> Self {
        self.constant(name, UINT8, shape, values)
    }

    pub fn words(mut self, name: &str, words: &[&str]) -> Self {
        let mut tensor = [int(1, words.len() as u64), int(2, STRING), text(8, name)].concat();
        tensor.extend(words.iter().flat_map(|word| text(6, word)));
        self.parts.push(bytes(5, &tensor));
        self
    }

    pub fn truth(self, name: &str) -> Self {
        self.constant(name, BOOL, &[], &[1])
    }

    pub fn node(self, op: &str, inputs: &[&str], output: &str) -> Self {
        self.node_with(op, inputs, output, &[])
    }

    /// Adds a node. `attributes` are names and values of integers.
    pub fn node_with(self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, u64)]) -> Self {
        let extra = attributes
            .iter()
            .flat_map(|(name, value)| bytes(5, &[text(1, name), int(3, *value), int(20, 2)].concat()))
            .collect();
        self.raw_node(op, inputs, output, extra)
    }

    /// Adds a node with a list of integers as its attribute.
    pub fn node_list(self, op: &str, inputs: &[&str], output: &str, (name, list): (&str, &[u64])) -> Self {
        let numbers: Vec<u8> = list.iter().flat_map(|&number| int(8, number)).collect();
        let attribute = [text(1, name), numbers, int(20, 7)].concat();
        self.raw_node(op, inputs, output, bytes(5, &attribute))
    }

    /// Adds a node of Microsoft's domain with several outputs.
    pub fn contrib_node(
        mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, u64)],
    ) -> Self {
        let mut node: Vec<u8> = inputs.iter().flat_map(|name| text(1, name)).collect();
        node.extend(outputs.iter().flat_map(|name| text(2, name)));
        node.extend([text(3, outputs[0]), text(4, op), text(7, "com.microsoft")].concat());
        for (name, value) in attributes {
            node.extend(bytes(5, &[text(1, name), int(3, *value), int(20, 2)].concat()));
        }
        self.parts.push(bytes(1, &node));
        self
    }

    pub fn looping(self, inputs: &[&str], output: &str, body: Self) -> Self {
        let attribute = [text(1, "body"), bytes(6, &body.message("body")), int(20, 5)].concat();
        self.raw_node("Loop", inputs, output, bytes(5, &attribute))
    }

    fn raw_node(mut self, op: &str, inputs: &[&str], output: &str, extra: Vec<u8>) -> Self {
        let mut node: Vec<u8> = inputs.iter().flat_map(|name| text(1, name)).collect();
        node.extend([text(2, output), text(3, output), text(4, op), extra].concat());
        self.parts.push(bytes(1, &node));
        self
    }

    fn message(&self, name: &str) -> Vec<u8> {
        [self.parts.concat(), text(2, name)].concat()
    }

    /// Returns the bytes of the model file.
    pub fn model(self) -> Vec<u8> {
        let opset = [text(1, ""), int(2, 20)].concat();
        let contrib = [text(1, "com.microsoft"), int(2, 1)].concat();
        [int(1, 9), bytes(7, &self.message("g")), bytes(8, &opset), bytes(8, &contrib)].concat()
    }
}

/// Returns a tensor of floats that are stored in a file.
fn external(name: &str, shape: &[i64], location: &str) -> Vec<u8> {
    let location = [text(1, "location"), text(2, location)].concat();
    let mut tensor: Vec<u8> = shape.iter().flat_map(|&n| int(1, n as u64)).collect();
    tensor.extend([int(2, FLOAT), text(8, name), bytes(13, &location), int(14, 1)].concat());
    tensor
}

/// Negative sizes depend on the run: -1 is the batch, and each other number is a size of its own.
fn value_info(name: &str, kind: u64, shape: &[i64]) -> Vec<u8> {
    let symbol = |n: i64| if n == -1 { "batch".to_owned() } else { format!("size{}", -n) };
    let dimension = |&n: &i64| bytes(1, &if n < 0 { text(2, &symbol(n)) } else { int(1, n as u64) });
    let dimensions: Vec<u8> = shape.iter().flat_map(dimension).collect();
    let tensor = [int(1, kind), bytes(2, &dimensions)].concat();
    [text(1, name), bytes(2, &bytes(1, &tensor))].concat()
}
