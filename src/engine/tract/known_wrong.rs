//! What tract is known to answer wrongly, so that it is refused and never served.
//!
//! Each was seen against ONNX Runtime or the tests of ONNX. `tests/data/known_wrong` has a model of each.

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::ops::builtin::{Built, builtin, builtin_expansion};
use super::ops::present::Present;

/// Registers the checks before tract's operators.
pub fn register(onnx: &mut Onnx) {
    let register = &mut onnx.op_register;
    register.insert("Attention", attention);
    register.insert("Dropout", dropout);
    register.insert("GridSample", grid_sample);
    register.insert("Resize", resize);
    register.insert("SpaceToDepth", space_to_depth);
}

fn attention(context: &ParsingContext, node: &NodeProto) -> Built {
    const MASK: usize = 3;
    const PAST_KEY: usize = 4;
    for window in ["left_window_size", "right_window_size"] {
        let size = node.get_attr_opt::<i64>(window)?;
        ensure!(
            size.is_none_or(|size| size < 0),
            "{window} is not supported; export the layer as single operators"
        );
    }
    let is_causal = node.get_attr_opt::<i64>("is_causal")? == Some(1);
    ensure!(
        !is_causal || Present::of(&node.input).get(PAST_KEY).is_none(),
        "is_causal with past keys is not supported; export the layer as single operators"
    );
    let Some(mask) = Present::of(&node.input).get(MASK) else {
        return builtin(context, node);
    };
    let (tracts, closures) = builtin_expansion(context, node)?;
    Ok((expand(MaskedAttention { tracts, mask }), closures))
}

/// tract's Attention, unless its mask is of booleans: rows that are masked altogether come out wrong.
#[derive(Debug, Clone)]
struct MaskedAttention {
    tracts: Box<dyn Expansion>,
    mask: usize,
}

impl Expansion for MaskedAttention {
    fn name(&self) -> StaticName {
        self.tracts.as_ref().name()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.tracts.as_ref().nboutputs()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.tracts.as_ref().rules(solver, inputs, outputs)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        ensure!(
            model.outlet_fact(inputs[self.mask])?.datum_type != bool::datum_type(),
            "a mask of booleans is not supported; export the layer as single operators"
        );
        self.tracts.as_ref().wire(prefix, model, inputs)
    }
}

/// tract's Dropout fails in training mode, which shows with the first request that asks for it.
fn dropout(context: &ParsingContext, node: &NodeProto) -> Built {
    const TRAINING_MODE: usize = 2;
    let mode = node.input.get(TRAINING_MODE);
    if let Some(mode) = mode.filter(|mode| !mode.is_empty()) {
        ensure!(
            initializer(context, mode)?.is_some(),
            "a training_mode that is no constant is not supported; export in inference mode"
        );
    }
    builtin(context, node)
}

fn grid_sample(context: &ParsingContext, node: &NodeProto) -> Built {
    let mode: Option<&str> = node.get_attr_opt("mode")?;
    let is_cubic = mode.is_some_and(|mode| ["cubic", "bicubic"].contains(&mode));
    ensure!(
        !is_cubic || node.get_attr_opt("padding_mode")? != Some("border"),
        "mode {} with padding_mode border gives wrong values; use another padding_mode",
        mode.unwrap_or_default()
    );
    builtin(context, node)
}

fn resize(context: &ParsingContext, node: &NodeProto) -> Built {
    const SCALES: usize = 2;
    let mode: Option<&str> = node.get_attr_opt("coordinate_transformation_mode")?;
    if let (Some("align_corners"), Some(scales)) = (mode, node.input.get(SCALES)) {
        let scales = initializer(context, scales)?;
        let scales = scales.map(|scales| scales.cast_to::<f32>().map(|scales| scales.into_owned()));
        if let Some(scales) = scales.transpose()? {
            let scales = scales.to_plain_array_view::<f32>()?.to_owned();
            ensure!(
                scales.iter().all(|scale| scale.fract() == 0.0),
                "align_corners with scales that are no whole numbers gives wrong values; export with sizes"
            );
        }
    }
    builtin(context, node)
}

fn space_to_depth(context: &ParsingContext, node: &NodeProto) -> Built {
    let mode = node.get_attr_opt("mode")?.unwrap_or("DCR");
    ensure!(
        mode == "DCR",
        "mode {mode} is not supported; export with operator set 27 or older"
    );
    builtin(context, node)
}

/// The value of an input that is written down in the file.
fn initializer(context: &ParsingContext, name: &str) -> TractResult<Option<Tensor>> {
    let graphs = context.parent_graphs.iter().rev();
    let constant = |graph: &tract_onnx::pb::GraphProto| {
        let initializer = graph.initializer.iter().find(|tensor| tensor.name == name);
        let nodes = graph.node.iter().filter(|node| node.op_type == "Constant");
        let node = nodes.flat_map(|node| {
            let is_it = node.output.first().is_some_and(|output| output == name);
            let value = node
                .attribute
                .iter()
                .find(|attribute| attribute.name == "value");
            value.filter(|_| is_it).and_then(|value| value.t.as_ref())
        });
        initializer.or(node.into_iter().next()).cloned()
    };
    let found = graphs.filter_map(|graph| constant(graph)).next();
    found.map(|tensor| context.load_tensor(&tensor)).transpose()
}

#[cfg(test)]
mod tests {
    use super::super::ops;
    use super::*;

    fn check(model: &str, refused_for: Option<&str>) {
        let path = format!("tests/data/known_wrong/{model}.onnx");
        let mut onnx = tract_onnx::onnx();
        ops::register(&mut onnx);
        register(&mut onnx);
        match (onnx.model_for_path(path), refused_for) {
            (Ok(_), None) => {}
            (Err(error), Some(reason)) => {
                assert!(format!("{error:#}").contains(reason), "{error:#}");
            }
            (result, expected) => panic!("{model}: expected {expected:?}, got {result:?}"),
        }
    }

    #[test]
    fn every_known_wrong_answer_is_refused() {
        check("attention_past", Some("is_causal with past keys"));
        check("attention_window", Some("left_window_size"));
        check("dropout_mode", Some("training_mode"));
        check("boxes_unlimited", Some("max_output_boxes_per_class"));
        check("grid_sample_border", Some("padding_mode border"));
        check("resize_fraction", Some("no whole numbers"));
        check("space_to_depth_columns", Some("mode CRD"));
    }

    #[test]
    fn their_harmless_siblings_are_not() {
        check("attention", None);
        check("dropout", None);
        check("boxes", None);
        check("grid_sample", None);
        check("resize", None);
        check("space_to_depth", None);
    }
}
