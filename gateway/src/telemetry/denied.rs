//! Errors of the file system in words, for whoever runs Yett as root and thinks that root may read everything.

use std::io;

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

const HINT: &str =
    "this process is root without CAP_DAC_OVERRIDE, so files have to be open to root as to any other user";

/// The error, and why it comes where that surprises.
pub fn in_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied && is_root_in_name() {
        return format!("{error} ({HINT})");
    }
    error.to_string()
}

fn is_root_in_name() -> bool {
    let overrides = |held: CapabilitySet| held.contains(CapabilitySet::DAC_OVERRIDE);
    geteuid().is_root() && capabilities(None).is_ok_and(|held| !overrides(held.effective))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::thread::{CapabilitySets, set_capabilities};

    use super::*;

    #[test]
    fn root_without_its_powers_is_told_so() {
        let told = || in_words(&io::ErrorKind::PermissionDenied.into());
        let confined = thread::spawn(move || {
            let none = CapabilitySet::empty();
            set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
                .unwrap();
            assert_eq!(in_words(&io::ErrorKind::NotFound.into()), "entity not found");
            told()
        });
        assert_eq!(confined.join().unwrap().contains(HINT), geteuid().is_root());
        let overrides = capabilities(None).unwrap().effective.contains(CapabilitySet::DAC_OVERRIDE);
        assert_eq!(told() == "permission denied", overrides || !geteuid().is_root());
    }
}
