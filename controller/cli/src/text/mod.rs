//! Answers for people.

mod age;
mod alike;
mod bgp;
mod containers;
mod events;
mod explained;
mod ndp;
mod nodes;
mod phrases;
mod plan;
mod pools;
mod reservations;
mod revoked;
mod routes;
mod status;
mod table;
mod tokens;
mod trace;

pub(crate) use age::age;
pub(crate) use bgp::list as bgp_list;
pub(crate) use containers::containers;
pub(crate) use events::line as event;
pub(crate) use explained::show as explained;
pub(crate) use ndp::answered_for;
pub(crate) use nodes::{list as node_list, show as node_show};
pub(crate) use phrases::{lagging, listed, one_line, progress, some_names, waited};
pub(crate) use plan::plan;
pub(crate) use pools::{list as pool_list, show as pool_show};
pub(crate) use reservations::list as reservation_list;
pub(crate) use revoked::list as revoked_list;
pub(crate) use routes::list as route_list;
pub(crate) use status::status;
pub(crate) use tokens::list as token_list;
pub(crate) use trace::{path, trace};
