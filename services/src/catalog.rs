//! The packages on this box: found in folders, verified once per file, tied to their publisher.
//!
//! A package that is broken, forged or not for this box is found too, with the reason, and stands
//! in nobody's way. Verifying reads whole packages: call [`Catalog::scan`] where waiting is
//! allowed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use s9pk::{
    Id, PublicKey,
    trust::{self, Trust, TrustError, TrustStore},
};

use crate::{package::Package, plan::FileIdentity};

/// The packages in some folders.
pub struct Catalog {
    folders: Vec<(PathBuf, Trust)>,
    read: Read,
    seen: BTreeMap<PathBuf, (FileIdentity, Result<Signed, String>)>,
}

/// Opens and verifies one package file; the reason why not is a sentence.
pub type Read = fn(&Path) -> Result<Signed, String>;

/// A package whose content is what its signer signed, whoever that is.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The package.
    pub package: Arc<Package>,
    /// Its id.
    pub id: Id,
    /// The signer's key.
    pub signer: PublicKey,
}

/// A package file that was found.
#[derive(Clone, Debug)]
pub enum Found {
    /// It can be used.
    Package(Arc<Package>),
    /// It can't.
    Refused {
        /// The service's id as far as it is known, else the file's name.
        id: String,
        /// The file.
        path: PathBuf,
        /// Why, as a sentence.
        why: String,
    },
}

impl Found {
    /// The service's id, or what stands for it.
    pub fn id(&self) -> &str {
        match self {
            Self::Package(package) => &package.id,
            Self::Refused { id, .. } => id,
        }
    }
}

impl Catalog {
    /// A catalog of the packages (`*.s9pk`) in these folders. Of two packages with the same id,
    /// the one in the folder named first is used, unless it is refused.
    pub fn new(folders: Vec<(PathBuf, Trust)>, read: Read) -> Self {
        Self {
            folders,
            read,
            seen: BTreeMap::new(),
        }
    }

    /// The folders of a box: what its owner installed, and what came with the root.
    pub fn folders_of_the_box() -> Vec<(PathBuf, Trust)> {
        vec![
            (PathBuf::from("/data/packages"), Trust::PinnedOnly),
            (
                PathBuf::from("/usr/share/pilotlight/packages"),
                Trust::OnFirstSight,
            ),
        ]
    }

    /// Looks what is there now; only files that are new or have changed are read.
    pub fn scan(&mut self, keys: &mut TrustStore) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let mut present = BTreeSet::new();
        for (folder, trust) in self.folders.clone() {
            let files = match package_files(&folder) {
                Ok(files) => files,
                Err(why) => {
                    let id = folder.display().to_string();
                    found.push(Found::Refused {
                        id,
                        path: folder,
                        why,
                    });
                    continue;
                }
            };
            for path in files {
                found.push(self.look(&path, trust, keys));
                present.insert(path);
            }
        }
        self.seen.retain(|path, _| present.contains(path));
        prefer_first_usable(found)
    }

    fn look(&mut self, path: &Path, trust: Trust, keys: &mut TrustStore) -> Found {
        let refused = |id: String, why: String| Found::Refused {
            id,
            path: path.to_owned(),
            why,
        };
        let signed = match self.signed(path) {
            Ok(signed) => signed,
            Err(why) => return refused(file_name(path), why),
        };
        match is_trusted(path, &signed, trust, keys) {
            Ok(()) => Found::Package(signed.package),
            Err(e) => refused(signed.package.id.clone(), e.to_string()),
        }
    }

    fn signed(&mut self, path: &Path) -> Result<Signed, String> {
        let identity = fs::metadata(path)
            .map(|metadata| FileIdentity::of(&metadata))
            .map_err(|e| format!("it can't be read: {e}"))?;
        if let Some((known, result)) = self.seen.get(path)
            && *known == identity
        {
            return result.clone();
        }
        let result = (self.read)(path).and_then(|signed| {
            if signed.package.identity == identity {
                Ok(signed)
            } else {
                Err("it was changed while it was read; it is looked at again".to_owned())
            }
        });
        self.seen
            .insert(path.to_owned(), (identity, result.clone()));
        result
    }
}

/// By the keys known; only when these are not enough, by the endorsements that lie beside it, too.
fn is_trusted(
    path: &Path,
    signed: &Signed,
    trust: Trust,
    keys: &mut TrustStore,
) -> Result<(), TrustError> {
    match keys.check(&signed.id, &signed.signer, &[], trust) {
        Err(TrustError::Changed { .. }) => {
            let endorsements = trust::read_beside(path)?;
            keys.check(&signed.id, &signed.signer, &endorsements, trust)
        }
        other => other,
    }
}

