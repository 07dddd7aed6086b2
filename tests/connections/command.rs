//! The program itself: where it takes passwords from, its exit codes, and that it shows no secret.

use std::process::Output;

use assert_cmd::Command;
use kongferry_harness::lab;
use kongferry_harness::postgres::PASSWORD;

use crate::{closed_port, file};

/// Arguments, and the environment beside them.
type Way<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);

/// `kongferry inspect` with nothing from this process's environment, in a directory without a configuration file.
fn inspect(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::cargo_bin("kongferry").expect("the program");
    command.env_clear().current_dir(directory.path()).arg("inspect").args(arguments);
    command.envs(variables.iter().copied()).output().expect("it runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn greens_password_is_read_from_libpqs_places_and_kongferrys_own() {
    let server = lab().secured_postgres().await.expect("a secured PostgreSQL");
    let database = server.database("postgres");
    let url = format!("{}?sslmode=require", database.url());
    let port = database.options().get_port();
    let password_file = file(&format!("{PASSWORD}\n"));
    let escaped = PASSWORD.replace(':', "\\:");
    let pgpass = file(&format!("127.0.0.1:{port}:postgres:postgres:{escaped}\n"));
    let (password_file, pgpass) =
        (password_file.path().display().to_string(), pgpass.path().display().to_string());
    // Green is asked for before or after blue; what matters is that neither complains about the login.
    let blue = format!("cassandra://127.0.0.1:{}/kong", closed_port());
    let ways: &[Way<'_>] = &[
        (&[], &[("KONGFERRY_GREEN_PASSWORD", PASSWORD)]),
        (&[], &[("KONGFERRY_GREEN_PASSWORD", PASSWORD), ("PGPASSWORD", "wrong")]),
        (&[], &[("PGPASSWORD", PASSWORD)]),
        (&[], &[("PGPASSFILE", &pgpass)]),
        (&["--green-password-file", &password_file], &[("KONGFERRY_GREEN_PASSWORD", "wrong")]),
    ];
    for (flags, variables) in ways {
        let output = inspect(&[&["--blue", &blue, "--green", &url], *flags].concat(), variables);
        let said = said(&output);
        assert!(
            !said.contains("refuses the login") && said.contains("cannot reach blue"),
            "{variables:?}: {said}"
        );
    }
    let output = inspect(&["--blue", &blue, "--green", &url], &[("PGPASSWORD", "s3cr3t")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("refuses the login") && !said(&output).contains("s3cr3t"),
        "{}",
        said(&output)
    );
}

#[tokio::test]
async fn blues_password_is_read_from_a_variable_a_file_or_kong_conf() {
    let endpoint = lab().secured_cassandra().await.expect("a secured Cassandra");
    let (host, port) = endpoint.contact_point.rsplit_once(':').expect("host and port");
    let postgres = lab().postgres().await.expect("a PostgreSQL").database("postgres");
    let green = ["--green", postgres.url()];
    let url = format!("cassandra://cassandra@{}/no_such?tls=require", endpoint.contact_point);
    let password_file = file("cassandra");
    let password_file = password_file.path().display().to_string();
    let kong_conf = file(&format!(
        "database = cassandra # not postgres\ncassandra_contact_points = {host}\ncassandra_port = {port}\n\
         cassandra_keyspace = no_such\ncassandra_username = cassandra\ncassandra_password = cassandra\ncassandra_ssl = on\n"
    ));
    let kong_conf = kong_conf.path().display().to_string();
    let ways: &[Way<'_>] = &[
        (&["--blue", &url], &[("KONGFERRY_BLUE_PASSWORD", "cassandra")]),
        (&[], &[("KONGFERRY_BLUE", &url), ("KONGFERRY_BLUE_PASSWORD", "cassandra")]),
        (&["--blue", &url, "--blue-password-file", &password_file], &[("KONGFERRY_BLUE_PASSWORD", "wrong")]),
        (&["--blue-kong-conf", &kong_conf], &[("KONGFERRY_BLUE", "cassandra://elsewhere/kong")]),
        (
            &["--kong-env", "blue"],
            &[
                ("KONG_DATABASE", "cassandra"),
                ("KONG_CASSANDRA_CONTACT_POINTS", host),
                ("KONG_CASSANDRA_PORT", port),
                ("KONG_CASSANDRA_KEYSPACE", "no_such"),
                ("KONG_CASSANDRA_USERNAME", "cassandra"),
                ("KONG_CASSANDRA_PASSWORD", "cassandra"),
                ("KONG_CASSANDRA_SSL", "on"),
            ],
        ),
    ];
    for (flags, variables) in ways {
        let output = inspect(&[&green, *flags].concat(), variables);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains("blue has no keyspace \"no_such\""), "{flags:?}: {}", said(&output));
    }
    let output =
        inspect(&[&green, ["--blue", &url].as_slice()].concat(), &[("KONGFERRY_BLUE_PASSWORD", "s3cr3t")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("refuses the login") && !said(&output).contains("s3cr3t"),
        "{}",
        said(&output)
    );
}

#[test]
fn contradictory_addresses_are_usage_errors_before_anything_connects() {
    let password = "cassandra://kong:s3cr3t@no-such-host.invalid/kong";
    let green = "postgres://u@no-such-host.invalid/kong";
    let cases: &[(&[&str], &str)] = &[
        (&["--blue", password, "--green", green], "contains a password"),
        (&["--green", green], "no address for blue"),
        (&["--blue", "cassandra://h/kong?consistency=most", "--green", green], "not a read consistency"),
        (&["--blue", "cassandra://h/kong", "--green", "postgres://u@h/kong?sslmode=on"], "sslmode \"on\""),
        (
            &["--blue", "cassandra://h/kong", "--kong-env", "blue", "--green", green],
            "the address of blue is given twice",
        ),
        (&["--blue", "cassandra://h/kong", "--green", green, "--work-schema", "public"], "which is Kong's"),
        (&["--config", "/nowhere/kongferry.toml"], "/nowhere/kongferry.toml"),
    ];
    for (arguments, expected) in cases {
        let output = inspect(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(expected) && !said(&output).contains("s3cr3t"), "{}", said(&output));
    }
}

#[test]
fn help_shows_no_password_of_the_environment() {
    for flag in ["-h", "--help"] {
        let output = inspect(&[flag], &[("KONGFERRY_GREEN", "postgres://u:s3cr3t@h/d")]);
        assert_eq!(output.status.code(), Some(0));
        assert!(!said(&output).contains("s3cr3t"));
    }
}
