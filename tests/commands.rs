//! What the commands say, word by word: the help of each, errors and exit codes, held in tests/cmd/*.trycmd.
//!
//! After a change of flags or texts, write them anew with `TRYCMD=overwrite cargo test --release --test commands`, and read the
//! difference in git before you commit it: a help that got worse passes no other test.
//!
//! No case here opens an adapter. [..] stands for any words in a line, [EXE] for `.exe` where programs have that.

#[test]
fn commands() {
    let cases = trycmd::TestCases::new();
    // Without a terminal the help is 100 columns wide; the environment must not make it another width, nor the log talk.
    cases.env("COLUMNS", "100").env("RUST_LOG", "off").env("NO_COLOR", "1");
    cases.register_bin("s3gpu", std::path::Path::new(env!("CARGO_BIN_EXE_s3gpu")));
    cases.case("tests/cmd/*.trycmd");
}
