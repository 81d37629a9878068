//! The page as one file: style and modules inside, allowed by their hashes; data as base64 beside them.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

const POLICY: &str = r#"<meta http-equiv="Content-Security-Policy" content=""#;
const STYLE: &str = r#"<link rel="stylesheet" href="style.css">"#;
const SCRIPT: &str = r#"<script type="module" src="page.js"></script>"#;
const END: &str = "</body>";

/// The policy in a page's head.
pub(super) fn policy(index: &str) -> &str {
    let (_, rest) = index.split_once(POLICY).expect("index.html has a policy");
    rest.split_once('"').expect("it ends").0
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)))
}

/// `index` with everything inside; `data` is base64 by file name.
pub(super) fn join(index: &str, style: &str, modules: &[(&str, &str)], data: &[(&str, String)]) -> String {
    // The line breaks count for the hashes.
    let (style, script) = (format!("\n{style}"), format!("\n{}", bundle(modules)));
    let own = policy(index);
    let inside = own
        .replace("script-src 'self'", &format!("script-src {}", hash(&script)))
        .replace("style-src 'self'", &format!("style-src {}", hash(&style)))
        .replace("connect-src 'self'", "connect-src 'none'");
    let mut blocks = String::new();
    for (name, base64) in data {
        // No type that is code: the browser leaves it alone.
        let _ = writeln!(blocks, r#"<script type="text/plain" id="{name}">{base64}</script>"#);
    }
    index
        .replace(own, &inside)
        .replace(STYLE, &format!("<style>{style}</style>"))
        .replace(SCRIPT, &format!(r#"<script type="module">{script}</script>"#))
        .replace(END, &format!("{blocks}{END}"))
}

/// What holds a module's exports: `$page` for page.js.
fn object(file: &str) -> String {
    format!("${}", file.trim_start_matches("./").trim_end_matches(".js"))
}

/// The modules one behind the other, each in a function that returns its exports.
///
/// They keep to a form: an import is one line `import { a, b } from './file.js';`, an export one declaration behind `export`.
fn bundle(modules: &[(&str, &str)]) -> String {
    let mut all = String::new();
    for (name, content) in modules {
        let mut exports = Vec::new();
        let _ = writeln!(all, "const {} = (() => {{", object(name));
        for line in content.lines() {
            let import = line.strip_prefix("import ").and_then(|l| l.split_once(" from '"));
            if let Some((names, from)) = import {
                let _ = writeln!(all, "const {names} = {};", object(from.trim_end_matches("';")));
                continue;
            }
            let own = line.strip_prefix("export ");
            exports.extend(own.map(declared));
            let _ = writeln!(all, "{}", own.unwrap_or(line));
        }
        let _ = writeln!(all, "return {{ {} }};\n}})();", exports.join(", "));
    }
    all
}

/// The name that a declaration gives: `async function* name(…`, `const name = …`, `class Name …`.
fn declared(line: &str) -> &str {
    let mut words = line.split([' ', '(', '=']).filter(|w| !w.is_empty());
    words.find(|w| !["async", "function", "function*", "const", "class"].contains(w)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::{INDEX, MODULES, STYLE as SHEET};
    use super::*;

    #[test]
    fn every_import_is_of_an_export_further_up() {
        let mut known: Vec<(String, Vec<&str>)> = Vec::new();
        for (name, content) in &MODULES {
            for line in content.lines().filter(|l| l.starts_with("import ")) {
                let (names, from) = line
                    .strip_prefix("import { ")
                    .and_then(|l| l.strip_suffix("';"))
                    .and_then(|l| l.split_once(" } from './"))
                    .unwrap_or_else(|| panic!("{name}: `{line}` has another form"));
                let (_, exports) =
                    known.iter().find(|(n, _)| n == from).unwrap_or_else(|| panic!("{name}: no {from} further up"));
                for import in names.split(", ") {
                    assert!(exports.contains(&import), "{name}: {from} has no {import}");
                }
            }
            let exports = content.lines().filter_map(|l| l.strip_prefix("export ")).map(declared).collect();
            known.push((name.to_string(), exports));
        }
        assert_eq!(declared("async function* steps(a) {"), "steps");
        assert_eq!(declared("const half = (x) => x;"), "half");
    }

    #[test]
    fn one_file_has_all_inside_and_allows_nothing_else() {
        let page = join(INDEX, SHEET, &MODULES, &[("plan.json", "e30=".into())]);
        assert!(!page.contains("src=\"") && !page.contains("href=\"style"), "something is left outside");
        assert!(!page.contains("'self'") && page.contains("connect-src 'none'"));
        assert!(page.contains(r#"<script type="text/plain" id="plan.json">e30=</script>"#));
        // What the hashes are of is what stands between the tags.
        for (open, close) in [("<style>", "</style>"), ("<script type=\"module\">", "</script>")] {
            let (_, rest) = page.split_once(open).expect("it is there");
            let (content, _) = rest.split_once(close).expect("it ends");
            assert!(policy(&page).contains(&hash(content)), "{open}");
        }
        assert!(
            MODULES.iter().all(|(_, m)| !m.contains("</") && !m.contains("<!--")),
            "HTML would end the script there"
        );
    }
}
