//! Pings between all containers, as a table.

use std::{fmt, thread};

use super::terminal::columns;
use crate::{Container, PingOutcome};

/// How many pings run at the same time.
const CONCURRENT: usize = 16;
/// With more containers than this, each gets a line instead of a column.
const MAX_COLUMNS: usize = 12;

/// The outcome of a ping from each container to each other one.
#[derive(Debug)]
pub(super) struct Matrix {
    names: Vec<String>,
    /// By sender, then by target; none where they are the same.
    outcomes: Vec<Vec<Option<PingOutcome>>>,
}

impl Matrix {
    /// Pings once from each container to each other one.
    ///
    /// # Errors
    /// If `ping` is missing.
    pub(super) fn ping(containers: &[Container]) -> anyhow::Result<Self> {
        let count = containers.len();
        let pairs: Vec<_> = (0..count * count).map(|pair| (pair / count, pair % count)).collect();
        let mut outcomes = Vec::with_capacity(pairs.len());
        for chunk in pairs.chunks(CONCURRENT) {
            outcomes.extend(ping_pairs(containers, chunk)?);
        }
        Ok(Self {
            names: containers.iter().map(|container| container.name().to_owned()).collect(),
            outcomes: outcomes.chunks(count.max(1)).map(<[_]>::to_vec).collect(),
        })
    }

    /// How many pings were sent.
    pub(super) fn sent(&self) -> usize {
        self.outcomes.iter().flatten().flatten().count()
    }

    /// The pings without an answer, as `from → to: reason`.
    pub(super) fn failures(&self) -> Vec<String> {
        let rows = self.names.iter().zip(&self.outcomes);
        let cells = rows.flat_map(|(from, row)| {
            let cell = move |(to, outcome)| (from, to, outcome);
            self.names.iter().zip(row).map(cell)
        });
        cells
            .filter_map(|(from, to, outcome)| {
                let outcome = outcome.as_ref().filter(|outcome| outcome.replied().is_err())?;
                Some(format!("{from} → {to}: {outcome}"))
            })
            .collect()
    }

    fn table(&self) -> String {
        let head = ["from \\ to".to_owned()].into_iter().chain(self.names.iter().cloned());
        let row = |(name, row): (&String, &Vec<_>)| -> Vec<String> {
            [name.clone()].into_iter().chain(row.iter().map(cell)).collect()
        };
        let rows = self.names.iter().zip(&self.outcomes).map(row);
        columns(&[head.collect()].into_iter().chain(rows).collect::<Vec<_>>(), |column| column > 0)
    }

    /// One line for each sender, if a table would be too wide.
    fn summary(&self) -> String {
        let row = |(name, row): (&String, &Vec<Option<PingOutcome>>)| {
            let sent = row.iter().flatten().count();
            let times = row.iter().flatten().filter_map(|outcome| match outcome {
                PingOutcome::Replied(millis) => Some(*millis),
                _ => None,
            });
            let times: Vec<_> = times.collect();
            let longest = times.iter().copied().fold(0.0, f64::max);
            let answered = format!("{} of {sent} answered", times.len());
            vec![name.clone(), answered, format!("at most {longest:.2} ms")]
        };
        columns(&self.names.iter().zip(&self.outcomes).map(row).collect::<Vec<_>>(), |_| false)
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.len() <= MAX_COLUMNS {
            f.write_str(&self.table())
        } else {
            f.write_str(&self.summary())
        }
    }
}

fn ping_pairs(
    containers: &[Container],
    pairs: &[(usize, usize)],
) -> anyhow::Result<Vec<Option<PingOutcome>>> {
    thread::scope(|scope| {
        let start = |&(from, to): &(usize, usize)| {
            let (from, to) = (&containers[from], &containers[to]);
            scope.spawn(move || (from.name() != to.name()).then(|| from.ping(to.address())).transpose())
        };
        let pings: Vec<_> = pairs.iter().map(start).collect();
        let outcomes = pings.into_iter().map(|ping| ping.join().expect("a ping does not panic"));
        outcomes.collect()
    })
}

fn cell(outcome: &Option<PingOutcome>) -> String {
    match outcome {
        None => "·".to_owned(),
        Some(PingOutcome::Replied(millis)) => format!("{millis:.2}"),
        Some(PingOutcome::Unreachable(_)) => "refused".to_owned(),
        Some(PingOutcome::Looped(_)) => "looped".to_owned(),
        Some(PingOutcome::Lost) => "lost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> Matrix {
        Matrix {
            names: vec!["h1/a".to_owned(), "h2/a".to_owned()],
            outcomes: vec![
                vec![None, Some(PingOutcome::Replied(0.0456))],
                vec![Some(PingOutcome::Lost), None],
            ],
        }
    }

    #[test]
    fn a_small_matrix_is_a_table_of_times() {
        let expected = "from \\ to  h1/a  h2/a\nh1/a          ·  0.05\nh2/a       lost     ·";
        assert_eq!(matrix().to_string(), expected);
    }

    #[test]
    fn failed_pings_are_listed() {
        assert_eq!(matrix().failures(), ["h2/a → h1/a: lost: no answer in a second"]);
        assert_eq!(matrix().sent(), 2);
    }

    #[test]
    fn a_large_matrix_is_one_line_per_sender() {
        let expected = "h1/a  1 of 1 answered  at most 0.05 ms\nh2/a  0 of 1 answered  at most 0.00 ms";
        assert_eq!(matrix().summary(), expected);
    }
}
