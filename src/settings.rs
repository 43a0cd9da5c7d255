//! Settings: the environment before a TOML file before the defaults. Unknown keys are refused, and every problem is told.
//!
//! [`table`] lists them all, each with its meaning, unit, range and default; the sample configuration is printed from it. [`parts`] gives
//! domain, hub and API theirs.

mod parts;
mod table;
mod value;

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use domain::{WorkerId, adapter::kafka::KafkaSettings, grpc::metadata::ServiceSecret};

pub use table::Settings;
pub use value::OtlpEndpoint;
use value::{Brokers, Text, is_on_loopback};
use workers::push::{ApnsSettings, FcmSettings, PushSettings, WebPushSettings};

/// The prefix of every setting in the environment.
const PREFIX: &str = "CONFAB_";
/// The one variable with the prefix that is no setting: where the file is.
const CONFIG_FILE: &str = "CONFAB_CONFIG";
/// Read when it is there and no other file is named.
const DEFAULT_FILE: &str = "confab.toml";

/// What a call of the domain may take beyond the work itself.
const CALL_MARGIN: Duration = Duration::from_millis(500);

/// What is wrong with one setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

/// What was set, by the name in the table, with the name under which it was set.
pub(crate) type Given = BTreeMap<String, (String, String)>;

impl Settings {
    pub fn load(file: Option<&Path>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut given = read_file(file, &mut problems);
        let environment = std::env::vars_os();
        for (name, value) in environment {
            let Ok(name) = name.into_string() else { continue };
            let Some(key) = name.strip_prefix(PREFIX).filter(|_| name != CONFIG_FILE) else { continue };
            match value.into_string() {
                Ok(value) => drop(given.insert(key.to_lowercase(), (name, value))),
                Err(_) => problems.push(Problem { key: name, text: "not valid UTF-8".to_owned() }),
            }
        }
        Self::from_given(given, problems)
    }

    fn from_given(given: Given, mut problems: Vec<Problem>) -> Result<Self, Vec<Problem>> {
        let settings = Self::parse(given, &mut problems);
        if problems.is_empty() {
            settings.check(&mut problems);
        }
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// Rules between settings.
    fn check(&self, problems: &mut Vec<Problem>) {
        let mut problem =
            |key: &str, text: &str| problems.push(Problem { key: key.to_owned(), text: text.to_owned() });
        let loopback = self.listen.ip().is_loopback();
        if !loopback && !self.allow_plaintext && self.tls_certificate.is_none() {
            problem(
                "CONFAB_LISTEN",
                "an address that is not loopback needs CONFAB_TLS_CERTIFICATE, or TLS in front: say so by CONFAB_ALLOW_PLAINTEXT=on",
            );
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            problem("CONFAB_TLS_KEY", "a certificate and its key go together");
        }
        if !loopback && !self.rate_limits {
            problem("CONFAB_RATE_LIMITS", "can be lifted on a loopback address only");
        }
        if !self.domain_listen.ip().is_loopback() && !self.allow_plaintext {
            problem(
                "CONFAB_DOMAIN_LISTEN",
                "calls of the domain are not encrypted; allow a network that you trust by CONFAB_ALLOW_PLAINTEXT=on",
            );
        }
        let domains = self.domain_url.iter().flat_map(|urls| &urls.0);
        let domain_is_here = self.database_url.iter().chain(domains).all(|url| is_on_loopback(url));
        if self.push_private_endpoints && !(loopback && domain_is_here) {
            problem(
                "CONFAB_PUSH_PRIVATE_ENDPOINTS",
                "can be allowed with everything on loopback addresses only: it lets users name hosts of your network",
            );
        }
        if self.push_apns_key.is_some() {
            for (key, value) in [
                ("CONFAB_PUSH_APNS_KEY_ID", &self.push_apns_key_id),
                ("CONFAB_PUSH_APNS_TEAM_ID", &self.push_apns_team_id),
                ("CONFAB_PUSH_APNS_TOPIC", &self.push_apns_topic),
            ] {
                if value.0.is_empty() {
                    problem(key, "is needed with CONFAB_PUSH_APNS_KEY");
                }
            }
        }
        let subject = &self.push_vapid_subject.0;
        if self.push_vapid_key.is_some()
            && !subject.starts_with("mailto:")
            && !subject.starts_with("https://")
        {
            problem(
                "CONFAB_PUSH_VAPID_SUBJECT",
                "mailto:… or https://… is needed with CONFAB_PUSH_VAPID_KEY",
            );
        }
        if self.domain_url.is_some() && self.service_secret.is_none() {
            problem("CONFAB_SERVICE_SECRET", "is needed with CONFAB_DOMAIN_URL");
        }
        if self.admin_listen.is_some_and(|address| address.port() != 0 && address == self.listen) {
            problem("CONFAB_ADMIN_LISTEN", "is the address of the API");
        }
    }

    /// Whether everything lives in the data folder of this process.
    pub fn is_embedded(&self) -> bool {
        self.database_url.is_none()
    }

    pub fn database_url(&self) -> String {
        let file = self.data_dir.join("confab.sqlite");
        self.database_url.clone().unwrap_or_else(|| format!("sqlite://{}?mode=rwc", file.display()))
    }

    pub fn keys_folder(&self) -> PathBuf {
        self.keys_dir.clone().unwrap_or_else(|| self.data_dir.join("keys"))
    }

    /// Which Kafka, if any.
    pub fn kafka(&self) -> Option<KafkaSettings> {
        let Brokers(brokers) = self.kafka_brokers.clone()?;
        let member = self.worker_name.as_ref().map(|name| name.0.clone());
        Some(KafkaSettings { brokers, prefix: self.kafka_topic_prefix.0.clone(), member })
    }

    /// The worker of this name in each of its lives; `None` for one without a name.
    pub fn worker(&self) -> Option<WorkerId> {
        self.worker_name.as_ref().map(|name| WorkerId::named(&name.0))
    }

    /// Through whom devices are pushed to.
    pub fn push(&self) -> PushSettings {
        let text = |text: &Text| text.0.clone();
        let url = |url: &Text| url.0.trim_end_matches('/').to_owned();
        PushSettings {
            apns: self.push_apns_key.clone().map(|key| ApnsSettings {
                url: url(&self.push_apns_url),
                key,
                key_id: text(&self.push_apns_key_id),
                team_id: text(&self.push_apns_team_id),
                topic: text(&self.push_apns_topic),
            }),
            fcm: self
                .push_fcm_account
                .clone()
                .map(|account| FcmSettings { url: url(&self.push_fcm_url), account }),
            web: self
                .push_vapid_key
                .clone()
                .map(|key| WebPushSettings { key, subject: text(&self.push_vapid_subject) }),
            shows_text: self.push_text,
            private_endpoints: self.push_private_endpoints,
        }
    }

    /// What processes of this installation show each other.
    pub fn secret(&self) -> Result<ServiceSecret, &'static str> {
        self.service_secret
            .clone()
            .ok_or("CONFAB_SERVICE_SECRET is needed where api, domain or worker run apart")
    }

