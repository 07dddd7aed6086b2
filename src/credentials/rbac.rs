//! Tokens of RBAC users, and the token and the login of an admin, as the Admin API and Kong Manager of Enterprise check
//! them.

use uuid::Uuid;

use super::CredentialCheck;
use super::admins::{self, AdminRows, RBAC_USER_COLUMNS};
use super::checker::{CredentialChecker, KongRules, other_workspace, unknown_user, unknown_workspace};
use super::kind::CredentialKind;
use super::outcome::{CheckOutcome, OutcomeReason};
use super::secret::{self, Idents};
use super::store::{CredentialStore, RowQuery, TextRow, rows_named};
use super::stored_secret::{basic_auth, on_blocking_thread};
use crate::error::Result;

const RBAC_USERS: &str = "rbac_users";

/// What Kong finds for a token before it compares.
struct TokenSearch {
    idents: Idents,
    /// An enabled RBAC user has the digits of the token: Kong looks for no plain token then.
    is_ident_taken: bool,
}

impl<S: CredentialStore> CredentialChecker<S> {
    pub(super) async fn rbac_token(
        &self,
        check: &CredentialCheck,
        workspace: Option<Uuid>,
    ) -> Result<CheckOutcome> {
        let rows = self.rbac_users(check.user(), workspace).await?;
        self.any(&rows, unknown_user(check.kind), async |row| self.token_of(row, &check.secret).await).await
    }

    async fn token_of(&self, user: &TextRow, given: &str) -> Result<CheckOutcome> {
        let idents = Idents::of(given);
        let text = Some(("user_token_ident", idents.sha1.as_str()));
        let query = RowQuery { table: RBAC_USERS, columns: RBAC_USER_COLUMNS, text, ..RowQuery::default() };
        let is_ident_taken = self.store.find(query).await?.iter().any(is_enabled);
        Ok(token_outcome(user, given, &TokenSearch { idents, is_ident_taken }, self.rules).await)
    }

    /// RBAC users of that name or id.
    async fn rbac_users(&self, name: &str, workspace: Option<Uuid>) -> Result<Vec<TextRow>> {
        let query = RowQuery { table: RBAC_USERS, columns: RBAC_USER_COLUMNS, ..RowQuery::default() };
        rows_named(&self.store, RowQuery { unique: true, workspace, ..query }, &["name"], name).await
    }

    pub(super) async fn admin(&self, check: &CredentialCheck) -> Result<CheckOutcome> {
        let workspace = match check.workspace.as_deref() {
            Some(name) => match self.workspace(name).await? {
                Some(found) => Some(found),
                None => return Ok(unknown_workspace(self.store.side())),
            },
            None => None,
        };
        let found = admins::find(&self.store, check.user()).await?;
        if found.is_empty() {
            return self.without_admin(check, workspace.as_ref().map(|(id, _)| *id)).await;
        }
        self.any(&found, unknown_user(check.kind), async |admin| {
            let rows = AdminRows::read(&self.store, admin.clone()).await?;
            let outcome = self.check_admin(check, &rows).await?;
            match &workspace {
                Some((id, name)) if outcome.is_accepted() && !rows.workspaces.contains(id) => {
                    Ok(other_workspace(name))
                }
                _ => Ok(outcome),
            }
        })
        .await
    }

    /// An admin without an admin row: rejected by the run, or deleted in part.
    async fn without_admin(&self, check: &CredentialCheck, workspace: Option<Uuid>) -> Result<CheckOutcome> {
        let mut consumers = self.consumers(check.user(), workspace).await?;
        consumers.extend(self.consumers(&format!("{}_ADMIN_", check.user()), workspace).await?);
        let hidden = consumers.iter().any(|row| row.get("type").is_some_and(|kind| kind != "0"));
        let message = if hidden {
            "A hidden consumer has this name, but no admin."
        } else if !self.rbac_users(check.user(), workspace).await?.is_empty() {
            "An RBAC user has this name, but no admin."
        } else {
            return Ok(unknown_user(check.kind));
        };
        Ok(CheckOutcome::rejected(OutcomeReason::BrokenChain, message))
    }

