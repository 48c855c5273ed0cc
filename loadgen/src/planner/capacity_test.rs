//! The whole procedure against a server whose prices are known.
use super::*;
use crate::planner::cost;
use crate::planner::knee::Why;
use crate::planner::testing::Synthetic;

fn run(server: &mut Synthetic, grid: &Grid) -> Result<Capacity, CapacityError> {
    capacity(grid, true, Machine::default(), &mut |scenario, shards| Ok(server.run(scenario, shards)), &mut |_| {})
}

#[track_caller]
fn near(found: f64, truth: f64, share: f64) {
    assert!((found / truth - 1.0).abs() <= share, "{found} is not within {share} of {truth}");
}

#[test]
fn known_prices_are_recovered_through_noise_and_predict_unseen_points() {
    let mut server = Synthetic::new(0.015);
    let grid = Grid { shards: vec![1, 2, 4, 8], ..Grid::default() };
    let found = run(&mut server, &grid).expect("a model");
    let model = &found.model;
    assert_eq!(found.skipped, Vec::<String>::new());
    assert_eq!(model.notes.iter().filter(|note| note.contains("not reached")).count(), 0, "{:?}", model.notes);

    near(model.cpu.price(cost::SEND), server.send_us, 0.06);
    near(model.cpu.price(cost::DURABLE), server.durable_us, 0.15);
    near(model.cpu.price(cost::COMMIT), server.commit_us, 0.15);
    near(model.commits.unwrap().seconds, server.commit_s, 0.02);
    near(model.cpu.price(cost::HEARTBEAT), server.heartbeat_us, 0.15);
    near(model.cpu.price(cost::RECEIVED), server.received_us, 0.25);
    near(model.rss.as_ref().unwrap().price(cost::CONNECTION), 240.0, 0.1);
    near(model.rss.as_ref().unwrap().price(cost::EVENT_KEPT), 600.0, 0.1);
    near(model.kernel.as_ref().unwrap().price(cost::CONNECTION), 2_600.0, 0.02);
    near(model.handshake.as_ref().unwrap().value.unwrap(), 90.0, 0.02);
    near(model.usl.as_ref().unwrap().sigma.unwrap(), server.sigma, 0.5);
    near(model.overhead.delivered_bytes, 190.0, 0.01);
    near(model.durable.unwrap().per_s, server.durable_max_per_s, 0.06);
    assert!(model.cpu.miss_share < 0.04, "{}", model.cpu.miss_share);

    assert_eq!(model.validation.len(), 3);
    for compared in &model.validation {
        assert!(compared.cpu_miss().abs() < 0.05 && compared.is_within(), "{compared:?}");
        assert!((0.2..0.9).contains(&compared.saturation), "{compared:?}");
    }
}

#[test]
fn a_model_survives_its_file() {
    let mut server = Synthetic::new(0.01);
    let grid = Grid { is_durable: false, ..Grid::default() };
    let model = run(&mut server, &grid).expect("a model").model;
    let read = Model::from_json(&model.to_json().unwrap()).unwrap();
    assert_eq!((read.points.len(), read.validation.len(), &read.notes), (model.points.len(), 3, &model.notes));
    let work = model.points[5].work;
    // The last digit of a number may differ after a file.
    near(read.predict(&work).cpu_cores.value, model.predict(&work).cpu_cores.value, 1e-12);
    near(read.predict(&work).cpu_cores.margin.unwrap(), model.predict(&work).cpu_cores.margin.unwrap(), 1e-6);
    let other = model.to_json().unwrap().replacen("\"format\": 1", "\"format\": 9", 1);
    assert!(matches!(Model::from_json(&other), Err(ModelError::Format(9))));
    assert!(matches!(Model::from_json("{"), Err(ModelError::NotAModel(_))));
    assert_eq!(model.durable, None);
    let missing = model.cpu.find(cost::DURABLE).unwrap();
    assert_eq!((missing.value, missing.points), (None, 0), "what was not measured is not known");
}

#[test]
fn a_server_that_does_not_tell_its_turns_has_one_price_for_deliveries() {
    let mut server = Synthetic { tells_turns: false, ..Synthetic::new(0.01) };
    let model = run(&mut server, &Grid::default()).expect("a model").model;
    assert!(model.gather.is_none() && model.notes[0].contains("did not tell its turns"));
    assert_eq!(model.cpu.find(cost::SEND).unwrap().value, None);
    assert!(model.cpu.price(cost::DELIVERY) > 1.0, "the send is in it");
}

#[test]
fn a_client_that_is_the_bottleneck_gives_a_lower_bound_and_says_so() {
    let mut server = Synthetic { client_max_per_s: 60_000.0, ..Synthetic::new(0.01) };
    let found = run(&mut server, &Grid::default()).expect("a model");
    assert_eq!(found.knees[0].1.why, Why::Client);
    assert!(found.knees[0].1.load <= 60_000.0);
    assert!(found.model.notes.iter().any(|note| note.contains("lower bound")), "{:?}", found.model.notes);
    assert!(found.skipped.iter().any(|line| line.contains("bottleneck")));
}

#[test]
fn runs_that_fail_end_in_words() {
    let fail = &mut |_: &Scenario, _: u32| Err("the server did not start".to_string());
    let error = capacity(&Grid::default(), false, Machine::default(), fail, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("did not start"), "{error}");
    let error = capacity(&Grid { payloads: vec![], ..Grid::default() }, false, Machine::default(), fail, &mut |_| {})
        .unwrap_err();
    assert!(error.to_string().contains("payloads"));
}
