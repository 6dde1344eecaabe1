//! The console: web pages on which people see what Aegis decides, and review.
//!
//! Its pages are static files in the binary ([`pages`]). Their scripts read JSON from `/api`, and `/api/live` sends an event
//! when there is something new. Every request to `/api` passes the guard in [`access`], which finds the session and refuses
//! forged requests. What the pages show comes from [`feed`], which follows the topics without a group and keeps the last
//! hours in bounded memory. No page except that of reviews shows a message's text, and the feed keeps none.

pub mod access;
mod api;
mod app;
mod feed;
mod live;
mod pages;
mod review;
mod review_text;
mod server;

pub use access::{Role, Session};
pub use app::App;
pub use server::{Console, ConsoleError, MAX_CONNECTIONS};