    async fn check_admin(&self, check: &CredentialCheck, rows: &AdminRows) -> Result<CheckOutcome> {
        if let Some(gap) = rows.gaps().first() {
            let message = format!("The admin is incomplete: {gap}.");
            return Ok(CheckOutcome::rejected(OutcomeReason::BrokenChain, message));
        }
        match &rows.rbac_user {
            Some(user) if check.kind == CredentialKind::AdminToken => {
                self.token_of(user, &check.secret).await
            }
            _ => self.login(check, rows).await,
        }
    }

    /// The login to Kong Manager by basic-auth.
    async fn login(&self, check: &CredentialCheck, rows: &AdminRows) -> Result<CheckOutcome> {
        let username = rows.username(check.user());
        let Some(row) = rows.password(&self.store, username).await? else {
            return Ok(CheckOutcome::rejected(
                OutcomeReason::NoSecret,
                "The admin has not set a password yet: no basic-auth credential in its workspace has this username in this case.",
            ));
        };
        if !rows.owns(&row) {
            return Ok(CheckOutcome::rejected(
                OutcomeReason::BrokenChain,
                "The basic-auth credential with the admin's username belongs to another consumer.",
            ));
        }
        let outcome = basic_auth(&row, &check.secret);
        let status = rows.status();
        if outcome.accepted == Some(false) || status.may_log_in() {
            return Ok(outcome);
        }
        let message =
            format!("Kong Manager refuses the login, because the status of the admin is {}.", status.name());
        Ok(CheckOutcome::rejected(OutcomeReason::NotApproved, message))
    }
}

pub(super) fn is_enabled(user: &TextRow) -> bool {
    user.get("enabled").map(String::as_str) != Some("false")
}

/// How a stored token fits a given one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenMatch {
    None,
    Hash,
    Plain,
    /// The stored hash cannot be read.
    Unreadable,
}

/// Compares a token. Runs on a thread of its own, because hashing takes milliseconds.
async fn compare(stored: &str, given: &str, rules: KongRules) -> TokenMatch {
    let (stored, given) = (stored.to_owned(), given.to_owned());
    let of_hash = |is_equal: Option<bool>| match is_equal {
        Some(true) => TokenMatch::Hash,
        Some(false) => TokenMatch::None,
        None => TokenMatch::Unreadable,
    };
    if secret::is_bcrypt(&stored) {
        of_hash(on_blocking_thread(move || secret::bcrypt(&given, &stored)).await)
    } else if rules.has_pbkdf2_tokens && secret::is_pbkdf2(&stored) {
        of_hash(on_blocking_thread(move || secret::pbkdf2(&given, &stored)).await)
    } else if secret::is_equal(given.as_bytes(), stored.as_bytes()) {
        TokenMatch::Plain
    } else {
        TokenMatch::None
    }
}

