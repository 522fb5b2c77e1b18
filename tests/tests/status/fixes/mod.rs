//! The fixes that status names are carried out word for word: each ends the condition, and takes nothing else away.

mod bed;
mod bridges;
mod copies;
mod earlier;
mod nodes;
mod policy;
mod prefixes;
mod routes;
mod uplinks;
