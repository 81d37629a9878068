//! Small text files of a user's.

use std::path::Path;

use crate::error::{Error, Result};

/// Far more than any configuration has.
const MOST: u64 = 1 << 24;

/// A text file, as long as it is one: no device, no pipe, nothing huge.
///
/// # Errors
/// [`Error::Io`] where it cannot be read; [`Error::Usage`] where it is no file of at most 16 MiB in UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let refused = |what: &str| Error::usage(format!("{} {what}", path.display()), "name a text file");
    let found = std::fs::metadata(path).map_err(Error::io(path, "read"))?;
    if !found.is_file() || found.len() > MOST {
        return Err(refused("is no file of at most 16 MiB"));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    String::from_utf8(bytes).map_err(|_| refused("is no text in UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_texts_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        assert_eq!(read_text(&path).unwrap_err().exit_code(), 1);
        std::fs::write(&path, "lr = 1").unwrap();
        assert_eq!(read_text(&path).unwrap(), "lr = 1");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read_text(&path).unwrap_err().to_string().contains("UTF-8"));
        assert!(read_text(folder.path()).unwrap_err().to_string().contains("no file"));
    }
}
