//! Walks a graph in its order, with what is known of every value, and refuses the first node that rten would answer
//! wrongly: for itself (`known_wrong`), or for what flows into it.

use std::collections::HashMap;

use super::facts::{Fact, Reach, element::*, integer, subgraph};
use super::{known_wrong, rank};
use crate::engine::onnx::operator;
use crate::engine::onnx::proto::{GraphProto, ModelProto, NodeProto, attribute};
use crate::error::{Error, Result};

/// Operators that hand elements on as they are, and which of their inputs these come from.
const MOVES: [(&str, &[usize]); 31] = [
    ("Compress", &[0]),
    ("Concat", &[]),
    ("ConcatFromSequence", &[]),
    ("DepthToSpace", &[0]),
    ("Expand", &[0]),
    ("Flatten", &[0]),
    ("Gather", &[0]),
    ("GatherElements", &[0]),
    ("GatherND", &[0]),
    ("Identity", &[0]),
    ("Max", &[]),
    ("Min", &[]),
    ("Pad", &[0, 2]),
    ("Reshape", &[0]),
    ("ReverseSequence", &[0]),
    ("Scatter", &[0, 2]),
    ("ScatterElements", &[0, 2]),
    ("ScatterND", &[0, 2]),
    ("SequenceAt", &[0]),
    ("SequenceConstruct", &[]),
    ("SequenceErase", &[0]),
    ("SequenceInsert", &[0, 1]),
    ("Slice", &[0]),
    ("Split", &[0]),
    ("SplitToSequence", &[0]),
    ("Squeeze", &[0]),
    ("Tile", &[0]),
    ("Transpose", &[0]),
    ("Trilu", &[0]),
    ("Unsqueeze", &[0]),
    ("Where", &[1, 2]),
];

/// Operators whose result can need more bits than what it is reckoned from.
const GROWS: [&str; 21] = [
    "Abs",
    "Add",
    "CumSum",
    "Einsum",
    "Gemm",
    "MatMul",
    "Mean",
    "Mul",
    "Neg",
    "Pow",
    "Range",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMean",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Sub",
    "Sum",
];

/// Operators that take any number but 0 for true, at these inputs.
const TRUTHS: [(&str, &[usize]); 8] = [
    ("And", &[0, 1]),
    ("Attention", &[3]),
    ("If", &[0]),
    ("Loop", &[1]),
    ("Not", &[0]),
    ("Or", &[0, 1]),
    ("Where", &[0]),
    ("Xor", &[0, 1]),
];

fn entry<'a>(table: &[(&str, &'a [usize])], operator: &str) -> Option<&'a [usize]> {
    table
        .iter()
        .find(|(name, _)| *name == operator)
        .map(|(_, inputs)| *inputs)
}

/// What holds of a graph if a value has so many dimensions, which only a run can tell.
pub struct Condition {
    /// The value.
    pub value: String,
    /// The axis that must be its last one.
    pub axis: i64,
    /// What is wrong otherwise.
    pub refusal: Error,
}

/// Fails for the first node that rten answers wrongly; tells what is yet to be seen in a run.
pub fn refuse(model: &ModelProto, opset: i64) -> Result<Vec<Condition>> {
    let Some(graph) = &model.graph else {
        return Ok(Vec::new());
    };
    let mut walk = Walk {
        opset,
        scopes: Vec::new(),
        conditions: Vec::new(),
    };
    let inputs = graph.input.iter().map(Fact::declared).collect();
    walk.graph(graph, inputs)?;
    Ok(walk.conditions)
}

/// A node with what is known of its inputs.
pub struct Seen<'a> {
    pub node: &'a NodeProto,
    /// As `Node.operator` has it.
    pub operator: String,
    pub opset: i64,
    inputs: Vec<Option<Fact>>,
}

impl Seen<'_> {
    /// What is known of an input, if it is there.
    pub fn input(&self, place: usize) -> Option<Fact> {
        self.inputs.get(place).copied().flatten()
    }

    /// What is known of each input; of one that is left out, nothing.
    pub fn inputs(&self) -> impl Iterator<Item = Option<Fact>> {
        self.inputs.iter().copied()
    }

    /// An error that says what rten does not do right here.
    pub fn refusal(&self, why: &str) -> Error {
        let name = match self.node.name.is_empty() {
            true => self.node.output.first().map_or("", String::as_str),
            false => &self.node.name,
        };
        let operator = &self.operator;
        Error::unimplemented(format!(
            "operator {operator} (node '{name}'): {why}; {}",
            super::ADVICE
        ))
    }
}

