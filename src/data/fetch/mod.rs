//! Fetching a data set: download or take its files, check them, unpack what belongs to it, and put it in its place whole.
//!
//! All happens below one folder of data sets, ROOT. The files arrive in `ROOT/.NAME.fetch`, which a failure leaves for
//! the next try; the set grows in `ROOT/.NAME.unpack` and becomes `ROOT/NAME` by one rename at the end. `ROOT/.NAME.lock`
//! keeps a second process away.

mod archive;
mod http;
pub(crate) mod sums;
mod verify;

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub use sums::Verdict;
pub use verify::{Finding, verify};

use super::origin::{self, Download};
use super::{Manifest, place};
use crate::error::{Error, Result};
use crate::files::sync_folder;

/// What is told while files move.
pub trait Progress {
    /// Work begins, of which `done` of `total` bytes, if that is known, are done already.
    fn begin(&mut self, what: &str, total: Option<u64>, done: u64);
    /// So many bytes more.
    fn advance(&mut self, bytes: u64);
    /// A remark.
    fn note(&mut self, text: &str);
}

/// What to fetch, and from where.
pub struct Request<'a> {
    /// The data set.
    pub manifest: &'a Manifest,
    /// The folder of data sets in which it gets its own.
    pub root: &'a Path,
    /// Files that were downloaded already, or folders of them; nothing is asked of a server then.
    pub from: &'a [PathBuf],
    /// Another address than the manifest's: of the file, or, ending in `/`, of a folder with the set's files.
    pub url: Option<&'a str>,
    /// Whether an archive stays in the set's folder.
    pub keep_archive: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The set is in this folder now.
    Installed(PathBuf),
    /// It was there before.
    Here(PathBuf),
}

/// Fetches a data set, whole or not at all.
///
/// # Errors
/// [`Error::Usage`] for a set that is not to be fetched, or files of `from` that are not its; [`Error::Data`] where no
/// server gives it, a sum is wrong, an archive is damaged or hostile, or another process fetches it; [`Error::Io`]
/// when the disk refuses. What `ROOT/NAME` was it still is, then.
pub fn fetch(request: &Request, progress: &mut dyn Progress) -> Result<Outcome> {
    let Request { manifest, root, .. } = *request;
    if manifest.download.is_empty() {
        let (what, hint) = manifest.unfetched();
        return Err(Error::usage(what, hint));
    }
    let urls = addresses(request)?;
    let taken = taken(request)?;
    fs::create_dir_all(root).map_err(Error::io(root, "create"))?;
    let name = &manifest.name;
    let hidden = |end: &str| root.join(format!(".{name}.{end}"));
    let _lock = lock(&hidden("lock"), manifest)?;
    let target = root.join(name);
    if let Some(here) = occupied(manifest, &target)? {
        return Ok(here);
    }

    let (inbox, stage) = (hidden("fetch"), hidden("unpack"));
    let mut arrived = Vec::new();
    for ((download, urls), taken) in manifest.download.iter().zip(&urls).zip(taken) {
        arrived.push(match taken {
            Some(file) => check_taken(file, download, progress)?,
            None => arrive(request, download, urls, &inbox, progress)?,
        });
    }
    remove_folder(&stage)?;
    fs::create_dir_all(&stage).map_err(Error::io(&stage, "create"))?;
    let staged = fill(request, &arrived, &stage, progress);
    let done = staged.and_then(|files| finish(request, &stage, &target, files, progress));
    done.inspect_err(|e| {
        let _ = remove_folder(&stage);
        // Downloads stay for the next try, but for those that no sum vouches for where the set turned out to be wrong.
        if request.from.is_empty() && matches!(e, Error::Data { .. }) {
            let doubtful = manifest.download.iter().zip(&arrived).filter(|(d, _)| d.known().sum.is_none());
            doubtful.for_each(|(_, file)| drop(fs::remove_file(file)));
        }
    })?;
    remove_folder(&inbox)?;
    Ok(Outcome::Installed(target))
}

