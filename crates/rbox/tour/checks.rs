//! How it is seen that a task was done: by looking at what is there now, and at what happened. Only of commands that change nothing the
//! words are looked at.

use rbox_engine::engine::Container;
use rbox_engine::spec::VolumeName;

use crate::container::process::Process;
use crate::tour::scene::{Scene, listens, name_of_host as host, page, shared, user_of};
use crate::tour::station::Seen;

const PORT: u16 = 8000;
/// The exit codes of a program that SIGKILL and SIGTERM have ended.
const KILLED: i32 = 137;
const TERMINATED: i32 = 143;

/// Whether `holds`, or what is missing.
fn or(holds: bool, missing: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(missing.into()) }
}

pub(super) fn one_runs(scene: &Scene<'_>) -> Seen {
    let (_, pid) = scene.running("tour-one")?;
    let process = Process::read(pid).ok_or("It has ended already.")?;
    or(process.inside.last() == Some(&1), "Its process is not PID 1 in there.")?;
    Ok(format!("tour-one runs. Its process is PID 1 inside, and PID {pid} on this host."))
}

pub(super) fn looked_pid(scene: &Scene<'_>) -> Seen {
    scene.looked("pid", "tour-one").map(|()| String::new())
}

pub(super) fn host_pid(scene: &Scene<'_>) -> Seen {
    scene.running("tour-one").map(|(_, pid)| pid.to_string())
}

pub(super) fn ps_inside(scene: &Scene<'_>) -> Seen {
    let (container, _) = scene.running("tour-one")?;
    let code = scene.executed("tour-one", "ps").ok_or("ps did not run in tour-one.")?;
    or(code == 0, format!("ps ended with {code}."))?;
    let inside = scene.engine.processes(&container).map_or(0, |all| all.len());
    let is_pid = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let outside = all.filter(|entry| is_pid(&entry.file_name())).count();
    Ok(format!(
        "ps ran in there. Besides itself there is {inside} in the container; this host has {outside}."
    ))
}

pub(super) fn exec_joined(scene: &Scene<'_>) -> Seen {
    let (container, first) = scene.running("tour-one")?;
    let all = scene.engine.processes(&container).map_err(|error| error.to_string())?;
    let joined = all.into_iter().find(|pid| *pid != first);
    let joined = joined.ok_or("There is no second process in tour-one.")?;
    let together = shared(&first.to_string(), &joined.to_string());
    or(!together.is_empty(), "It has ended already.")?;
    let inside = Process::read(joined).and_then(|process| process.inside.last().copied()).unwrap_or_default();
    Ok(format!(
        "The second process is PID {inside} inside and {joined} on this host. It is in the same namespaces as PID 1 ({}), and in the same control group.",
        together.join(", ")
    ))
}

pub(super) fn looked_ns(scene: &Scene<'_>) -> Seen {
    scene.looked("ns", "tour-one").map(|()| String::new())
}

pub(super) fn has_own_hostname(scene: &Scene<'_>) -> Seen {
    let (container, pid) = scene.running("tour-box")?;
    let name = &container.record.config.hostname;
    or(name == "box", format!("Its host name is {name}, not box."))?;
    or(!shared("self", &pid.to_string()).contains(&"uts"), "It has no UTS namespace of its own.")?;
    Ok(format!("tour-box runs, and is in a UTS namespace of its own: there its name is {name}."))
}

pub(super) fn hostname_asked(scene: &Scene<'_>) -> Seen {
    match scene.executed("tour-box", "hostname") {
        Some(0) => Ok(String::new()),
        _ => Err("hostname did not run in tour-box.".to_owned()),
    }
}