    /// How long a call of the domain may take: longer than a send waits for its commit, so that the domain's own word arrives.
    pub fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.send_timeout_ms) + CALL_MARGIN
    }

    /// How long the rest may take to stop once the listener has drained.
    pub fn stop_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}

fn read_file(file: Option<&Path>, problems: &mut Vec<Problem>) -> Given {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let mut problem = |text: String| problems.push(Problem { key: path.display().to_string(), text });
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Given::new(),
        Err(error) => {
            problem(error.to_string());
            return Given::new();
        }
    };
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            problem(error.to_string());
            return Given::new();
        }
    };
    let mut given = Given::new();
    for (key, value) in table {
        match value::of_toml(&value) {
            Some(text) => drop(given.insert(key.clone(), (key, text))),
            None => problems
                .push(Problem { key, text: "must be a text, number, boolean or list of texts".to_owned() }),
        }
    }
    given
}

/// All settings with their meaning and default, as a TOML file that changes nothing.
pub fn sample() -> String {
    let mut text = String::from(
        "# Every setting of Confab with its default. In the environment a setting is CONFAB_ and its name in capitals, and goes\n\
         # before this file. Written by `confab settings`.\n",
    );
    for entry in table::ENTRIES {
        text.push('\n');
        for line in entry.doc.lines() {
            let _ = writeln!(text, "{}", format_args!("# {}", line.trim()).to_string().trim_end());
        }
        if entry.is_live {
            text.push_str("# Read again while the process runs: within 5 s, and at once on SIGHUP.\n");
        }
        let quoted = entry.default.parse::<i64>().is_err();
        let quote = if quoted { "\"" } else { "" };
        let _ = writeln!(text, "#{} = {quote}{}{quote}", entry.key, entry.default);
    }
    text
}

