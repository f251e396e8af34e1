//! `rbox compose graph`: the services of a project, what they wait for, and what they share, as a picture.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use clap::{Parser, ValueEnum};
use rbox_compose::model::{Project, Service};

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::compose::chosen::not_done;
use crate::compose::graph::{Graph, Until};
use crate::compose::project::{load, options};
use crate::network::net_mermaid::label;
use crate::output::escape;
use crate::output::svg;
use crate::output::table::write_all;

/// Draw the services of a project, what they wait for, and what they share
#[derive(Debug, Parser)]
#[command(
    name = "graph",
    after_help = "Examples:
  rbox compose graph                               # a tree, in the terminal
  rbox compose graph web                           # only web, and what it depends on
  rbox compose graph --format svg > shop.svg       # for a browser
  rbox compose graph --format mermaid              # for Markdown"
)]
pub(crate) struct GraphCommand {
    /// How it is drawn
    #[arg(long, value_enum, default_value_t = Form::Tree)]
    format: Form,
    /// Only these services, and what they depend on
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Tree,
    Mermaid,
    Svg,
}

impl Execute for GraphCommand {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done((|| {
            let mut wanted = options(global)?;
            wanted.services = self.services;
            wanted.resolve_environment = false;
            let loaded = load(&wanted)?;
            let picture = Picture { project: &loaded.project, graph: Graph::of_files(&loaded.project) };
            let text = match self.format {
                Form::Tree => picture.tree(),
                Form::Mermaid => picture.mermaid(),
                Form::Svg => picture.svg(),
            };
            write_all(&mut std::io::stdout(), &text)?;
            Ok(0)
        })())
    }
}

/// A project that is drawn.
struct Picture<'a> {
    project: &'a Project,
    graph: Graph,
}

/// A line, and what hangs on it.
struct Tree {
    text: String,
    under: Vec<Tree>,
}

impl Tree {
    fn new(text: impl Into<String>, under: Vec<Self>) -> Self {
        Self { text: text.into(), under }
    }

    fn write(&self, out: &mut String, first: &str, rest: &str) {
        let _ = writeln!(out, "{first}{}", escape::text(&self.text));
        for (at, tree) in self.under.iter().enumerate() {
            let last = at + 1 == self.under.len();
            let (branch, beside) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            tree.write(out, &format!("{rest}{branch}"), &format!("{rest}{beside}"));
        }
    }
}

impl<'a> Picture<'a> {
    fn tree(&self) -> String {
        let mut seen = BTreeSet::new();
        let names = self.graph.0.keys();
        let first = names.filter(|name| self.graph.dependents(name).next().is_none());
        let under = first.map(|name| self.service(name, &mut seen)).collect();
        let mut out = String::new();
        Tree::new(&self.project.name, under).write(&mut out, "", "");
        for (title, shared) in [("networks", self.networks()), ("volumes", self.volumes())] {
            if shared.is_empty() {
                continue;
            }
            let one = |(name, users): (String, Vec<String>)| {
                let users = if users.is_empty() { "no service".to_owned() } else { users.join(", ") };
                Tree::new(format!("{name}: {users}"), Vec::new())
            };
            out.push('\n');
            Tree::new(title, shared.into_iter().map(one).collect()).write(&mut out, "", "");
        }
        out
    }

    /// A service and what it waits for; what is drawn already is only named.
    fn service(&self, name: &'a str, seen: &mut BTreeSet<String>) -> Tree {
        let Some(service) = self.project.services.get(name) else { return Tree::new(name, Vec::new()) };
        let edges = self.graph.0.get(name).into_iter().flatten();
        if !seen.insert(name.to_owned()) {
            let more = if edges.count() > 0 { " (as above)" } else { "" };
            return Tree::new(format!("{name}{more}"), Vec::new());
        }
        let mut under: Vec<Tree> =
            about(service).into_iter().map(|line| Tree::new(line, Vec::new())).collect();
        for (other, edge) in self.graph.0.get(name).into_iter().flatten() {
            let Some((other, _)) = self.project.services.get_key_value(other) else { continue };
            let waits =
                format!("{}{}", waits(edge.until), if edge.required { "" } else { ", if it is there" });
            under.push(Tree::new(waits, vec![self.service(other, seen)]));
        }
        Tree::new(title(service, name, &self.project.name), under)
    }

    /// The networks, and who is on each.
    fn networks(&self) -> Vec<(String, Vec<String>)> {
        let of = |network: &str| {
            let on = self.project.services.iter().filter(|(_, one)| one.networks.contains_key(network));
            on.map(|(name, _)| name.clone()).collect()
        };
        let all = self.project.networks.iter();
        all.map(|(name, network)| {
            let kind = match (network.external, network.internal) {
                (true, _) => " (external)",
                (_, true) => " (internal)",
                _ => "",
            };
            (format!("{name}{kind}"), of(name))
        })
        .collect()
    }

    /// The volumes, and who mounts each where.
    fn volumes(&self) -> Vec<(String, Vec<String>)> {
        let of = |volume: &str| {
            let mut users = Vec::new();
            for (name, service) in &self.project.services {
                let own =
                    service.volumes.iter().filter(|mount| mount.source == volume && mount.kind == "volume");
                users.extend(own.map(|mount| {
                    let how = if mount.read_only { ", read-only" } else { "" };
                    format!("{name} ({}{how})", mount.target)
                }));
            }
            users
        };
        let all = self.project.volumes.iter();
        all.map(|(name, volume)| {
            let kind = if volume.external { " (external)" } else { "" };
            (format!("{name}{kind}"), of(name))
        })
        .collect()
    }

