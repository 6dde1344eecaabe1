//! A real Chromium, driven over WebDriver by plain HTTP requests.
//!
//! The requests that the tests need are a dozen, and the crates that send them bring a second HTTP stack and an async test
//! runtime. The driver is that of Debian's package: tests/console/fetch.sh.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aegis::http::{Client, tls};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Request;
use serde_json::{Value, json};

/// The time after which a wait of a test fails.
pub const WAIT: Duration = Duration::from_secs(90);
/// The greatest size of a response; screenshots are the largest.
const MAX_RESPONSE: usize = 32 << 20;
/// The name of an element in responses, by the WebDriver standard.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The keys that have no letter, by the WebDriver standard.
pub mod key {
    #![allow(dead_code, reason = "each page uses what it needs")]
    pub const BACKSPACE: &str = "\u{e003}";
    pub const TAB: &str = "\u{e004}";
    pub const ENTER: &str = "\u{e007}";
    pub const SHIFT: &str = "\u{e008}";
    pub const ESCAPE: &str = "\u{e00c}";
    pub const DOWN: &str = "\u{e015}";
}

/// A browser with one window. It ends when it is dropped, or with this process.
pub struct Browser {
    client: Client,
    /// The address of the session.
    session: String,
    /// The driver and the browser end when this pipe is closed.
    leash: Option<ChildStdin>,
    child: Child,
    _profile: tempfile::TempDir,
}

/// Returns the paths of chromium and chromedriver, which are fetched once.
fn programs() -> &'static [PathBuf; 2] {
    static PROGRAMS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console/fetch.sh");
        let output = Command::new("bash").arg(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "no Chromium: see above for what to install");
        let paths = String::from_utf8(output.stdout).unwrap();
        let paths: Vec<PathBuf> = paths.lines().map(PathBuf::from).collect();
        paths.try_into().unwrap()
    })
}

impl Browser {
    /// Starts a browser.
    pub fn start() -> Self {
        let [chromium, driver] = programs();
        // All processes of the group end when the pipe is closed, also if this process is killed.
        let script = "\"$0\" --port=0 & read -r _; kill -KILL 0";
        let mut child = Command::new("bash")
            .args(["-c", script])
            .arg(driver)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let leash = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, port) = line.split_once("started successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        let port = port.expect("chromedriver says its port");
        // Its further output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let client = Client::new(tls::connector(Vec::new(), None).unwrap(), WAIT).unwrap();
        let profile = tempfile::tempdir().unwrap();
        let driver = format!("http://127.0.0.1:{port}/session");
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(), // containers have none, and only our own pages are opened
            "--disable-dev-shm-usage".to_owned(),
            "--disable-gpu".to_owned(),
            "--hide-scrollbars".to_owned(),
            "--window-size=1280,900".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({
            "goog:chromeOptions": { "binary": chromium, "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
            "unhandledPromptBehavior": "ignore",
        });
        let mut browser = Self { client, session: driver, leash, child, _profile: profile };
        let answer = browser.send("POST", "", &json!({ "capabilities": { "alwaysMatch": capabilities } }));
        let id = answer["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}"));
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    fn try_send(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.session));
        let request = request.header("content-type", "application/json");
        let body = if method == "GET" || method == "DELETE" { String::new() } else { body.to_string() };
        let request = request.body(Bytes::from(body)).unwrap();
        let response =
            self.client.send_blocking(request, MAX_RESPONSE, WAIT).map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_slice(response.body()).map_err(|error| error.to_string())?;
        let value = answer["value"].clone();
        if response.status().is_success() { Ok(value) } else { Err(value.to_string()) }
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_send(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Opens an address, and waits until it is loaded.
    pub fn open(&self, address: &str) {
        self.send("POST", "/url", &json!({ "url": address }));
    }

    /// Opens a page of the console, and waits until it shows its data.
    pub fn open_page(&self, address: &str) {
        self.open(address);
        self.until("the page has its data", "return document.body.dataset.loaded === 'true'");
    }

    /// Runs a function's body, and returns its value.
    pub fn run(&self, script: &str) -> Value {
        self.send("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs a function's body until it returns a true value, which is returned.
    pub fn until(&self, what: &str, script: &str) -> Value {
        let until = Instant::now() + WAIT;
        let mut last = String::new();
        while Instant::now() < until {
            // While a page is being replaced, there is nothing to run in.
            match self.try_send("POST", "/execute/sync", &json!({ "script": script, "args": [] })) {
                Ok(Value::Null | Value::Bool(false)) => {}
                Ok(value) => return value,
                Err(error) => last = error,
            }
            // A page announces nothing to a driver.
            std::thread::sleep(Duration::from_millis(50));
        }
        let text = self.try_send(
            "POST",
            "/execute/sync",
            &json!({ "script": "return document.body.innerText", "args": [] }),
        );
        panic!("{what} did not happen; {last}; the page has: {text:?}; {:?}", self.log());
    }

    /// Returns the text of the first element that a selector finds.
    pub fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({}).innerText", json!(selector));
        self.run(&script).as_str().unwrap_or_default().to_owned()
    }

    /// Types keys into the element that has the focus, as a keyboard does. [`key`] has those without a letter.
    pub fn keys(&self, keys: &str) {
        let active = self.send("GET", "/element/active", &Value::Null);
        let id = active[ELEMENT].as_str().unwrap_or_else(|| panic!("nothing has the focus: {active}"));
        self.send("POST", &format!("/element/{id}/value"), &json!({ "text": keys }));
    }

    /// Presses one key after the other, each down and up, wherever the focus moves meanwhile.
    pub fn press(&self, keys: &[&str]) {
        let pair = |key: &&str| {
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        };
        let actions: Vec<Value> = keys.iter().flat_map(pair).collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.send("POST", "/actions", &json!({ "actions": [keyboard] }));
    }

    fn devtools(&self, command: &str, params: &Value) {
        self.send("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": params }));
    }

