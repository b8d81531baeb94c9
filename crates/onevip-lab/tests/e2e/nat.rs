//! Users behind one address: they all meet one node, and each has a session of its own.

use onevip_lab::Host;

use crate::common::router::{address_of, become_router, lead_through};
use crate::common::{Mode, Session, in_every_mode, owner};
use std::net::IpAddr;

in_every_mode!(users_behind_one_address_meet_one_node);

fn users_behind_one_address_meet_one_node(mode: Mode) {
    let lab = mode.lab("e2e-nat", 3, 3);
    become_router(&lab);
    lab.exec_ok("client2", &["nft", "add table inet home"]).unwrap();
    lab.exec_ok("client2", &["nft", "add chain inet home out { type nat hook postrouting priority 100; }"])
        .unwrap();
    for (v6, homes) in [(false, ["10.7.0.1", "10.7.0.2"]), (true, ["fd07::1", "fd07::2"])] {
        let outside = address_of(&lab, Host::Client2, v6);
        let family = if v6 { "ip6" } else { "ip" };
        let rule = format!(
            "add rule inet home out {family} daddr {} snat {family} to {outside}",
            lab.vip_for(outside)
        );
        lab.exec_ok("client2", &["nft", &rule]).unwrap();
        let mut sessions: Vec<Session> = Vec::new();
        for home in homes {
            let home: IpAddr = home.parse().unwrap();
            lead_through(&lab, home, None);
            sessions.push(Session::open_beyond(&lab, home));
        }
        let host = format!("unix{}", owner(&lab, outside));
        for session in &mut sessions {
            assert_eq!(session.host, host, "all come from {outside}");
            assert!(session.echoes());
        }
    }
}
