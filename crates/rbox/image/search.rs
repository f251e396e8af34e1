//! `rbox search`: repositories of a registry.

use clap::Parser;
use rbox_engine::image::registry::Found;
use rbox_engine::listing::filter::Filters;
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE};
use crate::command::global::Global;
use crate::output::table::{self, Format};
use crate::output::template::Headers;
use crate::output::units::ellipsis;

const KEYS: &[&str] = &["is-automated", "is-official", "stars"];
/// Docker's number where none is asked for.
const LIMIT: i64 = 25;

/// Search Docker Hub, or another registry, for images
#[derive(Debug, Parser)]
#[command(
    name = "search",
    after_help = "Examples:\n  rbox search nginx\n  rbox search --limit 5 --no-trunc --filter is-official=true postgres\n  rbox search registry.lan:5000/tools      # a registry that has the search of Docker's first ones\n\nFilters: stars, is-official."
)]
pub(crate) struct Search {
    /// Filter output based on conditions provided (KEY=VALUE)
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Max number of search results
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    limit: i64,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// A word, or REGISTRY/WORD
    term: String,
}

impl Execute for Search {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let refused = |message: String| Coded { message, code: NOT_DONE };
        let limit = if self.limit == 0 { LIMIT } else { self.limit };
        let limit = usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=100).contains(limit))
            .ok_or_else(|| refused(format!("limit {} is outside the range of [1, 100]", self.limit)))?;
        let wanted = Wanted::read(&Filters::parse(&self.filter, KEYS)?)?;
        let found = if wanted.automated { Vec::new() } else { global.engine.search(&self.term, limit)? };
        let format = Format::parse(
            self.format.as_deref(),
            "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
        );
        let rows: Vec<Value> = found
            .iter()
            .filter(|one| wanted.accepts(one))
            .map(|one| self.row(one, format == Format::Json))
            .collect();
        let headers = Headers::from([
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("StarCount", "STARS"),
            ("IsOfficial", "OFFICIAL"),
        ]);
        table::print(&format, &headers, &rows, &mut std::io::stdout())?;
        Ok(0)
    }
}

impl Search {
    fn row(&self, found: &Found, is_json: bool) -> Value {
        let text = found.description.replace(['\n', '\r'], " ");
        let official = match (found.is_official, is_json) {
            (official, true) => official.to_string(),
            (true, false) => "[OK]".to_owned(),
            (false, false) => String::new(),
        };
        json!({
            "Name": found.name,
            "Description": if self.no_trunc { text } else { ellipsis(&text, 45) },
            "StarCount": found.star_count.to_string(),
            "IsOfficial": official,
        })
    }
}

/// The filters, checked.
struct Wanted {
    stars: Option<i64>,
    official: Option<bool>,
    automated: bool,
}

impl Wanted {
    fn read(filters: &Filters) -> anyhow::Result<Self> {
        let mut stars = None;
        for value in filters.values("stars") {
            let number: i64 = value.parse().map_err(|error| Coded {
                message: format!("invalid filter 'stars={value}': {error}"),
                code: NOT_DONE,
            })?;
            stars = stars.max(Some(number));
        }
        let automated = filters.boolean("is-automated")?.unwrap_or(false);
        Ok(Self { stars, official: filters.boolean("is-official")?, automated })
    }

    fn accepts(&self, found: &Found) -> bool {
        self.stars.is_none_or(|least| found.star_count >= least)
            && self.official.is_none_or(|wanted| found.is_official == wanted)
    }
}
