//! `plan`: how many machines, from a saved model. Measures nothing.
use super::{Exit, Failure};
use crate::planner::model::Model;
use crate::planner::plan::{Ask, MachineSpec, Plan, plan as make};
use crate::planner::{text, units};
use crate::report::plan_html::plan_html;
use clap::Args;
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// Users connected at once, as 500000, 500k or 1.5M.
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub users: u64,
    /// Members of a room.
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub rooms_of: u64,
    /// Live messages of each user to all others of the room, as 20/s or 3/min.
    #[arg(long, value_name = "RATE", value_parser = units::rate, default_value = None)]
    pub rate: Option<f64>,
    /// Bytes of a message.
    #[arg(long, value_name = "BYTES", value_parser = units::count, default_value = "64")]
    pub payload: u64,
    /// Durable messages of each user, as 1/min.
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    pub durable_rate: Option<f64>,
    /// Share of each resource that stays free.
    #[arg(long, value_name = "SHARE", value_parser = units::headroom, default_value = "0.3")]
    pub headroom: f64,
    /// The machines to buy: cores=32,ram=128G; also nic=10G, nofile=1048576, cost=250/month.
    #[arg(long, value_name = "SPEC", value_parser = units::machine)]
    pub machine: MachineSpec,
    /// Price of a machine, as 250/month or 0.35/hour, in any currency.
    #[arg(long, value_name = "PRICE", value_parser = units::cost_per_month)]
    pub cost: Option<f64>,
    /// Speed of a machine's network card; 10G if nothing is said.
    #[arg(long, value_name = "SPEED", value_parser = units::bits_per_s)]
    pub nic: Option<f64>,
    /// All users must be able to come back within this time.
    #[arg(long, value_name = "TIME", value_parser = units::duration_s)]
    pub reconnect_storm: Option<f64>,
    /// A heartbeat of each user this often.
    #[arg(long, value_name = "TIME", value_parser = units::duration_s, default_value = "30s")]
    pub heartbeat: f64,
    /// The application gathers: each user gets one message per tick with the updates of all others.
    #[arg(long)]
    pub gathered: bool,
    /// What `capacity` measured.
    #[arg(long, value_name = "FILE", default_value = "model.json")]
    pub model: PathBuf,
    /// Folder for plan.txt, plan.json and plan.html.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Makes the plan, writes its files, prints it.
pub fn plan(args: &PlanArgs) -> Result<Exit, Failure> {
    let printed = planned(args)?;
    // Whoever reads may have read enough (`| head`).
    let _ = std::io::stdout().write_all(printed.as_bytes());
    Ok(Exit::Passed)
}

/// What is to be printed, once the files are written.
fn planned(args: &PlanArgs) -> Result<String, Failure> {
    let model = read_model(&args.model)?;
    let plan = make(&model, &args.ask(), &args.machine());
    let json = || serde_json::to_string_pretty(&plan).map_err(|error| Failure::Failed(error.to_string()));
    let mut printed = if args.json { json()? + "\n" } else { text::text(&plan) };
    if let Some(folder) = &args.out {
        let files =
            write(folder, &plan, json()?).map_err(|error| Failure::Failed(format!("{}: {error}", folder.display())))?;
        // Programs that read JSON from stdout want nothing else there.
        if !args.json {
            files.iter().for_each(|file| printed += &format!("{}\n", file.display()));
        }
    }
    Ok(printed)
}

impl PlanArgs {
    fn ask(&self) -> Ask {
        Ask {
            users: self.users,
            rooms_of: self.rooms_of,
            rate_per_s: self.rate.unwrap_or(0.0),
            payload_bytes: self.payload as f64,
            durable_rate_per_s: self.durable_rate.unwrap_or(0.0),
            heartbeat_s: self.heartbeat,
            headroom: self.headroom,
            reconnect_s: self.reconnect_storm,
            is_gathered: self.gathered,
        }
    }

    fn machine(&self) -> MachineSpec {
        MachineSpec {
            cost_per_month: self.cost.or(self.machine.cost_per_month),
            nic_bits_per_s: self.nic.unwrap_or(self.machine.nic_bits_per_s),
            ..self.machine
        }
    }
}

fn read_model(path: &Path) -> Result<Model, Failure> {
    let usage = |error: String| Failure::Usage(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| {
        usage(format!("{error}. `throng-loadgen capacity` measures a model; --model names its file"))
    })?;
    Model::from_json(&text).map_err(|error| usage(error.to_string()))
}

fn write(folder: &Path, plan: &Plan, json: String) -> std::io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)?;
    let files = [("plan.txt", text::text(plan)), ("plan.json", json), ("plan.html", plan_html(plan))];
    let write = |(name, text): (&str, String)| {
        let path = folder.join(name);
        std::fs::write(&path, text).map(|()| path)
    };
    files.into_iter().map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::testing::round_model;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PlanArgs,
    }

    fn parse(line: &str) -> Result<PlanArgs, String> {
        Line::try_parse_from(line.split_whitespace()).map(|line| line.args).map_err(|error| error.to_string())
    }

    const ASKED: &str =
        "plan --users 500000 --rooms-of 100 --rate 20/s --payload 64 --headroom 0.3 --machine cores=32,ram=128G";

    #[test]
    fn the_line_of_the_manual_makes_a_plan_in_all_its_forms() {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("model.json");
        std::fs::write(&model, round_model().to_json().expect("json")).expect("written");
        let line = format!(
            "{ASKED} --nic 1000G --cost 250/month --model {} --out {}",
            model.display(),
            folder.path().display()
        );
        let printed = planned(&parse(&line).expect("understood")).expect("a plan");
        assert!(printed.contains("24 machines carry it") && printed.contains("plan.html"), "{printed}");
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("written");
        assert!(read("plan.html").contains("<h1>500,000 users</h1>"));
        let json: serde_json::Value = serde_json::from_str(&read("plan.json")).expect("json");
        assert_eq!((&json["bought"], &json["cost_per_month"]), (&25.into(), &6250.0.into()));
        let printed = planned(&parse(&format!("{line} --json")).expect("understood")).expect("a plan");
        assert!(serde_json::from_str::<serde_json::Value>(&printed).is_ok(), "nothing but JSON");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(
            parse("plan --users many --rooms-of 100 --machine cores=1,ram=1G").unwrap_err().contains("such as 500000")
        );
        assert!(parse(&ASKED.replace("20/s", "20/week")).unwrap_err().contains("no time of a rate"));
        assert!(parse(&ASKED.replace("ram=128G", "ram=128Q")).unwrap_err().contains("no unit of memory"));
        let error = planned(&parse(&format!("{ASKED} --model /nowhere/model.json")).expect("understood")).unwrap_err();
        assert!(matches!(&error, Failure::Usage(text) if text.contains("capacity")), "{error}");
    }
}
