//! A small data set of a user's own: its TOML, its archive, and the program that fetches it.

// Each test binary uses a part of this.
#![allow(dead_code)]

use std::io::Write;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::program::{Place, Said, TEST_IMAGES, TRAIN_IMAGES, records};
use crate::server::Server;

pub const FILES: [&str; 3] = ["data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"];

/// A .tar.gz of these members.
pub fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        append(&mut tar, name, tar::EntryType::Regular, bytes, "");
    }
    gzip(&tar.into_inner().expect("a tar"))
}

/// A member with any path, also one that the builder would refuse.
pub fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, bytes: &[u8], link: &str) {
    let mut header = tar::Header::new_gnu();
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    tar.append(&header, bytes).expect("a member");
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// The official archive in small: the files of [`Place`], and one that does not belong to the set.
pub fn good() -> Vec<u8> {
    let (one, two) = (records(0..14), records(14..TRAIN_IMAGES));
    let test = records(100..100 + TEST_IMAGES);
    archive(&[
        ("./cifar-10-batches-bin/data_batch_1.bin", &one),
        ("cifar-10-batches-bin/data_batch_2.bin", &two),
        ("cifar-10-batches-bin/readme.html", b"<html>"),
        ("cifar-10-batches-bin/test_batch.bin", &test),
    ])
}

pub fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A user's TOML for a set named `mine` in CIFAR-10's layout.
pub fn toml(download: &str) -> String {
    let built_in = include_str!("../../datasets/cifar10.toml");
    let own = built_in.split("\n[").next().expect("what comes before the tables");
    let own = own.replacen("name = \"cifar10\"", "name = \"mine\"", 1);
    format!("{own}\n[images]\ntrain = {TRAIN_IMAGES}\ntest = {TEST_IMAGES}\n\n[[download]]\n{download}")
}

pub fn members(urls: &[String], known: &str) -> String {
    let mirrors: Vec<_> = urls[1..].iter().map(|m| format!("{m:?}")).collect();
    format!(
        "url = {:?}\nmirrors = [{}]\n{known}\nmembers = [\"cifar-10-batches-bin/*.bin\"]\nstrip = 1\nunpacked = 200000\n",
        urls[0],
        mirrors.join(", ")
    )
}

pub fn size_and_sum(file: &[u8]) -> String {
    format!("size = {}\nsha256 = \"{}\"", file.len(), sum(file))
}

/// A place with `mine.toml`, whose file is `file` on the first of these servers.
pub fn place(servers: &[&Server], known: &str) -> Place {
    let place = Place::new();
    let urls: Vec<_> = servers.iter().map(|s| s.url("sets/mine.tar.gz")).collect();
    place.put("mine.toml", toml(&members(&urls, known)).as_bytes());
    place
}

pub const FETCH: &str = "dataset fetch mine.toml --data-dir sets";
pub const PROXIES: [&str; 6] = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// The program, past any proxy.
pub fn command(place: &Place, args: &str) -> Command {
    let mut command = place.command(args);
    for name in PROXIES {
        command.env_remove(name);
    }
    command
}

pub fn run(place: &Place, args: &str) -> Said {
    Said::of(command(place, args).output().expect("the program starts"))
}

/// The set is there and whole, and nothing else but the lock.
pub fn assert_installed(place: &Place) {
    let (mut set, sets) = (place.names("sets/mine"), place.names("sets"));
    assert_eq!(sets, [".mine.lock", "mine"]);
    set.retain(|name| name != "SHA256SUMS");
    assert_eq!(set, FILES);
    for file in FILES {
        assert!(place.get(&format!("sets/mine/{file}")) == place.get(&format!("data/{file}")), "{file}");
    }
    run(place, "dataset verify mine.toml --data-dir sets").ok();
}

/// Nothing is under the final name, nor half unpacked.
pub fn assert_absent(place: &Place) {
    let sets = place.names("sets");
    assert!(sets.iter().all(|name| [".mine.lock", ".mine.fetch"].contains(&name.as_str())), "{sets:?}");
}
