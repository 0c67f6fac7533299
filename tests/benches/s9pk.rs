//! Packages beside peers: verifying against `b3sum`, listing against `tar -t`, packing against
//! `mksquashfs`.
//!
//! Rounds alternate between the two, so that whatever else the machine does slows both alike, and
//! medians are compared. `cargo bench -p tests --bench s9pk`, or `cargo prove bench`. Nothing
//! fails here for being slow: the numbers are printed beside their goals.

use std::{
    env,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use boards::{lack, tool};
use s9pk::{Archive, Content, Draft, Key, pack, toc::Kind};

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().collect();
    if let [_, command, file] = arguments.as_slice() {
        // We run ourselves, as a process like the peer's.
        match command.as_str() {
            "verify" => return verify(Path::new(file)),
            "list" => return list(Path::new(file)),
            _ => {}
        }
    }
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join("s9pk-bench");
    fs::create_dir_all(&room)?;
    let measured = measure(&room);
    fs::remove_dir_all(&room)?;
    measured
}

fn measure(room: &Path) -> Result<()> {
    println!("medians of {ROUNDS} alternating rounds; warm page cache");
    verifying(room)?;
    listing(room)?;
    packing(room)
}

fn verifying(room: &Path) -> Result<()> {
    let file = package_of_a_gibibyte(room)?;
    let peer = b3sum()?;
    let threads = thread::available_parallelism()?.to_string();
    let (ours, theirs) = alternate(
        || timed(ourselves("verify", &file)?),
        || {
            timed(
                Command::new(&peer)
                    .args(["--num-threads", &threads])
                    .arg(&file),
            )
        },
    )?;
    let what = format!("verify 1 GiB / b3sum, {threads} threads");
    report(
        &what,
        ours,
        theirs,
        ours.as_secs_f64() / theirs.as_secs_f64(),
        "1.05",
    );
    println!(
        "  {}",
        tool::output(&mut ourselves("verify", &file)?)?.trim()
    );
    fs::remove_file(file)?;
    Ok(())
}

fn listing(room: &Path) -> Result<()> {
    let tree = room.join("many");
    let mut draft = Draft::default();
    for index in 0..ENTRIES {
        let path = format!("assets/{:03}/file-{index:05}", index / 100);
        let host = tree.join(&path);
        fs::create_dir_all(host.parent().context("it is in a folder")?)?;
        fs::write(&host, format!("file {index}\n"))?;
        draft.add(&path, Content::File(host))?;
    }
    let (package, tar) = (room.join("many.s9pk"), room.join("many.tar"));
    write(draft, &package)?;
    tool::run(
        Command::new("tar")
            .arg("-cf")
            .arg(&tar)
            .arg("-C")
            .arg(&tree)
            .arg("."),
    )?;
    let (ours, theirs) = alternate(
        || timed(ourselves("list", &package)?),
        || timed(Command::new("tar").arg("-tf").arg(&tar)),
    )?;
    let what = format!("open and list {ENTRIES} entries / tar -t");
    report(
        &what,
        ours,
        theirs,
        ours.as_secs_f64() / theirs.as_secs_f64(),
        "1",
    );
    Ok(())
}

/// What packing takes on top of what the images take, which `mksquashfs` makes.
fn packing(room: &Path) -> Result<()> {
    ensure!(
        lack::find("mksquashfs").is_some(),
        "this takes the package squashfs-tools"
    );
    let tree = room.join("tree");
    source_tree(&tree)?;
    let (image, package) = (room.join("main.squashfs"), room.join("packed.s9pk"));
    let squash = || {
        let mut command = Command::new("mksquashfs");
        command.arg(&tree).arg(&image);
        timed(command.args(["-quiet", "-no-progress", "-noappend", "-comp", "zstd"]))
    };
    squash()?;
    let (ours, theirs) = alternate(
        || {
            let begin = Instant::now();
            let mut draft = Draft::default();
            draft.add("images/x86_64/main.squashfs", Content::File(image.clone()))?;
            write(draft, &package)?;
            Ok(begin.elapsed())
        },
        squash,
    )?;
    let what = format!(
        "pack an image of {} MiB / mksquashfs",
        fs::metadata(&image)?.len() >> 20
    );
    report(
        &what,
        ours,
        theirs,
        ours.as_secs_f64() / theirs.as_secs_f64(),
        "0.10",
    );
    Ok(())
}

