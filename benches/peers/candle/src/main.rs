//! ResNet-20's training step and forward pass in candle, on the CPU. Prints one JSON line.

#[path = "../../values.rs"]
mod values;

use candle_core::backprop::GradStore;
use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::{BatchNorm, ModuleT, loss};
use values::{Arguments, BLOCKS, CLASSES, SIDE};

struct Block {
    conv1: Var,
    bn1: BatchNorm,
    conv2: Var,
    bn2: BatchNorm,
    stride: usize,
    pad: usize,
}

/// The network, its variables in order and their momenta.
struct ResNet20 {
    conv1: Var,
    bn1: BatchNorm,
    blocks: Vec<Block>,
    fc: Var,
    bias: Var,
    vars: Vec<Var>,
    momenta: Vec<Option<Tensor>>,
}

impl ResNet20 {
    fn new(device: &Device) -> Result<Self> {
        let mut vars = Vec::new();
        let mut at = 0;
        let mut var = |values: Vec<f32>, shape: &[usize]| -> Result<Var> {
            let var = Var::from_vec(values, shape, device)?;
            vars.push(var.clone());
            Ok(var)
        };
        let mut conv = |var: &mut dyn FnMut(Vec<f32>, &[usize]) -> Result<Var>, cin, cout| {
            at += 1;
            var(values::convolution(at, cin, cout), &[cout, cin, 3, 3])
        };
        let norm = |var: &mut dyn FnMut(Vec<f32>, &[usize]) -> Result<Var>, c: usize| {
            let (weight, bias) = (var(vec![1.0; c], &[c])?, var(vec![0.0; c], &[c])?);
            let (mean, variance) =
                (Tensor::zeros(c, candle_core::DType::F32, device)?, Tensor::ones(c, candle_core::DType::F32, device)?);
            BatchNorm::new(c, mean, variance, weight.as_tensor().clone(), bias.as_tensor().clone(), 1e-5)
        };
        let (conv1, bn1) = (conv(&mut var, 3, 16)?, norm(&mut var, 16)?);
        let mut blocks = Vec::new();
        for (cin, cout, stride) in BLOCKS {
            let (conv1, bn1) = (conv(&mut var, cin, cout)?, norm(&mut var, cout)?);
            let (conv2, bn2) = (conv(&mut var, cout, cout)?, norm(&mut var, cout)?);
            blocks.push(Block { conv1, bn1, conv2, bn2, stride, pad: (cout - cin) / 2 });
        }
        let (fc, bias) = (var(values::classifier(), &[CLASSES, 64])?, var(vec![0.0; CLASSES], &[CLASSES])?);
        let momenta = vec![None; vars.len()];
        Ok(Self { conv1, bn1, blocks, fc, bias, vars, momenta })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = self.bn1.forward_t(&x.conv2d(&self.conv1, 1, 1, 1, 1)?, train)?.relu()?;
        for block in &self.blocks {
            let y = block.bn1.forward_t(&x.conv2d(&block.conv1, 1, block.stride, 1, 1)?, train)?.relu()?;
            let y = block.bn2.forward_t(&y.conv2d(&block.conv2, 1, 1, 1, 1)?, train)?;
            if block.stride == 2 {
                // Every second pixel: there are no strided slices, so split the axes in two.
                let (n, c, h, w) = x.dims4()?;
                x = x.reshape((n, c, h / 2, 2, w / 2, 2))?.narrow(5, 0, 1)?.narrow(3, 0, 1)?;
                x = x.reshape((n, c, h / 2, w / 2))?.pad_with_zeros(1, block.pad, block.pad)?;
            }
            x = (y + x)?.relu()?;
        }
        x.mean((2, 3))?.matmul(&self.fc.t()?)?.broadcast_add(&self.bias)
    }

    /// SGD as PyTorch has it; candle's own has no momentum.
    fn update(&mut self, grads: &GradStore) -> Result<()> {
        for (var, momentum) in self.vars.iter().zip(&mut self.momenta) {
            let Some(grad) = grads.get(var) else {
                candle_core::bail!("no gradient for a variable of shape {:?}", var.shape())
            };
            let grad = (grad + (var.as_detached_tensor() * 1e-4)?)?;
            let next = match momentum.take() {
                Some(old) => ((old * 0.9)? + grad)?,
                None => grad,
            };
            var.set(&(var.as_detached_tensor() - (&next * 0.1)?)?)?;
            *momentum = Some(next);
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let args = Arguments::parse();
    let device = Device::Cpu;
    let mut model = ResNet20::new(&device)?;
    let x = Tensor::from_vec(values::images(args.batch), (args.batch, 3, SIDE, SIDE), &device)?;
    let y = Tensor::from_vec(values::labels(args.batch), args.batch, &device)?;
    let step = |model: &mut ResNet20| -> Result<f32> {
        let loss = loss::cross_entropy(&model.forward(&x, true)?, &y)?;
        let grads = loss.backward()?;
        model.update(&grads)?;
        loss.to_scalar()
    };
    let forward =
        |model: &mut ResNet20| -> Result<f32> { model.forward(&x, false)?.max(D::Minus1)?.max(0)?.to_scalar() };
    let measured = values::measure(
        &args,
        &mut model,
        |model| step(model).expect("training step"),
        |model| {
            forward(model).expect("forward pass");
        },
    );
    let device = format!("{} threads", candle_core::utils::get_num_threads());
    measured.print("candle", "0.11.1", "cpu", &device, "SGD with momentum written with its tensor operators");
    Ok(())
}
