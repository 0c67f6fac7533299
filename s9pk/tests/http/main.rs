//! Packages over HTTP: read in parts, downloaded whole, whatever network and servers do.
//!
//! Needs Debian's nginx (`nginx-light`), which `cargo prove` installs.

mod folder;
#[allow(dead_code, reason = "the tests of `pilot` use them too")]
mod nginx;
#[allow(dead_code, reason = "the tests of `pilot` use them too")]
mod proxy;
mod server;

use std::{fs, io::Write, net::TcpListener, path::Path, sync::mpsc, thread, time::Duration};

use s9pk::{
    Archive, Download, DownloadError, Outcome,
    http::{FetchError, Remote, Settings, Url, pem_roots},
    limits,
};

use crate::{
    folder::{Folder, Random, package, same},
    nginx::Nginx,
    proxy::Proxy,
    server::{Request, Server, part, whole},
};

#[test]
fn manifest_and_icon_of_a_large_package_move_less_than_a_mebibyte() {
    let folder = Folder::new("parts");
    package(&folder.path("a.s9pk"), 512 << 20, None);
    let nginx = Nginx::plain(&folder.path(""));
    let proxy = Proxy::counting(nginx.address());

    let archive = Archive::open(remote(&proxy.url("a.s9pk"))).unwrap();
    assert!(archive.length() > 1 << 30);
    assert_eq!(archive.manifest().id.as_str(), "two-arch");
    let icon = archive.read("icon.png", limits::ICON_SIZE).unwrap();
    assert!(icon.starts_with(b"\x89PNG"));
    println!(
        "manifest and icon of {} bytes: {} bytes carried, {} requests, {} connections",
        archive.length(),
        proxy.carried(),
        archive.source().requests(),
        proxy.connections(),
    );
    assert!(proxy.carried() < 1 << 20);
    assert!(archive.source().requests() <= 6);
}

#[test]
fn one_entry_is_fetched_with_one_request_and_verified() {
    let folder = Folder::new("entry");
    package(&folder.path("a.s9pk"), 8 << 20, Some(1));
    let nginx = Nginx::plain(&folder.path(""));
    let local = Archive::open(fs::File::open(folder.path("a.s9pk")).unwrap()).unwrap();
    let archive = Archive::open(remote(&url(&nginx, "a.s9pk"))).unwrap();
    let before = archive.source().requests();
    for path in ["images/x86_64/main.squashfs", "javascript.squashfs"] {
        let (mut far, mut near) = (Vec::new(), Vec::new());
        archive.copy(path, &mut far).unwrap();
        local.copy(path, &mut near).unwrap();
        assert!(far == near, "{path}");
    }
    assert_eq!(archive.source().requests(), before + 2);
    archive.verify().unwrap();
}

#[test]
fn a_package_comes_whole_though_its_connection_breaks_fifty_times() {
    let folder = Folder::new("breaks");
    package(&folder.path("a.s9pk"), 16 << 20, Some(2));
    let nginx = Nginx::plain(&folder.path(""));
    let length = fs::metadata(folder.path("a.s9pk")).unwrap().len();
    let places = Random::new(50).places(50, length);
    let proxy = Proxy::breaking(nginx.address(), places);

    let outcome = download(&[&proxy.url("a.s9pk")], &folder.path("b.s9pk")).unwrap();
    assert!(same(&folder.path("a.s9pk"), &folder.path("b.s9pk")));
    assert_eq!(proxy.breaks_left(), 0);
    let twice = proxy.carried() - length;
    println!(
        "50 broken connections: {length} bytes in {} requests, {twice} more carried ({:.3} %)",
        outcome.requests,
        twice as f64 * 100.0 / length as f64
    );
    assert!(twice * 100 < length * 2);
}

