//! An apt with its own lists, cache and idea of what is installed (nothing).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tool;

/// A private apt, for one architecture.
pub(super) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Sets it up in `folder`, which it keeps for itself.
    pub(super) fn new(folder: &Path, arch: &str, sources: &str) -> Result<Self> {
        for inside in ["lists/partial", "archives/partial", "empty", "debs"] {
            fs::create_dir_all(folder.join(inside))?;
        }
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("sources.list"), sources)?;
        fs::write(folder.join("apt.conf"), configuration(folder, arch))?;
        Ok(Self {
            folder: folder.into(),
        })
    }

    /// Fetches the lists, whose signatures apt checks.
    pub(super) fn update(&self) -> Result<()> {
        tool::run(self.command("apt-get").args(["update", "--error-on=any"]))
    }

    /// Fetches the kernel image that `kernel` stands for, `wanted` with all it depends on, and
    /// `alone` without. Gives the files' paths.
    pub(super) fn download(
        &self,
        kernel: &str,
        wanted: &[&str],
        alone: &[&str],
    ) -> Result<Vec<String>> {
        // The image alone: what it depends on makes an initramfs, which we make ourselves.
        let mut packages = vec![self.image_of(kernel)?];
        packages.extend(self.closure(wanted)?);
        packages.extend(alone.iter().map(|name| (*name).to_owned()));
        let debs = self.folder.join("debs");
        let files = self.files_of(&packages)?;
        if files.iter().any(|file| !debs.join(file).exists()) {
            tool::run(
                self.command("apt-get")
                    .arg("download")
                    .args(&packages)
                    .current_dir(&debs),
            )?;
        }
        Ok(files
            .iter()
            .map(|file| debs.join(file).display().to_string())
            .collect())
    }

    fn image_of(&self, kernel: &str) -> Result<String> {
        let shown =
            tool::output(
                self.command("apt-cache")
                    .args(["show", "--no-all-versions", kernel]),
            )?;
        shown
            .lines()
            .find_map(|line| line.strip_prefix("Depends: "))
            .and_then(|depends| depends.split([' ', ',']).next())
            .map(str::to_owned)
            .with_context(|| format!("the package {kernel} names no kernel image"))
    }

    /// What apt would install on a machine with nothing on it, as `name=version`.
    fn closure(&self, wanted: &[&str]) -> Result<Vec<String>> {
        let plan = tool::output(
            self.command("apt-get")
                .args(["install", "--simulate", "--assume-yes"])
                .args(wanted),
        )?;
        let packages = installs(&plan);
        if packages.is_empty() {
            bail!("apt would install nothing for {wanted:?}");
        }
        Ok(packages)
    }

    /// The names that `apt-get download` gives the packages' files.
    fn files_of(&self, packages: &[String]) -> Result<Vec<String>> {
        let lines = tool::output(
            self.command("apt-get")
                .args(["download", "--print-uris"])
                .args(packages),
        )?;
        let files: Vec<_> = lines
            .lines()
            .filter(|line| line.starts_with('\''))
            .filter_map(|line| line.split_whitespace().nth(1))
            .map(str::to_owned)
            .collect();
        if files.len() != packages.len() {
            bail!(
                "apt names {} files for {} packages",
                files.len(),
                packages.len()
            );
        }
        Ok(files)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("LC_ALL", "C.UTF-8");
        command
    }
}

/// The packages in a simulation's `Inst name (version ...)` lines.
fn installs(plan: &str) -> Vec<String> {
    plan.lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
            Some(format!("{name}={}", rest.split_whitespace().next()?))
        })
        .collect()
}

fn configuration(folder: &Path, arch: &str) -> String {
    let folder = folder.display();
    format!(
        "Dir::State \"{folder}\";\n\
         Dir::State::lists \"{folder}/lists\";\n\
         Dir::State::status \"{folder}/status\";\n\
         Dir::Cache \"{folder}\";\n\
         Dir::Cache::archives \"{folder}/archives\";\n\
         Dir::Etc::sourcelist \"{folder}/sources.list\";\n\
         Dir::Etc::sourceparts \"{folder}/empty\";\n\
         Dir::Etc::preferences \"{folder}/empty/none\";\n\
         Dir::Etc::preferencesparts \"{folder}/empty\";\n\
         APT::Architecture \"{arch}\";\n\
         APT::Architectures {{ \"{arch}\"; }};\n\
         APT::Get::AllowUnauthenticated \"false\";\n\
         APT::Install-Recommends \"false\";\n\
         APT::Sandbox::User \"\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n"
    )
}

#[cfg(test)]
mod tests {
    use super::installs;

    #[test]
    fn a_simulation_is_read() {
        let plan = "Inst libc6 (2.41-12 Debian:13.1/stable [amd64])\n\
            Inst liblxc1t64 (1:6.0.4-4 Debian:13.1/stable [amd64]) []\n\
            Conf libc6 (2.41-12 Debian:13.1/stable [amd64])\n";
        assert_eq!(installs(plan), ["libc6=2.41-12", "liblxc1t64=1:6.0.4-4"]);
    }
}
