//! ResNet-20's training step and forward pass in burn. `--backend flex`, `ndarray` or `vulkan`. Prints one JSON line.

#[path = "../../values.rs"]
mod values;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig, decay::WeightDecayConfig, momentum::MomentumConfig};
use burn::tensor::activation::relu;
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, DeviceKind, Int, Tensor, TensorData, s};
use values::{Arguments, BLOCKS, CLASSES, SIDE};

#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    stride: usize,
    pad: usize,
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        let y = self.bn2.forward(self.conv2.forward(y));
        let shortcut = if self.stride == 2 {
            // Every second pixel, the channels centred among zeros.
            let pads = [(0, 0), (self.pad, self.pad), (0, 0), (0, 0)];
            x.slice(s![.., .., ..;2, ..;2]).pad(pads, PadMode::Constant(0.0))
        } else {
            x
        };
        relu(y + shortcut)
    }
}

#[derive(Module, Debug)]
struct ResNet20 {
    conv1: Conv2d,
    bn1: BatchNorm,
    blocks: Vec<Block>,
    fc: Linear,
}

impl ResNet20 {
    fn new(device: &Device) -> Self {
        let mut at = 0;
        let mut conv = |cin: usize, cout: usize, stride: usize| {
            at += 1;
            let config = Conv2dConfig::new([cin, cout], [3, 3]).with_stride([stride, stride]).with_bias(false);
            let mut layer = config.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device);
            let weight = TensorData::new(values::convolution(at, cin, cout), [cout, cin, 3, 3]);
            layer.weight = Param::from_data(weight, device);
            layer
        };
        let norm = |channels| BatchNormConfig::new(channels).init(device);
        let conv1 = conv(3, 16, 1);
        let block = |(cin, cout, stride): (usize, usize, usize)| Block {
            conv1: conv(cin, cout, stride),
            bn1: norm(cout),
            conv2: conv(cout, cout, 1),
            bn2: norm(cout),
            stride,
            pad: (cout - cin) / 2,
        };
        let blocks = BLOCKS.map(block).into();
        let mut fc = LinearConfig::new(64, CLASSES).init(device);
        let weight = values::classifier();
        let transposed: Vec<f32> = (0..64 * CLASSES).map(|i| weight[i % CLASSES * 64 + i / CLASSES]).collect();
        fc.weight = Param::from_data(TensorData::new(transposed, [64, CLASSES]), device);
        fc.bias = Some(Param::from_tensor(Tensor::zeros([CLASSES], device)));
        Self { conv1, bn1: norm(16), blocks, fc }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.bn1.forward(self.conv1.forward(x)));
        for block in &self.blocks {
            x = block.forward(x);
        }
        self.fc.forward(x.mean_dims(&[2, 3]).flatten(1, 3))
    }
}

/// The network in training, its optimizer and its batch. The step hands the network back, so it is an option.
struct Subject {
    model: Option<ResNet20>,
    optimizer: ModuleOptimizer,
    x: Tensor<4>,
    y: Tensor<1, Int>,
}

impl Subject {
    fn step(&mut self, device: &Device) -> f32 {
        let model = self.model.take().expect("every step puts it back");
        let loss = CrossEntropyLossConfig::new().init(device).forward(model.forward(self.x.clone()), self.y.clone());
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        self.model = Some(self.optimizer.step(0.1, model, grads));
        let loss = loss.into_scalar::<f32>();
        device.sync().expect("the device finishes the step");
        loss
    }

    fn forward(&self) {
        let model = self.model.as_ref().expect("every step puts it back").valid();
        let logits = model.forward(self.x.clone().inner());
        logits.max().into_scalar::<f32>();
    }
}

#[allow(deprecated)] // ndarray still is the older of burn's two CPU backends.
fn main() {
    let args = Arguments::parse();
    let device = match args.backend.as_str() {
        "flex" => Device::flex(),
        "ndarray" => Device::ndarray(),
        "vulkan" => Device::vulkan(DeviceKind::DefaultDevice),
        other => panic!("--backend flex, ndarray or vulkan, not {other:?}"),
    };
    let name = format!("{device:?}");
    let device = device.autodiff();
    let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: false };
    let optimizer = SgdConfig::new()
        .with_weight_decay(Some(WeightDecayConfig { penalty: 1e-4 }))
        .with_momentum(Some(momentum))
        .init();
    let labels: Vec<i64> = values::labels(args.batch).into_iter().map(i64::from).collect();
    let mut subject = Subject {
        model: Some(ResNet20::new(&device)),
        optimizer,
        x: Tensor::from_data(TensorData::new(values::images(args.batch), [args.batch, 3, SIDE, SIDE]), &device),
        y: Tensor::from_data(TensorData::new(labels, [args.batch]), &device),
    };
    let measured = values::measure(&args, &mut subject, |s| s.step(&device), |s| s.forward());
    measured.print("burn", "0.22.1", &args.backend, &name, "");
}
