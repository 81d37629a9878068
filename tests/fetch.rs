//! `s3gpu dataset fetch`: servers that behave or do not, archives that mean well or do not, disks and processes in the way.

mod program;
mod server;
mod sets;

use std::fs;
use std::process::Command;

use program::{Place, Said, records};
use server::{Answer, Server};
use sets::*;

#[test]
fn a_set_is_fetched_whole_and_once() {
    let file = good();
    let server = Server::of(&file);
    let place = place(&[&server], &size_and_sum(&file));
    let said = run(&place, FETCH).ok();
    assert!(said.out.contains("sets/mine: fetched and checked") && said.err.contains("licence: "), "{}", said.out);
    assert_installed(&place);
    assert_eq!(server.asked().len(), 1);
    assert_eq!(server.asked()[0].path, "/sets/mine.tar.gz");
    let said = run(&place, FETCH).ok();
    assert!(said.out.contains("here already") && server.asked().len() == 1, "{}", said.out);
    // Damage is found, by the list that fetching left.
    let mut bytes = place.get("sets/mine/data_batch_2.bin");
    bytes[4000] ^= 1;
    place.put("sets/mine/data_batch_2.bin", &bytes);
    let said = run(&place, "dataset verify mine.toml --data-dir sets");
    assert!(said.out.contains("1 of 3 files are not as they were fetched; first data_batch_2.bin"), "{}", said.out);
    said.fails(1, &["sets/mine", "not mine as it is published", "dataset fetch mine.toml"]);
    fs::remove_file(place.path("sets/mine/test_batch.bin")).expect("a file");
    let said = run(&place, "dataset verify mine.toml --data-dir sets");
    assert!(said.out.contains("test_batch.bin: no such file"), "{}", said.out);
}

#[test]
fn a_broken_connection_is_gone_on_from() {
    let file = good();
    let half = file.len() / 2;
    let body = file.clone();
    let server = Server::new(move |n, asked| match n {
        0 => Answer::whole(&body).cut(half),
        1 => Answer::rest(&body, asked.from.unwrap_or_default()).cut(100),
        _ => Answer::good(&body, asked),
    });
    // Without a sum, too: the server's mark says that it is the same file.
    for known in [size_and_sum(&file), String::new()] {
        let place = place(&[&server], &known);
        let before = server.asked().len();
        let said = run(&place, FETCH).ok();
        assert_installed(&place);
        let asked = &server.asked()[before..];
        if before == 0 {
            assert_eq!(asked.iter().map(|a| a.from).collect::<Vec<_>>(), [None, Some(half), Some(half + 100)]);
            assert_eq!(asked[1].if_range.as_deref(), Some("\"v1\""));
            assert!(said.err.contains("going on from there"), "{}", said.err);
        }
    }
}

#[test]
fn the_next_command_goes_on_where_the_last_one_stopped() {
    let file = good();
    let half = file.len() / 2;
    for known in [size_and_sum(&file), String::new()] {
        let body = file.clone();
        let server = Server::new(move |n, asked| match n {
            0 => Answer::whole(&body).cut(half),
            1 => Answer::status("503 Service Unavailable"),
            2 => Answer::status("503 Service Unavailable"),
            _ => Answer::good(&body, asked),
        });
        let place = place(&[&server], &known);
        run(&place, FETCH).fails(1, &["sets/mine", "503", "goes on with what has arrived", "--from FILE", "--url"]);
        assert_absent(&place);
        assert_eq!(place.get("sets/.mine.fetch/mine.tar.gz.part"), file[..half]);
        run(&place, FETCH).ok();
        assert_installed(&place);
        let last = server.asked().pop().expect("a request");
        assert_eq!((last.from, last.if_range.as_deref()), (Some(half), Some("\"v1\"")));
    }
}