#[cfg(test)]
impl Settings {
    /// The defaults with some changed.
    pub(crate) fn for_test(given: &[(&str, &str)]) -> Self {
        let given =
            given.iter().map(|(key, value)| ((*key).to_owned(), ((*key).to_owned(), (*value).to_owned())));
        Self::from_given(given.collect(), Vec::new()).expect("good settings")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(given: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let given = given.iter().map(|(key, value)| {
            ((*key).to_owned(), (format!("CONFAB_{}", key.to_uppercase()), (*value).to_owned()))
        });
        Settings::from_given(given.collect(), Vec::new())
            .map_err(|problems| problems.into_iter().map(|problem| problem.key).collect())
    }

    #[test]
    fn the_defaults_are_the_embedded_one() {
        let settings = load(&[]).expect("the defaults are good");
        assert!(settings.is_embedded());
        assert_eq!(settings.listen.to_string(), "127.0.0.1:4000");
        assert_eq!(
            settings.admin_listen.map(|address| address.to_string()).as_deref(),
            Some("127.0.0.1:4001")
        );
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_key() {
        let problems = load(&[
            ("listen", "nowhere"),
            ("trusted_hops", "-1"),
            ("rate_limits", "maybe"),
            ("database_url", "oracle://x"),
            ("otlp_endpoint", "127.0.0.1:4317"),
            ("otlp_sampling_ratio", "2"),
            ("redis_url", "http://x"),
            ("kafka_brokers", "127.0.0.1"),
            ("send_timeout_ms", "0"),
        ]);
        let expected = [
            "CONFAB_DATABASE_URL",
            "CONFAB_KAFKA_BROKERS",
            "CONFAB_LISTEN",
            "CONFAB_OTLP_ENDPOINT",
            "CONFAB_OTLP_SAMPLING_RATIO",
            "CONFAB_RATE_LIMITS",
            "CONFAB_REDIS_URL",
            "CONFAB_SEND_TIMEOUT_MS",
            "CONFAB_TRUSTED_HOPS",
        ];
        let mut problems = problems.expect_err("problems");
        problems.sort();
        assert_eq!(problems, expected);
    }

    #[test]
    fn brokers_are_hosts_with_ports_or_none_at_all() {
        for (text, sound) in [
            ("", true),
            (" ", true),
            ("a:9092, b:9092,", true),
            (",", false),
            (",,", false),
            ("a", false),
            (":9092", false),
        ] {
            assert_eq!(load(&[("kafka_brokers", text)]).is_ok(), sound, "{text}");
        }
    }

    #[test]
    fn a_collector_is_a_host_and_a_port() {
        for (text, sound) in [
            ("http://127.0.0.1:4317", true),
            ("http://collector.example:4317/", true),
            ("http://[::1]:4317", true),
            ("http://127.0.0.1", false),
            ("http://:4317", false),
            ("http://somebody@host:4317", false),
            ("http://host:0", false),
            ("http://host:4317/v1/traces", false),
            ("https://host:4317", false),
        ] {
            assert_eq!(load(&[("otlp_endpoint", text)]).is_ok(), sound, "{text}");
        }
        for (text, sound) in [("0", true), ("0.001", true), ("-0.1", false), ("NaN", false), ("half", false)]
        {
            assert_eq!(load(&[("otlp_sampling_ratio", text)]).is_ok(), sound, "{text}");
        }
    }

    #[test]
    fn a_public_address_needs_a_word_and_keeps_its_limits() {
        assert_eq!(load(&[("listen", "0.0.0.0:4000")]).err(), Some(vec!["CONFAB_LISTEN".to_owned()]));
        assert!(load(&[("listen", "0.0.0.0:4000"), ("allow_plaintext", "on")]).is_ok());
        let lifted = load(&[("listen", "0.0.0.0:4000"), ("allow_plaintext", "on"), ("rate_limits", "off")]);
        assert_eq!(lifted.err(), Some(vec!["CONFAB_RATE_LIMITS".to_owned()]));
        assert!(load(&[("rate_limits", "off"), ("admin_listen", "off")]).is_ok());
    }

    #[test]
    fn private_endpoints_of_pushes_are_for_a_machine_that_talks_to_itself_alone() {
        let on = ("push_private_endpoints", "on");
        assert!(load(&[on]).is_ok());
        assert!(load(&[on, ("database_url", "mysql://confab:confab@127.0.0.1:13306/confab")]).is_ok());
        let away = load(&[on, ("database_url", "mysql://127.0.0.1:p@db.example/confab")]);
        assert_eq!(away.err(), Some(vec!["CONFAB_PUSH_PRIVATE_ENDPOINTS".to_owned()]));
    }

    #[test]
    fn the_sample_names_every_setting_and_changes_nothing() {
        let uncommented: String = sample()
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| !line.starts_with(' ') && !line.is_empty())
            .collect::<Vec<_>>()
            .join("\n");
        let table: toml::Table = uncommented.parse().expect("TOML");
        assert_eq!(table.len(), table::ENTRIES.len());
        let given = table
            .iter()
            .map(|(key, value)| (key.clone(), (key.clone(), value::of_toml(value).expect("a value"))));
        let given: Given = given.filter(|(_, (_, value))| !value.is_empty()).collect();
        assert!(Settings::from_given(given, Vec::new()).is_ok());
    }
}
