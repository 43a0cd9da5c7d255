//! The rules of the house that no compiler holds: which part may know which, and that generated files are current.
//!
//! The borders are read off the paths in the sources, `use` or not. A test that fails says what to do instead.
//! `CONFAB_UPDATE=1 cargo test --test house` writes the generated files afresh.

mod paths;

use std::{fmt::Write as _, fs, path::PathBuf};

use domain::{
    ErrorCode,
    error::Surface,
    measure::{self, Kind, Metric},
};

use paths::paths_of;

const CRATES: &[&str] = &["api", "domain", "entity", "migration", "workers"];

// ---------------------------------------------------------------- borders

/// An outside crate, the folders that may name it, and what to do elsewhere.
type CrateRule = (&'static [&'static str], &'static [&'static str], &'static str);

const CRATE_RULES: &[CrateRule] = &[
    (
        &["axum", "async_graphql"],
        &["api/src/"],
        "HTTP and GraphQL stay in `api`: let a service return a type of the model, and encode it in `api`",
    ),
    (
        &["sea_orm", "sea_query", "sea_query_sqlx", "sqlx"],
        &["entity/src/", "migration/src/", "domain/src/adapter/sql"],
        "SQL stays behind a port: add what you need to the trait in `domain/src/port`, and implement it in \
         `domain/src/adapter/sql`",
    ),
    (
        &["sea_orm_migration"],
        &["migration/src/"],
        "the schema changes in `migration` alone: add a file there",
    ),
    (
        &["redis", "rdkafka", "tonic"],
        &["domain/src/adapter", "domain/src/grpc"],
        "brokers and caches stay behind a port: add what you need to `domain/src/port`, and implement it in \
         `domain/src/adapter`",
    ),
    (
        &["opentelemetry", "opentelemetry_otlp", "opentelemetry_sdk", "tracing_opentelemetry"],
        &[],
        "only the binary knows who collects traces: make an `ExportedSpan` of `domain::trace`",
    ),
    (
        &["entity"],
        &["entity/src/", "domain/src/adapter/sql"],
        "rows stay inside the SQL adapter: turn them into types of the model there",
    ),
    (
        &["migration"],
        &["migration/src/"],
        "only the binary and tests run migrations: pass in what is needed of them",
    ),
    (
        &["domain"],
        &["domain/src/", "api/src/", "workers/src/"],
        "`entity` and `migration` know the tables and nothing of the product",
    ),
    (&["api"], &["api/src/"], "nothing points back at `api`: move what both need into `domain`"),
    (&["workers"], &["workers/src/"], "nothing points back at `workers`: move what both need into `domain`"),
];

/// Files, the paths that they must not name, the exceptions to that, and what to do instead.
struct PathRule {
    within: &'static str,
    except_within: &'static [&'static str],
    never: &'static [&'static str],
    but: &'static [&'static str],
    fix: &'static str,
}

const PATH_RULES: &[PathRule] = &[
    PathRule {
        within: "domain/src/model",
        except_within: &[],
        never: &["domain::port", "domain::service", "domain::adapter", "domain::commit", "domain::wiring"],
        but: &[],
        fix: "the model knows values alone: take the value as an argument, or move the rule into a service",
    },
    PathRule {
        within: "domain/src/port",
        except_within: &[],
        never: &["domain::service", "domain::adapter", "domain::wiring"],
        but: &[],
        fix: "a port speaks of the model alone: move the type that both need into `domain/src/model` or the port",
    },
    PathRule {
        within: "domain/src/adapter",
        except_within: &[],
        never: &["domain::service", "domain::wiring"],
        but: &[],
        fix: "an adapter knows its port and the model: a rule belongs in a service, a shared type in the port",
    },
    PathRule {
        within: "domain/src/",
        except_within: &["domain/src/adapter", "domain/src/testing.rs", "domain/src/wiring.rs"],
        never: &["domain::adapter"],
        but: &[],
        fix: "take the port as `Arc<dyn …>`; `domain/src/wiring.rs` chooses the adapter",
    },
    PathRule {
        within: "domain/src/",
        except_within: &["domain/src/wiring.rs"],
        never: &["domain::wiring"],
        but: &[],
        fix: "take what you need as an argument; `wiring` hands it out and nobody asks it",
    },
    PathRule {
        within: "workers/src/",
        except_within: &[],
        never: &["domain::adapter", "domain::commit", "domain::wiring"],
        but: &[],
        fix: "`workers` reaches everything through `domain::Chat` and the queue: add a method there",
    },
    PathRule {
        within: "workers/src/",
        except_within: &[],
        never: &["domain::port"],
        // Time and chance everybody has to ask for.
        but: &[
            "domain::port::queue",
            "domain::port::Queue",
            "domain::port::ambient",
            "domain::port::Clock",
            "domain::port::Random",
        ],
        fix: "`workers` calls no storage: add a method to `domain::Chat`",
    },
    PathRule {
        within: "api/src/",
        except_within: &[],
        never: &["domain::adapter", "domain::commit", "domain::wiring"],
        but: &[],
        fix: "`api` reaches everything through `domain::Chat`: add a method there",
    },
    PathRule {
        within: "api/src/",
        except_within: &[],
        never: &["domain::port"],
        // The types of answers that two ports define; and time and chance, which everybody has to ask for.
        but: &[
            "domain::port::conversations",
            "domain::port::log",
            "domain::port::ambient",
            "domain::port::Clock",
            "domain::port::Random",
        ],
        fix: "`api` calls no storage: add a method to `domain::Chat`",
    },
];

