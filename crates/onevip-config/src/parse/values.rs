//! Single values: strings of the file that stand for addresses, times, ports, names, and what each of them must keep to.
//!
//! Whether values agree with each other is for `validate.rs`.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::nodelist;
use crate::span::Spanned;
use onevip_core::MacAddr;
use onevip_core::Prefix;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// A name of an interface that the kernel itself gives has at most so many bytes (`IFNAMSIZ` - 1).
const INTERFACE_BYTES_MAX: usize = 15;
/// An alternative name of an interface has at most so many bytes (`ALTIFNAMSIZ` - 1).
const ALTNAME_BYTES_MAX: usize = 127;

/// Name of a cluster or a VIP: 1 to 63 of `a-z 0-9 -`. It names directories and goes into beats.
pub(super) fn label(key: &str, name: Spanned<String>, out: &mut Diagnostics) -> Option<Spanned<String>> {
    let right = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=63).contains(&name.value.len()) && name.value.chars().all(right) {
        return Some(name);
    }
    let reason = if name.value.is_empty() {
        format!("`{key}` is empty")
    } else if name.value.len() > 63 {
        format!("`{key}` has {} characters, more than 63", name.value.len())
    } else {
        format!("`{key}` has characters other than a-z, 0-9 and -")
    };
    out.mistake(&name.place, reason, "write 1 to 63 small letters, digits and dashes, like \"login\"");
    None
}

/// Name of a node: a hostname, 1 to 64 of `A-Z a-z 0-9 . -`, as `hostname` prints it.
pub(super) fn hostname(name: Spanned<String>, out: &mut Diagnostics) -> Option<Spanned<String>> {
    let right = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-' || c == '_';
    let text = &name.value;
    if (1..=64).contains(&text.len()) && text.chars().all(right) && !text.starts_with(['.', '-']) {
        return Some(name);
    }
    let remedy = if nodelist::expand(text).is_ok_and(|names| names.len() > 1) {
        "write one [[node]] for each host; lists of names belong into the `nodes` of a [[vip]]"
    } else {
        "write the host's name as `hostname` prints it on that host, like \"unix1\""
    };
    out.mistake(&name.place, format!("\"{text}\" is not a hostname"), remedy);
    None
}

/// The time between two beats.
pub(super) fn beat(
    text: &Spanned<String>,
    range: &RangeInclusive<Duration>,
    out: &mut Diagnostics,
) -> Option<Duration> {
    match humantime::parse_duration(&text.value) {
        Ok(beat) if range.contains(&beat) => Some(beat),
        Ok(beat) => {
            let bound = if beat < *range.start() { "shorter than 10ms" } else { "longer than 1s" };
            let remedy = "write a time from \"10ms\" to \"1s\"; \"50ms\" replaces a dead host within 0.3 s";
            out.mistake(&text.place, format!("`beat` is {bound}"), remedy);
            None
        }
        Err(_) => {
            let reason = format!("`beat` cannot be \"{}\": not a time", text.value);
            out.mistake(&text.place, reason, "write a number and its unit, like \"50ms\"");
            None
        }
    }
}

/// An absolute path.
pub(super) fn absolute_path(key: &str, path: Spanned<String>, out: &mut Diagnostics) -> Option<PathBuf> {
    if path.value.starts_with('/') && !path.value.contains('\0') {
        return Some(PathBuf::from(path.value));
    }
    let reason = format!("`{key}` is not an absolute path");
    out.mistake(
        &path.place,
        reason,
        "begin it with /, like \"/etc/onevip/key\"; the daemon runs in no directory of yours",
    );
    None
}

/// Name of a group of the system, at most 32 characters (`groupadd(8)`).
pub(super) fn group(name: Spanned<String>, out: &mut Diagnostics) -> Option<String> {
    let right = |c: char| c.is_ascii_alphanumeric() || "_-.$@\\".contains(c);
    if (1..=32).contains(&name.value.len()) && name.value.chars().all(right) && !name.value.starts_with('-') {
        return Some(name.value);
    }
    let reason = format!("\"{}\" cannot be the name of a group", name.value);
    out.mistake(&name.place, reason, "write the name of one group, like \"adm\"");
    None
}

/// Name or altname of an interface.
pub(super) fn interface(name: Spanned<String>, out: &mut Diagnostics) -> Option<String> {
    let text = &name.value;
    let wrong = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text == "." || text == ".." || text.contains(wrong) {
        let reason = format!("\"{text}\" cannot be the name of an interface");
        out.mistake(&name.place, reason, "write a name that `ip link` shows, like \"eth0\"");
        return None;
    }
    if text.len() > ALTNAME_BYTES_MAX {
        let reason =
            format!("the name of the interface has {} bytes, more than {ALTNAME_BYTES_MAX}", text.len());
        out.mistake(&name.place, reason, "write a name that `ip link` shows, like \"eth0\"");
        return None;
    }
    if text.len() > INTERFACE_BYTES_MAX {
        out.push(Diagnostic::advice(
            &name.place,
            format!(
                "\"{text}\" has {} bytes: only an altname can be longer than {INTERFACE_BYTES_MAX}",
                text.len()
            ),
            "make sure that `ip link` shows it as altname on every node",
        ));
    }
    Some(name.value)
}

