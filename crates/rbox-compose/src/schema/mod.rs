//! The keys that compose files know, and what may stand at each: the Compose specification's schema, in tables.

mod rules;
mod service;
mod tables;

use rules::Rule;

use crate::yaml::{At, Node};

/// Holds a merged tree against the specification.
pub(crate) fn validate(root: &Node) -> Result<(), (At, String)> {
    service::PROJECT.check(root, &mut Vec::new())
}

/// Holds one entry of `include` against it, before it is carried out.
pub(crate) fn include(entry: &Node) -> Result<(), (At, String)> {
    Rule::check(&tables::INCLUDE, entry, &mut vec!["include".into()])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::output::service_fields;
    use crate::yaml::read;

    fn fault(text: &str) -> String {
        let root = read(text, 0).unwrap().remove(0).root;
        let (at, message) = validate(&root).unwrap_err();
        format!("{}:{}: {message}", at.line, at.column)
    }

    #[test]
    fn every_key_of_a_service_is_known_and_written() {
        let Rule::Keys { keys, .. } = &service::SERVICE else { panic!() };
        assert_eq!(keys.len(), 93);
        let fields = service_fields();
        for (key, _) in *keys {
            assert!(fields.contains(key), "{key} is read and never written");
        }
        assert_eq!(fields.len(), keys.len());
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_place() {
        let web = |line: &str| format!("services:\n  web:\n    image: x\n    {line}\n");
        let table = [
            (
                web("imge: y"),
                "4:5: services.web additional properties 'imge' not allowed (did you mean 'image'?)",
            ),
            (
                web("depends-on: [a]"),
                "4:5: services.web additional properties 'depends-on' not allowed (did you mean 'depends_on'?)",
            ),
            (web("zzz: y"), "4:5: services.web additional properties 'zzz' not allowed"),
            (web("ports: 80"), "4:12: services.web.ports must be a array"),
            (web("ports: [true]"), "4:13: services.web.ports.0 must be a mapping, number or string"),
            (web("command: {a: b}"), "4:14: services.web.command must be a array, null or string"),
            (web("privileged: []"), "4:17: services.web.privileged must be a boolean or string"),
            (
                web("oom_score_adj: 2000"),
                "4:20: services.web.oom_score_adj must be less than or equal to 1000",
            ),
            (web("cap_add: [A, A]"), "4:18: services.web.cap_add items at 0 and 1 are equal"),
            (
                web("depends_on: {db: {condition: healthy}}"),
                "4:34: services.web.depends_on.db.condition value must be one of 'service_started', 'service_healthy', 'service_completed_successfully'",
            ),
            (web("volumes: [{source: a}]"), "4:15: services.web.volumes.0 missing property 'type'"),
            (
                web("pull_policy: sometimes"),
                "4:18: services.web.pull_policy 'sometimes' does not match pattern 'always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+'",
            ),
            ("services: []\n".to_owned(), "1:11: services must be a mapping"),
            (
                "service: {}\n".to_owned(),
                "1:1: additional properties 'service' not allowed (did you mean 'services'?)",
            ),
            (
                "services:\n  a b: {image: x}\n".to_owned(),
                "2:3: services additional properties 'a b' not allowed",
            ),
        ];
        for (given, wanted) in table {
            assert_eq!(fault(&given), wanted, "{given}");
        }
    }

    #[test]
    fn extensions_may_stand_where_they_may() {
        let text =
            "x-a: 1\nservices:\n  web: {image: x, x-b: 2, healthcheck: {x-c: 3}}\nnetworks: {n: {x-d: 4}}\n";
        let root = read(text, 0).unwrap().remove(0).root;
        validate(&root).unwrap();
    }
}
