//! Many who claim at once while things fail, and whether what came of it can be right (DESIGN I1, I2).

pub mod chaos;
pub mod claimers;
pub mod history;
