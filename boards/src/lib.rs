//! What differs between boards, and the tools that build a box and run it in QEMU.
//!
//! `cargo boot` ([`boot`]) gathers what the machine lacks ([`lack`]), takes the kernel and a few
//! libraries out of Debian packages ([`debian`], [`modules`]), has cargo build our own programs
//! ([`binaries`]), and packs all of it: the [`initramfs`] ([`cpio`]), the read-only [`root`], the
//! [`demo`] package and the [`disk`] ([`gpt`]). Each is made again only when what it is made of has
//! changed ([`cache`]). Then [`qemu`] runs it, on KVM if that really works ([`accel`]).
//!
//! `cargo prove` ([`prove`]) runs the tests. They use this crate too: [`artifacts::Artifacts::shared`],
//! [`qemu::Machine`], [`qmp::Qmp`], [`disk::Disk`] and [`web`].
//!
//! This is a tool for developers; nothing of it is in the box.
#![forbid(unsafe_code)]

pub mod accel;
pub mod artifacts;
pub mod binaries;
pub mod board;
pub mod boot;
pub mod cache;
pub mod cpio;
pub mod debian;
pub mod demo;
pub mod disk;
pub mod elf;
pub mod gpt;
pub mod initramfs;
pub mod lack;
pub mod modules;
pub mod ports;
pub mod progress;
pub mod prove;
pub mod qemu;
pub mod qmp;
pub mod root;
pub mod tool;
pub mod tree;
pub mod web;
