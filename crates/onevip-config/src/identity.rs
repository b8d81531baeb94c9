//! Which of the configured nodes this host is.

use crate::model::{Config, Node};
use crate::nodelist::compress;
use crate::suggest::nearest;

/// This host is none of the configured nodes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{tried} is no node of cluster {cluster}; its nodes are: {known}\n{remedy}")]
pub struct UnknownNode {
    /// The name that was looked for.
    pub tried: String,
    /// The cluster's name.
    pub cluster: String,
    /// The names it has, as a node list.
    pub known: String,
    /// What to do.
    pub remedy: String,
}

impl Config {
    /// The node that this host is: `--node` if given, else the one with this host's name, in full or up to the first
    /// dot.
    ///
    /// # Errors
    ///
    /// No node has that name. The error names those that exist.
    pub fn this_node(&self, name_override: Option<&str>) -> Result<&Node, UnknownNode> {
        if let Some(name) = name_override {
            return self.node_by_name(name).ok_or_else(|| {
                let names = self.nodes.iter().map(|node| node.name.as_str());
                let remedy = match nearest(name, names) {
                    Some(meant) => format!("did you mean --node {meant}?"),
                    None => "give one of these with --node, or add a [[node]] for this host".to_owned(),
                };
                self.unknown(format!("{name} (--node)"), remedy)
            });
        }
        let hostname = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
        self.node_of_host(&hostname.unwrap_or_default())
    }

    /// The node whose name is `hostname`, in full or up to the first dot.
    pub(super) fn node_of_host(&self, hostname: &str) -> Result<&Node, UnknownNode> {
        let short = hostname.split('.').next().unwrap_or_default();
        self.node_by_name(hostname).or_else(|| self.node_by_name(short)).ok_or_else(|| {
            let remedy = "name this host with --node NAME, or add a [[node]] with its hostname".to_owned();
            self.unknown(format!("this host, \"{hostname}\","), remedy)
        })
    }

    fn unknown(&self, tried: String, remedy: String) -> UnknownNode {
        let known = compress(self.nodes.iter().map(|node| node.name.as_str()));
        UnknownNode { tried, cluster: self.cluster.clone(), known, remedy }
    }
}
