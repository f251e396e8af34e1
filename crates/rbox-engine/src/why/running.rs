//! Why a container that runs is not healthy, or is not reached. Nothing is read here.

use std::net::IpAddr;

use rbox_spec::port::PublishedPort;

use crate::networks::sockets::{Listening, Socket, listening};
use crate::record::health::{Health, HealthStatus};
use crate::why::cause::Cause;

/// What its health checks say against it.
pub(super) fn health(command: &[String], health: &Health) -> Option<Cause> {
    let failed = health.log.last().filter(|last| last.exit_code != 0);
    match (health.status, failed) {
        (_, Some(last)) => Some(Cause::Unhealthy {
            command: command.to_vec(),
            failures: health.failing_streak,
            exit_code: last.exit_code,
            output: last.output.clone(),
            still_starting: health.status != HealthStatus::Unhealthy,
        }),
        (HealthStatus::Starting, None) => Some(Cause::HealthStarting),
        (HealthStatus::Healthy | HealthStatus::Unhealthy, None) => None,
    }
}

/// The name server that rbox gives each container: not a program of its own.
const RESOLVER: &str = "127.0.0.11";

/// What keeps its ports from being reached at its address.
pub(super) fn ports(published: &[PublishedPort], address: Option<IpAddr>, sockets: &[Socket]) -> Vec<Cause> {
    let Some(address) = address else { return Vec::new() };
    let own: Vec<Socket> =
        sockets.iter().filter(|socket| socket.address.to_string() != RESOLVER).cloned().collect();
    let mut all: Vec<Cause> = Vec::new();
    let mut told = Vec::new();
    for port in published {
        // One that is published twice, such as for IPv6 too, is told once.
        if told.contains(&port.container()) {
            continue;
        }
        told.push(port.container());
        let shown = port.container().to_string();
        match listening(&own, port.proto, address, port.container_port) {
            Listening::By(_) if port.host_ip.is_loopback() => {
                all.push(Cause::PublishedHere { published: port.host() });
            }
            Listening::By(_) => {}
            Listening::Elsewhere(addresses) => all.push(Cause::ListensElsewhere {
                port: shown,
                published: port.host(),
                addresses: addresses.iter().map(ToString::to_string).collect(),
            }),
            Listening::Nobody => {
                let others = own.iter().filter(|socket| socket.protocol == port.proto);
                let mut others: Vec<String> = others.map(shown_socket).collect();
                others.dedup();
                all.push(Cause::NobodyListens { port: shown, published: port.host(), others });
            }
        }
    }
    if published.is_empty() {
        let mut ports: Vec<String> =
            own.iter().filter(|socket| !socket.address.is_loopback()).map(shown_socket).collect();
        ports.dedup();
        if !ports.is_empty() {
            all.push(Cause::NotPublished { ports, address: address.to_string() });
        }
    }
    all
}

/// `80/tcp`, and where it listens when that is not everywhere.
fn shown_socket(socket: &Socket) -> String {
    let port = format!("{}/{}", socket.port, socket.protocol);
    if socket.address.is_unspecified() { port } else { format!("{port} ({})", socket.address) }
}
