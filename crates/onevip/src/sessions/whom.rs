//! Whose sessions somebody asks for.

use super::list::Session;
use onevip_core::Prefix;
use std::net::SocketAddr;
use std::str::FromStr;

/// A user, an address or network, or one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Sessions of this user.
    User(String),
    /// Sessions from this address or network.
    From(Prefix),
    /// The session from this address and port.
    Connection(SocketAddr),
}

/// What was written is none of these.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a user, an address, a network (192.0.2.0/24), or an address and port (192.0.2.1:50022, [2001:db8::1]:50022)"
)]
pub struct NotAnybody;

impl FromStr for Whom {
    type Err = NotAnybody;

    fn from_str(text: &str) -> Result<Self, NotAnybody> {
        if let Ok(network) = text.parse::<Prefix>() {
            return Ok(Self::From(network));
        }
        if let Ok(connection) = text.parse::<SocketAddr>() {
            return Ok(Self::Connection(SocketAddr::new(connection.ip().to_canonical(), connection.port())));
        }
        // What is neither, and cannot be a user either (useradd(8), "CAVEATS"), is a slip of the pen.
        let is_number = text.chars().all(|c| c.is_ascii_digit() || ".:[]".contains(c));
        let is_no_name = is_number || text.contains(['/', ':', ',']) || text.contains(char::is_whitespace);
        if is_no_name { Err(NotAnybody) } else { Ok(Self::User(text.to_owned())) }
    }
}

impl Whom {
    /// Whether a session is of them.
    pub fn has(&self, session: &Session) -> bool {
        match self {
            Self::User(name) => session.user.as_deref() == Some(name),
            Self::From(network) => network.includes(session.address),
            Self::Connection(connection) => *connection == SocketAddr::new(session.address, session.port),
        }
    }

    /// What other nodes can be asked for, in words that all versions understand; `None` when they have to be asked for all
    /// sessions.
    pub fn as_asked(&self) -> Option<String> {
        match self {
            Self::User(name) => Some(name.clone()),
            Self::From(network) => network.is_host().then(|| network.address().to_string()),
            Self::Connection(connection) => Some(connection.ip().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_addresses_networks_and_connections_are_told_apart() {
        let read = |text: &str| text.parse::<Whom>();
        assert_eq!(read("anna"), Ok(Whom::User("anna".into())));
        assert_eq!(read("c@example.org"), Ok(Whom::User("c@example.org".into())));
        assert_eq!(read("198.51.100.7"), Ok(Whom::From("198.51.100.7".parse().unwrap())));
        assert_eq!(read("::ffff:198.51.100.7"), read("198.51.100.7"));
        assert_eq!(read("2001:db8::/64"), Ok(Whom::From("2001:db8::/64".parse().unwrap())));
        assert_eq!(read("[2001:db8::7]:5022"), Ok(Whom::Connection("[2001:db8::7]:5022".parse().unwrap())));
        for wrong in ["", " ", "198.51.100", "198.51.100.300", "198.51.100.0/33", "a/b", "198.51.100.7:99999"]
        {
            assert_eq!(read(wrong), Err(NotAnybody), "{wrong:?}");
        }
    }

    #[test]
    fn sessions_are_found_by_each_of_them() {
        let session = Session {
            node: "unix1".into(),
            vip: "login".into(),
            user: Some("anna".into()),
            address: "198.51.100.101".parse().unwrap(),
            port: 50022,
            service: 22,
            program: Some("sshd".into()),
            since: None,
            idle_seconds: None,
            terminals: Vec::new(),
            holders: Vec::new(),
        };
        let has = |text: &str| text.parse::<Whom>().unwrap().has(&session);
        for whom in
            ["anna", "198.51.100.101", "::ffff:198.51.100.101", "198.51.100.0/24", "198.51.100.101:50022"]
        {
            assert!(has(whom), "{whom}");
        }
        for whom in ["ann", "198.51.100.10", "198.51.101.0/24", "198.51.100.101:50023"] {
            assert!(!has(whom), "{whom}");
        }
    }
}
