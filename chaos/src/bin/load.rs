//! `cairn-load`: a benchmark of PUT and GET from outside.

use std::{process::ExitCode, time::Duration};

use cairn_chaos::{
    load::{Outcome, Step, Verb, run},
    s3::{Account, S3, S3Error},
};
use clap::Parser;

/// Puts and gets objects through S3 and prints throughput, p50, p99 and the server's CPU seconds per GiB.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where the cluster is; only addresses of this machine should be loaded.
    #[arg(long, default_value = "http://127.0.0.1:9000")]
    endpoint: String,
    #[arg(long, env = "AWS_ACCESS_KEY_ID", default_value = "cairndev")]
    access_key: String,
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", default_value = "cairndevsecret", hide_env_values = true)]
    secret_key: String,
    /// Object sizes in bytes.
    #[arg(long, value_delimiter = ',', default_value = "1024,1048576,67108864")]
    sizes: Vec<usize>,
    /// Numbers of clients, each with one request at a time.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    clients: Vec<usize>,
    /// Seconds for each line of the table.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Processes of the server, for its CPU time.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match table(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairn-load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn table(arguments: Arguments) -> Result<(), S3Error> {
    let s3 = S3::new(Account {
        endpoint: arguments.endpoint,
        access_key: arguments.access_key,
        secret_key: arguments.secret_key,
    });
    println!("verb      bytes  clients      ops/s     MiB/s    p50 ms    p99 ms  CPU s/GiB");
    for bytes in arguments.sizes {
        for clients in &arguments.clients {
            for verb in [Verb::Put, Verb::Get] {
                // Enough keys that clients do not meet on one, few enough that large ones do not fill a disk.
                let keys = ((1 << 30) / bytes.max(1)).clamp(clients * 2, 1000);
                let time = Duration::from_secs(arguments.seconds);
                let step = Step { verb, bytes, clients: *clients, time, keys, pids: arguments.pids.clone() };
                line(&step, &run(&s3, &step).await?);
            }
        }
    }
    Ok(())
}

fn line(step: &Step, outcome: &Outcome) {
    let verb = if step.verb == Verb::Put { "PUT" } else { "GET" };
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let cpu = outcome.cpu_seconds_per_gib.map_or("-".to_owned(), |cpu| format!("{cpu:.2}"));
    println!(
        "{verb:4} {:>10} {:>8} {:>10.1} {:>9.1} {:>9.2} {:>9.2} {cpu:>10}",
        step.bytes,
        step.clients,
        outcome.operations as f64 / outcome.seconds,
        outcome.mib_per_second(step.bytes),
        ms(outcome.p50),
        ms(outcome.p99),
    );
}
