//! TCP connections with what `who` wants to know of them: whose socket each is, and for how long the client was silent.
//!
//! A heavier question than [`super::sockets`] asks (the kernel adds `tcp_info` to each answer), so it is put only when
//! somebody wants to know.

use super::sockets::{Wanted, dump};
use netlink_packet_sock_diag::constants::{IPPROTO_TCP, TCP_LISTEN, TCP_SYN_RECV, TCP_TIME_WAIT};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetResponse, StateFlags, nlas::Nla};
use onevip_core::Flow;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// Where `tcpi_last_data_recv` stands in the kernel's `struct tcp_info` (`include/uapi/linux/tcp.h`): behind eight
/// bytes and eleven numbers.
const LAST_DATA_RECEIVED: usize = 8 + 11 * 4;

/// A connection and its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talker {
    /// Its addresses and ports; IPv4 as IPv4, also on a dual-stack socket.
    pub flow: Flow,
    /// The socket's inode; 0 when no process has it any more.
    pub inode: u32,
    /// Since the other end last sent anything; `None` where the kernel does not tell.
    pub silent_for: Option<Duration>,
}

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address it is bound to; unspecified for all.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its inode.
    pub inode: u32,
    /// Whether it takes IPv6 alone.
    pub v6_only: bool,
}

impl Listener {
    /// Whether a connection to `address` reaches it.
    pub fn hears(&self, address: IpAddr) -> bool {
        let same_family = self.address.is_ipv4() == address.is_ipv4();
        let any = self.address.is_unspecified();
        self.address == address || any && (same_family || self.address.is_ipv6() && !self.v6_only)
    }
}

/// All established connections of this network namespace, and those that are being closed.
///
/// # Errors
/// The kernel's: `sock_diag` is missing (`CONFIG_INET_DIAG`) or refused.
pub fn talkers() -> io::Result<Vec<Talker>> {
    let talks = |state| !matches!(state, TCP_LISTEN | TCP_SYN_RECV | TCP_TIME_WAIT);
    let wanted = Wanted {
        extensions: ExtensionFlags::INFO,
        ..Wanted::all(IPPROTO_TCP, StateFlags::all() & !StateFlags::LISTEN)
    };
    dump(&wanted, |response| talks(response.header.state).then(|| talker(response)))
}

/// All TCP sockets of this network namespace that listen.
///
/// # Errors
/// As [`talkers`].
pub fn listeners() -> io::Result<Vec<Listener>> {
    let listener = |response: &InetResponse| Listener {
        address: response.header.socket_id.source_address.to_canonical(),
        port: response.header.socket_id.source_port,
        inode: response.header.inode,
        v6_only: response.nlas.iter().any(|nla| matches!(nla, Nla::SkV6Only(true))),
    };
    dump(&Wanted::all(IPPROTO_TCP, StateFlags::LISTEN), |response| Some(listener(response)))
}

fn talker(response: &InetResponse) -> Talker {
    let id = &response.header.socket_id;
    let info = response.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(bytes) => Some(bytes),
        _ => None,
    });
    Talker {
        flow: Flow {
            remote: id.destination_address.to_canonical(),
            remote_port: id.destination_port,
            local: id.source_address.to_canonical(),
            local_port: id.source_port,
        },
        inode: response.header.inode,
        silent_for: info.and_then(|bytes| last_data_received(bytes)),
    }
}

/// From the kernel's `tcp_info`, in milliseconds there.
fn last_data_received(info: &[u8]) -> Option<Duration> {
    let bytes = info.get(LAST_DATA_RECEIVED..LAST_DATA_RECEIVED + 4)?.try_into().ok()?;
    Some(Duration::from_millis(u64::from(u32::from_ne_bytes(bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::linux::fs::MetadataExt;
    use std::time::Instant;

    #[test]
    fn a_connection_is_told_with_its_inode_and_its_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        let spoke = Instant::now();
        client.write_all(b"hello").unwrap();
        let link = std::fs::metadata(format!("/proc/self/fd/{}", server.as_raw_fd())).unwrap();
        let ours = |talker: &&Talker| talker.flow.local_port == port;
        let talker = *talkers().unwrap().iter().find(ours).expect("the server's end");
        assert_eq!(u64::from(talker.inode), link.st_ino());
        assert!(talker.silent_for.expect("Linux tells") <= spoke.elapsed() + Duration::from_millis(20));
        let inode = std::fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap().st_ino();
        assert!(listeners().unwrap().iter().any(|l| l.port == port && u64::from(l.inode) == inode));
    }

    #[test]
    fn a_kernel_that_tells_less_is_no_error() {
        assert_eq!(last_data_received(&[0; 52]), None);
        let mut info = [0; 56];
        info[52..].copy_from_slice(&1500u32.to_ne_bytes());
        assert_eq!(last_data_received(&info), Some(Duration::from_millis(1500)));
    }
}
