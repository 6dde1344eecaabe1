//! The static files of the pages. They hold no data, and anyone who reaches the address can read them.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::App;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The files: path, type, content.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("assets/overview.html")),
    ("/experts", HTML, include_str!("assets/experts.html")),
    ("/decisions", HTML, include_str!("assets/decisions.html")),
    ("/dead-letters", HTML, include_str!("assets/dead-letters.html")),
    ("/review", HTML, include_str!("assets/review.html")),
    ("/login", HTML, include_str!("assets/login.html")),
    ("/assets/console.css", STYLE, include_str!("assets/console.css")),
    ("/assets/shell.js", SCRIPT, include_str!("assets/shell.js")),
    ("/assets/charts.js", SCRIPT, include_str!("assets/charts.js")),
    ("/assets/overview.js", SCRIPT, include_str!("assets/overview.js")),
    ("/assets/experts.js", SCRIPT, include_str!("assets/experts.js")),
    ("/assets/decisions.js", SCRIPT, include_str!("assets/decisions.js")),
    ("/assets/dead-letters.js", SCRIPT, include_str!("assets/dead-letters.js")),
    ("/assets/review.js", SCRIPT, include_str!("assets/review.js")),
    ("/assets/review.css", STYLE, include_str!("assets/review.css")),
    ("/assets/login.js", SCRIPT, include_str!("assets/login.js")),
];

/// Returns the routes of the files.
pub fn routes() -> Router<Arc<App>> {
    let add = |router: Router<Arc<App>>, (path, kind, text): &'static (&str, &str, &str)| {
        router.route(path, get(move || async move { file(path, kind, text) }))
    };
    FILES.iter().fold(Router::new(), add)
}

/// Returns a file. It is requested again each time, because a new version of the program may have another. The page of
/// reviews is not kept by the browser when it is left, because it shows texts.
fn file(path: &'static str, kind: &'static str, text: &'static str) -> impl IntoResponse {
    let cache = if path == "/review" { "no-store" } else { "no-cache" };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, cache)], text)
}
