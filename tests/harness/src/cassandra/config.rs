//! How Cassandra is started: its yaml, its log, the options of the JVM.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use super::{Options, Ports};

/// One node with little memory, no waiting for other nodes and long timeouts: tests share two cores with it.
const YAML: &str = include_str!("cassandra.yaml");

/// Logins against PasswordAuthenticator, rights by CassandraAuthorizer, nothing of it cached: a test that grants or
/// revokes sees the effect with the next statement.
const AUTH: &str = "
authenticator: PasswordAuthenticator
authorizer: CassandraAuthorizer
role_manager: CassandraRoleManager
roles_validity: 0ms
permissions_validity: 0ms
credentials_validity: 0ms
";

const LOGBACK: &str = "<configuration><appender name=\"OUT\" class=\"ch.qos.logback.core.ConsoleAppender\">\
<encoder><pattern>%date{ISO8601} %-5level %logger{20} %msg%n</pattern></encoder></appender>\
<root level=\"INFO\"><appender-ref ref=\"OUT\"/></root></configuration>\n";

/// Not flushing at each change of the schema makes Kong's tables in one second instead of ten; after a kill they are
/// not known any more.
const UNFLUSHED_SCHEMA: &str = "-Dcassandra.test.flush_local_schema_changes=false";

/// The compiler that optimises most takes half of the CPU of a server that lives for a minute.
const QUICK_COMPILER: &str = "-XX:TieredStopAtLevel=1";

/// Beside what every Cassandra needs: start at once.
const PROPERTIES: &[&str] = &[
    "-Djava.security.manager=allow",
    "-Djdk.attach.allowAttachSelf=true",
    "-Djava.net.preferIPv4Stack=true",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dcassandra-foreground=yes",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.ring_delay_ms=100",
    "-Dcassandra.superuser_setup_delay_ms=0",
    // A hundred metrics of each table would be registered for JMX, which no test reads.
    "-Dorg.apache.cassandra.disable_mbean_registration=true",
    "-Dcassandra.auth_bcrypt_gensalt_log2_rounds=4",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Xss512k",
];

/// What Cassandra's own start script exports and opens on Java 17.
const EXPORTS: &[&str] = &[
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.perf",
    "java.base/sun.nio.ch",
    "java.management/com.sun.jmx.remote.security",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.rmi/sun.rmi.transport",
    "java.rmi/sun.rmi.transport.tcp",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
];

/// See [`EXPORTS`].
const OPENS: &[&str] = &[
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.io",
    "java.base/java.math",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.nio.charset",
    "java.base/java.nio.file.spi",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.util.concurrent.locks",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.net.www.protocol.jrt",
    "java.base/sun.nio.ch",
    "java.management/sun.management",
    "jdk.management/com.sun.management.internal",
];

/// Writes `cassandra.yaml`, `logback.xml` and the PEM files that they name into `home`.
pub(super) fn write(home: &Path, ports: Ports, options: &Options) -> io::Result<()> {
    fs::write(home.join("logback.xml"), LOGBACK)?;
    let mut yaml = YAML.replace("@HOME@", &home.display().to_string());
    yaml =
        yaml.replace("@STORAGE@", &ports.storage.to_string()).replace("@NATIVE@", &ports.native.to_string());
    yaml = yaml.replace("@PARTITIONER@", options.partitioner);
    if options.login {
        yaml.push_str(AUTH);
    }
    if let Some(tls) = &options.tls {
        let server = &tls.certificates.server;
        fs::write(home.join("server.pem"), format!("{}{}", server.key, server.certificate))?;
        fs::write(home.join("ca.pem"), &tls.certificates.ca)?;
        push_tls(&mut yaml, home, tls.client_certificate_required);
    }
    fs::write(home.join("cassandra.yaml"), yaml)
}

/// PEM files instead of Java key stores, so that keytool is not needed.
fn push_tls(yaml: &mut String, home: &Path, client_certificate_required: bool) {
    let home = home.display();
    // Writing to a String cannot fail.
    let _ = write!(
        yaml,
        "
client_encryption_options:
  enabled: true
  optional: false
  require_client_auth: {client_certificate_required}
  ssl_context_factory:
    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory
  keystore: {home}/server.pem
  truststore: {home}/ca.pem
"
    );
}

/// The arguments of `java`.
pub(super) fn arguments(home: &Path, jars: &Path, options: &Options) -> Vec<String> {
    let home = home.display();
    let mut arguments = vec![
        format!("-Xms{}M", options.heap_mb / 2),
        format!("-Xmx{}M", options.heap_mb),
        format!("-Dcassandra.config=file://{home}/cassandra.yaml"),
        format!("-Dcassandra.storagedir={home}"),
        format!("-Dlogback.configurationFile={home}/logback.xml"),
        format!("-XX:ErrorFile={home}/hs_err.log"),
    ];
    arguments.extend(PROPERTIES.iter().map(|&property| property.to_owned()));
    if !options.optimised {
        arguments.push(QUICK_COMPILER.to_owned());
    }
    if !options.survives_kill {
        arguments.push(UNFLUSHED_SCHEMA.to_owned());
    }
    for (option, names) in [("--add-exports", EXPORTS), ("--add-opens", OPENS)] {
        arguments.extend(names.iter().map(|name| format!("{option}={name}=ALL-UNNAMED")));
    }
    arguments.extend(["-cp".to_owned(), format!("{}/*", jars.display())]);
    arguments.push("org.apache.cassandra.service.CassandraDaemon".to_owned());
    arguments
}
