//! The console in a real Chromium, driven over WebDriver.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod browser;
mod contrast;
mod pages;
mod review;
mod review_known;
mod review_page;
mod screenshots;
mod world;
