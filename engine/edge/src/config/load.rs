//! Layers of files, variables and flags become one tree.

use std::path::{Path, PathBuf};

use super::problem::{Origin, Problem};
use super::tree::{self, Table, Value};
use super::{Config, read};

/// Prefix of the variables that are read; all others are not looked at.
const PREFIX: &str = "KAIROS__";
/// Environments that have a file of their own.
const ENVIRONMENTS: [&str; 3] = ["development", "test", "production"];

/// Where a configuration comes from. Later layers win: `config/default.toml`,
/// `config/<environment>.toml`, `config/local.toml`, variables `KAIROS__SECTION__KEY`, flags.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The directory that holds `config/`.
    pub base: PathBuf,
    /// Takes the place of the layers of files.
    pub file: Option<PathBuf>,
    /// Environment variables; those of other programs may be among them.
    pub variables: Vec<(String, String)>,
    /// `section.key=value`, as given to `--set`.
    pub flags: Vec<String>,
}

impl Sources {
    /// The sources of this process: its working directory and its environment.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<String>) -> Self {
        let text = |it: std::ffi::OsString| it.to_string_lossy().into_owned();
        Self {
            base: PathBuf::new(),
            file,
            variables: std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect(),
            flags,
        }
    }

    /// Reads the layers and checks the result. `usable` are the CPUs that the process may run on,
    /// or `None` where it will not start threads.
    ///
    /// # Errors
    /// Every problem of every layer and of the result.
    pub fn load(&self, usable: Option<&[u16]>) -> Result<Config, Vec<Problem>> {
        let (merged, problems) = self.merged()?;
        Config::check(merged, problems, usable)
    }

    /// The layers as one tree, and what was wrong with variables and flags.
    pub(super) fn merged(&self) -> Result<(Table, Vec<Problem>), Vec<Problem>> {
        let mut problems = Vec::new();
        let mut merged = Table::new();
        for (path, required) in self.files(&mut problems) {
            match read_file(&path, required) {
                Ok(Some(layer)) => tree::merge(&mut merged, layer),
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            // Half a configuration would raise problems that the missing half answers.
            return Err(problems);
        }
        self.add_variables(&mut merged, &mut problems);
        self.add_flags(&mut merged, &mut problems);
        Ok((merged, problems))
    }

    /// The files in the order of their layers, and whether each must exist.
    fn files(&self, problems: &mut Vec<Problem>) -> Vec<(PathBuf, bool)> {
        if let Some(file) = &self.file {
            return vec![(file.clone(), true)];
        }
        let named = ["KAIROS_ENV", "APP_ENV"].iter().find_map(|wanted| {
            let found = self.variables.iter().find(|(name, _)| name == wanted)?;
            Some((*wanted, found.1.as_str()))
        });
        let (environment, required) = match named {
            None => (ENVIRONMENTS[0], false),
            Some((_, value)) if ENVIRONMENTS.contains(&value) => (value, true),
            Some((name, value)) => {
                problems.push(Problem {
                    key: name.to_owned(),
                    found: Some(format!("{value:?}")),
                    rule: format!("must be {}", ENVIRONMENTS.join(" or ")),
                    origin: Some(Origin::Variable(name.to_owned())),
                });
                (ENVIRONMENTS[0], false)
            }
        };
        let folder = self.base.join("config");
        vec![
            (folder.join("default.toml"), true),
            (folder.join(format!("{environment}.toml")), required),
            (folder.join("local.toml"), false),
        ]
    }

    /// Keys of variables match in any case: first the spelling in the files, else lower case.
    fn add_variables(&self, merged: &mut Table, problems: &mut Vec<Problem>) {
        let mut variables: Vec<_> =
            self.variables.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        for (name, text) in variables {
            let path: Vec<&str> = name[PREFIX.len()..].split("__").collect();
            if path.len() < 2 || path.iter().any(|word| word.is_empty()) {
                let rule = "must be KAIROS__SECTION__KEY, with two underscores between";
                problems.push(Problem::new(name.as_str(), rule));
                continue;
            }
            let origin = Origin::Variable(name.clone());
            let path = tree::in_spelling_of(merged, &path);
            let value = tree::parse_value(text, &origin);
            tree::merge(merged, tree::nest(&path, value, &origin));
        }
    }

    fn add_flags(&self, merged: &mut Table, problems: &mut Vec<Problem>) {
        for flag in &self.flags {
            let parts = flag.split_once('=');
            let path = parts.and_then(|(key, _)| tree::parse_key(key.trim()));
            let (Some((_, text)), Some(path)) = (parts, path.filter(|path| path.len() > 1)) else {
                // Only the key is shown: behind the sign there may be something secret.
                let key = parts.map_or(flag.as_str(), |(key, _)| key);
                let rule = "must be section.key=value";
                problems.push(Problem::new(format!("--set {key}"), rule));
                continue;
            };
            let value = tree::parse_value(text.trim(), &Origin::Flag);
            tree::merge(merged, tree::nest(&path, value, &Origin::Flag));
        }
    }
}

impl Config {
    /// From values as written to values believed. `problems` are those found so far.
    pub(super) fn check(
        mut merged: Table,
        mut problems: Vec<Problem>,
        usable: Option<&[u16]>,
    ) -> Result<Self, Vec<Problem>> {
        // Other processes check their own sections, secrets in them included.
        for section in super::FOREIGN_SECTIONS {
            merged.remove(section);
        }
        take_secrets(&mut merged, "", &mut problems);
        let (config, mut found) = read::config(merged, usable);
        problems.append(&mut found);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems),
        }
    }
}

fn read_file(path: &Path, required: bool) -> Result<Option<Table>, Problem> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => tree::parse(&name, &text).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Problem::new(name, "no such file; name the configuration with --config FILE"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(Problem::new(name, "is not UTF-8 text"))
        }
        Err(error) => Err(Problem::new(name, format!("cannot be read: {error}"))),
    }
}

/// Takes every value whose key says that it is a secret out of the tree, so that nothing behind
/// here can print it, and notes the key.
pub(super) fn take_secrets(table: &mut Table, path: &str, problems: &mut Vec<Problem>) {
    table.retain(|key, node| {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if is_secret(key) {
            problems.push(Problem {
                key: full,
                found: None,
                rule: "secrets come from credentials of the service, never from configuration"
                    .to_owned(),
                origin: Some(node.origin.clone()),
            });
            return false;
        }
        if let Value::Table(inner) = &mut node.value {
            take_secrets(inner, &full, problems);
        }
        true
    });
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words = ["secret", "password", "passphrase", "private_key", "api_key", "apikey"];
    words.iter().any(|word| key.contains(word)) || key == "token" || key.ends_with("_token")
}