#[test]
fn only_a_correct_partial_reply_is_gone_on_from() {
    let file = good();
    let part = &file[..file.len() / 3];
    type Wrong = fn(&[u8], usize) -> Answer;
    let wrong: [(Wrong, &str, usize); 6] = [
        (|file, _| Answer::whole(file), "sends the whole file", 1),
        (|file, from| Answer::rest(file, from - 10), "another part", 2),
        (
            |file, from| {
                let mut answer = Answer::rest(file, from);
                answer.head = answer.head.replace(&format!("/{}", file.len()), "/*");
                answer
            },
            "another part",
            2,
        ),
        (
            |file, from| {
                let mut answer = Answer::rest(file, from);
                answer.head = answer.head.replace(&format!("/{}", file.len()), &format!("/{}", file.len() + 7));
                answer
            },
            "another part",
            2,
        ),
        (
            |file, from| {
                let mut answer = Answer::rest(file, from);
                answer.head = answer.head.replace("Content-Range", "X-Range");
                answer
            },
            "another part",
            2,
        ),
        (|_, _| Answer::status("416 Range Not Satisfiable"), "does not go on", 2),
    ];
    for (answer, says, requests) in wrong {
        let body = file.clone();
        let server = Server::new(move |_, asked| match asked.from {
            Some(from) => answer(&body, from),
            None => Answer::whole(&body),
        });
        let place = place(&[&server], &size_and_sum(&file));
        place.put("sets/.mine.fetch/mine.tar.gz.part", part);
        let said = run(&place, FETCH).ok();
        assert!(said.err.contains(says) && said.err.contains("starting over"), "{says}: {}", said.err);
        assert_installed(&place);
        assert_eq!(server.asked().len(), requests, "{says}");
    }
}

#[test]
fn a_part_that_may_be_of_another_file_is_not_gone_on_from() {
    let file = good();
    let server = Server::of(&file);
    // Garbage of a right length: its sum tells, and the file is fetched anew.
    let place_with_sum = place(&[&server], &size_and_sum(&file));
    place_with_sum.put("sets/.mine.fetch/mine.tar.gz.part", &vec![7; 500]);
    let said = run(&place_with_sum, FETCH).ok();
    assert!(said.err.contains("starting over"), "{}", said.err);
    assert_installed(&place_with_sum);
    assert_eq!(server.asked().iter().map(|a| a.from).collect::<Vec<_>>(), [Some(500), None]);
    // Without a sum nothing would tell: no range is asked for.
    let place = place(&[&server], "");
    place.put("sets/.mine.fetch/mine.tar.gz.part", &vec![7; 500]);
    let said = run(&place, FETCH).ok();
    assert!(said.err.contains("no sum of it is known"), "{}", said.err);
    assert_installed(&place);
    assert_eq!(server.asked().last().map(|a| a.from), Some(None));
}

#[test]
fn a_wrong_sum_or_size_is_refused_and_the_mirror_asked() {
    let file = good();
    let mut other = file.clone();
    other[200] ^= 1;
    let longer = [&file[..], b"x"].concat();
    let endless = file.clone();
    // No length is announced, and more comes than the manifest says.
    let endless = Server::new(move |_, _| Answer {
        head: "HTTP/1.1 200 OK\r\n".into(),
        body: [&endless[..], &[0; 100_000]].concat(),
    });
    let [wrong, long, good] = [&other, &longer, &file].map(|f| Server::of(f));
    for (server, says) in [(&wrong, "its SHA-256 is"), (&long, "bytes, not"), (&endless, "sends more than")] {
        let alone = place(&[server], &size_and_sum(&file));
        run(&alone, FETCH).fails(1, &["sets/mine", says, "--from FILE"]);
        assert_absent(&alone);
        assert!(alone.names("sets/.mine.fetch").is_empty(), "{:?}", alone.names("sets/.mine.fetch"));
        let mirrored = place(&[server, &good], &size_and_sum(&file));
        let said = run(&mirrored, FETCH).ok();
        assert!(said.err.contains(says), "{}", said.err);
        assert_installed(&mirrored);
    }
}

