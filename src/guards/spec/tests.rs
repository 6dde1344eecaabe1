use super::*;
use crate::guards::NAMES;

#[test]
fn every_bundled_spec_is_valid_and_named_after_its_file() {
    for name in NAMES {
        let spec = GuardSpec::built_in(name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(spec.name(), *name);
    }
}
