//! RoiAlign: regions of an image, each pooled to one size from points between its elements.

use tract_ndarray::{Array4, ArrayView2, ArrayView4, Axis, Ix2, Ix4};
use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};
use super::deferred;
use super::pick::elements;

/// Registers the operator.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("RoiAlign", |context, node| {
        Ok((Host::node(RoiAlign::read(context, node)?), vec![]))
    });
}

/// A side of an output, or the points a side; more would be no picture.
const MOST: i64 = 1 << 12;

#[derive(Debug)]
struct RoiAlign {
    largest: bool,
    /// Whether coordinates are of the elements' centres.
    half_pixel: bool,
    height: usize,
    width: usize,
    /// The points along each side of a cell; 0 for as many as the region's size asks for.
    points: usize,
    scale: f32,
}

/// A region in the image's coordinates.
struct Region {
    top: f32,
    left: f32,
    /// The height and width of a cell of the output.
    cell: (f32, f32),
    /// The points of a cell.
    points: (usize, usize),
}

impl RoiAlign {
    fn read(context: &ParsingContext, node: &NodeProto) -> TractResult<RoiAlign> {
        let size = |name: &str, default: i64| {
            let value = node.get_attr_opt::<i64>(name)?.unwrap_or(default);
            ensure!((0..MOST).contains(&value), "attribute {name} holds {value}");
            Ok(value as usize)
        };
        let mode: Option<&str> = node.get_attr_opt("coordinate_transformation_mode")?;
        // The attribute came with operator set 16, and with it another default.
        let half_pixel = match mode {
            Some(mode) => mode == "half_pixel",
            None => context.onnx_operator_set_version >= 16,
        };
        Ok(RoiAlign {
            largest: node.get_attr_opt("mode")? == Some("max"),
            half_pixel,
            height: size("output_height", 1)?,
            width: size("output_width", 1)?,
            points: size("sampling_ratio", 0)?,
            scale: node.get_attr_opt("spatial_scale")?.unwrap_or(1.0),
        })
    }

    fn region(&self, corners: &[f32; 4], (rows, columns): (usize, usize)) -> Region {
        let shift = if self.half_pixel { 0.5 } else { 0.0 };
        let [left, top, right, bottom] = corners.map(|corner| corner * self.scale - shift);
        let (mut height, mut width) = (bottom - top, right - left);
        if !self.half_pixel {
            (height, width) = (height.max(1.0), width.max(1.0));
        }
        let cell = (height / self.height as f32, width / self.width as f32);
        let points = |cell: f32, length: usize| match self.points {
            // No more than the image has elements to tell apart.
            0 => (cell.ceil().max(0.0) as usize).min(2 * length + 2),
            points => points,
        };
        Region {
            top,
            left,
            cell,
            points: (points(cell.0, rows), points(cell.1, columns)),
        }
    }

    fn pool(&self, plane: ArrayView2<f32>, region: &Region, row: usize, column: usize) -> f32 {
        let point = |start: f32, cell: f32, at: usize, step: usize, steps: usize| {
            // In ONNX Runtime's order, so that what lies on an edge is rounded to the same side.
            start + at as f32 * cell + (step as f32 + 0.5) * cell / steps as f32
        };
        let (rows, columns) = region.points;
        let (mut sum, mut largest) = (0.0, f32::NEG_INFINITY);
        for down in 0..rows {
            let y = point(region.top, region.cell.0, row, down, rows);
            for across in 0..columns {
                let x = point(region.left, region.cell.1, column, across, columns);
                let parts = between(plane, y, x);
                sum += parts.iter().sum::<f32>();
                // As in ONNX Runtime: the largest of the weighted neighbours, not of their sums.
                largest = parts.iter().copied().fold(largest, f32::max);
            }
        }
        match (self.largest, rows * columns) {
            (_, 0) => 0.0,
            (true, _) => largest,
            (false, count) => sum / count as f32,
        }
    }
}

/// The four neighbours of a point, weighted; zeros for a point that is not in the image.
fn between(plane: ArrayView2<f32>, y: f32, x: f32) -> [f32; 4] {
    let along = |at: f32, length: usize| {
        let inside = at >= -1.0 && at <= length as f32;
        let at = at.max(0.0).min((length - 1) as f32);
        let low = at as usize;
        inside.then(|| (low, (low + 1).min(length - 1), at - low as f32))
    };
    let (rows, columns) = plane.dim();
    if rows == 0 || columns == 0 {
        return [0.0; 4];
    }
    let (Some((top, bottom, down)), Some((left, right, across))) =
        (along(y, rows), along(x, columns))
    else {
        return [0.0; 4];
    };
    [
        plane[[top, left]] * (1.0 - down) * (1.0 - across),
        plane[[top, right]] * (1.0 - down) * across,
        plane[[bottom, left]] * down * (1.0 - across),
        plane[[bottom, right]] * down * across,
    ]
}

impl Operator for RoiAlign {
    fn name(&self) -> &'static str {
        "RoiAlign"
    }

    fn least_inputs(&self) -> usize {
        3
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let ((dtype, image), (_, regions)) = (&inputs[0], &inputs[1]);
        ensure!(
            dtype.is_float() && image.len() == 4 && regions.len() == 2,
            "X must be floats of four dimensions, and rois of two"
        );
        let sides = [self.height.to_dim(), self.width.to_dim()];
        let outer = [regions[0].clone(), image[1].clone()];
        Ok(vec![(*dtype, outer.into_iter().chain(sides).collect())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let images = inputs[0].cast_to::<f32>()?;
        let images: ArrayView4<f32> = images
            .to_plain_array_view::<f32>()?
            .into_dimensionality::<Ix4>()?;
        let regions = inputs[1].cast_to::<f32>()?;
        let regions = regions
            .to_plain_array_view::<f32>()?
            .into_dimensionality::<Ix2>()?;
        let of_images = deferred::integers(&inputs[2])?;
        let (count, channels, rows, columns) = images.dim();
        ensure!(
            regions.ncols() == 4 && of_images.len() == regions.nrows(),
            "rois must have four columns, and batch_indices an entry for each of its rows"
        );
        let shape = [regions.nrows(), channels, self.height, self.width];
        elements(&shape)?;
        let mut output = Array4::<f32>::zeros(shape);
        for (index, corners) in regions.outer_iter().enumerate() {
            let image = usize::try_from(of_images[index])
                .ok()
                .filter(|image| *image < count);
            let image = image.with_context(|| {
                format!("batch_indices holds {} of {count} images", of_images[index])
            })?;
            let corners = [corners[0], corners[1], corners[2], corners[3]];
            let region = self.region(&corners, (rows, columns));
            for channel in 0..channels {
                let plane = images.index_axis(Axis(0), image);
                let plane = plane.index_axis(Axis(0), channel);
                for row in 0..self.height {
                    for column in 0..self.width {
                        output[[index, channel, row, column]] =
                            self.pool(plane, &region, row, column);
                    }
                }
            }
        }
        let output = output
            .into_tensor()
            .cast_to_dt(inputs[0].datum_type())?
            .into_owned();
        Ok(tvec![output.into_tvalue()])
    }
}
