//! `rbox net`: the way of a packet, drawn and traced.

use std::fmt::Write as _;
use std::net::SocketAddr;

use clap::Parser;
use rbox_engine::packet::{self, Place, Probe, Step, Target, Trace, World};
use rbox_engine::spec::port::Protocol;
use serde_json::Value;

use crate::command::entry::Execute;
use crate::command::error::{NOT_DONE, bad_input};
use crate::command::global::Global;
use crate::network::{net_mermaid, net_tree};
use crate::output::{escape, table};

/// Draw the way of packets between the outside, the networks and their containers
#[derive(Debug, Parser)]
#[command(
    name = "net",
    after_help = "Examples:
  rbox net                                # all networks with their containers
  rbox net web                            # from the outside to the program in web
  rbox net back                           # one network
  rbox net --format mermaid > net.mmd     # a flowchart, as Markdown shows it
  rbox net --format json web
  rbox net trace web db:5432              # does a connection arrive, and if not, why

To draw a container called trace: rbox net -- trace"
)]
pub(crate) struct Net {
    /// How it is drawn: 'text', 'mermaid', 'json', or a Go template
    #[arg(
        long,
        default_value = "text",
        value_parser = |given: &str| table::word_or_template(given, &["text", "mermaid", "json"]),
    )]
    format: String,
    /// A container or a network; all networks when none is named
    name: Option<String>,
}

impl Execute for Net {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        global.engine.running()?;
        let drawing = global.engine.draw_networks(self.name.as_deref())?;
        let Some(drawing) = drawing else {
            let name = self.name.unwrap_or_default();
            anyhow::bail!("No such container or network: {name}");
        };
        let text = match self.format.as_str() {
            "text" | "" => net_tree::draw(&drawing, self.name.is_some()),
            "mermaid" => net_mermaid::draw(&drawing),
            format => table::document(format, &serde_json::to_value(&drawing)?)?,
        };
        table::write_all(&mut std::io::stdout(), &text)?;
        Ok(0)
    }
}

/// Tell step by step how a connection would go, and where it would be stopped
#[derive(Debug, Parser)]
#[command(
    name = "trace",
    after_help = "Examples:
  rbox net trace web db:5432              # from the container web to what it calls db
  rbox net trace web host:22              # to this host
  rbox net trace host web:80              # from this host to a container's address
  rbox net trace host localhost:8080      # to a published port
  rbox net trace outside host:8080        # from another host on the link
  rbox net trace web 10.1.2.3:53/udp
  rbox net trace --probe web db:5432      # and connect, to see whether the kernel agrees

Exit code: 0 when it reaches, 1 when it is stopped, 125 for bad input. With --probe what really
happened counts."
)]
pub(crate) struct NetTrace {
    /// How it is printed: 'text', 'json', or a Go template
    #[arg(
        long,
        default_value = "text",
        value_parser = |given: &str| table::word_or_template(given, &["text", "json"]),
    )]
    format: String,
    /// Also make the connection (TCP, for 2 seconds at most)
    #[arg(long)]
    probe: bool,
    /// A container, `host`, or `outside` for another host on the link
    #[arg(value_name = "SRC")]
    source: String,
    /// A name as SRC uses it, a container, an address, `host` or `localhost`; with the port
    #[arg(value_name = "DST:PORT[/PROTO]")]
    destination: String,
}

impl Execute for NetTrace {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let target: Target = self.destination.parse().map_err(bad_input)?;
        if self.probe && (self.source == "outside" || target.protocol != Protocol::Tcp) {
            return Err(bad_input("--probe makes TCP connections, from a container or from host"));
        }
        global.engine.running()?;
        let (world, kernel) = global.engine.world()?;
        let (trace, pid) = match place(global, &world, &self.source)? {
            Ok(from) => {
                let pid = match &from {
                    Place::Container(at) => world.nodes.get(*at).map(|node| node.pid),
                    Place::Host | Place::Outside => None,
                };
                (packet::walk(&world, &kernel, &from, &target)?, pid)
            }
            Err(why) => (Trace::not_running(&self.source, &target, why), None),
        };
        // A container that is paused, or does not run, connects to nothing.
        let sends = !trace.steps.iter().any(|step| step.step == "source" && !trace.reaches);
        let probe = match trace.address.filter(|_| self.probe && sends) {
            Some(ip) => Some(packet::probe(pid, SocketAddr::new(ip, target.port), trace.reaches)?),
            None => None,
        };
        let text = match self.format.as_str() {
            "text" | "" => told(&trace, probe.as_ref(), self.probe),
            format => {
                let mut value = serde_json::to_value(&trace)?;
                if let (Value::Object(fields), true) = (&mut value, self.probe) {
                    fields.insert("Probe".into(), serde_json::to_value(&probe)?);
                }
                table::document(format, &value)?
            }
        };
        table::write_all(&mut std::io::stdout(), &text)?;
        let reached = probe.map_or(trace.reaches, |probe| probe.connected);
        Ok(if reached { 0 } else { NOT_DONE })
    }
}