#[test]
fn servers_without_ranges_serve_all_the_same() {
    let folder = Folder::new("rangeless");
    package(&folder.path("a.s9pk"), 4 << 20, Some(3));
    let nginx = Nginx::plain(&folder.path(""));
    let proxy = Proxy::counting(nginx.address());
    let length = fs::metadata(folder.path("a.s9pk")).unwrap().len();

    let outcome = download(&[&proxy.url("rangeless/a.s9pk")], &folder.path("b.s9pk")).unwrap();
    assert!(same(&folder.path("a.s9pk"), &folder.path("b.s9pk")));
    assert_eq!(outcome.requests, 1);
    assert_eq!(outcome.received, length);

    let archive = Archive::open(remote(&proxy.url("rangeless/a.s9pk"))).unwrap();
    archive.verify().unwrap();
    assert_eq!(archive.source().received(), length);
}

#[test]
fn a_file_of_unknown_length_is_taken_to_its_end() {
    let folder = Folder::new("chunked");
    let file = small(&folder);
    let chunked = Server::new({
        let file = file.clone();
        move |_| {
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in file.chunks(1000) {
                write!(answer, "{:x}\r\n", chunk.len()).unwrap();
                answer.extend(chunk);
                answer.extend(b"\r\n");
            }
            answer.extend(b"0\r\n\r\n");
            Some(answer)
        }
    });
    download(&[&chunked.url()], &folder.path("b.s9pk")).unwrap();
    assert!(same(&folder.path("a.s9pk"), &folder.path("b.s9pk")));
    Archive::open(remote(&chunked.url()))
        .unwrap()
        .verify()
        .unwrap();
}

#[test]
fn a_server_that_sends_another_range_is_refused_and_the_next_one_asked() {
    let folder = Folder::new("wrong-range");
    let file = small(&folder);
    let wrong = Server::new({
        let file = file.clone();
        move |mut request: Request| {
            request.range.start += 1;
            Some(part(&file, &request, "\"a\""))
        }
    });
    let error = download(&[&wrong.url()], &folder.path("b.s9pk")).unwrap_err();
    assert!(error.to_string().contains("asked for were 0 to"), "{error}");
    assert!(!folder.path("b.s9pk").exists());

    let right = Server::new(move |request| Some(part(&file, &request, "\"a\"")));
    download(&[&wrong.url(), &right.url()], &folder.path("b.s9pk")).unwrap();
    assert!(same(&folder.path("a.s9pk"), &folder.path("b.s9pk")));
}

#[test]
fn bodies_cut_short_are_gone_on_with() {
    let folder = Folder::new("short");
    package(&folder.path("a.s9pk"), 1 << 20, Some(4));
    let file = fs::read(folder.path("a.s9pk")).unwrap();
    let length = file.len() as u64;
    let short = Server::new(move |request| {
        let mut answer = part(&file, &request, "\"a\"");
        answer.truncate(100_000);
        Some(answer)
    });
    let outcome = download(&[&short.url()], &folder.path("b.s9pk")).unwrap();
    assert!(same(&folder.path("a.s9pk"), &folder.path("b.s9pk")));
    assert!(outcome.requests > 20, "{outcome:?}");
    assert!(outcome.received < length + SKIPPED, "{outcome:?}");
}

/// The server's file changes while it is downloaded. `new` is the other one.
fn changing(old: Vec<u8>, new: Vec<u8>) -> Server {
    Server::new(move |request| {
        if request.count < 3 {
            let mut answer = part(&old, &request, "\"old\"");
            answer.truncate(400_000);
            return Some(answer);
        }
        // As RFC 9110 has it: another file than the tag's is sent whole.
        let same = request
            .if_range
            .as_deref()
            .is_none_or(|tag| tag == "\"new\"");
        Some(if same {
            part(&new, &request, "\"new\"")
        } else {
            whole(&new, "\"new\"")
        })
    })
}

