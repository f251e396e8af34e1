//! What those who collect output are sent: a message of syslog, or the fields of an entry of the systemd journal.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rbox_spec::container::LogDriver;

use crate::logs::{InvalidLogOption, Stream, attributes};
use crate::record::container::ContainerRecord;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// As libc writes it to /dev/log: without a host name.
    Local,
    /// RFC 3164.
    Old,
    /// RFC 5424, with seconds.
    Rfc5424,
    /// RFC 5424, with microseconds.
    Rfc5424Micro,
    /// The journal's own protocol.
    Journal,
}

/// All that the messages of one container have in common.
#[derive(Clone, Debug)]
pub(super) struct Form {
    kind: Kind,
    facility: u8,
    tag: String,
    host: String,
    pid: i32,
    /// Fields of the journal.
    fields: Vec<(String, String)>,
    /// How many messages there were.
    ordinal: u64,
    /// The long line of each output that is being sent in pieces: its name, and how many there were.
    pieces: [Option<(String, u64)>; 2],
}

/// Their numbers are their places (RFC 5424, table 1).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "",
    "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const DAEMON: u8 = 3;

impl Form {
    /// As the container's options say. None for a driver that collects nothing.
    pub(super) fn of(record: &ContainerRecord) -> Result<Option<Self>, InvalidLogOption> {
        let options = &record.host.log_opts;
        let kind = match record.host.log_driver {
            LogDriver::Syslog => kind_of(options)?,
            LogDriver::Journald => Kind::Journal,
            LogDriver::JsonFile | LogDriver::Local | LogDriver::None => return Ok(None),
        };
        let tag = attributes::tag_of(record)?;
        Ok(Some(Self {
            kind,
            facility: facility_of(options)?,
            fields: if kind == Kind::Journal { fields(record, &tag)? } else { Vec::new() },
            tag,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            ordinal: 0,
            pieces: [None, None],
        }))
    }

    /// One line of output. `goes_on`: its end has not come yet.
    pub(super) fn message(&mut self, stream: Stream, line: &[u8], time: Timestamp, goes_on: bool) -> Vec<u8> {
        let severity = if stream == Stream::Stderr { 3 } else { 6 };
        if self.kind == Kind::Journal {
            return self.entry(severity, line, time, goes_on);
        }
        let Self { tag, host, pid, .. } = self;
        let local = time.to_zoned(TimeZone::system());
        let stamp = || local.strftime("%b %e %H:%M:%S");
        let mut out = format!("<{}>", self.facility * 8 + severity);
        // Writing to a text cannot fail.
        let _ = match self.kind {
            Kind::Local => write!(out, "{} {tag}[{pid}]: ", stamp()),
            Kind::Old => write!(out, "{} {host} {tag}[{pid}]: ", stamp()),
            Kind::Rfc5424 => {
                write!(out, "1 {} {host} {tag} {pid} {tag} - ", local.strftime("%Y-%m-%dT%H:%M:%S%:z"))
            }
            Kind::Rfc5424Micro | Kind::Journal => {
                write!(out, "1 {} {host} {tag} {pid} {tag} - ", local.strftime("%Y-%m-%dT%H:%M:%S.%6f%:z"))
            }
        };
        let mut out = out.into_bytes();
        out.extend(line);
        out.push(b'\n');
        out
    }

    fn entry(&mut self, severity: u8, line: &[u8], time: Timestamp, goes_on: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(line.len() + 512);
        self.ordinal += 1;
        field(&mut out, "MESSAGE", line);
        field(&mut out, "PRIORITY", severity.to_string().as_bytes());
        for (name, value) in &self.fields {
            field(&mut out, name, value.as_bytes());
        }
        field(&mut out, "SYSLOG_TIMESTAMP", time.to_string().as_bytes());
        field(&mut out, "CONTAINER_LOG_ORDINAL", self.ordinal.to_string().as_bytes());
        let place = &mut self.pieces[usize::from(severity == 3)];
        if goes_on || place.is_some() {
            let (name, number) = place.get_or_insert_with(|| (random(), 0));
            *number += 1;
            field(&mut out, "CONTAINER_PARTIAL_ID", name.as_bytes());
            field(&mut out, "CONTAINER_PARTIAL_ORDINAL", number.to_string().as_bytes());
            field(&mut out, "CONTAINER_PARTIAL_LAST", if goes_on { b"false" } else { b"true" });
        }
        if goes_on {
            field(&mut out, "CONTAINER_PARTIAL_MESSAGE", b"true");
        } else {
            *place = None;
        }
        out
    }
}

/// A name that nothing else has.
fn random() -> String {
    format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..))
}

fn kind_of(options: &BTreeMap<String, String>) -> Result<Kind, InvalidLogOption> {
    Ok(match options.get("syslog-format").map_or("", String::as_str) {
        "" => Kind::Local,
        "rfc3164" => Kind::Old,
        "rfc5424" => Kind::Rfc5424,
        "rfc5424micro" => Kind::Rfc5424Micro,
        other => {
            return Err(InvalidLogOption::Syslog(format!("Invalid syslog format: {}", other.escape_debug())));
        }
    })
}

fn facility_of(options: &BTreeMap<String, String>) -> Result<u8, InvalidLogOption> {
    let Some(wanted) = options.get("syslog-facility").filter(|wanted| !wanted.is_empty()) else {
        return Ok(DAEMON);
    };
    let named = FACILITIES.iter().position(|name| name == wanted);
    let number = named.or_else(|| wanted.parse().ok().filter(|number| *number < FACILITIES.len()));
    number.and_then(|number| u8::try_from(number).ok()).ok_or_else(|| {
        InvalidLogOption::Syslog(format!("invalid syslog facility: {}", wanted.escape_debug()))
    })
}