#[test]
fn every_part_names_only_what_it_may_know() {
    let exported = exports(&read("domain/src/lib.rs"));
    let mut faults = Vec::new();
    for file in CRATES.iter().flat_map(|name| rust_files(&format!("{name}/src"))) {
        for (line, path) in paths_of(&file, &read(&file)) {
            let path = canonical(&path, &exported);
            faults.extend(crossing(&file, &path).map(|fix| format!("{file}:{line} names {path}: {fix}")));
        }
    }
    assert_none(&faults);
}

/// What to do instead, where a file names what it must not.
fn crossing(file: &str, path: &str) -> Option<&'static str> {
    let first = path.split("::").next().unwrap_or_default();
    let by_crate = CRATE_RULES
        .iter()
        .filter(|(names, homes, _)| {
            names.contains(&first) && !homes.iter().any(|home| file.starts_with(home))
        })
        .map(|(_, _, fix)| *fix);
    let by_path = PATH_RULES
        .iter()
        .filter(|rule| file.starts_with(rule.within))
        .filter(|rule| !rule.except_within.iter().any(|within| file.starts_with(within)))
        .filter(|rule| rule.never.iter().any(|never| is_within(path, never)))
        .filter(|rule| !rule.but.iter().any(|but| is_within(path, but)))
        .map(|rule| rule.fix);
    by_crate.chain(by_path).next()
}

fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn a_crossed_border_names_its_fix() {
    for (file, path) in [
        ("domain/src/service/send_message.rs", "sea_orm::Value"),
        ("domain/src/model/id.rs", "domain::port::Clock"),
        ("domain/src/model/id.rs", "domain::service::Domain"),
        ("domain/src/commit/batch.rs", "domain::adapter::sql"),
        ("domain/src/adapter/in_process.rs", "entity::user_account"),
        ("api/src/schema.rs", "domain::port::Log"),
        ("workers/src/relay.rs", "domain::port::Relays"),
        ("api/src/schema.rs", "domain::adapter::sql::SqlStore"),
        ("entity/src/lib.rs", "domain::UserId"),
    ] {
        assert!(crossing(file, path).is_some(), "{file} may not name {path}");
    }
    for (file, path) in [
        ("domain/src/adapter/sql/log.rs", "sea_orm::Value"),
        ("domain/src/wiring.rs", "domain::adapter::sql::SqlStore"),
        ("api/src/schema/paging.rs", "domain::port::conversations::ListCursor"),
        ("domain/src/service.rs", "domain::adapters::X"),
    ] {
        assert_eq!(crossing(file, path), None, "{file} may name {path}");
    }
}

/// What the crate root offers under a shorter name: `domain::Chat` is `domain::chat::Chat`.
fn exports(root: &str) -> Vec<(String, String)> {
    let paths = paths_of("domain/src/lib.rs", root).into_iter().map(|(_, path)| path);
    paths.filter_map(|path| Some((format!("domain::{}", path.rsplit_once("::")?.1), path))).collect()
}

fn canonical(path: &str, exported: &[(String, String)]) -> String {
    exported
        .iter()
        .find(|(short, _)| is_within(path, short))
        .map_or_else(|| path.to_owned(), |(short, long)| format!("{long}{}", &path[short.len()..]))
}

// ---------------------------------------------------------------- files

const LINES_OF_CODE_MAX: usize = 400;
const HEADER_LINES_MAX: usize = 25;