#[test]
fn a_package_that_changes_at_its_server_is_noticed_and_fetched_anew() {
    let folder = Folder::new("changed");
    package(&folder.path("old.s9pk"), 1 << 20, Some(5));
    package(&folder.path("new.s9pk"), 1 << 20, Some(6));
    let read = |name| fs::read(folder.path(name)).unwrap();
    let server = changing(read("old.s9pk"), read("new.s9pk"));
    download(&[&server.url()], &folder.path("b.s9pk")).unwrap();
    assert!(same(&folder.path("new.s9pk"), &folder.path("b.s9pk")));

    // Whoever wants the one that it was gets that from another mirror, or an error.
    let expected = Archive::open(read("old.s9pk")).unwrap().root_sighash();
    let server = changing(read("old.s9pk"), read("new.s9pk"));
    let mut wanted = job(&[&server.url()], &folder.path("c.s9pk"));
    wanted.expected = Some(expected);
    let error = wanted.run(&mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("was changed there"), "{error}");
    assert!(!folder.path("c.s9pk").exists());
    let old = read("old.s9pk");
    let mirror = Server::new(move |request| Some(part(&old, &request, "\"x\"")));
    wanted.urls.push(Url::parse(&mirror.url()).unwrap());
    let resumed = wanted.run(&mut |_| ()).unwrap();
    assert!(same(&folder.path("old.s9pk"), &folder.path("c.s9pk")));
    assert!(resumed.received < resumed.length, "{resumed:?}");
}

#[test]
fn another_tag_of_the_same_bytes_is_no_change() {
    let folder = Folder::new("tags");
    package(&folder.path("a.s9pk"), 1 << 20, Some(7));
    let file = fs::read(folder.path("a.s9pk")).unwrap();
    let length = file.len() as u64;
    let server = Server::new(move |request| {
        let tag = format!("\"{}\"", request.count);
        let mut answer = match request.if_range {
            None => part(&file, &request, &tag),
            Some(_) => whole(&file, &tag),
        };
        answer.truncate(200_000);
        Some(answer)
    });
    let outcome = download(&[&server.url()], &folder.path("b.s9pk")).unwrap();
    assert!(same(&folder.path("a.s9pk"), &folder.path("b.s9pk")));
    assert!(outcome.received < length + length / 10, "{outcome:?}");
}

#[test]
fn a_dead_mirror_and_one_that_is_no_package_are_passed_over() {
    let folder = Folder::new("mirrors");
    let file = small(&folder);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("http://{}/a.s9pk", nobody.local_addr().unwrap());
    drop(nobody);
    let portal = Server::new(|_| {
        let page = "<html>please log in</html>".repeat(20);
        Some(whole(page.as_bytes(), "\"page\""))
    });
    let good = Server::new(move |request| Some(part(&file, &request, "\"a\"")));
    let target = folder.path("b.s9pk");
    let error = download(&[&dead], &target).unwrap_err().to_string();
    assert!(error.contains("can't be reached"), "{error}");
    let error = download(&[&portal.url()], &target).unwrap_err().to_string();
    assert!(error.contains("a web page"), "{error}");
    download(&[&dead, &portal.url(), &good.url()], &target).unwrap();
    assert!(same(&folder.path("a.s9pk"), &target));
}

#[test]
fn a_mirror_with_damaged_bytes_is_left_for_the_next() {
    let folder = Folder::new("damaged");
    package(&folder.path("a.s9pk"), 1 << 20, Some(8));
    let file = fs::read(folder.path("a.s9pk")).unwrap();
    let mut damaged = file.clone();
    let last = damaged.len() - 1000;
    damaged[last] ^= 1;
    let serve = |file: Vec<u8>| Server::new(move |request| Some(part(&file, &request, "\"a\"")));
    let (bad, good) = (serve(damaged), serve(file));
    let target = folder.path("b.s9pk");
    let error = download(&[&bad.url()], &target).unwrap_err().to_string();
    assert!(error.contains("is damaged there"), "{error}");
    assert!(!target.exists());
    let outcome = download(&[&bad.url(), &good.url()], &target).unwrap();
    assert!(same(&folder.path("a.s9pk"), &target));
    // What was verified before is not fetched again.
    assert!(outcome.received < outcome.length, "{outcome:?}");
}

