//! liblxc, opened at run time: the few calls used, behind a type that cannot be misused.
//!
//! `struct lxc_container` is a table of function pointers whose order is liblxc's ABI (members are
//! only ever appended); the part of it up to the last member used is laid out here, and checked
//! against the real header in this module's tests. Everything unsafe of the monitor that concerns
//! liblxc is in this module.
#![allow(unsafe_code)]

use std::{
    ffi::{CString, c_char, c_int, c_void},
    path::Path,
    ptr::{self, NonNull},
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::{error::Error, exit::Outcome};

/// A container that liblxc keeps for us, by name.
pub(crate) struct Container {
    raw: NonNull<RawContainer>,
    put: unsafe extern "C" fn(*mut RawContainer) -> c_int,
    /// The code behind all pointers above: dropped last.
    _library: Library,
}

impl Container {
    /// Loads liblxc and makes an unconfigured container; liblxc's own files go below `folder`.
    pub(crate) fn new(name: &str, folder: &Path) -> Result<Self, Error> {
        let no_container = || Error::NoContainer(name.to_owned());
        let c_name = CString::new(name).map_err(|_| no_container())?;
        let c_folder =
            CString::new(folder.as_os_str().as_encoded_bytes()).map_err(|_| no_container())?;
        // SAFETY: liblxc's initialisers are those of a plain shared library; the signatures are
        // those of `lxc/lxccontainer.h`.
        let (library, create, put) = unsafe {
            let library = Library::open(Some(LIBRARY), RTLD_NOW | RTLD_LOCAL)?;
            let create = *library.get::<NewContainer>(b"lxc_container_new\0")?;
            let put = *library.get::<PutContainer>(b"lxc_container_put\0")?;
            (library, create, put)
        };
        // SAFETY: two C strings that live through the call; liblxc copies them.
        let raw = unsafe { create(c_name.as_ptr(), c_folder.as_ptr()) };
        let raw = NonNull::new(raw).ok_or_else(no_container)?;
        Ok(Self {
            raw,
            put,
            _library: library,
        })
    }

    /// Sets one configuration item (`lxc.container.conf(5)`).
    pub(crate) fn set(&self, key: &str, value: &str) -> Result<(), Error> {
        let refused = || Error::Setting {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let c_key = CString::new(key).map_err(|_| refused())?;
        let c_value = CString::new(value).map_err(|_| refused())?;
        // SAFETY: a live container and two C strings that live through the call.
        let set = unsafe {
            (self.table().set_config_item)(self.raw.as_ptr(), c_key.as_ptr(), c_value.as_ptr())
        };
        if set { Ok(()) } else { Err(refused()) }
    }

    /// Starts the container and stays until it has ended. Signals that arrive meanwhile go to its
    /// first process. `None` if it never started.
    pub(crate) fn run(self) -> Option<Outcome> {
        let (raw, table) = (self.raw.as_ptr(), self.table());
        // SAFETY: a live container and its own functions. Both need a configuration, so they are
        // called after `set`; refused, the container would run behind our back, so it is not run.
        let ready =
            unsafe { (table.want_daemonize)(raw, false) && (table.want_close_all_fds)(raw, true) };
        // SAFETY: a live container; a null argument vector means `lxc.init.cmd`.
        let started = ready && unsafe { (table.start)(raw, 0, ptr::null()) };
        Outcome::decode(started, self.table().error_num)
    }

    fn table(&self) -> &RawContainer {
        // SAFETY: liblxc made it, keeps it until `put`, and no reference outlives a call here.
        unsafe { self.raw.as_ref() }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // SAFETY: the one reference we hold, given back once.
        unsafe { (self.put)(self.raw.as_ptr()) };
    }
}

type NewContainer = unsafe extern "C" fn(*const c_char, *const c_char) -> *mut RawContainer;
type PutContainer = unsafe extern "C" fn(*mut RawContainer) -> c_int;
/// A member that is not used here.
type Unused = *const c_void;
type ByValue = unsafe extern "C" fn(*mut RawContainer, bool) -> bool;

/// `struct lxc_container` of `lxc/lxccontainer.h`, up to the last member used.
#[repr(C)]
struct RawContainer {
    name: Unused,
    configfile: Unused,
    pidfile: Unused,
    slock: Unused,
    privlock: Unused,
    numthreads: c_int,
    lxc_conf: Unused,
    error_string: Unused,
    error_num: c_int,
    daemonize: bool,
    config_path: Unused,
    /// `is_defined`, `state`, `is_running`, `freeze`, `unfreeze`, `init_pid`, `load_config`.
    before_start: [Unused; 7],
    start: unsafe extern "C" fn(*mut Self, c_int, *const *const c_char) -> bool,
    /// `startl`, `stop`.
    after_start: [Unused; 2],
    want_daemonize: ByValue,
    want_close_all_fds: ByValue,
    /// `config_file_name`, `wait`.
    before_set: [Unused; 2],
    set_config_item: unsafe extern "C" fn(*mut Self, *const c_char, *const c_char) -> bool,
}

const LIBRARY: &str = "liblxc.so.1";

#[cfg(test)]
mod tests {
    use std::{fs, mem::offset_of, process::Command};

    use super::*;

    /// The members used, and where they are on every 64-bit machine.
    const OFFSETS: [(&str, usize, usize); 5] = [
        ("error_num", offset_of!(RawContainer, error_num), 64),
        ("start", offset_of!(RawContainer, start), 136),
        (
            "want_daemonize",
            offset_of!(RawContainer, want_daemonize),
            160,
        ),
        (
            "want_close_all_fds",
            offset_of!(RawContainer, want_close_all_fds),
            168,
        ),
        (
            "set_config_item",
            offset_of!(RawContainer, set_config_item),
            192,
        ),
    ];

    #[test]
    fn the_table_is_laid_out_as_in_the_abi() {
        for (member, here, there) in OFFSETS {
            assert_eq!(here, there, "{member}");
        }
    }

    /// With `liblxc`'s development files at hand (`lxc-dev`), the header itself is asked.
    #[test]
    fn the_table_is_laid_out_as_in_the_header() {
        let include = std::env::var("PILOT_LXC_INCLUDE").unwrap_or_else(|_| "/usr/include".into());
        if !Path::new(&include).join("lxc/lxccontainer.h").exists() {
            eprintln!("SKIPPED: no lxc/lxccontainer.h (lxc-dev, or set PILOT_LXC_INCLUDE)");
            return;
        }
        let mut program = "#include <stddef.h>\n#include <lxc/lxccontainer.h>\n".to_owned();
        for (member, here, _) in OFFSETS {
            program.push_str(&format!(
                "_Static_assert(offsetof(struct lxc_container, {member}) == {here}, \"{member}\");\n"
            ));
        }
        let source = std::env::temp_dir().join(format!("lxc-layout-{}.c", std::process::id()));
        fs::write(&source, program).unwrap();
        let checked = Command::new("cc")
            .args(["-fsyntax-only", "-I", &include])
            .arg(&source)
            .output()
            .unwrap();
        fs::remove_file(&source).unwrap();
        let told = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{told}");
    }
}
