//! Parses a manifest's TOML.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::Manifest;
use super::raw::RawManifest;
use super::validate::Validator;
use crate::experts::error::PanelError;

/// The greatest length of an id.
const MAX_ID_LENGTH: usize = 40;

fn is_plain_id(id: &str) -> bool {
    (1..=MAX_ID_LENGTH).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl Manifest {
    /// Parses the manifest at `path` (`…/<id>/manifest.toml`) and checks that its tables agree with each other.
    ///
    /// # Errors
    /// Returns `Manifest` with the field, the problem and its remedy.
    pub(in crate::experts) fn parse(path: &Path, text: &str) -> Result<Self, PanelError> {
        let validator = Validator { path };
        let mut raw: RawManifest = toml::from_str(text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| 1 + text.get(..span.start).unwrap_or("").matches('\n').count());
            let remedy = "docs/adding-an-expert.md lists every key";
            validator.error(&format!("line {line}"), error.message(), remedy)
        })?;
        if !is_plain_id(&raw.id) {
            return Err(validator.error("id", "is not 1 to 40 of a-z, 0-9 and -", "choose such a name"));
        }
        let folder = path.parent().and_then(Path::file_name);
        if folder.is_none_or(|name| name.to_str() != Some(&raw.id)) {
            return Err(validator.error("id", "is not the folder's name", "rename one of the two"));
        }
        let (view, roles, ask) = (validator.view(&raw)?, validator.roles(&raw)?, validator.ask(&raw)?);
        let (languages, shadow) = (validator.languages(&raw)?, validator.shadow(&raw)?);
        let body = validator.body(&mut raw)?;
        let RawManifest { id, kind, description, licence, source, alone, quality, .. } = raw;
        let sha256 = Sha256::digest(text).into();
        Ok(Self {
            id,
            sha256,
            kind,
            description,
            licence,
            source,
            alone,
            view,
            roles,
            languages,
            ask,
            shadow,
            body,
            quality,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ask, Body, Languages, Padding, Precision, Side, TextInput, View};
    use super::*;
    use crate::core::event::Role;

    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn head() -> String {
        format!(
            "id = \"injection\"\nkind = \"head\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n\
             encoder = \"minilm\"\n[model]\nfile = \"model.onnx\"\nsha256 = \"{ZEROS}\"\n\
             [inputs]\nembedding = \"embedding\"\n[outputs]\nscores = \"scores\"\n\
             [[labels]]\nname = \"injection\"\ncategory = \"manipulation\"\nunsafe = true\n\
             [quality]\nauc = 0.9\nanything = \"for people\"\n"
        )
    }

    fn parse(text: &str) -> Result<Manifest, PanelError> {
        Manifest::parse(Path::new("models/injection/manifest.toml"), text)
    }

    fn field(text: &str) -> String {
        match parse(text) {
            Err(PanelError::Manifest { field, remedy, .. }) if !remedy.is_empty() => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_head_is_parsed() {
        let manifest = parse(&head()).unwrap();
        let Body::Head { encoder, graph, scores, .. } = manifest.body else { panic!() };
        assert_eq!(
            (encoder.as_str(), graph.file.path.as_path()),
            ("minilm", Path::new("models/injection/model.onnx"))
        );
        assert!(scores.labels[0].harmful && scores.calibration.is_none());
    }

    #[test]
    fn a_contradiction_is_refused_with_its_field() {
        let head = head();
        let cases = [
            ("id = \"injection\"", "id = \"other\"", "id"),
            ("id = \"injection\"", "id = \"../x\"", "id"),
            ("encoder = \"minilm\"\n", "", "encoder"),
            ("\"model.onnx\"", "\"../model.onnx\"", "model.file"),
            (ZEROS, "00", "model.sha256"),
            ("embedding = \"embedding\"", "ids = \"x\"", "inputs.ids"),
            ("scores = \"scores\"", "", "outputs.scores"),
            ("unsafe = true", "unsafe = false", "labels"),
            ("[quality]", "[calibration]\na = 0.0\nb = 1.0\n[quality]", "calibration"),
            ("kind = \"head\"", "kind = \"encoder\"", "labels"),
            ("kind = \"head\"", "kind = \"judge\"", "line 2"),
            ("licence", "license", "line 4"),
            ("unsafe = true", "unsave = true", "line 17"),
        ];
        for (old, new, expected) in cases {
            assert!(head.contains(old), "{old}");
            assert_eq!(field(&head.replace(old, new)), expected, "{old} -> {new}");
        }
    }

    #[test]
    fn view_and_roles_are_parsed() {
        let with = |keys: &str| head().replace("encoder =", &format!("{keys}\nencoder ="));
        let plain = parse(&head()).unwrap();
        assert_eq!((plain.view, plain.roles.as_slice()), (View::Turn, Role::ALL.as_slice()));
        let found = parse(&with("view = \"last:3\"\nroles = [\"tool\", \"user\"]")).unwrap();
        assert_eq!((found.view.to_string().as_str(), found.roles), ("last:3", vec![Role::User, Role::Tool]));
        for (keys, expected) in [
            ("view = \"last:0\"", "view"),
            ("view = \"all\"", "view"),
            ("roles = []", "roles"),
            ("roles = [\"user\", \"agent\"]", "roles"),
            ("roles = [\"user\", \"user\"]", "roles"),
        ] {
            assert_eq!(field(&with(keys)), expected, "{keys}");
        }
        let rules =
            "id = \"injection\"\nkind = \"rules\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n";
        assert_eq!(field(&format!("{rules}view = \"conversation\"\n")), "view");
        let encoder = rules.replace("rules", "encoder");
        assert_eq!(field(&format!("{encoder}roles = [\"user\"]\n")), "roles");
    }

    #[test]
    fn languages_are_parsed() {
        let with = |keys: &str| head().replace("encoder =", &format!("{keys}\nencoder ="));
        assert_eq!(parse(&head()).unwrap().languages, Languages::All);
        let found = parse(&with("languages = [\"en\", \"de\"]")).unwrap().languages;
        assert_eq!(found.to_string(), "de, en");
        for keys in ["[]", "[\"en\", \"en\"]", "[\"english\"]", "[\"EN\"]", "[\"unknown\"]"] {
            assert_eq!(field(&with(&format!("languages = {keys}"))), "languages", "{keys}");
        }
        let encoder = "id = \"injection\"\nkind = \"encoder\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n";
        assert_eq!(field(&format!("{encoder}languages = [\"en\"]\n")), "languages");
        let ranked = "languages = [\"en\"]\n[outputs]\nfeatures = \"f\"\n";
        assert_eq!(field(&format!("{encoder}{ranked}")), "model", "the languages are those of its features");
    }

    #[test]
    fn encoders_may_give_features_together() {
        let encoder = "id = \"injection\"\nkind = \"encoder\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n";
        let refused = |rest: &str| field(&format!("{encoder}{rest}"));
        let joint = "[joint]\nencoder = \"other\"\nlanguages = [\"en\"]\n";
        let outputs = "[outputs]\nfeatures = \"f\"\nfeatures_part = \"p\"\n";
        assert_eq!(refused(&format!("{outputs}{joint}")), "model", "the table is as it should be");
        assert_eq!(refused(joint), "joint");
        assert_eq!(refused(&format!("[outputs]\nfeatures = \"f\"\n{joint}")), "joint");
        assert_eq!(refused(&format!("[outputs]\nfeatures_part = \"p\"\n{joint}")), "joint");
        assert_eq!(refused(&format!("{outputs}{}", joint.replace("[\"en\"]", "[]"))), "joint.languages");
        assert_eq!(field(&format!("{}{joint}", head())), "joint");
        let with_part = head().replace("[outputs]\n", "[outputs]\nfeatures_part = \"p\"\n");
        assert_eq!(field(&with_part), "outputs.features_part");
    }

    #[test]
    fn an_encoder_may_have_a_second_graph_in_int8() {
        let encoder = "id = \"injection\"\nkind = \"encoder\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n";
        let file = |table: &str, name: &str, hash: &str| {
            format!("[{table}]\nfile = \"{name}\"\nsha256 = \"{hash}\"\n")
        };
        let int8 = |name: &str| file("int8", name, &"1".repeat(64));
        let rest = format!(
            "{}max_tokens = 8\n[inputs]\nids = \"ids\"\n[outputs]\nembedding = \"e\"\n",
            file("tokenizer", "tokenizer.json", ZEROS)
        );
        let with = |int8: &str| format!("{encoder}{}{int8}{rest}", file("model", "model.onnx", ZEROS));
        let mut plain = parse(&with("")).unwrap();
        assert!(!plain.has_int8() && !plain.select_precision(Precision::Int8));
        assert!(plain.select_precision(Precision::Float32));
        let mut both = parse(&with(&int8("model-int8.onnx"))).unwrap();
        assert!(both.has_int8() && both.precision() == Precision::Float32 && both.model() == Some([0; 32]));
        assert!(both.select_precision(Precision::Int8) && both.precision() == Precision::Int8);
        assert_eq!(both.model(), Some([0x11; 32]));
        assert_eq!(field(&with(&int8("../model-int8.onnx"))), "int8.file");
        let external =
            format!("{}[[int8.external_data]]\nfile = \"x\"\nsha256 = \"{ZEROS}\"\n", int8("m.onnx"));
        assert_eq!(field(&with(&external)), "int8.external_data");
        assert_eq!(field(&head().replace("[quality]", &format!("{}[quality]", int8("m.onnx")))), "int8");
    }

    #[test]
    fn ask_is_parsed() {
        let with = |keys: &str| head().replace("encoder =", &format!("{keys}\nencoder ="));
        assert_eq!(parse(&head()).unwrap().ask, Ask::Always);
        assert_eq!(parse(&with("ask = \"when_decisive\"")).unwrap().ask, Ask::WhenDecisive);
        assert_eq!(field(&with("ask = \"never\"")), "line 6");
        let rules =
            "id = \"injection\"\nkind = \"rules\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n";
        assert_eq!(field(&format!("{rules}ask = \"when_decisive\"\n")), "ask");
    }

    #[test]
    fn shadow_is_parsed() {
        let with = |keys: &str| head().replace("encoder =", &format!("{keys}\nencoder ="));
        assert!(!parse(&head()).unwrap().shadow && parse(&with("shadow = true")).unwrap().shadow);
        let encoder = with("shadow = true").replace("kind = \"head\"", "kind = \"encoder\"");
        assert_eq!(field(&encoder), "shadow");
    }

    #[test]
    fn a_classifiers_tokenizer_is_validated() {
        let text = format!(
            "id = \"injection\"\nkind = \"classifier\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n\
             [model]\nfile = \"m\"\nsha256 = \"{ZEROS}\"\n\
             [tokenizer]\nfile = \"t\"\nsha256 = \"{ZEROS}\"\nmax_tokens = 100\ndrop_ids = [1]\n\
             pad = {{ side = \"left\", to = 100, id = 0 }}\n\
             [inputs]\nids = \"ids\"\n[outputs]\nscores = \"s\"\n[[labels]]\nname = \"x\"\nunsafe = true\n"
        );
        let Body::Classifier { input: TextInput::Tokens(spec), .. } = parse(&text).unwrap().body else {
            panic!()
        };
        assert_eq!(spec.padding, Padding { side: Side::Left, to: Some(100), id: 0 });
        assert_eq!(field(&text.replace("to = 100", "to = 99")), "tokenizer.pad.to");
        assert_eq!(field(&text.replace("max_tokens = 100", "max_tokens = 0")), "tokenizer.max_tokens");
        assert_eq!(field(&text.replace("ids = \"ids\"", "")), "inputs.ids");
    }

    #[test]
    fn a_classifier_may_have_an_input_of_strings() {
        let text = format!(
            "id = \"injection\"\nkind = \"classifier\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n\
             [model]\nfile = \"m\"\nsha256 = \"{ZEROS}\"\n[text]\nmax_chars = 4000\n\
             [inputs]\ntext = \"text\"\n[outputs]\nscores = \"s\"\n[[labels]]\nname = \"x\"\nunsafe = true\n"
        );
        let Body::Classifier { input, .. } = parse(&text).unwrap().body else { panic!() };
        assert_eq!(input, TextInput::Text { input: "text".to_owned(), max_chars: 4_000 });
        let tokenizer =
            format!("[tokenizer]\nfile = \"t\"\nsha256 = \"{ZEROS}\"\nmax_tokens = 100\n[outputs]");
        let cases = [
            ("max_chars = 4000", "max_chars = 0", "text.max_chars"),
            ("max_chars = 4000", "max_chars = 70000", "text.max_chars"),
            ("[text]\nmax_chars = 4000\n", "", "text.max_chars"),
            ("text = \"text\"", "ids = \"ids\"", "text"),
            ("text = \"text\"", "text = \"text\"\nmask = \"m\"", "inputs.mask"),
            ("text = \"text\"", "text = \"text\"\nembedding = \"m\"", "inputs.embedding"),
            ("[outputs]", tokenizer.as_str(), "tokenizer"),
        ];
        for (old, new, expected) in cases {
            assert!(text.contains(old), "{old}");
            assert_eq!(field(&text.replace(old, new)), expected, "{old} -> {new}");
        }
        assert_eq!(field(&head().replace("embedding = \"embedding\"", "text = \"t\"")), "inputs.text");
        assert_eq!(field(&format!("{}[text]\nmax_chars = 9\n", head())), "text");
    }
}
