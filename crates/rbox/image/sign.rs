//! `rbox image sign`: a signature beside an image in its registry.

use std::path::PathBuf;

use clap::Parser;
use rbox_engine::spec::Reference;

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::output::lines::say;
use crate::output::table::write_all;

/// Sign an image in a registry, in cosign's form
#[derive(Debug, Parser)]
#[command(
    name = "sign",
    after_help = "Examples:\n  openssl genpkey -algorithm ed25519 -out sign.key && openssl pkey -in sign.key -pubout -out sign.pub\n  rbox push registry.lan:5000/team/app:1 && rbox image sign --key sign.key registry.lan:5000/team/app:1\n  cosign verify --insecure-ignore-tlog --key sign.pub registry.lan:5000/team/app:1    # checks the same\n\nPulls refuse what is not signed where registries.json names a verify-key: docs/images.md, section Signatures."
)]
pub(crate) struct Sign {
    /// The private key: ECDSA on P-256 or Ed25519, in PEM form
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What the registry has, by a tag or a digest
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

impl Execute for Sign {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let name = Reference::parse(&self.image).map_err(bad_input)?.with_default_tag();
        let signed = global.engine.sign_image(&name, &self.key)?;
        let shown = name.with_digest(signed.digest).familiar();
        if !signed.is_known {
            let line = format!(
                "rbox: warning: signed is what the registry has as {name} now, of which nothing is known here: check that {shown} is what you meant, and sign by NAME@DIGEST\n"
            );
            write_all(&mut std::io::stderr(), &line)?;
        }
        if signed.was_signed {
            return say(&format!("Already signed by this key: {shown}")).map(|()| 0);
        }
        say(&format!("Pushing signature to: {}", name.name()))?;
        say(&format!("Signed: {shown}"))?;
        Ok(0)
    }
}
