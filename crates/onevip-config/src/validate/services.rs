//! What must hold for `[[vip.service]]`, and what follows from it.

use super::limits;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::draft::{ServiceDraft, VipDraft};
use crate::model::{ServiceCheck, VipService};
use onevip_core::slice::{self, SLICES_MAX};
use onevip_core::{Answerer, HashMode, NodeId, Transport};

/// How many services all VIPs together may have: the kernel part goes through those of a VIP one by one.
const SERVICES_MAX: usize = 32;

/// The services of a VIP that hashes by `hash`, sorted; none in the file means SSH. Mistakes are reported.
/// `highest` is the highest number of a node.
pub(super) fn services(
    vip: &VipDraft,
    hash: HashMode,
    highest: Option<NodeId>,
    out: &mut Diagnostics,
) -> Vec<VipService> {
    overlaps(vip, out);
    beat_port_is_free(vip, out);
    if !vip.says_services {
        let (transport, answerer, check) = (Transport::Tcp, Answerer::Bucket, None);
        return vec![VipService { transport, ports: 22..=22, hash, answerer, limit: None, slices: 1, check }];
    }
    let mut services: Vec<VipService> = Vec::new();
    for draft in &vip.services {
        answerers(draft, out);
        checks(draft, out);
        limits::fits(draft, out);
        let own = draft.hash.as_ref().map(|word| vip.prefix.mode(word.value));
        let service = VipService {
            transport: draft.transport,
            ports: draft.ports.value.clone(),
            hash: own.unwrap_or(hash),
            answerer: draft.answerer.value,
            check: draft.check.as_ref().map(|word| word.value),
            limit: draft.limit.as_ref().map(|limit| limit.value.clone()),
            slices: slices(draft, highest, out),
        };
        pieces(draft, &service, hash, out);
        services.push(service);
    }
    services.sort_by_key(|service| (service.transport, *service.ports.start()));
    services
}

/// No more services than there is room for.
pub(super) fn count(vips: &[VipDraft], out: &mut Diagnostics) {
    let services: Vec<_> = vips.iter().flat_map(|vip| &vip.services).collect();
    limits::count(&services, out);
    // A VIP without any in the file has one: SSH.
    let implied = vips.iter().filter(|vip| !vip.says_services).count();
    if let Some(beyond) = services.get(SERVICES_MAX.saturating_sub(implied)) {
        let total = services.len() + implied;
        let reason = format!("the VIPs have {total} services together, more than {SERVICES_MAX}");
        out.mistake(
            &beyond.ports.place,
            reason,
            "let one [[vip.service]] take a range of ports, like port = \"20-29\"",
        );
    }
}

/// No two services have a port in common.
fn overlaps(vip: &VipDraft, out: &mut Diagnostics) {
    for (i, later) in vip.services.iter().enumerate() {
        let overlaps = |earlier: &&ServiceDraft| {
            let (a, b) = (&earlier.ports.value, &later.ports.value);
            earlier.transport == later.transport && a.start() <= b.end() && b.start() <= a.end()
        };
        if let Some(earlier) = vip.services[..i].iter().find(overlaps) {
            let reason = format!("two services of the VIP have {} ports in common", later.transport.as_str());
            let remedy = "let each port belong to one [[vip.service]]";
            let also = &earlier.ports.place;
            out.push(Diagnostic::mistake(&later.ports.place, reason, remedy).also(also, "the other one"));
        }
    }
}

/// Beats never reach the stack, so no service can live on their port.
fn beat_port_is_free(vip: &VipDraft, out: &mut Diagnostics) {
    let port = vip.beat_port.value as u16;
    let taken =
        |service: &&ServiceDraft| service.transport == Transport::Udp && service.ports.value.contains(&port);
    if let Some(service) = vip.services.iter().find(taken) {
        let reason = format!("beats arrive on UDP port {port}, which this service takes");
        let remedy = "set `beat_port` of the VIP to a UDP port that no service uses";
        let mut mistake = Diagnostic::mistake(&service.ports.place, reason, remedy);
        if vip.beat_port.place.is_in_a_line() {
            mistake = mistake.also(&vip.beat_port.place, "set here");
        }
        out.push(mistake);
    }
}

