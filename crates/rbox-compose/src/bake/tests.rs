//! Whole files, and what they come to.
#![allow(clippy::unwrap_used, clippy::format_collect)]

use std::path::PathBuf;

use super::*;
use crate::environment::Shell;

fn plan(text: &str) -> Result<Plan, BakeError> {
    plan_with(&[("docker-bake.hcl", text)], &[], &[])
}

fn plan_with(files: &[(&str, &str)], env: &[(&str, &str)], set: &[&str]) -> Result<Plan, BakeError> {
    let file = |(name, text): &(&str, &str)| BakeFile { name: (*name).to_owned(), text: (*text).to_owned() };
    let options = BakeOptions {
        directory: PathBuf::from("/"),
        environment: Shell::of(env.iter().copied()),
        remote: Some(files.iter().map(file).collect()),
        ..BakeOptions::default()
    };
    let set: Vec<String> = set.iter().map(|one| (*one).to_owned()).collect();
    Definition::load(&options)?.plan(&["default".to_owned()], &set, None)
}

/// The arguments of the target `default`.
fn args(text: &str) -> String {
    let plan = plan(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    serde_json::to_string(&plan.targets["default"].args).unwrap()
}

fn value(expression: &str) -> String {
    let text = format!("target \"default\" {{\n args = {{ A = jsonencode({expression}) }}\n}}\n");
    plan(&text).unwrap_or_else(|error| panic!("{error}: {expression}")).targets["default"].args["A"].clone()
}

fn fault(expression: &str) -> String {
    let text = format!("target \"default\" {{\n args = {{ A = jsonencode({expression}) }}\n}}\n");
    match plan(&text) {
        Ok(plan) => panic!("{expression} is {:?}", plan.targets["default"].args),
        Err(error) => error.to_string(),
    }
}

#[test]
fn expressions() {
    for (expression, wanted) in [
        ("1 + 2 * 3 - 4 / 2", "5"),
        ("\"a${1 + 1}b\"", "\"a2b\""),
        ("\"$${x} %%{y}\"", "\"${x} %{y}\""),
        ("true ? \"a\" : 1", "\"a\""),
        ("false ? \"a\" : 1", "\"1\""),
        ("true ? [] : [\"a\"]", "[]"),
        ("!false && (1 < 2 || false)", "true"),
        ("-3 % 2", "-1"),
        ("[for x in [1, 2, 3]: x * 2 if x > 1]", "[4,6]"),
        ("[for i, x in [\"a\", \"b\"]: \"${i}${x}\"]", "[\"0a\",\"1b\"]"),
        ("{for k, v in {a = 1, b = 2}: upper(k) => v}", "{\"A\":1,\"B\":2}"),
        (
            "{for x in [\"a\", \"ab\", \"b\"]: substr(x, 0, 1) => x...}",
            "{\"a\":[\"a\",\"ab\"],\"b\":[\"b\"]}",
        ),
        ("[{a = 1}, {a = 2}][*].a", "[1,2]"),
        ("[{a = 1}, {a = 2}].*.a", "[1,2]"),
        ("{a = [1, 2]}.a[1]", "2"),
        ("[1, 2].0", "1"),
        ("null[*]", "[]"),
        ("{(upper(\"a\")) = null}", "{\"A\":null}"),
        ("\"%{ for x in [\"a\", \"b\"] }(${x})%{ endfor }\"", "\"(a)(b)\""),
        ("\"%{ if true }y%{ else }n%{ endif }\"", "\"y\""),
        ("\"a ${~ \"b\" ~} c\"", "\"abc\""),
        ("<<EOT\n  a\n ${1}\nEOT\n", "\"  a\\n 1\\n\""),
        ("<<-EOT\n   a\n    b\n   EOT\n", "\"a\\n b\\n\""),
        ("\"12\" + 1", "13"),
        ("1 == \"1\"", "false"),
        ("[1] == [1]", "true"),
        ("12345678901234567890", "12345678901234567890"),
        ("max([1, 5, 2]...)", "5"),
        ("try(nothing.at.all, \"b\")", "\"b\""),
        ("can(nothing)", "false"),
        ("convert(\"5\", number)", "5"),
        ("convert([\"b\", \"a\", \"b\"], set(string))", "[\"a\",\"b\"]"),
    ] {
        assert_eq!(value(expression), wanted, "{expression}");
    }
}

#[test]
fn functions_of_files_and_of_all() {
    for (expression, wanted) in [
        ("add(1, 2)", "3"),
        ("basename(\"/a/b\")", "\"b\""),
        ("base64encode(\"hi\")", "\"aGk=\""),
        ("base64decode(\"aGk=\")", "\"hi\""),
        ("chomp(\"a\\n\\n\")", "\"a\""),
        ("chunklist([1, 2, 3], 2)", "[[1,2],[3]]"),
        ("cidrhost(\"10.12.127.0/20\", 16)", "\"10.12.112.16\""),
        ("cidrnetmask(\"172.16.0.0/12\")", "\"255.240.0.0\""),
        ("cidrsubnet(\"172.16.0.0/12\", 4, 2)", "\"172.18.0.0/16\""),
        ("cidrsubnets(\"10.1.0.0/16\", 4, 4, 8)", "[\"10.1.0.0/20\",\"10.1.16.0/20\",\"10.1.32.0/24\"]"),
        ("coalesce(null, \"\", \"a\")", "\"\""),
        ("compact([\"a\", \"\", \"b\"])", "[\"a\",\"b\"]"),
        ("concat([1], [2, 3])", "[1,2,3]"),
        ("contains([\"a\"], \"a\")", "true"),
        ("csvdecode(\"a,b\\n1,\\\"2,3\\\"\\n\")", "[{\"a\":\"1\",\"b\":\"2,3\"}]"),
        ("distinct([\"a\", \"b\", \"a\"])", "[\"a\",\"b\"]"),
        ("element([\"a\", \"b\"], 3)", "\"b\""),
        ("flatten([[1, [2]], 3])", "[1,2,3]"),
        ("format(\"%s-%03d\", \"a\", 7)", "\"a-007\""),
        ("formatdate(\"YYYY-MM-DD\", \"2020-02-03T04:05:06Z\")", "\"2020-02-03\""),
        ("formatlist(\"%s-%s\", [\"a\", \"b\"], \"x\")", "[\"a-x\",\"b-x\"]"),
        ("formattimestamp(\"X\", \"1970-01-01T00:01:00Z\")", "\"60\""),
        ("indent(2, \"a\\nb\")", "\"a\\n  b\""),
        ("index({a = 1}, \"a\")", "1"),
        ("indexof([\"a\", \"b\"], \"b\")", "1"),
        ("join(\",\", [\"a\", \"b\"], [\"c\"])", "\"a,b,c\""),
        ("jsondecode(\"{\\\"a\\\":[1]}\").a[0]", "1"),
        ("keys({b = 1, a = 2})", "[\"a\",\"b\"]"),
        ("length(\"ab\")", "2"),
        ("lookup({a = 1}, \"b\", 2)", "2"),
        ("md5(\"\")", "\"d41d8cd98f00b204e9800998ecf8427e\""),
        ("merge({a = 1}, {a = 2, b = 3})", "{\"a\":2,\"b\":3}"),
        ("notequal(1, 2)", "true"),
        ("parseint(\"ff\", 16)", "255"),
        ("pow(2, 10)", "1024"),
        ("range(3)", "[0,1,2]"),
        ("regex(\"[a-z]+\", \"12ab\")", "\"ab\""),
        ("regex(\"(?P<x>[a-z])(?P<y>\\\\d)\", \"a1\")", "{\"x\":\"a\",\"y\":\"1\"}"),
        ("regexall(\"\\\\d\", \"a1b2\")", "[\"1\",\"2\"]"),
        ("regex_replace(\"ab12\", \"([a-z])\\\\d\", \"($${1})\")", "\"a(b)2\""),
        ("regex(\"(?i)AB\", \"xab\")", "\"ab\""),
        ("replace(\"a-b-c\", \"-\", \"\")", "\"abc\""),
        ("reverse(\"abc\")", "\"cba\""),
        ("sanitize(\"a.b/c\")", "\"a_b_c\""),
        ("setproduct([\"a\", \"b\"], [1])", "[[\"a\",1],[\"b\",1]]"),
        ("setsubtract([\"a\", \"b\"], [\"a\"])", "[\"b\"]"),
        ("sha1(\"\")", "\"da39a3ee5e6b4b0d3255bfef95601890afd80709\""),
        ("substr(sha256(\"\"), 0, 8)", "\"e3b0c442\""),
        ("slice([1, 2, 3], 1, 2)", "[2]"),
        ("sort([\"b\", \"a\"])", "[\"a\",\"b\"]"),
        ("split(\",\", \"a,b\")", "[\"a\",\"b\"]"),
        ("timeadd(\"2020-01-01T00:00:00Z\", \"1h30m\")", "\"2020-01-01T01:30:00Z\""),
        ("title(\"a bc\")", "\"A Bc\""),
        ("trim(\"xaxx\", \"x\")", "\"a\""),
        ("unixtimestampparse(0).weekday_name", "\"Thursday\""),
        ("urlencode(\"a b/c\")", "\"a+b%2Fc\""),
        ("uuidv5(\"dns\", \"example.com\")", "\"cfbff0d1-9375-5685-968c-48ce8b15ae17\""),
        ("zipmap([\"a\"], [1])", "{\"a\":1}"),
    ] {
        assert_eq!(value(expression), wanted, "{expression}");
    }
    assert_eq!(value("length(uuidv4())"), "36");
    assert_eq!(
        args(
            "function \"tag\" {\n params = [x]\n variadic_params = more\n result = \"${x}${length(more)}${V}\"\n}\nV = \"v\"\ntarget \"default\" {\n args = { A = tag(\"a\", 1, 2) }\n}"
        ),
        "{\"A\":\"a2v\"}"
    );
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for (expression, why) in [
        ("nope", "docker-bake.hcl:2:26: variable \"nope\" does not exist"),
        ("nope(1)", "docker-bake.hcl:2:26: function \"nope\" does not exist"),
        ("uper(\"a\")", "did you mean upper?"),
        ("bcrypt(\"a\")", "function \"bcrypt\" is not supported: its result is another one each time"),
        ("upper()", "upper: it takes 1 arguments, not 0"),
        ("upper(null)", "argument 1 must not be null"),
        ("\"x${null}\"", "cannot be in a text"),
        ("\"x${[1]}\"", "string required, not list"),
        ("1 / 0", "division by zero"),
        ("[1][2]", "there is no element 2 in a list of 1"),
        ("{a = 1}.b", "there is no attribute \"b\""),
        ("true ? [1] : \"a\"", "have one type"),
        ("target", "cannot access target as a variable"),
        ("target.none.args", "there is no target \"none\""),
        ("target.default.nope", "a target has no attribute \"nope\""),
        ("target.default.args", "reference cycle not allowed for target.default.args"),
        ("{for x in [1, 1]: \"a\" => x}", "two elements have the key"),
        ("max([1]..., 2)", "docker-bake.hcl:2"),
        ("regex(\"(\", \"a\")", "invalid regexp pattern"),
        ("range(2000)", "more than 1024 values"),
        ("convert(1, nope)", "is no type"),
    ] {
        let error = fault(expression);
        assert!(error.contains(why), "{expression}: {error}");
    }
    for (text, why) in [
        ("target \"a\" {\n  args = {\n", "docker-bake.hcl:"),
        (
            "target \"default\" {\n  tags = 5\n}",
            "docker-bake.hcl:2:10: tags: list of string required, not number",
        ),
        ("target \"a b\" {\n}", "invalid name \"a b\""),
        ("target {\n}", "target takes one name"),
        (
            "variable \"a\" {\n default = b\n}\nvariable \"b\" {\n default = a\n}",
            "docker-bake.hcl:5:12: variable cycle not allowed for a",
        ),
        (
            "function \"f\" {\n params = [x]\n result = g(x)\n}\nfunction \"g\" {\n params = [x]\n result = f(x)\n}",
            "function cycle not allowed for f",
        ),
        (
            "function \"f\" {\n params = []\n result = nope\n}",
            "docker-bake.hcl:3:11: variable \"nope\" does not exist",
        ),
        ("function \"f\" {\n params = []\n}", "empty result not allowed for f"),
        ("variable \"a\" {\n type = nope\n}", "\"nope\" is no type"),
        (
            "variable \"a\" {\n type = number\n default = \"x\"\n}",
            "invalid type number for variable a default value",
        ),
        (
            "variable \"a\" {\n default = \"x\"\n validation {\n  condition = a != \"x\"\n  error_message = \"not ${a}\"\n }\n}",
            "docker-bake.hcl:4:15: variable a is not valid: not x",
        ),
        ("target \"default\" {\n name = \"x\"\n}", "name requires matrix"),
        ("target \"x\" {\n matrix = { a = [\"1\", \"1\"] }\n name = a\n}", "duplicate name \"1\""),
        ("group \"default\" {\n targets = [\"nope\"]\n}", "failed to find target nope"),
        (
            "target \"default\" {\n inherits = [\"b\"]\n}\ntarget \"b\" {\n inherits = [\"default\"]\n}",
            "which inherits from it",
        ),
        ("target \"default\" {\n contexts = { a = \"target:default\" }\n}", "cannot link to itself"),
        (
            "target \"default\" {\n contexts = { a = \"target:b\" }\n}\ntarget \"b\" {\n contexts = { a = \"target:default\" }\n}",
            "infinite loop from b to default",
        ),
        ("target \"default\" {\n context = \"-\"\n}", "context from stdin not allowed in bake"),
        ("target \"default\" {\n output = [\"push=true,a=b\"]\n}", "type is required for output"),
        ("target \"default\" {\n secret = [\"id=a,mode=1\"]\n}", "unexpected key \"mode\" of a secret"),
    ] {
        let error = plan(text).map(|plan| plan.to_json()).unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains('\n'), "{text}: {error}");
    }
}

