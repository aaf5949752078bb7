//! File operations that cannot leave a directory: every path of a customer's tree goes through one.
//!
//! Each path is resolved by the kernel from the directory's descriptor (`openat2`), without symbolic
//! links, without climbing, and without crossing into another file system. What a customer's
//! processes rename or link meanwhile can make an operation fail; it cannot point it elsewhere.

use crate::error::{Error, Result};
use crate::layout;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A directory that operations are confined to.
#[derive(Debug)]
pub struct Beneath {
    fd: OwnedFd,
    /// For messages only.
    shown: PathBuf,
}

/// Who owns a new file, and who may do what with it.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl Owner {
    /// Of root, with this mode.
    pub const fn root(mode: u32) -> Self {
        Self { uid: 0, gid: 0, mode }
    }
}

/// Every path is looked up under these rules.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Beneath {
    /// Opens a directory by a path that only root can change; symbolic links in it are refused.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(rustix::fs::CWD, path, DIRECTORY, Mode::empty(), resolve)
            .map_err(Error::at(path))?;
        Ok(Self { fd, shown: path.to_owned() })
    }

    /// The known root that an absolute path lies under, and the path below it.
    pub fn place(path: &Path) -> Result<(Self, PathBuf)> {
        for root in layout::ROOTS {
            if let Ok(rest) = path.strip_prefix(root) {
                return Ok((Self::open(root)?, rest.to_owned()));
            }
        }
        Err(Error::internal(format!("{} is no place of ours", path.display())))
    }

    /// Makes a directory that only root enters, with its parents, if it is missing.
    pub fn private_dir(path: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path).map_err(Error::at(path))?;
        Self::open(path)
    }

    /// The directory's descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn name(&self, path: &Path) -> PathBuf {
        self.shown.join(path)
    }

    fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        // EAGAIN: something was renamed during the look-up, and the kernel asks to try again.
        let mut attempts = 0_u32;
        loop {
            let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match rustix::fs::openat2(&self.fd, path, flags, mode, RESOLVE) {
                Err(Errno::AGAIN) if attempts < 100 => attempts += 1,
                result => return result,
            }
        }
    }

    /// The parent's descriptor and the last component.
    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr)> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::internal(format!("{} names no file", path.display())))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let fd =
            self.open_at(parent, DIRECTORY, Mode::empty()).map_err(Error::at(self.name(path)))?;
        Ok((fd, name))
    }

    /// A directory below this one.
    pub fn dir(&self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let shown = self.name(path);
        let fd = self.open_at(path, DIRECTORY, Mode::empty()).map_err(Error::at(&shown))?;
        Ok(Self { fd, shown })
    }

    /// What stands at the path, a symbolic link as such; none when nothing does.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Option<Stat>> {
        let path = path.as_ref();
        match self.open_at(path, OFlags::PATH, Mode::empty()) {
            Ok(fd) => rustix::fs::fstat(&fd).map(Some).map_err(Error::at(self.name(path))),
            // The last component itself is a link: that is something, too.
            Err(Errno::LOOP) => {
                // A link on the way: whatever lies behind it is nothing of this directory.
                let above = path.parent().unwrap_or(Path::new(""));
                if matches!(
                    self.open_at(above, DIRECTORY, Mode::empty()),
                    Err(Errno::LOOP | Errno::NOTDIR)
                ) {
                    return Ok(None);
                }
                let (parent, name) = self.parent(path)?;
                rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map(Some)
                    .map_err(Error::at(self.name(path)))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(Error::at(self.name(path))(e)),
        }
    }

    /// What kind of thing stands at the path.
    pub fn kind(&self, path: impl AsRef<Path>) -> Result<Option<FileType>> {
        Ok(self.stat(path)?.map(|s| FileType::from_raw_mode(s.st_mode)))
    }

    /// Opens a regular file for reading.
    pub fn file(&self, path: impl AsRef<Path>) -> Result<File> {
        let path = path.as_ref();
        let fd = self
            .open_at(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
            .map_err(Error::at(self.name(path)))?;
        let stat = rustix::fs::fstat(&fd).map_err(Error::at(self.name(path)))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::at(self.name(path))("it is not a regular file"));
        }
        Ok(File::from(fd))
    }

    /// A file's content, if there is one; fails when it is longer than `most` bytes.
    pub fn read(&self, path: impl AsRef<Path>, most: u64) -> Result<Option<Vec<u8>>> {
        let path = path.as_ref();
        if self.stat(path)?.is_none() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.file(path)?
            .take(most.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(Error::at(self.name(path)))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
            return Err(Error::at(self.name(path))("it is larger than expected"));
        }
        Ok(Some(bytes))
    }

    /// Makes a new file; fails when something stands there.
    pub fn create(&self, path: impl AsRef<Path>, owner: Owner) -> Result<File> {
        let path = path.as_ref();
        self.try_create(path, owner)?
            .ok_or_else(|| Error::at(self.name(path))("something stands there"))
    }

    /// The same; none when something stands there.
    pub fn try_create(&self, path: impl AsRef<Path>, owner: Owner) -> Result<Option<File>> {
        let path = path.as_ref();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let fd = match self.open_at(path, flags, Mode::from_raw_mode(0o600)) {
            Ok(fd) => fd,
            Err(Errno::EXIST) => return Ok(None),
            Err(e) => return Err(Error::at(self.name(path))(e)),
        };
        give(&fd, owner).map_err(Error::at(self.name(path)))?;
        Ok(Some(File::from(fd)))
    }

    /// Writes a file under another name, makes sure that it is on the disk, and renames it: whoever
    /// looks sees the old content or the new.
    pub fn write(&self, path: impl AsRef<Path>, bytes: &[u8], owner: Owner) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let here = Self { fd: parent, shown: self.name(path.parent().unwrap_or(Path::new(""))) };
        let temporary = new_name(name);
        here.remove(&temporary)?;
        let mut file = here.create(&temporary, owner)?;
        if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_all()) {
            here.remove(&temporary)?;
            return Err(Error::at(self.name(path))(error));
        }
        rustix::fs::renameat(&here.fd, &temporary, &here.fd, name)
            .map_err(Error::at(self.name(path)))?;
        here.sync()
    }

    /// Makes sure that the directory's names are on the disk.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd).map_err(Error::at(&self.shown))
    }

    /// Makes a directory, or takes the one that stands there as it is. Whether it is new.
    pub fn make_dir(&self, path: impl AsRef<Path>, owner: Owner) -> Result<bool> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) if self.kind(path)? == Some(FileType::Directory) => return Ok(false),
            Err(e) => return Err(Error::at(self.name(path))(e)),
        }
        let dir = self.dir(path)?;
        give(&dir.fd, owner).map_err(Error::at(self.name(path)))?;
        Ok(true)
    }

    /// Makes a symbolic link that holds `target`, which nobody follows here.
    pub fn symlink(&self, target: &OsStr, path: impl AsRef<Path>, owner: Owner) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        rustix::fs::symlinkat(target, &parent, name).map_err(Error::at(self.name(path)))?;
        let (uid, gid) = ids(owner);
        rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::at(self.name(path)))
    }

    /// Where a symbolic link points.
    pub fn link_target(&self, path: impl AsRef<Path>) -> Result<OsString> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let target = rustix::fs::readlinkat(&parent, name, Vec::new())
            .map_err(Error::at(self.name(path)))?;
        Ok(OsStr::from_bytes(target.as_bytes()).to_owned())
    }

    /// Gives a regular file a second name where nothing stands.
    pub fn link(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let (old_parent, old) = self.parent(from)?;
        let (new_parent, new) = self.parent(to)?;
        rustix::fs::linkat(&old_parent, old, &new_parent, new, AtFlags::empty())
            .map_err(Error::at(self.name(to)))
    }

    /// Moves something to a name, here or below another directory, where nothing stands.
    pub fn rename(&self, from: impl AsRef<Path>, to: &Self, path: impl AsRef<Path>) -> Result<()> {
        let (from, path) = (from.as_ref(), path.as_ref());
        let (old_parent, old) = self.parent(from)?;
        let (new_parent, new) = to.parent(path)?;
        rustix::fs::renameat_with(&old_parent, old, &new_parent, new, RenameFlags::NOREPLACE)
            .map_err(Error::at(to.name(path)))
    }

    /// The same as [`Self::remove`], with what a write that was cut off has left beside it.
    pub fn clear(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.remove(path)?;
        let Some(name) = path.file_name() else { return Ok(()) };
        let temporary = path.with_file_name(new_name(name));
        if self.stat(path.parent().unwrap_or(Path::new("")))?.is_none() {
            return Ok(());
        }
        self.remove(temporary)
    }

    /// Removes a file, a link or a whole tree; nothing there is well, too.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match self.kind(path)? {
            None => Ok(()),
            Some(FileType::Directory) => {
                let dir = self.dir(path)?;
                for (name, _) in dir.list()? {
                    dir.remove(&name)?;
                }
                drop(dir);
                self.unlink(path, AtFlags::REMOVEDIR)
            }
            Some(_) => self.unlink(path, AtFlags::empty()),
        }
    }

    fn unlink(&self, path: &Path, flags: AtFlags) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::unlinkat(&parent, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::at(self.name(path))(e)),
        }
    }

    /// The names in the directory with their kinds, in order.
    pub fn list(&self) -> Result<Vec<(OsString, FileType)>> {
        let mut found = Vec::new();
        let dir = rustix::fs::Dir::read_from(&self.fd).map_err(Error::at(&self.shown))?;
        for entry in dir {
            let entry = entry.map_err(Error::at(&self.shown))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => self.kind(Path::new(&name))?.unwrap_or(FileType::Unknown),
                kind => kind,
            };
            found.push((name, kind));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Gives a file or directory an owner and a mode. Symbolic links get an owner only.
    pub fn set_owner(&self, path: impl AsRef<Path>, owner: Owner) -> Result<()> {
        let path = path.as_ref();
        match self.kind(path)? {
            Some(FileType::Directory | FileType::RegularFile) => {
                let fd = self
                    .open_at(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
                    .map_err(Error::at(self.name(path)))?;
                give(&fd, owner).map_err(Error::at(self.name(path)))
            }
            _ => {
                let (parent, name) = self.parent(path)?;
                let (uid, gid) = ids(owner);
                rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(Error::at(self.name(path)))
            }
        }
    }
}

/// A name beside `name` for a file that is being written.
fn new_name(name: &OsStr) -> OsString {
    let mut text = OsString::from(".");
    text.push(name);
    text.push(".migrapanel-new");
    text
}

fn ids(owner: Owner) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
}

