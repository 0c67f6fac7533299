//! Kernel modules: which one a device needs, what it depends on, and loading it.
//!
//! This is what `modprobe` does, with the files that `depmod` wrote when the image was built:
//! `modules.dep`, `modules.alias`, `modules.builtin`, `modules.softdep`. Loading runs the drivers'
//! probe functions and may take long; it belongs in a helper process.

mod alias;
mod index;
mod options;

use std::{
    collections::HashSet,
    ffi::CStr,
    fs::File,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use crate::{
    Error,
    module::{alias::AliasTable, index::ModuleIndex, options::ModuleOptions},
};

/// Loads modules from one kernel's folder.
pub struct ModuleLoader {
    index: ModuleIndex,
    aliases: AliasTable,
    options: ModuleOptions,
    kernel: Box<dyn Kernel>,
    done: HashSet<String>,
}

/// What was loaded, and what was not.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Modules that are new in the kernel, in order.
    pub loaded: Vec<String>,
    /// What failed; the rest was done all the same.
    pub failed: Vec<Error>,
}

/// Takes modules: the kernel, or a test's stand-in.
pub trait Kernel {
    /// Inserts the module of this file with these parameters.
    ///
    /// # Errors
    /// [`Errno::EXIST`] when it is there already.
    fn insert(&mut self, file: &Path, parameters: &CStr) -> Result<(), Errno>;
}

impl ModuleLoader {
    /// Reads the index in `dir` (`/usr/lib/modules/<release>`). `command_line` is the kernel's:
    /// `module.parameter=value` and `modprobe.blacklist=a,b` are heeded.
    ///
    /// # Errors
    /// When `modules.dep` can't be read. The other files may be missing.
    pub fn open(dir: &Path, command_line: &str) -> Result<Self, Error> {
        Self::with_kernel(dir, command_line, RunningKernel)
    }

    /// As [`Self::open`], for another taker of modules.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_kernel(
        dir: &Path,
        command_line: &str,
        kernel: impl Kernel + 'static,
    ) -> Result<Self, Error> {
        let index = ModuleIndex::read(dir)?;
        let aliases = AliasTable::parse(&optional_file(&dir.join("modules.alias"))?);
        let options = ModuleOptions::parse(command_line);
        Ok(Self {
            index,
            aliases,
            options,
            kernel: Box::new(kernel),
            done: HashSet::new(),
        })
    }

    /// Loads a module with all it needs; nothing happens when it is there already or built in.
    ///
    /// # Errors
    /// When there is no such module, or the kernel refuses it or one that it needs.
    pub fn load(&mut self, name: &str) -> Result<Vec<String>, Error> {
        let mut loaded = Vec::new();
        self.load_chain(&alias::normalised(name), 0, &mut loaded)?;
        Ok(loaded)
    }

    /// Loads the modules that a device with this alias wants. None may be: not every device has a
    /// module, and most drivers of a small kernel are built in.
    pub fn load_for_modalias(&mut self, modalias: &str) -> Outcome {
        let mut outcome = Outcome::default();
        for name in self.aliases.matching(modalias) {
            if self.options.is_blacklisted(&name) {
                continue;
            }
            if let Err(error) = self.load_chain(&name, 0, &mut outcome.loaded) {
                outcome.failed.push(error);
            }
        }
        outcome
    }

    /// As the kernel asks for one (`request_module`): by name or by alias.
    pub fn load_requested(&mut self, request: &str) -> Outcome {
        if !self.index.knows(&alias::normalised(request)) {
            return self.load_for_modalias(request);
        }
        match self.load(request) {
            Ok(loaded) => Outcome {
                loaded,
                failed: Vec::new(),
            },
            Err(error) => Outcome {
                loaded: Vec::new(),
                failed: vec![error],
            },
        }
    }

    fn load_chain(
        &mut self,
        name: &str,
        depth: usize,
        loaded: &mut Vec<String>,
    ) -> Result<(), Error> {
        if self.done.contains(name) || self.index.is_builtin(name) {
            return Ok(());
        }
        if depth > MAX_CHAIN {
            return Err(Error::DependencyLoop {
                name: name.to_owned(),
                limit: MAX_CHAIN,
            });
        }
        for wish in self.index.soft_before(name) {
            // A soft dependency only makes things faster or better; the module works without.
            let _ = self.load_soft(&wish, depth + 1, loaded);
        }
        for needed in self.index.needs(name)? {
            self.load_chain(&needed, depth + 1, loaded)?;
        }
        self.insert(name, loaded)
    }

    fn load_soft(
        &mut self,
        wish: &str,
        depth: usize,
        loaded: &mut Vec<String>,
    ) -> Result<(), Error> {
        let wish = alias::normalised(wish);
        if self.index.knows(&wish) {
            return self.load_chain(&wish, depth, loaded);
        }
        self.aliases
            .matching(&wish)
            .iter()
            .try_for_each(|name| self.load_chain(name, depth, loaded))
    }

    fn insert(&mut self, name: &str, loaded: &mut Vec<String>) -> Result<(), Error> {
        let path = self.index.file(name)?;
        match self.kernel.insert(&path, &self.options.parameters(name)) {
            Ok(()) => loaded.push(name.to_owned()),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::ModuleRefused { path, errno }),
        }
        self.done.insert(name.to_owned());
        Ok(())
    }
}

/// The folder of the running kernel's modules.
pub fn running_kernel_dir() -> PathBuf {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    Path::new(MODULES).join(release)
}

struct RunningKernel;

impl Kernel for RunningKernel {
    fn insert(&mut self, file: &Path, parameters: &CStr) -> Result<(), Errno> {
        let file =
            File::open(file).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        rustix::system::finit_module(&file, parameters, 0)
    }
}

fn optional_file(path: &Path) -> Result<String, Error> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

