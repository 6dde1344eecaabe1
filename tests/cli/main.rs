//! The command line on a real Apache Kafka: the output of each command, as text and as JSON.

#[path = "../support/mod.rs"]
mod support;

#[path = "../experts/support/mod.rs"]
mod experts_support;

mod configuration;
mod credential_files;
mod erase;
mod evaluate_files;
mod explain;
mod home;
mod labels;
mod output;
mod pin;
mod pipe;
mod quiet;
mod records;
mod reload;
mod replay;
mod replayed_report;
mod reseat;
mod score_file;
mod site;
mod tune;
mod words;
