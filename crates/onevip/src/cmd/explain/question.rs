//! The packet that somebody asks about, as people write it: `198.51.100.7 40000 syn`.

use std::net::{IpAddr, SocketAddr};

/// The kind of packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A TCP segment with these flags.
    Tcp(u8),
    /// A UDP datagram.
    Udp,
    /// An echo request.
    Echo,
    /// The question for the VIP's MAC: ARP, or a neighbour solicitation.
    WhoHas,
    /// A fragment other than the first.
    Fragment,
}

/// A packet in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Question {
    pub source: IpAddr,
    pub source_port: u16,
    /// The VIP address; `None`: the first of the client's family.
    pub dest: Option<IpAddr>,
    pub dest_port: Option<u16>,
    pub kind: Kind,
    /// Of TCP.
    pub sequence: u32,
    pub acknowledgement: u32,
}

/// The port that is asked about when none is given: any of the ephemeral ones.
const SOME_PORT: u16 = 40_000;

impl Question {
    /// Reads the words, given as one argument or as many.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let text = words.join(" ");
        let mut words = text.split([' ', ',', '\t']).filter(|word| !word.is_empty());
        let first = words.next().ok_or("say which packet: a client's address at least")?;
        let (source, port) = end(first).ok_or_else(|| {
            format!("{first} is no client's address; `getent ahosts NAME` finds that of a host")
        })?;
        let mut question = Self {
            source,
            source_port: port.unwrap_or(SOME_PORT),
            dest: None,
            dest_port: None,
            kind: Kind::Tcp(0),
            sequence: 1,
            acknowledgement: 1,
        };
        let (mut flags, mut kind, mut said_port) = (0, None, port.is_some());
        for word in words.map(str::to_lowercase).filter(|word| !["to", "->", "→"].contains(&word.as_str()))
        {
            if let Some(flag) = flag(&word) {
                flags |= flag;
            } else if let Some(named) = named_kind(&word) {
                kind = Some(named);
            } else if let Some(number) = word.strip_prefix("ack=") {
                question.acknowledgement =
                    number.parse().map_err(|_| format!("{word}: ack= wants a number"))?;
                flags |= 0x10;
            } else if let Some(number) = word.strip_prefix("seq=") {
                question.sequence = number.parse().map_err(|_| format!("{word}: seq= wants a number"))?;
            } else if let Some(port) = word.strip_prefix(':').and_then(|port| port.parse().ok()) {
                question.dest_port = Some(port);
            } else if let Ok(port) = word.parse::<u16>() {
                if said_port {
                    question.dest_port = Some(port);
                } else {
                    (question.source_port, said_port) = (port, true);
                }
            } else if let Some((dest, port)) = end(&word) {
                if dest.is_ipv4() != source.is_ipv4() {
                    return Err(format!("{source} and {dest} are of different families"));
                }
                (question.dest, question.dest_port) = (Some(dest), port.or(question.dest_port));
            } else {
                return Err(format!(
                    "what is {word}? After the client come its port, the VIP's address:port, and what it sends: \
                     syn, ack, fin, rst, psh, seq=N, ack=N, udp, ping, arp, nd or fragment"
                ));
            }
        }
        question.kind = match kind {
            Some(kind) if flags == 0 => kind,
            Some(_) => return Err("flags belong to TCP alone".to_owned()),
            None => Kind::Tcp(if flags == 0 { 0x02 } else { flags }),
        };
        Ok(question)
    }
}

fn flag(word: &str) -> Option<u8> {
    Some(match word {
        "fin" => 0x01,
        "syn" => 0x02,
        "rst" => 0x04,
        "psh" | "push" | "data" => 0x18,
        "ack" => 0x10,
        "syn-ack" | "synack" => 0x12,
        "tcp" => 0,
        _ => return None,
    })
}

fn named_kind(word: &str) -> Option<Kind> {
    Some(match word {
        "udp" => Kind::Udp,
        "icmp" | "icmpv6" | "ping" | "echo" => Kind::Echo,
        "arp" | "nd" | "who-has" => Kind::WhoHas,
        "fragment" => Kind::Fragment,
        _ => return None,
    })
}

/// An address, perhaps with a port.
fn end(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some((address.to_canonical(), None));
    }
    text.parse::<SocketAddr>().ok().map(|both| (both.ip().to_canonical(), Some(both.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Question, String> {
        Question::parse(&[text.to_owned()])
    }

    #[test]
    fn a_packet_is_read_as_people_write_it() {
        let syn = read("10.1.2.3 40001 syn").unwrap();
        assert_eq!((syn.source_port, syn.dest_port, syn.kind), (40_001, None, Kind::Tcp(2)));
        assert_eq!(read("10.1.2.3:40001"), Ok(syn.clone()));
        assert_eq!(Question::parse(&["10.1.2.3".into(), "40001".into(), "SYN".into()]), Ok(syn));
        let to = read("[2001:db8::5]:77 -> [2001:db8::10]:22 ack=9 seq=3 psh").unwrap();
        assert_eq!(to.dest, Some("2001:db8::10".parse().unwrap()));
        assert_eq!((to.dest_port, to.acknowledgement, to.sequence), (Some(22), 9, 3));
        assert_eq!(to.kind, Kind::Tcp(0x18));
        assert_eq!(read("10.1.2.3 4000 53 udp").unwrap().dest_port, Some(53));
        assert_eq!(read("10.1.2.3 :53 udp").unwrap().dest_port, Some(53));
        assert_eq!(read("10.1.2.3 arp").unwrap().kind, Kind::WhoHas);
        assert_eq!(read("10.1.2.3 fin,ack").unwrap().kind, Kind::Tcp(0x11));
    }

    #[test]
    fn what_is_no_packet_is_refused_with_a_remedy() {
        assert!(read("").unwrap_err().contains("say which packet"));
        assert!(read("unix1").unwrap_err().contains("getent"));
        assert!(read("10.1.2.3 sin").unwrap_err().contains("syn, ack"));
        assert!(read("10.1.2.3 2001:db8::10").unwrap_err().contains("different families"));
        assert!(read("10.1.2.3 udp syn").unwrap_err().contains("TCP alone"));
    }
}
