//! Reads what `libtest` prints and counts it. Lines come in one by one, from all test binaries after each other; out
//! come the sum, the names of what failed or was skipped, and whether a line is worth showing.

/// The sum over all test binaries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// Names of the tests that failed.
    pub(crate) failures: Vec<String>,
    /// Names of the tests that were skipped, with the reason where one was given.
    pub(crate) skips: Vec<String>,
}

/// How a test says that it could not run here; the rest of the line is its name and the reason.
const SKIPPED: &str = "SKIPPED:";

/// Lines read so far.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    count: Count,
    /// Within the captured output of tests that passed: only a skip is of interest there.
    in_successes: bool,
}

impl Reading {
    /// Takes one line of either stream and says whether to show it.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        if let Some(skip) = line.trim_start().strip_prefix(SKIPPED) {
            // A test that passes by returning early was counted as passed; it is moved over at the end.
            self.count.skips.push(skip.trim().to_owned());
            return true;
        }
        if line == "successes:" {
            self.in_successes = true;
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.in_successes = false;
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            let number = |what: &str| before(result, what).unwrap_or(0);
            self.count.passed += number(" passed");
            self.count.failed += number(" failed");
            self.count.skipped += number(" ignored");
        } else if let Some(name) = test_that(line, "FAILED") {
            self.count.failures.push(name);
        } else if let Some(name) = test_that(line, "ignored") {
            self.count.skips.push(format!("{name}: ignored"));
        }
        !self.in_successes
    }

    /// The sum.
    pub(crate) fn finish(self) -> Count {
        let mut count = self.count;
        let returned_early = count.skips.len().saturating_sub(count.skipped);
        count.passed = count.passed.saturating_sub(returned_early);
        count.skipped += returned_early;
        count
    }
}

/// The number that stands right before a word, as in `12 passed; 0 failed`.
fn before(text: &str, word: &str) -> Option<usize> {
    let head = &text[..text.find(word)?];
    head.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The name in `test NAME ... OUTCOME`, where a reason may follow the outcome.
fn test_that(line: &str, outcome: &str) -> Option<String> {
    let (name, rest) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    rest.starts_with(outcome).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Count, Vec<&str>) {
        let mut reading = Reading::default();
        let shown = text.lines().filter(|line| reading.line(line)).collect();
        (reading.finish(), shown)
    }

    #[test]
    fn results_of_all_binaries_are_summed() {
        let (count, _) = read(concat!(
            "running 3 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ignored, wants a kernel\n",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.01s\n",
            "test src/lib.rs - x (line 3) ... ok\n",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.10s\n",
        ));
        let expected = Count {
            passed: 13,
            failed: 1,
            skipped: 1,
            failures: vec!["b".into()],
            skips: vec!["c: ignored".into()],
        };
        assert_eq!(count, expected);
    }

    #[test]
    fn a_test_that_says_it_skipped_does_not_count_as_passed() {
        let (count, shown) = read(concat!(
            "test scrape ... ok\n\nsuccesses:\n\n---- scrape stdout ----\nSKIPPED: scrape: no prometheus\nchatter\n",
            "\nsuccesses:\n    scrape\n\n",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        ));
        assert_eq!((count.passed, count.skipped), (1, 1));
        assert_eq!(count.skips, ["scrape: no prometheus"]);
        assert!(!shown.contains(&"chatter"), "the output of passing tests is kept back: {shown:?}");
        assert!(shown.iter().any(|line| line.starts_with("test result")));
    }

    #[test]
    fn output_of_failing_tests_is_shown() {
        let (_, shown) = read("successes:\nquiet\n\nfailures:\n\n---- b stdout ----\nloud\n");
        assert!(shown.contains(&"loud") && !shown.contains(&"quiet"));
    }
}
