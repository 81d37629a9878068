//! ResNets: CIFAR's ResNet-(6n+2) and torchvision's ResNet-18, 34 and 50, with PyTorch's layer names.

use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Shape};
use crate::methods::MethodSpec;

/// How a block's input reaches its end where its shape changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Shortcut {
    /// Every second pixel and zero channels around: no parameters.
    #[default]
    Pad,
    /// A 1x1 convolution of the method and a batch norm.
    Conv,
}

impl Shortcut {
    /// As on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pad => "pad",
            Self::Conv => "conv",
        }
    }
}

/// What the stem and the classifier are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FirstLast {
    /// fp32.
    #[default]
    Fp32,
    /// The method, as all between them. No batch norm follows the classifier: its W is multiplied by 2^-3, its bias stays fp32.
    Shift,
}

impl FirstLast {
    /// As on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Shift => "shift",
        }
    }
    /// Whether it is fp32, which files and configurations leave out.
    pub fn is_fp32(&self) -> bool {
        *self == Self::Fp32
    }
}

/// A network's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arch {
    /// Name on the command line and in files.
    pub name: &'static str,
    /// Blocks in each stage; four stages for ImageNet's.
    stages: &'static [u32],
    /// Bottleneck blocks: 1x1, 3x3 with the stride, 1x1 to four times the channels.
    bottleneck: bool,
}

const fn arch(name: &'static str, stages: &'static [u32], bottleneck: bool) -> Arch {
    Arch { name, stages, bottleneck }
}

/// Every network.
pub const ARCHS: &[Arch] = &[
    arch("resnet8", &[1, 1, 1], false),
    arch("resnet14", &[2, 2, 2], false),
    arch("resnet20", &[3, 3, 3], false),
    arch("resnet32", &[5, 5, 5], false),
    arch("resnet44", &[7, 7, 7], false),
    arch("resnet56", &[9, 9, 9], false),
    arch("resnet110", &[18, 18, 18], false),
    arch("resnet18", &[2, 2, 2, 2], false),
    arch("resnet34", &[3, 4, 6, 3], false),
    arch("resnet50", &[3, 4, 6, 3], true),
];

/// What varies between networks of one form.
#[derive(Clone, Copy, Debug)]
pub struct ModelOptions {
    /// Shape of the images.
    pub input: Shape,
    /// Classes.
    pub classes: u32,
    /// Method of all convolutions but the stem.
    pub method: MethodSpec,
    /// Whether it is the stem's and the classifier's too.
    pub first_last: FirstLast,
    /// Shortcut of CIFAR's networks; ImageNet's always take a convolution.
    pub shortcut: Shortcut,
    /// Factor on all channel counts.
    pub width: u32,
}

impl Arch {
    /// A network by name.
    ///
    /// # Errors
    /// [`Error::Usage`] with the known names.
    pub fn find(name: &str) -> Result<Self> {
        ARCHS.iter().find(|a| a.name == name).copied().ok_or_else(|| {
            let known = ARCHS.iter().map(|a| a.name).collect::<Vec<_>>().join(", ");
            Error::usage(format!("unknown model `{name}`"), format!("known models: {known}"))
        })
    }

    /// Whether it is one of ImageNet's: a 7x7 stem, a max pool and four stages.
    pub fn is_imagenet(&self) -> bool {
        self.stages.len() == 4
    }

    /// The shortcut that it really takes.
    pub fn shortcut(&self, wanted: Shortcut) -> Shortcut {
        if self.is_imagenet() { Shortcut::Conv } else { wanted }
    }

