//! What an error of any library means.

use std::error::Error;

use rbox_image as image;
use rbox_runtime::{cgroup, namespace, rootfs, security};
use rbox_spec::{self as spec, Kind};

/// What an error means; none for one that is of no library of rbox. Causes are not looked at: an error knows what it wraps.
pub fn kind_of(error: &(dyn Error + 'static)) -> Option<Kind> {
    macro_rules! of {
        ($($type:ty,)*) => {
            None$(.or_else(|| error.downcast_ref::<$type>().map(<$type>::kind)))*
        };
    }
    of![
        crate::cdi::CdiError,
        crate::error::EngineError,
        crate::listing::filter::FilterError,
        crate::listing::moment::InvalidMoment,
        crate::record::file::RecordError,
        crate::settings::SettingsError,
        crate::volume::file_system::MountError,
        crate::volume::populate::PopulateError,
        crate::volume::error::VolumeError,
        rbox_runtime::RuntimeError,
        rbox_network::Error,
        image::PullError,
        image::PushError,
        image::RegistriesError,
        image::StoreError,
        image::archive::ArchiveError,
        image::archive::ChangeError,
        image::layer::LayerError,
        image::media::DocumentError,
        image::registry::RegistryError,
        image::remote::RemoteError,
        image::signature::KeyError,
        image::signature::SignError,
        cgroup::CgroupError,
        namespace::handshake::HandshakeError,
        rootfs::changes::ChangesError,
        rootfs::compare::CompareError,
        rootfs::layer::CopyError,
        rootfs::layer::PackError,
        rootfs::layer::UnpackError,
        rootfs::overlay::OverlayError,
        rootfs::put::PutError,
        rootfs::tree::TreeError,
        security::apparmor::AppArmorError,
        security::seccomp::CompileError,
        security::seccomp::SeccompError,
        spec::DigestError,
        spec::InvalidName,
        spec::PlatformError,
        spec::ReferenceError,
        spec::capability::UnknownCapability,
        spec::container::InvalidDevice,
        spec::container::InvalidLogDriver,
        spec::csv::CsvError,
        spec::device_request::InvalidGpus,
        spec::given::InvalidFile,
        spec::health::InvalidHealthcheck,
        spec::health::InvalidOnUnhealthy,
        spec::hugetlb::HugetlbError,
        spec::id::InvalidId,
        spec::mac::InvalidMac,
        spec::idmap::InvalidIdMap,
        spec::mount::InvalidMount,
        spec::userns::InvalidUserns,
        spec::userns::NotAmong,
        spec::port::PortError,
        spec::record::DecodeError,
        spec::resources::ResourcesError,
        spec::restart::InvalidRestart,
        spec::signal::InvalidSignal,
        spec::size::SizeError,
        spec::storage::InvalidStorage,
        spec::ulimit::UlimitError,
        spec::user::UserError,
        spec::volume_options::InvalidVolumeOption,
        spec::volumes_from::InvalidVolumesFrom,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::EngineError;

    #[test]
    fn an_error_says_what_it_wraps() {
        let no_space = || std::io::Error::from_raw_os_error(28);
        let write = || image::PullError::Io { action: "write", path: "/x".into(), source: no_space() };
        let pull = image::PullError::DiskFull { dir: "/".into(), source: Box::new(write()) };
        let nobody = EngineError::NoContainer("db".into());
        let link = EngineError::Link { container: "db".into(), source: Box::new(nobody) };
        let no_network = EngineError::from(rbox_network::Error::NoNetwork("x".into()));
        let file = EngineError::file("write", "/x")(no_space());
        let size = spec::size::SizeError::Invalid("x".into());
        let table: [(&(dyn Error + 'static), Option<Kind>); 7] = [
            (&write(), Some(Kind::NoSpace)),
            (&pull, Some(Kind::NoSpace)),
            (&link, Some(Kind::NotFound)),
            (&no_network, Some(Kind::NotFound)),
            (&file, Some(Kind::NoSpace)),
            (&size, Some(Kind::Invalid)),
            (&no_space(), None),
        ];
        for (error, kind) in table {
            assert_eq!(kind_of(error), kind, "{error}");
        }
    }
}
