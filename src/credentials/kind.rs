//! The kinds of credentials that Kong knows, and where each of them stands.

use serde::{Deserialize, Serialize};

/// What a secret is for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
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

impl Kind {
    /// Its name, as files and flags spell it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::BasicAuth => "basic-auth",
            Kind::KeyAuth => "key-auth",
            Kind::KeyAuthEnc => "key-auth-enc",
            Kind::HmacAuth => "hmac-auth",
            Kind::Jwt => "jwt",
            Kind::Oauth2Client => "oauth2-client",
            Kind::Oauth2Token => "oauth2-token",
            Kind::Acl => "acl",
            Kind::Mtls => "mtls",
            Kind::RbacToken => "rbac-token",
            Kind::AdminToken => "admin-token",
            Kind::AdminPassword => "admin-password",
        }
    }

    /// Whether the secret alone does not lead to its row. For bcrypt a search over all rows would take days.
    pub fn needs_user(self) -> bool {
        match self {
            Kind::BasicAuth
            | Kind::HmacAuth
            | Kind::Oauth2Client
            | Kind::Acl
            | Kind::RbacToken
            | Kind::AdminToken
            | Kind::AdminPassword => true,
            Kind::KeyAuth | Kind::KeyAuthEnc | Kind::Jwt | Kind::Oauth2Token | Kind::Mtls => false,
        }
    }

    /// What its user is called, for messages.
    pub fn user_is(self) -> &'static str {
        match self {
            Kind::BasicAuth | Kind::HmacAuth => "the credential's username",
            Kind::Oauth2Client => "the client_id",
            Kind::Jwt => "the credential's key (the token's iss)",
            Kind::RbacToken => "the RBAC user's name",
            Kind::AdminToken | Kind::AdminPassword => "the admin's username",
            Kind::KeyAuth | Kind::KeyAuthEnc | Kind::Oauth2Token | Kind::Acl | Kind::Mtls => {
                "the consumer's username"
            }
        }
    }
}

/// The table of a kind, and what its rows say about the secret: what a report counts.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The kind.
    pub kind: Kind,
    /// Its table.
    pub table: &'static str,
    /// Column with the secret.
    pub secret: &'static str,
    /// Column with the consumer it belongs to; the workspace is that of the row.
    pub owner: Option<&'static str>,
    /// Condition under which the secret is stored as a hash that Kong accepts.
    pub hashed: &'static str,
    /// Condition under which no secret at all is accepted by what is stored.
    pub dead: &'static str,
    /// Condition under which its time has run out, beside that of a column `ttl`.
    pub expired: &'static str,
    /// Condition under which it runs out at all, beside that of a column `ttl`.
    pub expires: &'static str,
}

/// A place whose secrets are stored as they are and live for ever.
const PLAIN: Place = Place {
    kind: Kind::KeyAuth,
    table: "",
    secret: "",
    owner: Some("consumer_id"),
    hashed: "false",
    dead: "false",
    expired: "false",
    expires: "false",
};

/// Every table with credentials.
pub const PLACES: &[Place] = &[
    Place {
        kind: Kind::BasicAuth,
        table: "basicauth_credentials",
        secret: "password",
        hashed: "g.password ~ '^[0-9a-f]{40}$'",
        dead: "g.password !~ '^[0-9a-f]{40}$' and g.password not like '$ke$%'",
        ..PLAIN
    },
    Place { kind: Kind::KeyAuth, table: "keyauth_credentials", secret: "key", ..PLAIN },
    Place { kind: Kind::KeyAuthEnc, table: "keyauth_enc_credentials", secret: "key", ..PLAIN },
    Place { kind: Kind::HmacAuth, table: "hmacauth_credentials", secret: "secret", ..PLAIN },
    Place { kind: Kind::Jwt, table: "jwt_secrets", secret: "secret", ..PLAIN },
    Place {
        kind: Kind::Oauth2Client,
        table: "oauth2_credentials",
        secret: "client_secret",
        hashed: "g.hash_secret and g.client_secret like '$pbkdf2-sha512$i=10000,l=32$%'",
        dead: "g.hash_secret and g.client_secret not like '$pbkdf2-sha512$i=10000,l=32$%' and g.client_secret not like '$ke$%'",
        ..PLAIN
    },
    Place {
        kind: Kind::Oauth2Token,
        table: "oauth2_tokens",
        secret: "access_token",
        owner: None,
        expired: "g.expires_in > 0 and g.created_at + make_interval(secs => g.expires_in) < now()",
        expires: "g.expires_in > 0",
        ..PLAIN
    },
    Place { kind: Kind::Acl, table: "acls", secret: "group", ..PLAIN },
    Place { kind: Kind::Mtls, table: "mtls_auth_credentials", secret: "subject_name", ..PLAIN },
    Place {
        kind: Kind::RbacToken,
        table: "rbac_users",
        secret: "user_token",
        owner: None,
        hashed: "g.user_token ~ '^[$]2[abxy][$]'",
        ..PLAIN
    },
];
