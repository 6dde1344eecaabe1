//! Properties of the machine: its host name, and the execution providers of graphs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The execution provider of the experts' graphs: `cpu`, `cuda` (the first GPU), `cuda:1`, or `tensorrt` likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Provider {
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU with this number. It needs the library of `onnxruntime-gpu`.
    Cuda(u16),
    /// The NVIDIA GPU with this number through TensorRT. It also needs TensorRT's library.
    TensorRt(u16),
}

impl TryFrom<String> for Provider {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, card) = text.split_once(':').unwrap_or((&text, "0"));
        match (name, card.parse()) {
            ("cpu", _) if text == "cpu" => Ok(Self::Cpu),
            ("cuda", Ok(card)) => Ok(Self::Cuda(card)),
            ("tensorrt", Ok(card)) => Ok(Self::TensorRt(card)),
            _ => Err(format!(
                "`{text}` is no execution provider: write cpu, cuda, cuda:1, tensorrt or tensorrt:1"
            )),
        }
    }
}

impl From<Provider> for String {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Cpu => "cpu".into(),
            Provider::Cuda(card) => format!("cuda:{card}"),
            Provider::TensorRt(card) => format!("tensorrt:{card}"),
        }
    }
}

/// Returns the host name. Each container of a service has its own.
pub fn host() -> Option<String> {
    let uname = || {
        let output = std::process::Command::new("uname").arg("-n").output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(uname)?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigError, load};

    fn read(text: &str) -> Result<Config, ConfigError> {
        let folder = std::env::temp_dir().join(format!("aegis-config-{}-{}", std::process::id(), text.len()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("aegis.toml");
        std::fs::write(&path, text).unwrap();
        let loaded = load(&path, [], &[]);
        std::fs::remove_dir_all(&folder).unwrap();
        loaded.map(|loaded| loaded.config)
    }

    #[test]
    fn an_empty_member_takes_the_host_name() {
        let host = std::process::Command::new("uname").arg("-n").output().unwrap().stdout;
        assert_eq!(read("").unwrap().score.member, String::from_utf8(host).unwrap().trim());
        assert_eq!(read("[score]\nmember = \"7\"").unwrap().score.member, "7");
    }

    #[test]
    fn providers_are_parsed() {
        let provider = |word: &str| {
            read(&format!("[experts]\nprovider = \"{word}\"")).map(|config| config.experts.provider)
        };
        assert_eq!(provider("cpu").unwrap(), Provider::Cpu);
        assert_eq!(provider("cuda").unwrap(), Provider::Cuda(0));
        assert_eq!(provider("cuda:3").unwrap(), Provider::Cuda(3));
        assert_eq!(provider("tensorrt").unwrap(), Provider::TensorRt(0));
        assert_eq!(provider("tensorrt:2").unwrap(), Provider::TensorRt(2));
        for wrong in ["", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "tensorrt:"] {
            assert!(provider(wrong).unwrap_err().to_string().contains("cuda:1"), "{wrong}");
        }
    }
}
