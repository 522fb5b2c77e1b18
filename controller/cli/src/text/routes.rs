//! Routes for people.

use super::table;
use crate::answer::{Route, RouteState, Target};

/// Routes that nodes should have.
pub(crate) fn list(routes: &[Route]) -> String {
    let row = |route: &Route| {
        [
            route.node.to_string(),
            route.destination.to_string(),
            via(route),
            route.interface.clone(),
            route.why.clone(),
            state(route),
        ]
    };
    let header = ["NODE", "DESTINATION", "VIA", "DEV", "REASON", "STATE"];
    table::table(header, routes.iter().map(row))
}

fn via(route: &Route) -> String {
    match route.target {
        Target::NextHop(hop) => hop.to_string(),
        Target::Unreachable => "unreachable".into(),
        Target::LeftToRouter => "left to router".into(),
    }
}

fn state(route: &Route) -> String {
    match route.state {
        RouteState::Unknown => "unknown".into(),
        RouteState::Pending => "pending".into(),
        RouteState::Applied => "applied".into(),
        RouteState::Failed if route.error.is_empty() => "failed".into(),
        RouteState::Failed => format!("failed: {}", route.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;

    #[test]
    fn routes_in_a_table() {
        assert_eq!(
            list(&sample::routes()),
            "NODE   DESTINATION        VIA             DEV   REASON      STATE\n\
             host1  2001:db8:1::/64    unreachable     -     own prefix  applied\n\
             host1  2001:db8:1:1::/64  2001:db8::2     eth0  peer host2  failed: File exists\n\
             host1  2001:db8:1:2::/64  left to router  -     peer host3  pending\n"
        );
    }
}