/// Where a trace begins; why not there, for a container that does not run.
fn place(global: &Global, world: &World, source: &str) -> anyhow::Result<Result<Place, &'static str>> {
    match source {
        "host" => return Ok(Ok(Place::Host)),
        "outside" => return Ok(Ok(Place::Outside)),
        _ => {}
    }
    let container = global.engine.container(source).map_err(bad_input)?;
    let found = world.node(container.record.id.as_str()).map(Place::Container);
    Ok(found.ok_or(container.status.as_str()))
}

/// A trace as lines: verdict, step, explanation; then how it ends.
fn told(trace: &Trace, probe: Option<&Probe>, asked: bool) -> String {
    let mut out = String::new();
    for step in &trace.steps {
        let line = format!("{:<8} {:<11} {}", step.verdict.as_str(), step.step, explained(step));
        let _ = writeln!(out, "{}", escape::text(line.trim_end()));
    }
    match probe {
        Some(probe) => {
            let verdict = if probe.agrees { "ok" } else { "differs" };
            let agrees = if probe.agrees { "as traced" } else { "not as traced" };
            let took = probe.microseconds as f64 / 1000.0;
            let _ = writeln!(
                out,
                "{verdict:<8} {:<11} {} in {took:.1} ms, {agrees}",
                "probe",
                escape::text(&probe.result)
            );
        }
        None if asked => {
            let _ = writeln!(out, "{:<8} {:<11} there is no address to connect to", "-", "probe");
        }
        None => {}
    }
    let _ = writeln!(out, "{}", escape::text(&ending(trace)));
    out
}

fn explained(step: &Step) -> String {
    match &step.rule {
        None => step.text.clone(),
        Some(rule) if rule.rule.is_empty() => {
            format!("{} (table {}, chain {})", step.text, rule.table, rule.chain)
        }
        Some(rule) => format!("{} (table {}, chain {}: {})", step.text, rule.table, rule.chain, rule.rule),
    }
}

fn ending(trace: &Trace) -> String {
    if let Some(stopped) = &trace.stopped {
        let advice = if stopped.advice.is_empty() { String::new() } else { format!(": {}", stopped.advice) };
        return format!("=> stopped by {}{advice}", stopped.by);
    }
    let arrival = trace.arrival.as_deref().unwrap_or_default();
    match trace.if_only.as_slice() {
        [] => format!("=> reaches {arrival}"),
        conditions => format!("=> reaches {arrival}, if {}", conditions.join(" and ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rbox_engine::packet::{Rule, Stopped, Verdict};

    fn trace() -> Trace {
        Trace {
            source: "web".into(),
            destination: "db:1/tcp".into(),
            address: None,
            port: 1,
            protocol: Protocol::Tcp,
            steps: vec![Step {
                verdict: Verdict::Stopped,
                step: "forward",
                text: "kept\u{1b}[2J apart".into(),
                rule: Some(Rule {
                    table: "ip rbox".into(),
                    chain: "forward".into(),
                    rule: "oifname @bridges drop".into(),
                }),
            }],
            reaches: false,
            arrival: None,
            if_only: Vec::new(),
            stopped: Some(Stopped { by: "the rules".into(), advice: "rbox network connect".into() }),
        }
    }

    #[test]
    fn a_line_a_step() {
        assert_eq!(
            told(&trace(), None, false),
            "stopped  forward     kept\\x1b[2J apart (table ip rbox, chain forward: oifname @bridges drop)\n\
             => stopped by the rules: rbox network connect\n"
        );
        let reaches = Trace {
            steps: Vec::new(),
            reaches: true,
            arrival: Some("nginx in db".into()),
            if_only: vec!["a".into(), "b".into()],
            stopped: None,
            ..trace()
        };
        assert_eq!(told(&reaches, None, false), "=> reaches nginx in db, if a and b\n");
        let unreached = told(&reaches, None, true);
        assert!(
            unreached.starts_with("-        probe       there is no address to connect to\n"),
            "{unreached}"
        );
        let evil = Trace { arrival: Some("a\u{1b}b".into()), if_only: Vec::new(), ..reaches.clone() };
        assert_eq!(told(&evil, None, false), "=> reaches a\\x1bb\n");
        let mut whole = trace();
        whole.steps[0].rule.as_mut().unwrap().rule.clear();
        let text = told(&whole, None, false);
        assert!(text.contains(" (table ip rbox, chain forward)\n"), "{text}");
        let probe = Probe {
            connected: false,
            result: "connection refused".into(),
            microseconds: 1500,
            agrees: false,
        };
        let text = told(&reaches, Some(&probe), true);
        assert!(
            text.starts_with("differs  probe       connection refused in 1.5 ms, not as traced\n"),
            "{text}"
        );
    }
}
