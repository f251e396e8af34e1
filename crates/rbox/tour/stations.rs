//! The stations of the tour, with all that it says. How each task is seen to be done is in `checks.rs`.
//!
//! docs/lesson.md is the same for teachers; a test holds that it has every station and every command.

use crate::tour::checks;
use crate::tour::station::{Kind, Station, Task};

const fn todo(
    wanted: &'static str,
    line: &'static str,
    check: fn(&crate::tour::scene::Scene<'_>) -> crate::tour::station::Seen,
    then: &'static str,
) -> Task {
    Task { wanted, kind: Kind::Do { line, check }, then }
}

const fn ask(
    wanted: &'static str,
    line: &'static str,
    answer: fn(&crate::tour::scene::Scene<'_>) -> crate::tour::station::Seen,
    then: &'static str,
) -> Task {
    Task { wanted, kind: Kind::Ask { line, answer }, then }
}

/// All of them, in their order.
pub(crate) static STATIONS: &[Station] = &[
    Station {
        name: "process",
        title: "A process, not a small machine",
        intro: "A container is often drawn as a small machine. Start one and look for the machine.",
        setup: &[],
        needs: None,
        tasks: &[
            todo(
                "Start a container called tour-one whose program waits.",
                "rbox run -d --name tour-one hello sleep 1000",
                checks::one_runs,
                "No kernel was booted and no system started: one process of this host has got its own view of it. That took some milliseconds.",
            ),
            todo(
                "Show its processes, with their numbers inside and on the host.",
                "rbox pid tour-one",
                checks::looked_pid,
                "The same process has two numbers. In its PID namespace it is the first one, and so it is PID 1.",
            ),
            ask(
                "Under which PID does the host know it? Type the number.",
                "rbox pid tour-one",
                checks::host_pid,
                "The host sees it, can signal it and can trace it. The container does not see the host's processes at all: the view goes one way.",
            ),
        ],
        read: "pid_namespaces(7), clone(2)",
    },
    Station {
        name: "inside",
        title: "What it sees, and what exec joins",
        intro: "A container's program lives behind walls called namespaces. Go behind them and look.",
        setup: &["rbox run -d --name tour-one hello sleep 1000"],
        needs: None,
        tasks: &[
            todo(
                "Run ps in tour-one.",
                "rbox exec tour-one ps",
                checks::ps_inside,
                "ps reads /proc, and /proc shows the PID namespace that it was mounted for. Nothing is hidden by ps; there is nothing else to see.",
            ),
            todo(
                "Start a second process in tour-one that goes on: exec -d.",
                "rbox exec -d tour-one sleep 500",
                checks::exec_joined,
                "That is what exec joins: the namespaces and the control group of PID 1, with its user and capabilities. It is no login and no second container; it ends with PID 1.",
            ),
            todo(
                "Show which namespaces the container has of its own.",
                "rbox ns tour-one",
                checks::looked_ns,
                "A number is the inode of a namespace; 'host' is what it shares with the host. The same number is the same wall.",
            ),
        ],
        read: "namespaces(7), setns(2), proc(5)",
    },
    Station {
        name: "hostname",
        title: "A name of its own",
        intro: "The smallest wall is the one around the host name: the UTS namespace.",
        setup: &[],
        needs: None,
        tasks: &[
            todo(
                "Start a container called tour-box whose host name is box.",
                "rbox run -d --name tour-box --hostname box hello sleep 1000",
                checks::has_own_hostname,
                "",
            ),
            todo("Ask it for its host name.", "rbox exec tour-box hostname", checks::hostname_asked, ""),
            todo(
                "You are root in there. Try to change the name to mine; it will be refused.",
                "rbox exec tour-box hostname mine",
                checks::hostname_refused,
                "Being root is not enough. /proc/sys is mounted read-only in a container, and CAP_SYS_ADMIN, which sethostname(2) wants, was taken away before the program began.",
            ),
            ask(
                "And what is this host called? Type its name.",
                "hostname",
                checks::name_of_host,
                "Two names on one kernel, at the same time.",
            ),
        ],
        read: "uts_namespaces(7), sethostname(2), capabilities(7)",
    },
    Station {
        name: "files",
        title: "Layers, and the file that you wrote",
        intro: "A container sees a whole tree of files, and yet nothing was copied to start it: its image's layers lie below, read-only, and an empty one of its own above.",
        setup: &["rbox run -d --name tour-one hello sleep 1000"],
        needs: None,
        tasks: &[
            todo(
                "Write a file /note in tour-one.",
                "rbox exec tour-one write /note hello",
                checks::note_written,
                "",
            ),
            todo(
                "Show its layers, and what it has changed.",
                "rbox fs tour-one",
                checks::looked_fs,
                "Only the top layer, called upper, is written to. A file of the image that is changed is copied up into it first: copy-on-write.",
            ),
            ask(
                "Where is the file that you wrote? Type the directory of the host that is the upper layer.",
                "rbox fs tour-one",
                checks::upper_directory,
                "It is an ordinary file in an ordinary directory. 'rbox fs NAME PATH' says of any file which layer it comes from.",
            ),
            todo(
                "Start a second container, tour-two, of the same image, and let it print /note. It will not find it.",
                "rbox run --name tour-two hello cat /note",
                checks::second_has_no_note,
                "Same lower layers, another upper one. What a container writes is its own.",
            ),
        ],
        read: "mount(8) under overlay, mount_namespaces(7), pivot_root(2)",
    },
    Station {
        name: "memory",
        title: "A limit, and what happens at it",
        intro: "Namespaces say what a process sees. What it may use is said by its control group.",
        setup: &[],
        needs: None,
        tasks: &[
            todo(
                "Run a container called tour-big that may have 32 MiB of memory, and let it take 200.",
                "rbox run --name tour-big -m 32m hello eat 200m",
                checks::out_of_memory,
                "No error reached the program: malloc said yes, and when it wrote to the memory the kernel found no more for this group, and killed it. The host had plenty.",
            ),
            ask(
                "Which exit code has it left? Type the number.",
                "rbox inspect -f '{{.State.ExitCode}}' tour-big",
                checks::code_of_big,
                "128 and the number of the signal: 137 is 128 + 9, SIGKILL. But any SIGKILL gives 137, so ask further:",
            ),
            todo("Ask why it ended.", "rbox why tour-big", checks::looked_why, ""),
        ],
        read: "cgroups(7), signal(7), malloc(3) under NOTES",
    },
    Station {
        name: "localhost",
        title: "localhost is not the host",
        intro: "A network namespace has links, addresses, routes and ports of its own, and a loopback of its own as well.",
        setup: &[],
        needs: None,
        tasks: &[
            todo(
                "Start a container called tour-web that serves a page on port 8000.",
                "rbox run -d --name tour-web hello serve 8000",
                checks::web_serves,
                "",
            ),
            todo(
                "Let another one, tour-asks, get 127.0.0.1:8000. It will be refused.",
                "rbox run --name tour-asks hello get 127.0.0.1:8000",
                checks::asks_itself,
                "127.0.0.1 is 'I, myself', for each network namespace. Nobody serves in the one of tour-asks: neither tour-web nor the host is meant.",
            ),
            todo(
                "Now run one in the network namespace of tour-web: --network container:tour-web.",
                "rbox run --rm --network container:tour-web hello get 127.0.0.1:8000",
                checks::shared_network,
                "Same namespace, same localhost. Containers of one Kubernetes pod are made so.",
            ),
            ask(
                "Others reach it at its address on the bridge. Which one? Type the address.",
                "rbox inspect -f '{{.NetworkSettings.IPAddress}}' tour-web",
                checks::address_of_web,
                "A program that listens on 127.0.0.1 only is not reached there either: in a container, listen on 0.0.0.0.",
            ),
        ],
        read: "network_namespaces(7), veth(4), ip(7)",
    },
    Station {
        name: "publish",
        title: "EXPOSE is not publish",
        intro: "An address on a bridge is known to this host only. For a port to be reached at the host's own address it is published.",
        setup: &[],
        needs: None,
        tasks: &[
            todo(
                "Start a server called tour-exposed that only exposes its port: --expose 8000.",
                "rbox run -d --name tour-exposed --expose 8000 hello serve 8000",
                checks::exposed_only,
                "EXPOSE, in a Dockerfile or on the command line, is a note about the image. It opens nothing.",
            ),
            todo(
                "Start one called tour-public whose port 8000 is published on a free port of 127.0.0.1.",
                "rbox run -d --name tour-public -p 127.0.0.1::8000 hello serve 8000",
                checks::published,
                "The kernel now changes the address of such packets on their way (DNAT), and no process listens on that port.",
            ),
            ask(
                "On which port of the host is it? Type the number.",
                "rbox port tour-public",
                checks::public_port,
                "Without 127.0.0.1 in front it would be reached from outside as well. 'rbox net trace' follows a packet.",
            ),
        ],
        read: "nft(8), docker-run(1) under --expose and --publish",
    },
    Station {
        name: "volume",
        title: "What goes with rm, and what stays",
        intro: "The upper layer belongs to the container, and goes with it. What has to stay goes somewhere else.",
        setup: &[],
        needs: None,
        tasks: &[
            todo(
                "Let a container called tour-lost write /data/note.",
                "rbox run --name tour-lost hello write /data/note lost",
                checks::lost_written,
                "It has ended, and its file is still there: a stopped container keeps its layer.",
            ),
            todo(
                "Remove it.",
                "rbox rm tour-lost",
                checks::lost_removed,
                "Now the file is gone. No image and no other container ever had it.",
            ),
            todo("Make a volume called tour-data.", "rbox volume create tour-data", checks::volume_made, ""),
            todo(
                "Write /data/note again, with the volume mounted at /data, in a container that is removed at once.",
                "rbox run --rm -v tour-data:/data hello write /data/note kept",
                checks::volume_written,
                "The container is gone already. The file is not.",
            ),
            todo(
                "Read it in another container.",
                "rbox run --rm -v tour-data:/data hello cat /data/note",
                checks::volume_read,
                "",
            ),
            ask(
                "Where is that file? Type the volume's directory on the host.",
                "rbox volume inspect -f '{{.Mountpoint}}' tour-data",
                checks::volume_directory,
                "A directory of the host, mounted over the layers. Databases want one, and whatever must survive an update.",
            ),
        ],
        read: "mount(2) under MS_BIND, mount_namespaces(7)",
    },
    Station {
        name: "signals",
        title: "PID 1 and its signals",
        intro: "The kernel treats the first process of a PID namespace as init: it gets only those signals that it has a handler for.",
        setup: &["rbox run -d --name tour-deaf hello sleep 1000"],
        needs: None,
        tasks: &[
            todo(
                "Stop tour-deaf, and watch the clock.",
                "rbox stop tour-deaf",
                checks::stopped_deaf,
                "stop sends SIGTERM, waits ten seconds, then sends SIGKILL. sleep has no handler for SIGTERM. Elsewhere that would end it; as PID 1 it never got the signal. That is why stop takes ten seconds.",
            ),
            todo(
                "Start the same as tour-heard with a small init as PID 1: --init.",
                "rbox run -d --init --name tour-heard hello sleep 1000",
                checks::has_init,
                "PID 1 is the init now, which has handlers and passes signals on; sleep is PID 2, an ordinary process.",
            ),
            todo(
                "Stop tour-heard.",
                "rbox stop tour-heard",
                checks::stopped_heard,
                "A program that handles SIGTERM itself needs no init. A shell script in front of it often does: use exec in its last line.",
            ),
        ],
        read: "kill(2) under NOTES, pid_namespaces(7), signal(7)",
    },
    Station {
        name: "image",
        title: "Image and container",
        intro: "An image is layers and a description of what to run. A container is a process on them. One is a recipe's result on the shelf, the other is on the table.",
        setup: &["rbox run -d --name tour-one hello sleep 1000", "rbox exec tour-one write /note hello"],
        needs: None,
        tasks: &[
            todo(
                "Make an image called tour-image of what tour-one has changed.",
                "rbox commit tour-one tour-image",
                checks::committed,
                "Its upper layer was kept as one more read-only layer. That is what each RUN and COPY of a build does.",
            ),
            todo(
                "Remove tour-one, which still runs.",
                "rbox rm -f tour-one",
                checks::one_removed,
                "The image does not mind.",
            ),
            todo(
                "Let a container of tour-image, called tour-copy, print /note.",
                "rbox run --name tour-copy tour-image cat /note",
                checks::copy_has_note,
                "Any number of containers can be made of it, and none of them changes it.",
            ),
            ask(
                "Of how many layers is tour-image? Type the number.",
                "rbox image inspect -f '{{len .RootFS.Layers}}' tour-image",
                checks::layers_of_image,
                "",
            ),
        ],
        read: "the OCI image specification (github.com/opencontainers/image-spec)",
    },
    Station {
        name: "unshare",
        title: "The same by hand",
        intro: "There is no system call that makes a container. There are calls that make namespaces, and unshare(1) has them at the command line.",
        setup: &[],
        needs: Some("unshare"),
        tasks: &[
            todo(
                "Without rbox, start a shell in new UTS, PID and mount namespaces that gives itself a name, says its PID, and stays a second.",
                "unshare --uts --pid --fork --mount-proc sh -c 'hostname walls; hostname; echo PID $$; sleep 1'",
                checks::unshared,
                "It is PID 1, and its host name is its own. Its files, network and users are still the host's: those walls were not asked for.",
            ),
            ask("What is this host called now? Type its name.", "hostname", checks::name_of_host, ""),
            todo(
                "Now see what rbox does besides, stage by stage.",
                "rbox run --rm --explain hello hostname",
                checks::explained,
                "'rbox run --explain=sh' prints all of it as a script of such commands.",
            ),
        ],
        read: "unshare(1), nsenter(1), clone(2)",
    },
    Station {
        name: "users",
        title: "Is root inside root outside?",
        intro: "User 0 in a container may do less than the host's root. But is it another user?",
        setup: &["rbox run -d --name tour-root hello sleep 1000"],
        needs: None,
        tasks: &[
            ask(
                "Which user id has the process of tour-root on the host (column UID)? Type the number.",
                "rbox pid tour-root",
                checks::uid_of_root,
                "Yes: root inside is root outside, unless it was given a user namespace. It is held by what was taken from it: most capabilities, system calls (seccomp), the host's files. What it writes to a mounted directory is root's.",
            ),
            todo(
                "Start tour-mapped with a user namespace: user 0 inside is user 100000 outside.",
                "rbox run -d --name tour-mapped --uidmap 0:100000:65536 --gidmap 0:100000:65536 hello sleep 1000",
                checks::is_mapped,
                "",
            ),
            todo(
                "Ask it who it is.",
                "rbox exec tour-mapped id",
                checks::id_asked,
                "Inside it is user 0, and has capabilities: over what belongs to its user namespace, and nothing else.",
            ),
            ask(
                "And which user id does the host see now? Type the number.",
                "rbox pid tour-mapped",
                checks::uid_of_mapped,
                "Should it get out, it is nobody there. No file of the host's belongs to that user.",
            ),
        ],
        read: "user_namespaces(7), credentials(7), seccomp(2)",
    },
];
