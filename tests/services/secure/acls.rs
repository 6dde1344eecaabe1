//! The access lists of docs/security.md on a broker, by its own protocol: CreateAcls and DeleteAcls.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

/// One entry of an access list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    pub user: String,
    operation: i8,
    kind: i8,
    pub name: String,
    pattern: i8,
    /// The entry as on the page: `aegis-score Read topic moderation.events`.
    pub words: String,
}

const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const ALLOW: i8 = 3;

fn operation(word: &str) -> i8 {
    match word {
        "Read" => 3,
        "Write" => 4,
        "Create" => 5,
        "Alter" => 7,
        "Describe" => 8,
        "DescribeConfigs" => 10,
        _ => panic!("docs/security.md: no operation {word}"),
    }
}

/// Returns the entries that the commands on the page would add.
pub fn documented() -> Vec<Acl> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let page = fs::read_to_string(page).unwrap();
    let commands = page.lines().filter_map(|line| line.strip_prefix("kafka-acls --add "));
    let acls: Vec<Acl> = commands.flat_map(command).collect();
    assert!(acls.len() > 40, "{acls:?}");
    acls
}

fn command(words: &str) -> Vec<Acl> {
    let (mut user, mut operations, mut resources, mut pattern) = (None, Vec::new(), Vec::new(), LITERAL);
    let mut words = words.split(' ');
    while let (Some(flag), Some(value)) = (words.next(), words.next()) {
        match flag {
            "--allow-principal" => user = Some(value.to_owned()),
            "--operation" => operations.push(value),
            "--topic" => resources.push((2, "topic", value)),
            "--group" => resources.push((3, "group", value)),
            "--transactional-id" => resources.push((5, "transactional id", value)),
            "--resource-pattern-type" if value == "prefixed" => pattern = PREFIXED,
            _ => panic!("docs/security.md: {flag} {value}"),
        }
    }
    let user = user.expect("a command names a user");
    let acl = |word: &str, (kind, what, name): &(i8, &str, &str)| Acl {
        user: user.clone(),
        operation: operation(word),
        kind: *kind,
        name: (*name).to_owned(),
        pattern,
        words: format!("{} {word} {what} {name}", user.trim_start_matches("User:")),
    };
    operations.iter().flat_map(|word| resources.iter().map(|one| acl(word, one))).collect()
}

/// Adds entries.
pub fn add(broker: &str, acls: &[Acl]) {
    let mut body = count(acls.len());
    for acl in acls {
        body.push(acl.kind.cast_unsigned());
        body.extend(text(&acl.name));
        body.push(acl.pattern.cast_unsigned());
        body.extend(text(&acl.user));
        body.extend(text("*"));
        body.extend([acl.operation.cast_unsigned(), ALLOW.cast_unsigned()]);
    }
    let answer = ask(broker, 30, &body);
    assert!(results(&answer, acls.len()).iter().all(|code| *code == 0), "{answer:?}");
}

/// Removes an entry.
pub fn remove(broker: &str, acl: &Acl) {
    let mut body = count(1);
    body.push(acl.kind.cast_unsigned());
    body.extend(text(&acl.name));
    body.push(acl.pattern.cast_unsigned());
    body.extend(text(&acl.user));
    body.extend(text("*"));
    body.extend([acl.operation.cast_unsigned(), ALLOW.cast_unsigned()]);
    let answer = ask(broker, 31, &body);
    // The number of matching entries follows the code and an empty message.
    assert_eq!(answer[8..16], [0, 0, 0xff, 0xff, 0, 0, 0, 1], "{answer:?}");
}

fn count(count: usize) -> Vec<u8> {
    i32::try_from(count).unwrap().to_be_bytes().to_vec()
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = i16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// Returns the error codes of a response. They follow the throttle time and the count, each with its message.
fn results(answer: &[u8], wanted: usize) -> Vec<i16> {
    let mut rest = &answer[4..];
    assert_eq!(take(&mut rest, 4), count(wanted));
    let mut codes = Vec::new();
    for _ in 0..wanted {
        codes.push(i16::from_be_bytes(take(&mut rest, 2).try_into().unwrap()));
        let message = i16::from_be_bytes(take(&mut rest, 2).try_into().unwrap());
        take(&mut rest, usize::try_from(message).unwrap_or(0));
    }
    codes
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(bytes);
    *rest = left;
    taken
}

/// Sends a request of version 1 as an administrator. Returns the response without its header.
fn ask(broker: &str, api: i16, body: &[u8]) -> Vec<u8> {
    let mut request = api.to_be_bytes().to_vec();
    request.extend(1i16.to_be_bytes());
    request.extend(7i32.to_be_bytes());
    request.extend(text("test"));
    request.extend(body);
    let mut stream = TcpStream::connect(broker).unwrap();
    stream.write_all(&count(request.len())).unwrap();
    stream.write_all(&request).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..4], 7i32.to_be_bytes());
    answer.split_off(4)
}