#[test]
fn mirrors_are_tried_in_order() {
    let file = good();
    let missing = Server::new(|_, _| Answer::status("404 Not Found"));
    let server = Server::of(&file);
    let place = place(&[&missing, &server], &size_and_sum(&file));
    let said = run(&place, FETCH).ok();
    assert!(said.err.contains("404 Not Found"), "{}", said.err);
    assert_installed(&place);
    let alone = self::place(&[&missing, &missing], &size_and_sum(&file));
    let said = run(&alone, FETCH).fails(1, &["404 Not Found", "goes on"]);
    assert_eq!(said.err.matches("error: ").count(), 1);
    assert_absent(&alone);
}

#[test]
fn no_network_is_an_error_with_a_way_out() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let place = Place::new();
    place.put("mine.toml", toml(&members(&[format!("http://{port}/mine.tar.gz")], "")).as_bytes());
    let said = run(&place, FETCH);
    said.fails(1, &["sets/mine", "connection refused", "dataset fetch mine.toml --from FILE", "mine.tar.gz"]);
    assert_absent(&place);
}

#[test]
fn hostile_and_damaged_archives_leave_nothing() {
    let one = records(0..14);
    let with = |kind, name: &str, bytes: &[u8], link: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "cifar-10-batches-bin/data_batch_1.bin", tar::EntryType::Regular, &one, "");
        append(&mut tar, name, kind, bytes, link);
        gzip(&tar.into_inner().expect("a tar"))
    };
    use tar::EntryType as E;
    let file = |name: &str| with(E::Regular, name, b"x", "");
    let inside = "cifar-10-batches-bin/x.bin";
    let zeros = vec![0; 66 << 20];
    let mut cut = good();
    cut.truncate(cut.len() * 2 / 3);
    let mut crc = good();
    let at = crc.len() - 6;
    crc[at] ^= 1;
    const OUT: &str = "leads out of the archive";
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (file("../evil.bin"), &["../evil.bin", OUT]),
        (file("cifar-10-batches-bin/../../evil.bin"), &["evil.bin", OUT]),
        (file("/evil.bin"), &["/evil.bin", OUT]),
        (with(E::Symlink, inside, b"", "/etc"), &["x.bin", "a symbolic link"]),
        (with(E::Symlink, "anywhere", b"", ".."), &["anywhere", "a symbolic link"]),
        (with(E::Link, inside, b"", "../mine.toml"), &["x.bin", "a hard link"]),
        (with(E::Char, inside, b"", ""), &["x.bin", "a device"]),
        (with(E::Fifo, inside, b"", ""), &["x.bin", "neither a file nor a folder"]),
        (with(E::GNUSparse, inside, b"", ""), &["cannot be unpacked"]),
        (file("cifar-10-batches-bin/a:b.bin"), &["a:b.bin", "not every system"]),
        (file("cifar-10-batches-bin/data_batch_1.bin"), &["data_batch_1.bin twice"]),
        (with(E::Regular, inside, &zeros[..200_000], ""), &["more than the 200000 bytes"]),
        // What is not unpacked is bounded, too.
        (with(E::Regular, "other", &zeros, ""), &["far more bytes"]),
        // Names are read into memory.
        (with(E::GNULongName, "././@LongLink", &zeros[..3 << 20], ""), &["cannot be unpacked", "name takes more than"]),
        (with(E::XHeader, "x", &zeros[..3 << 20], ""), &["cannot be unpacked", "name takes more than"]),
        (archive(&[("other/data_batch_1.bin", &one)]), &["no member cifar-10-batches-bin/*.bin"]),
        (cut, &["damaged"]),
        (crc, &["cannot be unpacked"]),
        (b"<html>please log in</html>".repeat(40), &["damaged"]),
        (Vec::new(), &["no member"]),
    ];
    for (bytes, words) in cases {
        let server = Server::of(&bytes);
        let place = place(&[&server], "");
        run(&place, FETCH).fails(1, &[&["mine.tar.gz: "], words].concat());
        assert_absent(&place);
        assert!(!place.names(".").iter().any(|n| n.contains("evil")), "{words:?}");
        assert!(!std::path::Path::new("/evil.bin").exists());
        // It is not taken for good by the next try.
        assert!(place.names("sets/.mine.fetch").is_empty(), "{words:?}");
    }
}

