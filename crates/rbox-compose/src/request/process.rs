//! What the process of a container is.

use std::collections::BTreeMap;
use std::time::Duration;

use rbox_spec::container::{Attached, ContainerConfig};
use rbox_spec::health::Healthcheck;

use super::{Making, depends_on_label};
use crate::error::RunError;
use crate::labels;
use crate::model;

impl Making<'_> {
    pub(super) fn config(&self) -> Result<ContainerConfig, RunError> {
        let service = self.service;
        // A variable without a value is taken out of the image's.
        let variable = |(key, value): (&String, &Option<String>)| match value {
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        };
        Ok(ContainerConfig {
            hostname: service.hostname.clone(),
            domainname: service.domainname.clone(),
            user: service.user.clone(),
            tty: service.tty,
            open_stdin: service.stdin_open,
            attached: Attached::NONE,
            env: service.environment.iter().map(variable).collect(),
            working_dir: service.working_dir.clone(),
            labels: self.labels(),
            exposed_ports: service.expose.clone(),
            stop_signal: Some(service.stop_signal.clone()).filter(|signal| !signal.is_empty()),
            stop_timeout: service.stop_grace_period.map(whole_seconds),
            healthcheck: service.healthcheck.as_ref().map(|check| self.healthcheck(check)).transpose()?,
            ..ContainerConfig::default()
        })
    }

    fn healthcheck(&self, check: &model::Healthcheck) -> Result<Healthcheck, RunError> {
        if check.disable {
            return Ok(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() });
        }
        let nanoseconds = |duration: Option<Duration>| {
            duration.map_or(0, |duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
        };
        let check = Healthcheck {
            test: check.test.clone(),
            interval: nanoseconds(check.interval),
            timeout: nanoseconds(check.timeout),
            start_period: nanoseconds(check.start_period),
            start_interval: nanoseconds(check.start_interval),
            retries: check.retries.unwrap_or(0),
        };
        check.validate().map_err(|error| self.refused("healthcheck", error))?;
        Ok(check)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let project = self.project;
        let mut labels = self.service.labels.clone();
        let mut add = |key: &str, value: String| drop(labels.insert(key.to_owned(), value));
        add(labels::PROJECT, project.name.clone());
        add(labels::SERVICE, self.service.name.clone());
        add(labels::NUMBER, self.number.to_string());
        add(labels::ONE_OFF, "False".to_owned());
        add(labels::CONFIG_HASH, self.service.config_hash().to_owned());
        add(labels::DEPENDS_ON, depends_on_label(self.service));
        add(labels::IMAGE, self.image_id.to_owned());
        add(labels::WORKING_DIR, project.directory.to_string_lossy().into_owned());
        add(labels::CONFIG_FILES, project.files.join(","));
        if !project.env_files.is_empty() {
            add(labels::ENVIRONMENT_FILE, project.env_files.join(","));
        }
        add(labels::VERSION, labels::COMPOSE_VERSION.to_owned());
        labels
    }
}

/// Docker counts seconds: one that has begun is a whole one.
pub(crate) fn whole_seconds(duration: Duration) -> i64 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
