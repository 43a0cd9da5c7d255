//! The binary: read the settings, compose, run. Exit codes: 0 ended as told, 1 failed, 78 bad configuration (`EX_CONFIG`).

mod admin;
mod database;
mod dead;
mod doctor;
mod housekeeping;
mod live;
mod logging;
mod metrics;
mod readiness;
mod run;
mod settings;
mod traces;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand};
use domain::{
    adapter::ambient::{SystemClock, SystemRandom},
    error::chain,
    keys::KeyRing,
};
use opentelemetry_otlp::ExporterBuildError;
use tokio::runtime::Runtime;

use crate::{run::Role, settings::Settings, traces::Traces};

/// Many small allocations are what this process does, and who frees one is often another thread than made it: a request waits for its
/// commit, and goes on where the committer is. What a peak took goes back to the system within seconds, by threads of the allocator's own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bad configuration, as in sysexits.h.
const EX_CONFIG: u8 = 78;

#[derive(Parser)]
#[command(name = "confab", version, about = "A chat back end with a GraphQL face")]
struct Arguments {
    /// TOML file with settings; the environment goes before it. Default: ./confab.toml if there is one.
    #[arg(long, global = true, env = "CONFAB_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Subcommand)]
enum Command {
    /// Run everything in one process (also without a command).
    Serve,
    /// Run a GraphQL node; the domain is in process, or where `CONFAB_DOMAIN_URL` says.
    Api,
    /// Run the domain behind gRPC.
    Domain,
    /// Relay what was committed to Kafka, and do the tasks that come from there.
    Worker {
        #[command(subcommand)]
        command: Option<WorkerCommand>,
    },
    /// Bring the schema up to date, and the topics of Kafka.
    Migrate {
        /// The database was restored from a backup: event cursors from before are void.
        #[arg(long)]
        restored: bool,
    },
    /// Signing keys.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Print the GraphQL schema.
    Schema,
    /// Check the settings and every backend, and say what is wrong.
    Doctor,
    /// Print all settings with their defaults.
    Settings,
}

#[derive(Clone, Copy, Subcommand)]
enum WorkerCommand {
    /// Print the tasks that could not be done, with the reason.
    Dead,
    /// Send those tasks on their way again.
    Replay,
}

#[derive(Clone, Subcommand)]
enum KeysCommand {
    /// Add a key. It verifies at once and signs after a minute.
    New,
}

impl Command {
    /// For those that run until they are told to stop.
    const fn role(&self) -> Option<Role> {
        match self {
            Self::Serve => Some(Role::Serve),
            Self::Api => Some(Role::Api),
            Self::Domain => Some(Role::Domain),
            Self::Worker { command: None } => Some(Role::Worker),
            _ => None,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or(Command::Serve);
    match command {
        Command::Schema => {
            print!("{}", api::schema::sdl());
            return ExitCode::SUCCESS;
        }
        Command::Settings => {
            print!("{}", settings::sample());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let settings = match Settings::load(arguments.config.as_deref()) {
        Ok(settings) => Arc::new(settings),
        Err(problems) => {
            for problem in problems {
                eprintln!("configuration: {problem}");
            }
            return ExitCode::from(EX_CONFIG);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let traces = match command.role().map(|role| start_traces(&runtime, &settings, role)).transpose() {
        Ok(traces) => traces.flatten(),
        Err(error) => return failed(&error),
    };
    logging::start(traces.as_ref());
    let outcome = match command {
        Command::Migrate { restored } => runtime.block_on(database::migrate(&settings, restored)),
        Command::Keys { command: KeysCommand::New } => new_key(&settings),
        Command::Doctor => runtime.block_on(doctor::run(&settings)),
        Command::Worker { command: Some(WorkerCommand::Dead) } => runtime.block_on(dead::list(&settings)),
        Command::Worker { command: Some(WorkerCommand::Replay) } => runtime.block_on(dead::replay(&settings)),
        command => {
            runtime.block_on(run::run(settings, arguments.config, command.role().unwrap_or(Role::Serve)))
        }
    };
    // The runtime still runs: the connection to the collector needs it.
    if let Some(traces) = traces {
        traces.stop();
    }
    // All that had a bounded time to end has had it. What still blocks a thread would keep the process for ever: a consumer says good-bye
    // to brokers that are away.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

fn start_traces(
    runtime: &Runtime,
    settings: &Settings,
    role: Role,
) -> Result<Option<Traces>, ExporterBuildError> {
    let _entered = runtime.enter();
    Traces::start(settings, role.name())
}

fn new_key(settings: &Settings) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let folder = settings.keys_folder();
    let id = KeyRing::create(&folder, &SystemClock, &SystemRandom)?;
    println!("{} signs in a minute; give {} to every node", id, folder.join(format!("{id}.key")).display());
    Ok(())
}

/// Says why, for people.
fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("confab: {}", chain(error));
    ExitCode::FAILURE
}
