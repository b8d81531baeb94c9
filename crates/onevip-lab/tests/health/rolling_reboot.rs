//! All nodes rebooted, one after the other, by the script of `packaging/`.

use onevip_lab::Options;
use onevip_lab::bench::rolling;

#[test]
fn a_rolling_reboot_costs_nobody_a_session() {
    let report = rolling::run(Options::test("hlroll").nodes(3).clients(24)).unwrap();
    assert!(report.users.begun > 100, "{report}");
    assert_eq!(report.violations(), Vec::<String>::new(), "{report}");
    assert_eq!(report.users.completed, report.users.begun, "{report}");
}
