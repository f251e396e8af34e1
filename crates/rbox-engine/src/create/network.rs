//! Options that have no meaning with the network mode.

use rbox_spec::container::NetworkMode;

use crate::create::request::CreateRequest;
use crate::error::EngineError;
use crate::networks::resolve::refuse;

/// Refuses options that have no meaning with the network mode: Docker's words.
pub(crate) fn check(request: &CreateRequest) -> Result<(), EngineError> {
    let (config, host) = (&request.config, &request.host);
    let conflict = |what: &str| refuse(format!("conflicting options: {what}"));
    if host.uts_host && !(config.hostname.is_empty() && config.domainname.is_empty()) {
        return conflict("hostname and the UTS mode");
    }
    match host.network {
        NetworkMode::Container(_) => {
            if !config.hostname.is_empty() {
                return conflict("hostname and the network mode");
            }
            if !host.links.is_empty() {
                return conflict(
                    "container type network can't be used with links. This would result in undefined behavior",
                );
            }
            if !host.dns.is_empty() || !host.dns_search.is_empty() || !host.dns_options.is_empty() {
                return conflict("dns and the network mode");
            }
            if !host.extra_hosts.is_empty() {
                return conflict("custom host-to-IP mapping and the network mode");
            }
            if !host.ports.is_empty() || host.publish_all {
                return conflict("port publishing and the container type network mode");
            }
            if !config.exposed_ports.is_empty() {
                return conflict("port exposing and the container type network mode");
            }
        }
        NetworkMode::Host if !host.links.is_empty() => {
            return conflict(
                "host type networking can't be used with links. This would result in undefined behavior",
            );
        }
        NetworkMode::Host | NetworkMode::None | NetworkMode::Bridge => {}
    }
    Ok(())
}