    /// Builds the graph.
    ///
    /// # Errors
    /// [`Error::Shape`] where images are too small or channels do not suit the shortcut.
    pub fn build(&self, o: &ModelOptions) -> Result<Graph> {
        let mut g = Graph::new(o.input);
        let stem = if self.is_imagenet() { [7, 2, 3] } else { [3, 1, 1] };
        let base = o.width * if self.is_imagenet() { 64 } else { 16 };
        let outer = if o.first_last == FirstLast::Shift { o.method } else { MethodSpec::FP32 };
        let mut x = g.conv("conv1", 0, base, stem, outer)?;
        x = g.batch_norm("bn1", x)?;
        x = g.relu("relu", x);
        if self.is_imagenet() {
            x = g.max_pool("maxpool", x, [3, 2, 1])?;
        }
        for (stage, blocks) in self.stages.iter().enumerate() {
            for block in 0..*blocks {
                let name = format!("layer{}.{block}", stage + 1);
                let stride = if block == 0 && stage > 0 { 2 } else { 1 };
                x = self.block(&mut g, &name, x, base << stage, stride, o)?;
            }
        }
        let pooled = g.global_avg_pool("avgpool", x);
        match o.first_last {
            FirstLast::Fp32 => g.linear("fc", pooled, o.classes)?,
            FirstLast::Shift => g.linear_of("fc", pooled, o.classes, o.method)?,
        };
        Ok(g)
    }

    fn block(&self, g: &mut Graph, name: &str, x: NodeId, width: u32, stride: u32, o: &ModelOptions) -> Result<NodeId> {
        let cout = if self.bottleneck { 4 * width } else { width };
        let convs = match self.bottleneck {
            false => vec![(width, [3, stride, 1]), (width, [3, 1, 1])],
            true => vec![(width, [1, 1, 0]), (width, [3, stride, 1]), (cout, [1, 1, 0])],
        };
        let mut y = x;
        for (i, (channels, conv)) in convs.iter().enumerate() {
            y = g.conv(&format!("{name}.conv{}", i + 1), y, *channels, *conv, o.method)?;
            y = g.batch_norm(&format!("{name}.bn{}", i + 1), y)?;
            if i + 1 < convs.len() {
                y = g.relu(&format!("{name}.relu{}", i + 1), y);
            }
        }
        let mut short = x;
        if stride != 1 || g.shape(x).c != cout {
            short = match self.shortcut(o.shortcut) {
                Shortcut::Pad => g.pad_shortcut(&format!("{name}.shortcut"), x, cout, stride)?,
                Shortcut::Conv => {
                    let s = g.conv(&format!("{name}.downsample.0"), x, cout, [1, stride, 0], o.method)?;
                    g.batch_norm(&format!("{name}.downsample.1"), s)?
                }
            };
        }
        let sum = g.add(&format!("{name}.add"), y, short)?;
        Ok(g.relu(&format!("{name}.relu"), sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::LayerKind;

    fn parameters(name: &str, size: u32, classes: u32, shortcut: Shortcut) -> usize {
        let [plain, shift] = [FirstLast::Fp32, FirstLast::Shift].map(|f| count(name, size, classes, shortcut, f));
        assert_eq!(plain, shift, "{name}: stem and classifier have as many weights in either form");
        plain
    }

    fn count(name: &str, size: u32, classes: u32, shortcut: Shortcut, first_last: FirstLast) -> usize {
        let o = ModelOptions {
            input: Shape { h: size, w: size, c: 3 },
            classes,
            method: MethodSpec::FP32,
            first_last,
            shortcut,
            width: 1,
        };
        let g = Arch::find(name).unwrap().build(&o).unwrap();
        let count = |k: &LayerKind| match k {
            LayerKind::Conv { shape, .. } => shape.count(),
            LayerKind::BatchNorm { channels } => 2 * *channels as usize,
            LayerKind::Linear { features, classes } => ((features + 1) * classes) as usize,
            LayerKind::Bias { classes, .. } => *classes as usize,
        };
        g.layers.iter().map(|l| count(&l.kind)).sum()
    }

    #[test]
    fn parameter_counts_are_the_published_ones() {
        assert_eq!(parameters("resnet20", 32, 10, Shortcut::Pad), 269_722);
        assert_eq!(parameters("resnet56", 32, 10, Shortcut::Pad), 853_018);
        assert_eq!(parameters("resnet110", 32, 10, Shortcut::Pad), 1_727_962);
        // torchvision's, at their own size.
        assert_eq!(parameters("resnet18", 224, 1000, Shortcut::Pad), 11_689_512);
        assert_eq!(parameters("resnet34", 224, 1000, Shortcut::Pad), 21_797_672);
        assert_eq!(parameters("resnet50", 224, 1000, Shortcut::Pad), 25_557_032);
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let text = Arch::find("resnet21").unwrap_err().to_string();
        assert!(text.contains("resnet21") && text.contains("resnet20"), "{text}");
    }
}