#[test]
fn a_silent_server_is_left_for_the_next() {
    let folder = Folder::new("silent");
    let file = small(&folder);
    let silent = Server::new(|_| None);
    let good = Server::new(move |request| Some(part(&file, &request, "\"a\"")));
    let mut job = job(&[&silent.url(), &good.url()], &folder.path("b.s9pk"));
    // The good one must answer within it too, whatever else the machine does.
    job.settings.silence = Duration::from_secs(5);
    job.run(&mut |_| ()).unwrap();
    assert!(same(&folder.path("a.s9pk"), &folder.path("b.s9pk")));
}

#[test]
fn redirections_are_followed_and_end() {
    let folder = Folder::new("redirects");
    small(&folder);
    let nginx = Nginx::plain(&folder.path(""));
    download(&[&url(&nginx, "moved/a.s9pk")], &folder.path("b.s9pk")).unwrap();
    assert!(same(&folder.path("a.s9pk"), &folder.path("b.s9pk")));
    let endless = download(&[&url(&nginx, "loop")], &folder.path("c.s9pk"));
    assert!(endless.unwrap_err().to_string().contains("without end"));
}

#[test]
fn what_a_server_says_is_told_in_words() {
    let folder = Folder::new("refused");
    let nginx = Nginx::plain(&folder.path(""));
    let target = folder.path("b.s9pk");
    for (path, words) in [
        (
            "absent.s9pk",
            "404, there is no such file: check the address",
        ),
        ("busy", "503, it has a problem of its own: try again later"),
    ] {
        let error = download(&[&url(&nginx, path)], &target)
            .unwrap_err()
            .to_string();
        assert!(error.contains(words) && error.contains(path), "{error}");
        let error = Remote::open(&[Url::parse(&url(&nginx, path)).unwrap()], &settings());
        assert!(error.unwrap_err().to_string().contains(words));
    }
    assert!(!target.exists());
}

