//! Which build this is: what a journal names as its writer.

use std::fmt;

/// Commit, lock file and features of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildId {
    /// Commit of the source, or `unknown` outside a checkout.
    pub commit: &'static str,
    /// Digest of the lock file: which dependencies were built in.
    pub lock: [u8; 32],
    /// `debug` or `release`. Decisions are the same in both; times are not.
    pub profile: &'static str,
}

impl BuildId {
    /// Of the running binary.
    #[must_use]
    pub fn of_this_binary() -> Self {
        let lock = *blake3::hash(include_bytes!("../../Cargo.lock")).as_bytes();
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        Self { commit: env!("KAIROS_COMMIT"), lock, profile }
    }

    /// What is compared between a journal and the binary that replays it.
    #[must_use]
    pub fn text(&self) -> String {
        self.to_string()
    }
}

/// `<version>+<commit>.<first bytes of the lock file's digest>.<profile>`.
impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lock = blake3::Hash::from_bytes(self.lock).to_hex();
        let version = env!("CARGO_PKG_VERSION");
        write!(f, "{version}+{}.{}.{}", self.commit, &lock[..8], self.profile)
    }
}
