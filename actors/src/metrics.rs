//! One registry of metrics per node, attached to the process's.
//!
//! A process may run one node or, under `cargo dev`, six. Everything inside a node registers on the node's own
//! registry, with plain names; every series that has none gets the label `node` when it is gathered, so nodes never
//! collide, and a stopped node takes its series away with it.

use std::collections::HashMap;

use prometheus::{
    Registry,
    core::{Collector, Desc},
    proto::{LabelPair, MetricFamily},
};

/// A node's own registry as one collector of the process's registry.
#[derive(Clone)]
pub struct NodeRegistry {
    inner: Registry,
    node: String,
    desc: Desc,
}

const NODE: &str = "node";

impl Collector for NodeRegistry {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.inner.gather();
        for metric in families.iter_mut().flat_map(|family| family.mut_metric()) {
            if metric.get_label().iter().all(|label| label.name() != NODE) {
                let mut label = LabelPair::default();
                label.set_name(NODE.to_owned());
                label.set_value(self.node.clone());
                let mut labels = metric.take_label();
                labels.push(label);
                metric.set_label(labels);
            }
        }
        families
    }
}

impl NodeRegistry {
    pub fn new(node: &str) -> prometheus::Result<Self> {
        let labels = HashMap::from([(NODE.to_owned(), node.to_owned())]);
        // Never gathered: it only tells this node's collector from the others.
        let help = "All metrics of one node".to_owned();
        let desc = Desc::new("cairn_node_registry".to_owned(), help, Vec::new(), labels)?;
        Ok(Self { inner: Registry::new(), node: node.to_owned(), desc })
    }

    /// Where the parts of the node register theirs.
    pub fn registry(&self) -> &Registry {
        &self.inner
    }

    pub fn attach(&self, process: &Registry) -> prometheus::Result<()> {
        process.register(Box::new(self.clone()))
    }

    pub fn detach(&self, process: &Registry) {
        if let Err(error) = process.unregister(Box::new(self.clone())) {
            tracing::debug!(%error, "a node's metrics were not attached");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prometheus::IntCounter;

    use super::*;

    #[test]
    fn nodes_of_one_process_share_names_and_differ_by_label() {
        let process = Registry::new();
        let nodes: Vec<_> = ["a", "b"].iter().map(|name| NodeRegistry::new(name).unwrap()).collect();
        for (count, node) in (1..).zip(&nodes) {
            let counter = IntCounter::new("cairn_things_total", "Things").unwrap();
            counter.inc_by(count);
            node.registry().register(Box::new(counter)).unwrap();
            node.attach(&process).unwrap();
        }
        assert!(NodeRegistry::new("a").unwrap().attach(&process).is_err(), "one node twice");
        let series = |process: &Registry| -> Vec<(String, f64)> {
            let families = process.gather();
            let all = families.iter().flat_map(|family| family.get_metric());
            all.map(|one| (one.get_label()[0].value().to_owned(), one.get_counter().get_value())).collect()
        };
        let mut both = series(&process);
        both.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(both, [("a".to_owned(), 1.0), ("b".to_owned(), 2.0)]);
        nodes[0].detach(&process);
        assert_eq!(series(&process), [("b".to_owned(), 2.0)]);
        NodeRegistry::new("a").unwrap().attach(&process).unwrap();
    }
}