#[test]
fn crate_roots_and_top_modules_open_with_what_they_are() {
    let mut faults = Vec::new();
    for folder in ["src", "api/src", "bench/src", "domain/src", "entity/src", "migration/src", "workers/src"]
    {
        let tables = ["entity/src", "migration/src"].contains(&folder);
        for file in rust_files(folder) {
            let is_root = file.ends_with("/lib.rs") || file.ends_with("/main.rs");
            let is_top = file.matches('/').count() == folder.matches('/').count() + 1;
            // One table or change a file: the crate's root speaks for them.
            if !is_root && (!is_top || tables) {
                continue;
            }
            let header = read(&file).lines().take_while(|line| line.starts_with("//!")).count();
            if header == 0 {
                faults
                    .push(format!("{file}: open it with `//!`: what it is, what it is not, where to start"));
            } else if header > HEADER_LINES_MAX {
                faults.push(format!("{file}: {header} lines of `//!`; {HEADER_LINES_MAX} are enough"));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn long_files_say_why_and_none_is_called_mod() {
    let mut faults = Vec::new();
    for folder in ["src", "tests", "api", "bench", "domain", "entity", "migration", "workers"] {
        for file in rust_files(folder) {
            let text = read(&file);
            let code =
                text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with("//"));
            let lines = code.count();
            let has_reason = text.lines().any(|line| line.starts_with("// LONG: "));
            if lines > LINES_OF_CODE_MAX && !has_reason {
                faults.push(format!(
                    "{file}: {lines} lines of code: split it, or add a line `// LONG: reason`"
                ));
            }
            if file.ends_with("/mod.rs") {
                let name = file.trim_end_matches("/mod.rs");
                faults.push(format!("{file}: call it {name}.rs"));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn schema_graphql_is_what_the_code_says() {
    assert_generated("schema.graphql", &api::schema::sdl());
}

#[test]
fn error_catalogue_is_what_the_code_says() {
    assert_generated("docs/errors.md", &error_catalogue());
}

fn error_catalogue() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         Generated from `domain/src/error.rs`; do not edit. Handle codes, never texts.\n\n\
         - *payload*: in `userErrors` of a mutation's payload, with `field` where one is at fault.\n\
         - *top level*: in `errors`, as `extensions.code`.\n\
         - *retryable*: the same call may succeed later without a change (`extensions.retryable`).\n\
         - *HTTP*: the status when nothing has run, for `application/graphql-response+json`; under `application/json` it is 200, but for 401\n  \
         and 429. An answer with `data` is 200, whatever errors are beside it. What is wrong with the HTTP request itself has its own: 400, 403,\n  \
         405, 406, 408, 413, 414 or 415 under both.\n\
         - *gRPC*: the status between `confab api` and `confab domain`.\n\n\
         | Code | Where | Retryable | HTTP | gRPC | Cause | Remedy |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for info in ErrorCode::ALL.iter().map(|code| code.info()) {
        let place = match info.surface {
            Surface::Payload => "payload",
            Surface::TopLevel => "top level",
            Surface::Both => "payload of a mutation, else top level",
        };
        let retryable = if info.retryable { "yes" } else { "no" };
        let cells = [info.cause, info.remedy].map(|cell| cell.replace('|', "\\|"));
        writeln!(
            page,
            "| `{}` | {place} | {retryable} | {} | {:?} | {} | {} |",
            info.name, info.http_status, info.grpc_status, cells[0], cells[1]
        )
        .expect("a string takes everything");
    }
    page
}

#[test]
fn list_of_metrics_is_what_the_code_says() {
    assert_generated("docs/metrics.md", &list_of_metrics());
}

fn list_of_metrics() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Generated from `domain/src/measure.rs`; do not edit. Every process shows those of its role at `/metrics` of its admin address\n\
         (`CONFAB_ADMIN_LISTEN`), in the format of Prometheus. Latencies are histograms in seconds.\n\n\
         | Metric | Kind | Labels | Meaning |\n\
         |---|---|---|---|\n",
    );
    for Metric { name, kind, labels, meaning } in measure::ALL {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Latency => "histogram",
        };
        writeln!(page, "| `{name}` | {kind} | {labels} | {meaning} |").expect("a string takes everything");
    }
    page
}

// ---------------------------------------------------------------- helpers

/// Cargo runs tests in their package's folder; the folder of the build may be another checkout's.
fn root() -> PathBuf {
    PathBuf::from(".")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// All Rust sources below a folder, as paths from the root, in order. Nothing of packages or builds.
fn rust_files(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry of a folder").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "node_modules" && name != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(root()).expect("a file below the root");
                files.push(file.to_str().expect("a path in UTF-8").to_owned());
            }
        }
    }
    files.sort();
    files
}

#[expect(clippy::disallowed_methods, reason = "a switch of this test, not a setting of the product")]
fn assert_generated(file: &str, wanted: &str) {
    let path = root().join(file);
    if std::env::var_os("CONFAB_UPDATE").is_some() {
        fs::write(&path, wanted).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    let current = fs::read_to_string(&path).unwrap_or_default();
    let differs = current.lines().zip(wanted.lines()).position(|(current, wanted)| current != wanted);
    let line = differs.unwrap_or_else(|| current.lines().count().min(wanted.lines().count())) + 1;
    assert!(
        current == wanted,
        "{file} differs from the code at line {line}: CONFAB_UPDATE=1 cargo test --test house, and commit it"
    );
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}