/// Whether Kong accepts a token for this RBAC user: it finds users by the digits of the token's hash, or else one whose
/// stored text is the token.
async fn token_outcome(user: &TextRow, given: &str, search: &TokenSearch, rules: KongRules) -> CheckOutcome {
    let Some(stored) = user.get("user_token") else {
        return CheckOutcome::rejected(OutcomeReason::NoSecret, "No token is stored.");
    };
    let found = compare(stored, given, rules).await;
    match found {
        TokenMatch::None => return CheckOutcome::compared(false),
        TokenMatch::Unreadable => {
            return CheckOutcome::rejected(OutcomeReason::HashNotAccepted, "The stored hash cannot be read.");
        }
        TokenMatch::Hash | TokenMatch::Plain if !is_enabled(user) => {
            return CheckOutcome::rejected(
                OutcomeReason::Disabled,
                "The token is correct, but the RBAC user is disabled.",
            );
        }
        TokenMatch::Hash | TokenMatch::Plain => {}
    }
    let ident = user.get("user_token_ident");
    let has_ident = ident == Some(&search.idents.sha1);
    if found == TokenMatch::Plain && (has_ident || !search.is_ident_taken) {
        return CheckOutcome::accepted_with_remark(
            "The token is stored as plain text. Kong accepts it, and replaces it by its hash when it is first used.",
        );
    }
    if has_ident {
        return CheckOutcome::compared(true);
    }
    if ident == Some(&search.idents.sha256) {
        return CheckOutcome::fips_mode();
    }
    CheckOutcome::rejected(
        OutcomeReason::WrongIdent,
        "The token is correct, but Kong does not find it: user_token_ident is not that of this token.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "a token";
    const PBKDF2: &str =
        "$pbkdf2-sha512$i=10000,l=32$AAECAwQFBgcICQoLDA0ODw$s1qOkFay1DbcR0sablkjBgtOqf1IcoQVkkK1uzR9LdU";

    fn user(token: &str, ident: Option<&str>, enabled: &str) -> TextRow {
        let columns = [("user_token", Some(token)), ("user_token_ident", ident), ("enabled", Some(enabled))];
        columns.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect()
    }

    async fn outcome(user: &TextRow, given: &str, is_ident_taken: bool, line: &str) -> CheckOutcome {
        let search = TokenSearch { idents: Idents::of(given), is_ident_taken };
        token_outcome(user, given, &search, KongRules::of(Some(line))).await
    }

    #[tokio::test]
    async fn a_hashed_token_is_found_by_its_digits() {
        let hash = bcrypt::hash(TOKEN, 4).unwrap();
        let Idents { sha1, sha256 } = Idents::of(TOKEN);
        let found = async |ident: Option<&str>, enabled: &str, given: &str| {
            let outcome = outcome(&user(&hash, ident, enabled), given, false, "2.8").await;
            (outcome.accepted, outcome.reason)
        };
        assert_eq!(found(Some(&sha1), "true", TOKEN).await, (Some(true), OutcomeReason::Accepted));
        assert_eq!(found(Some(&sha1), "true", "another").await, (Some(false), OutcomeReason::WrongSecret));
        assert_eq!(found(Some(&sha1), "false", TOKEN).await, (Some(false), OutcomeReason::Disabled));
        assert_eq!(found(Some(&sha1), "false", "another").await, (Some(false), OutcomeReason::WrongSecret));
        assert_eq!(found(Some(&sha256), "true", TOKEN).await, (None, OutcomeReason::FipsMode));
        for other in [Some("00000"), None] {
            assert_eq!(found(other, "true", TOKEN).await, (Some(false), OutcomeReason::WrongIdent));
        }
        assert_eq!(found(Some(&sha1), "true", &hash).await.0, Some(false), "the hash is not the token");
        let broken = user("$2b$09$short", Some(&sha1), "true");
        assert_eq!(outcome(&broken, TOKEN, false, "2.8").await.reason, OutcomeReason::HashNotAccepted);
    }

    #[tokio::test]
    async fn a_plain_token_is_accepted_unless_its_digits_are_those_of_another_user() {
        let plain = user(TOKEN, None, "true");
        assert!(outcome(&plain, TOKEN, false, "2.8").await.is_accepted());
        assert!(outcome(&plain, TOKEN, false, "2.8").await.has_remark);
        assert!(!outcome(&plain, "another", false, "2.8").await.is_accepted());
        assert_eq!(outcome(&plain, TOKEN, true, "2.8").await.reason, OutcomeReason::WrongIdent);
        let with_ident = user(TOKEN, Some(&Idents::of(TOKEN).sha1), "true");
        assert!(outcome(&with_ident, TOKEN, true, "2.8").await.is_accepted());
        let disabled = user(TOKEN, None, "false");
        assert_eq!(outcome(&disabled, TOKEN, false, "2.8").await.reason, OutcomeReason::Disabled);
    }

    #[tokio::test]
    async fn only_2b_is_bcrypt_and_other_hashes_are_texts() {
        let hash = bcrypt::hash(TOKEN, 4).unwrap().replacen("$2b$", "$2y$", 1);
        let stored = user(&hash, Some(&Idents::of(TOKEN).sha1), "true");
        assert_eq!(outcome(&stored, TOKEN, true, "3.3").await.reason, OutcomeReason::WrongSecret);
    }

    #[tokio::test]
    async fn pbkdf2_is_a_hash_from_3_0_on() {
        let Idents { sha1, sha256 } = Idents::of("secret");
        let stored = |ident: &str| user(PBKDF2, Some(ident), "true");
        assert!(outcome(&stored(&sha1), "secret", true, "3.0").await.is_accepted());
        assert_eq!(outcome(&stored(&sha1), "Secret", false, "3.0").await.accepted, Some(false));
        assert_eq!(outcome(&stored(&sha256), "secret", false, "3.2").await.accepted, None);
        assert_eq!(
            outcome(&stored(&sha1), "secret", true, "2.8").await.reason,
            OutcomeReason::WrongSecret,
            "2.8 compares the text"
        );
    }
}