    /// Ids of our own, by name: what a project calls its things is no syntax of Mermaid's.
    fn ids<'n>(names: impl Iterator<Item = &'n String>, prefix: &str) -> BTreeMap<&'n str, String> {
        names.enumerate().map(|(at, name)| (name.as_str(), format!("{prefix}{at}"))).collect()
    }

    fn mermaid(&self) -> String {
        let mut out = "flowchart LR\n".to_owned();
        let services = Self::ids(self.project.services.keys(), "service");
        for (name, service) in &self.project.services {
            let mut lines = vec![name.clone()];
            lines.push(image(service, name, &self.project.name));
            lines.extend(ports(service));
            let _ = writeln!(out, "  {}[\"{}\"]", services[name.as_str()], label(&lines));
        }
        for (name, edges) in &self.graph.0 {
            for (other, edge) in edges {
                let (Some(from), Some(to)) = (services.get(name.as_str()), services.get(other.as_str()))
                else {
                    continue;
                };
                let text = label(&[short(edge.until).to_owned()]);
                let arrow = if edge.required { "-->" } else { "-.->" };
                let _ = writeln!(out, "  {from} {arrow}|\"{text}\"| {to}");
            }
        }
        let networks = Self::ids(self.project.networks.keys(), "network");
        for (name, id) in &networks {
            let _ = writeln!(out, "  {id}([\"{}\"])", label(&[format!("network {name}")]));
        }
        let volumes = Self::ids(self.project.volumes.keys(), "volume");
        for (name, id) in &volumes {
            let _ = writeln!(out, "  {id}[(\"{}\")]", label(&[format!("volume {name}")]));
        }
        for (name, service) in &self.project.services {
            let from = &services[name.as_str()];
            for id in service.networks.keys().filter_map(|name| networks.get(name.as_str())) {
                let _ = writeln!(out, "  {from} --- {id}");
            }
            for mount in &service.volumes {
                if let Some(id) = volumes.get(mount.source.as_str()).filter(|_| mount.kind == "volume") {
                    let _ = writeln!(
                        out,
                        "  {from} ---|\"{}\"| {id}",
                        label(std::slice::from_ref(&mount.target))
                    );
                }
            }
        }
        out
    }

    fn svg(&self) -> String {
        let place = |name: &String| self.project.services.keys().position(|other| other == name);
        let boxes = self.project.services.iter().map(|(name, service)| {
            let mut lines = vec![image(service, name, &self.project.name)];
            lines.extend(about(service));
            svg::Box { title: name.clone(), lines }
        });
        let mut arrows = Vec::new();
        for (name, edges) in &self.graph.0 {
            for (other, edge) in edges {
                if let (Some(from), Some(to)) = (place(name), place(other)) {
                    arrows.push(svg::Arrow {
                        from,
                        to,
                        text: short(edge.until).to_owned(),
                        dashed: !edge.required,
                    });
                }
            }
        }
        svg::draw(&self.project.name, &boxes.collect::<Vec<_>>(), &arrows)
    }
}

fn title(service: &Service, name: &str, project: &str) -> String {
    let many = if service.replicas() == 1 { String::new() } else { format!(" ×{}", service.replicas()) };
    format!("{name}{many}  {}", image(service, name, project))
}

/// The image, or that it is built.
fn image(service: &Service, name: &str, project: &str) -> String {
    let own = if service.image.is_empty() { format!("{project}-{name}") } else { service.image.clone() };
    if service.build.is_some() { format!("{own} (built)") } else { own }
}

/// What hangs on a service: ports, networks, volumes.
fn about(service: &Service) -> Vec<String> {
    let mut lines = ports(service);
    let networks: Vec<&str> = service.networks.keys().map(String::as_str).collect();
    if !service.network_mode.is_empty() {
        lines.push(format!("network {}", service.network_mode));
    } else if !networks.is_empty() {
        lines.push(format!("network {}", networks.join(", ")));
    }
    for mount in service.volumes.iter().filter(|mount| !mount.source.is_empty()) {
        let how = if mount.read_only { ", read-only" } else { "" };
        lines.push(format!("{} {} at {}{how}", mount.kind, mount.source, mount.target));
    }
    lines
}

fn ports(service: &Service) -> Vec<String> {
    let one = |port: &rbox_compose::model::Port| {
        let host = match (port.host_ip.as_str(), port.published.as_str()) {
            ("", "") => "any".to_owned(),
            ("", published) => published.to_owned(),
            (address, "") => format!("{address}:any"),
            (address, published) => format!("{address}:{published}"),
        };
        format!("port {host} → {}/{}", port.target, port.protocol)
    };
    service.ports.iter().map(one).collect()
}

fn waits(until: Until) -> &'static str {
    match until {
        Until::Started => "starts after",
        Until::Healthy => "waits until healthy",
        Until::RunningOrHealthy => "waits until running",
        Until::Completed => "waits until ended well",
    }
}

fn short(until: Until) -> &'static str {
    match until {
        Until::Started => "started",
        Until::Healthy => "healthy",
        Until::RunningOrHealthy => "running",
        Until::Completed => "completed",
    }
}
