//! The edit of the agent's config file: `[docker] mode`.

use toml_edit::{DocumentMut, Item, Table, value};

use crate::record::Edit;

/// Sets `[docker] mode`.
#[derive(Debug, Clone)]
pub struct AgentToml {
    /// The mode.
    pub mode: &'static str,
}

impl Edit for AgentToml {
    fn edited(&self, now: Option<&[u8]>) -> Result<Vec<u8>, String> {
        let mut document = parsed(now)?;
        if mode(&document) == Some(self.mode) {
            return Ok(now.unwrap_or_default().to_vec());
        }
        let docker = document.entry("docker").or_insert_with(|| Item::Table(Table::new()));
        let docker = docker.as_table_like_mut().ok_or("[docker] is no table; correct it")?;
        set(docker, self.mode);
        Ok(document.to_string().into_bytes())
    }

    fn undone(
        &self,
        before: Option<&[u8]>,
        after: &[u8],
        now: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, String> {
        let Some(now) = now else { return Ok(None) };
        let (former, edited, mut present) = (parsed(before)?, parsed(Some(after))?, parsed(Some(now))?);
        if mode(&present) != mode(&edited) {
            return Ok(Some(now.to_vec()));
        }
        if let Some(docker) = present.get_mut("docker").and_then(Item::as_table_like_mut) {
            match mode(&former) {
                Some(former) => set(docker, former),
                None => drop(docker.remove("mode")),
            }
        }
        Ok(Some(present.to_string().into_bytes()))
    }
}

fn parsed(bytes: Option<&[u8]>) -> Result<DocumentMut, String> {
    let text = std::str::from_utf8(bytes.unwrap_or_default()).map_err(|error| error.to_string())?;
    text.parse::<DocumentMut>().map_err(|error| format!("it is not valid TOML: {}", error.message()))
}

fn mode(document: &DocumentMut) -> Option<&str> {
    document.get("docker")?.get("mode")?.as_str()
}

/// A comment behind the former value stays.
fn set(docker: &mut dyn toml_edit::TableLike, mode: &str) {
    let mut new = value(mode);
    let former = docker.get("mode").and_then(Item::as_value);
    if let (Some(former), Some(new)) = (former, new.as_value_mut()) {
        *new.decor_mut() = former.decor().clone();
    }
    docker.insert("mode", new);
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAEMON: AgentToml = AgentToml { mode: "daemon" };

    fn edited(text: &str) -> String {
        String::from_utf8(DAEMON.edited(Some(text.as_bytes())).unwrap()).unwrap()
    }

    #[test]
    fn the_mode_is_set_where_it_belongs() {
        let table = [
            ("", "[docker]\nmode = \"daemon\"\n"),
            (
                "# mine\nnode='a'\n\n[routes]\n",
                "# mine\nnode='a'\n\n[routes]\n\n[docker]\nmode = \"daemon\"\n",
            ),
            (
                "[docker]\nmode = 'off' # not yet\nrestart=true\n",
                "[docker]\nmode = \"daemon\" # not yet\nrestart=true\n",
            ),
            ("[docker]\nrestart=true\n[routes]\n", "[docker]\nrestart=true\nmode = \"daemon\"\n[routes]\n"),
            ("docker.mode = \"off\"\n", "docker.mode = \"daemon\"\n"),
            ("docker = { mode = \"off\" }\n", "docker = { mode = \"daemon\" }\n"),
            ("[docker]\nmode = 'daemon'\n", "[docker]\nmode = 'daemon'\n"),
        ];
        for (before, after) in table {
            assert_eq!(edited(before), after);
            assert_eq!(edited(after), after, "a second time");
        }
        assert_eq!(DAEMON.edited(None).unwrap(), edited("").into_bytes());
        assert!(DAEMON.edited(Some(b"[docker")).unwrap_err().contains("not valid TOML"));
        assert!(DAEMON.edited(Some(b"docker = 1\n")).unwrap_err().contains("no table"));
    }

    #[test]
    fn further_networks_stay_behind_the_mode() {
        for before in [
            "[[docker.network]]\nname = \"db\"\n",
            "node = 'a'\n\n[docker]\n[[docker.network]]\nname = \"db\"\n",
        ] {
            let after = edited(before);
            let document: DocumentMut = after.parse().unwrap();
            assert_eq!(mode(&document), Some("daemon"), "{after}");
            assert_eq!(document["docker"]["network"][0]["name"].as_str(), Some("db"), "{after}");
            assert_eq!(edited(&after), after, "a second time");
            let undone = DAEMON.undone(
                Some(before.as_bytes()),
                after.as_bytes(),
                Some(format!("{after}# theirs\n").as_bytes()),
            );
            let undone = String::from_utf8(undone.unwrap().unwrap()).unwrap();
            assert!(undone.contains("name = \"db\"") && !undone.contains("mode"), "{undone}");
        }
    }

    #[test]
    fn an_undone_edit_leaves_the_changes_of_others() {
        let before = "node = 'a'\n[docker]\nmode = \"off\"\n";
        let undone = |now: &str| {
            let undone =
                DAEMON.undone(Some(before.as_bytes()), edited(before).as_bytes(), Some(now.as_bytes()));
            String::from_utf8(undone.unwrap().unwrap()).unwrap()
        };
        assert_eq!(
            undone("node = 'b'\n[docker]\nmode = \"daemon\"\n"),
            "node = 'b'\n[docker]\nmode = \"off\"\n"
        );
        assert_eq!(undone("[docker]\nmode = \"pools\"\n"), "[docker]\nmode = \"pools\"\n", "theirs by now");
        let none = DAEMON.undone(
            None,
            edited("").as_bytes(),
            Some(b"[docker]\nmode = \"daemon\"\nrestart = true\n"),
        );
        assert_eq!(none.unwrap().unwrap(), b"[docker]\nrestart = true\n");
    }
}
