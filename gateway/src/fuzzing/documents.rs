//! Documents from their text to the plan: always an answer, always the same one.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::model::Facts;
use crate::resources::Resources;
use crate::translate::translate;

/// The text of a file of manifests, YAML or JSON.
pub fn documents(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (resources, problems) = Resources::from_text(text);
    // A carriage return alone breaks a line, too (YAML 1.2 §5.4).
    let breaks = text.replace("\r\n", "\n").matches(['\r', '\n']).count();
    let lines = u32::try_from(breaks).unwrap_or(u32::MAX).saturating_add(1);
    for problem in &problems {
        assert!(!problem.message.is_empty(), "{problem:?}");
        assert!(problem.place.line <= lines, "{problem:?} is behind the text's {lines} lines");
    }
    for file_mode in [true, false] {
        let facts = Facts {
            controllers: BTreeSet::from(["gateway.yett.dev/controller".to_owned()]),
            file_mode,
            bind_addresses: vec![Ipv4Addr::UNSPECIFIED.into()],
            node_addresses: vec![Ipv4Addr::new(192, 0, 2, 1).into()],
            now: 1_795_478_400,
            ..Facts::default()
        };
        let (plan, report) = translate(&resources, &facts);
        for finding in &report.findings {
            assert!(!finding.to_string().is_empty());
        }
        let bound = plan.frontends.keys().map(|id| (id.clone(), Ok(()))).collect();
        let (again, _) = translate(&resources, &Facts { bound, ..facts });
        assert_eq!(plan.frontends, again.frontends, "a socket that is bound changes what is served");
    }
}
