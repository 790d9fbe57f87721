//! `tributary clients`: who is there, with what data.

use tributary_proto::v1;

use crate::args::Output;
use crate::connect::{federation, said};
use crate::jobs::print_json;
use crate::table::{Align, Table};

pub(crate) async fn run(at: &str, out: Output) -> anyhow::Result<()> {
    let request = v1::ListClientsRequest {};
    let answer = federation(at).await?.list_clients(request).await.map_err(said)?.into_inner();
    if out == Output::Json {
        return print_json(&answer.clients);
    }
    if answer.clients.is_empty() {
        println!("no clients yet: start one with `tributary-client run --config client.toml`");
        return Ok(());
    }
    let mut table = Table::new(&[
        ("CLIENT", Align::Left),
        ("PRESENT", Align::Left),
        ("DATA", Align::Left),
        ("TRAIN", Align::Right),
        ("EVALUATE", Align::Right),
        ("SOFTWARE", Align::Left),
    ]);
    for client in answer.clients {
        let data: Vec<String> = client
            .bindings
            .iter()
            .map(|b| format!("{} ({} {:?}, {} classes)", b.name, b.kind, b.shape, b.classes))
            .collect();
        let train: u64 = client.bindings.iter().map(|b| b.train_examples).sum();
        let evaluate: u64 = client.bindings.iter().map(|b| b.evaluate_examples).sum();
        table.row(vec![
            client.client,
            if client.present { "yes" } else { "no" }.to_owned(),
            data.join(", "),
            train.to_string(),
            evaluate.to_string(),
            client.software,
        ]);
    }
    println!("{}", table.render());
    Ok(())
}
