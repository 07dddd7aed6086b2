//! Passwords from files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::SecretString;

use crate::error::{Error, Result};

/// Reads a password from a file, without the line end after it. Returns a warning with it where others may read the
/// file; that alone stops nothing, since container platforms mount secrets so.
pub fn from_file(path: &Path) -> Result<(SecretString, Option<String>)> {
    let unreadable = || Error::usage(format!("cannot read a password from {}", path.display()));
    let text = fs::read_to_string(path).map_err(|e| unreadable().source(e))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(unreadable().remedy("Write the password into the file, and nothing else: it is empty."));
    }
    if password.contains(['\n', '\0']) {
        return Err(
            unreadable().remedy("Write the password into the file, and nothing else: it has several lines.")
        );
    }
    let mode = fs::metadata(path).map_err(|e| unreadable().source(e))?.permissions().mode();
    let open = mode & 0o077 != 0;
    let warning = open.then(|| format!("other users can read {}: run chmod 600 on it", path.display()));
    Ok((SecretString::from(password), warning))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn written(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("written");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("mode set");
        file
    }

    #[test]
    fn the_line_end_is_not_part_of_the_password() {
        for text in ["s3cr3t", "s3cr3t\n", "s3cr3t\r\n"] {
            let (password, warning) = from_file(written(text, 0o600).path()).expect(text);
            assert_eq!(password.expose_secret(), "s3cr3t");
            assert_eq!(warning, None);
        }
    }

    #[test]
    fn spaces_are_part_of_the_password() {
        let (password, _) = from_file(written(" a b \n", 0o600).path()).expect("spaces");
        assert_eq!(password.expose_secret(), " a b ");
    }

    #[test]
    fn a_file_that_others_can_read_gets_a_warning() {
        let (_, warning) = from_file(written("x", 0o644).path()).expect("still read");
        assert!(warning.is_some_and(|text| text.contains("chmod 600")));
    }

    #[test]
    fn empty_or_long_files_are_refused_without_being_shown() {
        for text in ["", "\n", "s3cr3t\nmore\n"] {
            let error = from_file(written(text, 0o600).path()).expect_err("not a password");
            assert!(!format!("{error:?}").contains("s3cr3t"));
        }
        assert!(from_file(Path::new("/nowhere")).is_err());
    }
}