/// In the order of their names, so that every scan finds the same.
fn package_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(format!("the packages can't be listed: {e}")),
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let is_package = |path: &PathBuf| path.extension().is_some_and(|end| end == "s9pk");
    let mut files: Vec<PathBuf> = paths.filter(is_package).collect();
    files.sort();
    Ok(files)
}

fn prefer_first_usable(found: Vec<Found>) -> Vec<Found> {
    let mut by_id: BTreeMap<String, Found> = BTreeMap::new();
    for found in found {
        let known = by_id.get(found.id());
        let better = match (known, &found) {
            (None, _) => true,
            (Some(Found::Refused { .. }), Found::Package(_)) => true,
            (Some(_), _) => false,
        };
        if better {
            by_id.insert(found.id().to_owned(), found);
        }
    }
    by_id.into_values().collect()
}

fn file_name(path: &Path) -> String {
    path.file_stem()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use s9pk::{Key, trust::Endorsement};

    use super::*;
    use crate::package::tests::package;

    static READS: AtomicUsize = AtomicUsize::new(0);

    /// A file of two words is a package of that id, signed with that key; "broken" is broken.
    fn read(path: &Path) -> Result<Signed, String> {
        READS.fetch_add(1, Ordering::Relaxed);
        let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
        let (id, key) = text
            .split_once(' ')
            .ok_or("the tree does not match its hash")?;
        let mut package = package(id, "[[daemon]]\nname = 'web'");
        package.path = path.to_owned();
        package.identity = FileIdentity::of(&fs::metadata(path).unwrap());
        Ok(Signed {
            id: package.id.parse().unwrap(),
            package: Arc::new(package),
            signer: key_named(key).public(),
        })
    }

    fn key_named(name: &str) -> Key {
        Key::from_seed(&[name.as_bytes()[3]; 32])
    }

    #[test]
    fn packages_are_read_once_and_none_blocks_another() {
        let folder = std::env::temp_dir().join(format!("catalog-{}", std::process::id()));
        let (data, root) = (folder.join("data"), folder.join("root"));
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("a.s9pk"), "a key1").unwrap();
        fs::write(root.join("b.s9pk"), "broken").unwrap();
        fs::write(root.join("c.s9pk"), "c key1").unwrap();
        fs::write(root.join("readme.txt"), "no package").unwrap();
        let folders = vec![
            (data.clone(), Trust::PinnedOnly),
            (root.clone(), Trust::OnFirstSight),
        ];
        let mut keys = TrustStore::load(&folder.join("keys.json")).unwrap();
        let mut catalog = Catalog::new(folders, read);
        let describe = |found: &[Found]| -> Vec<String> {
            let one = |found: &Found| match found {
                Found::Package(package) => {
                    let place = package.path.parent().unwrap().file_name().unwrap();
                    format!("{} from {}", package.id, place.display())
                }
                Found::Refused { id, why, .. } => format!("{id}: {why}"),
            };
            found.iter().map(one).collect()
        };
        let first = describe(&catalog.scan(&mut keys));
        assert_eq!(
            first,
            [
                "a from root",
                "b: the tree does not match its hash",
                "c from root"
            ]
        );
        let reads = READS.load(Ordering::Relaxed);
        assert_eq!(describe(&catalog.scan(&mut keys)), first);
        assert_eq!(READS.load(Ordering::Relaxed), reads, "nothing has changed");

        fs::write(data.join("a.s9pk"), "a key1").unwrap();
        fs::write(data.join("c.s9pk"), "c key2").unwrap();
        fs::write(data.join("d.s9pk"), "d key9").unwrap();
        fs::write(root.join("b.s9pk"), "b key1").unwrap();
        let then = describe(&catalog.scan(&mut keys));
        assert_eq!(then[..3], ["a from data", "b from root", "c from root"]);
        let fingerprint = |name: &str| key_named(name).public().fingerprint();
        let unknown = format!(
            "d: it is signed with the key {}, which",
            fingerprint("key9")
        );
        assert!(then[3].starts_with(&unknown), "{then:?}");
        fs::write(root.join("c.s9pk"), "c key2").unwrap();
        let changed = describe(&catalog.scan(&mut keys));
        for key in ["key1", "key2"] {
            assert!(changed[2].contains(&fingerprint(key)), "{changed:?}");
        }

        let id: Id = "c".parse().unwrap();
        let word = Endorsement::sign(&id, &key_named("key1"), key_named("key2").public()).unwrap();
        let words = trust::encode(&[word]).unwrap();
        fs::write(trust::beside(&root.join("c.s9pk")), words).unwrap();
        let endorsed = describe(&catalog.scan(&mut keys));
        assert_eq!(endorsed[2], "c from root", "{endorsed:?}");
        keys.add(&"d".parse().unwrap(), &key_named("key9").public())
            .unwrap();
        assert_eq!(describe(&catalog.scan(&mut keys))[3], "d from data");
        fs::remove_dir_all(&folder).unwrap();
    }
}
