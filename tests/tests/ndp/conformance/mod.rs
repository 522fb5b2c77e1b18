//! What the RFCs and operators ask of a proxy for neighbour discovery, row by row: this agent, the kernel's own proxy as Docker's
//! guide sets it up, and ndppd. The table is in docs/ndp-proxy.md.

mod answers;
mod lives;
mod scene;
mod validity;

use std::{fs, thread};

use scene::{Scene, WHO, Who};

/// A rule: what it says, where it comes from, and how it is tried.
struct Row {
    rule: &'static str,
    by: &'static str,
    check: fn(&mut Scene) -> anyhow::Result<()>,
    /// Whether others may pass it or not, by the load of the machine.
    by_load: bool,
}

impl Row {
    fn new(rule: &'static str, by: &'static str, check: fn(&mut Scene) -> anyhow::Result<()>) -> Self {
        Self { rule, by, check, by_load: false }
    }

    fn by_load(self) -> Self {
        Self { by_load: true, ..self }
    }
}

/// All rows. The last ones end processes.
fn rows() -> Vec<Row> {
    let probes = answers::rows_of_probes();
    let all = [answers::rows(), probes, validity::rows(), validity::rows_of_others(), lives::rows()];
    all.into_iter().flatten().collect()
}

/// The kernel answers for addresses in use. The agent's own answers are like them.
#[test]
fn the_agents_own_answers_are_as_right() {
    let mut scene = Scene::start_unused().unwrap();
    for row in answers::rows().into_iter().chain(validity::rows()) {
        (row.check)(&mut scene).unwrap_or_else(|error| panic!("{}: {error:#}", row.rule));
    }
    assert!(scene.no_answer(&scene.ask().probe()).is_ok(), "no container has the address");
}

/// What a row found for each of [`WHO`].
type Found = Vec<anyhow::Result<()>>;

fn found_of(who: Who) -> Found {
    let mut scene = Scene::start(who).unwrap_or_else(|error| panic!("{who:?}: {error:#}"));
    rows().iter().map(|row| (row.check)(&mut scene)).collect()
}

#[test]
fn the_table_of_the_documentation_is_what_is_seen() {
    let [sextant, kernel, ndppd]: [Found; 3] = thread::scope(|scope| {
        WHO.map(|who| scope.spawn(move || found_of(who)))
            .map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let mut lines =
        vec!["| rule | from | Sextant | kernel | ndppd |".to_owned(), "|---|---|---|---|---|".to_owned()];
    let word = |found: &anyhow::Result<()>| if found.is_ok() { "yes" } else { "no" };
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ndp-proxy.md");
    let page = fs::read_to_string(page).unwrap();
    let mut wrong = Vec::new();
    for (index, row) in rows().iter().enumerate() {
        for (who, found) in WHO.iter().zip([&sextant, &kernel, &ndppd]) {
            if let Err(error) = &found[index] {
                println!("{}: {who:?}: {error:#}", row.rule);
            }
        }
        let ours = format!("| {} | {} | {} |", row.rule, row.by, word(&sextant[index]));
        let line = format!("{ours} {} | {} |", word(&kernel[index]), word(&ndppd[index]));
        let same = |it: &str| if row.by_load { it.starts_with(&ours) } else { it == line };
        if sextant[index].is_err() || !page.lines().any(same) {
            wrong.push(line.clone());
        }
        lines.push(line);
    }
    println!("{}", lines.join("\n"));
    let rows_of_page = page.lines().skip_while(|line| *line != lines[0]).take_while(|line| !line.is_empty());
    assert_eq!(rows_of_page.count(), lines.len(), "rows of docs/ndp-proxy.md");
    assert!(
        wrong.is_empty(),
        "docs/ndp-proxy.md has other lines, or the agent breaks a rule:\n{}",
        wrong.join("\n")
    );
}