#[test]
fn a_file_that_is_here_already_is_taken() {
    let file = good();
    let nowhere = ["http://127.0.0.1:9/mine.tar.gz".to_string()];
    let place = Place::new();
    place.put("mine.toml", toml(&members(&nowhere, &size_and_sum(&file))).as_bytes());
    place.put("downloads/some name.tgz", &file);
    let from = |path: &str| {
        let mut command = command(&place, FETCH);
        Said::of(command.arg("--from").arg(path).output().expect("the program starts"))
    };
    from("downloads/some name.tgz").ok();
    assert_installed(&place);
    assert!(place.path("downloads/some name.tgz").exists(), "a user's file stays");

    // Kept beside the set, and checked there.
    fs::remove_dir_all(place.path("sets")).expect("a folder");
    place.put("downloads/mine.tar.gz", &file);
    run(&place, &format!("{FETCH} --from downloads --keep-archive")).ok();
    assert!(place.get("sets/mine/mine.tar.gz") == file);
    let said = run(&place, "dataset verify mine.toml --data-dir sets").ok();
    assert!(said.out.contains(&sum(&file)) && said.out.contains("0 wrong, 0 not verified"), "{}", said.out);

    fs::remove_dir_all(place.path("sets")).expect("a folder");
    place.put("downloads/mine.tar.gz", &file[..1000]);
    place.put("other.bin", b"x");
    let size = format!("1000 bytes, not {}", file.len());
    from("downloads").fails(1, &["downloads/mine.tar.gz", &size, "damaged or another file"]);
    from("nowhere.tgz").fails(1, &["nowhere.tgz", "cannot read", "path"]);
    from("data").fails(2, &["--from names no file mine.tar.gz", "may be repeated"]);
    let both = run(&place, &format!("{FETCH} --from other.bin --url http://127.0.0.1:9/"));
    assert_eq!(both.code, Some(2));
    assert!(!place.path("sets/mine").exists());
}

#[test]
fn sets_of_several_files_are_kept_as_they_are() {
    let place = Place::new();
    let downloads: Vec<_> = FILES
        .iter()
        .map(|name| {
            format!("url = \"http://127.0.0.1:9/a/{name}\"\n{}\n", size_and_sum(&place.get(&format!("data/{name}"))))
        })
        .collect();
    place.put("mine.toml", toml(&downloads.join("\n[[download]]\n")).as_bytes());
    let files: Vec<_> = FILES.iter().map(|name| place.get(&format!("data/{name}"))).collect();
    let server = Server::new(move |_, asked| {
        let index = FILES.iter().position(|name| asked.path == format!("/b/{name}"));
        index.map_or_else(|| Answer::status("404 Not Found"), |i| Answer::good(&files[i], asked))
    });
    run(&place, &format!("{FETCH} --url {}", server.url("b/x"))).fails(2, &["names one file", "with a / at the end"]);
    run(&place, &format!("{FETCH} --url {}", server.url("c/"))).fails(1, &["404", "data_batch_1.bin"]);
    run(&place, &format!("{FETCH} --url {}", server.url("b/"))).ok();
    assert_installed(&place);

    fs::remove_dir_all(place.path("sets")).expect("a folder");
    run(&place, &format!("{FETCH} --from data/data_batch_1.bin --from data")).ok();
    assert_installed(&place);
    assert!(place.path("data/test_batch.bin").exists());
}