const MODULES: &str = "/usr/lib/modules";

/// The longest chain of dependencies in Debian's kernel is below ten.
const MAX_CHAIN: usize = 32;

#[cfg(test)]
pub(crate) mod tests {
    use std::{cell::RefCell, fs, rc::Rc};

    use super::*;

    /// A folder that is gone when the test is.
    pub(crate) struct TestDir(PathBuf);

    impl TestDir {
        pub(crate) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }

        pub(crate) fn write(&self, name: &str, text: &str) {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for TestDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    type Answer = Box<dyn FnMut(&Path) -> Result<(), Errno>>;

    /// Answers as told, and remembers what it was given.
    pub(crate) struct FakeKernel {
        answer: Answer,
        parameters: Rc<RefCell<Vec<String>>>,
    }

    impl FakeKernel {
        pub(crate) fn new(answer: impl FnMut(&Path) -> Result<(), Errno> + 'static) -> Self {
            Self {
                answer: Box::new(answer),
                parameters: Rc::default(),
            }
        }
    }

    impl Kernel for FakeKernel {
        fn insert(&mut self, file: &Path, parameters: &CStr) -> Result<(), Errno> {
            self.parameters
                .borrow_mut()
                .push(parameters.to_str().unwrap().to_owned());
            (self.answer)(file)
        }
    }

    fn modules(name: &str) -> TestDir {
        let dir = TestDir::new(name);
        dir.write(
            "modules.dep",
            "kernel/fs/btrfs/btrfs.ko: kernel/lib/raid6/raid6_pq.ko kernel/crypto/xor.ko\n\
             kernel/lib/raid6/raid6_pq.ko:\nkernel/crypto/xor.ko: kernel/lib/base-lib.ko\n\
             kernel/lib/base-lib.ko:\nkernel/crypto/crc32c-intel.ko:\n\
             kernel/drivers/net/e1000.ko:\nkernel/a.ko: kernel/b.ko\nkernel/b.ko: kernel/a.ko\n",
        );
        dir.write("modules.builtin", "kernel/fs/ext4/ext4.ko\n");
        dir.write(
            "modules.softdep",
            "# comment\nsoftdep btrfs pre: crc32c missing post: later\n",
        );
        dir.write(
            "modules.alias",
            "# Aliases\nalias fs-btrfs btrfs\nalias crc32c crc32c-intel\n\
             alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000\n",
        );
        dir
    }

    fn loader(dir: &TestDir, command_line: &str) -> ModuleLoader {
        ModuleLoader::with_kernel(dir.path(), command_line, FakeKernel::new(|_| Ok(()))).unwrap()
    }

    #[test]
    fn what_a_module_needs_comes_before_it_and_nothing_twice() {
        let dir = modules("module-order");
        let mut loader = loader(&dir, "");
        let loaded = loader.load("btrfs").unwrap();
        let place = |name: &str| loaded.iter().position(|m| m == name).unwrap();
        assert_eq!(loaded.len(), 5, "{loaded:?}");
        assert_eq!(
            place("crc32c_intel"),
            0,
            "a soft dependency by its alias comes first"
        );
        assert!(place("base_lib") < place("xor") && place("xor") < place("btrfs"));
        assert!(place("raid6_pq") < place("btrfs"));
        assert!(loader.load("btrfs").unwrap().is_empty());
        assert!(loader.load("ext4").unwrap().is_empty(), "it is built in");
    }

    #[test]
    fn a_device_gets_its_module_unless_it_is_on_the_black_list() {
        let dir = modules("module-alias");
        let alias = "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00";
        assert_eq!(
            loader(&dir, "quiet").load_for_modalias(alias).loaded,
            ["e1000"]
        );
        let mut listed = loader(&dir, "modprobe.blacklist=foo,e1000");
        assert!(listed.load_for_modalias(alias).loaded.is_empty());
        assert_eq!(
            listed.load("e1000").unwrap(),
            ["e1000"],
            "by name it is still had"
        );
        assert_eq!(
            loader(&dir, "")
                .load_requested("fs-btrfs")
                .loaded
                .last()
                .unwrap(),
            "btrfs"
        );
    }

    #[test]
    fn a_loop_and_an_unknown_module_are_told_apart() {
        let dir = modules("module-errors");
        let mut loader = loader(&dir, "");
        assert!(matches!(
            loader.load("a"),
            Err(Error::DependencyLoop { .. })
        ));
        assert!(matches!(loader.load("nosuch"), Err(Error::NoModule { .. })));
    }

    #[test]
    fn the_kernel_may_have_it_already_or_refuse_it() {
        let dir = modules("module-refused");
        let kernel = FakeKernel::new(|file| match file.file_stem().unwrap().to_str().unwrap() {
            "base-lib" => Err(Errno::EXIST),
            "xor" => Err(Errno::NOEXEC),
            _ => Ok(()),
        });
        let mut loader = ModuleLoader::with_kernel(dir.path(), "", kernel).unwrap();
        let error = loader.load("btrfs").unwrap_err();
        assert!(
            error.to_string().contains("kernel/crypto/xor.ko"),
            "{error}"
        );
        assert!(loader.load("base_lib").unwrap().is_empty());
    }

    #[test]
    fn parameters_come_from_the_command_line() {
        let dir = modules("module-parameters");
        let kernel = FakeKernel::new(|_| Ok(()));
        let seen = Rc::clone(&kernel.parameters);
        let command_line = "quiet e1000.debug=3 root=x e1000.copy_break pilot.slot=a";
        let mut loader = ModuleLoader::with_kernel(dir.path(), command_line, kernel).unwrap();
        loader.load("e1000").unwrap();
        assert_eq!(*seen.borrow(), ["debug=3 copy_break"]);
    }
}
