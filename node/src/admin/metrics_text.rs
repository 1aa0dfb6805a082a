//! Several registries as one Prometheus page: each node of a process has its own, with its id as a label.

use std::collections::BTreeMap;

use prometheus::{
    Registry, TextEncoder,
    proto::{LabelPair, MetricFamily},
};

const NODE_LABEL: &str = "node";

/// One registry of a process and the node it speaks of, if it is one node's.
#[derive(Clone)]
pub struct Source {
    pub node: Option<String>,
    pub registry: Registry,
}

/// Families of the same name are put together: the text format wants each name once. Metrics that do not name their node
/// yet are given its label.
pub fn render(sources: &[Source]) -> Result<String, prometheus::Error> {
    let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
    for source in sources {
        for mut family in source.registry.gather() {
            if let Some(node) = &source.node {
                label(&mut family, node);
            }
            match families.get_mut(family.name()) {
                Some(first) => first.mut_metric().append(family.mut_metric()),
                None => {
                    families.insert(family.name().to_owned(), family);
                }
            }
        }
    }
    let families: Vec<_> = families.into_values().collect();
    TextEncoder::new().encode_to_string(&families)
}

fn label(family: &mut MetricFamily, node: &str) {
    for metric in family.mut_metric() {
        if metric.get_label().iter().any(|label| label.name() == NODE_LABEL) {
            continue;
        }
        let mut label = LabelPair::default();
        label.set_name(NODE_LABEL.to_owned());
        label.set_value(node.to_owned());
        let mut labels = metric.take_label();
        labels.push(label);
        metric.set_label(labels);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prometheus::{IntCounter, Opts};

    use super::*;

    fn source(node: &str, count: u64, own_label: bool) -> Source {
        let mut opts = Opts::new("cairn_things_total", "Things.");
        if own_label {
            opts = opts.const_label("node", node);
        }
        let counter = IntCounter::with_opts(opts).unwrap();
        counter.inc_by(count);
        let registry = Registry::new();
        registry.register(Box::new(counter)).unwrap();
        Source { node: Some(node.to_owned()), registry }
    }

    #[test]
    fn nodes_share_a_family_and_have_one_label_each() {
        let text = render(&[source("n1", 1, false), source("n2", 2, true)]).unwrap();
        assert_eq!(text.matches("# TYPE cairn_things_total counter").count(), 1, "{text}");
        assert!(text.contains("cairn_things_total{node=\"n1\"} 1\n"), "{text}");
        assert!(text.contains("cairn_things_total{node=\"n2\"} 2\n"), "{text}");
    }
}
