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

/// A page: the head that all pages have, with its title, its script of the same name and its further styles; and its body,
/// which is empty if the script draws all of it.
macro_rules! page {
    ($title:literal, $script:literal) => {
        page!($title, $script, "", "<main id=\"main\"></main>\n")
    };
    ($title:literal, $script:literal, $styles:literal, $body:expr) => {
        concat!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
            "<meta name=\"color-scheme\" content=\"light dark\">\n<title>",
            $title,
            " – Aegis</title>\n<link rel=\"icon\" href=\"data:,\">\n",
            "<link rel=\"stylesheet\" href=\"/assets/console.css\">\n",
            $styles,
            "<script type=\"module\" src=\"/assets/",
            $script,
            ".js\"></script>\n</head>\n<body>\n",
            $body,
            "</body>\n</html>\n"
        )
    };
}

/// The page of reviews.
const REVIEW: &str = page!(
    "Review",
    "review",
    "<link rel=\"stylesheet\" href=\"/assets/review.css\">\n",
    include_str!("assets/review.html")
);

/// The files: path, type, content.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, page!("Overview", "overview")),
    ("/experts", HTML, page!("Experts", "experts")),
    ("/decisions", HTML, page!("Decisions", "decisions")),
    ("/dead-letters", HTML, page!("Dead letters", "dead-letters")),
    ("/review", HTML, REVIEW),
    ("/login", HTML, page!("Log in", "login", "", include_str!("assets/login.html"))),
    ("/assets/console.css", STYLE, include_str!("assets/console.css")),
    ("/assets/shell.js", SCRIPT, include_str!("assets/shell.js")),
    ("/assets/charts.js", SCRIPT, include_str!("assets/charts.js")),
    ("/assets/overview.js", SCRIPT, include_str!("assets/overview.js")),
    ("/assets/experts.js", SCRIPT, include_str!("assets/experts.js")),
    ("/assets/decisions.js", SCRIPT, include_str!("assets/decisions.js")),
    ("/assets/dead-letters.js", SCRIPT, include_str!("assets/dead-letters.js")),
    ("/assets/review.js", SCRIPT, include_str!("assets/review.js")),
    ("/assets/review-keys.js", SCRIPT, include_str!("assets/review-keys.js")),
    ("/assets/review-text.js", SCRIPT, include_str!("assets/review-text.js")),
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
