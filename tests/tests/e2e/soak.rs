//! The soaks in brief; at length they run by `cargo xtask soak`.

use gateway_tests::soak::reload::{self, Plan};
use gateway_tests::wait;

#[test]
fn thirty_reloads_under_load_show_in_time_and_cost_no_request() {
    let report = reload::run(&Plan { reloads: 30, seed: 1, shows_within: wait::SOON });
    assert!(report.failures.is_empty(), "{report}");
    eprintln!("{report}");
}
