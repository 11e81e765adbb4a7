//! The geometry of pooling: where a window's elements lie, along each spatial axis.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

/// What a node says about its windows.
#[derive(Debug, Clone)]
pub struct Window {
    pub kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    /// The beginnings of all axes, then the ends.
    pads: Vec<usize>,
    auto_pad: AutoPad,
    ceil: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum AutoPad {
    Explicit,
    SameUpper,
    SameLower,
    Valid,
}

/// The windows along one axis of a known length.
pub struct Line {
    /// How many windows there are.
    pub windows: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
    length: usize,
}

impl Window {
    /// Reads the attributes; fails unless they describe windows.
    pub fn read(node: &NodeProto) -> TractResult<Window> {
        let sizes = |name: &str| -> TractResult<Option<Vec<usize>>> {
            let values: Option<Vec<i64>> = node.get_attr_opt_vec(name)?;
            let size = |value: i64| {
                let size = usize::try_from(value).ok().filter(|size| *size <= 1 << 24);
                size.with_context(|| format!("attribute {name} holds {value}"))
            };
            values
                .map(|values| values.into_iter().map(size).collect())
                .transpose()
        };
        let kernel = sizes("kernel_shape")?.context("attribute kernel_shape is missing")?;
        let rank = kernel.len();
        let strides = sizes("strides")?.unwrap_or_else(|| vec![1; rank]);
        let dilations = sizes("dilations")?.unwrap_or_else(|| vec![1; rank]);
        let pads = sizes("pads")?.unwrap_or_else(|| vec![0; 2 * rank]);
        let fits = strides.len() == rank && dilations.len() == rank && pads.len() == 2 * rank;
        ensure!(
            fits,
            "kernel_shape, strides, dilations and pads do not belong together"
        );
        let nonzero = kernel
            .iter()
            .chain(&strides)
            .chain(&dilations)
            .all(|size| *size > 0);
        ensure!(
            nonzero,
            "kernel_shape, strides and dilations must be positive"
        );
        let reaches = kernel.iter().zip(&dilations);
        let reaches = reaches.map(|(kernel, dilation)| (kernel - 1) * dilation + 1);
        ensure!(
            pads.iter()
                .zip(reaches.clone().chain(reaches))
                .all(|(pad, reach)| *pad < reach),
            "pads must be smaller than the windows"
        );
        let auto_pad = match node.get_attr_opt("auto_pad")?.unwrap_or("NOTSET") {
            "NOTSET" | "" => AutoPad::Explicit,
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            "VALID" => AutoPad::Valid,
            other => bail!("auto_pad '{other}' is not known"),
        };
        let window = Window {
            kernel,
            strides,
            dilations,
            pads,
            auto_pad,
            ceil: node.get_attr_opt::<i64>("ceil_mode")? == Some(1),
        };
        let is_same = [AutoPad::SameUpper, AutoPad::SameLower].contains(&auto_pad);
        ensure!(
            auto_pad == AutoPad::Explicit || !(window.ceil || is_same && window.is_dilated()),
            "auto_pad with ceil_mode or dilations means different things to different runtimes; export with explicit pads"
        );
        Ok(window)
    }

    /// Whether the windows are closed squares that end within the padded input.
    pub fn is_simple(&self) -> bool {
        !self.ceil && !self.is_dilated()
    }

    fn is_dilated(&self) -> bool {
        self.dilations.iter().any(|dilation| *dilation > 1)
    }

    /// The windows along every spatial axis of an input with these lengths.
    pub fn lines(&self, lengths: &[usize]) -> TractResult<Vec<Line>> {
        ensure!(
            lengths.len() == self.kernel.len(),
            "{} spatial dimensions are needed and the input has {}",
            self.kernel.len(),
            lengths.len()
        );
        let lengths = lengths.iter().enumerate();
        lengths
            .map(|(axis, length)| self.line(axis, *length))
            .collect()
    }

    fn line(&self, axis: usize, length: usize) -> TractResult<Line> {
        let (kernel, stride) = (self.kernel[axis], self.strides[axis]);
        let dilation = self.dilations[axis];
        let reach = (kernel - 1) * dilation + 1;
        let (mut before, mut after) = match self.auto_pad {
            AutoPad::Explicit => (self.pads[axis], self.pads[axis + self.kernel.len()]),
            _ => (0, 0),
        };
        let windows = match self.auto_pad {
            AutoPad::SameUpper | AutoPad::SameLower => {
                let windows = length.div_ceil(stride);
                let needed = windows.saturating_sub(1) * stride + reach;
                let missing = needed.saturating_sub(length);
                (before, after) = (missing / 2, missing - missing / 2);
                if self.auto_pad == AutoPad::SameLower {
                    (before, after) = (after, before);
                }
                windows
            }
            _ => {
                let room = (length + before + after).checked_sub(reach);
                let room = room.with_context(|| {
                    format!("a window of {reach} does not fit into {length} elements")
                })?;
                match self.ceil {
                    false => room / stride + 1,
                    // A window may not begin in the padding behind the input.
                    true => {
                        let windows = room.div_ceil(stride) + 1;
                        windows - usize::from((windows - 1) * stride >= length + before)
                    }
                }
            }
        };
        Ok(Line {
            windows,
            kernel,
            stride,
            dilation,
            before,
            after,
            length,
        })
    }
}

impl Line {
    /// The elements of the input in a window.
    pub fn elements(&self, window: usize) -> impl Iterator<Item = usize> + Clone {
        let (before, length) = (self.before, self.length);
        let places = self.places(window);
        places.filter_map(move |place| place.checked_sub(before).filter(|at| *at < length))
    }

    /// How many of a window's elements lie in the input or its padding.
    pub fn padded(&self, window: usize) -> usize {
        let end = self.before + self.length + self.after;
        self.places(window).filter(|place| *place < end).count()
    }

    /// Counted from the beginning of the padding.
    fn places(&self, window: usize) -> impl Iterator<Item = usize> + Clone {
        let (start, dilation) = (window * self.stride, self.dilation);
        (0..self.kernel).map(move |step| start + step * dilation)
    }
}
