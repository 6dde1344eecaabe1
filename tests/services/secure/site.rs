//! The broker, its users, and the program as each of them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use aegis::kafka::Consumed;
use openssl::symm::Cipher;

use super::acls::{self, Acl};
use crate::support::flow::experts;
use crate::support::identity::{Identity, identity};
use crate::support::site::poll;
use crate::support::{Kafka, free_port};

/// Secrets that are easy to find in any output.
pub const PASSWORD: &str = "Pass-7f3a91c2-word";
pub const WRONG: &str = "Wrong-55d0e8b4-word";
pub const PHRASE: &str = "Phrase-c1909aa7-key";
pub const SEED: &str = "Seed-2b8846fe-draws";
pub const RECORD: &str = "Record-77c5d0a1-of-servers-and-scorers";

/// A broker with password, certificates and access lists.
pub struct Secured {
    pub kafka: Kafka,
    pub folder: PathBuf,
    pub sasl: String,
    pub tls: String,
}

/// Returns the broker of this test binary, with the documented lists.
pub fn secured() -> &'static Secured {
    static SHARED: OnceLock<Secured> = OnceLock::new();
    SHARED.get_or_init(Secured::start)
}

fn put(folder: &Path, name: &str, pems: &[Vec<u8>]) {
    fs::write(folder.join(name), pems.concat()).unwrap();
}

/// Writes a client's certificate and its key, encrypted with a pass phrase.
fn client(folder: &Path, name: &str, of: &Identity) {
    put(folder, &format!("{name}.pem"), &[of.certificate.to_pem().unwrap()]);
    let key = of.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), PHRASE.as_bytes());
    put(folder, &format!("{name}-key.pem"), &[key.unwrap()]);
}

impl Secured {
    fn start() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("secure-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        experts(&folder.join("models"));
        let authority = identity("authority", 1, None);
        let stranger = identity("stranger", 2, None);
        let broker = identity("broker", 3, Some(&authority));
        put(&folder, "authority.pem", &[authority.certificate.to_pem().unwrap()]);
        put(&folder, "stranger.pem", &[stranger.certificate.to_pem().unwrap()]);
        let (key, certificate) =
            (broker.key.private_key_to_pem_pkcs8().unwrap(), broker.certificate.to_pem().unwrap());
        put(&folder, "broker.pem", &[key, certificate]);
        client(&folder, "aegis-learn", &identity("aegis-learn", 4, Some(&authority)));
        client(&folder, "impostor", &identity("aegis-learn", 5, Some(&stranger)));
        let secrets = [("password", PASSWORD), ("wrong", WRONG), ("phrase", PHRASE), ("record-key", RECORD)];
        for (name, secret) in secrets {
            fs::write(folder.join(name), format!("{secret}\n")).unwrap();
        }
        fs::write(
            folder.join("policies.toml"),
            format!("[policies.default]\nreview_margin = 1.0\nlearner = \"fpl\"\nparameters = {{ seed = \"{SEED}\" }}\n"),
        )
        .unwrap();
        let (sasl, tls) = (free_port(), free_port());
        let users = ["aegis-score", "aegis-serve", "aegis-operator", "aegis-eraser", "aegis-replayer"]
            .map(|name| format!("SCRAM-SHA-512=[name={name},password={PASSWORD}]\n"))
            .concat();
        let kafka = Kafka::secured(|port, controller| settings(&folder, port, controller, sasl, tls), &users);
        let at = |port| format!("127.0.0.1:{port}");
        let site = Self { kafka, folder, sasl: at(sasl), tls: at(tls) };
        acls::add(&site.kafka.bootstrap(), &acls::documented());
        for name in ["score", "serve", "operator", "eraser", "replayer"] {
            site.configure(name, &site.sasl, &site.with_password(&format!("aegis-{name}"), "password"));
        }
        site.configure("learn", &site.tls, &site.with_certificate("aegis-learn", "authority"));
        let made = site.aegis("operator", &["topics", "--create", "--partitions", "2"]);
        assert!(made.status.success(), "{}", said(&made));
        site
    }

    /// Returns the settings of a user with a password.
    pub fn with_password(&self, user: &str, file: &str) -> String {
        format!(
            "[kafka.settings]\n\"security.protocol\" = \"SASL_SSL\"\n\"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\
             \"sasl.username\" = \"{user}\"\n\"ssl.ca.location\" = \"{}\"\n[kafka.secrets]\n\
             \"sasl.password\" = \"{file}\"\n",
            self.folder.join("authority.pem").display()
        )
    }

    /// Returns the settings of a user with a certificate, which trusts brokers of `authority`.
    pub fn with_certificate(&self, name: &str, authority: &str) -> String {
        let folder = self.folder.display();
        format!(
            "[kafka.settings]\n\"security.protocol\" = \"SSL\"\n\"ssl.ca.location\" = \"{folder}/{authority}.pem\"\n\
             \"ssl.certificate.location\" = \"{folder}/{name}.pem\"\n\
             \"ssl.key.location\" = \"{folder}/{name}-key.pem\"\n[kafka.secrets]\n\
             \"ssl.key.password\" = \"phrase\"\n"
        )
    }

