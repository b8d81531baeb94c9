//! What a new configuration means for the engines: other settings, other keys, other nodes to ask.

use super::neighbour_probe;
use super::start::engine_config;
use crate::base::beat_loop::BeatLoopHandle;
use crate::base::command::{Command, ProbeRequest};
use crate::base::current::Configured;
use crate::base::identity;
use crate::base::mailbox::Mailbox;
use crate::control::reload::{Apply, Reload};
use crate::rpc::transport::{RpcCommand, RpcHandle};
use onevip_config::Membership;

/// The engines, as far as a new configuration concerns them.
pub struct Engines {
    /// Where they turn.
    pub beat_loop: BeatLoopHandle,
    /// Who seals messages with the same keys.
    pub rpc: RpcHandle,
    /// Who asks kernels.
    pub probe: Mailbox<ProbeRequest>,
}

impl Reload for Engines {
    /// Reads the keys.
    fn prepare<'a>(&'a self, old: &'a Configured, new: &'a Configured) -> anyhow::Result<Apply<'a>> {
        let living = new.config.membership == Membership::Living;
        let keyring = living.then(|| identity::keyring(&new.config)).transpose()?;
        Ok(Box::new(move || {
            if let Some(keyring) = keyring {
                for (index, vip) in new.plan.vips.iter().enumerate() {
                    let config = Box::new(engine_config(&new.config, &new.plan, vip));
                    let sealer = Box::new(identity::sealer(&keyring, &new.config, vip));
                    self.beat_loop.send(Command::Reconfigure { vip: index, config, sealer });
                }
                self.rpc.try_send(RpcCommand::Rekey(keyring));
            }
            self.ask_others(old, new);
            Ok(())
        }))
    }
}

impl Engines {
    /// Nodes that have other addresses are asked there.
    fn ask_others(&self, old: &Configured, new: &Configured) {
        let me = new.plan.node.id;
        let before = neighbour_probe::others(&old.config, me);
        let after = neighbour_probe::others(&new.config, me);
        if before != after {
            let moved =
                before.iter().chain(&after).filter(|one| !(before.contains(one) && after.contains(one)));
            self.beat_loop.send(Command::AddressesChanged(moved.map(|(node, _)| *node).collect()));
            self.probe.send(ProbeRequest::Nodes(after));
        }
    }
}
