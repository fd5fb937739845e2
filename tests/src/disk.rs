//! A disk of our own that can lose its power or run full: an ext4 file system in a file, behind a loop device. Needs root.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: from now on nothing reaches the device any more, the journal
/// included. What was not synced is lost as in a power cut.
const CUT: &str = "import fcntl,os,struct,sys\n\
    fd=os.open(sys.argv[1],os.O_RDONLY)\n\
    fcntl.ioctl(fd,(2<<30)|(4<<16)|(ord('X')<<8)|125,struct.pack('I',2))\n";

/// In which order a disk is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The names of files may be there before data that was written earlier: ext4 as it is mounted by default.
    Any,
    /// As it was written.
    Kept,
}

/// A mounted disk. Dropped, it is unmounted and gone.
pub struct Disk {
    dir: TempDir,
    order: Order,
}

impl Disk {
    /// Whether this process may have one.
    pub fn is_possible() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// A new one of `size` octets, mounted.
    pub fn new(size: u64, order: Order) -> anyhow::Result<Self> {
        Self::new_in(&std::env::temp_dir(), size, order)
    }

    /// The same, kept in a file below `parent`.
    pub fn new_in(parent: &Path, size: u64, order: Order) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("postrider-disk-")
            // Postfix has users of its own.
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(parent)
            .context("make a directory")?;
        let disk = Self { dir, order };
        fs::create_dir(disk.mount_point()).context("make the mount point")?;
        run(Command::new("truncate")
            .args(["-s", &size.to_string()])
            .arg(disk.image()))?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(disk.image()))?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where files are put that are to stand on it.
    pub fn store(&self) -> PathBuf {
        self.mount_point().join("store")
    }

    /// Brings everything onto it that was written so far.
    pub fn sync(&self) -> anyhow::Result<()> {
        run(Command::new("sync").arg("-f").arg(self.mount_point()))
    }

    /// Fills it to the last octet, as another program on the machine does; once more, what was freed since.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(self.ballast())
            .context("make a file to fill the disk")?;
        for piece in [1 << 20, 4 << 10, 1] {
            let zeros = vec![0; piece];
            loop {
                match file.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("fill the disk"),
                }
            }
        }
        file.sync_all().context("fill the disk")
    }

    /// Removes what [`fill`](Self::fill) wrote.
    pub fn make_room(&self) -> anyhow::Result<()> {
        fs::remove_file(self.ballast()).context("make room on the disk")
    }

    /// Cuts the power.
    pub fn cut(&self) -> anyhow::Result<()> {
        run(Command::new("python3")
            .args(["-c", CUT])
            .arg(self.mount_point()))
    }

    /// Gives the power back: what is on the disk now is what had reached it. Nothing may have files open on it.
    pub fn restore(&self) -> anyhow::Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn mount(&self) -> anyhow::Result<()> {
        let (image, point) = (self.image(), self.mount_point());
        let options = match self.order {
            Order::Any => "loop",
            Order::Kept => "loop,nodelalloc",
        };
        run(Command::new("mount")
            .args(["-o", options])
            .arg(image)
            .arg(point))?;
        fs::create_dir_all(self.store()).context("make the store")
    }

    fn unmount(&self) -> anyhow::Result<()> {
        let mut unmounted = run(Command::new("umount").arg(self.mount_point()));
        for _ in 0..50 {
            if unmounted.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            unmounted = run(Command::new("umount").arg(self.mount_point()));
        }
        unmounted
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn ballast(&self) -> PathBuf {
        self.mount_point().join("ballast")
    }

    fn mount_point(&self) -> PathBuf {
        self.dir.path().join("disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("{}: {error:#}", self.dir.path().display());
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.output();
    let output = output.with_context(|| format!("run {program}"))?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
