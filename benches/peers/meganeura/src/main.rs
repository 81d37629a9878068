//! ResNet-20's training step and forward pass in meganeura, on Vulkan or Metal. Prints one JSON line.
//!
//! meganeura 0.3 has no batch norm over the batch, no strided slice, no padding of channels and no momentum in its SGD. Here the batch
//! norm is composed of its operators, so that its autodiff goes through the statistics; the shortcut is a fixed 1x1 convolution of
//! stride 2; the update is its plain SGD. The forward pass folds the batch norms into the convolutions, as its own networks do.

#[path = "../../values.rs"]
mod values;

use meganeura::graph::NodeId;
use meganeura::{Graph, Session, build_inference_session, build_session};
use values::{Arguments, BLOCKS, CLASSES, SIDE};

/// A network under construction, and the values that its parameters start from.
struct Network {
    graph: Graph,
    batch: usize,
    train: bool,
    convolutions: usize,
    parameters: Vec<(String, Vec<f32>)>,
}

/// A node with its channels and side.
#[derive(Clone, Copy)]
struct Image {
    node: NodeId,
    channels: usize,
    side: usize,
}

impl Network {
    fn new(batch: usize, train: bool) -> Self {
        let mut net = Self { graph: Graph::new(), batch, train, convolutions: 0, parameters: Vec::new() };
        let node = net.graph.input("image", &[batch * 3 * SIDE * SIDE]);
        let x = net.conv_norm(Image { node, channels: 3, side: SIDE }, 16, 1);
        let mut x = Image { node: net.graph.relu(x.node), ..x };
        for (_, channels, stride) in BLOCKS {
            x = net.block(x, channels, stride);
        }
        let pooled = net.graph.global_avg_pool(x.node, batch as u32, x.channels as u32, (x.side * x.side) as u32);
        let weight = values::classifier();
        let transposed = (0..64 * CLASSES).map(|i| weight[i % CLASSES * 64 + i / CLASSES]).collect();
        let weight = net.parameter("fc.weight".into(), &[64, CLASSES], transposed);
        let bias = net.parameter("fc.bias".into(), &[CLASSES], vec![0.0; CLASSES]);
        let logits = net.graph.matmul(pooled, weight);
        let mut output = net.graph.bias_add(logits, bias);
        if train {
            let labels = net.graph.input("labels", &[batch, CLASSES]);
            output = net.graph.cross_entropy_loss(output, labels);
        }
        net.graph.set_outputs(vec![output]);
        net
    }

    fn parameter(&mut self, name: String, shape: &[usize], values: Vec<f32>) -> NodeId {
        let node = self.graph.parameter(&name, shape);
        self.parameters.push((name, values));
        node
    }

    fn conv(&mut self, x: Image, kernel: NodeId, channels: usize, size: u32, stride: usize) -> Image {
        let (n, cin, side) = (self.batch as u32, x.channels as u32, x.side as u32);
        let node =
            self.graph.conv2d(x.node, kernel, n, cin, side, side, channels as u32, size, size, stride as u32, size / 2);
        Image { node, channels, side: x.side / stride }
    }

    fn conv_norm(&mut self, x: Image, channels: usize, stride: usize) -> Image {
        self.convolutions += 1;
        let (at, cin) = (self.convolutions, x.channels);
        let kernel =
            self.parameter(format!("conv{at}.weight"), &[channels * cin * 9], values::convolution(at, cin, channels));
        let y = self.conv(x, kernel, channels, 3, stride);
        if self.train {
            return self.batch_norm(y, at);
        }
        let bias = self.parameter(format!("conv{at}.folded"), &[channels], vec![0.0; channels]);
        Image { node: self.graph.add_per_channel(y.node, bias, channels as u32, (y.side * y.side) as u32), ..y }
    }

    /// Mean over batch and pixels: \[batch · channels, pixels\] to \[1, channels\].
    fn mean(&mut self, planes: NodeId, channels: usize, pixels: usize) -> NodeId {
        let sums = self.graph.sum_inner(planes);
        let sums = self.graph.reshape(sums, &[self.batch, channels]);
        let share = self.graph.constant(vec![1.0 / (self.batch * pixels) as f32; self.batch], &[1, self.batch]);
        self.graph.matmul(share, sums)
    }

