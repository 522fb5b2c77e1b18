//! The modules that a source file names: in its `use`s, in its paths and in its macros.

use std::path::{Component, Path};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// One module's use of another, or of itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Import {
    pub from: String,
    pub to: String,
    pub line: usize,
}

/// What the file at `place`, below `src`, imports from its package; of a run of the same ones in a line, the first.
pub fn imports(place: &Path, text: &str) -> syn::Result<Vec<Import>> {
    let mut finder = Finder { module: module_of(place), found: Vec::new() };
    finder.visit_file(&syn::parse_file(text)?);
    finder.found.dedup();
    Ok(finder.found)
}

/// `["engine", "pass"]` of `engine/pass.rs`; none of the crate's root.
fn module_of(place: &Path) -> Vec<String> {
    let parts = place.with_extension("");
    let named = parts.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    named.filter(|name| name != "mod" && name != "lib").collect()
}

struct Finder {
    module: Vec<String>,
    found: Vec<Import>,
}

impl Finder {
    /// A path from the crate's root or from this module, as far as it was written.
    fn path(&mut self, segments: &[String], span: Span) {
        let Some((from, to)) = self.module.first().zip(self.module(segments)) else { return };
        self.found.push(Import { from: from.clone(), to, line: span.start().line });
    }

    /// The module that a path leads to, if it says where it begins.
    fn module(&self, segments: &[String]) -> Option<String> {
        let mut rest = segments.iter().peekable();
        if rest.next_if(|it| *it == "crate").is_some() {
            return rest.next().cloned();
        }
        rest.next_if(|it| *it == "self");
        let mut depth = self.module.len();
        let mut climbed = false;
        while rest.next_if(|it| *it == "super").is_some() {
            depth = depth.checked_sub(1)?;
            climbed = true;
        }
        if climbed && depth == 0 { rest.next().cloned() } else { None }
    }

    fn tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |name: &proc_macro2::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.path(&with(&name.ident), name.ident.span()),
            syn::UseTree::Rename(name) => self.path(&with(&name.ident), name.ident.span()),
            syn::UseTree::Glob(glob) => self.path(before, glob.star_token.spans[0]),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, before)),
        }
    }

    /// Runs of `name :: name` among a macro's tokens.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut run: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match &token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        run.clear();
                    }
                    run.push(name.to_string());
                    if run.len() > 1 {
                        self.path(&run, name.span());
                    }
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.tokens(group.stream()),
                _ => run.clear(),
            }
            colons = 0;
        }
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|it| it.ident.to_string()).collect();
        if let Some(first) = path.segments.first() {
            self.path(&segments, first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_macro(&mut self, it: &'ast syn::Macro) {
        self.tokens(it.tokens.clone());
    }
}