/// A socket can answer only for a protocol in which nothing but the port tells whose a packet is.
fn answerers(service: &ServiceDraft, out: &mut Diagnostics) {
    let owner = &service.answerer;
    if owner.value == Answerer::Bucket {
        return;
    }
    if service.transport != Transport::Udp {
        let reason =
            "`owner = \"socket\"` is for UDP: a TCP connection stays with the node that has it anyway";
        out.mistake(&owner.place, reason, "leave `owner` out");
    }
    if let Some(hash) = &service.hash {
        let reason = "`hash` counts only where the bucket decides, and here the socket does";
        out.push(
            Diagnostic::mistake(&hash.place, reason, "leave `hash` out").also(&owner.place, "decided here"),
        );
    }
}

/// Only over TCP can it be an sshd.
fn checks(service: &ServiceDraft, out: &mut Diagnostics) {
    let Some(check) = service.check.as_ref().filter(|word| word.value == ServiceCheck::Sshd) else { return };
    if service.transport != Transport::Tcp {
        let reason = "`check = \"sshd\"` is for TCP: sshd speaks nothing else";
        out.mistake(
            &check.place,
            reason,
            "leave `check` out, and ask the service by a [[check]] of your own",
        );
    }
}

/// A slice with fewer ports than this is worth a word.
const SLICE_MIN: usize = 32;

/// Into how many slices the ports of a service are dealt.
fn slices(draft: &ServiceDraft, highest: Option<NodeId>, out: &mut Diagnostics) -> u8 {
    // Over TCP it is a mistake that has been reported.
    let by_socket = draft.transport == Transport::Udp && matches!(draft.answerer.value, Answerer::Socket(_));
    if !by_socket {
        if let Some(slices) = &draft.slices {
            let reason = "`slices` counts only with owner = \"socket\"";
            out.mistake(&slices.place, reason, "leave `slices` out, or add owner = \"socket\"");
        }
        return 1;
    }
    let least = highest.map_or(slice::SLICES, slice::slices_for);
    let count = match &draft.slices {
        None => least,
        Some(given) => {
            let count = given.value as u8;
            let highest = highest.map_or(1, NodeId::get);
            if !count.is_power_of_two() || count < highest {
                let reason =
                    format!("{count} slices are not possible for nodes with numbers up to {highest}");
                let remedy = format!(
                    "write a power of two from {} to {SLICES_MAX}: every node number has a slice, and doubling must \
                     move no node's ports to another that has some",
                    highest.next_power_of_two()
                );
                out.mistake(&given.place, reason, remedy);
                return least;
            }
            count
        }
    };
    let ports = draft.ports.value.clone().count();
    // With TCP the service is a mistake anyway.
    if draft.transport == Transport::Udp && ports / usize::from(count) < SLICE_MIN {
        let place = draft.slices.as_ref().map_or(&draft.ports.place, |given| &given.place);
        let each = ports / usize::from(count);
        let reason =
            format!("{ports} ports in {count} slices leave {each} for each node: no more sessions at a time");
        out.push(Diagnostic::advice(
            place,
            reason,
            "take a larger range, or fewer `slices` if node numbers stay low",
        ));
    }
    count
}

/// Fragments have no ports, so a datagram in pieces cannot hash as one in one piece does.
fn pieces(draft: &ServiceDraft, service: &VipService, vip: HashMode, out: &mut Diagnostics) {
    let counts_ports = matches!(service.hash, HashMode::SourceIpPort | HashMode::SourceIpPortDestPort);
    let differs = counts_ports || service.hash != vip;
    if service.transport != Transport::Udp || service.answerer != Answerer::Bucket || !differs {
        return;
    }
    let place = draft.hash.as_ref().map_or(&draft.ports.place, |word| &word.place);
    let reason = "datagrams in fragments, which have no ports, may meet another node than whole ones";
    let remedy = "good for a service that answers each datagram by itself, as DNS does; else hash it as the VIP, by \
                  \"source-ip\" or \"source-net\"";
    out.push(Diagnostic::advice(place, reason, remedy));
}