#[test]
fn nothing_runs_away() {
    let doubled =
        (1..60).map(|n| format!("variable \"v{n}\" {{\n default = \"${{v{}}}${{v{}}}\"\n}}\n", n - 1, n - 1));
    let doubled: String = std::iter::once("variable \"v0\" {\n default = \"xxxxxxxx\"\n}\n".to_owned())
        .chain(doubled)
        .collect();
    let lists = doubled.replace("\"${", "[").replace("}${", ", ").replace("}\"\n", "]\n");
    let calls = (1..60)
        .map(|n| format!("function \"f{n}\" {{\n params = [x]\n result = f{}(f{}(x))\n}}\n", n - 1, n - 1));
    let calls: String = std::iter::once("function \"f0\" {\n params = [x]\n result = x\n}\n".to_owned())
        .chain(calls)
        .collect();
    let calls = format!("{calls}target \"default\" {{\n args = {{ A = f59(1) }}\n}}");
    let chain: String =
        (0..20_000).map(|n| format!("variable \"v{n}\" {{\n default = v{}\n}}\n", n + 1)).collect();
    let ten = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let matrix = format!(
        "target \"default\" {{\n name = \"x\"\n matrix = {{ a = {ten}, b = {ten}, c = {ten}, d = {ten}, e = {ten}, f = {ten} }}\n}}"
    );
    let inherits: String =
        (0..5000).map(|n| format!("target \"t{n}\" {{\n inherits = [\"t{}\"]\n}}\n", n + 1)).collect();
    let inherits =
        format!("{inherits}target \"t5000\" {{\n}}\ngroup \"default\" {{\n targets = [\"t0\"]\n}}");
    let groups: String =
        (0..5000).map(|n| format!("group \"g{n}\" {{\n targets = [\"g{}\"]\n}}\n", n + 1)).collect();
    let groups = format!("{groups}group \"default\" {{\n targets = [\"g0\"]\n}}");
    let deep = format!("a = {}1{}", "[".repeat(10_000), "]".repeat(10_000));
    for (what, text) in [
        ("doubled", &doubled),
        ("lists", &lists),
        ("calls", &calls),
        ("chain", &chain),
        ("matrix", &matrix),
        ("inherits", &inherits),
        ("groups", &groups),
        ("deep", &deep),
        ("operators", &format!("a = {}1", "!".repeat(100_000))),
        ("sum", &format!("a = 1{}", " + 1".repeat(100_000))),
        ("conditions", &format!("a = {}1", "true ? 1 : ".repeat(50_000))),
        ("templates", &format!("a = {}", "\"${".repeat(10_000))),
    ] {
        let begun = std::time::Instant::now();
        let error = plan(text).map(|plan| plan.to_json().len()).unwrap_err().to_string();
        assert!(
            error.len() < 2000 && begun.elapsed().as_secs() < 30,
            "{what}: {error} {:?}",
            begun.elapsed()
        );
    }
    let json = format!("{{\"a\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
    plan_with(&[("x.json", &json)], &[], &[]).unwrap_err();
    for expression in [
        "format(\"%1000000000d\", 1)",
        "indent(1000000000, \"a\\nb\")",
        "join(\"${join(\"\", [for x in range(1000): \"${x}\"])}\", [for x in range(1000): \"${x}\"])",
        "pow(10, 1e9)",
        "setproduct(range(1000), range(1000))",
        "replace(join(\"\", [for x in range(1000): \"a\"]), \"a\", join(\"\", [for x in range(1000): \"aaaa\"]))",
        "[for a in range(1000): [for b in range(1000): [for c in range(1000): a]]]",
        "length([for a in range(1000): [for b in range(1000): try(range(1000), 1)]])",
    ] {
        fault(expression);
    }
}

#[test]
fn variables_come_from_outside() {
    let file = "variable \"S\" {\n default = \"d\"\n}\nvariable \"N\" {\n default = 1\n}\nvariable \"B\" {\n default = false\n}\nvariable \"L\" {\n type = list(string)\n default = [\"x\"]\n}\nvariable \"O\" {\n type = object({a = number, b = optional(string)})\n}\nvariable \"E\" {\n}\ntarget \"default\" {\n args = { S = S, N = N + 1, B = !B, L = join(\"+\", L), O = jsonencode(O), E = \"<${E}>\" }\n}";
    let of = |env: &[(&str, &str)]| {
        plan_with(&[("docker-bake.hcl", file)], env, &[])
            .map(|plan| plan.targets["default"].args.values().cloned().collect::<Vec<_>>().join(" "))
    };
    assert_eq!(of(&[]).unwrap(), "true <> x 2 null d");
    let env = [("S", "s"), ("N", "4"), ("B", "1"), ("L", "a,\"b,c\""), ("O_JSON", "{\"a\": 5}"), ("E", "e")];
    assert_eq!(of(&env).unwrap(), "false <e> a+b,c 5 {\"a\":5,\"b\":null} s");
    for (name, value, why) in [
        ("N", "x", "failed to parse N as number"),
        ("B", "maybe", "failed to parse B as bool"),
        ("O", "a", "unsupported type object for variable O"),
        ("O_JSON", "{", "failed to convert variable O from JSON"),
        ("O_JSON", "{}", "attribute \"a\" is required"),
        ("L_JSON", "5", "list required"),
    ] {
        let error = of(&[(name, value)]).unwrap_err().to_string();
        assert!(error.contains(why) && error.starts_with("docker-bake.hcl:"), "{name}={value}: {error}");
    }
}

#[test]
fn json_says_the_same() {
    let json = r#"{
  "//": "a comment",
  "variable": {"V": {"default": "v"}, "L": {"type": "list(string)", "default": ["a"]}},
  "function": {"f": {"params": ["x"], "result": "${upper(x)}"}},
  "group": {"default": {"targets": ["one", "two-a"]}},
  "target": {
    "one": {"args": {"A": "${f(V)}", "B": 5, "C": null}, "tags": ["t:${V}"]},
    "two": [{"name": "two-${x}", "matrix": {"x": ["a", "b"]}, "output": [{"type": "local", "dest": "o"}]}]
  }
}"#;
    let plan = plan_with(&[("docker-bake.json", json)], &[], &[]).unwrap();
    assert_eq!(plan.targets.keys().collect::<Vec<_>>(), ["one", "two-a"]);
    assert_eq!(serde_json::to_string(&plan.targets["one"].args).unwrap(), "{\"A\":\"V\",\"B\":\"5\"}");
    for (text, why) in [
        ("{", "x.json:1:1"),
        ("{\"target\": {\"a\": 5}}", "x.json:1:18: an object is required here"),
        (
            "{\"target\": {\"default\": {\n \"args\": {\"A\": \"${nope}\"}}}}",
            "x.json:2:16: variable \"nope\" does not exist",
        ),
        ("{\"target\": {\"default\": {\"tags\": [], \"tags\": []}}}", "attribute \"tags\" is set twice"),
    ] {
        let error = plan_with(&[("x.json", text)], &[], &[]).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn later_files_lie_over_earlier_ones() {
    let first = "target \"default\" {\n tags = [\"a\"]\n args = { A = \"1\", B = \"1\" }\n cache-from = [\"x\"]\n}\nvariable \"V\" {\n default = \"1\"\n}";
    let second = "target \"default\" {\n tags = [\"b\"]\n args = { B = V }\n cache-from = [\"y\", \"x\"]\n}\nvariable \"V\" {\n default = \"2\"\n}";
    let plan = plan_with(&[("a.hcl", first), ("b.hcl", second)], &[], &[]).unwrap();
    let target = &plan.targets["default"];
    assert_eq!(target.tags.as_deref().unwrap(), ["b"]);
    assert_eq!(serde_json::to_string(&target.args).unwrap(), "{\"A\":\"1\",\"B\":\"2\"}");
}

#[test]
fn the_command_line_lies_over_all() {
    let file = "group \"default\" {\n targets = [\"app\", \"api\"]\n}\ntarget \"app\" {\n tags = [\"a\"]\n secret = [\"id=s,src=x\"]\n output = [\"type=image\"]\n}\ntarget \"api\" {\n inherits = [\"app\"]\n}";
    let of = |set: &[&str]| plan_with(&[("docker-bake.hcl", file)], &[("H", "h")], set);
    let plan = of(&[
        "*.args.X=1",
        "app.tags+=b",
        "ap?.platform=linux/arm64",
        "api.args.H",
        "app.secret.s=env=TOKEN",
        "app.push=true",
        "app.resources.memory=1g",
        "api.output=type=local,dest=o",
        "app.labels.a.b=c",
    ])
    .unwrap();
    let (app, api) = (&plan.targets["app"], &plan.targets["api"]);
    assert_eq!(app.tags.as_deref().unwrap(), ["a", "b"]);
    assert_eq!(serde_json::to_string(&api.args).unwrap(), "{\"H\":\"h\",\"X\":\"1\"}");
    assert_eq!((app.secrets[0].variable.as_str(), app.secrets[0].source.as_str()), ("TOKEN", ""));
    assert_eq!(app.outputs.as_ref().unwrap()[0].words(), "type=image,push=true");
    assert_eq!(api.outputs.as_ref().unwrap()[0].words(), "type=local,dest=o");
    assert_eq!(app.labels["a.b"], "c");
    for (set, why) in [
        ("nope.tags=a", "could not find any target matching 'nope'"),
        ("app", "invalid override key app, expected target.name"),
        ("app.tags", "invalid override app.tags, expected target.name=value"),
        ("app.args=1", "args requires name"),
        ("app.nope=1", "unknown key: nope"),
        ("app.no-cache=maybe", "--set app.no-cache: invalid truth"),
        ("app.target+=a", "target does not support append"),
        ("app.secret.t=env=A", "must be declared"),
        ("app.resources.cpu-shares=x", "it is a whole number"),
    ] {
        let error = of(&[set]).unwrap_err().to_string();
        assert!(error.contains(why), "{set}: {error}");
    }
}

#[test]
fn what_is_not_known_is_told() {
    let text = "blub \"x\" {\n}\ntarget \"default\" {\n foo = 1\n}\nvariable \"v\" {\n wrong = 1\n}";
    let options = BakeOptions {
        remote: Some(vec![BakeFile { name: "a.hcl".to_owned(), text: text.to_owned() }]),
        ..BakeOptions::default()
    };
    let found = Definition::load(&options).unwrap();
    let warnings = found.warnings();
    assert_eq!(warnings[1], "a.hcl:4:2: target \"default\" has no attribute \"foo\": it is passed over");
    assert_eq!(warnings.len(), 3, "{warnings:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 300, ..Default::default() })]
    /// Pieces of bake files in any order come to an answer.
    #[test]
    fn any_file_comes_to_an_answer(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60), is_json: bool) {
        let _ = load_text(if is_json { "a.json" } else { "a.hcl" }, &pieces.concat());
    }
}

const PIECES: &[&str] = &[
    "target \"a\" {\n",
    "}\n",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "variable \"v\" {\n",
    "default = ",
    "v",
    "\"",
    "${",
    "%{ for x in ",
    "%{ if ",
    "%{ endif }",
    "%{ endfor }",
    " : ",
    " ? ",
    ", ",
    "\n",
    "= ",
    "name = ",
    "matrix = ",
    "args = ",
    "target.a.args",
    "for x in ",
    "...",
    "[*]",
    ".*",
    "<<EOT\n",
    "EOT\n",
    "1",
    "1e9",
    "-",
    "!",
    "+",
    "==",
    "&&",
    "null",
    "upper(",
    "format(",
    "try(",
    "function \"f\" {\n params = [x]\n result = ",
    "group \"default\" {\n targets = ",
    "inherits = ",
    "\"a\"",
    "~}",
    "ü",
    "\\u12",
    "\"target\": {\"a\": {",
    "\"tags\": [\"x\"]",
];