/// Puts the set's files into the empty folder `stage`; their paths below it.
fn fill(request: &Request, arrived: &[PathBuf], stage: &Path, progress: &mut dyn Progress) -> Result<Vec<String>> {
    let fetched = request.from.is_empty();
    let mut files = Vec::new();
    let all = || request.manifest.download.iter().zip(arrived);
    for (download, file) in all().filter(|(d, _)| d.is_archive()) {
        let unpacked = archive::unpack(file, download, stage, progress).inspect_err(|e| {
            // The next try shall not take a bad archive again.
            if fetched && matches!(e, Error::Data { .. }) {
                let _ = fs::remove_file(file);
            }
        });
        files.extend(unpacked?);
    }
    for (download, file) in all().filter(|(d, _)| !d.is_archive() || request.keep_archive) {
        let place = stage.join(download.file_name());
        let put = if fetched { link(file, &place) } else { fs::copy(file, &place).map(drop) };
        put.map_err(Error::io(&place, "write"))?;
        files.push(download.file_name().to_string());
    }
    Ok(files)
}

/// Gives a download a second name; where the file system has no links, a copy.
fn link(file: &Path, place: &Path) -> std::io::Result<()> {
    match fs::hard_link(file, place) {
        // Two downloads bring it, of which `finish` tells; a copy could write onto itself.
        Err(e) if e.kind() != ErrorKind::AlreadyExists => fs::copy(file, place).map(drop),
        _ => Ok(()),
    }
}

/// Checks the staged set, makes it durable, and renames it to its place.
fn finish(
    request: &Request,
    stage: &Path,
    target: &Path,
    mut files: Vec<String>,
    progress: &mut dyn Progress,
) -> Result<()> {
    for file in &request.manifest.file {
        let path = stage.join(&file.path);
        if let Verdict::Wrong(what) = sums::check(&path, file.known(), progress)? {
            let hint = "the manifest's [[file]] and [[download]] do not belong together: correct the manifest";
            return Err(Error::data(&path, what, hint));
        }
    }
    files.sort();
    if let Some(twice) = files.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::data(stage.join(&twice[0]), "two downloads bring this file", "correct the manifest"));
    }
    sums::seal(stage, &files, progress)?;
    let mut folders: Vec<_> = files.iter().filter_map(|f| Path::new(f).parent()).collect();
    folders.dedup();
    folders.iter().for_each(|folder| sync_folder(&stage.join(folder)));
    sync_folder(stage);
    // Where an empty folder is in the way, not every system renames over it.
    match fs::remove_dir(target) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io(target, "replace")(e)),
        _ => {}
    }
    fs::rename(stage, target).map_err(Error::io(target, "create"))?;
    sync_folder(request.root);
    Ok(())
}

/// The set's folder if it is there already; an error if something else is.
fn occupied(manifest: &Manifest, target: &Path) -> Result<Option<Outcome>> {
    let mut entries = match fs::read_dir(target) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(target, "read")(e)),
    };
    if entries.next().is_none() {
        return Ok(None);
    }
    match place::holds(manifest, target) {
        true => Ok(Some(Outcome::Here(target.into()))),
        false => {
            let what = format!("this folder is in the way: it is not empty, but does not hold {}", manifest.name);
            Err(Error::data(target, what, "move it away, or name another folder by --data-dir"))
        }
    }
}

/// For each download its addresses.
fn addresses(request: &Request) -> Result<Vec<Vec<String>>> {
    let downloads = &request.manifest.download;
    let Some(url) = request.url else {
        let all = |d: &Download| std::iter::once(&d.url).chain(&d.mirrors).cloned().collect();
        return Ok(downloads.iter().map(all).collect());
    };
    if !url.starts_with("http://") && !url.starts_with("https://") {
        let what = format!("--url {url} is neither an http nor an https address");
        return Err(Error::usage(what, "a file that is here already is named by --from FILE"));
    }
    match (url.ends_with('/'), downloads.as_slice()) {
        (true, _) => Ok(downloads.iter().map(|d| vec![format!("{url}{}", d.file_name())]).collect()),
        (false, [_]) => Ok(vec![vec![url.into()]]),
        (false, _) => {
            let what = format!("--url {url} names one file, but {} has {}", request.manifest.name, downloads.len());
            Err(Error::usage(what, "name the folder that has all of them, with a / at the end"))
        }
    }
}