pub(super) fn hostname_refused(scene: &Scene<'_>) -> Seen {
    match scene.executed("tour-box", "hostname") {
        Some(0) => Err("That has asked for the name and changed nothing.".to_owned()),
        Some(code) => Ok(format!("It was refused, and ended with {code}.")),
        None => Err("hostname did not run in tour-box.".to_owned()),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the form of all checks")]
pub(super) fn name_of_host(_: &Scene<'_>) -> Seen {
    Ok(host())
}

pub(super) fn note_written(scene: &Scene<'_>) -> Seen {
    let (container, _) = scene.running("tour-one")?;
    or(scene.has_changed(&container, "/note"), "tour-one has no file /note.")?;
    Ok("tour-one has a file /note, which its image has not.".to_owned())
}

pub(super) fn looked_fs(scene: &Scene<'_>) -> Seen {
    scene.looked("fs", "tour-one").map(|()| String::new())
}

pub(super) fn upper_directory(scene: &Scene<'_>) -> Seen {
    let upper = scene.upper(&scene.container("tour-one")?)?;
    Ok(upper.display().to_string())
}

pub(super) fn second_has_no_note(scene: &Scene<'_>) -> Seen {
    let code = scene.exit_code("tour-two")?;
    let container = scene.container("tour-two")?;
    or(container.record.config.cmd.iter().any(|word| word == "/note"), "It did not look for /note.")?;
    or(code != 0 && !scene.has_changed(&container, "/note"), "It has found one.")?;
    Ok(format!("tour-two found no /note, and ended with {code}."))
}

pub(super) fn out_of_memory(scene: &Scene<'_>) -> Seen {
    let code = scene.exit_code("tour-big")?;
    let container = scene.container("tour-big")?;
    let limit = container.record.host.resources.memory;
    or(limit.is_some(), "tour-big has no limit: -m 32m sets one. Remove it first (rbox rm tour-big).")?;
    let killed = container.exit.is_some_and(|exit| exit.oom_killed);
    or(killed && code == KILLED, format!("It ended with {code}, and memory did not run out."))?;
    Ok("The kernel has killed it: its group was out of memory.".to_owned())
}

pub(super) fn code_of_big(scene: &Scene<'_>) -> Seen {
    scene.exit_code("tour-big").map(|code| code.to_string())
}

pub(super) fn looked_why(scene: &Scene<'_>) -> Seen {
    scene.looked("why", "tour-big").map(|()| String::new())
}

pub(super) fn web_serves(scene: &Scene<'_>) -> Seen {
    let (_, pid) = scene.running("tour-web")?;
    or(listens(pid, PORT), "tour-web runs, and nobody listens on port 8000 in there.")?;
    Ok("tour-web listens on port 8000, in its own network namespace.".to_owned())
}

pub(super) fn asks_itself(scene: &Scene<'_>) -> Seen {
    let code = scene.exit_code("tour-asks")?;
    let container = scene.container("tour-asks")?;
    or(
        container
            .record
            .config
            .cmd
            .iter()
            .any(|word| word.contains("127.0.0.1") || word.contains("localhost")),
        "It has asked for another address.",
    )?;
    or(code != 0, "It got an answer: it shares a network namespace with somebody.")?;
    let (_, pid) = scene.running("tour-web")?;
    or(listens(pid, PORT), "tour-web does not listen any more.")?;
    Ok(format!("It was refused (exit code {code}), while tour-web listened all the time."))
}

pub(super) fn shared_network(scene: &Scene<'_>) -> Seen {
    scene.running("tour-web")?;
    let said = scene.ran.is_some_and(|ran| ran.words.iter().any(|word| word.contains("container:")));
    or(said, "It was not in the network namespace of tour-web.")?;
    or(scene.ended().iter().any(|(_, code)| *code == 0), "No container got the page.")?;
    Ok("It got the page at 127.0.0.1.".to_owned())
}

pub(super) fn address_of_web(scene: &Scene<'_>) -> Seen {
    let (container, _) = scene.running("tour-web")?;
    let address =
        container.live.and_then(|live| live.main_endpoint().map(|endpoint| endpoint.ip.to_string()));
    address.ok_or_else(|| "It has no address.".to_owned())
}

pub(super) fn exposed_only(scene: &Scene<'_>) -> Seen {
    let (container, pid) = scene.running("tour-exposed")?;
    let exposed = container.record.config.exposed_ports.iter().any(|port| port.starts_with("8000"));
    or(exposed, "It does not expose port 8000.")?;
    or(published_ports(&container).is_empty(), "It is published as well: leave out -p and -P.")?;
    or(listens(pid, PORT), "Nobody listens on port 8000 in there.")?;
    Ok("tour-exposed listens on port 8000, and no port of this host leads to it.".to_owned())
}

fn published_ports(container: &Container) -> Vec<u16> {
    let live = container.live.as_ref();
    let ports = live.into_iter().flat_map(|live| &live.published).filter(|port| port.container_port == PORT);
    ports.map(|port| port.host_port).collect()
}

pub(super) fn published(scene: &Scene<'_>) -> Seen {
    let (container, _) = scene.running("tour-public")?;
    let port = published_ports(&container).first().copied().ok_or("Its port 8000 is not published.")?;
    let page = page(port).ok_or_else(|| format!("Nobody answers on port {port} of this host."))?;
    Ok(format!("The tour has asked 127.0.0.1:{port}, and got: {}", crate::output::escape::text(&page)))
}

pub(super) fn public_port(scene: &Scene<'_>) -> Seen {
    let (container, _) = scene.running("tour-public")?;
    let port = published_ports(&container).first().copied();
    port.map(|port| port.to_string()).ok_or_else(|| "Its port is not published.".to_owned())
}

pub(super) fn lost_written(scene: &Scene<'_>) -> Seen {
    scene.exit_code("tour-lost")?;
    let container = scene.container("tour-lost")?;
    or(scene.has_changed(&container, "/data/note"), "tour-lost has not written /data/note.")?;
    Ok("tour-lost has /data/note in its upper layer.".to_owned())
}

pub(super) fn lost_removed(scene: &Scene<'_>) -> Seen {
    or(scene.engine.container("tour-lost").is_err(), "tour-lost is still there.")?;
    Ok("tour-lost is gone, with its layer.".to_owned())
}

/// The directory of the volume, which is there.
fn volume(scene: &Scene<'_>) -> Result<std::path::PathBuf, String> {
    let name: VolumeName = "tour-data".parse().map_err(|_| "That is no name of a volume.")?;
    let volumes = scene.engine.volumes();
    let there = volumes.get(&name).ok().flatten();
    or(there.is_some(), "There is no volume tour-data.")?;
    Ok(volumes.mountpoint(&name))
}

pub(super) fn volume_made(scene: &Scene<'_>) -> Seen {
    volume(scene).map(|_| "The volume tour-data is there, and empty.".to_owned())
}

pub(super) fn volume_written(scene: &Scene<'_>) -> Seen {
    let note = volume(scene)?.join("note");
    or(note.symlink_metadata().is_ok(), "There is no file note in the volume.")?;
    Ok("The volume has a file note.".to_owned())
}

pub(super) fn volume_read(scene: &Scene<'_>) -> Seen {
    volume_written(scene)?;
    let read = scene.ran.is_some_and(|ran| ran.words.iter().any(|word| word.starts_with("tour-data:")));
    or(read, "The volume was not mounted: -v tour-data:/data.")?;
    or(scene.ended().iter().any(|(_, code)| *code == 0), "No container has read it.")?;
    Ok("Another container has read it.".to_owned())
}

pub(super) fn volume_directory(scene: &Scene<'_>) -> Seen {
    volume(scene).map(|dir| dir.display().to_string())
}

pub(super) fn stopped_deaf(scene: &Scene<'_>) -> Seen {
    let code = scene.exit_code("tour-deaf")?;
    or(code == KILLED, format!("It ended with {code}: something else than stop has ended it."))?;
    let took = scene.ran.map_or(0.0, |ran| ran.took.as_secs_f64());
    Ok(format!("It took {took:.1} seconds, and then tour-deaf was killed (exit code {KILLED})."))
}

pub(super) fn has_init(scene: &Scene<'_>) -> Seen {
    let (container, _) = scene.running("tour-heard")?;
    or(
        container.record.host.init,
        "tour-heard has no init: remove it (rbox rm -f tour-heard) and give --init.",
    )?;
    Ok("tour-heard runs, with the small init as PID 1.".to_owned())
}

pub(super) fn stopped_heard(scene: &Scene<'_>) -> Seen {
    let code = scene.exit_code("tour-heard")?;
    or(code == TERMINATED, format!("It ended with {code}: something else than stop has ended it."))?;
    let took = scene.ran.map_or(0.0, |ran| ran.took.as_secs_f64());
    Ok(format!("It took {took:.1} seconds: SIGTERM has ended it (exit code {TERMINATED}, 128 + 15)."))
}

pub(super) fn committed(scene: &Scene<'_>) -> Seen {
    let (image, base) = (layers_of(scene, "tour-image")?, layers_of(scene, "hello")?);
    or(image == base + 1, "tour-image is not the image of tour-one's changes.")?;
    Ok(format!("tour-image is there, with {base} layer of hello and one above."))
}

fn layers_of(scene: &Scene<'_>, name: &str) -> Result<usize, String> {
    let image = scene.engine.images().ok().and_then(|store| store.find(name).ok().flatten());
    image.map(|image| image.layers.len()).ok_or_else(|| format!("There is no image {name}."))
}

pub(super) fn one_removed(scene: &Scene<'_>) -> Seen {
    layers_of(scene, "tour-image")?;
    or(scene.engine.container("tour-one").is_err(), "tour-one is still there.")?;
    Ok("tour-one is gone; tour-image is there.".to_owned())
}

pub(super) fn copy_has_note(scene: &Scene<'_>) -> Seen {
    let code = scene.exit_code("tour-copy")?;
    let container = scene.container("tour-copy")?;
    or(container.record.image.starts_with("tour-image"), "It is not of tour-image.")?;
    or(code == 0, format!("It ended with {code}."))?;
    or(!scene.has_changed(&container, "/note"), "It has written /note itself.")?;
    Ok("tour-copy has read /note, which it has from the image.".to_owned())
}

pub(super) fn layers_of_image(scene: &Scene<'_>) -> Seen {
    layers_of(scene, "tour-image").map(|layers| layers.to_string())
}

pub(super) fn unshared(scene: &Scene<'_>) -> Seen {
    let new = scene.ran.map(|ran| ran.new_namespaces.clone()).unwrap_or_default();
    let wanted = ["mnt", "pid", "uts"];
    let missing: Vec<&str> = wanted.into_iter().filter(|kind| !new.contains(kind)).collect();
    if !missing.is_empty() {
        return Err(format!("No process was seen in a new namespace of these: {}.", missing.join(", ")));
    }
    let new: Vec<&str> = new.into_iter().collect();
    Ok(format!("Its process was in new namespaces of {}; the tour has looked in /proc.", new.join(", ")))
}

pub(super) fn explained(scene: &Scene<'_>) -> Seen {
    let said = scene.ran.is_some_and(|ran| ran.words.iter().any(|word| word.starts_with("--explain")));
    or(said, "It was not explained: rbox run --explain.")?;
    or(!scene.ended().is_empty(), "No container has run.")?;
    Ok(String::new())
}

pub(super) fn uid_of_root(scene: &Scene<'_>) -> Seen {
    let (_, pid) = scene.running("tour-root")?;
    user_of(pid).map(|user| user.to_string())
}

pub(super) fn is_mapped(scene: &Scene<'_>) -> Seen {
    let (_, pid) = scene.running("tour-mapped")?;
    or(
        !shared("self", &pid.to_string()).contains(&"user"),
        "It has no user namespace of its own: remove it (rbox rm -f tour-mapped) and give --uidmap.",
    )?;
    let user = user_of(pid)?;
    Ok(format!("tour-mapped has a user namespace of its own. Its user 0 is {user} on this host."))
}

pub(super) fn id_asked(scene: &Scene<'_>) -> Seen {
    match scene.executed("tour-mapped", "id") {
        Some(0) => Ok(String::new()),
        _ => Err("id did not run in tour-mapped.".to_owned()),
    }
}

pub(super) fn uid_of_mapped(scene: &Scene<'_>) -> Seen {
    let (_, pid) = scene.running("tour-mapped")?;
    user_of(pid).map(|user| user.to_string())
}
