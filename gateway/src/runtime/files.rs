//! The limit on open files: every connection takes one, and one more towards its backend.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard one. Gives what it is then.
pub fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // A process may always raise its soft limit so far; where it is kept from it, what there is will do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let now = getrlimit(Resource::Nofile).current;
    now.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// How many connections of clients are let in under a limit on open files: three quarters, so that there is something
/// left for backends, and for whoever comes to see what is wrong.
pub fn connections(open_files_max: usize) -> usize {
    (open_files_max / 4).saturating_mul(3).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_goes() {
        let limit = raise_limit();
        assert_eq!(getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum);
        assert!(connections(limit) < limit);
    }
}