/// For each download the file of `from` that it is to be taken from; none without `from`.
fn taken(request: &Request) -> Result<Vec<Option<PathBuf>>> {
    let (downloads, from) = (&request.manifest.download, request.from);
    if from.is_empty() {
        return Ok(vec![None; downloads.len()]);
    }
    for path in from {
        fs::metadata(path).map_err(Error::io(path, "read"))?;
    }
    if let ([file], [_]) = (from, downloads.as_slice())
        && file.is_file()
    {
        return Ok(vec![Some(file.clone())]);
    }
    let find = |download: &Download| {
        let name = download.file_name();
        let file = from.iter().find_map(|path| match path.is_dir() {
            true => Some(path.join(name)).filter(|file| file.is_file()),
            false => path.file_name().is_some_and(|n| n == name).then(|| path.clone()),
        });
        let hint = "--from takes the file, or the folder that holds it; it may be repeated";
        file.map(Some).ok_or_else(|| Error::usage(format!("--from names no file {name}"), hint))
    };
    downloads.iter().map(find).collect()
}

/// The file that the user has, with the right sum.
fn check_taken(file: PathBuf, download: &Download, progress: &mut dyn Progress) -> Result<PathBuf> {
    match sums::check(&file, download.known(), progress)? {
        Verdict::Wrong(what) => {
            let hint = "it is damaged or another file; a set of your own needs a TOML of its own, by its path";
            return Err(Error::data(file, what, hint));
        }
        Verdict::Unknown(what) => progress.note(&format!("{}: {what}", file.display())),
        Verdict::Right(_) => {}
    }
    Ok(file)
}

/// The downloaded file, with the right sum.
fn arrive(
    request: &Request,
    download: &Download,
    urls: &[String],
    inbox: &Path,
    progress: &mut dyn Progress,
) -> Result<PathBuf> {
    fs::create_dir_all(inbox).map_err(Error::io(inbox, "create"))?;
    let target = inbox.join(download.file_name());
    if target.exists() {
        // Of a try that failed later.
        if !matches!(sums::check(&target, download.known(), progress)?, Verdict::Wrong(_)) {
            return Ok(target);
        }
        fs::remove_file(&target).map_err(Error::io(&target, "remove"))?;
    }
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let Err(reasons) = http::download(&urls, download.known(), &target, progress)? else {
        if download.known().sum.is_none() {
            progress.note(&format!("{}: no sum of it is known to compare it with", download.file_name()));
        }
        return Ok(target);
    };
    let (name, reference) = (&request.manifest.name, request.manifest.reference());
    let what = format!("cannot be fetched\n    {}", reasons.join("\n    "));
    let hint = format!(
        "the same command tries again, and goes on with what has arrived; or get {} in another way and run \
         `s3gpu dataset fetch {reference} --from FILE`; --url names another server",
        download.file_name()
    );
    Err(Error::data(request.root.join(name), what, hint))
}

/// Keeps other processes from fetching the same set; ends with the process, however that ends.
fn lock(path: &Path, manifest: &Manifest) -> Result<File> {
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = open.map_err(Error::io(path, "create"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        // Some network file systems know no locks.
        Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(e)) => Err(Error::io(path, "lock")(e)),
        Err(TryLockError::WouldBlock) => {
            let what = format!("another s3gpu process is fetching {}", manifest.name);
            Err(Error::data(path, what, "wait for its end, or name another folder by --data-dir"))
        }
    }
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(folder, "remove")(e)),
        _ => Ok(()),
    }
}

/// A path's last part, for people.
fn name_of(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}