/// What the journal is told of the container: Docker's fields.
fn fields(record: &ContainerRecord, tag: &str) -> Result<Vec<(String, String)>, InvalidLogOption> {
    let mut all = vec![
        ("CONTAINER_ID".to_owned(), record.id.short().to_owned()),
        ("CONTAINER_ID_FULL".to_owned(), record.id.to_string()),
        ("CONTAINER_NAME".to_owned(), record.name.to_string()),
        ("CONTAINER_TAG".to_owned(), tag.to_owned()),
        ("IMAGE_NAME".to_owned(), record.image.clone()),
        ("SYSLOG_IDENTIFIER".to_owned(), tag.to_owned()),
        // Ordinals count from here.
        ("CONTAINER_LOG_EPOCH".to_owned(), random()),
    ];
    for (name, value) in attributes::attributes(record)? {
        // Letters, digits and _, and no _ at the beginning: that is for what the journal knows itself.
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .skip_while(|c| !c.is_ascii_alphabetic())
            .collect();
        if !name.is_empty() && name != "TAG" {
            all.push((name, value));
        }
    }
    Ok(all)
}

/// `NAME=value`, or of a value with line breaks its length before it (systemd's `JOURNAL_NATIVE_PROTOCOL`).
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend((value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn form(driver: &str, options: &[(&str, &str)]) -> Result<Form, InvalidLogOption> {
        let options: BTreeMap<&str, &str> = options.iter().copied().collect();
        let record = serde_json::json!({
            "record_version": 1, "id": "7".repeat(64), "name": "web", "created": "2026-01-01T00:00:00Z", "image": "x",
            "image_id": "", "image_manifest": "", "platform": "", "layers": [], "embedded": false,
            "config": { "labels": { "com.example.app-name": "shop\nfloor" } },
            "host": { "log_driver": driver, "log_opts": options },
        });
        let record: ContainerRecord = rbox_spec::record::decode(record.to_string().as_bytes()).unwrap();
        let form = Form::of(&record)?.unwrap();
        Ok(Form { host: "host".into(), pid: 42, ..form })
    }

    fn text(form: &mut Form, stream: Stream) -> String {
        let time = "2026-01-02T03:04:05.123456789Z".parse().unwrap();
        String::from_utf8(form.message(stream, b"line", time, false)).unwrap()
    }

    #[test]
    fn messages_of_syslog() {
        let of = |options: &[(&str, &str)]| text(&mut form("syslog", options).unwrap(), Stream::Stdout);
        let local = of(&[]);
        assert!(local.starts_with("<30>Jan  ") && local.ends_with(" 777777777777[42]: line\n"), "{local}");
        let old = of(&[("syslog-format", "rfc3164"), ("tag", "{{.Name}}"), ("syslog-facility", "local0")]);
        assert!(old.starts_with("<134>Jan  ") && old.ends_with(" host web[42]: line\n"), "{old}");
        let new = of(&[("syslog-format", "rfc5424"), ("tag", "t")]);
        assert!(new.starts_with("<30>1 2026-01-0") && new.ends_with(" host t 42 t - line\n"), "{new}");
        let micro = of(&[("syslog-format", "rfc5424micro"), ("syslog-facility", "1")]);
        assert!(micro.starts_with("<14>1 2026-01-0") && micro.contains(":05.123456"), "{micro}");
        let errors = text(&mut form("syslog", &[]).unwrap(), Stream::Stderr);
        assert!(errors.starts_with("<27>"), "{errors}");
        for bad in
            [("syslog-format", "x"), ("syslog-facility", "x"), ("syslog-facility", "24"), ("tag", "{{.X}}")]
        {
            assert!(form("syslog", &[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn entries_of_the_journal() {
        let mut form = form("journald", &[("labels", "com.example.app-name")]).unwrap();
        let time = Timestamp::UNIX_EPOCH;
        let entry = form.message(Stream::Stderr, b"line", time, true);
        let shown = String::from_utf8_lossy(&entry);
        for line in [
            "MESSAGE=line\n",
            "PRIORITY=3\n",
            "CONTAINER_NAME=web\n",
            "CONTAINER_TAG=777777777777\n",
            "SYSLOG_TIMESTAMP=1970-01-01T00:00:00Z\n",
            "CONTAINER_LOG_ORDINAL=1\n",
            "CONTAINER_PARTIAL_ORDINAL=1\n",
            "CONTAINER_PARTIAL_LAST=false\n",
            "CONTAINER_PARTIAL_MESSAGE=true\n",
            "COM_EXAMPLE_APP_NAME\n\u{a}\0\0\0\0\0\0\0shop\nfloor\n",
        ] {
            assert!(shown.contains(line), "{line:?}: {shown:?}");
        }
        let last = form.message(Stream::Stderr, b"end", time, false);
        let last = String::from_utf8_lossy(&last).into_owned();
        let id = |text: &str| {
            text.lines().find(|line| line.starts_with("CONTAINER_PARTIAL_ID=")).map(str::to_owned)
        };
        assert!(id(&last).is_some_and(|id| id.len() == 85) && id(&last) == id(&shown), "{last}");
        assert!(last.contains("PARTIAL_LAST=true\n") && last.contains("LOG_ORDINAL=2\n"), "{last}");
        assert!(!last.contains("PARTIAL_MESSAGE"), "{last}");
        let next = form.message(Stream::Stderr, b"next", time, false);
        assert!(!String::from_utf8_lossy(&next).contains("PARTIAL"), "{next:?}");
    }
}
