//! Answers for people.

mod age;
mod bgp;
mod nodes;
mod plan;
mod pools;
mod routes;
#[cfg(test)]
pub(super) mod sample;
mod status;
pub(super) mod table;
mod trace;
mod words;

pub(super) use age::age;
pub(super) use bgp::list as bgp_list;
pub(super) use nodes::{list as node_list, show as node_show};
pub(super) use plan::plan;
pub(super) use pools::{list as pool_list, show as pool_show};
pub(super) use routes::list as route_list;
pub(super) use status::status;
pub(super) use table::keys;
pub(super) use trace::trace;
pub(super) use words::{lagging, one_line, progress, some_names, waited};
