//! A reader at a shell: commands one after the other in one bash, `aegis run` in a terminal of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::support::free_port;
use crate::support::site::wait;

/// The timeout of a command.
const LIMIT: Duration = Duration::from_secs(120);
/// The marker of the end of a command, which no command prints.
const END: &str = "--- ended with";

/// A page's `127.0.0.1:9464` and the like, and what stands for it here.
pub type Replaced = (String, String);

/// A process of `aegis run`.
struct Running {
    id: u32,
    log: PathBuf,
    /// The address of its health.
    address: String,
}

/// The shell, in a folder that is like a fresh clone.
pub struct Shell {
    bash: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    folder: PathBuf,
    replaced: Vec<Replaced>,
    /// The processes that `aegis run` started.
    running: Vec<Running>,
}

impl Shell {
    /// A shell in `folder`. What the pages call by the first of `replaced` is the second here.
    pub fn open(folder: &Path, mut replaced: Vec<Replaced>) -> Self {
        for port in [9464, 9465] {
            replaced.push((format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", free_port())));
        }
        let listen = &replaced.iter().find(|(shown, _)| shown == "127.0.0.1:9464").unwrap().1;
        let mut bash = Command::new("bash")
            .current_dir(folder)
            .env("AEGIS__HTTP__LISTEN", listen)
            .env_remove("AEGIS_CONFIG")
            .env_remove("AEGIS_MODELS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its child processes end with it.
            .process_group(0)
            .spawn()
            .unwrap();
        let (input, output) = (bash.stdin.take().unwrap(), bash.stdout.take().unwrap());
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                // A process that does not listen any more has failed.
                let Ok(()) = send.send(line.unwrap_or_default()) else { return };
            }
        });
        Self { bash, input, lines, folder: folder.to_owned(), replaced, running: Vec::new() }
    }

    /// The text as it stands in a page, with what it names here.
    fn real(&self, text: &str) -> String {
        self.replaced.iter().fold(text.to_owned(), |text, (shown, real)| text.replace(shown, real))
    }

    /// Runs a command to its end, `aegis run` until it is ready: how it ended, and what it printed.
    pub fn run(&mut self, command: &str) -> (i32, String) {
        let command = self.real(command);
        if command.starts_with("aegis run") {
            self.start(&command);
            return (0, String::new());
        }
        let (exit, text) = self.say(&format!("{{ {command}\n}} 2>&1 </dev/null"));
        (exit, self.replaced.iter().fold(text, |text, (shown, real)| text.replace(real, shown)))
    }

    fn say(&mut self, script: &str) -> (i32, String) {
        writeln!(self.input, "{script}\nprintf '\\n%s %d\\n' '{END}' $?").unwrap();
        let mut text = String::new();
        loop {
            let line = self.lines.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|_| panic!("does not end:\n{script}\n{text}"));
            if let Some(exit) = line.strip_prefix(END) {
                return (exit.trim().parse().unwrap(), text);
            }
            text += &line;
            text.push('\n');
        }
    }

    fn start(&mut self, command: &str) {
        let log = self.folder.join(format!("run-{}.log", self.running.len()));
        let (command, log) = match command.split_once(" 2>") {
            Some((_, file)) => (command.to_owned(), self.folder.join(file.trim())),
            None => (format!("{command} 2>{}", log.display()), log),
        };
        let other = command.split("http.listen=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = other.map_or_else(|| self.real("127.0.0.1:9464"), str::to_owned);
        // Before it is started again, the previous one is ended.
        if let Some(before) = self.running.iter().position(|running| running.address == address) {
            let before = self.running.remove(before);
            self.end(&before);
        }
        let (_, said) = self.say(&format!("{command} </dev/null >/dev/null &\necho $!"));
        let id = said.trim().parse().unwrap();
        self.running.push(Running { id, log: log.clone(), address: address.clone() });
        wait(&format!("{command}: ready"), || {
            let runs = Path::new(&format!("/proc/{id}")).exists();
            assert!(runs, "{command} has ended:\n{}", fs::read_to_string(&log).unwrap_or_default());
            get(&address, "/readyz").is_some_and(|page| page.contains(" 200 "))
        });
    }

    /// Ends what `aegis run` started, as SIGTERM does: cleanly.
    pub fn stop(&mut self) {
        for running in std::mem::take(&mut self.running) {
            self.end(&running);
        }
    }

    fn end(&mut self, Running { id, log, .. }: &Running) {
        let (exit, _) = self.say(&format!("kill -TERM {id}; wait {id}"));
        assert_eq!(exit, 0, "{}", fs::read_to_string(log).unwrap());
    }

    /// Writes a file into the folder.
    pub fn file(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = format!("-{}", self.bash.id());
        let _ = Command::new("kill").args(["-9", "--", &group]).status();
        let _ = self.bash.wait();
    }
}

/// Returns the response of an address, if there is one.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}
