//! The kinds of Kong's credentials, and their tables.

use serde::{Deserialize, Serialize};

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CredentialKind {
    /// A password of the basic-auth plugin
    BasicAuth,
    /// A key of the key-auth plugin
    KeyAuth,
    /// A key of Enterprise's key-auth-enc plugin
    KeyAuthEnc,
    /// A secret of the hmac-auth plugin
    HmacAuth,
    /// A secret or key of the jwt plugin, or a whole token
    Jwt,
    /// A client's secret of the oauth2 plugin
    #[serde(rename = "oauth2-client")]
    #[value(name = "oauth2-client")]
    Oauth2Client,
    /// A token of the oauth2 plugin
    #[serde(rename = "oauth2-token")]
    #[value(name = "oauth2-token")]
    Oauth2Token,
    /// A consumer's group of the acl plugin
    Acl,
    /// A client certificate, or its subject name, of Enterprise's mtls-auth plugin
    Mtls,
    /// A token of an RBAC user
    RbacToken,
    /// A token of an admin
    AdminToken,
    /// A password of an admin
    AdminPassword,
}

impl CredentialKind {
    /// As in files and flags.
    pub(crate) fn name(self) -> &'static str {
        match self {
            CredentialKind::BasicAuth => "basic-auth",
            CredentialKind::KeyAuth => "key-auth",
            CredentialKind::KeyAuthEnc => "key-auth-enc",
            CredentialKind::HmacAuth => "hmac-auth",
            CredentialKind::Jwt => "jwt",
            CredentialKind::Oauth2Client => "oauth2-client",
            CredentialKind::Oauth2Token => "oauth2-token",
            CredentialKind::Acl => "acl",
            CredentialKind::Mtls => "mtls",
            CredentialKind::RbacToken => "rbac-token",
            CredentialKind::AdminToken => "admin-token",
            CredentialKind::AdminPassword => "admin-password",
        }
    }

    /// Whether the row cannot be found by the secret alone. With bcrypt, comparing with all rows would take days.
    pub(crate) fn needs_user(self) -> bool {
        match self {
            CredentialKind::BasicAuth
            | CredentialKind::HmacAuth
            | CredentialKind::Oauth2Client
            | CredentialKind::Acl
            | CredentialKind::RbacToken
            | CredentialKind::AdminToken
            | CredentialKind::AdminPassword => true,
            CredentialKind::KeyAuth
            | CredentialKind::KeyAuthEnc
            | CredentialKind::Jwt
            | CredentialKind::Oauth2Token
            | CredentialKind::Mtls => false,
        }
    }

    pub(crate) fn user_description(self) -> &'static str {
        match self {
            CredentialKind::BasicAuth | CredentialKind::HmacAuth => "the credential's username",
            CredentialKind::Oauth2Client => "the client_id",
            CredentialKind::Jwt => "the credential's key (the token's iss)",
            CredentialKind::RbacToken => "the RBAC user's name",
            CredentialKind::AdminToken | CredentialKind::AdminPassword => "the admin's username",
            CredentialKind::KeyAuth
            | CredentialKind::KeyAuthEnc
            | CredentialKind::Oauth2Token
            | CredentialKind::Acl
            | CredentialKind::Mtls => "the consumer's username",
        }
    }
}

/// The table of a kind, and the SQL conditions by which a report counts its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct CredentialTable {
    pub(super) kind: CredentialKind,
    pub(super) table: &'static str,
    /// The column with the secret.
    pub(super) secret: &'static str,
    /// The column with the consumer.
    pub(super) owner: Option<&'static str>,
    /// The secret is stored as a hash that Kong accepts.
    pub(super) hashed: &'static str,
    /// The secret is stored as a hash that Kong accepts in FIPS mode only.
    pub(super) of_fips_mode: &'static str,
    /// Kong accepts no secret at all for the stored value.
    pub(super) unusable: &'static str,
    /// Expired, apart from a column `ttl`.
    pub(super) expired: &'static str,
    /// Has an expiry, apart from a column `ttl`.
    pub(super) expires: &'static str,
}

/// A table with plain secrets that do not expire.
const PLAIN: CredentialTable = CredentialTable {
    kind: CredentialKind::KeyAuth,
    table: "",
    secret: "",
    owner: Some("consumer_id"),
    hashed: "false",
    of_fips_mode: "false",
    unusable: "false",
    expired: "false",
    expires: "false",
};

pub(super) const CREDENTIAL_TABLES: &[CredentialTable] = &[
    CredentialTable {
        kind: CredentialKind::BasicAuth,
        table: "basicauth_credentials",
        secret: "password",
        hashed: "g.password ~ '^[0-9a-f]{40}$'",
        of_fips_mode: "g.password ~ '^[0-9a-f]{64}$'",
        unusable: "g.password !~ '^([0-9a-f]{40}|[0-9a-f]{64})$' and g.password not like '$ke$%'",
        ..PLAIN
    },
    CredentialTable { kind: CredentialKind::KeyAuth, table: "keyauth_credentials", secret: "key", ..PLAIN },
    CredentialTable {
        kind: CredentialKind::KeyAuthEnc,
        table: "keyauth_enc_credentials",
        secret: "key",
        ..PLAIN
    },
    CredentialTable {
        kind: CredentialKind::HmacAuth,
        table: "hmacauth_credentials",
        secret: "secret",
        ..PLAIN
    },
    CredentialTable { kind: CredentialKind::Jwt, table: "jwt_secrets", secret: "secret", ..PLAIN },
    CredentialTable {
        kind: CredentialKind::Oauth2Client,
        table: "oauth2_credentials",
        secret: "client_secret",
        hashed: "g.hash_secret and g.client_secret like '$pbkdf2-sha512$i=10000,l=32$%'",
        unusable: "g.hash_secret and g.client_secret not like '$pbkdf2-sha512$i=10000,l=32$%' and g.client_secret not like '$ke$%'",
        ..PLAIN
    },
    CredentialTable {
        kind: CredentialKind::Oauth2Token,
        table: "oauth2_tokens",
        secret: "access_token",
        owner: None,
        expired: "g.expires_in > 0 and g.created_at + make_interval(secs => g.expires_in) < now()",
        expires: "g.expires_in > 0",
        ..PLAIN
    },
    CredentialTable { kind: CredentialKind::Acl, table: "acls", secret: "group", ..PLAIN },
    CredentialTable {
        kind: CredentialKind::Mtls,
        table: "mtls_auth_credentials",
        secret: "subject_name",
        ..PLAIN
    },
    CredentialTable {
        kind: CredentialKind::RbacToken,
        table: "rbac_users",
        secret: "user_token",
        owner: None,
        hashed: "g.user_token like '$2b$%' or g.user_token like '$pbkdf2-sha512$i=10000,l=32$%'",
        ..PLAIN
    },
];
