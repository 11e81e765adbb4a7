//! Networks of a middle size as ONNX files, written field by field, so that a bench needs neither Python nor a download.
//! <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>

/// The name of a network's input, and of its output.
pub const INPUT: &str = "x";
pub const OUTPUT: &str = "y";

/// A recurrent network over steps of features, as for sensors or speech: an LSTM layer and a dense one. Its weights are
/// read for every step of every run, so that rows which are joined share that.
pub struct Recurrent {
    pub steps: usize,
    pub features: usize,
    pub hidden: usize,
    pub classes: usize,
}

impl Recurrent {
    /// The whole file.
    pub fn file(&self) -> Vec<u8> {
        let &Recurrent {
            steps,
            features,
            hidden,
            classes,
        } = self;
        let mut graph = Graph::default();
        graph.weights("w", &[1, 4 * hidden, features], features);
        graph.weights("r", &[1, 4 * hidden, hidden], hidden);
        graph.weights("b", &[1, 8 * hidden], hidden);
        graph.integers("axes", &[0]);
        graph.weights("dense", &[hidden, classes], hidden);
        graph.weights("bias", &[classes], hidden);
        graph.node(
            "Transpose",
            &[INPUT],
            &["steps"],
            &[ints("perm", &[1, 0, 2])],
        );
        let lstm = [int("hidden_size", hidden as u64)];
        graph.node("LSTM", &["steps", "w", "r", "b"], &["all", "last"], &lstm);
        graph.node("Squeeze", &["last", "axes"], &["state"], &[]);
        graph.node("Gemm", &["state", "dense", "bias"], &[OUTPUT], &[]);
        graph.file(&[steps, features], classes)
    }
}

/// A small convolution network in the manner of MobileNet over square images of three channels. Its weights are small
/// and its activations are not, so that rows which are joined share nothing.
pub struct Convolutions {
    pub side: usize,
    /// The channels after each block, every other one of which halves the image.
    pub channels: &'static [usize],
    pub classes: usize,
}

impl Convolutions {
    /// The whole file.
    pub fn file(&self) -> Vec<u8> {
        let mut graph = Graph::default();
        let (mut from, mut last) = (3, INPUT.to_owned());
        for (at, &to) in self.channels.iter().enumerate() {
            let stride = 1 + (at as u64 + 1) % 2;
            let deep = graph.convolution(&last, (from, from), (3, stride));
            last = graph.convolution(&deep, (from, to), (1, 1));
            from = to;
        }
        graph.weights("dense", &[from, self.classes], from);
        graph.weights("bias", &[self.classes], from);
        graph.node("GlobalAveragePool", &[&last], &["pooled"], &[]);
        graph.node("Flatten", &["pooled"], &["flat"], &[]);
        graph.node("Gemm", &["flat", "dense", "bias"], &[OUTPUT], &[]);
        graph.file(&[3, self.side, self.side], self.classes)
    }
}

/// The parts of a graph so far.
#[derive(Default)]
struct Graph {
    nodes: Vec<u8>,
    initializers: Vec<u8>,
    count: usize,
    seed: u64,
}

impl Graph {
    fn node(&mut self, operator: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) {
        let mut node = Vec::new();
        inputs
            .iter()
            .for_each(|input| bytes(&mut node, 1, input.as_bytes()));
        outputs
            .iter()
            .for_each(|output| bytes(&mut node, 2, output.as_bytes()));
        bytes(&mut node, 4, operator.as_bytes());
        attributes
            .iter()
            .for_each(|attribute| bytes(&mut node, 5, attribute));
        bytes(&mut self.nodes, 1, &node);
    }

    /// A convolution and its Relu, between so many channels, with a kernel and a stride of this; one between equal
    /// channels goes channel by channel. Returns its output's name.
    fn convolution(
        &mut self,
        input: &str,
        (from, to): (usize, usize),
        (kernel, stride): (u64, u64),
    ) -> String {
        self.count += 1;
        let name = |part: &str| format!("{part}{}", self.count);
        let (weights, bias, raw, output) = (name("w"), name("b"), name("c"), name("r"));
        let groups = if kernel > 1 { from } else { 1 };
        let size = kernel as usize;
        let inner = from / groups * size * size;
        self.weights(&weights, &[to, from / groups, size, size], inner);
        self.weights(&bias, &[to], inner);
        let attributes = [
            ints("kernel_shape", &[kernel; 2]),
            ints("strides", &[stride; 2]),
            ints("pads", &[kernel / 2; 4]),
            int("group", groups as u64),
        ];
        self.node("Conv", &[input, &weights, &bias], &[&raw], &attributes);
        self.node("Relu", &[&raw], &[&output], &[]);
        output
    }

