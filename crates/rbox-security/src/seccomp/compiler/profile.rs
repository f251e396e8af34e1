//! A profile as JSON: Docker's schema, and the OCI runtime specification's where the two differ.

use super::context::CompileError;
use serde::Deserialize;

/// A profile file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// For calls no rule is about.
    pub default_action: String,
    /// The errno of the default action.
    #[serde(default)]
    pub default_errno_ret: Option<u32>,
    /// The architectures, each with those of the same machine. Docker's.
    #[serde(default)]
    pub arch_map: Option<Vec<ArchMap>>,
    /// The architectures. OCI's.
    #[serde(default)]
    pub architectures: Option<Vec<String>>,
    /// OCI's `flags`.
    #[serde(default)]
    pub flags: Option<Vec<String>>,
    /// The rules.
    #[serde(default)]
    pub syscalls: Option<Vec<Rule>>,
}

/// An architecture and those that come with it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchMap {
    /// The host's.
    pub architecture: String,
    /// Others it runs.
    #[serde(default)]
    pub sub_architectures: Option<Vec<String>>,
}

/// A rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The calls it is about.
    #[serde(default)]
    pub names: Option<Vec<String>>,
    /// The one call, in old profiles.
    #[serde(default)]
    pub name: Option<String>,
    /// What happens.
    pub action: String,
    /// Its errno.
    #[serde(default)]
    pub errno_ret: Option<u32>,
    /// Conditions on the call's arguments.
    #[serde(default)]
    pub args: Option<Vec<Arg>>,
    /// Only then.
    #[serde(default)]
    pub includes: Option<When>,
    /// Not then.
    #[serde(default)]
    pub excludes: Option<When>,
}

/// A condition on an argument.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arg {
    /// 0 to 5.
    pub index: u32,
    /// What is compared with; the mask for `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// For `SCMP_CMP_MASKED_EQ`: what the masked argument equals.
    #[serde(default)]
    pub value_two: u64,
    /// How.
    pub op: String,
}

/// When a rule holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct When {
    /// Capabilities of the bounding set.
    #[serde(default)]
    pub caps: Option<Vec<String>>,
    /// Architectures of the host.
    #[serde(default)]
    pub arches: Option<Vec<String>>,
    /// `major.minor` of the kernel.
    #[serde(default)]
    pub min_kernel: Option<String>,
}

impl Document {
    /// Reads a profile; the error says what is wrong and where.
    pub fn parse(json: &[u8]) -> Result<Self, CompileError> {
        rbox_spec::json::from_slice(json)
            .map_err(|error| CompileError::Profile(format!("decoding seccomp profile failed: {error}")))
    }
}