    fn batch_norm(&mut self, x: Image, at: usize) -> Image {
        let (channels, pixels) = (x.channels, x.side * x.side);
        let planes = [self.batch * channels, pixels];
        let gamma = self.parameter(format!("bn{at}.weight"), &[1, channels], vec![1.0; channels]);
        let beta = self.parameter(format!("bn{at}.bias"), &[channels], vec![0.0; channels]);

        let as_planes = self.graph.reshape(x.node, &planes);
        let mean = self.mean(as_planes, channels, pixels);
        let minus = self.graph.neg(mean);
        let minus = self.graph.reshape(minus, &[channels]);
        let centred = self.graph.add_per_channel(x.node, minus, channels as u32, pixels as u32);
        let centred = self.graph.reshape(centred, &planes);
        let squares = self.graph.mul(centred, centred);
        let variance = self.mean(squares, channels, pixels);

        // 1 / sqrt(v + eps) = exp(-log(v + eps) / 2)
        let epsilon = self.graph.constant(vec![1e-5; channels], &[1, channels]);
        let half = self.graph.constant(vec![-0.5; channels], &[1, channels]);
        let shifted = self.graph.add(variance, epsilon);
        let log = self.graph.log(shifted);
        let log = self.graph.mul(log, half);
        let inverse = self.graph.exp(log);
        let scale = self.graph.mul(gamma, inverse);

        // One scale a channel, spread over the batch and then over the pixels.
        let ones = self.graph.constant(vec![1.0; self.batch], &[self.batch, 1]);
        let scale = self.graph.matmul(ones, scale);
        let scale = self.graph.reshape(scale, &[self.batch * channels, 1]);
        let scale = self.graph.broadcast_inner(scale, pixels);
        let scaled = self.graph.mul(centred, scale);
        let scaled = self.graph.reshape(scaled, &[self.batch * channels * pixels]);
        Image { node: self.graph.add_per_channel(scaled, beta, channels as u32, pixels as u32), ..x }
    }

    fn block(&mut self, x: Image, channels: usize, stride: usize) -> Image {
        let y = self.conv_norm(x, channels, stride);
        let y = Image { node: self.graph.relu(y.node), ..y };
        let y = self.conv_norm(y, channels, 1);
        let shortcut = if stride == 1 {
            x
        } else {
            let pad = (channels - x.channels) / 2;
            let pick: Vec<f32> = (0..channels * x.channels)
                .map(|i| if i / x.channels == i % x.channels + pad { 1.0 } else { 0.0 })
                .collect();
            let kernel = self.graph.constant(pick, &[channels * x.channels]);
            self.conv(x, kernel, channels, 1, stride)
        };
        let sum = self.graph.add(y.node, shortcut.node);
        Image { node: self.graph.relu(sum), ..y }
    }

    fn fill(&self, session: &mut Session) {
        for (name, values) in &self.parameters {
            session.set_parameter(name, values);
        }
        session.set_input("image", &values::images(self.batch));
        if self.train {
            let hot: Vec<f32> = values::labels(self.batch)
                .iter()
                .flat_map(|label| (0..CLASSES).map(move |c| if c == *label as usize { 1.0 } else { 0.0 }))
                .collect();
            session.set_input("labels", &hot);
        }
    }
}

fn main() {
    let args = Arguments::parse();
    let training = Network::new(args.batch, true);
    let mut trainer = build_session(&training.graph);
    training.fill(&mut trainer);
    // The first step of a session gives ln(10), the loss of zero weights: what was set arrives after it. So it must not update.
    trainer.set_learning_rate(0.0);
    let inference = Network::new(args.batch, false);
    let mut forward = build_inference_session(&inference.graph);
    inference.fill(&mut forward);

    let device = trainer.device_information().device_name.clone();
    let measured = values::measure(
        &args,
        &mut (trainer, forward),
        |(trainer, _)| {
            trainer.step();
            trainer.wait();
            trainer.set_learning_rate(0.1);
            trainer.read_loss()
        },
        |(_, forward)| {
            forward.step();
            forward.wait();
        },
    );
    measured.print(
        "meganeura",
        "0.3.0",
        "vulkan or metal",
        &device,
        "plain SGD; batch norm composed of its operators; forward pass with folded batch norms; its first step runs before the weights arrive, so that its losses come one step late",
    );
}
