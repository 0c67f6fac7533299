//! What the tests share: a folder with a service to pack, and `pilot` run in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A folder of a test, gone when it passes.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pilot-s9pk-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write_service(&self) {
        let write = |path: &str, text: &str| self.write(&format!("source/{path}"), text);
        write("service.toml", SERVICE);
        write("icon.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>");
        write("LICENSE.md", "MIT");
        write("instructions.md", "Open it.");
        write("rootfs/etc/hostname", "hello");
    }

    /// Writes a file, with its folders.
    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_pilot"))
            .args(arguments)
            .current_dir(&self.0)
            .output()
            .unwrap()
    }

    pub(crate) fn pilot(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says when it refuses.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} was not refused");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.0.join(path)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }
}

pub(crate) fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../s9pk/tests/fixtures")
}

pub(crate) const SERVICE: &str = r#"
[package]
id = "hello"
version = "1.0.0:0"
title = "Hello"
license = "MIT"
description = "Says hello"
upstream_repo = "https://example.com/hello"

[image.main]
source = "rootfs"
command = ["/bin/hello"]
env = { LANG = "C.UTF-8" }

[[daemon]]
name = "main"

[volumes]
main = "/data"
"#;
