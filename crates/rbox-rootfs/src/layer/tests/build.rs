//! Archives made by hand, byte by byte, also such as no tool would write.

/// How a name or target that a header could hold is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Header,
    Gnu,
    Pax,
}

pub(super) const NAMES: [Names; 3] = [Names::Header, Names::Gnu, Names::Pax];

/// An archive being written.
#[derive(Default, Clone)]
pub(super) struct Tar {
    pub(super) bytes: Vec<u8>,
}

/// One entry being written.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) flag: u8,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) data: Vec<u8>,
    pub(super) device: (u32, u32),
    pub(super) mtime: u64,
    /// The size field, when it is to lie.
    pub(super) size: Option<u64>,
    pub(super) pax: Vec<(String, Vec<u8>)>,
    pub(super) names: Names,
}

pub(super) fn item(flag: u8, name: impl AsRef<[u8]>) -> Item {
    Item {
        flag,
        name: name.as_ref().to_vec(),
        link: Vec::new(),
        mode: 0o755,
        data: Vec::new(),
        device: (0, 0),
        mtime: 1_000_000_000,
        size: None,
        pax: Vec::new(),
        names: Names::Header,
    }
}

pub(super) fn file(name: impl AsRef<[u8]>, data: &str) -> Item {
    Item { data: data.as_bytes().to_vec(), mode: 0o644, ..item(b'0', name) }
}

pub(super) fn dir(name: impl AsRef<[u8]>) -> Item {
    item(b'5', name)
}

pub(super) fn link(flag: u8, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Item {
    Item { link: target.as_ref().to_vec(), ..item(flag, name) }
}

impl Item {
    pub(super) fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(super) fn named(mut self, names: Names) -> Self {
        self.names = names;
        self
    }
}

/// One PAX record with its length.
pub(super) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let length =
        (1..8).map(|digits| body + digits).find(|total| total.to_string().len() + body == *total).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

impl Tar {
    /// A header and data as they are, no name longer than the header's field.
    pub(super) fn raw(&mut self, item: &Item) {
        let mut header = tar::Header::new_gnu();
        if item.names == Names::Pax || item.flag == b'x' || item.flag == b'g' {
            header = tar::Header::new_ustar();
        }
        let old = header.as_old_mut();
        for (to, from) in old.name.iter_mut().zip(&item.name) {
            *to = *from;
        }
        for (to, from) in old.linkname.iter_mut().zip(&item.link) {
            *to = *from;
        }
        old.linkflag = [item.flag];
        header.set_mode(item.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(item.mtime);
        header.set_size(item.size.unwrap_or(item.data.len() as u64));
        if matches!(item.flag, b'3' | b'4') {
            header.set_device_major(item.device.0).unwrap();
            header.set_device_minor(item.device.1).unwrap();
        }
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.data(&item.data);
    }

    /// Data and its padding.
    pub(super) fn data(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    /// An entry, with its long names and records in front.
    pub(super) fn add(&mut self, item: &Item) -> &mut Self {
        let mut records: Vec<u8> = Vec::new();
        match item.names {
            Names::Header => {}
            Names::Gnu => {
                for (flag, name) in [(b'L', &item.name), (b'K', &item.link)] {
                    if !name.is_empty() {
                        let data = [&name[..], b"\0"].concat();
                        self.raw(&Item { data, ..super::build::item(flag, "././@LongLink") });
                    }
                }
            }
            Names::Pax => {
                for (key, name) in [("path", &item.name), ("linkpath", &item.link)] {
                    if !name.is_empty() {
                        records.extend(record(key, name));
                    }
                }
            }
        }
        for (key, value) in &item.pax {
            records.extend(record(key, value));
        }
        if !records.is_empty() {
            self.raw(&Item { data: records, ..super::build::item(b'x', "PaxHeaders/x") });
        }
        self.raw(item);
        self
    }

    pub(super) fn of<'i>(items: impl IntoIterator<Item = &'i Item>) -> Self {
        let mut tar = Self::default();
        for item in items {
            tar.add(item);
        }
        tar
    }

    /// The archive with its end.
    pub(super) fn end(&self) -> Vec<u8> {
        [&self.bytes[..], &[0; 1024]].concat()
    }
}