struct Walk<'a> {
    opset: i64,
    /// What is known of the values of this graph and of those around it, the innermost last.
    scopes: Vec<HashMap<&'a str, Fact>>,
    conditions: Vec<Condition>,
}

impl<'a> Walk<'a> {
    /// Walks a graph whose inputs are known; gives what is known of its outputs.
    fn graph(&mut self, graph: &'a GraphProto, inputs: Vec<Fact>) -> Result<Vec<Fact>> {
        let declared: HashMap<_, _> = graph
            .value_info
            .iter()
            .map(|value| (value.name.as_str(), value))
            .collect();
        let mut scope: HashMap<_, _> = graph
            .input
            .iter()
            .map(|input| input.name.as_str())
            .zip(inputs)
            .collect();
        scope.extend(
            graph
                .initializer
                .iter()
                .map(|tensor| (tensor.name.as_str(), Fact::constant(tensor))),
        );
        self.scopes.push(scope);
        for node in &graph.node {
            let outputs = self.node(node)?;
            for (name, mut fact) in node.output.iter().zip(outputs) {
                let declared = declared
                    .get(name.as_str())
                    .map(|value| Fact::declared(value));
                fact.rank = fact.rank.or(declared.and_then(|declared| declared.rank));
                fact.element = fact
                    .element
                    .or(declared.and_then(|declared| declared.element));
                if let Some(scope) = self.scopes.last_mut() {
                    scope.insert(name, fact);
                }
            }
        }
        let outputs = graph
            .output
            .iter()
            .map(|output| self.output(&output.name))
            .collect();
        self.scopes.pop();
        outputs
    }

    fn output(&self, name: &str) -> Result<Fact> {
        let fact = self.known(name)?;
        if fact.reach == Reach::Beyond {
            return Err(Error::unimplemented(format!(
                "output '{name}' is a constant beyond 32 bits, in which rten computes whole numbers"
            )));
        }
        Ok(fact)
    }

    fn known(&self, name: &str) -> Result<Fact> {
        let known = self
            .scopes
            .iter()
            .rev()
            .find_map(|scope| scope.get(name).copied());
        known.ok_or_else(|| {
            Error::unimplemented(format!(
                "'{name}' is read before its node comes; rten needs the nodes in their order"
            ))
        })
    }

    /// Checks a node; gives what is known of its outputs.
    fn node(&mut self, node: &'a NodeProto) -> Result<Vec<Fact>> {
        if node.op_type == "Constant" {
            return Ok(vec![Fact::constant_node(&node.attribute)]);
        }
        let input = |name: &String| match name.is_empty() {
            true => Ok(None),
            false => self.known(name).map(Some),
        };
        let seen = Seen {
            node,
            operator: operator(&node.domain, &node.op_type),
            opset: self.opset,
            inputs: node.input.iter().map(input).collect::<Result<_>>()?,
        };
        known_wrong::refuse(&seen)?;
        if let Some((axis, why)) = known_wrong::right_for_last_axis(&seen) {
            let refusal = seen.refusal(why);
            match seen
                .input(0)
                .and_then(|fact| i64::try_from(fact.rank?).ok())
            {
                Some(rank) if axis == rank - 1 => {}
                Some(_) => return Err(refusal),
                None => self.conditions.push(Condition {
                    value: node.output.first().cloned().unwrap_or_default(),
                    axis,
                    refusal,
                }),
            }
        }
        refuse_flow(&seen)?;
        let outputs = match seen.operator.as_str() {
            "If" => self.branches(&seen)?,
            "Loop" => self.body(&seen)?,
            _ => vec![result(&seen); node.output.len()],
        };
        if outputs.iter().any(|fact| fact.element == Some(DOUBLE)) {
            return Err(seen.refusal("it gives FP64, and rten computes in single precision"));
        }
        let mut outputs = refine(&seen, outputs);
        if let Some(first) = outputs.first_mut() {
            first.rank = first.rank.or(rank::rank(&seen));
            first.length = first.length.or(rank::length(&seen));
        }
        Ok(outputs)
    }

    fn branches(&mut self, seen: &Seen<'a>) -> Result<Vec<Fact>> {
        let mut facts: Option<Vec<Fact>> = None;
        for name in ["then_branch", "else_branch"] {
            let Some(graph) = subgraph(seen.node, name) else {
                continue;
            };
            let outputs = self.graph(graph, Vec::new())?;
            facts = Some(match facts {
                None => outputs,
                Some(others) => others
                    .into_iter()
                    .zip(outputs)
                    .map(|(one, other)| one.or(other))
                    .collect(),
            });
        }
        Ok(facts.unwrap_or_default())
    }