    /// Writes a configuration with this name.
    pub fn configure(&self, name: &str, brokers: &str, settings: &str) {
        let text = format!(
            "policies = \"policies.toml\"\n[kafka]\nbrokers = \"{brokers}\"\n{settings}[experts]\n\
             folder = \"models\"\n[score]\nmember = \"one\"\n[learn]\nstore = \"store\"\n\
             publish_interval_ms = 100\n[http]\nlisten = \"127.0.0.1:0\"\n[http.moderation]\n\
             record_key_file = \"record-key\"\n[log]\nlevel = \"trace\"\n"
        );
        fs::write(self.folder.join(format!("{name}.toml")), text).unwrap();
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
        let config = self.folder.join(format!("{name}.toml"));
        command.args(arguments).arg("--config").arg(config).env_remove("AEGIS_CONFIG").stdin(Stdio::null());
        command
    }

    /// Runs a command and waits for its end. Checks that its output contains no secret.
    pub fn aegis(&self, name: &str, arguments: &[&str]) -> Output {
        let output = self.command(name, arguments).output().unwrap();
        holds_no_secret(&format!("{name}: {arguments:?}"), &said(&output));
        output
    }

    /// Runs a command that must succeed. Returns its output.
    pub fn well(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.aegis(name, arguments);
        assert!(output.status.success(), "{name}: {arguments:?}: {}", said(&output));
        said(&output)
    }

    /// Starts a role with a configuration.
    pub fn run(&self, role: &str, name: &str) -> Running {
        self.start_process(name, &["run", "--role", role])
    }

    /// Starts a server of moderation over HTTP. Returns its address as well.
    pub fn serve(&self) -> (Running, String) {
        let address = format!("127.0.0.1:{}", free_port());
        let listen = format!("http.moderation.listen=\"{address}\"");
        (self.start_process("serve", &["serve", "--set", &listen]), address)
    }

    fn start_process(&self, name: &str, arguments: &[&str]) -> Running {
        let log = self.folder.join(format!("{name}.log"));
        let file = fs::File::create(&log).unwrap();
        let mut command = self.command(name, arguments);
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Running { child: command.spawn().unwrap(), log }
    }

    /// Calls `work` while an entry is removed from the lists.
    pub fn without<T>(&self, acl: &Acl, work: impl FnOnce() -> T) -> T {
        acls::remove(&self.kafka.bootstrap(), acl);
        let done = work();
        acls::add(&self.kafka.bootstrap(), std::slice::from_ref(acl));
        done
    }
}

/// Returns the broker's further settings. Its first listener stays open for the administrator, which is this test.
fn settings(folder: &Path, port: u16, controller: u16, sasl: u16, tls: u16) -> String {
    let folder = folder.display();
    format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{tls}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{tls}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL\n\
         sasl.enabled.mechanisms=SCRAM-SHA-512\n\
         listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
         ssl.keystore.type=PEM\nssl.keystore.location={folder}/broker.pem\n\
         ssl.truststore.type=PEM\nssl.truststore.location={folder}/authority.pem\n\
         listener.name.ssl.ssl.client.auth=required\n\
         ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS\nallow.everyone.if.no.acl.found=false\n"
    )
}

/// Returns the complete output of a command.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A running role.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Returns its output.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it listens on this address. Returns `false` if it ends instead.
    pub fn listens(&mut self, address: &str) -> bool {
        poll(|| match (self.child.try_wait().unwrap(), TcpStream::connect(address)) {
            (Some(_), _) => Ok(false),
            (None, Ok(_)) => Ok(true),
            (None, Err(_)) => Err(format!("it neither listens nor ends:\n{}", self.log())),
        })
    }

    /// Waits for its end, at most as long as `fail_safe`, so that a caller can list all processes that do not end.
    /// Returns the exit code and its output.
    pub fn ends(mut self, fail_safe: Duration) -> Option<(Option<i32>, String)> {
        let until = Instant::now() + fail_safe;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some((status.code(), self.log()));
            }
            thread::sleep(Duration::from_millis(20)); // no event announces the end of a process
        }
        None
    }

    /// Waits for its end. Returns the exit code and its output.
    pub fn end(mut self) -> (Option<i32>, String) {
        let status = poll(|| {
            let ended = self.child.try_wait().unwrap();
            ended.ok_or_else(|| format!("it does not end:\n{}", self.log()))
        });
        (status.code(), self.log())
    }

    /// Sends SIGTERM and checks that the role ends without an error. Returns its output.
    pub fn stop(self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let (code, log) = self.end();
        assert_eq!(code, Some(0), "{log}");
        log
    }

    /// Returns the response of its health server, beginning with the status line.
    pub fn page(&self, path: &str) -> String {
        let log = self.log();
        let (_, rest) = log.split_once("health and metrics address=").expect("it says where it answers");
        let address = rest.split_whitespace().next().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: aegis\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Checks that a text contains no secret.
pub fn holds_no_secret(what: &str, text: &str) {
    for secret in [PASSWORD, WRONG, PHRASE, SEED, RECORD] {
        assert!(!text.contains(secret), "{what} shows {secret}:\n{text}");
    }
}

/// Checks that the key, the value and the headers of a record contain no secret.
pub fn record_holds_no_secret(record: &Consumed) {
    let headers = record.headers.iter();
    let headers = headers.flat_map(|(name, value)| [Some(name.as_bytes()), value.as_deref()]);
    for part in headers.chain([record.key.as_deref(), record.payload.as_deref()]).flatten() {
        let text = String::from_utf8_lossy(part);
        holds_no_secret(&format!("{} {}:{}", record.topic, record.partition, record.offset), &text);
    }
}
