//! `bake --list`: what files define.

use rbox_compose::bake::Definition;
use serde_json::{Map, Value, json};

use crate::command::error::bad_input;
use crate::output::escape;
use crate::output::table::write_all;

/// What `--list` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct List {
    is_variables: bool,
    is_json: bool,
}

impl List {
    /// Reads `targets`, `variables`, or `type=…,format=…`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (mut kind, mut format) = (text, "table");
        if text.starts_with("type=") || text.contains(',') {
            kind = "";
            for field in text.split(',') {
                match field.split_once('=') {
                    Some(("type", value)) => kind = value,
                    Some(("format", value)) => format = value,
                    Some((key, _)) => {
                        return Err(bad_input(format!(
                            "invalid --list: unexpected key '{key}' in '{field}'"
                        )));
                    }
                    None => return Err(bad_input(format!("invalid --list: invalid value {field}"))),
                }
            }
        }
        let is_variables = match kind {
            "targets" => false,
            "variables" => true,
            other => {
                return Err(bad_input(format!("invalid list type {other:?}: it is targets or variables")));
            }
        };
        let is_json = match format {
            "table" => false,
            "json" => true,
            other => return Err(bad_input(format!("invalid list format {other:?}: it is table or json"))),
        };
        Ok(Self { is_variables, is_json })
    }

    /// Shows it.
    pub(crate) fn show(self, definition: &Definition) -> anyhow::Result<()> {
        let rows = if self.is_variables { variables(definition) } else { targets(definition) };
        if self.is_json {
            let all: Vec<Value> = rows.into_iter().map(|(_, json)| json).collect();
            write_all(&mut std::io::stdout(), &format!("{}\n", serde_json::to_string_pretty(&all)?))?;
            return Ok(());
        }
        let heads: &[&str] = if self.is_variables {
            &["VARIABLE", "TYPE", "VALUE", "DESCRIPTION"]
        } else {
            &["TARGET", "DESCRIPTION"]
        };
        let mut all = vec![heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>()];
        all.extend(
            rows.into_iter()
                .map(|(cells, _)| cells.iter().map(|cell| escape::text(cell).into_owned()).collect()),
        );
        write_all(&mut std::io::stdout(), &tabbed(&all))?;
        Ok(())
    }
}

type Row = (Vec<String>, Value);

fn targets(definition: &Definition) -> Vec<Row> {
    let row = |(name, description, is_group): (String, String, bool)| {
        let mut fields = Map::from_iter([("name".to_owned(), json!(name))]);
        if !description.is_empty() {
            fields.insert("description".to_owned(), json!(description));
        }
        if is_group {
            fields.insert("group".to_owned(), json!(true));
        }
        (vec![name, description], Value::Object(fields))
    };
    definition.listed().into_iter().map(row).collect()
}

fn variables(definition: &Definition) -> Vec<Row> {
    let row = |one: &rbox_compose::bake::Listed| {
        let mut fields = Map::from_iter([("name".to_owned(), json!(one.name))]);
        let all =
            [("description", Some(&one.description)), ("type", Some(&one.of)), ("value", one.value.as_ref())];
        for (key, value) in all {
            let value = value.filter(|value| key == "value" || !value.is_empty());
            fields.extend(value.map(|value| (key.to_owned(), json!(value))));
        }
        let value = one.value.clone().unwrap_or_else(|| "<null>".to_owned());
        (vec![one.name.clone(), one.of.clone(), value, one.description.clone()], Value::Object(fields))
    };
    definition.variables().iter().map(row).collect()
}

/// Columns with tabs between, as Go's writer of tables fills them up.
fn tabbed(rows: &[Vec<String>]) -> String {
    const TAB: usize = 8;
    let count = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..count)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        })
        .map(|width| (width + 1).div_ceil(TAB) * TAB)
        .collect();
    let mut text = String::new();
    for row in rows {
        for (place, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if place + 1 < row.len() {
                let width = widths.get(place).copied().unwrap_or_default();
                text.push_str(&"\t".repeat((width.saturating_sub(cell.chars().count())).div_ceil(TAB)));
            }
        }
        text.push('\n');
    }
    text
}
