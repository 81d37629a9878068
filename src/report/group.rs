//! Runs that differ in their seed alone are one configuration: its label, and means over its seeds.

use toml::{Table, Value};

use super::read::RunFiles;
use crate::train::curves::{Line, thin};
use crate::train::layers::table;
use crate::train::metrics::Record;
use crate::train::summary::State;

/// A configuration.
#[derive(Clone, Debug)]
pub(super) struct Group<'a> {
    /// What tells it from the others.
    pub(super) label: String,
    /// Its runs.
    pub(super) runs: Vec<&'a RunFiles>,
}

/// Keys that a label names by words of their own, or leaves out.
const NAMED: [&str; 9] = ["model", "width", "method", "bits", "dataset", "seed", "mean", "std", "classes"];
/// Further keys in a label at most.
const KEYS: usize = 3;

/// What runs of one configuration share: where the images lie may change, how many there are may not.
fn shared(run: &RunFiles) -> Table {
    let mut keys = table(&run.config);
    keys.remove("seed");
    keys.remove("data-dir");
    keys
}

fn same_images(a: &RunFiles, b: &RunFiles) -> bool {
    a.config.data_dir == b.config.data_dir || a.summary.steps.is_some_and(|steps| b.summary.steps == Some(steps))
}

/// The configurations of some runs in the order in which each first appears, and each run's.
pub(super) fn groups<'a>(runs: &[&'a RunFiles]) -> (Vec<Group<'a>>, Vec<usize>) {
    let mut found: Vec<(Table, Group)> = Vec::new();
    let mut of_run = Vec::new();
    for run in runs {
        let keys = shared(run);
        let alike = |(known, group): &(Table, Group)| *known == keys && same_images(group.runs[0], run);
        let at = found.iter().position(alike).unwrap_or(found.len());
        if at == found.len() {
            found.push((keys, Group { label: String::new(), runs: Vec::new() }));
        }
        found[at].1.runs.push(run);
        of_run.push(at);
    }
    let mut groups: Vec<_> = found.into_iter().map(|(_, group)| group).collect();
    let firsts: Vec<_> = groups.iter().map(|g| g.runs[0]).collect();
    for (group, label) in groups.iter_mut().zip(labels(&firsts)) {
        group.label = label;
    }
    (groups, of_run)
}

/// Each configuration by method and what else differs: network, data set, and where those are the same, other settings.
fn labels(firsts: &[&RunFiles]) -> Vec<String> {
    let all = differing(firsts);
    let short: Vec<_> = firsts.iter().map(|run| short_label(run, &all)).collect();
    let mut labels: Vec<String> = Vec::new();
    for (run, label) in firsts.iter().zip(&short) {
        let alike: Vec<_> = firsts.iter().zip(&short).filter(|(_, other)| *other == label).map(|(r, _)| *r).collect();
        let keys = table(&run.config);
        let others: Vec<_> = differing(&alike).into_iter().filter(|key| !NAMED.contains(&key.as_str())).collect();
        let told = others.iter().take(KEYS).map(|key| format!("{key} {}", value(keys.get(key))));
        let more = (others.len() > KEYS).then(|| "…".to_string());
        let long = std::iter::once(label.clone()).chain(told).chain(more).collect::<Vec<_>>().join(", ");
        let same = labels.iter().filter(|l| **l == long || l.starts_with(&format!("{long} ("))).count();
        labels.push(if same == 0 { long } else { format!("{long} ({})", same + 1) });
    }
    labels
}

/// The keys in which runs differ, those first that an earlier run has.
pub(super) fn differing(runs: &[&RunFiles]) -> Vec<String> {
    let tables: Vec<_> = runs.iter().map(|r| table(&r.config)).collect();
    let mut keys: Vec<&String> = Vec::new();
    tables.iter().flat_map(Table::keys).filter(|key| *key != "data-dir").for_each(|key| {
        if !keys.contains(&key) {
            keys.push(key)
        }
    });
    let differ = |key: &&String| tables.iter().any(|t| t.get(*key) != tables[0].get(*key));
    keys.into_iter().filter(differ).cloned().collect()
}

fn short_label(run: &RunFiles, differing: &[String]) -> String {
    let differs = |key: &str| differing.iter().any(|k| k == key);
    let summary = &run.summary;
    let model = (differs("model") || differs("width")).then(|| summary.model.clone());
    let dataset = differs("dataset").then(|| format!("on {}", summary.dataset));
    model.into_iter().chain([summary.method.clone()]).chain(dataset).collect::<Vec<_>>().join(" ")
}

/// A setting for people: text without quotation marks, single precision without the digits that double adds.
pub(super) fn value(value: Option<&Value>) -> String {
    match value {
        None => "–".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Float(x)) => (*x as f32).to_string(),
        Some(Value::Array(all)) => all.iter().map(|v| self::value(Some(v))).collect::<Vec<_>>().join(", "),
        Some(other) => other.to_string(),
    }
}