    /// A loop's values grow from round to round, so that nothing is known of how far.
    fn body(&mut self, seen: &Seen<'a>) -> Result<Vec<Fact>> {
        let Some(graph) = subgraph(seen.node, "body") else {
            return Ok(Vec::new());
        };
        let carried = seen.inputs.iter().skip(2).flatten().map(|fact| {
            let reach = match fact.element {
                Some(BOOL | INT8 | UINT8) => Reach::Small,
                Some(INT32 | FLOAT | FLOAT16 | BFLOAT16) => Reach::Any,
                _ => Reach::Clamped,
            };
            Fact {
                is_loose: fact.element == Some(BOOL),
                ..Fact::of(fact.element, reach)
            }
        });
        let carried: Vec<_> = carried.collect();
        let round = [
            Fact::of(Some(INT64), Reach::Small),
            Fact::of(Some(BOOL), Reach::Small),
        ];
        let outputs = self.graph(
            graph,
            round.into_iter().chain(carried.iter().copied()).collect(),
        )?;
        let gathered = outputs.into_iter().skip(1 + carried.len());
        let gathered = gathered.map(|fact| Fact {
            rank: None,
            length: None,
            number: None,
            ..fact
        });
        Ok(carried.iter().copied().chain(gathered).collect())
    }
}

/// Fails where a value flows into what rten does not do right with it.
fn refuse_flow(seen: &Seen) -> Result<()> {
    let moves = entry(&MOVES, &seen.operator);
    for (place, fact) in seen.inputs.iter().enumerate() {
        let Some(fact) = fact else { continue };
        let may_clamp = matches!(
            (seen.operator.as_str(), place),
            ("Slice", 1 | 2) | ("Loop", 0)
        ) || moves.is_some();
        if fact.reach == Reach::Beyond && !may_clamp {
            return Err(seen.refusal(
                "it takes a constant beyond 32 bits, in which rten computes whole numbers",
            ));
        }
        let may_be_loose = entry(&TRUTHS, &seen.operator)
            .is_some_and(|places| places.contains(&place))
            || seen.operator == "NonZero"
            || moves.is_some() && !matches!(seen.operator.as_str(), "Max" | "Min")
            || target(seen) == Some(BOOL);
        if fact.is_loose && !may_be_loose {
            return Err(seen.refusal(
                "it takes a BOOL that is cast from numbers, which rten does not make 0 or 1",
            ));
        }
        if fact.element == Some(DOUBLE) && !matches!(target(seen), Some(FLOAT | FLOAT16)) {
            return Err(seen.refusal("it takes FP64, and rten computes in single precision"));
        }
    }
    let grows = GROWS.contains(&seen.operator.as_str()) || {
        let reduction = super::facts::text(seen.node, "reduction");
        matches!(reduction, Some("add" | "mul"))
    };
    // Exporters multiply by 0 and 1 to keep a value in the graph.
    let harmless = |fact: &Fact| matches!(fact.number, Some(0 | 1));
    let grows = grows && !(seen.operator == "Mul" && seen.inputs.iter().flatten().any(harmless));
    let reckoned = seen
        .inputs
        .iter()
        .flatten()
        .find(|fact| fact.is_held_in_32_bits());
    let largest = seen.inputs.iter().flatten().map(|fact| fact.reach).max();
    let is_power =
        seen.operator == "Pow" && seen.input(0).is_some_and(|base| base.is_held_in_32_bits());
    if grows
        && reckoned.is_some()
        && seen.input(0).is_none_or(|fact| !fact.is_fraction())
        && largest > Some(Reach::Small)
        || is_power
    {
        return Err(seen.refusal(
            "it reckons with whole numbers that may not fit 32 bits, in which rten computes them",
        ));
    }
    let to_fraction = matches!(target(seen), Some(FLOAT | FLOAT16));
    if to_fraction
        && seen
            .input(0)
            .is_some_and(|fact| fact.reach == Reach::Clamped)
    {
        return Err(seen.refusal(
            "it makes fractions of whole numbers that may not fit 32 bits, in which rten computes them",
        ));
    }
    Ok(())
}

