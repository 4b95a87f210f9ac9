//! The commands for operators: what they say of a CLOUD, with and without a running bridge, and of one that was tampered
//! with.

use std::process::Output;

use serde_json::{Value, json};

use crate::harness::cloud::describe;
use crate::harness::{Cloud, Doc};

mod audit;
mod doctor;
mod look;
mod smoke;
mod status;

/// Runs the program; its exit status must be `status`.
fn call(cloud: &Cloud, arguments: &[&str], status: i32) -> Output {
    let output = cloud.bridge(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", describe(&output));
    output
}

/// The JSON that it prints.
fn json(cloud: &Cloud, arguments: &[&str], status: i32) -> Value {
    let output = call(cloud, arguments, status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", describe(&output)))
}

/// A document of each kind of end, by `number`: its file's name, and its bytes.
fn mixed(cloud: &Cloud, number: usize) -> (String, Vec<u8>) {
    let id = format!("c{number:04}");
    let signed = |document: Doc| document.signed(&cloud.secret);
    let plan = json!([{ "check": "exists", "path": "docs/nothing.txt" }]);
    let bytes = match number % 10 {
        3 => signed(Doc::noop(&id).with("validationPlan", plan)),
        5 => signed(Doc::write(&id, "../x", "x")),
        7 => Doc::noop(&id).signed("a-forgers-own-secret"),
        8 => format!("rubbish {number}").into_bytes(),
        9 => signed(Doc::noop(&id)),
        _ => signed(Doc::write(&id, &format!("docs/{}.txt", number % 50), &format!("content {number}\n"))),
    };
    (format!("{id}.json"), bytes)
}
