//! `pilot s9pk …`: making packages and looking into them. Needs no box.

mod download;
mod error;
mod image;
mod pack;
mod recipe;
mod show;
mod trust;
mod workshop;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use s9pk::{
    Archive, Key, LeftOut, Profile, ReadAt, durable, extract::extract, http::is_url, rewrite,
};

pub(crate) use self::error::PackageError;
use self::error::at;

/// Commands about packages.
#[derive(Debug, Subcommand)]
pub(crate) enum PackageCommand {
    /// Make a package of a folder, or of what a service.toml describes
    Pack {
        /// The folder, or the service.toml in it
        source: PathBuf,
        #[command(flatten)]
        to: Signed,
    },
    /// Fetch a package, verifying it on the way; called again, it goes on where it was cut
    Download(download::Download),
    /// Show what a package says and holds
    Inspect {
        #[command(flatten)]
        package: Package,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check every byte of a package, and that it is complete
    Verify {
        #[command(flatten)]
        package: Package,
        /// For this architecture only
        #[arg(long)]
        arch: Option<String>,
    },
    /// Unpack a package, verifying each file
    Extract {
        #[command(flatten)]
        package: Package,
        /// The folder to make
        to: PathBuf,
    },
    /// Write a file of a package to standard output; it was sound if this ends well
    Cat {
        #[command(flatten)]
        package: Package,
        /// The file's path in the package
        path: String,
    },
    /// Leave out what one architecture does not need; the signature stays
    Select {
        #[command(flatten)]
        package: Package,
        /// The architecture: x86_64, aarch64, riscv64
        #[arg(long)]
        arch: String,
        /// The file to make
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Sign a package with another key
    #[command(alias = "sign")]
    Resign {
        #[command(flatten)]
        package: Package,
        #[command(flatten)]
        to: Signed,
    },
    /// List what differs between two packages
    Diff {
        /// One package
        old: PathBuf,
        /// The other package
        new: PathBuf,
    },
    /// Say whose packages these are
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Make a signing key
    Keygen {
        /// The file to make
        #[arg(short, long)]
        output: PathBuf,
    },
}

/// Which package, and how strictly to look at it.
#[derive(Debug, Args)]
pub(crate) struct Package {
    /// The package, a file or a URL
    file: PathBuf,
    /// Take odd forms that StartOS takes, and list them
    #[arg(long)]
    lenient: bool,
    #[command(flatten)]
    far: download::Far,
}

/// A package on this machine or elsewhere.
type Source = Box<dyn ReadAt>;

/// Where a signed package goes.
#[derive(Debug, Args)]
pub(crate) struct Signed {
    /// The file to make
    #[arg(short, long)]
    output: PathBuf,
    /// The key to sign with (see `keygen`)
    #[arg(short, long)]
    key: PathBuf,
}

/// Does it, and writes what came of it to standard output.
pub(crate) fn run(command: &PackageCommand) -> Result<(), PackageError> {
    let text = match command {
        PackageCommand::Pack { source, to } => {
            let key = key(&to.key)?;
            let warnings = pack::pack(source, &key, &to.output)?;
            show::packed(&to.output, &open(&to.output)?, &warnings)
        }
        PackageCommand::Download(download) => show::downloaded(&download.run()?),
        PackageCommand::Inspect { package, json } => {
            let archive = package.open()?;
            if *json {
                show::json(&archive)?
            } else {
                show::text(&archive)
            }
        }
        PackageCommand::Verify { package, arch } => {
            let archive = package.open()?;
            let validated = archive
                .validate(arch.as_deref())
                .map_err(at(&package.file))?;
            archive.verify().map_err(at(&package.file))?;
            show::verified(&archive, &validated.warnings)
        }
        PackageCommand::Extract { package, to } => unpack(&package.open()?, &package.file, to)?,
        PackageCommand::Cat { package, path } => {
            let copied = package.open()?.copy(path, &mut io::stdout().lock());
            copied.map_err(at(&package.file))?;
            String::new()
        }
        PackageCommand::Select {
            package,
            arch,
            output,
        } => {
            let archive = package.open()?;
            replace(output, |out| rewrite::select(&archive, arch, out).map(drop))?;
            String::new()
        }
        PackageCommand::Resign { package, to } => {
            let (archive, key) = (package.open()?, key(&to.key)?);
            replace(&to.output, |out| {
                rewrite::resign(&archive, &key, out).map(drop)
            })?;
            String::new()
        }
        PackageCommand::Diff { old, new } => show::difference(&open(old)?, &open(new)?),
        PackageCommand::Trust(command) => trust::run(command)?,
        PackageCommand::Keygen { output } => keygen(output)?,
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(PackageError::io("standard output"))
}

/// With what was left out of a filtered package beside, so that it can be packed again.
fn unpack(archive: &Archive<Source>, package: &Path, to: &Path) -> Result<String, PackageError> {
    extract(archive, to).map_err(at(package))?;
    let Some(left_out) = LeftOut::of(archive) else {
        return Ok(String::new());
    };
    let beside = LeftOut::beside(to);
    let json = serde_json::to_vec_pretty(&left_out)?;
    fs::write(&beside, json).map_err(PackageError::io(&beside))?;
    Ok(show::left_out(&beside))
}

impl Package {
    fn open(&self) -> Result<Archive<Source>, PackageError> {
        let profile = if self.lenient {
            Profile::lenient()
        } else {
            Profile::strict()
        };
        let source: Source = match self.file.to_str().filter(|text| is_url(text)) {
            Some(url) => Box::new(self.far.open(url)?),
            None => Box::new(File::open(&self.file).map_err(PackageError::io(&self.file))?),
        };
        Archive::open_with(source, profile).map_err(at(&self.file))
    }
}

/// Makes the file at `path` with `write`, durably, or leaves what was there.
fn replace(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), s9pk::Error>,
) -> Result<(), PackageError> {
    let partial = beside(path, ".partial");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let written = options
        .open(&partial)
        .map_err(PackageError::io(&partial))
        .and_then(|mut file| {
            write(&mut file).map_err(at(path))?;
            // Renamed before its bytes are on the disk, it would be empty after a power cut.
            file.sync_all().map_err(PackageError::io(&partial))
        })
        .and_then(|()| fs::rename(&partial, path).map_err(PackageError::io(path)))
        .and_then(|()| durable::sync_folder_of(path).map_err(PackageError::io(path)));
    if written.is_err() {
        // What went wrong is said already; a partial file that stays adds nothing to it.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// The path of a file or folder beside `path`, named after it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn open(path: &Path) -> Result<Archive<File>, PackageError> {
    let file = File::open(path).map_err(PackageError::io(path))?;
    Archive::open(file).map_err(at(path))
}

/// Reads a signing key.
pub(crate) fn key(path: &Path) -> Result<Key, PackageError> {
    let pem = fs::read_to_string(path).map_err(PackageError::io(path))?;
    Key::from_pem(&pem).map_err(at(path))
}

/// Makes a signing key, and says whose.
pub(crate) fn keygen(path: &Path) -> Result<String, PackageError> {
    let mut seed = [0; 32];
    let filled = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty());
    if filled.map_err(|error| PackageError::io("random bytes")(error.into()))? < seed.len() {
        let short = io::Error::from(io::ErrorKind::UnexpectedEof);
        return Err(PackageError::io("random bytes")(short));
    }
    let key = Key::from_seed(&seed);
    let pem = key.to_pem().map_err(at(path))?;
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(path);
    let made = file.and_then(|mut file| {
        file.write_all(pem.as_bytes())?;
        // What is signed with it may be published at once: it must not be lost.
        file.sync_all()?;
        durable::sync_folder_of(path)
    });
    made.map_err(PackageError::io(path))?;
    Ok(show::key(&key.public()))
}

/// Whoever reads a signing key can publish as its owner.
const OWNER_ONLY: u32 = 0o600;
