//! The page's files, embedded at build time.
//!
//! Assets carry the hash of the whole tree in their path and may be kept for ever; the page itself
//! is asked for anew each time and names the tree that belongs to it.

/// One embedded file.
pub(crate) struct Asset {
    /// The path it is served under.
    pub(crate) path: &'static str,
    /// Its media type.
    pub(crate) media_type: &'static str,
    /// Its contents' hash, quoted as `ETag` wants it.
    pub(crate) etag: &'static str,
    /// Its bytes as they are.
    pub(crate) plain: &'static [u8],
    /// Its bytes gzipped, where that makes them fewer.
    pub(crate) gzip: Option<&'static [u8]>,
}

/// The asset at `path`, if there is one.
pub(crate) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// What goes over the wire for one file.
    fn wire_size(asset: &Asset) -> usize {
        asset.gzip.unwrap_or(asset.plain).len()
    }

    #[test]
    fn the_page_keeps_its_budget() {
        let scripts = ASSETS
            .iter()
            .filter(|a| a.path.ends_with(".js"))
            .map(wire_size)
            .sum::<usize>();
        let licence = |a: &&Asset| !a.path.ends_with(".txt");
        let all = ASSETS.iter().filter(licence).map(wire_size).sum::<usize>() + wire_size(&HOME);
        println!("scripts {scripts} bytes, first load {all} bytes");
        assert!(scripts <= 40_000, "scripts take {scripts} bytes");
        assert!(all <= 90_000, "the first load takes {all} bytes");
    }

    #[test]
    fn both_forms_of_a_file_are_the_same_file() {
        for asset in ASSETS.iter().chain([&HOME]) {
            let Some(gzip) = asset.gzip else { continue };
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(gzip)
                .read_to_end(&mut plain)
                .unwrap();
            assert!(plain == asset.plain, "{}", asset.path);
        }
    }

    #[test]
    fn whatever_the_page_names_is_there() {
        let html = std::str::from_utf8(HOME.plain).unwrap();
        let named = html
            .split('"')
            .filter(|part| part.starts_with("/assets/"))
            .collect::<Vec<_>>();
        assert!(named.len() > 3, "{named:?}");
        for path in named {
            assert!(
                find(path).is_some(),
                "{path} is named by the page and not there"
            );
        }
    }

    #[test]
    fn scripts_import_only_what_is_there() {
        for script in ASSETS.iter().filter(|a| a.path.ends_with(".js")) {
            let text = std::str::from_utf8(script.plain).unwrap();
            for line in text.lines().filter(|l| l.starts_with("import ")) {
                let from = line
                    .split(['\'', '"'])
                    .nth(1)
                    .unwrap()
                    .trim_start_matches("./");
                let path = format!("/assets/{TREE}/{from}");
                assert!(find(&path).is_some(), "{} imports {from}", script.path);
            }
        }
    }
}
