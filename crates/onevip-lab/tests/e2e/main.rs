//! The cluster end to end: the real daemon, real OpenSSH, real packets, in network namespaces.
//!
//! One module for each promise that is put to the test; what they share is in `common`. Stories about the way of a packet
//! are told in every way of attaching (see [`common::Mode`]). Needs root. Each test has a lab of its own name, so they
//! run side by side; a test of timing asserts a generous bound and prints what it measured (`--nocapture`).

#![allow(clippy::unwrap_used)]

mod addresses;
mod answers;
mod arp;
mod common;
mod fragments;
mod frugality;
mod idle;
mod import;
mod ipv6;
mod late_at_boot;
mod lease;
mod mapping;
mod mapping_ipv6;
mod mosh;
mod mptcp;
mod mtu;
mod nat;
mod operator_errors;
mod other_programs;
mod repair;
mod router;
mod second_nic;
mod services;
mod sessions;
mod stale_sockets;
mod static_rules;
mod syn_flood;
mod teardown;
#[path = "../common/terminal.rs"]
mod terminal;
mod trace;
mod vip_removal;
