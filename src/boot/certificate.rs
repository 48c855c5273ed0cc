//! The certificate of TLS (R-SEC-15): read at the start, on SIGHUP, and when its files change.
//!
//! Programs that renew certificates write two files, one after the other. In between they do not belong together; then, as with any
//! other fault, the certificate in use stays, and the next look finds the pair.
use super::post::post_until_taken;
use crate::auth::secret_file;
use crate::base::mailbox::Sender;
use crate::config::Config;
use crate::plane::os;
use crate::shard::mail::Mail;
use crate::tls::{Acceptor, Fault, Tickets, Validity};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// How often the files are looked at, ms: two stat calls. Longer: a renewed certificate counts later.
const LOOK_MS: u64 = 5_000;

/// Days before its end from which on a certificate is warned about. Let's Encrypt renews 30 days before: whoever sees this has a
/// renewal that does not work.
const WARN_DAYS: u64 = 14;

const DAY_S: u64 = 86_400;

/// A certificate that can be used, and what an operator should know of it, one line each.
pub struct Loaded {
    pub acceptor: Arc<Acceptor>,
    pub warnings: Vec<String>,
}

/// Reads both files. None: TLS is off. Errors are texts for the operator: cause and remedy, nothing of a key.
pub fn load(config: &Config, tickets: &Tickets, now_s: u64) -> Result<Option<Loaded>, String> {
    let (Some(certificate), Some(key)) = (&config.tls.cert_file, &config.tls.key_file) else { return Ok(None) };
    let read = |name: &str, path: &Path| {
        fs::read(path)
            .map_err(|error| format!("{name}: {}: {error}; the server's user must be able to read it", path.display()))
    };
    let chain = read("tls.cert_file", certificate)?;
    let key_pem = read("tls.key_file", key)?;
    let acceptor = Acceptor::new(&chain, &key_pem, tickets).map_err(|fault| match fault {
        Fault::Certificate(what) => format!("tls.cert_file: {}: {what}", certificate.display()),
        Fault::Key(what) => format!("tls.key_file: {}: {what}", key.display()),
    })?;
    let mut warnings = Vec::new();
    if secret_file::is_readable_by_others(key) {
        warnings.push(format!("tls.key_file: others may read {}; chmod 600 it", key.display()));
    }
    if let Some(fault) = untimely(acceptor.validity, now_s) {
        warnings.push(format!("tls.cert_file: {}: {fault}", certificate.display()));
    }
    Ok(Some(Loaded { acceptor: Arc::new(acceptor), warnings }))
}

/// What is wrong with the time of a certificate: clients refuse it, or will soon.
pub fn untimely(validity: Validity, now_s: u64) -> Option<String> {
    let Validity { not_before_s, not_after_s } = validity;
    if now_s > not_after_s {
        let days = (now_s - not_after_s) / DAY_S;
        return Some(format!("the certificate expired {days} days ago, and clients refuse it; renew it"));
    }
    if now_s < not_before_s {
        let hours = (not_before_s - now_s).div_ceil(3_600);
        return Some(format!("the certificate is valid in {hours} hours only, unless the clock is wrong"));
    }
    let days = (not_after_s - now_s) / DAY_S;
    (days < WARN_DAYS).then(|| format!("the certificate expires in {days} days; renew it"))
}

/// Watches the files of a running server, and tells the shards.
pub struct CertificateWatch {
    controls: Arc<[Sender<Mail>]>,
    tickets: Tickets,
    config: Config,
    /// The files as they were when they were last read.
    seen: Vec<Option<Seen>>,
    looked_at_ms: u64,
}

/// What tells one content of a file from another without reading it: device, inode, size, time of change.
type Seen = (u64, u64, u64, i64, i64);

impl CertificateWatch {
    /// For a server that has read its certificate already. None: TLS is off, which only a restart changes.
    pub fn new(config: &Config, tickets: Tickets, controls: Arc<[Sender<Mail>]>) -> Option<CertificateWatch> {
        config.tls.cert_file.as_ref()?;
        let looked_at_ms = os::now().mono_ms();
        Some(CertificateWatch { controls, tickets, seen: seen(config), config: config.clone(), looked_at_ms })
    }

    /// Reads the files again if they have changed, and not more often than every `LOOK_MS`.
    pub fn look(&mut self) {
        let now_ms = os::now().mono_ms();
        if now_ms - self.looked_at_ms < LOOK_MS {
            return;
        }
        self.looked_at_ms = now_ms;
        // Before reading: a change in between is seen the next time.
        let seen = seen(&self.config);
        if seen != self.seen {
            self.seen = seen;
            self.read();
        }
    }

    /// SIGHUP: perhaps with other files.
    pub fn reload(&mut self, config: &Config) {
        if config.tls.cert_file.is_none() {
            return tracing::warn!(key = "tls.cert_file", "changed, but TLS ends with a restart only");
        }
        self.config = config.clone();
        self.seen = seen(config);
        self.read();
    }

