//! What `onnxd inspect --measure` tells: what rows cost alone and in batches, by each engine that may serve, and what the
//! server would choose.

use serde_json::{Value, json};

use crate::cli::examination::Examination;
use crate::config::{Aim, InferenceConfig};
use crate::repository::manifest::ModelManifest;
use crate::server::inference_threads;
use crate::serving::budget::ComputeBudget;
use crate::serving::choosing::split;
use crate::serving::cost::Bounds;
use crate::serving::knobs::{Defaults, Knobs};
use crate::serving::measuring::{Batches, Measured, Way, measure_batches};
use crate::tensor::sample::Sample;

/// What was measured of every way to run the model.
pub struct Curves {
    of_ways: Vec<(Way, Measured)>,
    /// Why requests are not joined, if so.
    apart: Option<String>,
    aim: Aim,
}

/// Measures every engine that may serve, as the server does: with every worker busy, in batches as far as they pay.
pub fn measure(examination: &Examination, inference: &InferenceConfig) -> Curves {
    let Examination { verdict, models } = examination;
    let threads = inference_threads(inference.threads);
    let aim = inference.engines.aim;
    let serving = verdict
        .findings
        .iter()
        .filter(|finding| finding.standing.may_serve());
    let serving: Vec<_> = serving.map(|finding| finding.engine.as_str()).collect();
    let loaded = models
        .iter()
        .filter(|(engine, _)| serving.contains(*engine));
    let loaded = loaded.map(|(engine, model)| (*engine, model.clone()));
    let ways = split(threads, None, loaded);
    let knobs = Knobs::new(
        &ModelManifest::default(),
        &Defaults::new(inference, usize::MAX),
    );
    let apart = verdict.joins.as_ref().err().cloned();
    let bounds = Bounds {
        most_rows: match apart {
            None => knobs.bounds().most_rows,
            Some(_) => 1,
        },
        ..knobs.bounds()
    };
    let sample = ways.iter().find_map(|way| way.model.sample());
    let of = |rows| {
        let sample = Sample {
            rows,
            seed: 1,
            ..sample?
        };
        sample.inputs(ways.first()?.model.signature()).ok()
    };
    let batches = Batches { of: &of, bounds };
    let measured = measure_batches(&ways, &batches, &ComputeBudget::new(threads, 1), &|| false);
    let of_ways = ways.into_iter().zip(measured);
    Curves {
        of_ways: of_ways
            .filter_map(|(way, measured)| Some((way, measured?)))
            .collect(),
        apart,
        aim,
    }
}

impl Curves {
    /// The way that serves most rows a second; with an aim for latency batches do not decide.
    fn best(&self) -> Option<&(Way, Measured)> {
        let seconds = |measured: &Measured| match self.aim {
            Aim::Throughput => measured.row_seconds,
            Aim::Latency => alone(measured),
        };
        self.of_ways
            .iter()
            .min_by(|(_, one), (_, other)| seconds(one).total_cmp(&seconds(other)))
    }

    /// Why batches of this way have the size that they have.
    fn reason(&self, measured: &Measured) -> String {
        match &self.apart {
            Some(reason) => format!("requests cannot be joined: {reason}"),
            None => measured.costs.decision(&measured.class).why,
        }
    }

    /// Prints a table, and the choice below it.
    pub fn print(&self) {
        println!(
            "  {:<10} {:<12} {:>7} {:>7} {:>6} {:>10} {:>9} {:>10}",
            "batches", "engine", "workers", "threads", "rows", "ms", "µs a row", "rows/s"
        );
        for (way, measured) in &self.of_ways {
            let mut name = way.engine;
            for (rows, seconds) in measured.costs.curve(&measured.class) {
                let split = way.split;
                println!(
                    "  {:<10} {name:<12} {:>7} {:>7} {rows:>6} {:>10.3} {:>9.1} {:>10.0}{}",
                    "",
                    split.workers,
                    split.threads,
                    seconds * 1e3,
                    seconds * 1e6 / rows as f64,
                    (split.workers * rows) as f64 / seconds,
                    if rows == measured.rows { "  best" } else { "" },
                );
                name = "";
            }
        }
        match self.best() {
            Some((Way { engine, split, .. }, measured)) => println!(
                "  choice     {engine}, {} × {} threads, up to {} rows a run: {}",
                split.workers,
                split.threads,
                measured.rows,
                self.reason(measured)
            ),
            None => {
                println!("  choice     none: no made-up request runs, so nothing could be measured")
            }
        }
    }

    /// The same as objects.
    pub fn as_json(&self) -> Value {
        let of_way = |(way, measured): &(Way, Measured)| {
            let curve = measured.costs.curve(&measured.class).into_iter();
            let curve = curve.map(|(rows, seconds)| {
                let rounded = |value: f64| (value * 1e3).round() / 1e3;
                json!({
                    "rows": rows,
                    "milliseconds": rounded(seconds * 1e3),
                    "microseconds_a_row": rounded(seconds * 1e6 / rows as f64),
                })
            });
            json!({
                "engine": way.engine,
                "workers": way.split.workers,
                "threads": way.split.threads,
                "curve": curve.collect::<Value>(),
                "batch_rows": measured.rows,
                "reason": self.reason(measured),
            })
        };
        json!({
            "measured": self.of_ways.iter().map(of_way).collect::<Value>(),
            "choice": self.best().map(of_way),
        })
    }
}

fn alone(measured: &Measured) -> f64 {
    let curve = measured.costs.curve(&measured.class);
    curve.first().map_or(f64::INFINITY, |(_, seconds)| *seconds)
}