/// As a child: verifies and says how much memory that took.
fn verify(file: &Path) -> Result<()> {
    let before = peak_memory()?;
    Archive::open(File::open(file)?)?.verify()?;
    println!(
        "verified with {} KiB of memory more than the program itself",
        peak_memory()? - before
    );
    Ok(())
}

/// As a child: prints what is in a package.
fn list(file: &Path) -> Result<()> {
    let archive = Archive::open(File::open(file)?)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for (path, entry) in archive.tree().walk() {
        let slash = if matches!(entry.kind, Kind::Directory { .. }) {
            "/"
        } else {
            ""
        };
        writeln!(out, "{path}{slash}")?;
    }
    Ok(out.flush()?)
}

/// The most memory that this process ever had, in KiB.
fn peak_memory() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("the kernel tells of memory")?.parse()?)
}

fn ourselves(command: &str, file: &Path) -> Result<Command> {
    let mut ourselves = Command::new(env::current_exe()?);
    ourselves.arg(command).arg(file);
    Ok(ourselves)
}

fn timed(mut command: impl std::borrow::BorrowMut<Command>) -> Result<Duration> {
    let command = command.borrow_mut().stdout(Stdio::null());
    let begin = Instant::now();
    let status = command.status()?;
    let took = begin.elapsed();
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(took)
}

/// The medians of both, run in turn; a round before the first warms the caches.
fn alternate(
    ours: impl Fn() -> Result<Duration>,
    theirs: impl Fn() -> Result<Duration>,
) -> Result<(Duration, Duration)> {
    let mut times = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (one, other) = (ours()?, theirs()?);
        if round > 0 {
            times.0.push(one);
            times.1.push(other);
        }
    }
    times.0.sort_unstable();
    times.1.sort_unstable();
    Ok((times.0[ROUNDS / 2], times.1[ROUNDS / 2]))
}

fn report(what: &str, ours: Duration, theirs: Duration, ratio: f64, goal: &str) {
    println!("{what}: {ours:.1?} / {theirs:.1?} = {ratio:.3} (goal: at most {goal})");
}

/// A package of one large image and some small files, 1 GiB in all.
fn package_of_a_gibibyte(room: &Path) -> Result<PathBuf> {
    let image = room.join("image");
    let mut out = BufWriter::new(File::create(&image)?);
    let mut noise = Noise(1);
    let mut block = vec![0; 1 << 20];
    for _ in 0..1023 {
        noise.fill(&mut block);
        out.write_all(&block)?;
    }
    out.flush()?;
    let mut draft = Draft::default();
    draft.add("images/x86_64/main.squashfs", Content::File(image.clone()))?;
    draft.add("assets.squashfs", Content::Bytes(block))?;
    let file = room.join("gibibyte.s9pk");
    write(draft, &file)?;
    fs::remove_file(image)?;
    Ok(file)
}

fn write(mut draft: Draft<'_>, to: &Path) -> Result<()> {
    draft.add("manifest.json", Content::Bytes(MANIFEST.to_vec()))?;
    pack(&draft, &Key::from_seed(&[1; 32]), &mut File::create(to)?)?;
    Ok(())
}

/// Files such as an image has: half text that compresses well, half that does not.
fn source_tree(tree: &Path) -> Result<()> {
    let mut noise = Noise(2);
    for index in 0..400 {
        let mut bytes = vec![0; 256 << 10];
        noise.fill(&mut bytes);
        if index % 2 == 0 {
            bytes
                .iter_mut()
                .for_each(|byte| *byte = b"etaoin shrdlu\n\n\n"[usize::from(*byte % 16)]);
        }
        let folder = tree.join(format!("{:02}", index / 20));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(index.to_string()), bytes)?;
    }
    Ok(())
}

/// Where `b3sum` is; built from crates.io when it is not on the machine.
fn b3sum() -> Result<PathBuf> {
    if let Some(found) = lack::find("b3sum") {
        return Ok(found);
    }
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("b3sum");
    let program = root.join("bin/b3sum");
    if !program.exists() {
        let mut command = Command::new("cargo");
        command
            .args(["install", "b3sum", "--locked", "--quiet", "--root"])
            .arg(&root);
        tool::run(&mut command)?;
    }
    Ok(program)
}

/// Bytes that do not compress, the same every time (xorshift).
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes()[..word.len()]);
        }
    }
}

const ROUNDS: usize = 11;
const ENTRIES: usize = 10_000;
const MANIFEST: &[u8] = include_bytes!("../../s9pk/fuzz/seeds/manifest/minimal.json");