impl Group<'_> {
    /// Its runs that are finished.
    pub(super) fn finished(&self) -> impl Iterator<Item = &RunFiles> {
        self.runs.iter().copied().filter(|r| r.summary.state == State::Finished)
    }

    /// A line for each of its runs that has one, thinned out.
    pub(super) fn lines(&self, value: impl Fn(&Record) -> Option<f64>) -> Vec<Line> {
        let lines = self.runs.iter().map(|r| thin(&r.points(&value)));
        lines.filter(|line| !line.is_empty()).collect()
    }

    /// The mean of its finished runs' lines, or of all lines where none is finished, thinned out: where each of them has a point.
    pub(super) fn mean(&self, value: impl Fn(&Record) -> Option<f64>) -> Line {
        let runs: Vec<_> = if self.finished().next().is_some() { self.finished().collect() } else { self.runs.clone() };
        let lines: Vec<_> = runs.iter().map(|r| r.points(&value)).filter(|line| !line.is_empty()).collect();
        let Some((first, others)) = lines.split_first() else { return Line::new() };
        let at = |line: &Line, x: f64| line.binary_search_by(|p| p.0.total_cmp(&x)).ok().map(|i| line[i].1);
        let mean = |(x, y): &(f64, f64)| {
            let all = others.iter().map(|line| at(line, *x)).collect::<Option<Vec<_>>>()?;
            Some((*x, (y + all.iter().sum::<f64>()) / lines.len() as f64))
        };
        thin(&first.iter().filter_map(mean).collect::<Vec<_>>())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::read::Entry;
    use super::super::runs::tests::{config, eval, run};
    use super::*;
    use crate::train::Config;

    fn files(entries: &[Entry]) -> Vec<&RunFiles> {
        entries.iter().map(|e| e.run.as_ref().unwrap()).collect()
    }

    #[test]
    fn seeds_of_one_configuration_come_together() {
        let entries = [config(3, 0), config(0, 0), config(3, 1), config(3, 0)].map(|c| run("x", c, 50.0));
        let (groups, of_run) = groups(&files(&entries));
        assert_eq!(of_run, [0, 1, 0, 0]);
        assert_eq!(groups.iter().map(|g| g.label.as_str()).collect::<Vec<_>>(), ["s3 3-bit", "fp32"]);
        assert_eq!(groups[0].runs.iter().map(|r| r.config.seed).collect::<Vec<_>>(), [0, 1, 0]);
    }

    #[test]
    fn labels_say_what_differs_and_no_more() {
        let labels = |configs: &[Config]| {
            let entries: Vec<_> = configs.iter().map(|c| run("x", c.clone(), 50.0)).collect();
            groups(&files(&entries)).0.into_iter().map(|g| g.label).collect::<Vec<_>>()
        };
        let (s3, fp32) = (config(3, 0), Config { lr: 0.3, ..config(0, 0) });
        assert_eq!(labels(&[s3.clone(), fp32]), ["s3 3-bit", "fp32"], "the method alone tells them apart");
        let quick = Config { latent_lr: 30.0, ..s3.clone() };
        assert_eq!(labels(&[s3.clone(), quick]), ["s3 3-bit, latent-lr 1", "s3 3-bit, latent-lr 30"]);
        let other = Config { dataset: "cifar10".into(), model: "resnet8".into(), ..s3.clone() };
        assert_eq!(labels(&[s3.clone(), other]), ["resnet20 s3 3-bit on shapes", "resnet8 s3 3-bit on cifar10"]);
        let far =
            |batch_size| Config { lr: 1.0, momentum: 0.0, weight_decay: 0.0, warmup: 1.0, batch_size, ..s3.clone() };
        let all = labels(&[s3.clone(), far(1), far(2)]);
        assert!(all.iter().all(|l| l.ends_with('…') || l.ends_with("(2)")), "{all:?}");
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{all:?}");
    }

    #[test]
    fn means_are_taken_where_all_seeds_have_a_point() {
        let mut entries = [0, 1, 2].map(|seed| run("x", config(3, seed), 50.0));
        for (entry, records) in entries.iter_mut().zip([
            vec![eval(9, 2.0, 10.0), eval(19, 1.0, 20.0)],
            vec![eval(9, 4.0, 30.0), eval(19, 2.0, 40.0), eval(29, 1.0, 50.0)],
            vec![],
        ]) {
            entry.run.as_mut().unwrap().records = records;
        }
        let (groups, _) = groups(&files(&entries));
        let top1 = |r: &Record| if let Record::Eval(e) = r { Some(e.top1) } else { None };
        assert_eq!(groups[0].mean(top1), [(1.0, 20.0), (2.0, 30.0)]);
        assert_eq!(groups[0].lines(top1).iter().map(Vec::len).collect::<Vec<_>>(), [2, 3]);
    }
}