    /// Sets the colour scheme that the user prefers, and the width of the window in pixels.
    pub fn set_look(&self, dark: bool, width: u32) {
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Returns the messages of the page's console since the last call.
    pub fn log(&self) -> Vec<String> {
        let answer = self.send("POST", "/se/log", &json!({ "type": "browser" }));
        let entries = answer.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| format!("{} {}", entry["level"], entry["message"])).collect()
    }

    /// Checks that the page has written nothing to its console: no error, no warning, no refused resource.
    pub fn assert_silent(&self, page: &str) {
        let log = self.log();
        assert!(log.is_empty(), "{page}: {log:?}");
    }

    /// Checks that nothing is wider than the window.
    pub fn assert_fits(&self, page: &str) {
        let wide = self.run("return [document.documentElement.scrollWidth, window.innerWidth]");
        assert!(
            wide[0].as_i64() <= wide[1].as_i64(),
            "{page} is {} wide in a window of {}",
            wide[0],
            wide[1]
        );
    }

    /// Returns a picture of the window as PNG.
    pub fn picture(&self) -> Vec<u8> {
        let answer = self.send("GET", "/screenshot", &Value::Null);
        STANDARD.decode(answer.as_str().unwrap()).unwrap()
    }

    /// Returns the cookies that scripts cannot read too.
    pub fn cookies(&self) -> Value {
        self.send("GET", "/cookie", &Value::Null)
    }

    /// Logs in by keyboard at the console with this address.
    pub fn log_in(&self, console: &str, token: &str) {
        self.open_page(&format!("{console}/login"));
        self.run("document.getElementById('secret').focus()");
        self.keys(&format!("{token}{}", key::ENTER));
        self.until(
            "the login is over",
            "return location.pathname === '/' && document.body.dataset.loaded === 'true'",
        );
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.try_send("DELETE", "", &Value::Null);
        self.leash = None;
        let _ = self.child.wait();
    }
}
