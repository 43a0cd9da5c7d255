//! Rules of the schema's source that the compiler does not know.

use std::{fs, path::Path};

/// async-graphql lets the error of such a field null its parent, and so a root take its siblings with it.
#[test]
fn no_resolver_returns_a_result_of_an_option() {
    let schema = Path::new("src/schema");
    let types =
        fs::read_dir(schema.join("types")).expect("the types").map(|entry| entry.expect("a file").path());
    let roots = ["query.rs", "mutation.rs", "subscription.rs"].map(|name| schema.join(name));
    for path in types.chain(roots) {
        let source = fs::read_to_string(&path).expect("readable");
        assert!(
            !source.contains("-> Result<Option<"),
            "{}: return `Nullable<_>` (see error.rs) from resolvers of nullable fields",
            path.display()
        );
    }
}
