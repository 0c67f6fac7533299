//! Manifests are read whole and written as their own packer writes them.

use std::io::Cursor;

use s9pk::{Archive, Content, Draft, Key, Manifest, pack};
use serde_json::{Value, json};

#[test]
fn a_manifest_of_the_formats_own_packer_is_written_as_it_was_read() {
    let archive = Archive::open(&include_bytes!("fixtures/minimal.s9pk")[..]).unwrap();
    let stored = archive.read("manifest.json", 1 << 20).unwrap();
    assert_eq!(serde_json::to_vec(archive.manifest()).unwrap(), stored);
}

#[test]
fn no_field_of_a_manifest_is_lost() {
    let archive = Archive::open(&include_bytes!("fixtures/two-arch.s9pk")[..]).unwrap();
    let stored = archive.read("manifest.json", 1 << 20).unwrap();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(serde_json::to_value(archive.manifest()).unwrap(), stored);
}

#[test]
fn a_manifest_with_every_kind_of_field_is_understood() {
    let manifest: Manifest = serde_json::from_str(FULL).unwrap();
    assert_eq!(manifest.version.flavor.as_deref(), Some("knots"));
    assert!(
        manifest
            .can_migrate_from
            .contains(&"26.0:0".parse().unwrap())
    );
    assert!(!manifest.can_migrate_to.contains(&"26.0:0".parse().unwrap()));
    assert_eq!(manifest.description.short.text("de_DE"), "kurz");
    assert_eq!(manifest.images.len(), 1);
    let requirements = &manifest.hardware_requirements;
    assert_eq!(requirements.device[0].class, "display");
    assert_eq!(requirements.ram, Some(1 << 30));
    let again: Manifest = serde_json::from_str(&serde_json::to_string(&manifest).unwrap()).unwrap();
    assert_eq!(again, manifest);
}

#[test]
fn what_can_not_be_is_refused() {
    for (from, to) in [
        (r#""id":"full""#, r#""id":"Full""#),
        (r#""canMigrateTo":"!""#, r#""canMigrateTo":">=1:0,<2:0""#),
        ("url-v0", "url-v9"),
        (r#""main":{"source""#, r#""../x":{"source""#),
        (r#""BACKUP""#, r#""../data""#),
        (r#""license":"MIT","#, ""),
        ("https://example.com/up", "example.com/up"),
        ("https://example.com/up", ""),
        (r#""class":"display""#, r#""class":"display","product":"(""#),
        (r#""arch":["x86_64"],"#, r#""arch":["../x"],"#),
        (r#""osVersion":"0.4"#, r#""osVersion":"v0.4"#),
        ("1073741824", "-1"),
    ] {
        assert!(FULL.contains(from));
        let broken = FULL.replacen(from, to, 1);
        assert!(serde_json::from_str::<Manifest>(&broken).is_err(), "{to}");
    }
}

#[test]
fn a_refusal_names_the_place_and_the_rule() {
    let broken = FULL.replacen("https://example.com/up", "example.com/up", 1);
    let error = serde_json::from_str::<Manifest>(&broken).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("not a valid URL") && said.contains("line 4"),
        "{said}"
    );
}

/// Packages of later packers leave open which architecture stands in for one that is missing.
#[test]
fn an_image_for_another_architecture_stands_in_where_the_manifest_lets_it() {
    let archive = Archive::open(&include_bytes!("fixtures/two-arch.s9pk")[..]).unwrap();
    let mut json = serde_json::to_value(archive.manifest()).unwrap();
    for (emulation, validates) in [
        (json!({}), false),
        (json!({ "emulateMissing": false }), false),
        (json!({ "emulateMissing": true }), true),
        (json!({ "emulateMissingAs": "aarch64" }), false),
        (json!({ "emulateMissingAs": "x86_64" }), true),
    ] {
        let image = json!({ "source": "packed", "arch": ["x86_64"] });
        let mut image = image.as_object().unwrap().clone();
        image.extend(emulation.as_object().unwrap().clone());
        json["images"] = json!({ "db": image });
        let mut draft = Draft::default();
        for (path, _) in archive
            .tree()
            .walk()
            .filter(|(path, _)| archive.has_file(path))
        {
            let bytes = archive.read(&path, 1 << 20).unwrap();
            draft.add(&path, Content::Bytes(bytes)).unwrap();
        }
        let manifest = serde_json::to_vec(&json).unwrap();
        draft
            .add("manifest.json", Content::Bytes(manifest))
            .unwrap();
        let mut packed = Cursor::new(Vec::new());
        pack(&draft, &Key::from_seed(&[1; 32]), &mut packed).unwrap();
        let packed = Archive::open(packed.into_inner()).unwrap();
        assert_eq!(
            packed.validate(Some("aarch64")).is_ok(),
            validates,
            "{emulation}"
        );
    }
}

const FULL: &str = r##"{"id":"full","version":"#knots:26.1.0:2","canMigrateTo":"!",
"canMigrateFrom":"(>=25.0:0 <27.0:0) || (#knots)","title":"Full",
"description":{"short":{"en_US":"short","de_DE":"kurz"},"long":"long"},"releaseNotes":"new",
"gitHash":null,"license":"MIT","upstreamRepo":"https://example.com/up","osVersion":"0.4.0-beta.1",
"plugins":["url-v0"],"satisfies":["26.1.0:2"],
"images":{"main":{"source":"packed","arch":["x86_64"],"emulateMissingAs":"x86_64"}},
"volumes":["main","BACKUP"],"dependencies":{"other":{"description":null,"optional":true}},
"hardwareRequirements":{"device":[{"description":"a GPU","class":"display","driver":"amdgpu"}],
"ram":1073741824,"arch":["x86_64"]},"unknown":1}"##;
