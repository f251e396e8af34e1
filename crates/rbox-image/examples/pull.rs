//! Pulls one image into a store and says how long each part took: `pull STORE REFERENCE`.
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use rbox_image::{ImageStore, LayerState, PullEvent, PullOptions, PullProgress, Registries, pull};

struct Clock(Instant);

impl PullProgress for Clock {
    fn event(&self, event: PullEvent<'_>) {
        let at = self.0.elapsed().as_secs_f64() * 1e3;
        match event {
            PullEvent::Message(line) => println!("{at:8.1} ms  {line}"),
            PullEvent::Layer { state: LayerState::Downloading { .. } | LayerState::Waiting, .. } => {}
            PullEvent::Layer { digest, state } => println!("{at:8.1} ms  {}: {state:?}", digest.short()),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, dir, reference] = arguments.as_slice() else {
        eprintln!("pull: give the store's directory and a reference");
        return ExitCode::from(125);
    };
    let clock = Clock(Instant::now());
    let run = || -> Result<(), Box<dyn std::error::Error>> {
        let store = ImageStore::open(Path::new(dir))?;
        let registries = Registries::load()?;
        let pulled = pull(&store, &registries, &reference.parse()?, &PullOptions::default(), &clock)?;
        let word = if pulled.up_to_date { "up to date" } else { "pulled" };
        println!(
            "{:8.1} ms  {word}: {} ({} bytes)",
            clock.0.elapsed().as_secs_f64() * 1e3,
            pulled.digest,
            pulled.image.size
        );
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut line = error.to_string();
            let mut next = error.source();
            while let Some(cause) = next {
                line = format!("{line}: {cause}");
                next = cause.source();
            }
            eprintln!("pull: {line}");
            ExitCode::from(125)
        }
    }
}
