//! Asks a node that holds the tokens of a range for its rows, so that they need not travel between nodes first.

use std::sync::Arc;

use scylla::cluster::{ClusterState, NodeRef};
use scylla::policies::load_balancing::{FallbackPlan, LoadBalancingPolicy, RoutingInfo};
use scylla::routing::{Shard, Token};

/// The session's own policy, told which token a request is about. The driver cannot see that of a range.
#[derive(Debug)]
pub(super) struct RangeOwner {
    policy: Arc<dyn LoadBalancingPolicy>,
    token: Token,
}

impl RangeOwner {
    /// For requests about the range that ends with this token.
    pub(super) fn new(up_to: i64, policy: Arc<dyn LoadBalancingPolicy>) -> RangeOwner {
        RangeOwner { policy, token: Token::new(up_to) }
    }
}

impl LoadBalancingPolicy for RangeOwner {
    fn pick<'a>(
        &'a self,
        request: &'a RoutingInfo<'_>,
        cluster: &'a ClusterState,
    ) -> Option<(NodeRef<'a>, Option<Shard>)> {
        let mut routed = request.clone();
        routed.token = Some(self.token);
        let (owner, _) = self.policy.pick(&routed, cluster)?;
        let owner = owner.host_id;
        let node = cluster.get_nodes_info().iter().find(|node| node.host_id == owner)?;
        // Shards are ScyllaDB's.
        Some((node, None))
    }

    fn fallback<'a>(&'a self, request: &'a RoutingInfo<'_>, cluster: &'a ClusterState) -> FallbackPlan<'a> {
        self.policy.fallback(request, cluster)
    }

    fn name(&self) -> String {
        format!("owner of a range, by {}", self.policy.name())
    }
}