#[test]
fn tls_is_spoken_with_those_whose_authority_is_trusted() {
    let folder = Folder::new("tls");
    package(&folder.path("a.s9pk"), 1 << 20, Some(9));
    let authority = certificates(&folder);
    let nginx = Nginx::tls(&folder.path(""));
    let secure = |path: &str| format!("https://localhost:{}/{path}", nginx.port());
    let target = folder.path("b.s9pk");

    let error = download(&[&secure("a.s9pk")], &target).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");

    let mut job = job(&[&secure("a.s9pk")], &target);
    job.settings.roots = pem_roots(authority.as_bytes()).unwrap();
    job.run(&mut |_| ()).unwrap();
    assert!(same(&folder.path("a.s9pk"), &target));
    job.urls = vec![Url::parse(&format!("https://127.0.0.1:{}/a.s9pk", nginx.port())).unwrap()];
    let error = job.run(&mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    job.urls = vec![Url::parse(&secure("down/a.s9pk")).unwrap()];
    let error = job.run(&mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("https to http"), "{error}");
    assert!(pem_roots(b"no certificate").is_err());
}

#[test]
fn a_download_is_cancelled_from_another_thread_and_goes_on_later() {
    let folder = Folder::new("cancelled");
    package(&folder.path("a.s9pk"), 1 << 20, Some(10));
    let file = fs::read(folder.path("a.s9pk")).unwrap();
    let (asked, waiting) = mpsc::channel();
    let held = Server::new({
        let file = file.clone();
        move |request| {
            let mut answer = part(&file, &request, "\"a\"");
            answer.truncate(500_000);
            if request.range.start < 400_000 {
                return Some(answer);
            }
            asked.send(()).unwrap();
            None
        }
    });
    let stopped = job(&[&held.url()], &folder.path("b.s9pk"));
    let cancel = stopped.settings.cancel.clone();
    let running = thread::spawn(move || stopped.run(&mut |_| ()));
    waiting.recv_timeout(PATIENCE).unwrap();
    cancel.cancel();
    let error = running.join().unwrap().unwrap_err();
    assert!(matches!(error, DownloadError::Fetch(FetchError::Cancelled)));
    assert!(!folder.path("b.s9pk").exists());
    let good = Server::new(move |request| Some(part(&file, &request, "\"a\"")));
    let outcome = download(&[&good.url()], &folder.path("b.s9pk")).unwrap();
    assert!(same(&folder.path("a.s9pk"), &folder.path("b.s9pk")));
    assert!(outcome.received < outcome.length, "{outcome:?}");
}

#[test]
fn progress_grows_to_the_whole() {
    let folder = Folder::new("progress");
    package(&folder.path("a.s9pk"), 8 << 20, Some(11));
    let nginx = Nginx::plain(&folder.path(""));
    let job = job(&[&url(&nginx, "a.s9pk")], &folder.path("b.s9pk"));
    let mut all = Vec::new();
    let outcome = job.run(&mut |progress| all.push(*progress)).unwrap();
    assert!(all.windows(2).all(|pair| pair[0].done <= pair[1].done));
    let last = all.last().unwrap();
    assert_eq!((last.done, last.total), (outcome.length, outcome.length));
    assert!(outcome.received < outcome.length + SKIPPED, "{outcome:?}");
}

#[test]
fn the_bytes_of_an_unfinished_download_are_not_trusted_after_they_changed() {
    let folder = Folder::new("tampered");
    package(&folder.path("a.s9pk"), 1 << 20, Some(12));
    let file = fs::read(folder.path("a.s9pk")).unwrap();
    let mut is_cut = false;
    let server = Server::new(move |request| {
        let mut answer = part(&file, &request, "\"a\"");
        if !is_cut && answer.len() > 300_000 {
            is_cut = true;
            answer.truncate(300_000);
        }
        Some(answer)
    });
    let target = folder.path("b.s9pk");
    let mut cut = job(&[&server.url()], &target);
    cut.settings.tries = 1;
    cut.run(&mut |_| ()).unwrap_err();
    let partial = folder.path("b.s9pk.part");
    let mut bytes = fs::read(&partial).unwrap();
    bytes[200_000] ^= 1;
    // In place: the file must stay the one that the journal is of.
    let mut same_file = fs::OpenOptions::new().write(true).open(&partial).unwrap();
    same_file.write_all(&bytes).unwrap();
    drop(same_file);
    download(&[&server.url()], &target).unwrap();
    assert!(same(&folder.path("a.s9pk"), &target));
}

fn settings() -> Settings {
    Settings {
        pause: Duration::from_millis(5),
        silence: PATIENCE,
        connect: PATIENCE,
        ..Settings::default()
    }
}

fn remote(url: &str) -> Remote {
    Remote::open(&[Url::parse(url).unwrap()], &settings()).unwrap()
}

fn url(nginx: &Nginx, path: &str) -> String {
    format!("http://{}/{path}", nginx.address())
}

fn job(urls: &[&str], target: &Path) -> Download {
    Download {
        urls: urls.iter().map(|url| Url::parse(url).unwrap()).collect(),
        target: target.to_owned(),
        expected: None,
        settings: settings(),
    }
}

fn download(urls: &[&str], target: &Path) -> Result<Outcome, DownloadError> {
    job(urls, target).run(&mut |_| ())
}

/// A small package at `a.s9pk`.
fn small(folder: &Folder) -> Vec<u8> {
    package(&folder.path("a.s9pk"), 100_000, Some(1));
    fs::read(folder.path("a.s9pk")).unwrap()
}

/// Makes an authority and a server's certificate for `localhost`; gives the authority's as PEM.
fn certificates(folder: &Folder) -> String {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    fs::write(folder.path("server.pem"), server.pem()).unwrap();
    fs::write(folder.path("server.key"), key.serialize_pem()).unwrap();
    certificate.pem()
}

/// Small parts that came with the tables may be received again rather than asked around.
const SKIPPED: u64 = 128 << 10;
/// For what should take milliseconds, on a machine with everything else to do.
const PATIENCE: Duration = Duration::from_secs(120);