/// The element type that a node casts to.
pub fn target(seen: &Seen) -> Option<i32> {
    match seen.operator.as_str() {
        "Cast" | "BitCast" => integer(seen.node, "to").and_then(|to| i32::try_from(to).ok()),
        "CastLike" => seen.input(1).and_then(|like| like.element),
        _ => None,
    }
}

/// What is known of what an operator gives, from what it takes.
fn result(seen: &Seen) -> Fact {
    let first = seen.input(0);
    let same = |place: usize| seen.input(place).and_then(|fact| fact.element);
    let chosen =
        |name: &str| integer(seen.node, name).and_then(|number| i32::try_from(number).ok());
    let largest = |facts: &mut dyn Iterator<Item = &Option<Fact>>| {
        facts
            .flatten()
            .map(|fact| fact.reach)
            .max()
            .unwrap_or(Reach::Small)
    };
    if let Some(to) = target(seen) {
        let from = first.unwrap_or(Fact::of(None, Reach::Any));
        let reach = match (from.reach, to) {
            (_, BOOL | INT8 | UINT8) => Reach::Small,
            (Reach::Any, INT64 | UINT64 | UINT32) if from.is_fraction() => Reach::Clamped,
            (reach, _) => reach,
        };
        let is_loose = to == BOOL && (from.is_loose || from.element != Some(BOOL));
        let is_integer = from.element.is_some() && !from.is_fraction();
        return Fact {
            element: Some(to),
            reach,
            is_whole: from.is_whole || is_integer,
            is_loose,
            number: None,
            ..from
        };
    }
    if let Some(places) = entry(&MOVES, &seen.operator) {
        let all = |place: &usize| places.is_empty() || places.contains(place);
        let moved = seen
            .inputs
            .iter()
            .enumerate()
            .filter(|(place, _)| all(place))
            .map(|(_, fact)| fact);
        let element = same(places.first().copied().unwrap_or(0));
        let is_loose = moved.clone().flatten().any(|fact| fact.is_loose);
        let is_whole = moved.clone().flatten().all(|fact| fact.is_whole);
        return Fact {
            is_loose,
            is_whole,
            ..Fact::of(element, largest(&mut moved.clone()))
        };
    }
    match seen.operator.as_str() {
        "Add" | "Sub" => Fact {
            is_whole: seen.inputs().flatten().all(|fact| fact.is_whole),
            ..Fact::of(same(0), largest(&mut seen.inputs.iter()))
        },
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or" | "Xor"
        | "Not" | "IsInf" | "IsNaN" => Fact::of(Some(BOOL), Reach::Small),
        "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero" | "NonMaxSuppression"
        | "SequenceLength" => Fact::of(Some(INT64), Reach::Small),
        "ConstantOfShape" => {
            match attribute(&seen.node.attribute, "value").and_then(|value| value.t.as_ref()) {
                Some(tensor) => Fact {
                    rank: None,
                    length: None,
                    number: None,
                    ..Fact::constant(tensor)
                },
                None => Fact::of(Some(FLOAT), Reach::Small),
            }
        }
        "EyeLike" => Fact::of(chosen("dtype").or(same(0)), Reach::Small),
        "RandomNormal" | "RandomUniform" => Fact::of(chosen("dtype").or(Some(FLOAT)), Reach::Any),
        "RandomNormalLike" | "RandomUniformLike" => {
            Fact::of(chosen("dtype").or(same(0)), Reach::Any)
        }
        "Multinomial" => Fact::of(chosen("dtype").or(Some(INT32)), Reach::Small),
        "SequenceEmpty" => Fact::of(chosen("dtype").or(Some(FLOAT)), Reach::Small),
        "OneHot" => Fact::of(same(2), largest(&mut seen.inputs.iter().skip(2))),
        "DequantizeLinear" => Fact::of(same(1), Reach::Any),
        "QuantizeLinear" => Fact::of(
            same(2).or(chosen("output_dtype")).or(Some(UINT8)),
            Reach::Small,
        ),
        "ConvInteger" | "MatMulInteger" => Fact::of(Some(INT32), Reach::Any),
        _ => Fact::of(same(0), largest(&mut seen.inputs.iter())),
    }
}

/// Where the outputs of an operator differ from one another.
fn refine(seen: &Seen, mut outputs: Vec<Fact>) -> Vec<Fact> {
    let second = match seen.operator.as_str() {
        "TopK" => Fact::of(Some(INT64), Reach::Small),
        "Dropout" => Fact::of(Some(BOOL), Reach::Small),
        _ => return outputs,
    };
    if let Some(place) = outputs.get_mut(1) {
        *place = second;
    }
    outputs
}