#[test]
fn what_was_downloaded_outlives_a_failure_at_the_end() {
    let place = Place::new();
    let files = FILES.map(|name| place.get(&format!("data/{name}")));
    let bodies = files.clone();
    let server = Server::new(move |_, asked| {
        let index = FILES.iter().position(|name| asked.path == format!("/b/{name}")).expect("a file of the set");
        Answer::good(&bodies[index], asked)
    });
    // The sums of the first and the last are known; that of the second is not.
    let downloads = |second: &str| -> Vec<String> {
        let known = [size_and_sum(&files[0]), String::new(), size_and_sum(&files[2])];
        let part = |(name, known): (&&str, String)| format!("url = {:?}\n{known}\n", server.url(&format!("b/{name}")));
        let mut all: Vec<_> = FILES.iter().zip(known).map(part).collect();
        all.push(format!("[[file]]\npath = \"data_batch_2.bin\"\nsha256 = \"{second}\"\n"));
        all
    };
    let write = |second: &str| {
        let [a, b, c, file] = downloads(second).try_into().expect("four parts");
        let text = toml(&[a, b, c].join("\n[[download]]\n"));
        place.put("mine.toml", format!("{text}\n{file}").as_bytes());
    };
    write(&"0".repeat(64));
    run(&place, FETCH).fails(1, &["data_batch_2.bin", "its SHA-256 is", "correct the manifest"]);
    assert_absent(&place);
    assert_eq!(server.asked().len(), 3);
    assert_eq!(place.names("sets/.mine.fetch"), [FILES[0], FILES[2]]);
    write(&sum(&files[1]));
    run(&place, FETCH).ok();
    assert_installed(&place);
    let again: Vec<_> = server.asked()[3..].iter().map(|a| a.path.clone()).collect();
    assert_eq!(again, [format!("/b/{}", FILES[1])], "what has a sum of its own is not asked for again");
}

#[test]
fn a_second_process_is_kept_away() {
    let file = good();
    let body = file.clone();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let server = Server::new(move |_, asked| {
        // Until the other end is dropped.
        let _ = held.lock().expect("no panic").recv();
        Answer::good(&body, asked)
    });
    let place = place(&[&server], &size_and_sum(&file));
    let first = command(&place, FETCH).spawn().expect("the program starts");
    while server.asked().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    run(&place, FETCH).fails(1, &["another s3gpu process is fetching mine", "wait"]);
    drop(hold);
    assert!(first.wait_with_output().expect("it ends").status.success());
    assert_installed(&place);
}

#[test]
fn what_a_killed_process_left_is_cleared_away() {
    let file = good();
    let server = Server::of(&file);
    let place = place(&[&server], &size_and_sum(&file));
    place.put("sets/.mine.unpack/data_batch_9.bin", b"half");
    place.put("sets/.mine.fetch/mine.tar.gz.part", &file[..50]);
    fs::create_dir_all(place.path("sets/mine")).expect("a folder");
    run(&place, FETCH).ok();
    assert_installed(&place);
    fs::remove_dir_all(place.path("sets/mine")).expect("a folder");
    place.put("sets/mine/holiday.txt", b"mine");
    run(&place, FETCH).fails(1, &["sets/mine", "in the way", "move it away"]);
    assert_eq!(place.get("sets/mine/holiday.txt"), b"mine");
}

/// A disk of its own that is too small, then larger.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up() {
    struct Mounted(std::path::PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(&self.0).status();
        }
    }
    let file = good();
    let server = Server::of(&file);
    let place = place(&[&server], &size_and_sum(&file));
    fs::create_dir(place.path("sets")).expect("a folder");
    let mount = |options: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(place.path("sets"));
        mount.output().is_ok_and(|o| o.status.success())
    };
    if !mount("size=16k") {
        program::skip("a disk that fills up", "run the tests as root, who may mount one (CAP_SYS_ADMIN)");
        return;
    }
    let _mounted = Mounted(place.path("sets"));
    assert!(file.len() > 40_000, "the test's archive has only {} bytes", file.len());
    run(&place, FETCH).fails(1, &["mine.tar.gz.part", "disk is full", "goes on from there", "--data-dir"]);
    assert_absent(&place);

    // Room for the archive, but not for what is in it.
    assert!(mount(&format!("remount,size={}k", file.len() / 1000 + 30)));
    run(&place, FETCH).fails(1, &["disk is full", "another folder"]);
    assert_absent(&place);
    let ranges: Vec<_> = server.asked().iter().map(|a| a.from).collect();
    assert!(ranges.len() == 2 && ranges[1] > Some(1000), "{ranges:?}");

    assert!(mount("remount,size=2m"));
    run(&place, FETCH).ok();
    assert_eq!(server.asked().len(), 2, "the archive was there");
    assert_installed(&place);
}