/// The owner first: a change of owner takes set-id bits away, and a wide mode comes last.
fn give(fd: &OwnedFd, owner: Owner) -> rustix::io::Result<()> {
    let (uid, gid) = ids(owner);
    rustix::fs::fchown(fd, uid, gid)?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(owner.mode & 0o777))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mine(mode: u32) -> Owner {
        let uid = rustix::process::getuid().as_raw();
        Owner { uid, gid: rustix::process::getgid().as_raw(), mode }
    }

    #[test]
    fn links_lead_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("victim"), "v").unwrap();
        let top = tempfile::tempdir().unwrap();
        symlink(outside.path(), top.path().join("out")).unwrap();
        symlink(outside.path().join("victim"), top.path().join("file")).unwrap();
        let top = Beneath::open(top.path().canonicalize().unwrap()).unwrap();
        assert!(top.file("out/victim").is_err());
        assert!(top.create("out/new", mine(0o600)).is_err());
        assert!(top.write("out/victim", b"x", mine(0o600)).is_err());
        assert!(top.file("file").is_err());
        assert!(top.file("../victim").is_err());
        assert_eq!(top.kind("file").unwrap(), Some(FileType::Symlink));
        assert_eq!(top.kind("out/victim").unwrap(), None);
        top.remove("out/victim").unwrap();
        assert!(top.set_owner("file", mine(0o777)).is_ok());
        top.remove("out").unwrap();
        top.write("file", b"x", mine(0o640)).unwrap();
        assert_eq!(top.read("file", 10).unwrap().unwrap(), b"x");
        assert_eq!(std::fs::read(outside.path().join("victim")).unwrap(), b"v");
    }

    #[test]
    fn trees_go_whole_and_renames_never_overwrite() {
        let top = tempfile::tempdir().unwrap();
        let top = Beneath::open(top.path().canonicalize().unwrap()).unwrap();
        for dir in ["a", "a/b", "a/b/c"] {
            assert!(top.make_dir(dir, mine(0o700)).unwrap());
        }
        top.write("a/b/c/f", b"1", mine(0o600)).unwrap();
        top.symlink(OsStr::new("/etc"), "a/b/l", mine(0o777)).unwrap();
        top.make_dir("d", mine(0o700)).unwrap();
        assert!(top.rename("a", &top, "d").is_err());
        top.rename("a", &top, "d/a").unwrap();
        assert!(top.read("d/a/b/c/f", 0).is_err());
        top.remove("d").unwrap();
        top.remove("d").unwrap();
        assert!(top.stat("d").unwrap().is_none());
        for name in ["e", "e/f", "e/.f.migrapanel-new", "e/.g.migrapanel-new"] {
            top.make_dir(name, mine(0o700)).unwrap();
        }
        top.clear("e/f").unwrap();
        top.clear("e/g").unwrap();
        top.clear("none/at/all").unwrap();
        assert_eq!(top.dir("e").unwrap().list().unwrap(), []);
        assert!(Path::new("/etc/passwd").exists());
    }
}