    fn read(&self) {
        match load(&self.config, &self.tickets, os::now().unix_ms / 1_000) {
            Ok(Some(Loaded { acceptor, warnings })) => {
                warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                tracing::info!(
                    ends_s = acceptor.validity.not_after_s,
                    "certificate read again; new connections get it"
                );
                for control in &*self.controls {
                    post_until_taken(control, Mail::Certificate(acceptor.clone()));
                }
            }
            Ok(None) => {}
            Err(fault) => tracing::error!(%fault, "certificate not read again; the one in use stays"),
        }
    }
}

fn seen(config: &Config) -> Vec<Option<Seen>> {
    let of = |path: &Path| {
        let file = fs::metadata(path).ok()?;
        Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
    };
    [&config.tls.cert_file, &config.tls.key_file].into_iter().map(|path| of(path.as_deref()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::mailbox::{Bell, mailbox};
    use crate::plane::NoWake;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    /// Writes a certificate that is valid from `from` to `to` (years), and its key.
    fn write(folder: &TempDir, from: i32, to: i32) -> rcgen::KeyPair {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        fs::write(folder.path().join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, key.serialize_pem()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        key
    }

    fn config(folder: &TempDir) -> Config {
        let mut config = Config::default();
        for (name, file) in [("tls.cert_file", "cert.pem"), ("tls.key_file", "key.pem")] {
            config.set(name, folder.path().join(file).to_str().unwrap()).unwrap();
        }
        config
    }

    /// 2026-01-01.
    const NOW_S: u64 = 1_767_225_600;

    fn warnings(folder: &TempDir) -> Vec<String> {
        load(&config(folder), &Tickets::new().unwrap(), NOW_S).unwrap().expect("TLS is on").warnings
    }

    #[test]
    fn without_files_there_is_no_tls() {
        assert!(load(&Config::default(), &Tickets::new().unwrap(), NOW_S).unwrap().is_none());
    }

    #[test]
    fn a_certificate_out_of_its_time_is_warned_about() {
        let folder = TempDir::new().unwrap();
        write(&folder, 2020, 2030);
        assert_eq!(warnings(&folder), [""; 0]);
        for (from, to, part) in [(2020, 2024, "expired 731 days ago"), (2027, 2028, "is valid in")] {
            write(&folder, from, to);
            let warnings = warnings(&folder);
            assert!(
                warnings.len() == 1 && warnings[0].contains(part) && warnings[0].contains("cert.pem"),
                "{warnings:?}"
            );
        }
        let end = |days: u64| Validity { not_before_s: 0, not_after_s: NOW_S + days * DAY_S };
        assert_eq!((untimely(end(14), NOW_S), untimely(end(13), NOW_S).is_some()), (None, true));
    }

    #[test]
    fn a_key_that_others_may_read_is_warned_about() {
        let folder = TempDir::new().unwrap();
        write(&folder, 2020, 2030);
        fs::set_permissions(folder.path().join("key.pem"), Permissions::from_mode(0o644)).unwrap();
        let warnings = warnings(&folder);
        assert!(warnings.len() == 1 && warnings[0].contains("chmod 600"), "{warnings:?}");
    }

    #[test]
    fn faults_name_key_file_and_remedy() {
        let folder = TempDir::new().unwrap();
        let fault = || match load(&config(&folder), &Tickets::new().unwrap(), NOW_S) {
            Err(fault) => fault,
            Ok(_) => panic!("accepted"),
        };
        let text = fault();
        assert!(text.starts_with("tls.cert_file: ") && text.contains("cert.pem: No such file"), "{text}");
        write(&folder, 2020, 2030);
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        fs::write(folder.path().join("key.pem"), &other).unwrap();
        let text = fault();
        assert!(text.starts_with("tls.key_file: ") && text.contains("does not belong"), "{text}");
        // Nothing of the key.
        assert!(other.lines().filter(|line| line.len() > 20).all(|line| !text.contains(line)));
        fs::remove_file(folder.path().join("key.pem")).unwrap();
        assert!(fault().starts_with("tls.key_file: "));
    }

    #[test]
    fn changed_files_are_read_again_and_broken_ones_change_nothing() {
        let folder = TempDir::new().unwrap();
        write(&folder, 2020, 2030);
        let (sender, inbox) = mailbox(8, &Bell::new(Box::new(NoWake)));
        let mut watch =
            CertificateWatch::new(&config(&folder), Tickets::new().unwrap(), vec![sender].into()).expect("TLS is on");
        let posted = |watch: &mut CertificateWatch| {
            watch.looked_at_ms = 0;
            watch.look();
            std::iter::from_fn(|| inbox.pop()).filter(|mail| matches!(mail, Mail::Certificate(_))).count()
        };
        assert_eq!(posted(&mut watch), 0);
        write(&folder, 2021, 2031);
        assert_eq!(posted(&mut watch), 1);
        assert_eq!(posted(&mut watch), 0);
        // Half of a renewal.
        let other = rcgen::KeyPair::generate().unwrap();
        fs::write(folder.path().join("key.pem"), other.serialize_pem()).unwrap();
        assert_eq!(posted(&mut watch), 0);
        write(&folder, 2022, 2032);
        assert_eq!(posted(&mut watch), 1);
        fs::remove_file(folder.path().join("cert.pem")).unwrap();
        assert_eq!(posted(&mut watch), 0);
        // A look is due every few seconds only.
        watch.look();
        assert!(watch.seen[0].is_none());
    }
}