    /// Pseudo-random weights, as large as keeps the activations of a layer that sums `inner` products about one.
    fn weights(&mut self, name: &str, shape: &[usize], inner: usize) {
        let scale = (3.0 / inner as f32).sqrt();
        let mut raw = Vec::new();
        for _ in 0..shape.iter().product() {
            self.seed = self
                .seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let unit = (self.seed >> 40) as f32 / (1 << 23) as f32 - 1.0;
            raw.extend((unit * scale).to_le_bytes());
        }
        self.initializer(name, shape, (FLOAT, &raw));
    }

    fn integers(&mut self, name: &str, values: &[i64]) {
        let raw: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.initializer(name, &[values.len()], (INT64, &raw));
    }

    fn initializer(&mut self, name: &str, shape: &[usize], (data_type, raw): (u64, &[u8])) {
        let mut tensor = Vec::new();
        shape
            .iter()
            .for_each(|length| number(&mut tensor, 1, *length as u64));
        number(&mut tensor, 2, data_type);
        bytes(&mut tensor, 8, name.as_bytes());
        bytes(&mut tensor, 9, raw);
        bytes(&mut self.initializers, 5, &tensor);
    }

    /// The whole file, for rows of this shape and answers of so many numbers a row.
    fn file(self, row: &[usize], classes: usize) -> Vec<u8> {
        let mut graph = self.nodes;
        bytes(&mut graph, 2, b"bench");
        graph.extend(self.initializers);
        bytes(&mut graph, 11, &value_info(INPUT, row));
        bytes(&mut graph, 12, &value_info(OUTPUT, &[classes]));
        let mut opset = Vec::new();
        bytes(&mut opset, 1, b"");
        number(&mut opset, 2, 17);
        let mut model = Vec::new();
        number(&mut model, 1, 8);
        bytes(&mut model, 8, &opset);
        bytes(&mut model, 7, &graph);
        model
    }
}

const FLOAT: u64 = 1;
const INT64: u64 = 7;

/// A tensor of any number of rows.
fn value_info(name: &str, row: &[usize]) -> Vec<u8> {
    let mut shape = Vec::new();
    let mut rows = Vec::new();
    bytes(&mut rows, 2, b"rows");
    bytes(&mut shape, 1, &rows);
    for length in row {
        let mut dim = Vec::new();
        number(&mut dim, 1, *length as u64);
        bytes(&mut shape, 1, &dim);
    }
    let (mut tensor, mut kind, mut info) = (Vec::new(), Vec::new(), Vec::new());
    number(&mut tensor, 1, FLOAT);
    bytes(&mut tensor, 2, &shape);
    bytes(&mut kind, 1, &tensor);
    bytes(&mut info, 1, name.as_bytes());
    bytes(&mut info, 2, &kind);
    info
}

fn int(name: &str, value: u64) -> Vec<u8> {
    attribute(name, 3, &[value], 2)
}

fn ints(name: &str, values: &[u64]) -> Vec<u8> {
    attribute(name, 8, values, 7)
}

fn attribute(name: &str, field: u64, values: &[u64], kind: u64) -> Vec<u8> {
    let mut attribute = Vec::new();
    bytes(&mut attribute, 1, name.as_bytes());
    values
        .iter()
        .for_each(|value| number(&mut attribute, field, *value));
    number(&mut attribute, 20, kind);
    attribute
}

fn bytes(message: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(message, field << 3 | 2);
    varint(message, value.len() as u64);
    message.extend_from_slice(value);
}

fn number(message: &mut Vec<u8>, field: u64, value: u64) {
    varint(message, field << 3);
    varint(message, value);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
