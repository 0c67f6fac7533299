//! Every bound of the format, each with its reason. The format itself knows only [`ROOT_MAX_SIZE`].

/// Bytes of the fixed header: magic, version, signer, signature, and the root's place.
pub const HEADER_SIZE: u64 = 155;

/// Signed size of the root table in bytes, at most; the only cap that the format states.
pub const ROOT_MAX_SIZE: u64 = 1 << 20;

/// Size of any one table of contents in bytes, at most: what the format allows the root.
pub const TOC_SIZE: u64 = 1 << 20;

/// All tables of a package together, in bytes: 50 times the largest package known, and parsed it
/// stays under 16 MiB of memory.
pub const ALL_TOCS_SIZE: u64 = 4 << 20;

/// Levels of directories: real packages have three (`images/<arch>/<file>`).
pub const DEPTH: u16 = 8;

/// Levels of directories when told to be lenient. It only bounds the length of the paths shown,
/// for nothing here recurses.
pub const LENIENT_DEPTH: u16 = 128;

/// Bytes of a name, at most: what Linux file systems take for one path segment. Not even relaxed
/// when told to be lenient, for what is shown of a package are paths made of names.
pub const NAME_SIZE: usize = 255;

/// The smallest entry of a table: an empty name (1), hash (32), size (8) and type (1).
pub const SMALLEST_ENTRY: u64 = 42;

/// Bytes of `manifest.json`, at most: four times the largest real one. Parsed, a byte can take up
/// to forty in memory (a list of versions), and that must stay under 16 MiB.
pub const MANIFEST_SIZE: u64 = 256 << 10;

/// Bytes of a small text file (`service.toml`, an image's `.json` and `.env`), at most.
pub const SMALL_FILE_SIZE: u64 = 1 << 20;

/// Bytes of an icon, at most: packers cap it at 100 KiB.
pub const ICON_SIZE: u64 = 1 << 20;

/// Bytes of a file of endorsements, at most: more than a hundred changes of key.
pub const ENDORSEMENTS_SIZE: u64 = 64 << 10;

/// Bytes read at once when a file is hashed or copied: large enough for the hash's full SIMD
/// width, small enough to stay in the second-level cache.
pub const COPY_BUFFER: usize = 256 << 10;

/// Deviations remembered when told to be lenient; further ones are only counted.
pub const DEVIATIONS: usize = 64;
