//! Reading the Prometheus text format.

use std::collections::BTreeMap;

/// One line of a scrape.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The series' name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// A scrape, parsed.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

impl Metrics {
    /// Parses a whole exposition.
    ///
    /// # Panics
    /// On a line that is neither a comment nor a sample.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self {
            samples: lines.map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line}"))).collect(),
        }
    }

    /// The sum over every series of this name that carries at least these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.select(name, labels).map(|sample| sample.value).sum()
    }

    /// Whether any series of this name carries at least these labels.
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.select(name, labels).next().is_some()
    }

    /// The series of this name that carry at least these labels.
    pub fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|have| have == value))
        })
    }

    /// Every sample.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        other => other.parse().ok()?,
    };
    let Some((name, rest)) = series.split_once('{') else {
        return Some(Sample { name: series.to_owned(), labels: BTreeMap::new(), value });
    };
    let labels = labels(rest.strip_suffix('}')?)?;
    Some(Sample { name: name.to_owned(), labels, value })
}

fn labels(mut rest: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (key, tail) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = tail.char_indices();
        let end = loop {
            match chars.next()? {
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (at, '"') => break at,
                (_, other) => value.push(other),
            }
        };
        labels.insert(key.trim_start_matches(',').to_owned(), value);
        rest = &tail[end + 1..];
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_with_quotes_and_commas_are_read() {
        let metrics =
            Metrics::parse("# HELP a b\na_total{x=\"1,\\\"2\\\"\",y=\"z\"} 3\nb 4\na_total{x=\"o\"} 1\n");
        assert!((metrics.sum("a_total", &[]) - 4.0).abs() < f64::EPSILON);
        assert!((metrics.sum("a_total", &[("x", "1,\"2\""), ("y", "z")]) - 3.0).abs() < f64::EPSILON);
        assert!(metrics.has("b", &[]));
        assert!(!metrics.has("b", &[("y", "z")]));
    }
}
