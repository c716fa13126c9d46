//! Metrics that share their constant labels and leave the registry together.

use std::collections::HashMap;
use std::sync::OnceLock;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::register;

/// Registers metrics under constant labels; takes them back when dropped.
pub(super) struct Shelf {
    registry: Registry,
    labels: HashMap<String, String>,
    collectors: Vec<Box<dyn Collector>>,
}

impl Shelf {
    pub(super) fn new(registry: &Registry, labels: &[(&str, &str)]) -> Self {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { registry: registry.clone(), labels, collectors: Vec::new() }
    }

    /// Leaves the metrics where they are for good.
    pub(super) fn keep(mut self) {
        self.collectors.clear();
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> IntCounter {
        let made = literal(IntCounter::with_opts(self.opts(name, help)));
        self.place(made)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> IntGauge {
        let made = literal(IntGauge::with_opts(self.opts(name, help)));
        self.place(made)
    }

    /// A gauge of fractions, for times.
    pub(super) fn seconds(&mut self, name: &str, help: &str) -> Gauge {
        let made = literal(Gauge::with_opts(self.opts(name, help)));
        self.place(made)
    }

    pub(super) fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let made = literal(IntGaugeVec::new(self.opts(name, help), labels));
        self.place(made)
    }

    pub(super) fn seconds_by(&mut self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let made = literal(GaugeVec::new(self.opts(name, help), labels));
        self.place(made)
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, buckets: Buckets) -> Histogram {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets.bounds());
        let made = literal(Histogram::with_opts(opts));
        self.place(made)
    }

    /// One histogram for each value of a label.
    pub(super) fn histograms<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        buckets: Buckets,
        (label, values): (&str, [&str; N]),
    ) -> [Histogram; N] {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets.bounds());
        let family = literal(HistogramVec::new(opts, &[label]));
        let family = self.place(family);
        values.map(|value| family.with_label_values(&[value]))
    }

    /// Histograms by several labels, resolved at their first use.
    pub(super) fn histogram_grid<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        buckets: Buckets,
        labels: &[&str],
    ) -> HistogramGrid<N> {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets.bounds());
        let made = literal(HistogramVec::new(opts, labels));
        HistogramGrid { family: self.place(made), cells: [const { OnceLock::new() }; N] }
    }

    /// One counter for each value of a closed label, all shown from the start, so that a rate sees the first increment.
    pub(super) fn row<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Row {
        let family = self.counters(name, help, &[label]);
        Row(values.into_iter().map(|value| family.with_label_values(&[value])).collect())
    }

    /// Counters by several labels, resolved at their first use.
    pub(super) fn grid<const N: usize>(&mut self, name: &str, help: &str, labels: &[&str]) -> Grid<N> {
        Grid { family: self.counters(name, help, labels), cells: [const { OnceLock::new() }; N] }
    }

    /// A gauge that is always 1 and tells by its labels.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        let (names, values): (Vec<_>, Vec<_>) = labels.iter().copied().unzip();
        self.gauges(name, help, &names).with_label_values(&values).set(1);
    }

    pub(super) fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let made = literal(IntCounterVec::new(self.opts(name, help), labels));
        self.place(made)
    }

    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(name, help).const_labels(self.labels.clone())
    }

    fn place<C: Collector + Clone + 'static>(&mut self, collector: C) -> C {
        if register(&self.registry, Box::new(collector.clone())) {
            self.collectors.push(Box::new(collector.clone()));
        }
        collector
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        for collector in self.collectors.drain(..) {
            if let Err(error) = self.registry.unregister(collector) {
                tracing::error!(%error, "cannot take back a metric");
            }
        }
    }
}

/// Counters in the order of a closed enum.
#[derive(Debug)]
pub(super) struct Row(Box<[IntCounter]>);

impl Row {
    pub(super) fn at(&self, index: usize) -> &IntCounter {
        &self.0[index]
    }
}

/// Counters that are resolved once, when they are first used: many combinations never occur.
pub(super) struct Grid<const N: usize> {
    family: IntCounterVec,
    cells: [OnceLock<IntCounter>; N],
}

impl<const N: usize> Grid<N> {
    /// The counter of a cell; `labels` are the values that belong to it.
    pub(super) fn at<const L: usize>(
        &self,
        index: usize,
        labels: impl FnOnce() -> [&'static str; L],
    ) -> &IntCounter {
        self.cells[index].get_or_init(|| self.family.with_label_values(&labels()))
    }

    /// A counter outside the grid: a lookup each time.
    pub(super) fn rare(&self, labels: &[&str]) -> IntCounter {
        self.family.with_label_values(labels)
    }
}

/// Histograms that are resolved once, when they are first used.
pub(super) struct HistogramGrid<const N: usize> {
    family: HistogramVec,
    cells: [OnceLock<Histogram>; N],
}

impl<const N: usize> HistogramGrid<N> {
    /// The histogram of a cell; `labels` are the values that belong to it.
    pub(super) fn at(&self, index: usize, labels: &[&str]) -> &Histogram {
        self.cells[index].get_or_init(|| self.family.with_label_values(labels))
    }
}

/// Bucket boundaries.
#[derive(Clone, Copy)]
pub(super) enum Buckets {
    /// 14 powers of two from 0.5 ms.
    Requests,
    /// 16 powers of two from 0.1 ms.
    Handshakes,
    /// 10 powers of four from 256 bytes.
    Sizes,
    /// 18 powers of two from 10 µs: a round trip on one machine, and a SYN that was repeated after a second.
    RoundTrips,
    /// None, then 10 powers of two.
    Counts,
}

impl Buckets {
    fn bounds(self) -> Vec<f64> {
        let (first, factor, count) = match self {
            Self::Requests => (0.0005, 2.0, 14),
            Self::Handshakes => (0.0001, 2.0, 16),
            Self::Sizes => (256.0, 4.0, 10),
            Self::RoundTrips => (0.00001, 2.0, 18),
            Self::Counts => (1.0, 2.0, 10),
        };
        let none = matches!(self, Self::Counts).then_some(0.0);
        none.into_iter()
            .chain(std::iter::successors(Some(first), |bound| Some(bound * factor)).take(count))
            .collect()
    }
}

/// A whole number as a gauge takes it.
pub(super) fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn literal<T>(made: prometheus::Result<T>) -> T {
    #[allow(clippy::expect_used, reason = "names and labels are literals; a test makes every metric")]
    made.expect("a metric with a valid name")
}