/// An address that a host can have and that others can reach it by. `what` names it in messages.
pub(super) fn address(what: &str, text: &Spanned<String>, out: &mut Diagnostics) -> Option<Spanned<IpAddr>> {
    let Ok(address) = text.value.parse::<IpAddr>() else {
        let remedy = match text.value.split_once('/') {
            Some((bare, _)) if bare.parse::<IpAddr>().is_ok() => {
                format!("write it without prefix length: \"{bare}\"")
            }
            Some(_) | None => {
                "write an IPv4 or IPv6 address, like \"198.51.100.10\"; names are not looked up".into()
            }
        };
        out.mistake(&text.place, format!("\"{}\" is not an IP address", text.value), remedy);
        return None;
    };
    match why_not(address) {
        None => Some(Spanned::new(address, text.place.clone())),
        Some((why, remedy)) => {
            out.mistake(&text.place, format!("{what} cannot be {address}: {why}"), remedy);
            None
        }
    }
}

/// Why an address is of no use to a VIP or a node, and what to write instead.
fn why_not(address: IpAddr) -> Option<(&'static str, String)> {
    let unicast = || "write a unicast address of the LAN that the nodes share".to_owned();
    if address.is_unspecified() {
        return Some(("it stands for no address", unicast()));
    }
    if address.is_loopback() {
        return Some(("a loopback address never leaves its host", unicast()));
    }
    if address.is_multicast() {
        let remedy = "write a unicast address; the multicast part of a VIP is its MAC, made from the address";
        return Some(("it is a multicast address", remedy.to_owned()));
    }
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some(("it is the broadcast address", unicast())),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some(("0.0.0.0/8 is not for hosts", unicast())),
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Some(("it is an IPv4 address in IPv6 clothes", format!("write \"{v4}\""))),
            None if v6.is_unicast_link_local() => {
                let remedy = "write a global or unique local (fd…) address";
                Some(("a link-local address means something else on every link", remedy.to_owned()))
            }
            None => None,
        },
    }
}

/// A network, or a single address.
pub(super) fn network(text: &Spanned<String>, out: &mut Diagnostics) -> Option<Prefix> {
    let read = text.value.parse().ok();
    if read.is_none() {
        let remedy = "write an address, or how many of its bits count as well, like \"192.0.2.0/24\" or \"2001:db8::/32\"";
        out.mistake(&text.place, format!("\"{}\" is not a network", text.value), remedy);
    }
    read
}

/// A cluster MAC, whatever its kind.
pub(super) fn mac(text: &Spanned<String>, out: &mut Diagnostics) -> Option<Spanned<MacAddr>> {
    match text.value.parse() {
        Ok(mac) => Some(Spanned::new(mac, text.place.clone())),
        Err(_) => {
            let reason = format!("\"{}\" is not an Ethernet address", text.value);
            out.mistake(&text.place, reason, "write six bytes in hex, like \"01:00:5e:33:64:0a\"");
            None
        }
    }
}

/// A port, or a range of ports.
pub(super) fn ports(text: &Spanned<String>, out: &mut Diagnostics) -> Option<Spanned<RangeInclusive<u16>>> {
    let (first, last) = text.value.split_once('-').unwrap_or((&text.value, &text.value));
    let number = |digits: &str| digits.trim().parse::<u16>().ok();
    let (reason, remedy) = match (number(first), number(last)) {
        (Some(0), _) | (_, Some(0)) => {
            ("port 0 does not exist".to_owned(), "write a port from 1 to 65535".into())
        }
        (Some(low), Some(high)) if low <= high => return Some(Spanned::new(low..=high, text.place.clone())),
        (Some(low), Some(high)) => {
            (format!("the range {low}-{high} runs backwards"), format!("write \"{high}-{low}\""))
        }
        (None, _) | (_, None) => (
            format!("\"{}\" is neither a port nor a range of ports", text.value),
            "write a port from 1 to 65535, or a range like \"60000-60999\"".into(),
        ),
    };
    out.mistake(&text.place, reason, remedy);
    None
}

/// The names of a node list, each at the place of its list.
pub(super) fn node_list(list: &Spanned<String>, out: &mut Diagnostics) -> Vec<Spanned<String>> {
    match nodelist::expand(&list.value) {
        Ok(names) => names.into_iter().map(|name| Spanned::new(name, list.place.clone())).collect(),
        Err(error) => {
            let place = list.place.within_string(&list.value, error.at);
            out.mistake(&place, error.reason, error.remedy);
            Vec::new()
        }
    }
}
