//! The disks with their partitions and the partitions' types.

use std::{fs::File, path::Path};

use drivers::{
    block::{self, Transport},
    gpt::{self, Table},
};

use super::{
    HelperError, SYS,
    answer::{Disk, Disks, Partition},
};

/// See [`super::run`].
pub(super) fn list() -> Result<Disks, HelperError> {
    let disks = block::disks(Path::new(SYS))?;
    Ok(Disks {
        disks: disks.into_iter().take(MOST_DISKS).map(described).collect(),
    })
}

fn described(disk: block::Disk) -> Disk {
    let (table, note) = match table(&disk) {
        Ok(table) => {
            let note = table.damaged_first_copy.as_ref();
            let note = note.map(|why| format!("The first partition table is damaged: {why}."));
            (Some(table), note)
        }
        Err(error) => (None, Some(error.to_string())),
    };
    let partitions = disk.partitions.into_iter().map(|partition| Partition {
        kind: table
            .as_ref()
            .and_then(|table| kind(table, partition.number)),
        name: partition.name,
        label: partition.label,
        bytes: partition.bytes,
    });
    Disk {
        partitions: partitions.collect(),
        transport: transport(disk.transport).to_owned(),
        name: disk.name,
        model: disk.model,
        bytes: disk.bytes,
        note,
    }
}

fn table(disk: &block::Disk) -> Result<Table, HelperError> {
    let node = disk.node();
    let mut file = File::open(&node).map_err(HelperError::file(&node, "opened"))?;
    Ok(gpt::read(
        &mut file,
        &disk.name,
        disk.bytes,
        disk.block_size,
    )?)
}

fn kind(table: &Table, number: u32) -> Option<String> {
    table
        .entries
        .iter()
        .find(|entry| entry.number == number)
        .map(|entry| entry.kind.to_string())
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Nvme => "NVMe",
        Transport::Ata => "SATA",
        Transport::Usb => "USB",
        Transport::Mmc => "SD or eMMC",
        Transport::Virtio => "virtual",
        Transport::Other => "other",
    }
}

/// With 128 partitions each, these would not fit in a pipe; with the usual few, they do.
const MOST_DISKS: usize = 24;
